#include "tunnelctl/client/sshd.h"

#include <fcntl.h>
#include <pwd.h>
#include <shadow.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/file_descriptor.h"
#include "common/http_access.h"
#include "common/secret_file.h"
#include "tunnelctl/client/agent_state.h"
#include "tunnelctl/client/child_process.h"

namespace tunnelctl::client {
namespace {

constexpr std::size_t kMostLines = 40;
constexpr std::size_t kLongestLine = 1024;
/// As root it wants a folder of its own for the unprivileged half; the system's unit makes it otherwise.
constexpr const char* kSeparationFolder = "/run/sshd";

using error_code = boost::system::error_code;

tl::unexpected<Error> failed_file(const std::filesystem::path& file, const std::string& why) {
  return fail(Error::Kind::bad_input, file.string() + ": " + why);
}

bool is_runnable(const std::filesystem::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

/// ssh-keygen belongs to the package that sshd's depends on.
std::string keygen_beside(const std::filesystem::path& sshd) {
  const std::filesystem::path places[] = {"/usr/bin/ssh-keygen", "/usr/local/bin/ssh-keygen",
                                          sshd.parent_path().parent_path() / "bin" / "ssh-keygen",
                                          sshd.parent_path() / "ssh-keygen"};
  for (const auto& place : places)
    if (is_runnable(place)) return place;
  return "/usr/bin/ssh-keygen";  // whose absence is then told
}

std::string words_of(const Finished& finished) {
  const auto words = http::one_line(finished.output);
  return words.empty() ? "status " + std::to_string(finished.status) : words;
}

/// Older ones know neither PermitListen nor all that `restrict` means.
constexpr std::pair kOldest{7, 8};

/// The version in what `sshd -V` says; those before 9.3 say it below a complaint about the option.
std::optional<std::pair<int, int>> version_in(std::string_view text) {
  constexpr std::string_view kName = "OpenSSH_";
  const auto at = text.find(kName);
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + kName.size());
  std::pair<int, int> version;
  const auto* const end = text.data() + text.size();
  const auto major = std::from_chars(text.data(), end, version.first);
  if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') return std::nullopt;
  const auto minor = std::from_chars(major.ptr + 1, end, version.second);
  return minor.ec == std::errc() ? std::optional(version) : std::nullopt;
}

Result<void> check_version(const std::filesystem::path& program) {
  const auto said = run_child({program, "-V"});
  if (!said) return tl::unexpected(said.error());
  const auto version = version_in(said->output);
  if (!version)
    return failed_file(program,
                       "is no OpenSSH server; name the one of the package openssh-server with --sshd");
  if (*version < kOldest)
    return failed_file(
        program, "is OpenSSH " + std::to_string(version->first) + "." + std::to_string(version->second) +
                     ", and 7.8 or newer is needed; upgrade the package openssh-server, or name "
                     "a newer one with --sshd");
  return {};
}

/// By ssh-keygen beside it, and then put there whole: two agents that start at once get the same key.
Result<void> make_host_key(const std::string& keygen, const std::filesystem::path& file) {
  const std::string temporary = file.string() + "." + std::to_string(::getpid());
  const auto made = run_child({keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", temporary});
  if (!made) return tl::unexpected(made.error());
  const auto text = made->status == 0 ? read_secret_file(temporary, 16 * 1024)
                                      : fail(Error::Kind::unavailable, keygen + ": " + words_of(*made));
  ::unlink(temporary.c_str());
  ::unlink((temporary + ".pub").c_str());
  if (!text) return tl::unexpected(text.error());
  const auto written = create_secret_file(file, *text);
  const bool there_now = ::access(file.c_str(), F_OK) == 0;
  return there_now ? Result<void>() : written;
}

Result<std::string> read_host_key(const std::string& keygen, const std::filesystem::path& file) {
  // sshd would refuse it later, in words that nobody connects with it.
  if (const auto readable = read_secret_file(file, 16 * 1024); !readable)
    return tl::unexpected(readable.error());
  const auto shown = run_child({keygen, "-y", "-P", "", "-f", file});
  if (!shown) return tl::unexpected(shown.error());
  const std::string remedy =
      "; put the old one back, or delete it to have a new one made, and make tunneld forget the old one: "
      "tunnelctl agents forget";
  if (shown->status != 0) return failed_file(file, "is no usable host key: " + words_of(*shown) + remedy);
  auto key = parse_public_key(shown->output.substr(0, shown->output.find('\n')));
  if (!key || !key->starts_with("ssh-ed25519 ")) return failed_file(file, "is no Ed25519 key" + remedy);
  return key;
}

/// For a value of sshd_config, which knows quotes. `percent` doubled where it knows tokens.
std::string quoted(const std::filesystem::path& path, bool tokens) {
  std::string text = "\"";
  for (const char c : path.string()) {
    if (c == '%' && tokens) text += '%';
    text += c;
  }
  return text + "\"";
}

bool can_be_quoted(const std::filesystem::path& path) {
  const auto text = path.string();
  return std::none_of(text.begin(), text.end(), [](char c) {
    return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  });
}

/// What a child says, in lines, as they come.
class Lines : public std::enable_shared_from_this<Lines> {
 public:
  Lines(const asio::any_io_executor& executor, int fd, std::function<void(std::string)> told)
      : descriptor_(executor, fd), told_(std::move(told)) {}

  void start() {
    descriptor_.async_wait(descriptor_.wait_read, [self = shared_from_this()](const error_code& error) {
      if (error || !self->told_) return;
      if (self->take()) self->start();
    });
  }

  /// What is there still, and no more of it later.
  void finish() {
    if (!told_) return;
    (void)take();
    tell();
    told_ = nullptr;
    error_code ignored;
    descriptor_.close(ignored);
  }

 private:
  /// False at the end.
  bool take() {
    std::array<char, 4096> buffer;
    for (;;) {
      const auto got = ::read(descriptor_.native_handle(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      for (const char c : std::string_view(buffer.data(), static_cast<std::size_t>(got))) {
        if (c == '\n')
          tell();
        else if (line_.size() < kLongestLine)
          line_ += c;
      }
    }
  }

  void tell() {
    auto line = http::one_line(line_);
    line_.clear();
    if (!line.empty() && lines_++ < kMostLines) told_(std::move(line));
  }

  asio::posix::stream_descriptor descriptor_;
  std::function<void(std::string)> told_;
  std::string line_;
  std::size_t lines_ = 0;
};

class Session final : public SshdSession {
 public:
  Session(const asio::any_io_executor& executor, int socket, pid_t pid, std::shared_ptr<Lines> lines)
      : socket_(executor, asio::local::stream_protocol(), socket), pid_(pid), lines_(std::move(lines)) {
    socket_.non_blocking(true);
  }
  ~Session() override { end(); }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    const auto [error, got] = co_await socket_.async_read_some(asio::buffer(into.data(), into.size()),
                                                               asio::as_tuple(asio::use_awaitable));
    if (error == asio::error::eof) co_return std::size_t{0};
    if (error) co_return broken(error);
    co_return got;
  }

  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    const auto [error, sent] = co_await asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()),
                                                          asio::as_tuple(asio::use_awaitable));
    if (error) co_return broken(error);
    co_return Result<void>();
  }

  asio::awaitable<Result<void>> shutdown_write() override {
    error_code error;
    socket_.shutdown(socket_.shutdown_send, error);
    if (error) co_return broken(error);
    co_return Result<void>();
  }

  void close() noexcept override { end(); }
  pid_t pid() const override { return pid_; }

 private:
  static tl::unexpected<Error> broken(const error_code& error) {
    const bool by_us = error == asio::error::operation_aborted || error == asio::error::bad_descriptor;
    if (by_us) return fail(Error::Kind::cancelled, "sshd: cancelled");
    return fail(Error::Kind::unavailable, "sshd has ended: " + error.message());
  }

  void end() noexcept {
    if (ended_) return;
    ended_ = true;
    error_code ignored;
    socket_.close(ignored);
    end_group(pid_);
    lines_->finish();
  }

  asio::local::stream_protocol::socket socket_;
  const pid_t pid_;
  std::shared_ptr<Lines> lines_;
  bool ended_ = false;
};

}  // namespace

Result<Login> login_of_this_process() {
  const auto* entry = ::getpwuid(::geteuid());
  if (entry == nullptr)
    return fail(Error::Kind::denied,
                "user number " + std::to_string(::geteuid()) +
                    " has no entry in /etc/passwd, and sshd lets nobody in without one; run the "
                    "agent as an ordinary user");
  Login login{entry->pw_name, entry->pw_uid == 0};
  const std::string who = "user \"" + http::one_line(login.user, 64) + "\"";
  const std::string password = entry->pw_passwd == nullptr ? "" : entry->pw_passwd;
  const std::string shell =
      entry->pw_shell == nullptr || *entry->pw_shell == '\0' ? "/bin/sh" : entry->pw_shell;
  // Without privileges too: nss-systemd answers for nobody and root, and sshd believes it.
  const auto* shadow = ::getspnam(login.user.c_str());
  const std::string kept = shadow != nullptr && shadow->sp_pwdp != nullptr ? shadow->sp_pwdp : password;
  if (kept.starts_with('!'))
    return fail(Error::Kind::denied,
                who + " is locked, so sshd lets nobody in as it; run the agent as an ordinary user");
  if (!is_runnable(shell))
    return fail(Error::Kind::denied,
                who + " has the shell " + http::one_line(shell, 200) +
                    ", which cannot be run, so sshd lets nobody in as it; run the agent as "
                    "another user, or give it /usr/sbin/nologin");
  return login;
}

Result<std::filesystem::path> find_sshd(const std::filesystem::path& named, std::string_view search_path) {
  if (!named.empty()) {
    auto absolute = std::filesystem::absolute(named);
    if (!is_runnable(absolute))
      return fail(Error::Kind::bad_input,
                  "--sshd: " + named.string() +
                      ": is no program that this user may run; name OpenSSH's sshd, or "
                      "leave the option out to have it found");
    return absolute;
  }
  std::vector<std::filesystem::path> places{"/usr/sbin/sshd",        "/usr/local/sbin/sshd",
                                            "/usr/lib/openssh/sshd", "/usr/lib/ssh/sshd",
                                            "/usr/libexec/sshd",     "/sbin/sshd"};
  while (!search_path.empty()) {
    const auto end = std::min(search_path.find(':'), search_path.size());
    const std::filesystem::path folder(search_path.substr(0, end));
    search_path.remove_prefix(std::min(end + 1, search_path.size()));
    if (folder.is_absolute()) places.push_back(folder / "sshd");
  }
  for (const auto& place : places)
    if (is_runnable(place)) return place;
  return fail(
      Error::Kind::unavailable,
      "OpenSSH's server (sshd) is not installed; install the package openssh-server (its service need not "
      "run), or name the program with --sshd");
}

std::string sshd_configuration(const std::filesystem::path& folder, const Login& login,
                               const std::vector<std::string>& targets) {
  std::string permitted;
  for (const auto& target : targets) permitted += " " + target;
  if (permitted.empty()) permitted = " none";
  std::string text =
      "# Written by `tunnelctl agent` at each start.\n"
      "HostKey " +
      quoted(folder / "host_key", false) +
      "\n"
      "AuthorizedKeysFile " +
      quoted(folder / "authorized_keys", true) +
      "\n"
      "StrictModes no\n"
      "PidFile none\n"
      "UsePAM no\n"
      "AuthenticationMethods publickey\n"
      "PasswordAuthentication no\n"
      "KbdInteractiveAuthentication no\n"
      "LoginGraceTime 30\n"
      "AllowTcpForwarding local\n"
      "PermitOpen" +
      permitted +
      "\n"
      "PermitListen none\n"
      "AllowStreamLocalForwarding no\n"
      "AllowAgentForwarding no\n"
      "X11Forwarding no\n"
      "PermitTTY no\n"
      "PermitTunnel no\n"
      "PermitUserEnvironment no\n"
      "PermitUserRC no\n"
      "ForceCommand /bin/false\n"
      "MaxSessions 0\n"
      "KexAlgorithms curve25519-sha256\n"
      "Ciphers aes256-gcm@openssh.com\n"
      "Compression no\n"
      "UseDNS no\n"
      "ClientAliveInterval 30\n"
      "ClientAliveCountMax 3\n"
      "LogLevel INFO\n";
  // With privileges sshd could let in anybody, and the keys are in one file for all.
  if (login.root) text += "PermitRootLogin prohibit-password\nAllowUsers " + login.user + "\n";
  return text;
}

std::string authorized_keys(const std::vector<std::string>& keys, const std::vector<std::string>& targets) {
  std::string options = "restrict,port-forwarding";
  for (const auto& target : targets) options += ",permitopen=\"" + target + "\"";
  std::string text;
  for (const auto& key : keys) text += options + " " + key + " tunneld\n";
  return text;
}

Result<Sshd> Sshd::prepare(Setup setup) {
  if (auto good = check_version(setup.program); !good) return tl::unexpected(good.error());
  if (auto made = make_private_folder(setup.folder); !made) return tl::unexpected(made.error());
  if (!can_be_quoted(setup.folder))
    return fail(
        Error::Kind::bad_input,
        "the agent's folder must have no quotation marks, backslashes or control characters in its name");
  if (setup.login.root && ::mkdir(kSeparationFolder, 0755) != 0 && errno != EEXIST)
    return fail(Error::Kind::denied,
                std::string(kSeparationFolder) + ": cannot be made: " + std::strerror(errno));
  const auto file = setup.folder / "host_key";
  const auto keygen = keygen_beside(setup.program);
  if (::access(file.c_str(), F_OK) != 0)
    if (auto made = make_host_key(keygen, file); !made) return tl::unexpected(made.error());
  auto key = read_host_key(keygen, file);
  if (!key) return tl::unexpected(key.error());
  return Sshd(std::move(setup), std::move(*key));
}

Result<void> Sshd::authorize(const std::vector<std::string>& keys) const {
  const auto& folder = setup_.folder;
  const auto config = folder / "sshd_config";
  auto written = atomic_file::write(folder / "authorized_keys", authorized_keys(keys, setup_.targets), 0600);
  if (written)
    written = atomic_file::write(config, sshd_configuration(folder, setup_.login, setup_.targets), 0600);
  if (!written) return written;
  const auto checked = run_child({setup_.program, "-t", "-f", config});
  if (!checked) return tl::unexpected(checked.error());
  if (checked->status != 0)
    return fail(Error::Kind::bad_input,
                setup_.program.string() + " does not take " + config.string() + ": " + words_of(*checked));
  return {};
}

Result<std::unique_ptr<SshdSession>> Sshd::spawn(asio::any_io_executor executor,
                                                 std::function<void(std::string)> on_line) const {
  const auto no_descriptors = [] {
    return fail(Error::Kind::unavailable, std::string("sshd: cannot be started: ") + std::strerror(errno));
  };
  int pair[2], said[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return no_descriptors();
  const FileDescriptor theirs(pair[1]);
  if (::pipe2(said, O_CLOEXEC) != 0) {
    const auto failure = no_descriptors();
    ::close(pair[0]);
    return failure;
  }
  const FileDescriptor speaking(said[1]);
  ::fcntl(said[0], F_SETFL, O_NONBLOCK);
  // -e: to stderr and not to the system's log; -i: one session on standard input and output.
  const auto pid =
      start_child({.arguments = {setup_.program, "-i", "-e", "-f", setup_.folder / "sshd_config"},
                   .in = theirs.get(),
                   .out = theirs.get(),
                   .err = speaking.get()});
  if (!pid) {
    ::close(pair[0]);
    ::close(said[0]);
    return tl::unexpected(pid.error());
  }
  auto lines = std::make_shared<Lines>(executor, said[0], std::move(on_line));
  lines->start();
  return std::make_unique<Session>(executor, pair[0], *pid, std::move(lines));
}

}  // namespace tunnelctl::client
