#pragma once

#include <functional>
#include <map>
#include <string>

#include "tests/support/quiet_observer.h"

namespace support {

/// Keeps what the far side's rooms report, for tests to look at.
class SshObserver : public QuietObserver {
 public:
  int sessions = 0;  // open now
  int channels = 0;  // open now
  int waiting = 0;   // now
  int queued = 0;    // ever
  std::map<tunnel::QueueExit, int> exits;
  std::function<void(tunnel::QueueExit)> when_left;
  std::map<std::string, int> errors;    // by "phase/reason"
  std::map<std::string, int> refusals;  // by result

  void ssh_session_opened(Duration) override { ++sessions; }
  void ssh_session_closed() override { --sessions; }
  void ssh_error(std::string_view phase, std::string_view reason) override {
    ++errors[std::string(phase) + "/" + std::string(reason)];
  }
  void channel_opened() override { ++channels; }
  void channel_refused(std::string_view result) override { ++refusals[std::string(result)]; }
  void channel_closed() override { --channels; }
  void queue_entered(tunnel::Priority) override {
    ++waiting;
    ++queued;
  }
  void queue_left(tunnel::Priority, tunnel::QueueExit how, Duration) override {
    --waiting;
    ++exits[how];
    if (when_left) when_left(how);
  }
};

}  // namespace support
