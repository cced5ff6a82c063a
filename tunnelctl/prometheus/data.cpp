#include "tunnelctl/prometheus/data.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tunnelctl::prometheus {
namespace {

constexpr double kLatest = 253402300799.0;  // the end of the year 9999, so that no arithmetic overflows

/// "1.5", "NaN", "+Inf", "-Inf"
std::optional<double> number(const Json& json) {
  if (json.is_number()) return json.get<double>();
  if (!json.is_string()) return std::nullopt;
  std::string_view text = json.get_ref<const std::string&>();
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// [seconds, "value"]
bool read_sample(const Json& pair, Series& into) {
  if (!pair.is_array() || pair.size() < 2 || !pair[0].is_number()) return false;
  const auto value = number(pair[1]);
  const double seconds = pair[0].get<double>();
  if (!value || !(std::abs(seconds) < kLatest)) return false;
  const auto at = static_cast<std::int64_t>(std::llround(seconds * 1000));
  into.samples.push_back({Time(std::chrono::milliseconds(at)), *value});
  return true;
}

/// [seconds, "text"]: what a query of nothing but a string gives
bool read_text(const Json& pair, Series& into) {
  if (!pair.is_array() || pair.size() < 2 || !pair[0].is_number() || !pair[1].is_string()) return false;
  const double seconds = pair[0].get<double>();
  if (!(std::abs(seconds) < kLatest)) return false;
  const std::chrono::milliseconds at(static_cast<std::int64_t>(std::llround(seconds * 1000)));
  into.lines.push_back(
      {.at = std::chrono::sys_time<std::chrono::milliseconds>(at), .text = pair[1].get<std::string>()});
  return true;
}

void read_texts(const Json& object, const char* key, Texts& into) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_object()) return;
  for (const auto& [name, value] : found->items())
    if (value.is_string()) into[name] = value.get<std::string>();
}

/// ["nanoseconds", "line"], and {"structuredMetadata", "parsed"} behind it when they were asked for
bool read_line(const Json& pair, Series& into) {
  if (!pair.is_array() || pair.size() < 2 || !pair[0].is_string() || !pair[1].is_string()) return false;
  const auto& text = pair[0].get_ref<const std::string&>();
  std::int64_t at = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), at);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  Line line{.at = std::chrono::sys_time<std::chrono::nanoseconds>(std::chrono::nanoseconds(at)),
            .text = pair[1].get<std::string>()};
  if (pair.size() > 2 && pair[2].is_object()) {
    read_texts(pair[2], "structuredMetadata", line.metadata);
    read_texts(pair[2], "parsed", line.parsed);
  }
  into.lines.push_back(std::move(line));
  return true;
}

bool read_series(const Json& json, bool stream, Series& into) {
  if (!json.is_object()) return false;
  read_texts(json, stream ? "stream" : "metric", into.labels);
  const auto all = [&](const char* key, const auto& read) {
    const auto values = json.find(key);
    if (values == json.end()) return true;
    return values->is_array() && std::all_of(values->begin(), values->end(), read);
  };
  if (stream) return all("values", [&](const Json& pair) { return read_line(pair, into); });
  if (const auto value = json.find("value"); value != json.end() && !read_sample(*value, into)) return false;
  if (json.contains("histogram")) ++into.histograms;
  if (const auto found = json.find("histograms"); found != json.end() && found->is_array())
    into.histograms += found->size();
  return all("values", [&](const Json& pair) { return read_sample(pair, into); });
}

tl::unexpected<Error> odd(const char* what) {
  return fail(Error::Kind::unavailable, std::string("the answer has no ") + what +
                                            " as Prometheus and Loki send it; is the URL the API's?");
}

}  // namespace

std::vector<std::string> read_warnings(const Json& answer) {
  std::vector<std::string> result;
  if (!answer.is_object()) return result;
  for (const char* key : {"warnings", "infos"}) {
    const auto found = answer.find(key);
    if (found == answer.end() || !found->is_array()) continue;
    for (const Json& one : *found)
      if (one.is_string()) result.push_back(one.get<std::string>());
  }
  return result;
}

std::size_t series_with_data(const Data& data) {
  return static_cast<std::size_t>(
      std::count_if(data.series.begin(), data.series.end(), [](const Series& series) {
        return !series.lines.empty() || series.histograms > 0 ||
               std::any_of(series.samples.begin(), series.samples.end(),
                           [](const Sample& sample) { return !std::isnan(sample.value); });
      }));
}

Result<Data> read_data(const Json& answer) {
  if (!answer.is_object()) return odd("data");
  const auto data = answer.find("data");
  if (data == answer.end() || !data->is_object()) return odd("data");
  const auto type = data->find("resultType");
  const auto result = data->find("result");
  if (type == data->end() || !type->is_string() || result == data->end() || !result->is_array())
    return odd("result");
  Data out;
  out.type = type->get<std::string>();
  out.warnings = read_warnings(answer);
  if (out.type == "scalar" || out.type == "string") {
    Series series;
    if (out.type == "scalar" && !read_sample(*result, series)) return odd("scalar");
    if (out.type == "string" && !read_text(*result, series)) return odd("string");
    out.series.push_back(std::move(series));
    return out;
  }
  for (const Json& one : *result) {
    Series series;
    if (!read_series(one, out.type == "streams", series)) return odd("series");
    out.series.push_back(std::move(series));
  }
  return out;
}

}  // namespace tunnelctl::prometheus
