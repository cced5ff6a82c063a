#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "tunnelctl/patterns/miner.h"
#include "tunnelctl/patterns/tokens.h"

namespace tunnelctl::patterns {

namespace {

constexpr double kSure = 0.001;
constexpr double kAtLeastTimes = 2;

/// ln of the regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method;
/// Press et al., "Numerical Recipes", 6.4). Exact where it matters, for x below the mean: as a logarithm it
/// does not run out of digits. Above the mean it says 0: nothing there is unlikely.
double log_incomplete_beta(double a, double b, double x) {
  if (x <= 0) return -std::numeric_limits<double>::infinity();
  if (x >= (a + 1) / (a + b + 2)) return 0;
  const double front = std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) +
                       b * std::log1p(-x) - std::log(a);
  constexpr double kTiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < kTiny ? kTiny : d);
  double fraction = d;
  for (int i = 1; i <= 10'000; ++i) {
    const double m = i;
    for (const double term : {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                              -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))}) {
      d = 1 + term * d;
      d = 1 / (std::abs(d) < kTiny ? kTiny : d);
      c = 1 + term / c;
      if (std::abs(c) < kTiny) c = kTiny;
      fraction *= c * d;
    }
    if (std::abs(c * d - 1) < 1e-12) break;
  }
  return std::min(0.0, front + std::log(fraction));
}

/// ln of the probability that counts as far apart come of equal rates. Given their sum n, the count of now is
/// then binomial with p = now's part of the time (Przyborowski and Wilenski 1940); twice the smaller tail.
double log_probability(std::uint64_t before, std::uint64_t now, double part) {
  const auto k = static_cast<double>(now), rest = static_cast<double>(before);
  const double n = k + rest;
  if (n == 0) return 0;
  const bool above = k > n * part;
  const double tail =
      above ? log_incomplete_beta(k, rest + 1, part) : log_incomplete_beta(rest, k + 1, 1 - part);
  return std::min(0.0, tail + std::log(2));
}

using Words = std::vector<Slot>;

Words words_of(const std::string& text) {
  std::vector<Token> tokens;
  split(text, text.size() + 1, tokens);
  Words words;
  for (const auto& token : tokens)
    words.push_back({.hash = token.hash,
                     .text = std::string(token.text),
                     .open = token.text.find(kWildcard) != std::string_view::npos});
  return words;
}

/// Also that it says something: "<*> <*> done" stands for too much to be taken for the same as another.
bool covers(const Words& general, const Words& special) {
  const auto open = std::count_if(general.begin(), general.end(), [](const Slot& slot) { return slot.open; });
  if (static_cast<std::size_t>(open) * 2 > general.size()) return false;
  return std::equal(
      general.begin(), general.end(), special.begin(), special.end(),
      [](const Slot& slot, const Slot& word) { return slot.text == word.text || slot.covers(word.text); });
}

/// The two results are mined apart, so one may know a place as a parameter where the other saw one value
/// only. Patterns of which one covers the other are one pattern under the more general text.
class Pairing {
 public:
  struct Pair {
    std::uint64_t before = 0, now = 0;
    Pattern pattern{};  // of now; without lines now, of before
  };

  Pairing(const Mined& before, const Mined& now) {
    for (const auto& pattern : now.patterns) add(pattern, pattern.count, 0);
    for (const auto& pattern : before.patterns) add(pattern, 0, pattern.count);
    std::map<std::size_t, std::vector<std::pair<const std::string*, Words>>> general;  // by number of words
    for (const auto& [text, pair] : pairs_)
      if (text.find(kWildcard) != std::string::npos) {
        auto words = words_of(text);
        const auto size = words.size();
        general[size].emplace_back(&text, std::move(words));
      }
    for (auto one = pairs_.begin(); one != pairs_.end(); ++one) {
      if (one->second.before > 0 && one->second.now > 0) continue;
      const auto words = words_of(one->first);
      const auto candidates = general.find(words.size());
      if (candidates == general.end()) continue;
      for (const auto& [text, wide] : candidates->second) {
        if (*text == one->first || !covers(wide, words)) continue;
        const auto target = pairs_.find(*text);
        // Only what is missing on one side is looked for on the other.
        if (target->second.before == 0 && target->second.now == 0) continue;
        join(target->second, one->second);
        break;
      }
    }
  }

