#include "edge/transport.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <system_error>

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/err.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace edge {

namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

constexpr std::size_t kRecord = 16 * 1024;       // the largest TLS payload of one record
constexpr std::size_t kBatch = 8 * kRecord;      // payload encrypted before each send()
constexpr std::size_t kBulkRead = 32 * 1024;     // in one go: there is more to come
constexpr std::size_t kMaxPending = 256 * 1024;  // above a batch; only a peer that never reads gets there

/// Records made by the OpenSSL call under way, sent by Transport::flush() right after it. One per
/// thread: no connection owns an output buffer.
thread_local std::vector<std::byte> made_records;

int take_records(BIO* bio, const char* data, std::size_t size, std::size_t* taken) {
  BIO_clear_retry_flags(bio);
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  made_records.insert(made_records.end(), begin, begin + size);
  *taken = size;
  return 1;
}

long control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

int on_create(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

/// A sink that always takes everything, so that SSL_write never has to be repeated.
BIO* new_record_sink() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "record sink");
    BIO_meth_set_write_ex(made, take_records);
    BIO_meth_set_ctrl(made, control);
    BIO_meth_set_create(made, on_create);
    return made;
  }();
  return BIO_new(method);
}

Error socket_failure(const char* doing, int number) {
  return {Error::Kind::unavailable, std::string(doing) + ": " + std::generic_category().message(number)};
}

Error was_cancelled() {
  return {Error::Kind::cancelled, "the connection was closed"};
}

bool nothing_now(int number) {
  return number == EAGAIN || number == EWOULDBLOCK;
}

/// With one writer no locked instruction is needed.
void add(std::atomic<std::uint64_t>& count, std::size_t bytes) {
  count.store(count.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
}

std::size_t size_of(const Transport::Pieces& pieces) {
  std::size_t total = 0;
  for (const auto& piece : pieces) total += piece.size();
  return total;
}

void drop_front(Transport::Pieces& pieces, std::size_t bytes) {
  for (auto& piece : pieces) {
    const auto part = std::min(bytes, piece.size());
    piece = piece.subspan(part);
    bytes -= part;
  }
}

/// Encrypts up to a batch of `pieces` into made_records, in full records: what does not fill one from
/// a single piece is gathered first (a head and its body, a frame header and its payload).
bool encrypt(SSL* ssl, Transport::Pieces& pieces) {
  thread_local std::array<std::byte, kRecord> gathered;
  std::size_t budget = kBatch;
  while (budget > 0 && size_of(pieces) > 0) {
    std::size_t first = 0;
    while (pieces[first].empty()) ++first;
    std::span<const std::byte> next = pieces[first];
    std::size_t size = std::min(budget, next.size());
    if (size >= kRecord) {
      size -= size % kRecord;
      next = next.first(size);
    } else if (first + 1 < pieces.size()) {
      size = 0;
      for (std::size_t i = first; i < pieces.size() && size < kRecord; ++i) {
        const auto part = std::min(kRecord - size, pieces[i].size());
        if (part > 0) std::memcpy(gathered.data() + size, pieces[i].data(), part);
        size += part;
      }
      next = std::span(gathered).first(size);
    } else {
      next = next.first(size);
    }
    std::size_t written = 0;
    if (SSL_write_ex(ssl, next.data(), next.size(), &written) != 1) return false;
    drop_front(pieces, written);
    budget -= std::min(budget, written);
  }
  return true;
}

/// The socket as OpenSSL reads it. After a short recv() it says "nothing yet" without asking again until
/// the socket was waited for: with read-ahead OpenSSL would ask after every incomplete record.
struct Source {
  int socket = -1;
  bool dry = false;
};

int read_socket(BIO* bio, char* into, std::size_t size, std::size_t* got) {
  BIO_clear_retry_flags(bio);
  auto* source = static_cast<Source*>(BIO_get_data(bio));
  *got = 0;
  while (!source->dry) {
    const auto received = ::recv(source->socket, into, size, 0);
    if (received >= 0) {
      *got = static_cast<std::size_t>(received);
      source->dry = received > 0 && *got < size;
      return received > 0 ? 1 : 0;
    }
    if (nothing_now(errno)) break;
    if (errno != EINTR) return 0;
  }
  source->dry = true;
  BIO_set_retry_read(bio);
  return 0;
}

int free_source(BIO* bio) {
  delete static_cast<Source*>(BIO_get_data(bio));
  return 1;
}

BIO* new_socket_source(int socket) {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket source");
    BIO_meth_set_read_ex(made, read_socket);
    BIO_meth_set_ctrl(made, control);
    BIO_meth_set_create(made, on_create);
    BIO_meth_set_destroy(made, free_source);
    return made;
  }();
  BIO* bio = BIO_new(method);
  BIO_set_data(bio, new Source{socket});
  return bio;
}

