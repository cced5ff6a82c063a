// bench_agents: plays a crowd of agents and of `tunnelctl connect` in one thread, for scripts/soak. What is
// measured is tunneld, so they have no sshd and no ports of their own.
//
//   bench_agents --server wss://127.0.0.1:3001 --members FILE [--ca-file FILE] [--attempts N]
//
// FILE has a line for each principal: its token, and the services that its streams go to. Commands come on
// standard input, one a line; each is answered with one JSON object on a line:
//
//   agents N         N more agents, all at once     -> how many are up, and how long it took each
//   callers N        N more links, all at once
//   cut              all connections break by RST; answers at once
//   back             whoever is not up comes back, all at once
//   leave            all leave in good order
//   look             how many are up
//   churn SECONDS CALLERS AGENTS SEED

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "agents_churn.h"
#include "agents_players.h"
#include "arguments.h"
#include "open_files.h"

namespace {

using namespace bench::agents;
using nlohmann::ordered_json;

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// What a crowd that came at once met.
struct Storm {
  std::vector<double> ms;
  std::map<std::string, unsigned> faults;
  Clock::time_point began = Clock::now();

  double percentile(double share) {
    if (ms.empty()) return 0;
    std::sort(ms.begin(), ms.end());
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(ms.size())));
    return ms[std::max<std::size_t>(rank, 1) - 1];
  }
};

class Crowd {
 public:
  Crowd(asio::io_context& io, Settings settings, std::vector<Member> members)
      : io_(io), settings_(std::move(settings)), members_(std::move(members)) {}

  asio::awaitable<ordered_json> obey(std::string line) {
    std::istringstream words(line);
    std::string command;
    unsigned count = 0;
    words >> command;
    if (command == "cut") {
      for (const auto& player : players_) player->cut();
      co_return look();
    }
    if (command == "look") co_return look();
    if (command == "back") co_return co_await storm();
    if (command == "leave") co_return co_await leave();
    if (command == "churn") {
      ChurnPlan plan;
      unsigned seconds = 0;
      words >> seconds >> plan.callers >> plan.agents >> plan.seed;
      plan.duration = std::chrono::seconds(seconds);
      co_return co_await churn_for(plan);
    }
    words >> count;
    if (!words || (command != "agents" && command != "callers"))
      throw std::invalid_argument("no such command: " + line);
    for (unsigned i = 0; i < count; ++i) add(command == "agents");
    co_return co_await storm();
  }

 private:
  void add(bool agent) {
    const auto& member = members_[players_.size() % members_.size()];
    if (agent)
      players_.push_back(
          std::make_shared<Agent>(io_, settings_, member, "played-" + std::to_string(players_.size())));
    else
      players_.push_back(std::make_shared<Caller>(io_, settings_, member));
  }

  ordered_json look() const {
    const auto up =
        std::count_if(players_.begin(), players_.end(), [](const auto& one) { return one->up(); });
    return {{"players", players_.size()}, {"up", up}, {"own_cpu_s", cpu_seconds()}};
  }

  static asio::awaitable<void> come(std::shared_ptr<Player> player, Storm& storm) {
    const auto fault = co_await player->come();
    if (!fault.empty()) ++storm.faults[fault];
    if (!fault.empty()) co_return;
    storm.ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - storm.began).count());
  }

  asio::awaitable<ordered_json> storm() {
    Storm storm;
    std::uint64_t tries = 0;
    const double cpu = cpu_seconds();
    std::vector<asio::awaitable<void>> stories;
    for (const auto& player : players_) {
      if (player->up()) continue;
      tries -= player->tries();
      stories.push_back(come(player, storm));
    }
    const auto wanted = stories.size();
    co_await all(io_, std::move(stories));
    for (const auto& player : players_) tries += player->tries();
    ordered_json answer = look();
    answer["wanted"] = wanted;
    answer["came"] = storm.ms.size();
    answer["failed"] = wanted - storm.ms.size();
    answer["tries"] = tries;
    for (const auto& [name, share] :
         {std::pair("p50_ms", 0.5), std::pair("p95_ms", 0.95), std::pair("max_ms", 1.0)})
      answer[name] = storm.percentile(share);
    answer["faults"] = storm.faults;
    answer["storm_cpu_s"] = cpu_seconds() - cpu;
    co_return answer;
  }

  asio::awaitable<ordered_json> leave() {
    std::vector<asio::awaitable<void>> stories;
    for (const auto& player : players_) stories.push_back(player->leave());
    co_await all(io_, std::move(stories));
    players_.clear();
    co_return look();
  }

  asio::awaitable<ordered_json> churn_for(ChurnPlan plan) {
    const auto tally = co_await churn(io_, settings_, members_, plan);
    co_return ordered_json{{"callers", tally.callers},
                           {"agents", tally.agents},
                           {"left", tally.left},
                           {"vanished", tally.vanished},
                           {"streams", tally.streams},
                           {"bytes", tally.bytes},
                           {"cuts", tally.cuts},
                           {"resumed", tally.resumed},
                           {"agent_cuts", tally.agent_cuts},
                           {"agents_back", tally.agents_back},
                           {"refused", tally.refused},
                           {"wrong", tally.wrong},
                           {"broken", tally.broken},
                           {"faults", tally.faults},
                           {"own_cpu_s", cpu_seconds()}};
  }

  asio::io_context& io_;
  const Settings settings_;
  const std::vector<Member> members_;
  std::vector<std::shared_ptr<Player>> players_;
};

/// Until the input ends; nobody says goodbye then.
asio::awaitable<void> obey_input(asio::io_context& io, Crowd& crowd) {
  asio::posix::stream_descriptor input(io, ::dup(STDIN_FILENO));
  std::string text;
  for (;;) {
    const auto [error, size] = co_await asio::async_read_until(input, asio::dynamic_buffer(text), '\n',
                                                               asio::as_tuple(asio::use_awaitable));
    if (error) break;
    std::string line = text.substr(0, size - 1);
    text.erase(0, size);
    const auto answer = co_await crowd.obey(std::move(line));
    std::puts(answer.dump().c_str());
    std::fflush(stdout);
  }
  std::_Exit(0);
}

std::vector<Member> read_members(const std::string& file) {
  std::ifstream in(file);
  std::vector<Member> members;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    Member member;
    words >> member.token;
    for (std::string service; words >> service;) member.services.push_back(service);
    if (!member.token.empty()) members.push_back(std::move(member));
  }
  if (members.empty()) throw std::invalid_argument("no members in " + file);
  return members;
}

int run(int argc, char** argv) {
  bench::Arguments arguments(argc - 1, argv + 1, {});
  Settings settings;
  settings.server = arguments.needed("server");
  settings.ca_file = arguments.text("ca-file");
  settings.attempts = static_cast<unsigned>(arguments.number("attempts", 1));
  auto members = read_members(arguments.needed("members"));
  arguments.finish();
  asio::io_context io(1);
  Crowd crowd(io, std::move(settings), std::move(members));
  asio::co_spawn(io, obey_input(io, crowd), rethrow);
  io.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bench::allow_many_open_files();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_agents: %s\n", error.what());
    return 1;
  }
}
