#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace tunneld::access {

/// A hash table of at most `capacity` entries that knows which was touched last. Entries stand in one
/// array and name each other by 32-bit numbers: no allocation an entry, and 12 bytes over key and value.
/// Memory is reserved at the start and used (paged in) as the table fills. Not thread-safe.
template <class Key, class Value>
class RecentTable {
 public:
  explicit RecentTable(std::size_t capacity)
      : capacity_(std::max<std::size_t>(1, capacity)), heads_(std::bit_ceil(capacity_), kNone) {
    nodes_.reserve(capacity_);
  }

  std::size_t size() const { return size_; }

  /// nullptr when there is none. Pointers hold until the next add() or erase().
  Value* find(const Key& key, std::uint64_t hash) {
    const std::uint32_t at = number_of(key, hash);
    return at == kNone ? nullptr : &nodes_[at].value;
  }

  /// find(), and makes it the one touched last.
  Value* touch(const Key& key, std::uint64_t hash) {
    const std::uint32_t at = number_of(key, hash);
    if (at == kNone) return nullptr;
    unlink(at);
    link_newest(at);
    return &nodes_[at].value;
  }

  /// For a key that is not there. A full table gives up an entry of which `spare(value)` holds: the oldest
  /// if it is one, else one of the next few it passes on its way round the table, else the oldest anyhow.
  template <class Spare>
  Value& add(const Key& key, std::uint64_t hash, Value value, const Spare& spare) {
    if (size_ == capacity_) remove(least_wanted(spare));
    std::uint32_t at;
    if (free_ != kNone) {
      at = std::exchange(free_, nodes_[free_].next);
    } else {
      at = static_cast<std::uint32_t>(nodes_.size());
      nodes_.emplace_back();
    }
    Node& node = nodes_[at];
    node.key = key;
    node.value = std::move(value);
    node.slot = slot(hash);
    node.next = std::exchange(heads_[node.slot], at);
    link_newest(at);
    ++size_;
    return node.value;
  }

  bool erase(const Key& key, std::uint64_t hash) {
    const std::uint32_t at = number_of(key, hash);
    if (at == kNone) return false;
    remove(at);
    return true;
  }

  /// From the newest to the oldest.
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (std::uint32_t at = newest_; at != kNone; at = nodes_[at].older)
      visit(nodes_[at].key, nodes_[at].value);
  }

 private:
  static constexpr std::uint32_t kNone = 0xffff'ffff;
  static constexpr std::uint32_t kProbes = 8;
  struct Node {
    Key key{};
    Value value{};
    std::uint32_t slot = 0;
    std::uint32_t next = kNone;  // in its chain, or in the list of free ones
    std::uint32_t newer = kNone, older = kNone;
  };

  std::uint32_t slot(std::uint64_t hash) const {
    return static_cast<std::uint32_t>(hash & (heads_.size() - 1));
  }
  std::uint32_t number_of(const Key& key, std::uint64_t hash) const {
    std::uint32_t at = heads_[slot(hash)];
    while (at != kNone && !(nodes_[at].key == key)) at = nodes_[at].next;
    return at;
  }

  template <class Spare>
  std::uint32_t least_wanted(const Spare& spare) {
    if (spare(nodes_[oldest_].value)) return oldest_;
    // Only a full table comes here: every node is in use.
    for (std::uint32_t i = 0; i < std::min<std::size_t>(kProbes, size_); ++i) {
      hand_ = (hand_ + 1) % static_cast<std::uint32_t>(size_);
      if (spare(nodes_[hand_].value)) return hand_;
    }
    return oldest_;
  }

  void link_newest(std::uint32_t at) {
    nodes_[at].newer = kNone;
    nodes_[at].older = newest_;
    (newest_ == kNone ? oldest_ : nodes_[newest_].newer) = at;
    newest_ = at;
  }
  void unlink(std::uint32_t at) {
    const Node& node = nodes_[at];
    (node.newer == kNone ? newest_ : nodes_[node.newer].older) = node.older;
    (node.older == kNone ? oldest_ : nodes_[node.older].newer) = node.newer;
  }
  void remove(std::uint32_t at) {
    unlink(at);
    Node& node = nodes_[at];
    std::uint32_t* link = &heads_[node.slot];
    while (*link != at) link = &nodes_[*link].next;
    *link = node.next;
    node.value = Value{};
    node.next = std::exchange(free_, at);
    --size_;
  }

  std::size_t capacity_;
  std::size_t size_ = 0;
  std::vector<std::uint32_t> heads_;
  std::vector<Node> nodes_;
  std::uint32_t free_ = kNone, newest_ = kNone, oldest_ = kNone, hand_ = 0;
};

/// RecentTables side by side, each with its own lock; the oldest entry of all is approximated by the
/// oldest of one shard. Small tables have one shard, and are exact. Thread-safe.
template <class Key, class Value>
class SharedTable {
 public:
  using Table = RecentTable<Key, Value>;

  explicit SharedTable(std::size_t capacity) {
    const std::size_t count = std::bit_floor(std::clamp<std::size_t>(capacity / 64, 1, 16));
    // The remainder is dealt out one by one, so that the total is exactly `capacity`.
    for (std::size_t i = 0; i < count; ++i)
      shards_.push_back(std::make_unique<Shard>(capacity / count + (i < capacity % count ? 1 : 0)));
  }

  /// Calls `use(table)` with the table of that key's hash, locked.
  template <class Use>
  auto with(std::uint64_t hash, const Use& use) {
    // The top bits: a table's slots are numbered by the low ones.
    Shard& shard = *shards_[(hash >> 60U) & (shards_.size() - 1)];
    const std::lock_guard lock(shard.mutex);
    return use(shard.table);
  }

  /// Calls `use(table)` with each table in turn, locked.
  template <class Use>
  void with_each(const Use& use) const {
    for (const auto& shard : shards_) {
      const std::lock_guard lock(shard->mutex);
      use(std::as_const(shard->table));
    }
  }

 private:
  /// On its own cache line, so that threads on different shards do not slow one another.
  struct alignas(64) Shard {
    explicit Shard(std::size_t capacity) : table(capacity) {}
    std::mutex mutex;
    Table table;
  };
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace tunneld::access
