#include "tunnel/http_forward.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "tunnel/adaptive_buffer.h"
#include "tunnel/incoming.h"

namespace tunnel {

using namespace asio::experimental::awaitable_operators;
using Clock = DeadlineWatch::Clock;
using Ending = Forwarded::Ending;

namespace {

/// A body this small leaves with its head in one write and stays at hand for a retry.
constexpr std::uint64_t kSmallBody = 16 * 1024;
/// More interim answers than that are a fault or an attack.
constexpr unsigned kMaxInterim = 32;
/// Payload is reported to the observer in pieces of at least this size, and at the end.
constexpr std::uint64_t kReportBytes = 256 * 1024;
/// By name, for g++ 12 destroys some temporaries of a co_await expression twice.
const std::vector<Header> kNoTrailers;
/// "<16 hex digits>\r\n" before and "\r\n" after a chunk.
constexpr std::size_t kChunkSpare = 18;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::optional<std::chrono::milliseconds> parse_timeout(std::string_view text) {
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size() || seconds < 1 || seconds > 600)
    return std::nullopt;
  return std::chrono::seconds(seconds);
}

}  // namespace

/// One exchange on its way. Lives on the frame of HttpForward::forward().
class Forwarding : DeadlineWatch::Entry {
 public:
  Forwarding(HttpForward& owner, HttpExchange& exchange, const ForwardTarget& to)
      : owner_(owner), exchange_(exchange), request_(exchange.request()), to_(to), started_(Clock::now()) {}

  asio::awaitable<Served<Forwarded>> run() {
    if (auto wrong = read_timeout()) co_return tl::unexpected<Refusal>(std::move(*wrong));
    touch();
    const auto* sized = std::get_if<SizedBody>(&request_.body);
    small_ = std::holds_alternative<NoBody>(request_.body) ||
             (sized != nullptr && sized->bytes <= kSmallBody && !request_.expects_continue);
    build_head();
    if (small_ && sized != nullptr) {
      const bool taken = co_await take_small_body(sized->bytes);
      if (!taken) co_return caller_failed();
    }

    auto source = HttpPool::Source::idle_or_new;
    for (;;) {
      const OpenRequest wanted{*to_.principal, *to_.service,       deadline(), to_.priority,
                               head_.size(),   to_.queue_capacity, {},         &report_};
      auto lease = co_await owner_.pool_.take(wanted, source);
      note_channel(lease.has_value());
      if (!lease) co_return tl::unexpected<Refusal>(std::move(lease.error()));
      lease_ = std::move(*lease);
      if (timed_out_) co_return refuse(Code::timed_out, "no channel to " + name() + " in time");
      touch();
      co_await attempt();
      if (!may_retry()) break;
      lease_ = {};
      source = HttpPool::Source::new_only;
    }
    leave();
    report(true);
    co_return verdict();
  }

 private:
  /// What stopped reading the answer.
  enum class Fault { none, no_answer, broken_head, cut };

  std::string name() const { return "service " + to_.service->name; }

  // --- The request ----------------------------------------------------------------------------

  std::optional<Refusal> read_timeout() {
    timeout_ = owner_.options_.request_timeout;
    if (const auto* wanted = request_.find("x-tunnel-timeout")) {
      const auto parsed = parse_timeout(*wanted);
      if (!parsed) return Refusal{Code::bad_request, "X-Tunnel-Timeout is not a whole number from 1 to 600"};
      timeout_ = *parsed;
    }
    return std::nullopt;
  }

  void build_head() {
    head_ = head_for_service(request_, {.service = to_.service,
                                        .target = to_.target,
                                        .credential = to_.credential,
                                        .peer_address = exchange_.peer_address(),
                                        .scheme = exchange_.scheme(),
                                        .correlation_id = exchange_.correlation_id(),
                                        .body = request_.body,
                                        .traceparent = to_.traceparent,
                                        .tracestate = to_.tracestate});
  }

  /// Times of one try for a channel.
  void note_channel(bool got_one) {
    times_.queued += report_.queued;
    report_ = {};
    if (got_one && !times_.got_channel_after) times_.got_channel_after = Clock::now() - started_;
    if (to_.times != nullptr) *to_.times = times_;
  }

