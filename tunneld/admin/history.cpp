#include "tunneld/admin/history.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/strict_json.h"
#include "tunneld/admin/health.h"

namespace tunneld::admin {
namespace {

using Json = nlohmann::ordered_json;
using namespace std::chrono_literals;
using Period = History::Period;
using WallTime = History::WallTime;

constexpr int kVersion = 1;
constexpr std::size_t kMaxFile = std::size_t{4} * 1024 * 1024;
constexpr std::size_t kBuckets = DurationSketch::kBuckets;

/// A counter that stands lower than before began anew.
std::uint64_t growth(std::uint64_t before, std::uint64_t now) {
  return now >= before ? now - before : now;
}

std::uint32_t narrowed(std::uint64_t count) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(count, std::numeric_limits<std::uint32_t>::max()));
}

void merge(Period& into, const Period& part) {
  into.length += part.length;
  into.requests += part.requests;
  into.errors += part.errors;
  into.bytes_in += part.bytes_in;
  into.bytes_out += part.bytes_out;
  into.connections = std::max(into.connections, part.connections);
  into.queue = std::max(into.queue, part.queue);
  into.in_flight = std::max(into.in_flight, part.in_flight);
  for (std::size_t i = 0; i < kBuckets; ++i)
    into.durations[i] = narrowed(std::uint64_t{into.durations[i]} + part.durations[i]);
}

std::int64_t unix_seconds(WallTime when) {
  return std::chrono::floor<std::chrono::seconds>(when.time_since_epoch()).count();
}

const char* name_of(History::Aggregation aggregation) {
  using Aggregation = History::Aggregation;
  return aggregation == Aggregation::raw ? "raw" : aggregation == Aggregation::hourly ? "hourly" : "daily";
}

Json saved(const Period& period) {
  Json durations = Json::array();  // bucket and count of those that are not empty
  for (std::size_t i = 0; i < kBuckets; ++i)
    if (period.durations[i] != 0) durations.push_back({i, period.durations[i]});
  return {{"begin", unix_seconds(period.begin)}, {"length", period.length.count()},
          {"requests", period.requests},         {"errors", period.errors},
          {"bytes_in", period.bytes_in},         {"bytes_out", period.bytes_out},
          {"connections", period.connections},   {"queue", period.queue},
          {"in_flight", period.in_flight},       {"durations", std::move(durations)}};
}

/// Throws nlohmann's exceptions, or out_of_range, for what save() did not write.
Period loaded(const nlohmann::json& from, std::chrono::seconds unit) {
  // Its getters would take 3.7 for 3 and -1 for a very large number.
  const auto number = [&from](const char* key) {
    const auto& value = from.at(key);
    if (!value.is_number_unsigned()) throw std::out_of_range(std::string(key) + " is no count");
    return value.get<std::uint64_t>();
  };
  Period period;
  const auto begin = number("begin");
  const auto length = number("length");
  const auto whole = static_cast<std::uint64_t>(unit.count());
  constexpr std::uint64_t kYear3000 = 32'503'680'000;
  if (begin % whole != 0 || begin > kYear3000) throw std::out_of_range("begin is no beginning");
  if (length > whole * 2) throw std::out_of_range("length is too long");
  period.begin = WallTime(std::chrono::seconds(begin));
  period.length = std::chrono::seconds(length);
  period.requests = number("requests");
  period.errors = number("errors");
  period.bytes_in = number("bytes_in");
  period.bytes_out = number("bytes_out");
  period.connections = number("connections");
  period.queue = number("queue");
  period.in_flight = number("in_flight");
  for (const auto& pair : from.at("durations")) {
    const auto bucket = pair.at(0).get<std::size_t>();
    period.durations.at(bucket) = narrowed(pair.at(1).get<std::uint64_t>());
  }
  return period;
}

std::vector<Period> loaded(const nlohmann::json& from, std::size_t most, std::chrono::seconds unit,
                           WallTime now) {
  if (!from.is_array()) throw std::out_of_range("periods are no list");
  std::vector<Period> periods;
  periods.reserve(most);
  for (const auto& one : from) {
    auto period = loaded(one, unit);
    if (!periods.empty() && period.begin <= periods.back().begin)
      throw std::out_of_range("periods are out of order");
    const bool useful = period.begin <= now && period.begin + unit * static_cast<std::int64_t>(most) > now;
    if (useful && periods.size() < most) periods.push_back(std::move(period));
  }
  return periods;
}

}  // namespace

double History::Period::percentile(double share) const {
  DurationSketch::Counts counts{};
  std::copy(durations.begin(), durations.end(), counts.begin());
  return DurationSketch::percentile(counts, share);
}

History::History() {
  // Once and for all: what it ever takes.
  raw_.reserve(kRaw);
  hours_.reserve(kHours);
  days_.reserve(kDays);
}