Source& source_of(SSL* ssl) {
  return *static_cast<Source*>(BIO_get_data(SSL_get_rbio(ssl)));
}

}  // namespace

std::string to_text(const asio::ip::tcp::endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + address + "]" : address) + ":" + std::to_string(endpoint.port());
}

LooseSocket::~LooseSocket() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Transport::Transport(asio::ip::tcp::socket socket, std::shared_ptr<SSL_CTX> tls, Clock::duration write_stall)
    : socket_(std::move(socket)),
      ssl_(tls ? SSL_new(tls.get()) : nullptr),  // which holds the context
      write_stall_(write_stall),
      timer_(socket_.get_executor()) {
  if (tls && !ssl_) throw std::bad_alloc();
  set_up_socket();
  if (ssl_) SSL_set_accept_state(ssl_.get());
  set_up_tls();
}

Transport::Transport(asio::ip::tcp::socket socket, SslHandle ssl, Clock::duration write_stall)
    : socket_(std::move(socket)),
      ssl_(std::move(ssl)),
      write_stall_(write_stall),
      timer_(socket_.get_executor()) {
  set_up_socket();
  set_up_tls();
}

Transport::Transport(asio::io_context& home, Detached moved)
    : socket_(home),
      ssl_(std::move(moved.ssl)),
      write_stall_(moved.write_stall),
      timer_(home),
      pending_(std::move(moved.pending)),
      starved_(false),  // whoever reads first looks
      tls_usable_(moved.tls_usable),
      counts_(std::move(moved.counts)) {
  socket_.assign(moved.protocol, moved.socket.get());
  (void)moved.socket.release();
  boost::system::error_code ignored;
  socket_.non_blocking(true, ignored);
  flush_in_background();
}

void Transport::set_up_socket() {
  boost::system::error_code ignored;
  socket_.non_blocking(true, ignored);
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  // A peer that vanished while we had bytes for it is dead after 30 s (R1.6).
  const unsigned give_up_ms = 30'000;
  ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up_ms, sizeof give_up_ms);
}

void Transport::set_up_tls() {
  if (!ssl_) return;
  SSL_set0_rbio(ssl_.get(), new_socket_source(socket_.native_handle()));
  SSL_set0_wbio(ssl_.get(), new_record_sink());
}

Transport::Detached Transport::detach() {
  Detached moved;
  if (ssl_) keep_buffers(false);
  boost::system::error_code error;
  const auto local = socket_.local_endpoint(error);
  if (!error) moved.protocol = local.protocol();
  moved.ssl = std::move(ssl_);
  moved.write_stall = write_stall_;
  moved.pending.assign(pending_.begin() + static_cast<std::ptrdiff_t>(pending_sent_), pending_.end());
  moved.tls_usable = tls_usable_;
  moved.counts = counts_;
  when_readable_ = nullptr;
  closed_ = true;
  timer_.cancel();
  moved.socket = LooseSocket(socket_.release());  // ends the waits of this thread
  return moved;
}

Transport::~Transport() {
  close();
}

Error Transport::tls_failure(const char* doing) {
  const int number = errno;
  const auto code = ERR_get_error();
  std::string why;
  if (code != 0) {
    const char* reason = ERR_reason_error_string(code);
    why = reason != nullptr ? reason : "TLS error";
  } else {
    why = number != 0 ? std::generic_category().message(number) : "connection ended";
  }
  ERR_clear_error();
  const bool broke = code == 0 || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
  return {broke ? Error::Kind::unavailable : Error::Kind::bad_input, std::string(doing) + ": " + why};
}

