#pragma once

#include "tunneld/tunnel/observer.h"

namespace tunneld::admin {

/// For the admin listener itself: scrapes and probes are not traffic and must not look like it.
class SilentObserver final : public tunnel::Observer {
 public:
  void socket_opened() override {}
  void socket_closed() override {}
  void socket_refused(std::string_view) override {}
  void setup_finished(std::string_view, Duration) override {}
  void websocket_opened(access::Tier, std::string_view) override {}
  void websocket_refused(std::string_view, tunnel::Code) override {}
  void websocket_closed(access::Tier, std::string_view, std::uint16_t, tunnel::Initiator, Duration) override {
  }
  void frame_rejected(std::string_view) override {}
  void request_rejected(std::string_view) override {}
  void heartbeat_rtt(Duration) override {}
  void heartbeat_timed_out() override {}
  void auth_attempt(bool, std::string_view) override {}
  void jwks_refreshed(bool) override {}
  void request_started(access::Tier) override {}
  void request_finished(access::Tier, tunnel::Outcome, Duration, Duration) override {}
  void error_answered(tunnel::Code) override {}
  void bytes(tunnel::Side, std::size_t, std::size_t) override {}
  void ssh_session_opened(Duration) override {}
  void ssh_session_closed() override {}
  void ssh_error(std::string_view, std::string_view) override {}
  void channel_opened() override {}
  void channel_refused(std::string_view) override {}
  void channel_closed() override {}
  void waiting_for_channel(int) override {}
};

}  // namespace tunneld::admin
