#include "tunnelctl/client/agent_messages.h"

#include <nlohmann/json.hpp>

#include "common/http_access.h"

namespace tunnelctl::client {

edge::ClientRequest agent_request(const Secret& token) {
  edge::ClientRequest request;
  request.bearer = token;
  request.subprotocols = {"tunnel-agent.v1"};
  request.control_messages = true;
  return request;
}

std::string agent_text(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string agent_word(const std::string& text) {
  return http::one_line(text, 300);
}

}  // namespace tunnelctl::client
