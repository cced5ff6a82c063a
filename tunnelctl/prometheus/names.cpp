#include "tunnelctl/prometheus/names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

namespace tunnelctl::prometheus {
namespace {

std::string hexadecimal(std::uint32_t point) {
  std::array<char, 12> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), point, 16);
  return "_" + std::string(text.data(), end) + "_";
}

bool is_plain(std::string_view name, bool colons) {
  if (name.empty() || (name.front() >= '0' && name.front() <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (colons && c == ':');
  });
}

}  // namespace

std::string promql_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string label_in_path(const std::string& label) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  if (std::all_of(label.begin(), label.end(), plain)) return label;
  std::string result = "U__";
  for (std::size_t at = 0; at < label.size();) {
    const auto byte = static_cast<unsigned char>(label[at]);
    if (byte < 0x80) {
      if (label[at] == '_')
        result += "__";
      else if (plain(label[at]))
        result += label[at];
      else
        result += hexadecimal(byte);
      ++at;
      continue;
    }
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
    std::uint32_t point = byte & (0xFFU >> (length + 1));
    for (std::size_t i = 1; i < length && at + i < label.size(); ++i)
      point = (point << 6) | (static_cast<unsigned char>(label[at + i]) & 0x3FU);
    result += hexadecimal(point);
    at += length;
  }
  return result;
}

Result<std::string> histogram_query(const HistogramQuery& query) {
  if (!(query.percentile >= 0 && query.percentile <= 100))
    return fail(Error::Kind::bad_input, "--percentile: must be 0 to 100");
  if (query.metric.empty()) return fail(Error::Kind::bad_input, "a histogram has a name");
  const std::string metric = query.metric.ends_with("_bucket") ? query.metric : query.metric + "_bucket";
  std::string matchers = query.matchers;
  if (matchers.starts_with('{') && matchers.ends_with('}'))
    matchers = matchers.substr(1, matchers.size() - 2);
  std::string selector = metric;
  if (!is_plain(metric, true))
    selector = "{" + promql_string(metric) + (matchers.empty() ? "" : ", " + matchers) + "}";
  else if (!matchers.empty())
    selector += "{" + matchers + "}";
  std::string labels = "le";
  for (const auto& label : query.by) labels += ", " + (is_plain(label, false) ? label : promql_string(label));
  std::array<char, 40> quantile{};
  const auto [end, error] = std::to_chars(quantile.data(), quantile.data() + quantile.size(),
                                          query.percentile / 100, std::chars_format::general, 12);
  return "histogram_quantile(" + std::string(quantile.data(), end) + ", sum by (" + labels + ") (rate(" +
         selector + "[" + query.rate + "])))";
}

}  // namespace tunnelctl::prometheus
