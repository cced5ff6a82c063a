#include "tunnelctl/daemon/exposition.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

namespace tunnelctl::daemon {
namespace {

std::optional<double> number(std::string_view text) {
  const std::string copy(text.substr(0, text.find(' ')));  // what follows is a timestamp
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);  // takes +Inf and NaN, too
  if (copy.empty() || *end != '\0') return std::nullopt;
  return value;
}

/// From behind the brace; moves `at` behind the closing one. nullopt when it is malformed.
std::optional<Exposition::Labels> labels(std::string_view line, std::size_t& at) {
  Exposition::Labels result;
  while (at < line.size() && line[at] != '}') {
    const std::size_t equals = line.find("=\"", at);
    if (equals == std::string_view::npos) return std::nullopt;
    std::string name(line.substr(at, equals - at));
    std::string value;
    at = equals + 2;
    for (; at < line.size() && line[at] != '"'; ++at) {
      if (line[at] == '\\' && at + 1 < line.size()) {
        ++at;
        value += line[at] == 'n' ? '\n' : line[at];
      } else {
        value += line[at];
      }
    }
    ++at;
    if (at < line.size() && line[at] == ',') ++at;
    result[std::move(name)] = std::move(value);
  }
  if (at >= line.size()) return std::nullopt;
  ++at;
  return result;
}

std::optional<Exposition::Sample> sample(std::string_view line) {
  if (line.empty() || line.front() == '#') return std::nullopt;
  Exposition::Sample result;
  std::size_t at = line.find_first_of("{ ");
  if (at == 0 || at == std::string_view::npos) return std::nullopt;
  result.name = line.substr(0, at);
  if (line[at] == '{') {
    ++at;
    auto found = labels(line, at);
    if (!found) return std::nullopt;
    result.labels = std::move(*found);
  }
  while (at < line.size() && line[at] == ' ') ++at;
  const auto value = number(line.substr(std::min(at, line.size())));
  if (!value) return std::nullopt;
  result.value = *value;
  return result;
}

bool include(const Exposition::Labels& all, const Exposition::Labels& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& one) {
    const auto found = all.find(one.first);
    return found != all.end() && found->second == one.second;
  });
}

}  // namespace

Exposition Exposition::parse(std::string_view text) {
  Exposition result;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    auto line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (auto one = sample(line)) result.samples_.push_back(std::move(*one));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return result;
}

std::optional<double> Exposition::sum(std::string_view name, const Labels& labels) const {
  std::optional<double> result;
  for (const Sample& one : samples_)
    if (one.name == name && include(one.labels, labels)) result = result.value_or(0) + one.value;
  return result;
}

std::vector<std::string> Exposition::values(std::string_view name, std::string_view label) const {
  std::vector<std::string> result;
  for (const Sample& one : samples_) {
    if (one.name != name) continue;
    const auto found = one.labels.find(label);
    if (found != one.labels.end() && std::find(result.begin(), result.end(), found->second) == result.end())
      result.push_back(found->second);
  }
  return result;
}

std::optional<double> Exposition::quantile(std::string_view name, double q) const {
  std::map<double, double> buckets;  // upper bound -> count up to it, over all series
  const std::string bucket = std::string(name) + "_bucket";
  for (const Sample& one : samples_) {
    if (one.name != bucket) continue;
    const auto bound = one.labels.find("le");
    if (bound == one.labels.end()) continue;
    if (const auto value = number(bound->second)) buckets[*value] += one.value;
  }
  if (buckets.empty() || buckets.rbegin()->second <= 0) return std::nullopt;
  const double rank = q * buckets.rbegin()->second;
  double below_bound = 0;
  double below_count = 0;
  for (const auto& [bound, count] : buckets) {
    if (count >= rank) {
      // Nobody knows how far the last bucket reaches.
      if (std::isinf(bound) || count <= below_count) return below_bound;
      return below_bound + (bound - below_bound) * (rank - below_count) / (count - below_count);
    }
    below_bound = bound;
    below_count = count;
  }
  return below_bound;
}

}  // namespace tunnelctl::daemon
