#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace http {

struct Url {
  bool tls = true;
  std::string host;  // without brackets
  std::uint16_t port = 443;
};

/// "https://host[:port][/path][?query]", http too. Fails with bad_input and the reason (without the
/// URL): other schemes, a user or password, a fragment, characters that must be percent-encoded, a
/// malformed host or port.
Result<Url> parse_url(std::string_view text);

/// For messages: without query and user part, which can hold what a log must not, printable, cut at
/// 256 characters.
std::string shown_url(std::string_view url);

/// "localhost", names under it, 127.0.0.0/8 and ::1, as libcurl resolves them.
bool is_loopback(std::string_view host);

/// One path segment or query value (RFC 3986 section 2.1): all but unreserved characters encoded.
std::string percent_encode(std::string_view text);

}  // namespace http
