#include "tests/support/ssh_lab.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>

#include "tunneld/ssh/identity.h"

namespace support {
namespace {

using Clock = std::chrono::steady_clock;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int listen_on_free_port(int backlog, std::uint16_t& port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd, backlog) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("cannot listen on loopback");
  port = ntohs(address.sin_port);
  return fd;
}

int connect_to(std::uint16_t port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(port);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

bool send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    ssize_t n = ::send(fd, data, size, MSG_NOSIGNAL);
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Waits for a condition without a fixed pause; the deadline only bounds a broken test.
bool eventually(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    ::poll(nullptr, 0, 2);
  }
  return true;
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "tunneld-test-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make a temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

struct TcpService::Connections {
  std::mutex mutex;
  std::set<int> sockets;
  std::vector<std::thread> threads;
  bool closing = false;
};

TcpService::TcpService(std::function<void(int)> serve)
    : serve_(std::move(serve)), connections_(std::make_shared<Connections>()) {
  listener_ = listen_on_free_port(128, port_);
  acceptor_ = std::thread([this] { accept_all(); });
}

void TcpService::accept_all() {
  for (;;) {
    int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) return;
    int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::lock_guard lock(connections_->mutex);
    if (connections_->closing) {
      ::close(socket);
      return;
    }
    connections_->sockets.insert(socket);
    connections_->threads.emplace_back([this, socket] {
      serve_(socket);
      std::lock_guard inner(connections_->mutex);
      connections_->sockets.erase(socket);
      ::close(socket);
    });
  }
}

TcpService::~TcpService() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  ::close(listener_);
  {
    std::lock_guard lock(connections_->mutex);
    connections_->closing = true;
    for (int socket : connections_->sockets) ::shutdown(socket, SHUT_RDWR);
  }
  for (auto& thread : connections_->threads) thread.join();
}

void echo(int socket) {
  std::vector<char> buffer(64 * 1024);
  for (;;) {
    ssize_t n = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (n <= 0 || !send_all(socket, buffer.data(), static_cast<std::size_t>(n))) break;
  }
  ::shutdown(socket, SHUT_WR);
}

std::unique_ptr<TcpService> tampering_proxy(std::uint16_t target, Tamper tamper) {
  return std::make_unique<TcpService>([target, tamper](int client) {
    int server = connect_to(target);
    if (server < 0) return;
    std::array<std::size_t, 2> passed{};
    std::array<pollfd, 2> polled{{{client, POLLIN, 0}, {server, POLLIN, 0}}};
    std::vector<char> buffer(16 * 1024);
    for (bool open = true; open;) {
      if (::poll(polled.data(), polled.size(), -1) <= 0) break;
      for (std::size_t from = 0; from < 2 && open; ++from) {
        if (polled[from].revents == 0) continue;
        ssize_t n = ::recv(polled[from].fd, buffer.data(), buffer.size(), 0);
        if (n <= 0) {
          open = false;
          break;
        }
        auto size = static_cast<std::size_t>(n);
        if ((from == 0) == tamper.towards_server && tamper.offset >= passed[from] &&
            tamper.offset < passed[from] + size)
          buffer[tamper.offset - passed[from]] ^= 0x40;
        passed[from] += size;
        open = send_all(polled[1 - from].fd, buffer.data(), size);
      }
    }
    ::close(server);
  });
}

Sshd::Sshd(const std::string& authorized_key, const SshdOptions& options) {
  const auto folder = folder_.path();
  if (const passwd* entry = ::getpwuid(::getuid())) user_ = entry->pw_name;
  // As root sshd insists on its separation folder; as anybody else it does without.
  if (::getuid() == 0) std::filesystem::create_directories("/run/sshd");

  auto host_key = tunneld::ssh::Identity::load_or_create(folder / "host_key", "host");
  if (!host_key) throw std::runtime_error(host_key.error().message);
  fingerprint_ = host_key->fingerprint();
  host_key_line_ = host_key->public_line();
  std::ofstream(folder / "authorized_keys") << authorized_key << "\n";
  std::uint16_t free_port = closed_port();
  std::ofstream(folder / "sshd_config")
      << options.first_lines << "\nListenAddress 127.0.0.1:" << free_port << "\n"
      << "HostKey " << (folder / "host_key").string() << "\n"
      << "AuthorizedKeysFile " << (folder / "authorized_keys").string() << "\n"
      << "StrictModes no\nPidFile none\nUsePAM no\nLogLevel DEBUG\n"
         "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
         "PermitRootLogin prohibit-password\nMaxStartups 100\n"
         "AllowTcpForwarding local\nPermitTTY no\nX11Forwarding no\n"
         "KexAlgorithms curve25519-sha256\nCiphers aes256-gcm@openssh.com\n"
      << options.extra_configuration << "\n";
  pid_ = ::fork();
  if (pid_ == 0) {
    // Dies with the test, whatever happens to it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::setpgid(0, 0);
    const std::string configuration = (folder / "sshd_config").string();
    const std::string log = (folder / "log").string();
    ::execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-D", "-f", configuration.c_str(), "-E", log.c_str(),
            nullptr);
    ::_exit(127);
  }
  port_ = free_port;
  const bool up = eventually([this] {
    int fd = connect_to(port_);
    if (fd >= 0) ::close(fd);
    return fd >= 0 || ::waitpid(pid_, nullptr, WNOHANG) == pid_;
  });
  if (!up || ::kill(pid_, 0) != 0) throw std::runtime_error("sshd did not start: " + log());
}

std::string Sshd::log() const {
  return read_file(folder_.path() / "log");
}

std::vector<pid_t> Sshd::session_processes() const {
  std::vector<pid_t> found;
  std::istringstream children(
      read_file("/proc/" + std::to_string(pid_) + "/task/" + std::to_string(pid_) + "/children"));
  for (pid_t child; children >> child;) {
    found.push_back(child);
    std::istringstream more(
        read_file("/proc/" + std::to_string(child) + "/task/" + std::to_string(child) + "/children"));
    for (pid_t grandchild; more >> grandchild;) found.push_back(grandchild);
  }
  return found;
}

void Sshd::kill_all() {
  if (pid_ <= 0) return;
  // Session processes leave the group: found as children first.
  auto sessions = session_processes();
  ::kill(pid_, SIGKILL);
  for (pid_t session : sessions) ::kill(session, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

Sshd::~Sshd() {
  kill_all();
}

BlackHole::BlackHole() {
  sockets_.push_back(listen_on_free_port(0, port_));
  // Fill the accept queue, so that further connects get no answer.
  for (int i = 0; i < 4; ++i) {
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address = loopback(port_);
    (void)::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    sockets_.push_back(fd);
  }
}

BlackHole::~BlackHole() {
  for (int fd : sockets_) ::close(fd);
}

std::uint16_t closed_port() {
  std::uint16_t port = 0;
  ::close(listen_on_free_port(1, port));
  return port;
}

}  // namespace support
