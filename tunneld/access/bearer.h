#pragma once

#include <cstddef>
#include <string_view>

#include <tl/expected.hpp>

#include "tunneld/access/rejection.h"

namespace tunneld::access {

struct BearerToken {
  enum class Source { authorization, subprotocol };
  std::string_view token;  // points into the field's value; not verified
  /// Which field must not be passed on to the service. authorization where both held the same token
  /// (then neither may be).
  Source source = Source::authorization;
};

/// Finds the tunnel's token in a request:
///   BearerFinder finder;
///   for (const auto& field : head.fields) finder.see(field.name, field.value);
///   auto token = finder.token(head.target);
///
/// - `Authorization: Bearer <token>` (RFC 6750): at most one such field, scheme in any case, one run of
///   spaces. Another scheme counts as no token.
/// - `Sec-WebSocket-Protocol: ..., bearer.<token>` for browsers, which cannot set Authorization on a
///   WebSocket: at most one such item over all fields of that name.
/// - Both: only if they hold the same token.
/// - Never the query string: access logs, proxies and browser histories keep it. A request is refused
///   (Reason::query) if a parameter `token` or `access_token` holds something shaped like a JWT, or
///   holds anything while no token came in a header. A service's own opaque `?token=` beside a proper
///   Authorization field is the service's business and passes.
/// - Proxy-Authorization, cookies and bodies are not looked at.
///
/// The views given to see() must live until the token was used. No allocation.
class BearerFinder {
 public:
  void see(std::string_view field_name, std::string_view field_value);
  /// The token, or Reason missing, malformed, conflict or query. `target` as on the request line.
  tl::expected<BearerToken, Rejection> token(std::string_view target) const;

 private:
  std::size_t authorizations_ = 0;
  std::string_view authorization_;
  std::size_t offers_ = 0;  // subprotocol items beginning with "bearer."
  std::string_view offered_;
};

}  // namespace tunneld::access