  /// Appends the whole body to the head. False when the caller did not deliver it.
  asio::awaitable<bool> take_small_body(std::uint64_t bytes) {
    const auto head_size = head_.size();
    head_.resize(head_size + static_cast<std::size_t>(bytes));
    auto left = std::as_writable_bytes(std::span(head_)).subspan(head_size);
    ++waits_for_caller_;
    while (!left.empty()) {
      const auto got = co_await exchange_.read_body(left);
      if (!got)
        caller_error_ = got.error();
      else if (*got == 0)
        caller_error_ = Error{Error::Kind::bad_input, "the body is shorter than announced"};
      if (caller_error_) co_return false;
      from_caller_ += *got;
      left = left.subspan(*got);
    }
    --waits_for_caller_;
    touch();
    co_return true;
  }

  /// One try over one channel: send, and carry the answer to its end.
  asio::awaitable<void> attempt() {
    fault_ = Fault::none;
    in_ = Incoming(owner_.options_.limits.max_total_bytes);
    if (small_) {
      sent_at_ = Clock::now();
      const auto written = co_await lease_.stream->write(bytes_of(head_));
      request_done_ = written.has_value();
      // A service that refuses to read may have answered all the same.
      co_await download();
    } else {
      const auto executor = co_await asio::this_coro::executor;
      if (request_.expects_continue) go_.emplace(executor, Clock::now() + owner_.options_.continue_wait);
      co_await (download_beside_upload() || upload_then_wait());
    }
  }

  asio::awaitable<void> download_beside_upload() {
    co_await download();
    download_over_ = true;  // the upload is cancelled now, which is not the caller's failure
  }

  /// Never the first to end: an answer that comes early ends the upload, not the other way round.
  asio::awaitable<void> upload_then_wait() {
    co_await upload();
    if (caller_error_) lease_.stream->close();  // wakes download(), which ends the exchange
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer forever(executor, Clock::time_point::max());
    co_await forever.async_wait(asio::as_tuple(asio::use_awaitable));
  }

  asio::awaitable<void> upload() {
    sent_at_ = Clock::now();
    if (!co_await lease_.stream->write(bytes_of(head_))) co_return;
    touch();
    if (request_.expects_continue) {
      if (!may_send_body_) co_await go_->async_wait(asio::as_tuple(asio::use_awaitable));
      if (answered_) co_return;  // a final answer came instead
    }
    const auto* sized = std::get_if<SizedBody>(&request_.body);
    const bool chunked = sized == nullptr;
    AdaptiveBuffer buffer(kChunkSpare);
    while (chunked || from_caller_ < sized->bytes) {
      const auto space = buffer.space();
      ++waits_for_caller_;
      body_touched_ = true;
      const auto got = co_await exchange_.read_body(space);
      --waits_for_caller_;
      touch();
      if (!got) {
        if (!download_over_) caller_error_ = got.error();
        co_return;
      }
      if (*got == 0) break;
      from_caller_ += *got;
      report(false);
      const auto piece = chunked ? frame(space, *got) : std::span<const std::byte>(space.first(*got));
      if (!co_await lease_.stream->write(piece)) co_return;
      touch();
      buffer.note(*got);
    }
    if (chunked) {
      const auto last = chunk_end(exchange_.trailers());
      const auto ended = co_await lease_.stream->write(bytes_of(last));
      if (!ended) co_return;
    }
    request_done_ = true;
    sent_at_ = Clock::now();
    touch();
  }

  /// The chunk around the first `size` bytes of `space`, built in the spare bytes on both sides.
  static std::span<const std::byte> frame(std::span<std::byte> space, std::size_t size) {
    const auto prefix = chunk_prefix(size);
    std::byte* const start = space.data() - prefix.size();
    std::memcpy(start, prefix.data(), prefix.size());
    std::memcpy(space.data() + size, "\r\n", 2);
    return {start, prefix.size() + size + 2};
  }

  // --- The answer -----------------------------------------------------------------------------

  asio::awaitable<void> download() {
    for (unsigned interim = 0;;) {
      if (!co_await read_head()) co_return;
      if (answer_.status >= 200) break;
      if (answer_.status == 101) {
        if (upgrade_passes(request_) && request_done_)
          co_await upgraded();
        else
          fail(Fault::broken_head, "101 without being asked to upgrade");
        co_return;
      }
      if (++interim > kMaxInterim) co_return fail(Fault::broken_head, "too many interim answers");
      if (answer_.status == 100) {
        let_body_go();
      } else if (request_.minor_version == 1) {
        // What a caller misses of an interim answer it is free to miss; a broken connection shows later.
        const auto interim_head = for_caller();
        co_await exchange_.send_interim(interim_head);
      }
    }
    answered_ = true;
    let_body_go();
    co_await body();
  }

