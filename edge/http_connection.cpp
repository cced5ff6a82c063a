#include "edge/http_connection.h"

#include <array>

#include "edge/exchange.h"
#include "edge/proxy_header.h"

namespace edge {

using tunnel::Malformed;

namespace {

tl::unexpected<std::string> ended(const char* how) {
  return tl::unexpected(std::string(how));
}

/// Most requests are answered before that, and cost no more than being entered in a list.
constexpr auto kUnwatched = std::chrono::milliseconds(50);
/// While the body is the handler's to read, its end is asked for this often.
constexpr auto kLookAgain = std::chrono::milliseconds(250);

/// One per thread and used without suspension: an idle connection owns no buffer.
std::span<std::byte> arrivals() {
  thread_local std::array<std::byte, 16 * 1024> arrived;
  return arrived;
}

}  // namespace

class HttpConnection::CallerWatch {
 public:
  CallerWatch(HttpConnection& connection, Exchange& exchange) : connection_(connection) {
    connection_.serving_ = &exchange;
    connection_.watch_until(connection_.context_.watch, exchange.began() + kUnwatched);
  }
  ~CallerWatch() {
    connection_.leave();
    connection_.transport_->when_readable(nullptr);
    connection_.serving_ = nullptr;
  }
  CallerWatch(const CallerWatch&) = delete;
  CallerWatch& operator=(const CallerWatch&) = delete;

