#include "edge/websocket_handshake.h"

#include <array>
#include <string>

#include <openssl/evp.h>

namespace edge {

namespace {

/// The field's value when it is there exactly once.
const std::string* only(const tunnel::RequestHead& request, std::string_view name) {
  const std::string* found = nullptr;
  for (const auto& field : request.fields) {
    if (!tunnel::same_name(field.name, name)) continue;
    if (found != nullptr) return nullptr;
    found = &field.value;
  }
  return found;
}

bool lists(std::string_view value, std::string_view token) {
  while (!value.empty()) {
    const auto comma = value.find(',');
    auto item = value.substr(0, comma);
    while (!item.empty() && (item.front() == ' ' || item.front() == '\t')) item.remove_prefix(1);
    while (!item.empty() && (item.back() == ' ' || item.back() == '\t')) item.remove_suffix(1);
    if (tunnel::same_name(item, token)) return true;
    if (comma == std::string_view::npos) break;
    value.remove_prefix(comma + 1);
  }
  return false;
}

/// Sixteen bytes in base64: 22 digits, the last with four bits to spare, and "==".
bool is_key(std::string_view key) {
  if (key.size() != 24 || key.substr(22) != "==") return false;
  for (const char c : key.substr(0, 22)) {
    const bool digit =
        (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
    if (!digit) return false;
  }
  return true;
}

}  // namespace

std::string accept_value(const std::string& key) {
  const std::string text = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
  std::array<unsigned char, 64> encoded{};
  const int length = EVP_EncodeBlock(encoded.data(), digest.data(), static_cast<int>(size));
  return {reinterpret_cast<const char*>(encoded.data()), static_cast<std::size_t>(length)};
}

tl::expected<tunnel::ResponseHead, tunnel::Malformed> websocket_answer(const tunnel::RequestHead& request,
                                                                       const tunnel::WebSocketAccept& accept,
                                                                       const std::string& extensions) {
  const auto refuse = [](std::string_view reason, unsigned status) {
    return tl::unexpected(tunnel::Malformed{reason, status});
  };
  const auto* upgrade = request.find("Upgrade");
  if (request.method != "GET" || request.minor_version < 1 || !request.wants_upgrade || upgrade == nullptr ||
      !lists(*upgrade, "websocket"))
    return refuse("websocket_upgrade", 400);
  if (!std::holds_alternative<tunnel::NoBody>(request.body)) {
    const auto* sized = std::get_if<tunnel::SizedBody>(&request.body);
    if (sized == nullptr || sized->bytes > 0) return refuse("websocket_body", 400);
  }
  const auto* version = only(request, "Sec-WebSocket-Version");
  if (version == nullptr || *version != "13") return refuse("websocket_version", 426);
  const auto* key = only(request, "Sec-WebSocket-Key");
  if (key == nullptr || !is_key(*key)) return refuse("websocket_key", 400);

  tunnel::ResponseHead answer;
  answer.status = 101;
  answer.reason = "Switching Protocols";
  answer.fields = {
      {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", accept_value(*key)}};
  if (!extensions.empty()) answer.fields.push_back({"Sec-WebSocket-Extensions", extensions});
  if (!accept.subprotocol.empty()) answer.fields.push_back({"Sec-WebSocket-Protocol", accept.subprotocol});
  answer.fields.insert(answer.fields.end(), accept.fields.begin(), accept.fields.end());
  answer.body = tunnel::NoBody{};
  return answer;
}

}  // namespace edge