  void let_body_go() {
    may_send_body_ = true;
    if (go_) go_->cancel();
  }

  /// Reads until answer_ holds the next head. False after fail().
  asio::awaitable<bool> read_head() {
    std::size_t scanned = 0;
    for (;;) {
      if (const auto size = find_head_end(in_.bytes(), scanned)) {
        const auto text = in_.take(*size);
        auto parsed = parse_response_head({reinterpret_cast<const char*>(text.data()), text.size()},
                                          request_.method, owner_.options_.limits);
        if (!parsed) {
          fail(Fault::broken_head, std::string(parsed.error().reason));
          co_return false;
        }
        answer_ = std::move(*parsed);
        co_return true;
      }
      const auto space = in_.space_for_head();
      if (space.empty()) {
        fail(Fault::broken_head, "header_size");
        co_return false;
      }
      const auto got = co_await lease_.stream->read(space);
      if (!got || *got == 0) {
        const auto why = got ? std::string("the service closed the connection") : got.error().message;
        fail(heard_ ? Fault::broken_head : Fault::no_answer, why);
        co_return false;
      }
      if (!heard_) waited_ = Clock::now() - sent_at_;
      heard_ = true;
      touch();
      in_.stored(*got);
    }
  }

  ResponseHead for_caller() {
    return head_for_caller(std::move(answer_), request_.method, request_.minor_version,
                           exchange_.correlation_id());
  }

  /// The head that ends the wait: of an answer, or of an upgrade.
  ResponseHead final_for_caller() {
    auto head = for_caller();
    for (const auto& field : to_.answer_fields) {
      std::erase_if(head.fields, [&field](const Header& other) { return same_name(other.name, field.name); });
    }
    head.fields.insert(head.fields.end(), to_.answer_fields.begin(), to_.answer_fields.end());
    return head;
  }

  asio::awaitable<void> body() {
    status_ = answer_.status;
    const auto framing = answer_.body;
    const bool keeps = answer_.keep_alive;
    const auto head = final_for_caller();
    bool whole = false;
    if (std::holds_alternative<NoBody>(framing))
      whole = co_await send_bodiless(head);
    else if (const auto* sized = std::get_if<SizedBody>(&framing))
      whole = co_await sized_body(head, sized->bytes);
    else if (std::holds_alternative<ChunkedBody>(framing))
      whole = co_await chunked_body(head);
    else
      whole = co_await body_until_close(head);
    if (!whole || !keeps || !request_done_ || !in_.bytes().empty() || timed_out_) co_return;
    owner_.pool_.put(std::move(lease_));
    lease_ = {};
  }

  asio::awaitable<bool> send_bodiless(const ResponseHead& head) {
    head_sent_ = true;
    ++waits_for_caller_;
    auto sent = co_await exchange_.send_head(head);
    if (sent) sent = co_await exchange_.finish(kNoTrailers);
    co_return sent_to_caller(sent);
  }

  asio::awaitable<bool> sized_body(const ResponseHead& head, std::uint64_t left) {
    auto piece = in_.take(static_cast<std::size_t>(std::min<std::uint64_t>(left, in_.bytes().size())));
    left -= piece.size();
    if (!co_await send_first(head, piece)) co_return false;
    while (left > 0) {
      if (!co_await read_more())
        co_return fail_cut("the service closed the connection in the middle of the body");
      piece = in_.take(static_cast<std::size_t>(std::min<std::uint64_t>(left, in_.bytes().size())));
      left -= piece.size();
      if (!co_await send_piece(piece)) co_return false;
    }
    co_return co_await finish(kNoTrailers);
  }

  asio::awaitable<bool> chunked_body(const ResponseHead& head) {
    ChunkDecoder decoder(owner_.options_.limits);
    bool first = true;
    for (;;) {
      auto decoded = in_.decode(decoder);
      if (!decoded) {
        // Nothing of the answer has left yet: say so properly.
        if (first)
          fail(Fault::broken_head, std::string(decoded.error().reason));
        else
          fail(Fault::cut, std::string(decoded.error().reason));
        co_return false;
      }
      bool sent = true;
      if (first)
        sent = co_await send_first(head, decoded->data);
      else if (!decoded->data.empty())
        sent = co_await send_piece(decoded->data);
      if (!sent) co_return false;
      first = false;
      if (decoded->done) break;
      if (!co_await read_more())
        co_return fail_cut("the service closed the connection in the middle of the body");
    }
    co_return co_await finish(request_.minor_version == 1 ? decoder.trailers() : kNoTrailers);
  }

