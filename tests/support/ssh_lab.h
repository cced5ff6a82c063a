#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

/// A real OpenSSH server on a free loopback port, and small TCP services behind it, for tests.
namespace support {

/// A folder under the temporary directory, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Accepts on a free loopback port and runs `serve` on a thread of its own for each connection.
/// `serve` gets a blocking socket, which is closed after it.
class TcpService {
 public:
  explicit TcpService(std::function<void(int socket)> serve);
  ~TcpService();
  std::uint16_t port() const { return port_; }

 private:
  void accept_all();
  std::function<void(int)> serve_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::thread acceptor_;
  struct Connections;
  std::shared_ptr<Connections> connections_;
};

/// Sends back what comes, half-close included.
void echo(int socket);

/// Passes bytes between its port and `target`, changing one byte on the way.
struct Tamper {
  bool towards_server = false;
  std::size_t offset = 0;  // of the byte to flip, counted per connection in that direction
};
std::unique_ptr<TcpService> tampering_proxy(std::uint16_t target, Tamper tamper);

struct SshdOptions {
  std::string extra_configuration;  // further lines for sshd_config
  std::string first_lines;          // lines that win over the usual ones
};

/// sshd with a configuration of its own: curve25519, aes256-gcm, the given public key for the current
/// user. Ready when constructed; throws with sshd's log when it does not start.
class Sshd {
 public:
  Sshd(const std::string& authorized_key, const SshdOptions& options = {});
  ~Sshd();
  std::uint16_t port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  const std::string& user() const { return user_; }
  const std::string& host_key_fingerprint() const { return fingerprint_; }
  /// "ssh-ed25519 AAAA…" of its host key.
  const std::string& host_key_line() const { return host_key_line_; }
  std::filesystem::path folder() const { return folder_.path(); }
  std::string log() const;
  /// The processes serving sessions (children of the listener).
  std::vector<pid_t> session_processes() const;
  void kill_all();

 private:
  TemporaryFolder folder_;
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
  std::string user_;
  std::string fingerprint_;
  std::string host_key_line_;
};

/// A loopback port that accepts nothing and refuses nothing: connects hang.
class BlackHole {
 public:
  BlackHole();
  ~BlackHole();
  std::uint16_t port() const { return port_; }

 private:
  std::vector<int> sockets_;
  std::uint16_t port_ = 0;
};

std::uint16_t closed_port();

}  // namespace support
