// What mining patterns costs a line, and how much memory it takes, for lines of about 100 bytes.
//   ninja bench_patterns && build/release/bin/bench_patterns [lines]
// One line of JSON for each kind of log: lines a second of CPU time, the median of five rounds; `hash_ratio`,
// the same against hashing each line and finding its end (std::hash and memchr) in the same round, which is
// the least that anything could do; `rss_kib`, what the miner added to the process; patterns found and lines
// given up.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/patterns/miner.h"
#include "tunnelctl/patterns/redaction.h"

namespace {

using namespace tunnelctl::patterns;
using Random = std::mt19937;

/// Of this thread: what other programs do meanwhile does not count.
double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::size_t resident_kib() {
  malloc_trim(0);
  std::ifstream status("/proc/self/statm");
  std::size_t all = 0, resident = 0;
  status >> all >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

std::string number(Random& random, unsigned below) {
  return std::to_string(random() % below);
}
std::string hex(Random& random, int digits) {
  std::string text;
  for (; digits > 0; --digits) text += "0123456789abcdef"[random() % 16];
  return text;
}
std::string address(Random& random) {
  return "192.0.2." + number(random, 256);
}
std::string word(Random& random) {
  std::string text;
  for (auto letters = 4 + random() % 6; letters > 0; --letters)
    text += static_cast<char>('a' + random() % 26);
  return text;
}
std::string when(Random& random) {
  const auto two = [&](unsigned below) { return std::to_string(100 + random() % below).substr(1); };
  return "2026-01-02T03:" + two(60) + ":" + two(60) + "." + std::to_string(1000 + random() % 1000).substr(1) +
         "Z";
}

std::string plain(Random& random) {
  const auto prefix =
      when(random) + (random() % 10 == 0 ? " ERROR" : " INFO") + " [worker-" + number(random, 16) + "] ";
  switch (random() % 4) {
    case 0:
      return prefix + "request " + hex(random, 16) + " from " + address(random) + " took " +
             number(random, 900) + "ms";
    case 1:
      return prefix + "connection to " + address(random) + ":5432 refused, attempt " + number(random, 9) +
             " of 9";
    case 2:
      return prefix + "cache holds " + number(random, 9999) + " entries, " + number(random, 99) +
             "% hits of " + number(random, 99999);
    default:
      return prefix + "user " + word(random) + " opened session " + hex(random, 12) + " at door " +
             number(random, 9);
  }
}
std::string json(Random& random) {
  return R"({"timestamp":")" + when(random) + R"(","level":")" + (random() % 10 == 0 ? "ERROR" : "INFO") +
         R"(","message":"request )" + number(random, 9999) + R"( ended","took_ms":)" + number(random, 900) +
         "}";
}
std::string logfmt(Random& random) {
  return "ts=" + when(random) + " level=" + (random() % 10 == 0 ? "error" : "info") +
         " caller=scrape.go:" + number(random, 3) + R"( msg="scrape of target failed" target=)" +
         address(random);
}
std::string access_log(Random& random) {
  return address(random) + " - - [02/Jan/2026:03:04:" + std::to_string(10 + random() % 50) +
         R"( +0000] "GET /users/)" + number(random, 9999) + R"( HTTP/1.1" )" +
         (random() % 9 == 0 ? "502" : "200") + " " + number(random, 99999) + R"( "-" "curl/8.5.0")";
}
std::string secrets(Random& random) {
  return when(random) + " INFO login of " + word(random) + "@example.org with password=" + word(random) +
         number(random, 99) + " from " + address(random);
}
std::string alike_never(Random& random) {
  std::string text = word(random);
  while (text.size() < 92) text += ' ' + word(random);
  return text;
}

/// All lines in one text, as a file has them.
std::string text_of(std::size_t lines, const std::function<std::string(Random&)>& line) {
  Random random(1);
  std::string text;
  for (std::size_t i = 0; i < lines; ++i) text += line(random) + '\n';
  return text;
}

template <class Take>
double seconds(std::string_view text, Take take) {
  const double begin = cpu_seconds();
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    const auto* stop = static_cast<const char*>(std::memchr(at, '\n', static_cast<std::size_t>(end - at)));
    take(std::string_view(at, static_cast<std::size_t>(stop - at)));
    at = stop + 1;
  }
  return cpu_seconds() - begin;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const char* name, std::size_t lines, const std::function<std::string(Random&)>& line) {
  constexpr int kRounds = 5;
  const auto text = text_of(lines, line);
  std::vector<double> rates, ratios;
  std::size_t sum = 0, added = 0;
  Mined mined;
  for (int round = 0; round < kRounds; ++round) {
    const double least =
        seconds(text, [&sum](std::string_view one) { sum += std::hash<std::string_view>{}(one); });
    const auto before = resident_kib();
    Miner miner;
    const double taken = seconds(text, [&miner](std::string_view one) { miner.add({.line = one}); });
    mined = miner.result();
    const auto after = resident_kib();
    added = std::max(added, after - std::min(before, after));
    rates.push_back(static_cast<double>(lines) / taken);
    ratios.push_back(taken / least);
  }
  std::printf(
      "{\"id\": \"%s\", \"n\": %zu, \"bytes_a_line\": %zu, \"lines_per_s\": %.0f, \"hash_ratio\": %.1f, "
      "\"rss_kib\": %zu, \"patterns\": %zu, \"given_up\": %llu}\n",
      name, lines, text.size() / lines, median(rates), median(ratios), added, mined.patterns.size(),
      static_cast<unsigned long long>(mined.given_up));
  std::fflush(stdout);
  if (sum == 1) std::puts("");  // so that the hashes are computed
}

void redaction(std::size_t lines, const char* name, const std::function<std::string(Random&)>& line) {
  const auto text = text_of(lines, line);
  const Redaction redaction;
  std::size_t changed = 0;
  const double taken =
      seconds(text, [&](std::string_view one) { changed += redaction.apply(one).size() != one.size(); });
  std::printf("{\"id\": \"%s\", \"n\": %zu, \"lines_per_s\": %.0f, \"changed\": %zu}\n", name, lines,
              static_cast<double>(lines) / taken, changed);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t lines = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  if (lines == 0 || lines > 10'000'000) {
    std::fprintf(stderr, "usage: bench_patterns [lines, 1 to 10000000; default 1000000]\n");
    return 2;
  }
  measure("plain, with a level and numbers", lines, plain);
  measure("JSON, as tunneld writes it", lines, json);
  measure("logfmt", lines, logfmt);
  measure("access log", lines, access_log);
  measure("a secret in each line", lines, secrets);
  measure("no two lines alike", lines, alike_never);
  redaction(lines, "redaction alone, nothing to hide", plain);
  redaction(lines, "redaction alone, a secret in each line", secrets);
}
