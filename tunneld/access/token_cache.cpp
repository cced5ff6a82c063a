#include "tunneld/access/token_cache.h"

namespace tunneld::access {

TokenCache::TokenCache(std::size_t entries) {
  // The remainder is dealt out one by one, so that the total is exactly `entries`.
  for (std::size_t i = 0; i < kShards; ++i)
    shards_[i].capacity = entries / kShards + (i < entries % kShards ? 1 : 0);
}

TokenCache::Entry TokenCache::find(const Sha256& token, std::uint64_t version, Clock::time_point now) {
  Shard& shard = this->shard(token);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.by_token.find(token);
  if (found == shard.by_token.end()) {
    ++shard.stats.misses;
    return nullptr;
  }
  const auto node = found->second;
  if (node->version != version || now >= node->fresh_until) {
    shard.by_token.erase(found);
    shard.recent_first.erase(node);
    ++shard.stats.misses;
    return nullptr;
  }
  shard.recent_first.splice(shard.recent_first.begin(), shard.recent_first, node);
  ++shard.stats.hits;
  return node->entry;
}

void TokenCache::put(const Sha256& token, std::uint64_t version, Clock::time_point fresh_until, Entry entry) {
  Shard& shard = this->shard(token);
  const std::lock_guard lock(shard.mutex);
  if (shard.capacity == 0) return;
  if (const auto found = shard.by_token.find(token); found != shard.by_token.end()) {
    // Two threads verified the same token at once; the later one knows at least as much.
    *found->second = Node{token, version, fresh_until, std::move(entry)};
    shard.recent_first.splice(shard.recent_first.begin(), shard.recent_first, found->second);
    return;
  }
  if (shard.by_token.size() == shard.capacity) {
    shard.by_token.erase(shard.recent_first.back().token);
    shard.recent_first.pop_back();
    ++shard.stats.evictions;
  }
  shard.recent_first.push_front(Node{token, version, fresh_until, std::move(entry)});
  shard.by_token.emplace(token, shard.recent_first.begin());
}

void TokenCache::erase(const Sha256& token) {
  Shard& shard = this->shard(token);
  const std::lock_guard lock(shard.mutex);
  if (const auto found = shard.by_token.find(token); found != shard.by_token.end()) {
    shard.recent_first.erase(found->second);
    shard.by_token.erase(found);
  }
}

TokenCache::Stats TokenCache::stats() const {
  Stats total;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total.hits += shard.stats.hits;
    total.misses += shard.stats.misses;
    total.evictions += shard.stats.evictions;
    total.entries += shard.by_token.size();
  }
  return total;
}

}  // namespace tunneld::access