asio::awaitable<Result<std::size_t>> Transport::read_ahead_of_tls(std::span<std::byte> into,
                                                                  Clock::time_point deadline) {
  std::size_t filled = 0;
  while (filled < into.size()) {
    if (closed_) co_return tl::unexpected(was_cancelled());
    const auto got = ::recv(socket_.native_handle(), into.data() + filled, into.size() - filled, 0);
    if (got > 0) {
      filled += static_cast<std::size_t>(got);
      continue;
    }
    if (got == 0) break;
    if (errno == EINTR) continue;
    if (!nothing_now(errno)) co_return tl::unexpected(socket_failure("reading", errno));
    auto ready = co_await wait(asio::socket_base::wait_read, reading_, deadline);
    if (!ready) co_return tl::unexpected(std::move(ready.error()));
  }
  co_return filled;
}

asio::awaitable<Result<void>> Transport::handshake(Clock::time_point deadline) {
  if (!ssl_) co_return Result<void>{};
  for (;;) {
    if (closed_) co_return tl::unexpected(was_cancelled());
    ERR_clear_error();
    errno = 0;
    const int done = SSL_do_handshake(ssl_.get());
    const int why = SSL_get_error(ssl_.get(), done);
    if (done != 1 && why != SSL_ERROR_WANT_READ) {
      tls_usable_ = false;
      auto error = tls_failure("TLS handshake");
      (void)flush();  // the alert that tells the peer
      co_return tl::unexpected(std::move(error));
    }
    if (auto sent = flush(); !sent) co_return tl::unexpected(std::move(sent.error()));
    if (auto sent = co_await drain_pending(deadline); !sent)
      co_return tl::unexpected(std::move(sent.error()));
    if (done == 1) break;
    auto ready = co_await wait(asio::socket_base::wait_read, reading_, deadline);
    if (!ready) co_return tl::unexpected(std::move(ready.error()));
  }
  starved_ = SSL_has_pending(ssl_.get()) == 0;
  co_return Result<void>{};
}

Result<std::optional<std::size_t>> Transport::try_read(std::span<std::byte> into) {
  if (closed_) return tl::unexpected(was_cancelled());
  if (!ssl_) {
    for (;;) {
      const auto got = ::recv(socket_.native_handle(), into.data(), into.size(), 0);
      if (got >= 0) {
        const auto bytes = static_cast<std::size_t>(got);
        starved_ = bytes < into.size();
        add(counts_->in, bytes);
        return bytes;
      }
      if (nothing_now(errno)) break;
      if (errno != EINTR) return tl::unexpected(socket_failure("reading", errno));
    }
    starved_ = true;
    return std::nullopt;
  }

  if (!tls_usable_) return tl::unexpected(was_cancelled());
  std::size_t filled = 0;
  while (filled < into.size()) {
    std::size_t got = 0;
    ERR_clear_error();
    errno = 0;
    const int done = SSL_read_ex(ssl_.get(), into.data() + filled, into.size() - filled, &got);
    if (done == 1) {
      filled += got;
      starved_ = SSL_has_pending(ssl_.get()) == 0;
      if (starved_) break;
      continue;
    }
    const int why = SSL_get_error(ssl_.get(), done);
    if (why == SSL_ERROR_WANT_READ) {
      starved_ = true;
      break;
    }
    if (why == SSL_ERROR_ZERO_RETURN) {
      starved_ = false;  // the next call says so again
      if (filled == 0) return std::size_t{0};
      break;
    }
    tls_usable_ = false;
    starved_ = false;
    auto error = tls_failure("reading");
    (void)flush();
    if (filled > 0) break;  // first what arrived intact; the next call reports the failure
    return tl::unexpected(std::move(error));
  }
  // Reading can make records of its own: answers to key updates.
  if (auto sent = flush(); !sent) return tl::unexpected(std::move(sent.error()));
  flush_in_background();
  if (filled == 0) return std::nullopt;
  keep_buffers(filled >= kBulkRead);
  add(counts_->in, filled);
  return filled;
}

