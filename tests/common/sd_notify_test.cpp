#include "common/sd_notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace systemd {
namespace {

/// What systemd has at the other end.
class NotifySocket {
 public:
  NotifySocket() {
    std::string pattern = "/tmp/notify-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    path_ = directory_ / "notify";
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path_.c_str());
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~NotifySocket() {
    ::close(fd_);
    std::filesystem::remove_all(directory_);
  }
  /// The next datagram, or "" when there is none: they arrive before sendto() returns.
  std::string received() {
    std::array<char, 1024> buffer{};
    const auto got = ::recv(fd_, buffer.data(), buffer.size(), 0);
    return got < 0 ? std::string{} : std::string(buffer.data(), static_cast<std::size_t>(got));
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path directory_;
  std::filesystem::path path_;
  int fd_ = -1;
};

TEST(ServiceManager, HearsEveryStateOfTheProgram) {
  NotifySocket systemd;
  const ServiceManager manager(systemd.path());
  ASSERT_TRUE(manager.present());
  manager.ready("serving on 127.0.0.1:3001");
  EXPECT_EQ(systemd.received(), "READY=1\nSTATUS=serving on 127.0.0.1:3001");
  manager.status("two\nlines=1");  // must not start another assignment
  EXPECT_EQ(systemd.received(), "STATUS=two lines=1");
  manager.reloading();
  EXPECT_TRUE(systemd.received().starts_with("RELOADING=1\nMONOTONIC_USEC="));
  manager.stopping("draining");
  EXPECT_EQ(systemd.received(), "STOPPING=1\nSTATUS=draining");
  manager.extend_timeout(std::chrono::seconds(2));
  EXPECT_EQ(systemd.received(), "EXTEND_TIMEOUT_USEC=2000000");
  manager.ping_watchdog();
  EXPECT_EQ(systemd.received(), "WATCHDOG=1");
}

TEST(ServiceManager, IsTakenFromTheEnvironmentOnce) {
  NotifySocket systemd;
  ::setenv("NOTIFY_SOCKET", systemd.path().c_str(), 1);
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  const auto manager = ServiceManager::from_environment();
  EXPECT_TRUE(manager.present());
  EXPECT_EQ(manager.watchdog(), std::chrono::seconds(30));
  EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr);
  EXPECT_FALSE(ServiceManager::from_environment().present());
}

TEST(ServiceManager, AWatchdogMeantForAnotherProcessIsNotOurs) {
  NotifySocket systemd;
  for (const auto* pid : {"1", "12x"}) {
    ::setenv("NOTIFY_SOCKET", systemd.path().c_str(), 1);
    ::setenv("WATCHDOG_USEC", "30000000", 1);
    ::setenv("WATCHDOG_PID", pid, 1);
    const auto manager = ServiceManager::from_environment();
    EXPECT_EQ(manager.watchdog().has_value(), std::string(pid) == "12x") << pid;
  }
}

TEST(ServiceManager, NobodyListeningIsNoTrouble) {
  const ServiceManager none;
  none.ready("nobody hears");
  EXPECT_FALSE(none.present());
  const ServiceManager gone("/nonexistent/notify");
  gone.ready("nobody hears");
  EXPECT_FALSE(ServiceManager("relative/path").present());
  EXPECT_FALSE(ServiceManager(std::string(200, '/')).present());
}

}  // namespace
}  // namespace systemd