  asio::awaitable<bool> body_until_close(const ResponseHead& head) {
    if (!co_await send_first(head, in_.take(in_.bytes().size()))) co_return false;
    for (;;) {
      // Not `while (co_await …)`: g++ 12 makes a trap of a co_await in a loop's condition and body.
      const bool more = co_await read_more();
      if (!more) break;
      const bool sent = co_await send_piece(in_.take(in_.bytes().size()));
      if (!sent) co_return false;
    }
    if (!at_end_) co_return fail_cut("the service's connection broke in the middle of the body");
    co_return co_await finish(kNoTrailers);
  }

  /// More bytes of the body into in_; false at the service's end (at_end_) or when the channel broke.
  asio::awaitable<bool> read_more() {
    const auto got = co_await lease_.stream->read(in_.space_for_body());
    at_end_ = got.has_value() && *got == 0;
    if (!got) broke_because_ = got.error().message;
    if (!got || *got == 0) co_return false;
    touch();
    in_.stored(*got);
    co_return true;
  }

  asio::awaitable<bool> send_first(const ResponseHead& head, std::span<const std::byte> piece) {
    head_sent_ = true;
    ++waits_for_caller_;
    from_service_ += piece.size();
    if (piece.empty()) co_return sent_to_caller(co_await exchange_.send_head(head));
    co_return sent_to_caller(co_await exchange_.send_head_with(head, piece));
  }

  asio::awaitable<bool> send_piece(std::span<const std::byte> piece) {
    ++waits_for_caller_;
    from_service_ += piece.size();
    report(false);
    co_return sent_to_caller(co_await exchange_.write_body(piece));
  }

  asio::awaitable<bool> finish(const std::vector<Header>& trailers) {
    ++waits_for_caller_;
    co_return sent_to_caller(co_await exchange_.finish(trailers));
  }

  /// Closes the bracket that ++waits_for_caller_ opened.
  bool sent_to_caller(const Result<void>& sent) {
    --waits_for_caller_;
    touch();
    if (!sent && !caller_error_) caller_error_ = sent.error();
    return sent.has_value();
  }

  asio::awaitable<void> upgraded() {
    status_ = 101;
    head_sent_ = true;
    const auto switching = final_for_caller();
    auto caller = co_await exchange_.upgrade(switching);
    if (!caller) {
      caller_error_ = caller.error();
      co_return;
    }
    leave();  // from here on the relay's own limits hold
    upgraded_ = true;
    const auto early = in_.take(in_.bytes().size());
    if (!early.empty()) {
      const auto sent = co_await (*caller)->write(early);
      if (!sent) {
        caller_error_ = sent.error();
        co_return;
      }
      from_service_ += early.size();
    }
    report(true);
    RelayOptions options;
    options.idle_limit = owner_.options_.idle_limit;
    options.control = to_.relay_control;
    const auto expires = to_.principal->expires_at;
    if (expires != std::chrono::system_clock::time_point{})
      options.until = Clock::now() +
                      std::chrono::duration_cast<Clock::duration>(expires - std::chrono::system_clock::now());
    relay_ = co_await relay(**caller, *lease_.stream, owner_.watch_, owner_.observer_, options);
    (*caller)->close();
  }

  // --- Deadlines and verdict --------------------------------------------------------------------

  /// The service has until then for its next sign of life.
  void touch() {
    auto deadline = started_ + owner_.options_.max_duration;
    if (waits_for_caller_ == 0) deadline = std::min(deadline, Clock::now() + timeout_);
    if (!timed_out_ && !upgraded_) watch_until(owner_.watch_, deadline);
  }

  void expired() override {
    const auto whole = started_ + owner_.options_.max_duration;
    // While the caller is the slow one its own limits hold, and the next touch() sets ours again.
    if (waits_for_caller_ > 0 && Clock::now() < whole) return watch_until(owner_.watch_, whole);
    timed_out_ = true;
    if (lease_.stream) lease_.stream->close();
    // A write to the caller may be what hangs; nothing can be said to it any more.
    if (head_sent_) exchange_.abort();
  }

  void fail(Fault fault, std::string why) {
    fault_ = fault;
    why_ = std::move(why);
  }

  bool fail_cut(std::string why) {
    fail(Fault::cut, broke_because_.empty() ? std::move(why) : broke_because_);
    return false;
  }

  bool may_retry() const {
    return fault_ == Fault::no_answer && lease_.reused && !timed_out_ && !caller_error_ && !body_touched_ &&
           repeatable(request_);
  }

