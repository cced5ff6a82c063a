#include <netinet/tcp.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunneld/ssh/session_core.h"

namespace tunneld::ssh {
namespace {

using asio::ip::tcp;
using namespace asio::experimental::awaitable_operators;
using tunnel::Code;
using tunnel::refuse;
using Clock = std::chrono::steady_clock;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
// What an upstream may send as its banner before we stop copying it into a message.
constexpr std::size_t kMaxShownBytes = 200;
// Under which a host key's owner is named without a port.
constexpr std::uint16_t kSshPort = 22;

std::string printable(std::string_view text) {
  std::string shown;
  for (char c : text.substr(0, kMaxShownBytes)) shown += c >= 0x20 && c < 0x7f ? c : '?';
  return shown;
}

struct HostPort {
  std::string host;
  std::string port;
};

HostPort split(const std::string& address) {
  auto colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return {host, address.substr(colon + 1)};
}

void set_socket_options(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  // Unacknowledged data for this long means a dead network, long before the kernel's own 15 minutes.
  int milliseconds = 30000;
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
  // Keep what is queued in the kernel short, so that a small packet is not behind megabytes of bulk.
  int low_water = 128 * 1024;
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low_water, sizeof low_water);
}

/// Tries each address a name has; the last failure is the one reported.
asio::awaitable<tunnel::Served<tcp::socket>> dial(asio::io_context& io, const Endpoint& endpoint,
                                                  const std::string& address, const Options& options,
                                                  Clock::time_point deadline) {
  auto [host, port] = split(address);
  const std::string where = "upstream " + endpoint.name + " (" + address + ")";
  tcp::resolver resolver(io);
  asio::steady_timer timer(io, std::min(deadline, Clock::now() + options.connect_timeout));
  auto found = co_await (resolver.async_resolve(host, port, kAwait) || timer.async_wait(kAwait));
  if (found.index() == 1) co_return refuse(Code::timed_out, where + ": name look-up took too long");
  auto& [resolve_error, addresses] = std::get<0>(found);
  if (resolve_error) co_return refuse(Code::unreachable, where + ": " + resolve_error.message());

  tunnel::Refusal last{Code::unreachable, where + ": the name has no address"};
  for (const auto& each : addresses) {
    if (Clock::now() >= deadline) break;
    tcp::socket socket(io);
    timer.expires_at(std::min(deadline, Clock::now() + options.connect_timeout));
    auto connected = co_await (socket.async_connect(each.endpoint(), kAwait) || timer.async_wait(kAwait));
    if (connected.index() == 1) {
      last = tunnel::Refusal{Code::timed_out, where + ": no answer to the TCP connect"};
      continue;
    }
    if (auto error = std::get<0>(std::get<0>(connected)); error) {
      last = tunnel::Refusal{Code::unreachable, where + ": " + error.message()};
      continue;
    }
    set_socket_options(socket);
    co_return socket;
  }
  co_return tl::unexpected(std::move(last));
}

/// Calls `step` until libssh2 no longer asks for more input. Returns its result; EAGAIN if the session
/// died meanwhile.
template <class Step>
asio::awaitable<int> repeat(SessionCore& core, Step step) {
  for (;;) {
    int rc = step();
    if (rc != LIBSSH2_ERROR_EAGAIN) co_return rc;
    if (!co_await core.input_arrived()) co_return LIBSSH2_ERROR_EAGAIN;
  }
}

void restrict_algorithms(LIBSSH2_SESSION* session) {
  libssh2_session_method_pref(session, LIBSSH2_METHOD_KEX, "curve25519-sha256,curve25519-sha256@libssh.org");
  libssh2_session_method_pref(session, LIBSSH2_METHOD_HOSTKEY, "ssh-ed25519,rsa-sha2-512,rsa-sha2-256");
  libssh2_session_method_pref(session, LIBSSH2_METHOD_CRYPT_CS, "aes256-gcm@openssh.com");
  libssh2_session_method_pref(session, LIBSSH2_METHOD_CRYPT_SC, "aes256-gcm@openssh.com");
  // Void under AES-GCM, but the lists must not be empty.
  libssh2_session_method_pref(session, LIBSSH2_METHOD_MAC_CS, "hmac-sha2-256-etm@openssh.com,hmac-sha2-256");
  libssh2_session_method_pref(session, LIBSSH2_METHOD_MAC_SC, "hmac-sha2-256-etm@openssh.com,hmac-sha2-256");
}

/// The arguments of libssh2's calls, gathered because g++ 12 destroys captures of lambdas inside
/// co_await expressions twice.
struct Handshake {
  SessionCore* core;
  int operator()() const { return libssh2_session_handshake(core->libssh2(), core->fd()); }
};
struct Login {
  SessionCore* core;
  const std::string* user;
  const std::string* key;
  int operator()() const {
    return libssh2_userauth_publickey_frommemory(core->libssh2(), user->data(), user->size(), nullptr, 0,
                                                 key->data(), key->size(), nullptr);
  }
};

asio::awaitable<tunnel::Served<void>> log_in(SessionCore& core, const Endpoint& endpoint, std::string host,
                                             std::uint16_t port, const Identity& identity,
                                             const HostKeyPolicy& host_keys) {
  auto refused = [&core](const char* phase, const std::string& what) {
    core.observer().ssh_error(phase, "failed");
    std::string reason = core.what_failed().empty() ? printable(what) : core.what_failed();
    return refuse(Code::ssh_error, core.peer() + ": SSH " + phase + " failed: " + reason);
  };
  restrict_algorithms(core.libssh2());
  core.start_reading();
  Handshake handshake{&core};
  if (co_await repeat(core, handshake) != 0) co_return refused("handshake", core.last_error());
  if (engine_strict_kex(core.libssh2()) == 0)
    co_return refused("handshake",
                      "the far side does not know strict key exchange (CVE-2023-48795): update it");

  std::size_t size = 0;
  int type = 0;
  const char* key = libssh2_session_hostkey(core.libssh2(), &size, &type);
  if (auto verified = verify_host_key(host_keys, host, port, std::string(key, size)); !verified) {
    core.observer().ssh_error("host_key", "mismatch");
    co_return refuse(verified.error().kind == Error::Kind::denied ? Code::host_key_mismatch : Code::ssh_error,
                     "upstream " + endpoint.name + ": " + verified.error().message);
  }

  Login login{&core, &endpoint.user, &identity.private_text()};
  if (co_await repeat(core, login) != 0)
    co_return refused("authentication", core.last_error() +
                                            "; is tunneld's public key (tunneld ssh-key) in " +
                                            endpoint.user + "'s authorized_keys?");
  co_return tunnel::Served<void>{};
}

/// Closes a session that was not brought up, however that ended.
struct CloseUnlessUp {
  SessionCore& core;
  bool up = false;
  explicit CloseUnlessUp(SessionCore& core_in) : core(core_in) {}
  CloseUnlessUp(const CloseUnlessUp&) = delete;
  CloseUnlessUp& operator=(const CloseUnlessUp&) = delete;
  ~CloseUnlessUp() {
    if (!up) core.close();
  }
};

/// From the first byte to a running session, or a closed one.
asio::awaitable<tunnel::Served<void>> bring_up(std::shared_ptr<SessionCore> core, const Endpoint& endpoint,
                                               std::string host, std::uint16_t port, const Identity& identity,
                                               const HostKeyPolicy& host_keys, asio::io_context& io,
                                               Clock::time_point deadline) {
  if (!core->libssh2()) co_return refuse(Code::unavailable, "out of memory for an SSH session");
  CloseUnlessUp closing(*core);
  asio::steady_timer timer(io, std::min(deadline, Clock::now() + core->options().handshake_timeout));
  auto finished =
      co_await (log_in(*core, endpoint, host, port, identity, host_keys) || timer.async_wait(kAwait));
  if (finished.index() == 1) {
    core->observer().ssh_error("handshake", "timeout");
    co_return refuse(Code::timed_out, core->peer() + ": SSH handshake took too long");
  }
  auto& logged_in = std::get<0>(finished);
  if (!logged_in) co_return tl::unexpected<tunnel::Refusal>(std::move(logged_in.error()));
  core->start_running();
  if (!core->alive()) co_return refuse(Code::ssh_error, core->peer() + ": " + core->what_failed());
  closing.up = true;
  co_return tunnel::Served<void>{};
}

}  // namespace

