#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"
#include "common/sd_notify.h"
#include "tunnelctl/client/client_state.h"
#include "tunnelctl/client/client_state_file.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// Says how a running client does: in its state file, which `tunnelctl status --clients` reads, and to
/// systemd, which learns that it is ready with the first connection, every change of state, the end, and that
/// the event loop turns (watchdog).
/// Threads: the context's one. The file is gone with the object.
class ClientReport {
 public:
  struct Parts {
    ClientState state{};
    std::filesystem::path folder{};  // of state files; empty: no file
    systemd::ServiceManager manager{};
    std::function<ClientFigures()> figures{};  // asked every now and then; may be null
    std::chrono::milliseconds every{2'000};
  };
  ClientReport(asio::io_context& io, Parts parts);
  ClientReport(const ClientReport&) = delete;
  ClientReport& operator=(const ClientReport&) = delete;

  /// Fails, and goes on without a file, when there can be none.
  Result<void> start();
  void on_state(const StateChange& change);
  void on_attempt(const Attempt& attempt);
  /// What a person should know and what is no change of state.
  void on_notice(std::string_view what);
  /// It is going to end.
  void stopping(std::string_view what);

  const ClientState& state() const { return parts_.state; }

 private:
  void write();
  void look_again();
  void ping_watchdog();

  Parts parts_;
  std::unique_ptr<ClientStateFile> file_{};
  std::string written_{};
  bool ready_ = false;
  bool stopping_ = false;
  asio::steady_timer look_timer_;
  asio::steady_timer watchdog_timer_;
};

}  // namespace tunnelctl::client
