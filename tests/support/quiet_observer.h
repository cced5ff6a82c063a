#pragma once

#include <vector>

#include "tunnel/silent_observer.h"

namespace support {

/// Adds up bytes and remembers error codes; ignores the rest.
class QuietObserver : public tunnel::SilentObserver {
 public:
  struct Bytes {
    std::size_t received = 0;
    std::size_t sent = 0;
  };
  Bytes client;
  Bytes agent;
  std::vector<tunnel::Code> answered;

  void error_answered(tunnel::Code code) override { answered.push_back(code); }
  void bytes(tunnel::Side side, std::size_t received, std::size_t sent) override {
    auto& of = side == tunnel::Side::client ? client : agent;
    of.received += received;
    of.sent += sent;
  }
};

}  // namespace support
