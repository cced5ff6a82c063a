// Any lines to the MCP server: no crash, each answer is one message of JSON-RPC, no more answers than lines
// had requests, and arguments that were let through fit their schema.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tunnelctl/mcp/schema.h"
#include "tunnelctl/mcp/server.h"

using tunnelctl::mcp::Json;
using tunnelctl::mcp::Outcome;

namespace {

const Json kSchema = Json::parse(R"({
  "type": "object", "additionalProperties": false, "required": ["word"],
  "properties": {
    "word": {"type": "string", "minLength": 1},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "share": {"type": "number"},
    "flag": {"type": "boolean"},
    "kind": {"type": "string", "enum": ["a", "b"]},
    "list": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}}
  }})");

void check(bool holds) {
  if (!holds) std::abort();
}

Outcome echo(const Json& arguments) {
  check(arguments.at("word").is_string() && !arguments["word"].get_ref<const std::string&>().empty());
  if (arguments.contains("limit")) check(arguments["limit"] >= 1 && arguments["limit"] <= 100);
  // What was let through once is let through again, as it is.
  const auto again = tunnelctl::mcp::checked_arguments(kSchema, arguments);
  check(again && *again == arguments);
  return {.text = arguments.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

void check_answer(const Json& answer) {
  check(answer.is_object() && answer.at("jsonrpc") == "2.0" && answer.contains("id"));
  check(answer.contains("result") != answer.contains("error"));
  if (answer.contains("error"))
    check(answer["error"].at("code").is_number_integer() && answer["error"].at("message").is_string());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 64 * 1024) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  tunnelctl::mcp::ServerOptions options{.name = "fuzz", .version = "1", .most_answer_bytes = 256};
  options.calls = {.at_once = 1};
  std::vector<tunnelctl::mcp::Tool> tools;
  tools.push_back(
      {.name = "echo", .schema = kSchema, .narrow = "less", .call = [](const Json& arguments, auto) {
         return echo(arguments);
       }});
  std::size_t answers = 0;
  tunnelctl::mcp::Server server(std::move(options), std::move(tools), [&](const std::string& message) {
    check(message.find('\n') == std::string::npos);
    const auto json = Json::parse(message, nullptr, false);
    check(!json.is_discarded());
    ++answers;
    if (!json.is_array()) return check_answer(json);
    for (const auto& one : json) check_answer(one);
  });
  std::size_t lines = 0;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    server.receive(rest.substr(0, end));
    ++lines;
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  server.finish(std::chrono::seconds(10));
  check(answers <= lines);
  return 0;
}