/// OpenSSL gives its buffers back after each record that ends where they do, which for a bulk transfer means
/// fresh pages for every read. The next small read, such as a heartbeat's, lets them go.
void Transport::keep_buffers(bool keep) {
  if (keep == keeps_buffers_) return;
  keeps_buffers_ = keep;
  if (keep)
    SSL_clear_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
  else
    SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
}

asio::awaitable<Result<void>> Transport::wait_readable(Clock::time_point deadline) {
  if (!starved_) return [](Result<void> now) -> asio::awaitable<Result<void>> { co_return now; }({});
  return wait(asio::socket_base::wait_read, reading_, deadline);
}

asio::awaitable<Result<std::size_t>> Transport::read(std::span<std::byte> into, Clock::time_point deadline) {
  for (;;) {
    if (starved_) {
      auto ready = co_await wait(asio::socket_base::wait_read, reading_, deadline);
      if (!ready) co_return tl::unexpected(std::move(ready.error()));
    }
    auto got = try_read(into);
    if (!got) co_return tl::unexpected(std::move(got.error()));
    if (*got) co_return **got;
  }
}

void Transport::when_readable(std::function<void()> ready) {
  when_readable_ = std::move(ready);
  if (when_readable_) listen();
}

/// A wait that is no longer wanted is left to the next bytes rather than cancelled: it takes nothing from
/// the socket, and the next who wants one finds it there.
void Transport::listen() {
  if (listening_ || closed_) return;
  listening_ = true;
  socket_.async_wait(asio::socket_base::wait_read,
                     [this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
                       if (alive.expired()) return;
                       listening_ = false;
                       if (closed_ || !when_readable_) return;
                       if (error == asio::error::operation_aborted) return listen();  // by a deadline
                       if (ssl_) source_of(ssl_.get()).dry = false;
                       std::exchange(when_readable_, nullptr)();
                     });
}

