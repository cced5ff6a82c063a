#include "tunnelctl/logql/patterns.h"

#include <algorithm>
#include <optional>

#include "tunnelctl/promql/regexp.h"
#include "tunnelctl/promql/text.h"

namespace tunnelctl::logql {
namespace {

tl::unexpected<Error> no(std::string message) {
  return fail(Error::Kind::bad_input, std::move(message));
}

/// The capture that begins at `at`, without its angle brackets.
std::optional<std::string_view> capture_at(std::string_view pattern, std::size_t at) {
  if (pattern[at] != '<') return std::nullopt;
  auto end = at + 1;
  while (end < pattern.size() && (promql::is_alpha(pattern[end]) || promql::is_digit(pattern[end]))) ++end;
  const auto name = pattern.substr(at + 1, end - at - 1);
  if (end == pattern.size() || pattern[end] != '>' || !promql::is_label_name(name)) return std::nullopt;
  return name;
}

/// All captures in order; fails where two have nothing between them.
Result<std::vector<std::string>> captures(std::string_view pattern) {
  std::vector<std::string> out;
  std::optional<std::string_view> last;
  for (std::size_t at = 0; at < pattern.size();) {
    const auto name = capture_at(pattern, at);
    if (!name) {
      last.reset();
      ++at;
      continue;
    }
    if (last)
      return no("found consecutive capture '<" + std::string(*last) + "><" + std::string(*name) +
                ">': invalid expression");
    last = name;
    out.emplace_back(*name);
    at += name->size() + 2;
  }
  return out;
}

}  // namespace

Result<std::vector<std::string>> pattern_captures(std::string_view pattern) {
  if (pattern.empty()) return no("empty pattern");
  auto all = captures(pattern);
  if (!all) return all;
  std::erase(*all, "_");
  if (all->empty()) return no("at least one capture is required");
  auto sorted = *all;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) return no("duplicate capture name (" + *twice + "): invalid expression");
  return all;
}

Result<void> check_line_pattern(std::string_view pattern) {
  const auto all = captures(pattern);
  if (!all) return tl::unexpected(all.error());
  for (const auto& name : *all) {
    if (name != "_") return no("named captures are not allowed: found '<" + name + ">'");
  }
  return {};
}

Result<std::vector<std::string>> regexp_captures(std::string_view pattern) {
  const auto parsed = promql::parse_regexp(pattern);
  if (!parsed) return tl::unexpected(parsed.error());
  if (parsed->capture_names.empty()) return no("at least one named capture must be supplied");
  for (const auto& name : parsed->capture_names) {
    if (!promql::is_label_name(name)) return no("invalid extracted label name '" + name + "'");
  }
  return parsed->capture_names;
}

Result<void> check_template(std::string_view text) {
  for (std::size_t at = 0;;) {
    const auto open = text.find("{{", at);
    if (open == std::string_view::npos) return {};
    at = open + 2;
    if (text.substr(at).starts_with("/*") || text.substr(at).starts_with("- /*")) {
      const auto end = text.find("*/", at);
      if (end == std::string_view::npos) return no("template: unclosed comment");
      at = end + 2;
    }
    // Strings inside an action may hold braces.
    while (at < text.size() && !text.substr(at).starts_with("}}")) {
      const char c = text[at];
      if (c != '"' && c != '`' && c != '\'') {
        ++at;
        continue;
      }
      const auto end = promql::scan_string(text, at);
      if (!end) return no("template: " + end.error().message);
      at = *end;
    }
    if (at >= text.size()) return no("template: unclosed action");
    at += 2;
  }
}

}  // namespace tunnelctl::logql
