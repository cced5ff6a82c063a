#include "tunneld/admin/user_table.h"

#include <algorithm>
#include <list>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace tunneld::admin {
namespace {

constexpr std::size_t kShards = 16;

std::size_t shard_of(std::string_view key) {
  // Not the bits that the tables themselves choose their buckets by.
  return (std::hash<std::string_view>{}(key) >> 32U) % kShards;
}

}  // namespace

struct UserTable::Entry {
  std::string key;
  std::uint64_t turn = 0;  // when it was last seen, in calls: clocks may be set
  Usage usage;
};

struct UserTable::Shard {
  mutable std::mutex mutex;
  std::list<Entry> by_age;                                                  // the one seen last in front
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key;  // views of the entries' keys

  void drop_oldest() {
    by_key.erase(by_age.back().key);
    by_age.pop_back();
  }
};

UserTable::UserTable(std::size_t max_users)
    : max_users_(std::max<std::size_t>(max_users, 1)), shards_(std::make_unique<Shard[]>(kShards)) {}
UserTable::~UserTable() = default;

template <class Change>
void UserTable::change(std::string_view key, WallTime now, const Change& apply) {
  auto& shard = shards_[shard_of(key)];
  bool added = false;
  {
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.by_key.find(key);
    if (found != shard.by_key.end()) {
      shard.by_age.splice(shard.by_age.begin(), shard.by_age, found->second);
    } else {
      auto& entry = shard.by_age.emplace_front();
      entry.key = key;
      entry.usage.hash = tunnel::principal_hash(key);
      entry.usage.first_seen = now;
      shard.by_key.emplace(entry.key, shard.by_age.begin());
      added = true;
    }
    shard.by_age.front().turn = turn_.fetch_add(1, std::memory_order_relaxed);
    auto& usage = shard.by_age.front().usage;
    usage.last_seen = now;
    apply(usage);
  }
  if (added && size_.fetch_add(1, std::memory_order_relaxed) >= max_users_) drop_oldest();
}

/// Of all users the one not seen for longest. Looks at one user a shard; only strangers to a full table
/// pay for it.
void UserTable::drop_oldest() {
  for (;;) {
    Shard* oldest = nullptr;
    std::uint64_t turn = 0;
    for (std::size_t i = 0; i < kShards; ++i) {
      const std::lock_guard lock(shards_[i].mutex);
      if (shards_[i].by_age.empty()) continue;
      const auto last = shards_[i].by_age.back().turn;
      if (oldest != nullptr && last >= turn) continue;
      oldest = &shards_[i];
      turn = last;
    }
    if (oldest == nullptr) return;
    const std::lock_guard lock(oldest->mutex);
    // It has been seen or dropped meanwhile: look again, or somebody who is here would go.
    if (oldest->by_age.empty() || oldest->by_age.back().turn != turn) continue;
    oldest->drop_oldest();
    size_.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
}

void UserTable::request_finished(std::string_view key, const Request& request, WallTime now) {
  change(key, now, [&](Usage& usage) {
    usage.tier = request.tier;
    ++usage.requests;
    if (request.failed) ++usage.errors;
    usage.total_time += request.took;
    usage.bytes_in += request.bytes_in;
    usage.bytes_out += request.bytes_out;
  });
}

void UserTable::connection_opened(std::string_view key, tunnel::Tier tier, WallTime now) {
  change(key, now, [&](Usage& usage) {
    usage.tier = tier;
    ++usage.open_connections;
  });
}

void UserTable::connection_closed(std::string_view key, std::uint64_t bytes_in, std::uint64_t bytes_out,
                                  WallTime now) {
  change(key, now, [&](Usage& usage) {
    if (usage.open_connections > 0) --usage.open_connections;  // none: it was dropped meanwhile
    usage.bytes_in += bytes_in;
    usage.bytes_out += bytes_out;
  });
}

std::optional<UserTable::Usage> UserTable::find(std::string_view key) const {
  const auto& shard = shards_[shard_of(key)];
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.by_key.find(key);
  if (found == shard.by_key.end()) return std::nullopt;
  return found->second->usage;
}

std::optional<UserTable::Usage> UserTable::find_hash(std::string_view hash) const {
  for (std::size_t i = 0; i < kShards; ++i) {
    const std::lock_guard lock(shards_[i].mutex);
    for (const auto& entry : shards_[i].by_age)
      if (entry.usage.hash == hash) return entry.usage;
  }
  return std::nullopt;
}

std::vector<UserTable::Usage> UserTable::busiest(std::size_t limit) const {
  std::vector<Usage> users;
  for (std::size_t i = 0; i < kShards; ++i) {
    const std::lock_guard lock(shards_[i].mutex);
    for (const auto& entry : shards_[i].by_age) users.push_back(entry.usage);
  }
  const auto before = [](const Usage& a, const Usage& b) {
    return a.requests != b.requests ? a.requests > b.requests : a.hash < b.hash;
  };
  limit = std::min(limit, users.size());
  std::partial_sort(users.begin(), users.begin() + static_cast<std::ptrdiff_t>(limit), users.end(), before);
  users.resize(limit);
  return users;
}

}  // namespace tunneld::admin
