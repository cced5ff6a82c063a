#pragma once

#include "tunnel/observer.h"

namespace tunnel {

/// Ignores everything. For the admin listener itself, whose scrapes and probes are not traffic and must
/// not look like it, and as the base of observers that care about a few events.
class SilentObserver : public Observer {
 public:
  void socket_opened() override {}
  void socket_closed() override {}
  void socket_refused(std::string_view) override {}
  void setup_finished(std::string_view, Duration) override {}
  void websocket_opened(tunnel::Tier, std::string_view) override {}
  void websocket_refused(std::string_view, Code) override {}
  void websocket_closed(tunnel::Tier, std::string_view, std::uint16_t, Initiator, Duration) override {}
  void frame_rejected(std::string_view) override {}
  void request_rejected(std::string_view) override {}
  void heartbeat_rtt(Duration) override {}
  void heartbeat_timed_out() override {}
  void compressed(Side, std::size_t, std::size_t) override {}
  void auth_attempt(bool, std::string_view) override {}
  void jwks_refreshed(bool) override {}
  void rate_limited(std::string_view, tunnel::Tier) override {}
  void request_started(tunnel::Tier) override {}
  void request_finished(const FinishedRequest&) override {}
  void error_answered(Code) override {}
  void bytes(Side, std::size_t, std::size_t) override {}
  void ssh_session_opened(Duration) override {}
  void ssh_session_closed() override {}
  void ssh_error(std::string_view, std::string_view) override {}
  void channel_opened() override {}
  void channel_refused(std::string_view) override {}
  void channel_closed() override {}
  void queue_entered(Priority) override {}
  void queue_left(Priority, QueueExit, Duration) override {}
  void queue_refused(Priority) override {}
  void flow_level_changed(FlowLevel) override {}
  void breaker_changed(std::string_view) override {}
};

}  // namespace tunnel
