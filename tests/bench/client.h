#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "link.h"
#include "workload.h"

namespace bench {

/// What all workloads need on one thread: a loop, TLS settings, a deadline and the first failure.
class Client {
 public:
  Client(const Common& common, bool tls)
      : credentials_(common.credentials), give_up_(Clock::now() + common.give_up) {
    if (tls) tls_.emplace(credentials_);
  }

  Loop& loop() { return loop_; }
  std::unique_ptr<Link> dial(const Endpoint& to, Link::Owner& owner) {
    return std::make_unique<Link>(loop_, to, credentials_.token, tls_ ? &*tls_ : nullptr, owner);
  }
  const std::string& token() const { return credentials_.token; }

  void fail(const std::string& why) {
    if (failure_.empty()) failure_ = why.empty() ? "the peer ended the stream" : why;
  }

  /// Turns the loop until `done()`. Throws the first failure, or that it took too long.
  template <class Done>
  void run_until(Done done, Clock::time_point wake = Clock::time_point::max()) {
    while (!done()) {
      loop_.turn(std::min(give_up_, wake));
      if (!failure_.empty()) throw std::runtime_error(failure_);
      if (Clock::now() > give_up_) throw std::runtime_error("gave up: took longer than --give-up");
    }
  }

 private:
  Credentials credentials_;
  Clock::time_point give_up_;
  Loop loop_;
  std::optional<TlsClient> tls_;
  std::string failure_;
};

}  // namespace bench
