#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include <tl/expected.hpp>

#include "common/result.h"
#include "tunneld/access/jwk_set.h"
#include "tunneld/access/options.h"
#include "tunneld/access/rejection.h"
#include "tunneld/access/token_cache.h"

namespace tunneld::access {

struct Accepted {
  std::shared_ptr<const VerifiedToken> token;  // never null
  bool from_cache = false;
  const tunnel::Principal& principal() const { return token->principal; }
};

/// Decides whether a bearer token is genuine, ours and in force. All calls are thread-safe.
///
/// A token is a compact JWS (RFC 7515) of at most 8 KiB: three base64url parts without padding, header
/// and payload strict JSON objects. Keys come only from the JwkSet, chosen by `kid`; the algorithm is
/// the key's, and the token must name the same one. `jwk`, `jku`, `x5u` and `x5c` are ignored; `crit`,
/// `b64`, `enc`, `zip`, `cty` and types other than JWT and at+jwt are refused (RFC 8725). Claims: see
/// claims.h.
///
/// A verified token is remembered for min(cache_ttl, exp - now) and costs a hash and a look-up after
/// that; its exp is still compared with the wall clock each time.
///
/// Timing: with an unknown kid or a mismatched algorithm the signature is checked against another key
/// of the algorithm the token names, so that it costs what a wrong signature or a wrong audience costs.
class TokenVerifier {
 public:
  static constexpr std::size_t kMaxTokenBytes = 8 * 1024;

  /// `options` as validated() returned them. Fails with bad_input where the kind of `keys` does not fit
  /// options.mode: a shared secret serves in that mode only, and there nothing else does.
  static Result<std::unique_ptr<TokenVerifier>> create(Options options, std::shared_ptr<const JwkSet> keys);

  /// `wall` is for exp, nbf and iat; `steady` for the cache.
  tl::expected<Accepted, Rejection> verify(std::string_view token, std::chrono::system_clock::time_point wall,
                                           std::chrono::steady_clock::time_point steady);

  /// The token if it was verified before and is still remembered and in force: no signature is checked.
  /// For callers who share an address with somebody that guesses tokens.
  std::optional<Accepted> recall(std::string_view token, std::chrono::system_clock::time_point wall,
                                 std::chrono::steady_clock::time_point steady);

  /// Swaps the keys and forgets every verified token. Checks under way finish with the old keys, and
  /// what they find is not believed afterwards. Fails like create().
  Result<void> replace_keys(std::shared_ptr<const JwkSet> keys);
  /// Forgets every verified token, e.g. when what they may do or who is revoked changed.
  void invalidate();

  std::shared_ptr<const JwkSet> keys() const;
  TokenCache::Stats cache_stats() const { return cache_.stats(); }

 private:
  struct Snapshot {
    std::shared_ptr<const JwkSet> keys;
    std::uint64_t version;
  };
  TokenVerifier(Options options, std::shared_ptr<const JwkSet> keys)
      : options_(std::move(options)), cache_(options_.cache_entries), keys_(std::move(keys)) {}

  Snapshot snapshot() const;
  tl::expected<VerifiedToken, Rejection> verify_fresh(std::string_view token, const JwkSet& keys,
                                                      std::chrono::system_clock::time_point wall) const;

  const Options options_;
  TokenCache cache_;
  mutable std::mutex mutex_;  // guards keys_ and writes of version_; hits only read version_
  std::shared_ptr<const JwkSet> keys_;
  std::atomic<std::uint64_t> version_{0};
};

}  // namespace tunneld::access
