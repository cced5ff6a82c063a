#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "common/result.h"
#include "tunnel/byte_stream.h"

namespace tunnelctl::client {

namespace asio = boost::asio;

/// Whom this process's sshd can let in: the user that runs it, nobody else (without privileges it cannot
/// become another, and with them it must not).
struct Login {
  std::string user;
  bool root = false;
};
/// Asks what sshd will ask (auth.c, allowed_user()): denied, naming the remedy, when it would refuse this
/// user: not in passwd, locked, or with a shell that is not there.
Result<Login> login_of_this_process();

/// OpenSSH's server: `named` if given, else where distributions put it and in the folders of `search_path`
/// ($PATH). Absolute, as sshd wants to be called. bad_input when `named` cannot be run; unavailable, with the
/// package's name, when there is none.
Result<std::filesystem::path> find_sshd(const std::filesystem::path& named, std::string_view search_path);

/// The two files that say what tunneld may do: open TCP to `targets` ("host:port"), as `login`, by one of
/// `keys`, and nothing else. Everything that sshd would take from elsewhere is said, so that the system's own
/// configuration and defaults do not count. Source: sshd_config(5), sshd(8) on AUTHORIZED_KEYS.
std::string sshd_configuration(const std::filesystem::path& folder, const Login& login,
                               const std::vector<std::string>& targets);
std::string authorized_keys(const std::vector<std::string>& keys, const std::vector<std::string>& targets);

/// The end of a running `sshd -i` as bytes. Dies with this object: sshd and its children are one process
/// group, which close() kills, and whose death it waits for. They are also told when this process dies.
class SshdSession : public tunnel::ByteStream {
 public:
  virtual pid_t pid() const = 0;
};

/// Makes SSH servers for one agent, without privileges and without a port: each speaks on a socket pair.
/// prepare(), authorize() and spawn() block for as long as the disk, ssh-keygen and a fork take.
class Sshd {
 public:
  struct Setup {
    std::filesystem::path program;  // absolute
    std::filesystem::path folder;   // absolute, private to this user: its keys and configuration
    Login login;
    std::vector<std::string> targets;
  };
  /// Makes a host key the first time. Fails with denied or bad_input naming the file.
  static Result<Sshd> prepare(Setup setup);

  /// "ssh-ed25519 AAAA..."
  const std::string& host_key() const { return host_key_; }

  /// Lets in who has one of these keys, and checks with sshd itself that it understands what was written.
  /// Fails with bad_input and sshd's own words.
  Result<void> authorize(const std::vector<std::string>& keys) const;

  /// One server for one SSH session. `on_line` gets what it says on stderr, line by line, without control
  /// characters; at most 40 of them. Called on `executor`'s thread or within close().
  /// Fails with unavailable: no process, no descriptors.
  Result<std::unique_ptr<SshdSession>> spawn(asio::any_io_executor executor,
                                             std::function<void(std::string)> on_line) const;

 private:
  Sshd(Setup setup, std::string host_key) : setup_(std::move(setup)), host_key_(std::move(host_key)) {}

  Setup setup_;
  std::string host_key_;
};

}  // namespace tunnelctl::client
