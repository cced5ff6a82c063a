#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace tunneld {

/// Which principals have something under way on one thread. A thread's own requests change it; the
/// scrape merges the tables of all threads, so its lock is almost never contended.
class ActiveUsers {
 public:
  /// Counts one request or stream of a principal while it lives.
  class Stay {
   public:
    Stay(ActiveUsers& users, std::string key) : users_(users), key_(std::move(key)) {
      const std::lock_guard lock(users_.mutex_);
      ++users_.counts_[key_];
    }
    ~Stay() {
      const std::lock_guard lock(users_.mutex_);
      const auto found = users_.counts_.find(key_);
      if (--found->second == 0) users_.counts_.erase(found);
    }
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

   private:
    ActiveUsers& users_;
    std::string key_;
  };

  void add_to(std::unordered_set<std::string>& everybody) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, count] : counts_) everybody.insert(key);
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::size_t> counts_;
};

}  // namespace tunneld
