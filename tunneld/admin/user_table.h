#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tunnel/principal.h"

namespace tunneld::admin {

/// What each principal did since it was first seen here. Bounded: past `max_users` the one not seen for
/// longest goes, and begins anew if it comes back. Never a source of metrics' labels.
/// Any thread; a call costs one look-up under a lock that a sixteenth of the users share.
class UserTable {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  explicit UserTable(std::size_t max_users = 10'000);
  ~UserTable();

  struct Request {
    tunnel::Tier tier = tunnel::Tier::free;
    bool failed = false;
    std::chrono::steady_clock::duration took{};
    std::uint64_t bytes_in = 0;   // from the caller
    std::uint64_t bytes_out = 0;  // to the caller
  };
  /// `key` is Principal::key().
  void request_finished(std::string_view key, const Request& request, WallTime now);
  void connection_opened(std::string_view key, tunnel::Tier tier, WallTime now);
  /// `bytes_*`: what it carried beside requests told by themselves.
  void connection_closed(std::string_view key, std::uint64_t bytes_in, std::uint64_t bytes_out, WallTime now);

  struct Usage {
    std::string hash;
    tunnel::Tier tier = tunnel::Tier::free;  // as last seen
    std::uint64_t requests = 0;
    std::uint64_t errors = 0;
    std::chrono::steady_clock::duration total_time{};  // of the requests
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
    std::uint64_t open_connections = 0;
    WallTime first_seen{};
    WallTime last_seen{};
  };
  std::optional<Usage> find(std::string_view key) const;
  std::optional<Usage> find_hash(std::string_view hash) const;
  /// Those with the most requests first, ties by hash.
  std::vector<Usage> busiest(std::size_t limit) const;
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  struct Shard;
  struct Entry;
  template <class Change>
  void change(std::string_view key, WallTime now, const Change& apply);
  void drop_oldest();

  const std::size_t max_users_;
  std::atomic<std::size_t> size_{0};
  std::atomic<std::uint64_t> turn_{0};
  std::unique_ptr<Shard[]> shards_;
};

}  // namespace tunneld::admin