  std::map<std::string, Pair>& pairs() { return pairs_; }

 private:
  void add(const Pattern& pattern, std::uint64_t now, std::uint64_t before) {
    auto [found, added] = pairs_.try_emplace(pattern.text);
    if (added) found->second.pattern = pattern;
    found->second.now += now;
    found->second.before += before;
  }

  static void join(Pair& wide, Pair& narrow) {
    if (wide.now == 0 && narrow.now > 0) {
      auto text = std::move(wide.pattern.text);
      wide.pattern = std::move(narrow.pattern);
      wide.pattern.text = std::move(text);
    } else if (narrow.now > 0) {
      wide.pattern.share += narrow.pattern.share;
      wide.pattern.first = std::min(wide.pattern.first, narrow.pattern.first);
      wide.pattern.last = std::max(wide.pattern.last, narrow.pattern.last);
    }
    wide.before += std::exchange(narrow.before, 0);
    wide.now += std::exchange(narrow.now, 0);
  }

  std::map<std::string, Pair> pairs_{};
};

int rank(Change::Kind kind) {
  switch (kind) {
    case Change::Kind::fresh:
    case Change::Kind::grown: return 0;
    case Change::Kind::shrunk:
    case Change::Kind::gone:
    case Change::Kind::unknown: return 1;
    case Change::Kind::same: break;
  }
  return 2;
}

}  // namespace

std::vector<Change> compare(const Mined& before, std::chrono::nanoseconds before_span, const Mined& now,
                            std::chrono::nanoseconds now_span) {
  auto was = static_cast<double>(before_span.count()), is = static_cast<double>(now_span.count());
  if (was <= 0 || is <= 0) was = is = 1;  // unknown: as if they were equal
  const double part = is / (was + is);

  std::vector<std::pair<double, Change>> judged;
  Pairing pairing(before, now);
  for (auto& [text, pair] : pairing.pairs()) {
    if (pair.before == 0 && pair.now == 0) continue;  // joined to another one
    Change change{
        .kind = Change::Kind::same, .now = std::move(pair.pattern), .before = pair.before, .times = 0};
    change.now.count = pair.now;
    if (pair.now == 0) change.now.share = 0;
    // What one side lacks may be among the lines that it gave up.
    const bool missing = pair.before == 0 || pair.now == 0;
    const auto most_before = pair.before == 0 ? before.given_up : pair.before;
    const auto most_now = pair.now == 0 ? now.given_up : pair.now;
    const double unlikely = log_probability(most_before, most_now, part);
    const bool sure = unlikely <= std::log(kSure);
    const double times = static_cast<double>(most_now) / is / (static_cast<double>(most_before) / was);
    const bool more = sure && times >= kAtLeastTimes, less = sure && times <= 1 / kAtLeastTimes;
    if (pair.before > 0)
      change.times = static_cast<double>(pair.now) / is / (static_cast<double>(pair.before) / was);
    if (pair.before == 0 && most_before == 0) {
      change.kind = Change::Kind::fresh;
    } else if (more && pair.now > 0) {
      change.kind = pair.before == 0 ? Change::Kind::fresh : Change::Kind::grown;
    } else if (less && pair.before > 0) {
      change.kind = pair.now == 0 ? Change::Kind::gone : Change::Kind::shrunk;
    } else if (missing && (most_before != pair.before || most_now != pair.now)) {
      change.kind = Change::Kind::unknown;
    }
    judged.emplace_back(unlikely, std::move(change));
  }
  std::stable_sort(judged.begin(), judged.end(), [](const auto& a, const auto& b) {
    if (rank(a.second.kind) != rank(b.second.kind)) return rank(a.second.kind) < rank(b.second.kind);
    if (rank(a.second.kind) == 2) return a.second.now.count > b.second.now.count;
    return a.first < b.first;
  });
  std::vector<Change> changes;
  changes.reserve(judged.size());
  for (auto& [unlikely, change] : judged) changes.push_back(std::move(change));
  return changes;
}

}  // namespace tunnelctl::patterns
