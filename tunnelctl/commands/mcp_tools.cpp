#include "tunnelctl/commands/mcp_tools.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <initializer_list>
#include <iterator>
#include <sstream>
#include <utility>

namespace tunnelctl {
namespace {

using Kind = ToolArgument::Kind;

Json type_of(const ToolArgument& argument) {
  switch (argument.kind) {
    case Kind::text: return {{"type", "string"}};
    case Kind::integer: return {{"type", "integer"}};
    case Kind::number: return {{"type", "number"}};
    case Kind::flag: return {{"type", "boolean"}};
    case Kind::texts: return {{"type", "array"}, {"items", {{"type", "string"}}}};
    case Kind::object: return {{"type", "object"}};
    case Kind::objects: return {{"type", "array"}, {"items", {{"type", "object"}}}};
    case Kind::labels: return {{"type", {"object", "array"}}};
    case Kind::selectors: return {{"type", "array"}};
  }
  return {};
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::vector<std::string> words_in(std::string_view text) {
  std::istringstream stream{std::string(text)};
  return {std::istream_iterator<std::string>(stream), std::istream_iterator<std::string>()};
}

/// "" where it has none of these.
std::string member_of(const Json& object, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto found = object.find(name); found != object.end() && !found->is_structured())
      if (auto text = found->is_null() ? std::string() : text_of(*found); !text.empty()) return text;
  return {};
}

/// One of [{key, label}]; without a key the label is a tag.
Result<std::string> label_of(const Json& one) {
  if (!one.is_object()) return text_of(one);
  const auto key = member_of(one, {"key"});
  const auto label = member_of(one, {"label", "value"});
  if (label.empty()) return fail(Error::Kind::bad_input, "must be [{\"key\": ..., \"label\": ...}]");
  return key.empty() ? label : key + "=" + label;
}

/// {a="b", c!="d"} of {filters: [...]}.
Result<std::string> selector_of(const Json& one) {
  if (!one.is_object()) return text_of(one);
  const auto wrong = [] {
    return fail(
        Error::Kind::bad_input,
        "must be [\"up{job=\\\"api\\\"}\"] or [{\"filters\": [{\"name\": ..., \"type\": one of = != =~ !~, "
        "\"value\": ...}]}]");
  };
  const auto filters = one.find("filters");
  if (filters == one.end() || !filters->is_array() || filters->empty()) return wrong();
  std::string text;
  for (const auto& filter : *filters) {
    if (!filter.is_object()) return wrong();
    const auto name = member_of(filter, {"name"});
    const auto type = filter.contains("type") ? member_of(filter, {"type"}) : "=";
    constexpr std::array kTypes{"=", "!=", "=~", "!~"};
    if (!is_label_name(name) || std::find(kTypes.begin(), kTypes.end(), type) == kTypes.end()) return wrong();
    text += (text.empty() ? "{" : ", ") + name + type + quoted(member_of(filter, {"value"}));
  }
  return text + "}";
}

/// What the option is given, once for each.
Result<std::vector<std::string>> values_of(Kind kind, const Json& value) {
  std::vector<std::string> values;
  if (value.is_object())
    for (const auto& [name, one] : value.items()) values.push_back(name + "=" + text_of(one));
  else if (value.is_array())
    for (const auto& one : value) {
      auto text = kind == Kind::labels      ? label_of(one)
                  : kind == Kind::selectors ? selector_of(one)
                                            : text_of(one);
      if (!text) return tl::unexpected(text.error());
      values.push_back(std::move(*text));
    }
  else
    values.push_back(text_of(value));
  std::erase(values, "");
  return values;
}

/// "name, orgID": of those that were given, what could have meant something.
std::string unused_of(const CommandTool& tool, const Json& arguments) {
  std::string names;
  for (const auto& one : tool.arguments)
    if (one.unused && one.words.empty() && !one.most && arguments.contains(one.name))
      names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}

void remove_line_end(std::string& text) {
  while (text.ends_with('\n')) text.pop_back();
}

/// "tunnelctl: warning: ..." is for a terminal.
std::string without_program_name(const std::string& text) {
  std::istringstream lines(text);
  std::string result, line;
  while (std::getline(lines, line)) {
    constexpr std::string_view kName = "tunnelctl: ";
    if (line.starts_with(kName)) line.erase(0, kName.size());
    result += (result.empty() ? "" : "\n") + line;
  }
  return result;
}

std::string as_list(const std::string& text, const char* name) {
  Json list = Json::array();
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    auto json = Json::parse(line, nullptr, false);
    if (json.is_discarded()) return text;
    list.push_back(std::move(json));
  }
  return Json{{name, std::move(list)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::vector<CommandTool> command_tools() {
  std::vector<CommandTool> all;
  for (auto* some : {&datasource_tools, &metric_tools, &log_tools, &dashboard_tools, &alert_tools,
                     &incident_tools, &tunnel_tools}) {
    auto tools = (*some)();
    std::move(tools.begin(), tools.end(), std::back_inserter(all));
  }
  return all;
}

bool is_label_name(std::string_view name) {
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) != 0) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
}

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json schema_of(const CommandTool& tool) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const auto& argument : tool.arguments) {
    Json one = type_of(argument);
    if (argument.unused)
      one["description"] = "not used";
    else if (*argument.help != '\0')
      one["description"] = argument.help;
    if (!argument.words.empty()) one["enum"] = argument.words;
    if (argument.least && argument.least == argument.most) {
      one["enum"] = {*argument.least};
    } else {
      if (argument.least) one["minimum"] = *argument.least;
      if (argument.most) one["maximum"] = *argument.most;
    }
    if (argument.fallback != nullptr)
      one["default"] = argument.kind == Kind::text ? Json(argument.fallback) : Json::parse(argument.fallback);
    if (argument.required) {
      if (argument.kind == Kind::text) one["minLength"] = 1;
      if (argument.kind == Kind::texts || argument.kind == Kind::objects) one["minItems"] = 1;
      required.push_back(argument.name);
    }
    properties[argument.name] = std::move(one);
  }
  Json schema{{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

std::vector<std::string> CommandLine::all() const {
  auto result = words;
  if (!positional.empty()) result.emplace_back("--");
  result.insert(result.end(), positional.begin(), positional.end());
  return result;
}

Result<CommandLine> command_line_of(const CommandTool& tool, const Json& arguments) {
  CommandLine line{.words = words_in(tool.command)};
  Json used = arguments;
  for (const auto& argument : tool.arguments) {
    if (argument.unused) used.erase(argument.name);
    if (argument.unused || argument.to == nullptr) continue;
    const std::string option = argument.to;
    if (!arguments.contains(argument.name)) {
      if (argument.fallback != nullptr) line.words.push_back(option + "=" + argument.fallback);
      continue;
    }
    const auto& value = arguments[argument.name];
    if (argument.kind == Kind::flag) {
      if (value == true) line.words.push_back(option);
      continue;
    }
    auto values = values_of(argument.kind, value);
    if (!values) return fail(values.error().kind, std::string(argument.name) + ": " + values.error().message);
    for (auto& one : *values) {
      // What C would end early must not mean something else than what was checked.
      if (one.find('\0') != std::string::npos)
        return fail(Error::Kind::bad_input, std::string(argument.name) + " holds a zero byte");
      if (option.empty())
        line.positional.push_back(std::move(one));
      else
        line.words.push_back(option + "=" + one);
    }
  }
  line.words.insert(line.words.end(), tool.always.begin(), tool.always.end());
  if (tool.compose != nullptr)
    if (auto done = tool.compose(used, line); !done) return tl::unexpected(done.error());
  return line;
}

mcp::Outcome outcome_of(const CommandTool& tool, const Json& arguments, ExitStatus status, std::string out,
                        const std::string& err) {
  remove_line_end(out);
  // Of a failure that printed nothing the reason is all there is to tell.
  if (tool.lines != nullptr && (status == ExitStatus::ok || !out.empty())) out = as_list(out, tool.lines);
  auto said = without_program_name(err);
  if (const auto names = unused_of(tool, arguments); !names.empty())
    said += (said.empty() ? "" : "\n") + names + ": not used";
  const bool answered = status == ExitStatus::ok ||
                        (!out.empty() && std::find(tool.answers_with.begin(), tool.answers_with.end(),
                                                   status) != tool.answers_with.end());
  if (answered && tool.shape != nullptr)
    if (const auto json = Json::parse(out, nullptr, false); !json.is_discarded())
      out = tool.shape(arguments, json).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (answered) return {.text = out.empty() ? "done" : std::move(out), .notes = std::move(said)};
  const auto ended = "exit status " + std::to_string(static_cast<int>(status));
  // What was found before it failed may be the reason.
  if (out.empty()) return {.text = said.empty() ? ended : said + "\n" + ended, .failed = true};
  return {.text = std::move(out), .notes = said.empty() ? ended : said + "\n" + ended, .failed = true};
}

}  // namespace tunnelctl
