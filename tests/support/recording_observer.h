#pragma once

#include <map>
#include <mutex>
#include <string>

#include "tunnel/observer.h"

namespace tunneld::test {

/// Counts everything reported, by "event" or "event:label". From any thread.
class RecordingObserver : public tunnel::Observer {
 public:
  int count(const std::string& event) const {
    const std::lock_guard lock(mutex_);
    const auto found = counts_.find(event);
    return found == counts_.end() ? 0 : found->second;
  }

  void socket_opened() override { note("socket_opened"); }
  void socket_closed() override { note("socket_closed"); }
  void socket_refused(std::string_view reason) override { note("socket_refused", reason); }
  void setup_finished(std::string_view phase, Duration) override { note("setup_finished", phase); }
  void websocket_opened(tunnel::Tier tier, std::string_view role) override {
    note("websocket_opened", std::string(role) + "," + tunnel::to_string(tier));
  }
  void websocket_refused(std::string_view role, tunnel::Code) override { note("websocket_refused", role); }
  void websocket_closed(tunnel::Tier, std::string_view, std::uint16_t code, tunnel::Initiator initiator,
                        Duration) override {
    note("websocket_closed",
         std::to_string(code) + (initiator == tunnel::Initiator::client ? ",client" : ",server"));
  }
  void frame_rejected(std::string_view reason) override { note("frame_rejected", reason); }
  void request_rejected(std::string_view reason) override { note("request_rejected", reason); }
  void heartbeat_rtt(Duration) override { note("heartbeat_rtt"); }
  void heartbeat_timed_out() override { note("heartbeat_timed_out"); }
  void compressed(tunnel::Side from, std::size_t, std::size_t) override {
    note("compressed", from == tunnel::Side::client ? "client" : "agent");
  }
  void auth_attempt(bool accepted, std::string_view) override {
    note("auth_attempt", accepted ? "ok" : "no");
  }
  void jwks_refreshed(bool ok) override { note("jwks_refreshed", ok ? "ok" : "no"); }
  void rate_limited(std::string_view scope, tunnel::Tier) override { note("rate_limited", scope); }
  void request_started(tunnel::Tier) override { note("request_started"); }
  void request_finished(const tunnel::FinishedRequest&) override { note("request_finished"); }
  void error_answered(tunnel::Code code) override { note("error_answered", tunnel::facts(code).name); }
  void bytes(tunnel::Side, std::size_t, std::size_t) override { note("bytes"); }
  void ssh_session_opened(Duration) override { note("ssh_session_opened"); }
  void ssh_session_closed() override { note("ssh_session_closed"); }
  void ssh_error(std::string_view phase, std::string_view) override { note("ssh_error", phase); }
  void channel_opened() override { note("channel_opened"); }
  void channel_refused(std::string_view result) override { note("channel_refused", result); }
  void channel_closed() override { note("channel_closed"); }
  void queue_entered(tunnel::Priority) override { note("queue_entered"); }
  void queue_left(tunnel::Priority, tunnel::QueueExit, Duration) override { note("queue_left"); }
  void queue_refused(tunnel::Priority) override { note("queue_refused"); }
  void flow_level_changed(tunnel::FlowLevel to) override {
    note("flow_level_changed", tunnel::to_string(to));
  }
  void breaker_changed(std::string_view to) override { note("breaker_changed", to); }

 private:
  void note(std::string_view event, std::string_view label = {}) {
    const std::lock_guard lock(mutex_);
    ++counts_[std::string(event)];
    if (!label.empty()) ++counts_[std::string(event).append(":").append(label)];
  }
  mutable std::mutex mutex_;
  std::map<std::string, int> counts_;
};

}  // namespace tunneld::test
