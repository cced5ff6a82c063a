#pragma once

#include <string>

#include <tl/expected.hpp>

#include "tunnel/http_exchange.h"

namespace edge {

/// The 101 answer to a WebSocket upgrade (RFC 6455 4.2), or what is wrong with the request: status 426
/// when only the version is, else 400. `extensions` is what was agreed on, empty for nothing.
tl::expected<tunnel::ResponseHead, tunnel::Malformed> websocket_answer(const tunnel::RequestHead& request,
                                                                       const tunnel::WebSocketAccept& accept,
                                                                       const std::string& extensions = {});

/// Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 4.2.2).
std::string accept_value(const std::string& key);

}  // namespace edge
