#pragma once

#include <chrono>
#include <cstddef>

#include "common/result.h"
#include "tunneld/access/jwk_set.h"
#include "tunneld/token_keys.h"

namespace tunneld {

struct FetchLimits {
  std::chrono::milliseconds deadline{5000};  // look-up, connection, TLS, request and answer
  std::size_t max_bytes = access::JwkSet::kMaxBytes;
};

/// The way out for token keys: https only (http to loopback), no redirects, at most 256 KiB in 5 s,
/// through the proxies of the environment. One at a time, in a thread of its own.
///
/// Errors: bad_input (a redirect, an answer that is too large or no HTTP), denied (certificate not
/// trusted, status 401 and 403), not_found (host, status 404 and 410), timed_out, and unavailable for
/// the rest. When the last copy of the Fetch goes, what is under way ends at once as cancelled; the
/// executors it came from must still be there.
/// Fails when trusted certificates or proxies named by the environment cannot be used.
Result<TokenKeys::Fetch> make_fetch();
Result<TokenKeys::Fetch> make_fetch(const FetchLimits& limits);

}  // namespace tunneld
