#include "tunnelctl/monitor/repeats.h"

#include <algorithm>
#include <cctype>
#include <regex>

namespace tunnelctl::monitor {
namespace {

/// std::regex recurses once for each character.
constexpr std::size_t kLongestValue = 1000;

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

const Json* list_of(const Json& holder, const char* key) {
  if (!holder.is_object()) return nullptr;
  const auto found = holder.find(key);
  return found != holder.end() && found->is_array() ? &*found : nullptr;
}

/// "a,b : 2,c" of a custom variable: the values.
std::vector<std::string> custom_options(std::string_view query) {
  std::vector<std::string> result;
  while (!query.empty()) {
    const auto comma = query.find(',');
    std::string_view one = trimmed(query.substr(0, comma));
    if (const auto colon = one.find(" : "); colon != std::string_view::npos)
      one = trimmed(one.substr(colon + 3));
    if (!one.empty()) result.emplace_back(one);
    query = comma == std::string_view::npos ? std::string_view() : query.substr(comma + 1);
  }
  return result;
}

std::vector<std::string> selected(const Json& variable) {
  std::vector<std::string> result;
  const auto current = variable.find("current");
  if (current == variable.end() || !current->is_object()) return result;
  const auto value = current->find("value");
  if (value == current->end()) return result;
  if (value->is_string()) result.push_back(value->get<std::string>());
  if (value->is_array())
    for (const Json& one : *value)
      if (one.is_string()) result.push_back(one.get<std::string>());
  std::erase_if(result, [](const std::string& one) { return one.empty(); });
  if (std::find(result.begin(), result.end(), "$__all") != result.end()) result.clear();
  return result;
}

}  // namespace

std::optional<LabelValues> parse_label_values(std::string_view query) {
  query = trimmed(query);
  constexpr std::string_view kName = "label_values";
  if (!query.starts_with(kName)) return std::nullopt;
  query = trimmed(query.substr(kName.size()));
  if (!query.starts_with('(') || !query.ends_with(')')) return std::nullopt;
  query = query.substr(1, query.size() - 2);
  // The label comes last, and has no comma; a selector may hold many.
  const auto comma = query.rfind(',');
  LabelValues result;
  if (comma != std::string_view::npos) result.selector = trimmed(query.substr(0, comma));
  result.label = trimmed(comma == std::string_view::npos ? query : query.substr(comma + 1));
  const bool word =
      !result.label.empty() && std::all_of(result.label.begin(), result.label.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$';
      });
  if (!word || (comma != std::string_view::npos && result.selector.empty())) return std::nullopt;
  return result;
}

std::map<std::int64_t, std::vector<std::string>> repeats(const Json& dashboard) {
  std::map<std::int64_t, std::vector<std::string>> result;
  const Json* panels = list_of(dashboard, "panels");
  if (panels == nullptr) return result;
  std::string of_row;  // of the row above
  const auto add = [&](const Json& panel) {
    std::vector<std::string> variables;
    if (!of_row.empty()) variables.push_back(of_row);
    if (const auto own = text_of(panel, "repeat"); !own.empty() && own != of_row) variables.push_back(own);
    if (variables.empty() || !panel.is_object() || !panel.contains("id") || !panel["id"].is_number_integer())
      return;
    result[panel["id"].get<std::int64_t>()] = std::move(variables);
  };
  for (const Json& panel : *panels) {
    if (text_of(panel, "type") != "row") {
      add(panel);
      continue;
    }
    of_row = text_of(panel, "repeat");
    if (const Json* inner = list_of(panel, "panels"))
      for (const Json& nested : *inner) add(nested);
  }
  return result;
}

Values values_of(const Json& dashboard, const std::string& name) {
  Values result;
  const Json* list = dashboard.is_object() && dashboard.contains("templating")
                         ? list_of(dashboard["templating"], "list")
                         : nullptr;
  const Json* variable = nullptr;
  if (list != nullptr)
    for (const Json& one : *list)
      if (text_of(one, "name") == name) variable = &one;
  if (variable == nullptr) {
    result.unknown = "the dashboard has no variable " + name;
    return result;
  }
  result.known = selected(*variable);
  if (!result.known.empty()) return result;
  const std::string type = text_of(*variable, "type");
  const auto query = variable->find("query");
  std::string text;
  if (query != variable->end())
    text = query->is_string() ? query->get<std::string>() : text_of(*query, "query");
  if (type == "custom") {
    result.known = custom_options(text);
    return result;
  }
  if (type == "query") {
    if (text.empty()) text = text_of(*variable, "definition");
    result.ask = parse_label_values(text);
    const auto source = variable->find("datasource");
    if (source != variable->end()) result.datasource = text_of(*source, "uid");
    result.regex = text_of(*variable, "regex");
  }
  if (!result.ask) result.unknown = "the values of variable " + name + " come from no label_values(...)";
  return result;
}

std::vector<std::string> filtered(const std::vector<std::string>& values, const std::string& regex) {
  std::vector<std::string> result;
  std::optional<std::regex> pattern;
  if (!regex.empty()) {
    std::string text = regex;
    auto flags = std::regex::ECMAScript;
    if (const auto end = text.rfind('/'); text.size() > 1 && text.front() == '/' && end > 0) {
      if (text.find('i', end) != std::string::npos) flags |= std::regex::icase;
      text = text.substr(1, end - 1);
    }
    try {
      pattern.emplace(text, flags);
    } catch (const std::regex_error&) {
      pattern.reset();
    }
  }
  for (const auto& value : values) {
    std::string kept = value;
    if (pattern) {
      std::smatch match;
      try {
        if (value.size() > kLongestValue || !std::regex_search(value, match, *pattern)) continue;
      } catch (const std::regex_error&) {  // too much work
        continue;
      }
      if (match.size() > 1 && match[1].matched) kept = match[1].str();
    }
    if (std::find(result.begin(), result.end(), kept) == result.end()) result.push_back(std::move(kept));
  }
  return result;
}

}  // namespace tunnelctl::monitor