void History::add(const Totals& totals, WallTime now) {
  const auto before = std::exchange(before_, totals);
  const auto began = std::exchange(before_at_, now);
  if (!before) return;

  Period part;
  part.begin = now - kEvery;
  // What the clock says passed, within reason: it may have been set.
  const auto passed = std::chrono::round<std::chrono::seconds>(now - began);
  part.length = passed > 0s && passed <= kEvery * 6 ? passed : kEvery;
  part.begin = now - part.length;
  part.requests = growth(before->requests, totals.requests);
  part.errors = growth(before->errors, totals.errors);
  part.bytes_in = growth(before->bytes_in, totals.bytes_in);
  part.bytes_out = growth(before->bytes_out, totals.bytes_out);
  part.connections = totals.connections;
  part.queue = totals.queue;
  part.in_flight = totals.in_flight;
  for (std::size_t i = 0; i < kBuckets; ++i)
    part.durations[i] = narrowed(growth(before->durations[i], totals.durations[i]));

  if (raw_.size() == kRaw) raw_.erase(raw_.begin());
  raw_.push_back(part);
  add_to(hours_, kHours, 1h, part);
  add_to(days_, kDays, 24h, part);
}

void History::add_to(std::vector<Period>& ring, std::size_t most, std::chrono::seconds unit,
                     const Period& part) {
  // A part belongs to where its middle lies.
  const auto at = (part.begin + part.length / 2).time_since_epoch();
  const WallTime begin{at - at % unit};
  if (ring.empty() || begin > ring.back().begin) {
    if (ring.size() == most) ring.erase(ring.begin());
    ring.emplace_back().begin = begin;
  }
  merge(ring.back(), part);
}

std::vector<Period> History::periods(std::chrono::seconds window, Aggregation aggregation,
                                     WallTime now) const {
  const auto& ring = aggregation == Aggregation::raw      ? raw_
                     : aggregation == Aggregation::hourly ? hours_
                                                          : days_;
  const auto unit = aggregation == Aggregation::raw      ? std::chrono::seconds(0s)
                    : aggregation == Aggregation::hourly ? std::chrono::seconds(1h)
                                                         : std::chrono::seconds(24h);
  std::vector<Period> found;
  for (const auto& period : ring) {
    const auto end = period.begin + std::max(unit, period.length);
    if (end > now - window) found.push_back(period);
  }
  return found;
}

Period History::sum(std::chrono::seconds window, WallTime now) const {
  Period all;
  for (const auto& period : periods(window, Aggregation::raw, now)) {
    if (all.length == 0s) all.begin = period.begin;
    merge(all, period);
  }
  return all;
}

Json History::json(std::string_view window_name, std::chrono::seconds window, Aggregation aggregation,
                   WallTime now) const {
  Json list = Json::array();
  for (const auto& period : periods(window, aggregation, now))
    list.push_back({{"time", rfc3339(period.begin)},
                    {"seconds", period.length.count()},
                    {"requests", period.requests},
                    {"errors", period.errors},
                    {"bytesIn", period.bytes_in},
                    {"bytesOut", period.bytes_out},
                    {"connections", period.connections},
                    {"queue", period.queue},
                    {"inFlight", period.in_flight},
                    {"p50Ms", period.percentile(0.50) * 1000},
                    {"p95Ms", period.percentile(0.95) * 1000}});
  return {{"timestamp", rfc3339(now)},
          {"window", std::string(window_name)},
          {"aggregation", name_of(aggregation)},
          {"periods", std::move(list)}};
}

Result<void> History::save(const std::filesystem::path& file) const {
  Json hours = Json::array();
  Json days = Json::array();
  for (const auto& period : hours_) hours.push_back(saved(period));
  for (const auto& period : days_) days.push_back(saved(period));
  const Json all{{"version", kVersion}, {"hours", std::move(hours)}, {"days", std::move(days)}};
  return atomic_file::write(file, all.dump() + "\n", 0600);
}

Result<void> History::load(const std::filesystem::path& file, WallTime now) {
  auto text = config::read_file(file, kMaxFile);
  if (!text) {
    if (text.error().kind == Error::Kind::not_found) return {};
    return tl::unexpected(text.error());
  }
  const auto refuse = [&file](const std::string& why) {
    return fail(Error::Kind::bad_input, file.string() + ": is no history of ours, so it begins anew: " + why);
  };
  auto json = parse_strict_json(*text, kMaxFile);
  if (!json) return refuse(json.error().message);
  try {
    if (json->at("version") != kVersion) return refuse("its version is another");
    auto hours = loaded(json->at("hours"), kHours, 1h, now);
    auto days = loaded(json->at("days"), kDays, 24h, now);
    hours.reserve(kHours);
    days.reserve(kDays);
    hours_ = std::move(hours);
    days_ = std::move(days);
  } catch (const std::exception& error) {  // of the JSON library, or ours: all of them mean the same
    return refuse(error.what());
  }
  return {};
}

}  // namespace tunneld::admin
