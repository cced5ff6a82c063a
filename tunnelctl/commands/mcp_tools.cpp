#include "tunnelctl/commands/mcp_tools.h"

#include <algorithm>
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

/// What the option is given, once for each.
std::vector<std::string> values_of(const Json& value) {
  std::vector<std::string> values;
  if (value.is_object())
    for (const auto& [name, one] : value.items()) values.push_back(name + "=" + text_of(one));
  else if (value.is_array())
    for (const auto& one : value) values.push_back(text_of(one));
  else
    values.push_back(text_of(value));
  std::erase(values, "");
  return values;
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

Json schema_of(const CommandTool& tool) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const auto& argument : tool.arguments) {
    Json one = type_of(argument);
    if (*argument.help != '\0') one["description"] = argument.help;
    if (!argument.words.empty()) one["enum"] = argument.words;
    if (argument.least) one["minimum"] = *argument.least;
    if (argument.most) one["maximum"] = *argument.most;
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
  for (const auto& argument : tool.arguments) {
    if (argument.to == nullptr) continue;
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
    for (auto& one : values_of(value)) {
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
    if (auto done = tool.compose(arguments, line); !done) return tl::unexpected(done.error());
  return line;
}

mcp::Outcome outcome_of(const CommandTool& tool, const Json& arguments, ExitStatus status, std::string out,
                        const std::string& err) {
  remove_line_end(out);
  if (tool.lines != nullptr) out = as_list(out, tool.lines);
  auto said = without_program_name(err);
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