Result<void> initialise(const Options& options) {
  if (!libssh2_version(0x010b01))
    return fail(Error::Kind::bad_input, "libssh2 1.11.1 or newer is needed, this is " + library_version());
  if (libssh2_init(0) != 0) return fail(Error::Kind::bug, "libssh2 cannot start");
  if (idle_descriptor() < 0) return fail(Error::Kind::unavailable, "no file descriptor is free");
  engine_use_whole_packet_gcm(options.whole_packet_gcm ? 1 : 0);
  return {};
}

std::string library_version() {
  return libssh2_version(0);
}

asio::awaitable<tunnel::Served<std::shared_ptr<Session>>> Session::connect(
    asio::io_context& io, const Endpoint& endpoint, const Identity& identity, const HostKeyPolicy& host_keys,
    const Options& options, tunnel::Observer& observer, Deadline deadline) {
  tunnel::Refusal last{Code::unreachable, "upstream " + endpoint.name + ": no address configured"};
  for (const auto& address : endpoint.addresses) {
    const auto started = Clock::now();
    auto socket = co_await dial(io, endpoint, address, options, deadline);
    if (!socket) {
      observer.ssh_error("connect", socket.error().code == Code::timed_out ? "timeout" : "unreachable");
      last = socket.error();
      continue;
    }
    auto [host, port] = split(address);
    auto core = std::make_shared<SessionCore>(io, tcp_wire(std::move(*socket)), options, observer,
                                              "upstream " + endpoint.name + " (" + address + ")");
    auto up = co_await bring_up(core, endpoint, host, static_cast<std::uint16_t>(std::stoi(port)), identity,
                                host_keys, io, deadline);
    if (up) {
      observer.ssh_session_opened(Clock::now() - started);
      co_return core;
    }
    last = std::move(up.error());
    if (last.code == Code::host_key_mismatch) break;  // fatal: another address must not hide it
  }
  co_return tl::unexpected(std::move(last));
}

asio::awaitable<tunnel::Served<std::shared_ptr<Session>>> Session::connect_over(
    asio::io_context& io, std::unique_ptr<tunnel::ByteStream> stream, const Endpoint& endpoint,
    const Identity& identity, const HostKeyPolicy& host_keys, const Options& options,
    tunnel::Observer& observer, Deadline deadline) {
  if (host_keys.fingerprints.empty())
    co_return refuse(Code::host_key_mismatch, "upstream " + endpoint.name + ": no host key of it is known");
  const auto started = Clock::now();
  auto core = std::make_shared<SessionCore>(io, stream_wire(io, std::move(stream)), options, observer,
                                            "upstream " + endpoint.name);
  auto up = co_await bring_up(core, endpoint, endpoint.name, kSshPort, identity, host_keys, io, deadline);
  if (!up) co_return tl::unexpected<tunnel::Refusal>(std::move(up.error()));
  observer.ssh_session_opened(Clock::now() - started);
  co_return core;
}

}  // namespace tunneld::ssh
