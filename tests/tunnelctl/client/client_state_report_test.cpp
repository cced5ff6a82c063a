#include "tunnelctl/client/client_state_report.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/tunnelctl/client/temporary_folder.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::ElementsAre;

/// What systemd has at the other end.
class NotifySocket {
 public:
  explicit NotifySocket(std::filesystem::path path) : path_(std::move(path)) {
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path_.c_str());
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~NotifySocket() { ::close(fd_); }
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;
  /// What has come since the last look.
  std::vector<std::string> received() {
    std::vector<std::string> all;
    std::array<char, 1024> buffer{};
    for (;;) {
      const auto got = ::recv(fd_, buffer.data(), buffer.size(), 0);
      if (got < 0) return all;
      all.emplace_back(buffer.data(), static_cast<std::size_t>(got));
    }
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

class ClientReports : public testing::Test {
 protected:
  ClientReport::Parts parts() {
    ClientReport::Parts made;
    made.state.kind = "connect";
    made.state.server = "wss://h";
    made.folder = folder;
    made.figures = [this] { return figures; };
    made.every = 1ms;
    return made;
  }
  void tell(ClientReport& report, State state, const std::string& why = {}) {
    report.on_state({.at = std::chrono::system_clock::now(), .state = state, .why = why});
  }
  json read() {
    const auto states = read_client_states(folder);
    EXPECT_TRUE(states && states->size() == 1);
    return states && states->size() == 1 ? states->front() : json::object();
  }
  template <class Condition>
  bool until(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + 10s;
    io.restart();
    while (!condition() && std::chrono::steady_clock::now() < give_up) io.run_one_for(10ms);
    return condition();
  }

  asio::io_context io{1};
  const TemporaryFolder above;
  const std::filesystem::path folder = above.path() / "tunnelctl";
  ClientFigures figures;
};

TEST_F(ClientReports, EveryChangeIsInTheFileAtOnce) {
  ClientReport report(io, parts());
  ASSERT_TRUE(report.start());
  EXPECT_EQ(read()["state"], "disconnected");
  tell(report, State::connecting);
  EXPECT_EQ(read()["state"], "connecting");
  report.on_attempt({.at = std::chrono::system_clock::now(), .cause = "first", .outcome = "refused"});
  EXPECT_EQ(read()["attempts"], 1);
  tell(report, State::connected, "wss://h");
  EXPECT_EQ(read()["state"], "connected");
  report.on_notice("the token ends");
  EXPECT_EQ(read()["events"].back()["what"], "the token ends");
}

TEST_F(ClientReports, FiguresFollowAfterAMoment) {
  ClientReport report(io, parts());
  ASSERT_TRUE(report.start());
  figures.bytes_in = 4711;
  figures.queue_capacity = 100;
  EXPECT_TRUE(until([&] { return read()["bytes"]["in"] == 4711; }));
  EXPECT_EQ(read()["queueCapacity"], 100);
}

TEST_F(ClientReports, SystemdHearsOfReadinessOnceAndOfEveryState) {
  std::filesystem::create_directory(folder);
  NotifySocket systemd(above.path() / "notify");
  auto with = parts();
  with.folder.clear();
  with.manager = systemd::ServiceManager(systemd.path());
  ClientReport report(io, std::move(with));
  ASSERT_TRUE(report.start());
  EXPECT_THAT(systemd.received(), testing::IsEmpty());
  tell(report, State::connecting, "wss://h");
  tell(report, State::connected, "wss://h");
  tell(report, State::reconnecting, "the connection broke");
  tell(report, State::connected, "wss://h");
  EXPECT_THAT(systemd.received(),
              ElementsAre("STATUS=connecting: wss://h", "READY=1\nSTATUS=connected: wss://h",
                          "STATUS=reconnecting: the connection broke", "STATUS=connected: wss://h"));
  report.stopping("stopping");
  report.stopping("stopping");
  tell(report, State::disconnected, "closed");
  EXPECT_THAT(systemd.received(), ElementsAre("STOPPING=1\nSTATUS=stopping"));
}

TEST_F(ClientReports, TheWatchdogIsFedWhileTheLoopTurns) {
  NotifySocket systemd(above.path() / "notify");
  auto with = parts();
  with.manager = systemd::ServiceManager(systemd.path(), 20ms);
  ClientReport report(io, std::move(with));
  ASSERT_TRUE(report.start());
  std::size_t fed = 0;
  EXPECT_TRUE(until([&] {
    fed += systemd.received().size();
    return fed >= 3;
  }));
}

TEST_F(ClientReports, GoOnWithoutAFileWhereThereCanBeNone) {
  auto with = parts();
  with.folder = "/proc/nowhere/tunnelctl";
  ClientReport report(io, std::move(with));
  EXPECT_FALSE(report.start());
  tell(report, State::connected);
  EXPECT_EQ(report.state().state, State::connected);
}

}  // namespace
}  // namespace tunnelctl::client
