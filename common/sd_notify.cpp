#include "common/sd_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

namespace systemd {
namespace {

std::optional<std::uint64_t> number_from(const char* text) {
  if (text == nullptr) return std::nullopt;
  std::uint64_t value = 0;
  const char* end = text + std::strlen(text);
  auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

/// One line: a newline in a status would start another assignment.
std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

}  // namespace

ServiceManager::ServiceManager(std::string socket_path, std::optional<std::chrono::microseconds> watchdog)
    : path_(std::move(socket_path)), watchdog_(watchdog) {
  const bool usable = path_.size() > 1 && path_.size() < sizeof(sockaddr_un::sun_path) &&
                      (path_[0] == '/' || path_[0] == '@');
  if (usable) socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

ServiceManager::~ServiceManager() {
  if (socket_ >= 0) ::close(socket_);
}

ServiceManager::ServiceManager(ServiceManager&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)),
      path_(std::move(other.path_)),
      watchdog_(std::exchange(other.watchdog_, std::nullopt)) {}

ServiceManager& ServiceManager::operator=(ServiceManager&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(path_, other.path_);
  std::swap(watchdog_, other.watchdog_);
  return *this;
}

ServiceManager ServiceManager::from_environment() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return {};
  std::optional<std::chrono::microseconds> watchdog;
  const auto microseconds = number_from(std::getenv("WATCHDOG_USEC"));
  const auto pid = number_from(std::getenv("WATCHDOG_PID"));
  const bool for_us = !pid || *pid == static_cast<std::uint64_t>(::getpid());
  if (microseconds && *microseconds > 0 && *microseconds < INT64_MAX && for_us)
    watchdog = std::chrono::microseconds(static_cast<std::int64_t>(*microseconds));
  ServiceManager manager(path, watchdog);
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
  return manager;
}

void ServiceManager::ready(std::string_view text) const {
  send("READY=1\nSTATUS=" + one_line(text));
}

void ServiceManager::status(std::string_view text) const {
  send("STATUS=" + one_line(text));
}

void ServiceManager::reloading() const {
  // Type=notify-reload matches the reload by this clock.
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto microseconds = static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(microseconds));
}

void ServiceManager::stopping(std::string_view text) const {
  send("STOPPING=1\nSTATUS=" + one_line(text));
}

void ServiceManager::extend_timeout(std::chrono::microseconds by) const {
  send("EXTEND_TIMEOUT_USEC=" + std::to_string(by.count()));
}

void ServiceManager::ping_watchdog() const {
  send("WATCHDOG=1");
}

void ServiceManager::send(const std::string& text) const {
  if (socket_ < 0) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  const bool abstract = path_[0] == '@';
  if (abstract) address.sun_path[0] = '\0';
  // An abstract name ends with the length, a path with its NUL.
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size() + (abstract ? 0 : 1));
  (void)::sendto(socket_, text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                 length);
}

}  // namespace systemd