bool Transport::peer_has_ended() const {
  if (closed_) return true;
  pollfd state{const_cast<asio::ip::tcp::socket&>(socket_).native_handle(), POLLRDHUP, 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

asio::awaitable<Result<void>> Transport::wait(asio::socket_base::wait_type what, Direction& direction,
                                              Clock::time_point deadline) {
  for (;;) {
    if (closed_) co_return tl::unexpected(was_cancelled());
    if (direction.expired || deadline <= Clock::now()) {
      direction.expired = false;
      co_return fail(Error::Kind::timed_out, "the peer took too long");
    }
    direction.deadline = deadline;
    arm(deadline);
    auto [error] = co_await socket_.async_wait(what, kAwait);
    direction.deadline = kNever;
    if (closed_) co_return tl::unexpected(was_cancelled());
    if (!error) {
      direction.expired = false;
      if (ssl_ && what == asio::socket_base::wait_read) source_of(ssl_.get()).dry = false;
      co_return Result<void>{};
    }
    if (error != asio::error::operation_aborted)
      co_return fail(Error::Kind::unavailable, "waiting for the peer: " + error.message());
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) co_return tl::unexpected(was_cancelled());
    // Woken by a deadline: ours (seen at the top) or the other direction's.
  }
}

void Transport::arm(Clock::time_point deadline) {
  if (deadline >= armed_for_) return;  // the timer fires earlier and looks again
  armed_for_ = deadline;
  timer_.expires_at(deadline);
  timer_.async_wait([this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
    if (error || alive.expired()) return;
    check_deadlines();
  });
}

void Transport::check_deadlines() {
  armed_for_ = kNever;
  const auto now = Clock::now();
  bool wake = false;
  for (auto* direction : {&reading_, &writing_}) {
    if (direction->deadline > now) {
      arm(direction->deadline);
    } else {
      direction->expired = true;
      wake = true;
    }
  }
  boost::system::error_code ignored;
  if (wake) socket_.cancel(ignored);
}

void Transport::expire_read() {
  reading_.expired = true;
  boost::system::error_code ignored;
  socket_.cancel(ignored);
}

Result<void> Transport::flush() {
  if (made_records.empty()) return {};
  std::size_t sent = 0;
  int failed = 0;
  if (pending_.empty()) {
    while (sent < made_records.size()) {
      const auto took = ::send(socket_.native_handle(), made_records.data() + sent,
                               made_records.size() - sent, MSG_NOSIGNAL);
      if (took >= 0) {
        sent += static_cast<std::size_t>(took);
      } else if (errno != EINTR) {
        if (!nothing_now(errno)) failed = errno;
        break;
      }
    }
  }
  const auto rest = std::span(made_records).subspan(sent);
  Result<void> outcome;
  if (failed != 0) {
    outcome = tl::unexpected(socket_failure("writing", failed));
  } else if (pending_.size() - pending_sent_ + rest.size() > kMaxPending) {
    outcome = fail(Error::Kind::unavailable, "writing: the peer reads nothing");
  } else {
    pending_.insert(pending_.end(), rest.begin(), rest.end());
  }
  made_records.clear();
  return outcome;
}

Result<void> Transport::send_pending() {
  while (pending_sent_ < pending_.size()) {
    const auto took = ::send(socket_.native_handle(), pending_.data() + pending_sent_,
                             pending_.size() - pending_sent_, MSG_NOSIGNAL);
    if (took >= 0) {
      pending_sent_ += static_cast<std::size_t>(took);
    } else if (nothing_now(errno)) {
      return {};
    } else if (errno != EINTR) {
      return tl::unexpected(socket_failure("writing", errno));
    }
  }
  pending_sent_ = 0;
  pending_ = {};  // an idle connection holds no buffer
  return {};
}

asio::awaitable<Result<void>> Transport::drain_pending(Clock::time_point deadline) {
  while (!pending_.empty()) {
    if (auto sent = send_pending(); !sent) co_return tl::unexpected(std::move(sent.error()));
    if (pending_.empty()) break;
    auto ready = co_await wait(asio::socket_base::wait_write, writing_,
                               std::min(deadline, Clock::now() + write_stall_));
    if (!ready) co_return tl::unexpected(std::move(ready.error()));
  }
  co_return Result<void>{};
}

void Transport::flush_in_background() {
  if (pending_.empty() || background_flush_ || closed_) return;
  background_flush_ = true;
  socket_.async_wait(asio::socket_base::wait_write,
                     [this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
                       if (alive.expired()) return;
                       background_flush_ = false;
                       if (closed_ || (error && error != asio::error::operation_aborted)) return;
                       if (!send_pending()) return close();
                       flush_in_background();
                     });
}

asio::awaitable<Result<void>> Transport::write(Pieces pieces, Cancelled when_cancelled) {
  add(counts_->out, size_of(pieces));
  return ssl_ ? write_tls(pieces, when_cancelled) : write_plain(pieces, when_cancelled);
}

void Transport::keep(Pieces pieces) {
  if (closed_ || !tls_usable_) return;
  if (ssl_) {
    ERR_clear_error();
    while (size_of(pieces) > 0 && tls_usable_) tls_usable_ = encrypt(ssl_.get(), pieces);
    pending_.insert(pending_.end(), made_records.begin(), made_records.end());
    made_records.clear();
  } else {
    for (const auto& piece : pieces) pending_.insert(pending_.end(), piece.begin(), piece.end());
  }
  flush_in_background();
}

asio::awaitable<Result<void>> Transport::write_plain(Pieces pieces, Cancelled when_cancelled) {
  const auto whole = size_of(pieces);
  if (auto sent = co_await drain_pending(kNever); !sent) co_return tl::unexpected(std::move(sent.error()));
  while (size_of(pieces) > 0) {
    if (closed_) co_return tl::unexpected(was_cancelled());
    std::array<iovec, std::tuple_size_v<Pieces>> parts{};
    for (std::size_t i = 0; i < parts.size(); ++i)
      parts[i] = {const_cast<std::byte*>(pieces[i].data()), pieces[i].size()};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const auto took = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
    if (took >= 0) {
      drop_front(pieces, static_cast<std::size_t>(took));
    } else if (nothing_now(errno)) {
      auto ready = co_await wait(asio::socket_base::wait_write, writing_, Clock::now() + write_stall_);
      if (ready) continue;
      const bool cancelled = ready.error().kind == Error::Kind::cancelled;
      if (cancelled && when_cancelled == Cancelled::finished && size_of(pieces) < whole) keep(pieces);
      co_return tl::unexpected(std::move(ready.error()));
    } else if (errno != EINTR) {
      co_return tl::unexpected(socket_failure("writing", errno));
    }
  }
  co_return Result<void>{};
}

asio::awaitable<Result<void>> Transport::write_tls(Pieces pieces, Cancelled when_cancelled) {
  const auto whole = size_of(pieces);
  const auto gave_up = [this, whole, when_cancelled](Error error, const Pieces& rest) {
    const bool begun = size_of(rest) < whole;
    if (error.kind == Error::Kind::cancelled && when_cancelled == Cancelled::finished && begun) keep(rest);
    return tl::unexpected(std::move(error));
  };
  do {
    if (auto sent = co_await drain_pending(kNever); !sent) co_return gave_up(std::move(sent.error()), pieces);
    if (closed_ || !tls_usable_) co_return tl::unexpected(was_cancelled());
    ERR_clear_error();
    if (!encrypt(ssl_.get(), pieces)) {
      tls_usable_ = false;
      made_records.clear();
      co_return tl::unexpected(tls_failure("writing"));
    }
    if (auto sent = flush(); !sent) co_return tl::unexpected(std::move(sent.error()));
  } while (size_of(pieces) > 0);
  if (auto sent = co_await drain_pending(kNever); !sent) co_return gave_up(std::move(sent.error()), pieces);
  co_return Result<void>{};
}

Result<void> Transport::post(std::span<const std::byte> bytes) {
  if (closed_ || !tls_usable_) return tl::unexpected(was_cancelled());
  add(counts_->out, bytes.size());
  if (ssl_) {
    ERR_clear_error();
    Pieces pieces{bytes, {}, {}};
    while (size_of(pieces) > 0) {
      if (!encrypt(ssl_.get(), pieces)) {
        tls_usable_ = false;
        made_records.clear();
        return tl::unexpected(tls_failure("writing"));
      }
    }
  } else {
    made_records.assign(bytes.begin(), bytes.end());
  }
  auto sent = flush();
  flush_in_background();
  return sent;
}

asio::awaitable<Result<void>> Transport::shutdown_write() {
  if (auto sent = co_await drain_pending(kNever); !sent) co_return tl::unexpected(std::move(sent.error()));
  if (closed_) co_return tl::unexpected(was_cancelled());
  if (ssl_ && tls_usable_ && SSL_is_init_finished(ssl_.get())) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    if (auto sent = flush(); !sent) co_return tl::unexpected(std::move(sent.error()));
    if (auto sent = co_await drain_pending(kNever); !sent) co_return tl::unexpected(std::move(sent.error()));
  }
  boost::system::error_code ignored;
  socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  co_return Result<void>{};
}

asio::awaitable<void> Transport::close_gracefully(Linger linger, Clock::time_point deadline) {
  if (closed_) co_return;
  const auto drained = co_await drain_pending(deadline);
  if (drained) {
    const auto ended = co_await shutdown_write();
    // Enough for what was in flight (Linux grows both ends' buffers to several MiB) and for callers that
    // read nothing before they have sent all; a peer that goes on sending is cut.
    std::size_t allowance = 8 * 1024 * 1024;
    std::array<std::byte, 16 * 1024> discarded;
    while (linger == Linger::yes && ended && allowance > 0) {
      const auto got = co_await read(discarded, deadline);
      if (!got || *got == 0) break;
      allowance -= std::min(allowance, *got);
    }
  }
  close();
}

void Transport::abort() noexcept {
  if (closed_) return;
  const linger reset{1, 0};
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close();
}

void Transport::close() noexcept {
  if (closed_) return;
  closed_ = true;
  boost::system::error_code ignored;
  socket_.close(ignored);
}

std::string Transport::tls_version() const {
  return ssl_ ? SSL_get_version(ssl_.get()) : "";
}

}  // namespace edge
