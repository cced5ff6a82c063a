#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <openssl/ssl.h>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"

namespace edge {

namespace asio = boost::asio;

/// "192.0.2.1:80" or "[2001:db8::1]:80".
std::string to_text(const asio::ip::tcp::endpoint& endpoint);

struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
using SslHandle = std::unique_ptr<SSL, FreeSsl>;

/// A socket that no io_context watches; closed with its owner.
class LooseSocket {
 public:
  explicit LooseSocket(int descriptor = -1) : descriptor_(descriptor) {}
  LooseSocket(LooseSocket&& other) noexcept : descriptor_(other.release()) {}
  LooseSocket& operator=(LooseSocket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~LooseSocket();
  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

/// One TCP connection, accepted or made, plain or TLS, as bytes.
///
/// Built for few system calls and for cheap idleness (docs/decisions/0003): OpenSSL reads the socket
/// itself, several records a call, and the records of one write leave in one send(). Neither side
/// holds a buffer while nothing is under way.
///
/// Threads: lives on the socket's io_context, run by one thread. At most one read and one write at a
/// time; they may overlap. Cancellation: terminal, reported as Error::Kind::cancelled.
class Transport {
 public:
  using Clock = std::chrono::steady_clock;
  using Executor = asio::ip::tcp::socket::executor_type;
  static constexpr Clock::time_point kNever = Clock::time_point::max();
  /// What one write sends, in order: a head and a body, or a frame header and what makes up its payload.
  using Pieces = std::array<std::span<const std::byte>, 9>;

  /// Payload, TLS taken off. Written by the connection's thread, read by any.
  struct Counts {
    std::atomic<std::uint64_t> in{0};
    std::atomic<std::uint64_t> out{0};
  };
  /// A connection on its way from one thread to another. Closed if it does not arrive.
  struct Detached {
    LooseSocket socket;
    asio::ip::tcp protocol = asio::ip::tcp::v4();
    SslHandle ssl;
    Clock::duration write_stall{};
    std::vector<std::byte> pending;  // sent, and not yet taken by the kernel
    bool tls_usable = true;
    std::shared_ptr<Counts> counts;
  };

  /// An accepted connection; `tls` null means plain. `write_stall` is how long the peer may take nothing
  /// before a write fails.
  Transport(asio::ip::tcp::socket socket, std::shared_ptr<SSL_CTX> tls, Clock::duration write_stall);
  /// A connection that we made: `ssl` in connect state, with what is to be verified; null means plain.
  Transport(asio::ip::tcp::socket socket, SslHandle ssl, Clock::duration write_stall);
  /// A connection that lived on another thread. Throws boost::system::system_error when the system cannot
  /// watch its socket there.
  Transport(asio::io_context& home, Detached moved);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  /// What happens to a write of which a part has left when its coroutine is cancelled.
  enum class Cancelled {
    cut,       // the rest is forgotten: nothing sensible can follow
    finished,  // the rest is kept and follows by itself, as after post()
  };

  /// Fills `into` with bytes off the socket itself and takes no byte more: what a proxy sends before the
  /// handshake. Returns fewer only when the peer ended its direction. Not after handshake().
  asio::awaitable<Result<std::size_t>> read_ahead_of_tls(std::span<std::byte> into,
                                                         Clock::time_point deadline);

  /// The same for what is said to a proxy.
  asio::awaitable<Result<void>> write_ahead_of_tls(std::span<const std::byte> bytes) {
    return write_plain(Pieces{bytes, {}, {}}, Cancelled::cut);
  }

  /// The TLS handshake; does nothing on a plain connection. Fails with bad_input when the peer does not
  /// speak our TLS, timed_out at the deadline.
  asio::awaitable<Result<void>> handshake(Clock::time_point deadline);

  /// What can be had without waiting: nullopt for nothing yet, 0 for the end of the peer's direction.
  Result<std::optional<std::size_t>> try_read(std::span<std::byte> into);
  /// Returns when try_read() is worth calling (again).
  asio::awaitable<Result<void>> wait_readable(Clock::time_point deadline);
  /// Calls `ready` once, on the connection's thread, when try_read(), which has just said "nothing yet", is
  /// worth calling again: for who keeps an eye on the peer without waiting for it. Replaces what was asked
  /// for before; null takes it back, which costs nothing. Not beside a read() or wait_readable().
  void when_readable(std::function<void()> ready);
  /// Takes the connection off its thread, for another's. Only while nothing is under way; what is left here
  /// is closed, and goes on telling bytes_in() and bytes_out().
  Detached detach();
  /// True when the peer has ended its direction or reset the connection, even behind bytes that nobody has
  /// read yet. A system call.
  bool peer_has_ended() const;
  /// At least one byte; 0 at the end of the peer's direction.
  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into, Clock::time_point deadline);

  /// Returns once the kernel has taken everything.
  asio::awaitable<Result<void>> write(Pieces pieces, Cancelled when_cancelled = Cancelled::cut);
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) {
    return write(Pieces{bytes, {}, {}});
  }
  /// Sends a few bytes without waiting; what the kernel does not take is kept (at most 256 KiB) and
  /// follows by itself. Not while a write() is under way: it would land in its middle.
  Result<void> post(std::span<const std::byte> bytes);
  /// Sent by us but not yet taken by the kernel.
  std::size_t unsent_bytes() const { return pending_.size() - pending_sent_; }

