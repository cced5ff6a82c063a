#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include <nlohmann/json_fwd.hpp>
#include <tl/expected.hpp>

#include "tunnel/principal.h"
#include "tunneld/access/options.h"
#include "tunneld/access/rejection.h"

namespace tunneld::access {

/// 1 to 255 bytes of printable ASCII: what OpenID Connect Core section 2 allows in `sub`. Keeps
/// look-alike letters, bidirectional overrides, line ends and NUL out of names people and logs read.
bool valid_subject(std::string_view subject);
/// A scope token of RFC 6749 section 3.3: printable ASCII without space, quote and backslash.
bool valid_scope(std::string_view scope);
/// "free", "premium" or "enterprise" exactly.
std::optional<tunnel::Tier> tier_named(std::string_view text);

/// Who `payload` (of a token whose signature is good) speaks for, or why not at wall time `now`.
/// Expiry is judged last: Reason::expired means everything else was right.
/// Source: RFC 7519 section 4.1; times must be whole seconds from 0 to the year 9999.
tl::expected<tunnel::Principal, Reason> principal_from(const nlohmann::json& payload, const Options& options,
                                                       std::chrono::system_clock::time_point now);

}  // namespace tunneld::access
