#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "tunnel/refusal.h"

/// Which service a caller's request target names, and what the service is sent. Pure text.
///
/// A path is judged by what any server behind us could make of it. After one percent-decoding it may
/// hold no dot segment ("." or "..", also before a ";" parameter, also between encoded slashes), no
/// backslash, no control character and no byte that only overlong UTF-8 has (C0, C1, E0 80..9F,
/// F0 80..8F, F5..FF); decoding it a second time may produce no ".", "/", "\", "%" or control character
/// (double encoding). Escapes must be complete. One encoded slash is allowed: package registries and
/// code hosts need it. The path goes to the service as it came, undecoded; the query is not judged.
namespace tunnel {

/// The request is for `service`, whose request line carries `target`.
struct ServiceTarget {
  std::string service;
  std::string target;  // path and query; at least "/"
};

/// "/t/web" lacks the slash that relative links need: answer 308 with this Location (query kept).
struct AddSlash {
  std::string location;
};

/// Not a path of this door.
struct NotOurs {};

using Route = std::variant<ServiceTarget, AddSlash, NotOurs>;

/// ^[a-z0-9][a-z0-9-]{0,62}$
bool valid_service_name(std::string_view name);

/// Splits "/t/<service>/<rest>". Refuses with bad_request (a path as above, 414 beyond 8 KiB) or
/// service_denied (a name no service can have).
Served<Route> route_http(std::string_view target);

/// Splits "/ws/<service>": ServiceTarget with an empty target, or NotOurs. A query is ignored.
Served<Route> route_websocket(std::string_view target);

}  // namespace tunnel
