#pragma once

#include "tunneld/tunnel/observer.h"

namespace tunneld::tunnel {

/// Ignores everything. For the admin listener itself, whose scrapes and probes are not traffic and must
/// not look like it, and as the base of observers that care about a few events.
class SilentObserver : public Observer {
 public:
  void socket_opened() override {}
  void socket_closed() override {}
  void socket_refused(std::string_view) override {}
  void setup_finished(std::string_view, Duration) override {}
  void websocket_opened(access::Tier, std::string_view) override {}
  void websocket_refused(std::string_view, Code) override {}
  void websocket_closed(access::Tier, std::string_view, std::uint16_t, Initiator, Duration) override {}
  void frame_rejected(std::string_view) override {}
  void request_rejected(std::string_view) override {}
  void heartbeat_rtt(Duration) override {}
  void heartbeat_timed_out() override {}
  void auth_attempt(bool, std::string_view) override {}
  void jwks_refreshed(bool) override {}
  void request_started(access::Tier) override {}
  void request_finished(access::Tier, Outcome, Duration, Duration) override {}
  void error_answered(Code) override {}
  void bytes(Side, std::size_t, std::size_t) override {}
  void ssh_session_opened(Duration) override {}
  void ssh_session_closed() override {}
  void ssh_error(std::string_view, std::string_view) override {}
  void channel_opened() override {}
  void channel_refused(std::string_view) override {}
  void channel_closed() override {}
  void waiting_for_channel(int) override {}
};

}  // namespace tunneld::tunnel
