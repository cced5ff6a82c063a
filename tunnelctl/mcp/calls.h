#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "tunnelctl/mcp/tool.h"

namespace tunnelctl::mcp {

/// Runs calls in a few threads. Each ends exactly once: done, cancelled or too late.
class Calls {
 public:
  struct Options {
    std::size_t at_once = 4;   // as many questions as assistants ask in one go
    std::size_t waiting = 64;  // more are refused
    /// From when it came, waiting included. Assistants' programs themselves give up after about a minute.
    std::chrono::milliseconds deadline{55'000};
  };
  enum class Ended {
    done,
    cancelled,  // no answer is wanted
    late,       // the deadline passed
    stopped,    // the server ends
  };
  using Work = std::function<Outcome(std::stop_token)>;
  using Report = std::function<void(Ended, Outcome)>;
  enum class Taken { yes, known, full };

  explicit Calls(Options options);
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;
  /// As finish() without patience.
  ~Calls();

  /// `key` names it until it ended. `report` is called once, from another thread or from within cancel() or
  /// finish(), and must not call back. Work that a stop does not end at once goes on unheard.
  Taken start(const std::string& key, Work work, Report report);
  /// An unknown key is passed over: it may have ended just now.
  void cancel(const std::string& key);
  /// Stops all and lets nothing new begin; waits for nothing. From any thread.
  void stop();
  /// Waits that long for what was begun, then stops the rest and waits for its threads. Nothing starts after.
  void finish(std::chrono::milliseconds patience);

 private:
  using Clock = std::chrono::steady_clock;
  struct Call {
    std::string key{};
    Work work{};
    Report report{};
    Clock::time_point deadline{};
    std::stop_source stop{};
  };

  void work();
  void keep_time();
  /// Takes it out, so that whoever got it may report; nullptr when somebody else did.
  std::shared_ptr<Call> taken_out(const std::string& key, const Call* only);

  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<Call>> open_;  // not reported yet
  std::deque<std::shared_ptr<Call>> waiting_;          // among them those that no thread took
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tunnelctl::mcp