  void report(bool all) {
    const auto up = from_caller_ - reported_up_;
    const auto down = from_service_ - reported_down_;
    if (up + down == 0 || (!all && up + down < kReportBytes)) return;
    owner_.observer_.bytes(Side::client, static_cast<std::size_t>(up), static_cast<std::size_t>(down));
    owner_.observer_.bytes(Side::agent, static_cast<std::size_t>(down), static_cast<std::size_t>(up));
    reported_up_ = from_caller_;
    reported_down_ = from_service_;
  }

  Forwarded result(Ending ending, std::string why) {
    Forwarded done;
    done.ending = ending;
    done.status = status_;
    done.why = std::move(why);
    done.from_caller_bytes = from_caller_ + (relay_ ? relay_->from_caller_bytes : 0);
    done.from_service_bytes = from_service_ + (relay_ ? relay_->from_service_bytes : 0);
    done.waited_for_service = waited_;
    done.got_channel_after = times_.got_channel_after.value_or(Clock::duration::zero());
    done.queued = times_.queued;
    done.relay = std::move(relay_);
    return done;
  }

  /// The caller's side failed: a refusal if it can still be told, else the end.
  Served<Forwarded> caller_failed() {
    leave();
    report(true);
    if (!head_sent_ && caller_error_->kind == Error::Kind::bad_input)
      return refuse(Code::bad_request, caller_error_->message);
    if (!head_sent_ && caller_error_->kind == Error::Kind::timed_out)
      return tl::unexpected<Refusal>(Refusal{Code::bad_request, caller_error_->message, {}, 408U});
    exchange_.abort();
    if (status_ == 0) status_ = 499;
    return result(Ending::caller_gone, caller_error_->message);
  }

  Served<Forwarded> verdict() {
    if (timed_out_) {
      if (!head_sent_) return refuse(Code::timed_out, name() + " did not answer in time");
      exchange_.abort();
      return result(Ending::timed_out, name() + " paused too long or took too long");
    }
    if (relay_) return result(Ending::upgraded, relay_->why);
    if (caller_error_) return caller_failed();
    switch (fault_) {
      case Fault::none: return result(Ending::complete, {});
      case Fault::no_answer:
        if (repeatable(request_)) return refuse(Code::ssh_error, name() + ": no answer: " + why_);
        return refuse(Code::outcome_unknown, name() + ": the request was sent and not answered: " + why_);
      case Fault::broken_head:
        if (!head_sent_) return refuse(Code::websocket_error, name() + " broke HTTP: " + why_);
        break;
      case Fault::cut: break;
    }
    exchange_.abort();
    return result(Ending::service_cut, name() + ": " + why_);
  }

  HttpForward& owner_;
  HttpExchange& exchange_;
  const RequestHead& request_;
  const ForwardTarget& to_;
  const Clock::time_point started_;
  std::chrono::milliseconds timeout_{};

  HttpPool::Lease lease_;
  std::string head_;  // and the body, if it is small
  Incoming in_{0};
  ResponseHead answer_;
  std::optional<asio::steady_timer> go_;  // lets a body wait for "100 Continue"

  bool small_ = false;
  bool request_done_ = false;   // sent to its end
  bool body_touched_ = false;   // the caller's body was read from, so it cannot be sent again
  bool may_send_body_ = false;  // "100 Continue" came
  bool download_over_ = false;
  bool heard_ = false;      // a first byte came
  bool answered_ = false;   // a final head came
  bool head_sent_ = false;  // the caller has begun to get an answer
  bool upgraded_ = false;
  bool at_end_ = false;
  bool timed_out_ = false;
  int waits_for_caller_ = 0;

  unsigned status_ = 0;
  Fault fault_ = Fault::none;
  std::string why_;
  std::string broke_because_;
  std::optional<Error> caller_error_;
  std::optional<RelayEnd> relay_;
  Clock::time_point sent_at_{};
  Clock::duration waited_{};
  OpenReport report_;
  ForwardTimes times_;
  std::uint64_t from_caller_ = 0;
  std::uint64_t from_service_ = 0;
  std::uint64_t reported_up_ = 0;
  std::uint64_t reported_down_ = 0;
};

asio::awaitable<Served<Forwarded>> HttpForward::forward(HttpExchange& exchange, const ForwardTarget& to) {
  Forwarding story(*this, exchange, to);
  co_return co_await story.run();
}

}  // namespace tunnel
