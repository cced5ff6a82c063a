#pragma once

#include <vector>

#include "tunneld/tunnel/observer.h"

namespace support {

namespace tunnel = tunneld::tunnel;
namespace access = tunneld::access;

/// Adds up bytes and remembers error codes; ignores the rest.
class QuietObserver : public tunnel::Observer {
 public:
  struct Bytes {
    std::size_t received = 0;
    std::size_t sent = 0;
  };
  Bytes client;
  Bytes agent;
  std::vector<tunnel::Code> answered;

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
  void error_answered(tunnel::Code code) override { answered.push_back(code); }
  void bytes(tunnel::Side side, std::size_t received, std::size_t sent) override {
    auto& of = side == tunnel::Side::client ? client : agent;
    of.received += received;
    of.sent += sent;
  }
  void ssh_session_opened(Duration) override {}
  void ssh_session_closed() override {}
  void ssh_error(std::string_view, std::string_view) override {}
  void channel_opened() override {}
  void channel_refused(std::string_view) override {}
  void channel_closed() override {}
  void waiting_for_channel(int) override {}
};

}  // namespace support
