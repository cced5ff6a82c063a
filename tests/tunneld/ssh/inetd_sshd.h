#pragma once

#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "tests/support/ssh_lab.h"
#include "tunnel/byte_stream.h"
#include "tunnel/wakeup.h"
#include "tunneld/ssh/identity.h"

namespace support {

namespace asio = boost::asio;

/// A socket of a pair as a ByteStream whose faults a test can set.
class SocketStream final : public tunnel::ByteStream {
 public:
  using Socket = asio::local::stream_protocol::socket;
  explicit SocketStream(Socket socket) : socket_(std::move(socket)) {}

  std::size_t most_per_read = std::size_t{1} << 30;
  unsigned writes = 0;
  /// Writers wait until release().
  bool hold_writes = false;
  void release() {
    hold_writes = false;
    released_.notify();
  }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    const auto size = std::min(into.size(), most_per_read);
    const auto [error, got] = co_await socket_.async_read_some(asio::buffer(into.data(), size), kAwait);
    if (error == asio::error::eof) co_return std::size_t{0};
    if (error) co_return fail(Error::Kind::unavailable, error.message());
    co_return got;
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    ++writes;
    while (hold_writes) {
      const bool woken = co_await released_.wait();
      if (!woken) co_return fail(Error::Kind::cancelled, "closed");
    }
    const auto [error, sent] =
        co_await asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()), kAwait);
    if (error) co_return fail(Error::Kind::unavailable, error.message());
    co_return Result<void>{};
  }
  asio::awaitable<Result<void>> shutdown_write() override {
    socket_.shutdown(Socket::shutdown_send);
    co_return Result<void>{};
  }
  void close() noexcept override {
    boost::system::error_code ignored;
    socket_.close(ignored);
    released_.cancel();
  }

 private:
  static constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
  Socket socket_;
  tunnel::Wakeup released_;
};

/// `sshd -i`, as an agent runs it: one process for each session, on one end of a socket pair, with the given
/// public key for the current user.
class InetdSshd {
 public:
  explicit InetdSshd(const std::string& authorized_key, const std::string& extra = {}) {
    const auto folder = folder_.path();
    if (const passwd* entry = ::getpwuid(::getuid())) user_ = entry->pw_name;
    // As root sshd insists on its separation folder; as anybody else it does without.
    if (::getuid() == 0) std::filesystem::create_directories("/run/sshd");
    auto host_key = tunneld::ssh::Identity::load_or_create(folder / "host_key", "host");
    if (!host_key) throw std::runtime_error(host_key.error().message);
    fingerprint_ = host_key->fingerprint();
    host_key_line_ = host_key->public_line();
    std::ofstream(folder / "authorized_keys") << authorized_key << "\n";
    std::ofstream(folder / "sshd_config")
        << "HostKey " << (folder / "host_key").string() << "\n"
        << "AuthorizedKeysFile " << (folder / "authorized_keys").string() << "\n"
        << "StrictModes no\nPidFile none\nUsePAM no\nLogLevel DEBUG\n"
           "PasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthenticationMethods publickey\n"
           "PermitRootLogin prohibit-password\nAllowTcpForwarding local\nPermitListen none\n"
           "AllowStreamLocalForwarding no\nAllowAgentForwarding no\nPermitTTY no\nX11Forwarding no\n"
           "PermitTunnel no\nForceCommand /bin/false\nPermitUserRC no\n"
           "KexAlgorithms curve25519-sha256\nCiphers aes256-gcm@openssh.com\n"
        << extra << "\n";
  }
  ~InetdSshd() {
    for (const pid_t pid : processes_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }

  const std::string& user() const { return user_; }
  const std::string& host_key_fingerprint() const { return fingerprint_; }
  const std::string& host_key_line() const { return host_key_line_; }

  /// A fresh one, and the stream to it.
  std::unique_ptr<SocketStream> start(asio::io_context& io) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::runtime_error("no socket pair");
    const std::string configuration = (folder_.path() / "sshd_config").string();
    const std::string log = (folder_.path() / "log").string();
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // dies with the test, whatever happens to it
      ::dup2(ends[1], 0);
      ::dup2(ends[1], 1);
      ::execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-i", "-f", configuration.c_str(), "-E", log.c_str(),
              nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    processes_.push_back(pid);
    return std::make_unique<SocketStream>(SocketStream::Socket(io, asio::local::stream_protocol(), ends[0]));
  }
  std::size_t started() const { return processes_.size(); }
  /// Whether all have ended by themselves.
  bool all_gone() {
    std::erase_if(processes_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) == pid; });
    return processes_.empty();
  }
  void kill_all() {
    for (const pid_t pid : processes_) ::kill(pid, SIGKILL);
  }
  std::string log() const {
    std::ostringstream text;
    text << std::ifstream(folder_.path() / "log").rdbuf();
    return text.str();
  }

 private:
  TemporaryFolder folder_;
  std::string user_, fingerprint_, host_key_line_;
  std::vector<pid_t> processes_;
};

}  // namespace support
