#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/result.h"

namespace tunnelctl::prometheus {

using Json = nlohmann::json;
using Texts = std::map<std::string, std::string>;
using Time = std::chrono::sys_time<std::chrono::milliseconds>;

struct Sample {
  Time at{};
  double value = 0;
};

struct Line {
  std::chrono::sys_time<std::chrono::nanoseconds> at{};
  std::string text{};
  Texts metadata{};  // sent beside the line; both are told apart from the stream's labels only if asked for
  Texts parsed{};    // what the query's parsers made of it
};

/// One series, or one stream of log lines. Instant answers have one sample.
struct Series {
  Texts labels{};
  std::vector<Sample> samples{};
  std::size_t histograms = 0;  // samples that are native histograms; only counted
  std::vector<Line> lines{};   // newest first, as Loki sends them
};

/// What a query gives.
struct Data {
  std::string type{};  // vector, matrix, scalar, string, streams
  std::vector<Series> series{};
  std::vector<std::string> warnings{};  // the server's; it calls some of them infos
};

/// How many series hold anything to draw: a line, a histogram, or a number. A series of nothing but NaN (a
/// ratio or quantile of no events) is drawn as "No data", and does not count.
std::size_t series_with_data(const Data& data);

/// The answer to a query, of Prometheus or Loki:
/// {"status":"success","data":{"resultType":…,"result":…},"warnings":[…]}. Fails with unavailable when it has
/// another shape. Source: https://prometheus.io/docs/prometheus/latest/querying/api/ and
/// https://grafana.com/docs/loki/latest/reference/loki-http-api/.
Result<Data> read_data(const Json& answer);

/// What the server adds to an answer of any kind; it calls some of them infos.
std::vector<std::string> read_warnings(const Json& answer);

}  // namespace tunnelctl::prometheus