  /// Ends our direction (close_notify, FIN) after everything written.
  asio::awaitable<Result<void>> shutdown_write();

  enum class Linger { no, yes };
  /// Ends our direction and closes. With Linger::yes first discards what the peer still sends until it
  /// closes, so that a reset does not overtake our last answer. Not later than the deadline.
  asio::awaitable<void> close_gracefully(Linger linger, Clock::time_point deadline);
  /// Closes at once with a reset, so that the peer sees a failure rather than a short message.
  void abort() noexcept;
  /// Closes at once. Pending operations end with `cancelled`. Idempotent.
  void close() noexcept;
  bool is_open() const { return !closed_; }

  /// Makes a pending or later wait_readable() fail with timed_out: how others end an idle wait.
  void expire_read();

  bool is_tls() const { return is_tls_; }
  /// For what OpenSSL knows of the peer; null on a plain connection.
  const SSL* tls() const { return ssl_.get(); }
  /// "TLSv1.3", or empty on a plain connection.
  std::string tls_version() const;
  /// Payload, TLS taken off. From any thread.
  std::uint64_t bytes_in() const { return counts_->in.load(std::memory_order_relaxed); }
  std::uint64_t bytes_out() const { return counts_->out.load(std::memory_order_relaxed); }
  /// For who asks the system about the connection; -1 when it is closed.
  int descriptor() { return closed_ ? -1 : socket_.native_handle(); }
  Executor get_executor() { return socket_.get_executor(); }

 private:
  struct Direction {
    Clock::time_point deadline = kNever;
    bool expired = false;
  };

  void set_up_socket();
  void set_up_tls();
  asio::awaitable<Result<void>> wait(asio::socket_base::wait_type what, Direction& direction,
                                     Clock::time_point deadline);
  asio::awaitable<Result<void>> write_plain(Pieces pieces, Cancelled when_cancelled);
  asio::awaitable<Result<void>> write_tls(Pieces pieces, Cancelled when_cancelled);
  /// Takes over what a cancelled write leaves: no more than that write had.
  void keep(Pieces pieces);
  /// Waits until what an earlier call left over has gone.
  asio::awaitable<Result<void>> drain_pending(Clock::time_point deadline);
  Result<void> flush();
  Result<void> send_pending();
  void flush_in_background();
  void listen();
  void arm(Clock::time_point deadline);
  void check_deadlines();
  Error tls_failure(const char* doing);
  void keep_buffers(bool keep);

  asio::ip::tcp::socket socket_;
  SslHandle ssl_;
  bool is_tls_ = ssl_ != nullptr;
  Clock::duration write_stall_;
  asio::steady_timer timer_;
  Clock::time_point armed_for_ = kNever;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
  Direction reading_;
  Direction writing_;
  std::vector<std::byte> pending_;
  std::size_t pending_sent_ = 0;
  bool background_flush_ = false;
  std::function<void()> when_readable_;
  bool listening_ = false;  // a wait for when_readable_ is under way; it may outlive its reason
  bool starved_ = true;     // the last read took all there was: wait before the next
  bool closed_ = false;
  bool tls_usable_ = true;      // false after a fatal TLS error: no further SSL calls allowed
  bool keeps_buffers_ = false;  // OpenSSL's, while much comes
  std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

}  // namespace edge