 private:
  HttpConnection& connection_;
};

HttpConnection::HttpConnection(std::shared_ptr<Transport> transport, Context context)
    : transport_(std::move(transport)), context_(std::move(context)) {}

asio::awaitable<std::string> HttpConnection::run() {
  if (context_.behind_proxy) {
    auto met = co_await meet_proxy();
    if (!met) {
      transport_->abort();
      co_return std::move(met.error());
    }
  }
  const auto began = Transport::Clock::now();
  auto shaken = co_await transport_->handshake(began + context_.options.handshake_timeout);
  if (!shaken) {
    context_.observer.request_rejected("tls_handshake");
    co_return shaken.error().message;
  }
  if (transport_->is_tls()) context_.observer.setup_finished("tls", Transport::Clock::now() - began);

  for (;;) {
    auto head = co_await next_request();
    if (!head) co_return std::move(head.error());
    context_.record->count_request();
    Exchange exchange(*this, std::move(*head));
    try {
      const CallerWatch watch(*this, exchange);
      co_await context_.handler.handle(exchange);
    } catch (...) {
      if (!caller_left_) throw;  // else it is what became of being cancelled
    }
    if (caller_left_) {
      transport_->abort();
      co_return "closed by peer";
    }
    const auto fate = co_await exchange.conclude();
    if (fate == Exchange::Fate::taken) co_return "upgraded";
    if (fate == Exchange::Fate::broken) {
      transport_->abort();
      co_return "answer cut short";
    }
    if (fate == Exchange::Fate::close || draining_) {
      co_await transport_->close_gracefully(Transport::Linger::yes,
                                            Transport::Clock::now() + context_.options.close_timeout);
      co_return "closed after the answer";
    }
  }
}

asio::awaitable<tl::expected<void, std::string>> HttpConnection::meet_proxy() {
  const auto deadline = Transport::Clock::now() + context_.options.header_timeout;
  const auto refused = [this](std::string_view why) {
    context_.observer.socket_refused("proxy_protocol");
    return tl::unexpected("PROXY header: " + std::string(why));
  };
  std::array<std::byte, kMaxProxyHeaderBytes> header{};
  const auto prologue = std::span(header).first(kProxyPrologueBytes);
  const auto began = co_await transport_->read_ahead_of_tls(prologue, deadline);
  if (!began) co_return refused(began.error().message);
  // A balancer that only looks whether somebody listens.
  if (*began == 0) co_return ended("closed by peer");
  const auto size = proxy_header_size(std::span(prologue).first(*began));
  if (!size) co_return refused(size.error());
  const auto rest = std::span(header).first(*size).subspan(kProxyPrologueBytes);
  const auto got = co_await transport_->read_ahead_of_tls(rest, deadline);
  if (!got) co_return refused(got.error().message);
  const auto parsed = parse_proxy_header(std::span(header).first(kProxyPrologueBytes + *got));
  if (!parsed) co_return refused(parsed.error());
  if (!parsed->source) co_return tl::expected<void, std::string>{};

  context_.peer_address = parsed->source->address().to_string();
  context_.record->set_peer(to_text(*parsed->source));
  if (context_.admit && !context_.admit(context_.peer_address)) {
    context_.observer.socket_refused("address");
    co_return ended("refused: address");
  }
  co_return tl::expected<void, std::string>{};
}

asio::awaitable<tl::expected<tunnel::RequestHead, std::string>> HttpConnection::next_request() {
  const auto& options = context_.options;
  std::size_t scanned = 0;
  std::optional<Transport::Clock::time_point> due;
  if (first_request_ || !in_.empty()) due = Transport::Clock::now() + options.header_timeout;
  first_request_ = false;
  for (;;) {
    const auto end = tunnel::find_head_end(std::as_bytes(std::span(in_)), scanned);
    if (end && *end <= options.head.max_total_bytes) {
      auto head = tunnel::parse_request_head(std::string_view(in_).substr(0, *end), options.head);
      if (!head) co_return tl::unexpected(co_await refuse_and_close(head.error()));
      forget_consumed(*end);
      co_return std::move(*head);
    }
    if (in_.size() > options.head.max_total_bytes)
      co_return tl::unexpected(co_await refuse_and_close(Malformed{"header_size", 431}));
    if (in_.size() > options.head.max_line_bytes && in_.find('\n') == std::string::npos)
      co_return tl::unexpected(co_await refuse_and_close(Malformed{"request_line_size", 414}));
    if (draining_ && in_.empty()) {
      co_await transport_->close_gracefully(Transport::Linger::no,
                                            Transport::Clock::now() + options.close_timeout);
      co_return ended("drained while idle");
    }

    waiting_for_request_ = in_.empty();
    auto got = co_await read_more(due ? *due : Transport::Clock::now() + options.keep_alive_idle);
    waiting_for_request_ = false;
    if (!got && got.error().kind == Error::Kind::timed_out && in_.empty()) {
      if (draining_) continue;
      co_await transport_->close_gracefully(Transport::Linger::no,
                                            Transport::Clock::now() + options.close_timeout);
      co_return ended("idle");
    }
    if (!got && got.error().kind == Error::Kind::timed_out)
      co_return tl::unexpected(co_await refuse_and_close(Malformed{"header_timeout", 408}));
    if (!got) co_return tl::unexpected(std::move(got.error().message));
    if (*got == 0) {
      co_await transport_->close_gracefully(Transport::Linger::no,
                                            Transport::Clock::now() + options.close_timeout);
      co_return ended(in_.empty() ? "closed by peer" : "closed by peer within a request head");
    }
    if (!due) due = Transport::Clock::now() + options.header_timeout;
  }
}

asio::awaitable<std::string> HttpConnection::refuse_and_close(Malformed why) {
  context_.observer.request_rejected(why.reason);
  tunnel::RequestHead unparsed;
  unparsed.method = "GET";
  unparsed.keep_alive = false;
  Exchange exchange(*this, std::move(unparsed));
  const bool too_large = why.status == 413 || why.status == 414 || why.status == 431;
  auto code = too_large ? tunnel::Code::too_large : tunnel::Code::bad_request;
  if (why.status == 408) code = tunnel::Code::timed_out;
  const tunnel::Refusal refusal{code, "the request was refused: " + std::string(why.reason), std::nullopt,
                                why.status};
  co_await exchange.answer_error(refusal, std::vector<tunnel::Header>());
  co_await transport_->close_gracefully(Transport::Linger::yes,
                                        Transport::Clock::now() + context_.options.close_timeout);
  co_return "refused: " + std::string(why.reason);
}

asio::awaitable<Result<std::size_t>> HttpConnection::read_more(Transport::Clock::time_point deadline) {
  const auto arrived = arrivals();
  for (;;) {
    if (auto ready = co_await transport_->wait_readable(deadline); !ready)
      co_return tl::unexpected(std::move(ready.error()));
    auto got = transport_->try_read(arrived);
    if (!got) co_return tl::unexpected(std::move(got.error()));
    if (!*got) continue;
    in_.append(reinterpret_cast<const char*>(arrived.data()), **got);
    co_return **got;
  }
}

void HttpConnection::look_after_caller() {
  if (serving_ == nullptr || caller_left_ || !serving_->needs_caller()) return;
  if (!serving_->has_whole_request()) {
    // The handler may be reading, and what has arrived may be the body: neither is ours to touch.
    if (transport_->peer_has_ended()) return caller_leaves();
    return watch_until(context_.watch, Transport::Clock::now() + kLookAgain);
  }
  // What comes now is the next request.
  const auto arrived = arrivals();
  while (in_.size() < context_.options.head.max_total_bytes) {
    const auto got = transport_->try_read(arrived);
    if (!got || (*got && **got == 0)) return caller_leaves();
    if (!*got) return transport_->when_readable([this] { look_after_caller(); });
    in_.append(reinterpret_cast<const char*>(arrived.data()), **got);
  }
}

void HttpConnection::caller_leaves() {
  caller_left_ = true;
  context_.cancel();
}

void HttpConnection::forget_consumed(std::size_t bytes) {
  if (bytes == in_.size())
    in_ = {};
  else
    in_.erase(0, bytes);
}

void HttpConnection::drain() {
  draining_ = true;
  if (waiting_for_request_) transport_->expire_read();
}

}  // namespace edge
