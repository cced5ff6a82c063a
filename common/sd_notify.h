#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace systemd {

/// Tells the service manager how this program is doing, by datagrams to $NOTIFY_SOCKET.
/// Source: sd_notify(3); the protocol is stable and needs no library. Without a service manager every
/// call does nothing. Sending never blocks and never fails loudly: a lost status line is no reason to
/// stop working.
class ServiceManager {
 public:
  ServiceManager() = default;
  /// `socket_path` as in $NOTIFY_SOCKET: absolute, or '@' and an abstract name.
  explicit ServiceManager(std::string socket_path,
                          std::optional<std::chrono::microseconds> watchdog = std::nullopt);
  ~ServiceManager();
  ServiceManager(ServiceManager&& other) noexcept;
  ServiceManager& operator=(ServiceManager&& other) noexcept;

  /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them from the environment so
  /// that no child mistakes itself for the service.
  static ServiceManager from_environment();

  bool present() const { return socket_ >= 0; }
  /// How often the manager wants to hear from us: ping at half of it.
  std::optional<std::chrono::microseconds> watchdog() const { return watchdog_; }

  void ready(std::string_view status) const;
  void status(std::string_view text) const;
  /// A reload begins; end it with ready().
  void reloading() const;
  void stopping(std::string_view status) const;
  /// Asks for that much more time, e.g. while draining.
  void extend_timeout(std::chrono::microseconds by) const;
  void ping_watchdog() const;

 private:
  void send(const std::string& text) const;

  int socket_ = -1;
  std::string path_;
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace systemd
