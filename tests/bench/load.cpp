// bench_load: what stands behind the tunnels (`serve`) and what drives them (all else). One JSON object
// on standard output; exit 1 with one line on standard error if anything failed. See README.md.

#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>

#include <nlohmann/json.hpp>

#include "arguments.h"
#include "open_files.h"
#include "target.h"
#include "workload.h"

namespace {

using bench::Arguments;
using nlohmann::json;

constexpr const char* kUsage =
    "usage: bench_load serve [--sink P] [--source P] [--echo P] [--http P] [--everywhere]\n"
    "       bench_load bulk --to ENDPOINT --up|--down [--streams N] [--bytes N]\n"
    "       bench_load http --to http(s)://HOST:PORT/PATH [--connections N] [--milliseconds N]\n"
    "       bench_load crowds --to http(s)://HOST:PORT/PATH --crowd NAME,TOKENS_FILE,PER_SECOND\n"
    "                         [--crowd-2 ...] [--milliseconds N]\n"
    "       bench_load newstream --to ENDPOINT [--count N] [--parallel N]\n"
    "       bench_load echo-beside-bulk --echo ENDPOINT --source ENDPOINT [--milliseconds N]\n"
    "       bench_load idle --to ENDPOINT [--count N]\n"
    "ENDPOINT: tcp:HOST:PORT, ws://HOST:PORT/PATH, wss://…; idle also takes http(s)://\n"
    "all clients: [--token-file FILE | --token-env NAME] [--ca-file FILE] [--no-resume] [--give-up "
    "SECONDS]\n";

json rates(bench::RequestsResult& result) {
  const auto count = result.latencies.count();
  return {{"seconds", result.seconds},
          {"count", count},
          {"per_second", static_cast<double>(count) / result.seconds},
          {"p50_ms", result.latencies.percentile_ms(0.50)},
          {"p95_ms", result.latencies.percentile_ms(0.95)},
          {"p99_ms", result.latencies.percentile_ms(0.99)},
          {"own_cpu_s", result.own_cpu_seconds}};
}

bench::Common common_of(Arguments& arguments) {
  return {arguments.credentials(), std::chrono::seconds(arguments.number("give-up", 120))};
}

std::chrono::milliseconds duration_of(Arguments& arguments) {
  return std::chrono::milliseconds(arguments.number("milliseconds", 2000));
}

json run_bulk(Arguments& arguments) {
  const auto common = common_of(arguments);
  const auto to = arguments.endpoint("to");
  const bool up = arguments.flag("up");
  if (up == arguments.flag("down")) throw std::invalid_argument("bulk needs --up or --down");
  const auto streams = static_cast<unsigned>(arguments.number("streams", 1));
  const auto bytes = arguments.number("bytes", 384ULL << 20);
  arguments.finish();
  const auto result =
      bench::bulk(common, to, up ? bench::Direction::up : bench::Direction::down, streams, bytes);
  const double mib = static_cast<double>(result.bytes) / 1024 / 1024;
  return {{"seconds", result.seconds},
          {"bytes", result.bytes},
          {"mib_per_second", mib / result.seconds},
          {"own_cpu_s", result.own_cpu_seconds},
          {"own_cpu_s_per_gib", result.own_cpu_seconds / mib * 1024}};
}

json run_http(Arguments& arguments) {
  const auto common = common_of(arguments);
  const auto to = arguments.endpoint("to");
  const auto connections = static_cast<unsigned>(arguments.number("connections", 1));
  const auto duration = duration_of(arguments);
  arguments.finish();
  auto result = bench::http(common, to, connections, duration);
  return rates(result);
}

/// "victims,tokens.txt,5000": one token a line.
bench::Crowd parse_crowd(const std::string& text) {
  const auto first = text.find(',');
  const auto last = text.rfind(',');
  if (first == last) throw std::invalid_argument("a crowd is NAME,TOKENS_FILE,PER_SECOND: " + text);
  bench::Crowd crowd;
  crowd.name = text.substr(0, first);
  crowd.per_second = std::stod(text.substr(last + 1));
  std::ifstream in(text.substr(first + 1, last - first - 1));
  for (std::string token; std::getline(in, token);)
    if (!token.empty()) crowd.tokens.push_back(token);
  if (crowd.tokens.empty() || crowd.per_second <= 0)
    throw std::invalid_argument("a crowd without tokens or rate: " + text);
  return crowd;
}

json run_crowds(Arguments& arguments) {
  const auto common = common_of(arguments);
  const auto to = arguments.endpoint("to");
  const auto duration = duration_of(arguments);
  std::vector<bench::Crowd> kinds{parse_crowd(arguments.needed("crowd"))};
  if (const auto second = arguments.text("crowd-2"); !second.empty()) kinds.push_back(parse_crowd(second));
  arguments.finish();
  auto result = bench::crowds(common, to, kinds, duration);
  json report{{"seconds", result.seconds}, {"own_cpu_s", result.own_cpu_seconds}};
  for (auto& crowd : result.crowds) {
    auto& one = report["crowds"][crowd.name];
    one = {{"sent", crowd.sent},
           {"connections_lost", crowd.connections_lost},
           {"per_second", static_cast<double>(crowd.latencies.count()) / result.seconds},
           {"p50_ms", crowd.latencies.percentile_ms(0.50)},
           {"p95_ms", crowd.latencies.percentile_ms(0.95)},
           {"p99_ms", crowd.latencies.percentile_ms(0.99)},
           {"max_ms", crowd.latencies.percentile_ms(1)}};
    for (const auto& [status, count] : crowd.statuses) one["statuses"][std::to_string(status)] = count;
  }
  return report;
}

json run_new_streams(Arguments& arguments) {
  const auto common = common_of(arguments);
  const auto to = arguments.endpoint("to");
  const auto count = static_cast<unsigned>(arguments.number("count", 500));
  const auto parallel = static_cast<unsigned>(arguments.number("parallel", 1));
  arguments.finish();
  auto result = bench::new_streams(common, to, count, parallel);
  return rates(result);
}

json run_echo_beside_bulk(Arguments& arguments) {
  const auto common = common_of(arguments);
  const auto echo = arguments.endpoint("echo");
  const auto source = arguments.endpoint("source");
  const auto duration = duration_of(arguments);
  arguments.finish();
  auto result = bench::echo_beside_bulk(common, echo, source, duration);
  json report = rates(result.echo);
  report["bulk_mib_per_second"] = result.bulk_mib_per_second;
  return report;
}

int run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  Arguments arguments(argc - 2, argv + 2, {"up", "down", "no-resume", "everywhere"});
  if (!arguments.words().empty())
    throw std::invalid_argument("unexpected word: " + arguments.words().front());
  if (command == "serve") {
    const auto port = [&](const char* name) { return static_cast<std::uint16_t>(arguments.number(name, 0)); };
    const auto reach = arguments.flag("everywhere") ? bench::Reach::everywhere : bench::Reach::loopback;
    const bench::TargetPorts ports{port("sink"), port("source"), port("echo"), port("http"), reach};
    arguments.finish();
    bench::serve_target(ports);
    return 0;
  }
  if (command == "idle") {
    const auto common = common_of(arguments);
    const auto to = arguments.endpoint("to");
    const auto count = static_cast<unsigned>(arguments.number("count", 100));
    arguments.finish();
    bench::idle(common, to, count);
    return 0;
  }
  json result;
  if (command == "bulk")
    result = run_bulk(arguments);
  else if (command == "http")
    result = run_http(arguments);
  else if (command == "crowds")
    result = run_crowds(arguments);
  else if (command == "newstream")
    result = run_new_streams(arguments);
  else if (command == "echo-beside-bulk")
    result = run_echo_beside_bulk(arguments);
  else
    throw std::invalid_argument("no such command: " + command);
  std::puts(result.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || std::strcmp(argv[1], "--help") == 0) {
    std::fputs(kUsage, argc < 2 ? stderr : stdout);
    return argc < 2 ? 2 : 0;
  }
  bench::allow_many_open_files();
  try {
    return run(argc, argv);
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "bench_load: %s\n%s", error.what(), kUsage);
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_load: %s\n", error.what());
    return 1;
  }
}
