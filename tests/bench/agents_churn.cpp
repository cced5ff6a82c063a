#include "agents_churn.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <utility>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace bench::agents {
namespace {

using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// Random bytes that both ends of a comparison can make.
class Bytes {
 public:
  explicit Bytes(std::uint64_t seed) : engine_(seed) {}
  void fill(std::span<std::byte> into) {
    for (std::byte& byte : into) {
      if (have_ == 0) {
        word_ = engine_();
        have_ = 8;
      }
      byte = static_cast<std::byte>(word_ >> (64 - 8 * have_--));
    }
  }

 private:
  std::mt19937_64 engine_;
  std::uint64_t word_ = 0;
  unsigned have_ = 0;
};

struct Run {
  asio::io_context& io;
  const Settings& settings;
  const std::vector<Member>& members;
  const ChurnPlan plan;
  const Clock::time_point end = Clock::now() + plan.duration;
  std::mt19937_64 random{plan.seed};
  std::uint64_t agent_ids = 0;
  ChurnTally tally{};

  std::uint64_t draw(std::uint64_t from, std::uint64_t to) {
    return std::uniform_int_distribution<std::uint64_t>(from, to)(random);
  }
  milliseconds draw_pause(unsigned most) { return milliseconds(draw(0, most)); }
  void note(const std::string& fault) { ++tally.faults[fault]; }
};

struct Payload {
  std::uint64_t seed = 0;
  std::uint64_t size = 0;
};

/// In pieces with pauses, so that most streams meet a cut.
asio::awaitable<std::string> send(Run& run, tunnel::ByteStream& stream, Payload payload) {
  Bytes bytes(payload.seed);
  std::array<std::byte, 16 * 1024> buffer;
  for (auto left = payload.size; left > 0;) {
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(left, run.draw(1, buffer.size())));
    bytes.fill(piece);
    const auto sent = co_await stream.write(piece);
    if (!sent) co_return "write: " + sent.error().message;
    left -= piece.size();
    co_await rest(run.draw_pause(10));
  }
  const auto ended = co_await stream.shutdown_write();
  co_return ended ? std::string() : "end: " + ended.error().message;
}

asio::awaitable<std::string> compare(Run& run, tunnel::ByteStream& stream, Payload payload) {
  Bytes bytes(payload.seed);
  std::array<std::byte, 16 * 1024> buffer;
  std::array<std::byte, 16 * 1024> wanted;
  std::uint64_t received = 0;
  for (;;) {
    const auto got = co_await stream.read(buffer);
    if (!got) co_return "read: " + got.error().message;
    if (*got == 0) break;
    bytes.fill(std::span(wanted).first(*got));
    received += *got;
    if (received > payload.size || std::memcmp(buffer.data(), wanted.data(), *got) != 0) {
      ++run.tally.wrong;
      co_return "wrong bytes";
    }
  }
  if (received == payload.size) co_return std::string();
  ++run.tally.wrong;
  co_return "bytes are missing";
}

asio::awaitable<void> stream(Run& run, std::shared_ptr<Caller> caller, std::string service) {
  auto opened = co_await caller->open(service);
  if (!opened) {
    ++(opened.error().kind == Error::Kind::denied ? run.tally.refused : run.tally.broken);
    run.note("open " + service + ": " + opened.error().message);
    co_return;
  }
  const bool large = run.draw(0, 9) == 0;
  const Payload payload{run.random(), run.draw(1, large ? 2'000'000 : 100'000)};
  auto& echo = **opened;
  const auto [sending, comparing] = co_await (send(run, echo, payload) && compare(run, echo, payload));
  if (sending.empty() && comparing.empty()) {
    ++run.tally.streams;
    run.tally.bytes += payload.size;
    co_return;
  }
  ++run.tally.broken;
  run.note(service + " " + (sending.empty() ? comparing : sending));
}

asio::awaitable<void> streams(Run& run, std::shared_ptr<Caller> caller, const Member& member, bool& done) {
  std::vector<asio::awaitable<void>> several;
  for (auto count = run.draw(1, 3); count > 0; --count)
    several.push_back(stream(run, caller, member.services[run.draw(0, member.services.size() - 1)]));
  co_await all(run.io, std::move(several));
  done = true;
}

asio::awaitable<void> cuts(Run& run, std::shared_ptr<Caller> caller, const bool& done) {
  for (;;) {
    co_await rest(50ms + run.draw_pause(700));
    if (done) co_return;
    ++run.tally.cuts;
    caller->cut();
    co_await rest(run.draw_pause(run.draw(0, 1) == 0 ? 50 : 800));
    const auto fault = co_await caller->come();
    if (fault.empty())
      ++run.tally.resumed;
    else
      run.note("come back: " + fault);
    if (!fault.empty()) caller->abandon();
    if (!fault.empty()) co_return;
  }
}

asio::awaitable<void> caller_story(Run& run) {
  while (Clock::now() < run.end) {
    const auto& member = run.members[run.draw(0, run.members.size() - 1)];
    const auto caller = std::make_shared<Caller>(run.io, run.settings, member);
    const auto fault = co_await caller->come();
    if (!fault.empty()) {
      run.note("come: " + fault);
      co_await rest(100ms);
      continue;
    }
    ++run.tally.callers;
    bool done = false;
    co_await (streams(run, caller, member, done) && cuts(run, caller, done));
    const bool vanishes = run.draw(0, 4) == 0;
    if (vanishes) caller->cut();
    co_await caller->leave();
    ++(vanishes ? run.tally.vanished : run.tally.left);
    co_await rest(run.draw_pause(200));
  }
}

asio::awaitable<void> agent_story(Run& run) {
  // Its id is its key: a name that comes again comes with the key that was enrolled.
  const auto id = "churn-" + std::to_string(run.agent_ids++);
  while (Clock::now() < run.end) {
    const auto& member = run.members[run.draw(0, run.members.size() - 1)];
    const auto agent = std::make_shared<Agent>(run.io, run.settings, member, id);
    auto fault = co_await agent->come();
    if (fault.empty()) ++run.tally.agents;
    for (auto cut = run.draw(0, 3); fault.empty() && cut > 0; --cut) {
      co_await rest(run.draw_pause(2000));
      ++run.tally.agent_cuts;
      agent->cut();
      co_await rest(run.draw_pause(100));
      fault = co_await agent->come();
      if (fault.empty()) ++run.tally.agents_back;
    }
    if (!fault.empty()) run.note("agent: " + fault);
    co_await rest(run.draw_pause(1000));
    if (run.draw(0, 1) == 0)
      agent->cut();
    else
      co_await agent->leave();
  }
}

}  // namespace

asio::awaitable<ChurnTally> churn(asio::io_context& io, const Settings& settings,
                                  const std::vector<Member>& members, ChurnPlan plan) {
  Run run{io, settings, members, plan};
  std::vector<asio::awaitable<void>> stories;
  for (unsigned i = 0; i < plan.callers; ++i) stories.push_back(caller_story(run));
  for (unsigned i = 0; i < plan.agents; ++i) stories.push_back(agent_story(run));
  co_await all(io, std::move(stories));
  co_return run.tally;
}

}  // namespace bench::agents
