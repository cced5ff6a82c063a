#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tunnel/http_exchange.h"
#include "tunnel/refusal.h"

namespace tunneld::admin {

/// A whole answer that tunneld itself gives, rather than a service.
struct Answer {
  unsigned status = 200;
  std::string_view content_type = "application/json";
  std::string body{};
  std::vector<tunnel::Header> fields{};
};

/// As text; bytes that are no UTF-8 become U+FFFD.
std::string text_of(const nlohmann::ordered_json& json);

/// The one error body with the code's status; 401 with WWW-Authenticate, Retry-After where it is known.
Answer answer_refusing(const tunnel::HttpExchange& exchange, const tunnel::Refusal& why);

/// Sends it, uncached and with the correlation id; without the body to HEAD. A caller that went away
/// is no error: nothing is left to do for it.
tunnel::asio::awaitable<void> send(tunnel::HttpExchange& exchange, Answer answer);

}  // namespace tunneld::admin
