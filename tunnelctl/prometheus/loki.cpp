#include "tunnelctl/prometheus/loki.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "common/http_url.h"
#include "tunnelctl/prometheus/answer.h"
#include "tunnelctl/prometheus/direct.h"

namespace tunnelctl::prometheus {
namespace {

/// Loki's times are nanoseconds; seconds with a fraction are understood by newer versions only.
std::string nanoseconds(Time time) {
  return std::to_string(std::chrono::nanoseconds(time.time_since_epoch()).count());
}

tl::unexpected<Error> odd(const char* what) {
  return fail(Error::Kind::unavailable,
              std::string("the answer has no ") + what + " as Loki sends it; is the URL Loki's?");
}

Parameters about(const std::string& selector, const Range& range) {
  Parameters parameters{{"start", nanoseconds(range.from)}, {"end", nanoseconds(range.to)}};
  if (!selector.empty()) parameters.emplace_back("query", selector);
  return parameters;
}

/// Whole and not negative; else nullopt.
std::optional<std::uint64_t> count(const Json& json) {
  if (json.is_number_unsigned()) return json.get<std::uint64_t>();
  if (!json.is_number_float() || !(json.get<double>() >= 0 && json.get<double>() < 9e18)) return std::nullopt;
  return static_cast<std::uint64_t>(json.get<double>());
}

/// [seconds, lines]
std::optional<ServerPattern::Count> read_count(const Json& pair) {
  if (!pair.is_array() || pair.size() < 2 || !pair[0].is_number()) return std::nullopt;
  const auto lines = count(pair[1]);
  const double seconds = pair[0].get<double>();
  if (!lines || !(std::abs(seconds) < 1e11)) return std::nullopt;
  return ServerPattern::Count{
      .at = Time(std::chrono::milliseconds(static_cast<std::int64_t>(std::llround(seconds * 1000)))),
      .lines = *lines};
}

Result<std::vector<ServerPattern>> read_patterns(const Json& answer) {
  const auto data = answer.find("data");
  if (data == answer.end() || !data->is_array()) return odd("patterns");
  std::vector<ServerPattern> result;
  for (const Json& one : *data) {
    const auto text = one.is_object() ? one.find("pattern") : one.end();
    const auto samples = one.is_object() ? one.find("samples") : one.end();
    if (!one.is_object() || text == one.end() || !text->is_string() || samples == one.end() ||
        !samples->is_array())
      return odd("patterns");
    ServerPattern pattern{.text = text->get<std::string>()};
    if (const auto level = one.find("level"); level != one.end() && level->is_string())
      pattern.level = level->get<std::string>();
    for (const Json& pair : *samples) {
      const auto sample = read_count(pair);
      if (!sample) return odd("patterns");
      pattern.counts.push_back(*sample);
    }
    result.push_back(std::move(pattern));
  }
  return result;
}

}  // namespace

bool asks_for_lines(std::string_view logql) {
  while (!logql.empty()) {
    const char first = logql.front();
    if (first == '#') {
      const auto end = logql.find('\n');
      logql.remove_prefix(end == std::string_view::npos ? logql.size() : end);
    } else if (first == '(' || std::isspace(static_cast<unsigned char>(first)) != 0) {
      logql.remove_prefix(1);
    } else {
      return first == '{';
    }
  }
  return false;
}

const std::string* LogLine::label(const std::string& name) const {
  for (const Texts* texts : {&parsed, &metadata, stream.get()})
    if (const auto found = texts->find(name); found != texts->end()) return &found->second;
  return nullptr;
}

Result<Loki> Loki::make(Connection connection, std::stop_token stop) {
  if (connection.url_setting == Connection().url_setting) {
    connection.url_setting = "--loki-url";
    connection.token_setting = "--loki-token-file";
  }
  connection.server = "Loki";
  auto way = Direct::make(std::move(connection), std::move(stop));
  if (!way) return tl::unexpected(way.error());
  return Loki(std::move(*way));
}

Result<Data> Loki::query(const std::string& expr, Time at) const {
  auto answer = way_->get({.path = "/loki/api/v1/query",
                           .parameters = {{"query", expr}, {"time", nanoseconds(at)}},
                           .form = true});
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<Data> Loki::query_range(const std::string& expr, const Range& range, std::size_t limit) const {
  auto answer = way_->get({.path = "/loki/api/v1/query_range",
                           .parameters = {{"query", expr},
                                          {"start", nanoseconds(range.from)},
                                          {"end", nanoseconds(range.to)},
                                          {"step", seconds(range.step)},
                                          {"limit", std::to_string(limit)},
                                          {"direction", "backward"}},
                           .form = true});
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<std::vector<std::string>> Loki::labels(const std::string& selector, const Range& range) const {
  auto answer = way_->get({.path = "/loki/api/v1/labels", .parameters = about(selector, range)});
  if (!answer) return tl::unexpected(answer.error());
  return read_names(*answer);
}

Result<std::vector<std::string>> Loki::label_values(const std::string& label, const std::string& selector,
                                                    const Range& range) const {
  auto answer = way_->get({.path = "/loki/api/v1/label/" + http::percent_encode(label) + "/values",
                           .parameters = about(selector, range)});
  if (!answer) return tl::unexpected(answer.error());
  return read_names(*answer);
}

Result<IndexStats> Loki::stats(const std::string& selector, const Range& range) const {
  auto answer = way_->get({.path = "/loki/api/v1/index/stats", .parameters = about(selector, range)});
  if (!answer) return tl::unexpected(answer.error());
  IndexStats stats;
  for (const auto& [name, into] : {std::pair("streams", &stats.streams), std::pair("chunks", &stats.chunks),
                                   std::pair("entries", &stats.entries), std::pair("bytes", &stats.bytes)}) {
    const auto found = answer->find(name);
    const auto value = found == answer->end() ? std::nullopt : count(*found);
    if (!value) return odd("statistics");
    *into = *value;
  }
  return stats;
}

Result<std::optional<std::vector<ServerPattern>>> Loki::patterns(const std::string& selector,
                                                                 const Range& range) const {
  auto answer = way_->get({.path = "/loki/api/v1/patterns", .parameters = about(selector, range)});
  if (!answer && answer.error().kind == Error::Kind::not_found)
    return std::optional<std::vector<ServerPattern>>();
  if (!answer) return tl::unexpected(answer.error());
  auto read = read_patterns(*answer);
  if (!read) return tl::unexpected(read.error());
  return std::optional(std::move(*read));
}

}  // namespace tunnelctl::prometheus
