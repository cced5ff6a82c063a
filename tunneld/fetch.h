#pragma once

#include "common/result.h"
#include "tunneld/token_keys.h"

namespace tunneld {

/// The way out for token keys: https only (http to loopback), no redirects, at most 256 KiB in 5 s.
/// Fails when the system's trusted certificates cannot be read.
Result<TokenKeys::Fetch> make_fetch();

}  // namespace tunneld
