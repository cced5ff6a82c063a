#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "tunnel/principal.h"
#include "tunneld/access/digest.h"
#include "tunneld/access/verification_key.h"

namespace tunneld::access {

/// A token that was fully verified. Immutable and shared: a cache hit copies no strings.
struct VerifiedToken {
  tunnel::Principal principal;
  std::string key_id;  // empty when the token named none
  Algorithm algorithm = Algorithm::eddsa;
  // Of the principal; made once, as every request needs them.
  std::string principal_key;
  std::string principal_hash;
};

/// Verified tokens by SHA-256 of their text, so that neither memory nor a core dump of the table holds
/// a usable credential. Only successes are kept: forged tokens can neither fill it nor push others out.
/// Thread-safe; sixteen shards, each with its own lock and its own least-recently-used order, so the
/// oldest entry overall is approximated by the oldest of one shard.
class TokenCache {
 public:
  using Clock = std::chrono::steady_clock;
  using Entry = std::shared_ptr<const VerifiedToken>;
  struct Stats {
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
    std::uint64_t evictions = 0;  // pushed out while still fresh: the cache is too small
    std::size_t entries = 0;
  };

  /// `entries` is the maximum over all shards.
  explicit TokenCache(std::size_t entries);

  /// The entry put under the same `version` and still fresh at `now`, else nullptr. A stale one is dropped.
  Entry find(const Sha256& token, std::uint64_t version, Clock::time_point now);
  void put(const Sha256& token, std::uint64_t version, Clock::time_point fresh_until, Entry entry);
  void erase(const Sha256& token);
  Stats stats() const;

 private:
  struct Node {
    Sha256 token;
    std::uint64_t version;
    Clock::time_point fresh_until;
    Entry entry;
  };
  /// The key is a cryptographic hash already; any eight bytes of it will do.
  struct FirstBytes {
    std::size_t operator()(const Sha256& token) const {
      std::size_t value;
      std::memcpy(&value, token.data(), sizeof value);
      return value;
    }
  };
  /// On its own cache line, so that threads on different shards do not slow one another.
  struct alignas(64) Shard {
    mutable std::mutex mutex;
    std::list<Node> recent_first;
    std::unordered_map<Sha256, std::list<Node>::iterator, FirstBytes> by_token;
    Stats stats;
    std::size_t capacity = 0;
  };
  static constexpr std::size_t kShards = 16;

  Shard& shard(const Sha256& token) { return shards_[token.back() % kShards]; }

  std::array<Shard, kShards> shards_;
};

}  // namespace tunneld::access
