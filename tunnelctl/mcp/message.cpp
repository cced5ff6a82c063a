#include "tunnelctl/mcp/message.h"

#include <utility>

#include "common/strict_json.h"

namespace tunnelctl::mcp {
namespace {

Message invalid(const Json& id, ErrorCode code, const std::string& why) {
  Message message;
  message.problem = error_answer(id, code, why);
  return message;
}

/// MCP is narrower than JSON-RPC: never null, and no fractions.
bool may_be_id(const Json& id) {
  return id.is_string() || id.is_number_integer();
}

Message read_one(Json&& json) {
  if (!json.is_object())
    return invalid(nullptr, ErrorCode::invalid_request, "Invalid Request: a message is an object");
  const auto id = json.find("id");
  const bool has_id = id != json.end();
  const Json known_id = has_id && may_be_id(*id) ? *id : Json();
  const auto refuse = [&](const std::string& why) {
    return invalid(known_id, ErrorCode::invalid_request, "Invalid Request: " + why);
  };
  const auto version = json.find("jsonrpc");
  if (version == json.end() || *version != "2.0") return refuse("jsonrpc must be \"2.0\"");
  const auto method = json.find("method");
  Message message;
  if (method == json.end()) {
    if (!json.contains("result") && !json.contains("error")) return refuse("method is missing");
    message.kind = Message::Kind::passed_over;
    return message;
  }
  if (!method->is_string()) return refuse("method must be text");
  if (has_id && !may_be_id(*id)) return refuse("id must be text or an integer");
  message.kind = has_id ? Message::Kind::request : Message::Kind::notification;
  message.id = known_id;
  message.method = method->get<std::string>();
  if (const auto params = json.find("params"); params != json.end()) {
    if (!params->is_object()) {
      // A notification is never answered, not even a wrong one.
      if (!has_id) return Message{.kind = Message::Kind::passed_over, .problem = {}};
      return invalid(known_id, ErrorCode::invalid_params, "Invalid params: params must be an object");
    }
    message.params = std::move(*params);
  }
  return message;
}

}  // namespace

Incoming read_message(std::string_view line) {
  Incoming incoming;
  auto json = parse_strict_json(line, line.size(), kDeepest);
  if (!json) {
    // It may be good JSON that is refused for another reason.
    const bool is_json = Json::accept(line);
    incoming.messages.push_back(invalid(
        nullptr, is_json ? ErrorCode::invalid_request : ErrorCode::parse,
        (is_json ? "Invalid Request: the message " : "Parse error: the message ") + json.error().message));
    return incoming;
  }
  if (!json->is_array()) {
    incoming.messages.push_back(read_one(std::move(*json)));
    return incoming;
  }
  if (json->empty() || json->size() > kLargestBatch) {
    incoming.messages.push_back(invalid(
        nullptr, ErrorCode::invalid_request,
        json->empty()
            ? "Invalid Request: a batch must not be empty"
            : "Invalid Request: a batch may have " + std::to_string(kLargestBatch) + " messages at most"));
    return incoming;
  }
  incoming.batch = true;
  for (auto& one : *json) incoming.messages.push_back(read_one(std::move(one)));
  return incoming;
}

Json answer(const Json& id, Json result) {
  return {{"jsonrpc", "2.0"}, {"id", id}, {"result", std::move(result)}};
}

Json error_answer(const Json& id, ErrorCode code, std::string_view message, Json data) {
  Json error{{"code", static_cast<int>(code)}, {"message", message}};
  if (!data.is_null()) error["data"] = std::move(data);
  return {{"jsonrpc", "2.0"}, {"id", id}, {"error", std::move(error)}};
}

}  // namespace tunnelctl::mcp
