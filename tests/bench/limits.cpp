// Prices of the decisions that every request pays: limits, penalty, breakers, revocations.
//   ninja bench_limits && build/release/bin/bench_limits [calls]
// One line of JSON for each: nanoseconds of one call, each call timed by itself (what reading the clock
// twice costs is measured first and not taken off); `rss_kib` is what its tables added.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tunneld/access/circuit_breakers.h"
#include "tunneld/access/connection_quotas.h"
#include "tunneld/access/penalty_box.h"
#include "tunneld/access/rate_limits.h"
#include "tunneld/access/revocations.h"

namespace {

using namespace tunneld::access;
using Clock = std::chrono::steady_clock;

std::size_t resident_kib() {
  malloc_trim(0);
  std::ifstream status("/proc/self/statm");
  std::size_t all = 0, resident = 0;
  status >> all >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

Address spoofed(std::uint32_t number) {
  return *Address::parse(std::to_string(number >> 24U) + '.' + std::to_string(number >> 16U & 255U) + '.' +
                         std::to_string(number >> 8U & 255U) + '.' + std::to_string(number & 255U));
}

/// Calls `call(i)` on each of `threads`, timing every one.
void measure(const char* name, std::size_t calls, unsigned threads,
             const std::function<void(std::size_t)>& call, std::size_t rss_before = 0) {
  std::vector<std::vector<std::uint32_t>> all(threads);
  {
    std::vector<std::jthread> running;
    for (unsigned thread = 0; thread < threads; ++thread)
      running.emplace_back([&, thread] {
        auto& times = all[thread];
        times.reserve(calls);
        for (std::size_t i = 0; i < calls; ++i) {
          const auto begin = Clock::now();
          call(thread * calls + i);
          times.push_back(static_cast<std::uint32_t>((Clock::now() - begin).count()));
        }
      });
  }
  std::vector<std::uint32_t> times;
  for (const auto& some : all) times.insert(times.end(), some.begin(), some.end());
  all.clear();
  all.shrink_to_fit();
  const auto at = [&](double part) {
    const auto nth =
        times.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(times.size() - 1));
    std::nth_element(times.begin(), nth, times.end());
    return *nth;
  };
  std::printf("{\"id\": \"%s\", \"threads\": %u, \"n\": %zu, \"p50_ns\": %u, \"p99_ns\": %u, \"p999_ns\": %u",
              name, threads, times.size(), at(0.5), at(0.99), at(0.999));
  times = {};
  if (rss_before != 0) std::printf(", \"rss_kib\": %zd", static_cast<ssize_t>(resident_kib() - rss_before));
  std::printf("}\n");
  std::fflush(stdout);
}

void address_tables(std::size_t calls, unsigned threads) {
  std::vector<Address> addresses;
  for (std::uint32_t i = 0; i < calls * threads; ++i) addresses.push_back(spoofed(0x0a000000U + i * 7));
  const auto before = resident_kib();
  RateLimits limits({});
  PenaltyBox box({});
  measure(
      "take(address), each another", calls, threads,
      [&](std::size_t i) { limits.take(addresses[i], Clock::now()); }, before);
  measure(
      "take_handshake(address), each another", calls, threads,
      [&](std::size_t i) { limits.take_handshake(addresses[i], Clock::now()); }, before);
  measure(
      "penalty.failed(address), each another", calls, threads,
      [&](std::size_t i) { box.failed(addresses[i], Clock::now()); }, before);
  measure(
      "penalty.check(address) in a full box", calls, threads,
      [&](std::size_t i) { box.check(addresses[i], Clock::now()); }, before);
}

void requests(std::size_t calls, unsigned threads) {
  RateLimits limits(
      {.per_minute = {1'000'000'000, 1'000'000'000, 1'000'000'000}, .address_per_minute = 1'000'000'000});
  std::vector<std::string> users;
  for (int i = 0; i < 500; ++i) {
    users.push_back("https://login.example/realms/tunnel");
    users.back() += '\0' + ("user-" + std::to_string(i) + "@example.org");
  }
  const auto address = spoofed(0xc0000201U);
  measure("take(principal), 500 of them", calls, threads,
          [&](std::size_t i) { limits.take(users[i % users.size()], Tier::free, Clock::now()); });
  measure("take and give_back(address), always the same", calls, threads, [&](std::size_t) {
    limits.take(address, Clock::now());
    limits.give_back(address, Clock::now());
  });
  measure("take_global", calls, threads, [&](std::size_t) { limits.take_global(Clock::now()); });

  CircuitBreakers breakers({}, nullptr);
  const auto admit = [&](std::size_t i) {
    auto answer = breakers.admit({users[i % users.size()], "office", "db"}, Clock::now());
    if (auto* permit = std::get_if<CircuitBreakers::Permit>(&answer)) permit->succeeded(Clock::now());
  };
  measure("breaker, nothing fails", calls, threads, admit);
  for (int i = 0; i < 5; ++i) {
    auto answer = breakers.admit({users[0], "office", "db"}, Clock::now());
    std::get<CircuitBreakers::Permit>(answer).failed(Clock::now(), "TUNNEL_001: connection refused");
  }
  measure("breaker, one of 500 is open", calls, threads, admit);
  measure("breaker, open", calls, threads, [&](std::size_t) {
    breakers.admit({users[0], "office", "db"}, Clock::now());
  });

  ConnectionQuotas quotas;
  measure("quota, reserve and release", calls, threads,
          [&](std::size_t i) { const auto place = quotas.reserve(users[i % users.size()], 50); });
}

void revocations(std::size_t calls, unsigned threads) {
  const auto file = std::filesystem::temp_directory_path() / ("bench-revoked-" + std::to_string(::getpid()));
  {
    std::ofstream out(file);
    out << R"({"revoked": [{"iss": "i", "sub": "s", "issuedUntil": 1})";
    for (int i = 0; i < 99'000; ++i) out << R"(,{"jti": "token-)" << i << "\"}";
    out << "]}";
  }
  const auto before = resident_kib();
  const auto begin = Clock::now();
  const auto list = Revocations::open(file, std::chrono::system_clock::now());
  const auto loaded = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
  if (!list) {
    std::fprintf(stderr, "%s\n", list.error().message.c_str());
    std::exit(1);
  }
  Principal principal;
  principal.issuer = "https://login.example/realms/tunnel";
  principal.subject = "user-1@example.org";
  principal.token_id = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
  measure(
      "revoked, among 99,001", calls, threads, [&](std::size_t) { (*list)->revoked(principal); }, before);
  std::printf("{\"id\": \"revocations, read 99,001\", \"ms\": %lld}\n",
              static_cast<long long>(loaded.count()));
  std::filesystem::remove(file);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t calls = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  if (calls == 0 || calls > 100'000'000) {
    std::fprintf(stderr, "usage: bench_limits [calls, 1 to 100000000; default 1000000]\n");
    return 2;
  }
  for (const unsigned threads : {1U, 2U}) {
    measure("nothing but the clock", calls, threads, [](std::size_t) {});
    address_tables(calls, threads);
    requests(calls, threads);
    revocations(calls, threads);
  }
}
