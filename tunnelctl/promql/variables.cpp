#include "tunnelctl/promql/variables.h"

#include <algorithm>
#include <optional>

#include "tunnelctl/promql/regexp.h"

namespace tunnelctl::promql {
namespace {

/// No use is longer, so that a text of many beginnings without an end takes linear time.
constexpr std::size_t kLongestUse = 512;

bool is_word(char c) {
  return is_alpha(c) || is_digit(c);
}

/// The end of the word that begins at `at`.
std::size_t word_end(std::string_view text, std::size_t at) {
  while (at < text.size() && is_word(text[at])) ++at;
  return at;
}

/// The use that begins exactly at `at`, if one does.
std::optional<VariableUse> use_at(std::string_view text, std::size_t at) {
  text = text.substr(0, std::min(text.size(), at + kLongestUse));
  const auto rest = text.substr(at);
  const auto make = [&](std::size_t name, std::size_t name_end, std::string_view format, std::size_t end) {
    return VariableUse{std::string(text.substr(name, name_end - name)), std::string(format), {at, end}};
  };
  if (rest.starts_with("${")) {
    const auto name = at + 2;
    auto end = word_end(text, name);
    const auto name_end = end;
    if (end == name) return std::nullopt;
    if (end < text.size() && text[end] == '.') {
      end = text.find_first_of(":}^", end + 1);
      if (end == std::string_view::npos || text[end] == '^') return std::nullopt;
    }
    std::string_view format;
    if (end < text.size() && text[end] == ':') {
      const auto close = text.find('}', end);
      if (close == std::string_view::npos || close == end + 1) return std::nullopt;
      format = text.substr(end + 1, close - end - 1);
      end = close;
    }
    if (end >= text.size() || text[end] != '}') return std::nullopt;
    return make(name, name_end, format, end + 1);
  }
  if (rest.starts_with("[[")) {
    const auto name = at + 2;
    const auto name_end = word_end(text, name);
    auto end = name_end;
    std::string_view format;
    if (end < text.size() && text[end] == ':') {
      end = word_end(text, end + 1);
      format = text.substr(name_end + 1, end - name_end - 1);
    }
    if (name_end == name || !text.substr(std::min(end, text.size())).starts_with("]]")) return std::nullopt;
    return make(name, name_end, format, end + 2);
  }
  if (rest.starts_with("$")) {
    const auto end = word_end(text, at + 1);
    if (end == at + 1) return std::nullopt;
    return make(at + 1, end, {}, end);
  }
  return std::nullopt;
}

bool is_number(std::string_view name) {
  return std::all_of(name.begin(), name.end(), is_digit);
}

std::string joined(const std::vector<std::string>& values, std::string_view separator,
                   std::string_view around = {}) {
  std::string out;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i != 0) out += separator;
    out += around;
    out += values[i];
    out += around;
  }
  return out;
}

std::vector<std::string> replaced(std::vector<std::string> values, char character, std::string_view by) {
  for (auto& value : values) {
    std::string out;
    for (const char c : value) c == character ? out += by : out += c;
    value = std::move(out);
  }
  return values;
}

std::string alternation(const std::vector<std::string>& patterns) {
  return patterns.size() == 1 ? patterns[0] : "(" + joined(patterns, "|") + ")";
}

/// Escaped for a regular expression, and its backslashes for the PromQL string around it.
std::string escaped_in_string(std::string_view value) {
  std::string out;
  for (const char c : escape_regexp(value)) {
    if (c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string plain(const Variable& variable) {
  const auto& values = variable.values;
  if (!variable.multi && values.size() == 1) return values[0];
  std::vector<std::string> patterns;
  for (const auto& value : values) patterns.push_back(escaped_in_string(value));
  return alternation(patterns);
}

std::string formatted(const Variable& variable, std::string_view format) {
  const auto& values = variable.values;
  if (values.empty()) return {};
  const bool all = values.size() == 1 && values[0] == "$__all";
  if (all) return variable.all_value.empty() ? ".+" : variable.all_value;
  if (format.empty()) return plain(variable);
  if (format == "regex") {
    std::vector<std::string> patterns;
    for (const auto& value : values) patterns.push_back(escape_regexp(value));
    return alternation(patterns);
  }
  if (format == "pipe") return joined(values, "|");
  if (format == "csv" || format == "raw") return joined(values, ",");
  if (format == "text") return joined(values, " + ");
  if (format == "singlequote") return joined(replaced(values, '\'', "\\'"), ",", "'");
  if (format == "doublequote") return joined(replaced(values, '"', "\\\""), ",", "\"");
  if (format == "json") {
    std::vector<std::string> quoted;
    for (const auto& value : values) quoted.push_back(quote(value));
    return "[" + joined(quoted, ",") + "]";
  }
  return values.size() == 1 ? values[0] : "{" + joined(values, ",") + "}";
}

}  // namespace

std::vector<VariableUse> variables_used(std::string_view text) {
  std::vector<VariableUse> out;
  for (std::size_t at = 0; at < text.size();) {
    auto use = text[at] == '$' || text[at] == '[' ? use_at(text, at) : std::nullopt;
    if (!use) {
      ++at;
      continue;
    }
    at = use->span.end;
    if (!is_number(use->name)) out.push_back(std::move(*use));
  }
  return out;
}

bool is_builtin_variable(std::string_view name) {
  return name.starts_with("__") || name == "timeFilter";
}

Expansion expand(std::string_view text, const Variables& variables) {
  Expansion out;
  std::size_t at = 0;
  for (const auto& use : variables_used(text)) {
    out.text += text.substr(at, use.span.begin - at);
    at = use.span.end;
    const auto variable = variables.find(use.name);
    if (variable != variables.end()) {
      out.text += formatted(variable->second, use.format);
      continue;
    }
    out.text += text.substr(use.span.begin, use.span.end - use.span.begin);
    if (std::find(out.undefined.begin(), out.undefined.end(), use.name) == out.undefined.end()) {
      out.undefined.push_back(use.name);
    }
  }
  out.text += text.substr(at);
  return out;
}

}  // namespace tunnelctl::promql
