#include "edge/exchange.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <random>

#include "edge/message_compression.h"
#include "edge/moved_websocket.h"
#include "edge/raw_stream.h"
#include "edge/websocket.h"
#include "edge/websocket_handshake.h"

namespace edge {

using tunnel::BodyFraming;
using tunnel::ChunkedBody;
using tunnel::Header;
using tunnel::NoBody;
using tunnel::ResponseHead;
using tunnel::SizedBody;
using tunnel::UntilCloseBody;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::tm parts_of(std::time_t when) {
  std::tm parts{};
  gmtime_r(&when, &parts);
  return parts;
}

std::string rfc3339_now() {
  const auto parts = parts_of(std::time(nullptr));
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

/// RFC 9110 5.6.7, made once a second and thread.
const std::string& date_now() {
  thread_local std::time_t made_at = 0;
  thread_local std::string text;
  const auto now = std::time(nullptr);
  if (now != made_at) {
    made_at = now;
    const auto parts = parts_of(now);
    std::array<char, 64> made{};
    text.assign(made.data(), std::strftime(made.data(), made.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts));
  }
  return text;
}

/// The extensions a caller offers: what several fields list is one list (RFC 9110 5.3).
std::string joined_extensions(const tunnel::RequestHead& head) {
  std::string all;
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, "Sec-WebSocket-Extensions")) continue;
    if (!all.empty()) all += ", ";
    all += field.value;
  }
  return all;
}

bool is_correlation_id(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

/// An identifier for logs, not a secret.
std::string new_correlation_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(24, '0');
  for (std::size_t i = 0; i < text.size(); i += 12) {
    auto bits = random();
    for (std::size_t j = 0; j < 12; ++j, bits >>= 4U) text[i + j] = kDigits[bits & 15U];
  }
  return text;
}

const char* reason_of(unsigned status) {
  switch (status) {
    case 400: return "Bad Request";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 426: return "Upgrade Required";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 505: return "HTTP Version Not Supported";
    default: return status < 500 ? "Refused" : "Failed";
  }
}

}  // namespace

Exchange::Exchange(HttpConnection& connection, tunnel::RequestHead head)
    : connection_(connection), head_(std::move(head)), keep_alive_(head_.keep_alive) {
  const auto* wanted = head_.find("X-Correlation-ID");
  correlation_id_ = wanted != nullptr && is_correlation_id(*wanted) ? *wanted : new_correlation_id();
  if (const auto* sized = std::get_if<SizedBody>(&head_.body))
    body_left_ = sized->bytes;
  else if (std::holds_alternative<ChunkedBody>(head_.body))
    chunks_.emplace(connection_.context_.options.head);
  body_done_ = !chunks_ && body_left_ == 0;
  continue_owed_ = head_.expects_continue && !body_done_;
}

void Exchange::authenticated(tunnel::Tier tier) {
  connection_.tier_ = tier;
  if (connection_.authenticated_) return;
  connection_.authenticated_ = true;
  const auto& context = connection_.context_;
  if (context.on_authenticated) context.on_authenticated(context.peer_address);
}

void Exchange::serving(std::string_view service) {
  connection_.context_.record->set_service(service);
}

void Exchange::identified(std::string_view principal_hash) {
  connection_.context_.record->set_principal(principal_hash);
}

asio::awaitable<Result<std::size_t>> Exchange::receive(std::span<std::byte> into) {
  auto& in = connection_.in_;
  if (!in.empty()) {
    const auto size = std::min(into.size(), in.size());
    std::memcpy(into.data(), in.data(), size);
    connection_.forget_consumed(size);
    co_return size;
  }
  // Only before the first wait, and never after the head of the final answer (RFC 9110 10.1.1).
  if (continue_owed_ && answer_ == Answer::none) {
    continue_owed_ = false;
    constexpr std::string_view kGoOn = "HTTP/1.1 100 Continue\r\n\r\n";
    if (auto sent = connection_.transport_->post(bytes_of(kGoOn)); !sent)
      co_return tl::unexpected(std::move(sent.error()));
  }
  auto got = co_await connection_.transport_->read(
      into, Transport::Clock::now() + connection_.context_.options.body_timeout);
  if (!got && got.error().kind == Error::Kind::timed_out)
    co_return fail(Error::Kind::timed_out, "the request's body stalled");
  if (got && *got == 0)
    co_return fail(Error::Kind::bad_input, "the caller hung up within the request's body");
  co_return got;
}

asio::awaitable<Result<std::size_t>> Exchange::read_body(std::span<std::byte> into) {
  if (body_done_ || into.empty()) co_return std::size_t{0};
  // Not `?:`: g++ 12 destroys the temporaries of a co_await in there twice.
  Result<std::size_t> got;
  if (chunks_)
    got = co_await read_chunked(into);
  else
    got = co_await read_sized(into);
  if (!got) keep_alive_ = false;
  co_return got;
}

asio::awaitable<Result<std::size_t>> Exchange::read_sized(std::span<std::byte> into) {
  if (into.size() > body_left_) into = into.first(static_cast<std::size_t>(body_left_));
  auto got = co_await receive(into);
  if (!got) co_return got;
  body_left_ -= *got;
  body_done_ = body_left_ == 0;
  continue_owed_ = false;
  co_return got;
}

asio::awaitable<Result<std::size_t>> Exchange::read_chunked(std::span<std::byte> into) {
  for (;;) {
    auto got = co_await receive(into);
    if (!got) co_return got;
    continue_owed_ = false;
    // Decoded where it lies; the payload moves to the front over the chunk sizes.
    std::span<const std::byte> input = into.first(*got);
    std::size_t filled = 0;
    while (!input.empty() && !body_done_) {
      auto step = chunks_->decode(input);
      if (!step) {
        connection_.context_.observer.request_rejected(step.error().reason);
        co_return fail(Error::Kind::bad_input,
                       "the request's chunked body is broken: " + std::string(step.error().reason));
      }
      if (!step->data.empty()) std::memmove(into.data() + filled, step->data.data(), step->data.size());
      filled += step->data.size();
      input = input.subspan(step->consumed);
      body_done_ = step->done;
      if (step->consumed == 0 && !step->done) break;
    }
    // What follows the body is the next request.
    connection_.in_.insert(0, reinterpret_cast<const char*>(input.data()), input.size());
    if (body_done_) trailers_ = chunks_->trailers();
    if (filled > 0 || body_done_) co_return filled;
  }
}

asio::awaitable<Result<void>> Exchange::send_interim(const ResponseHead& head) {
  if (answer_ != Answer::none) co_return misuse("an interim answer after the final head");
  if (head_.minor_version == 0) co_return Result<void>{};  // RFC 9110 15.2: 1.0 callers get none
  const auto text = tunnel::serialize(head);
  co_return co_await connection_.transport_->write(bytes_of(text));
}

std::string Exchange::begin_answer(const ResponseHead& given) {
  const ResponseHead* head = &given;
  ResponseHead changed;
  const bool no_content = given.status == 204 || given.status == 304;
  bodiless_ = head_.method == "HEAD" || no_content;
  framing_ = given.body;
  if (std::holds_alternative<ChunkedBody>(framing_) && head_.minor_version == 0) framing_ = UntilCloseBody{};
  if (given.status == 204) framing_ = NoBody{};  // RFC 9112 6.1, 6.2: no framing fields
  if (framing_.index() != given.body.index() || given.minor_version != 1) {
    changed = given;
    changed.body = framing_;
    changed.minor_version = 1;
    head = &changed;
  }
  if (const auto* sized = std::get_if<SizedBody>(&framing_)) answer_left_ = sized->bytes;
  if (std::holds_alternative<UntilCloseBody>(framing_) && !bodiless_) keep_alive_ = false;
  // A caller still waiting for 100 Continue may or may not send its body now: nothing after it can be
  // told apart.
  if (continue_owed_ || connection_.draining_ || !given.keep_alive) keep_alive_ = false;

  auto text = tunnel::serialize(*head);
  text.resize(text.size() - 2);
  if (given.find("Date") == nullptr) text.append("Date: ").append(date_now()).append("\r\n");
  if (!keep_alive_)
    text.append("Connection: close\r\n");
  else if (head_.minor_version == 0)
    text.append("Connection: keep-alive\r\n");
  text.append("\r\n");
  answer_ = Answer::streaming;
  return text;
}

tl::unexpected<Error> Exchange::misuse(const char* what) {
  if (answer_ == Answer::streaming || answer_ == Answer::finished) answer_ = Answer::broken;
  return fail(Error::Kind::bug, std::string("the handler made ") + what);
}

Result<void> Exchange::account(std::size_t bytes) {
  if (answer_ != Answer::streaming) return misuse("a body outside of an answer");
  if (bodiless_) return {};
  if (std::holds_alternative<NoBody>(framing_) && bytes > 0)
    return misuse("a body for an answer without one");
  if (std::holds_alternative<SizedBody>(framing_)) {
    if (bytes > answer_left_) return misuse("a longer body than announced");
    answer_left_ -= bytes;
  }
  return {};
}

asio::awaitable<Result<void>> Exchange::send_head(const ResponseHead& head) {
  if (answer_ != Answer::none) co_return misuse("a second answer");
  const auto text = begin_answer(head);
  co_return co_await connection_.transport_->write(bytes_of(text));
}

asio::awaitable<Result<void>> Exchange::send_head_with(const ResponseHead& head,
                                                       std::span<const std::byte> body) {
  if (answer_ != Answer::none) co_return misuse("a second answer");
  auto text = begin_answer(head);
  if (auto fits = account(body.size()); !fits) co_return fits;
  if (bodiless_ || body.empty()) co_return co_await connection_.transport_->write(bytes_of(text));
  const bool chunked = std::holds_alternative<ChunkedBody>(framing_);
  if (chunked) text.append(tunnel::chunk_prefix(body.size()));
  const Transport::Pieces pieces{bytes_of(text), body, bytes_of(chunked ? "\r\n" : "")};
  co_return co_await connection_.transport_->write(pieces);
}

asio::awaitable<Result<void>> Exchange::write_body(std::span<const std::byte> bytes) {
  if (auto fits = account(bytes.size()); !fits) co_return fits;
  if (bodiless_ || bytes.empty()) co_return Result<void>{};
  if (!std::holds_alternative<ChunkedBody>(framing_)) co_return co_await connection_.transport_->write(bytes);
  const auto prefix = tunnel::chunk_prefix(bytes.size());
  const Transport::Pieces pieces{bytes_of(prefix), bytes, bytes_of("\r\n")};
  co_return co_await connection_.transport_->write(pieces);
}

asio::awaitable<Result<void>> Exchange::finish(const std::vector<Header>& trailers) {
  if (answer_ != Answer::streaming) co_return misuse("an end without an answer");
  if (!bodiless_ && std::holds_alternative<SizedBody>(framing_) && answer_left_ > 0)
    co_return misuse("a shorter body than announced");
  answer_ = Answer::finished;
  if (bodiless_ || !std::holds_alternative<ChunkedBody>(framing_)) co_return Result<void>{};
  const auto text = tunnel::chunk_end(trailers);
  co_return co_await connection_.transport_->write(bytes_of(text));
}

void Exchange::abort() noexcept {
  answer_ = Answer::broken;
  connection_.transport_->abort();
}

asio::awaitable<Result<void>> Exchange::answer_error(const tunnel::Refusal& refusal,
                                                     std::vector<Header> fields) {
  connection_.context_.observer.error_answered(refusal.code);
  const auto body = tunnel::error_body(refusal, rfc3339_now(), correlation_id_, correlation_id_);
  ResponseHead head;
  head.status = refusal.http_status.value_or(tunnel::facts(refusal.code).http_status);
  head.reason = reason_of(head.status);
  head.fields = std::move(fields);
  head.fields.push_back({"Content-Type", "application/json"});
  head.fields.push_back({"Cache-Control", "no-store"});
  head.fields.push_back({"X-Correlation-ID", correlation_id_});
  if (refusal.retry_after && head.find("Retry-After") == nullptr)
    head.fields.push_back({"Retry-After", std::to_string(refusal.retry_after->count())});
  head.body = SizedBody{body.size()};
  auto sent = co_await send_head_with(head, bytes_of(body));
  if (!sent) co_return sent;
  co_return co_await finish(std::vector<Header>());
}

asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> Exchange::upgrade(const ResponseHead& head) {
  using Stream = std::unique_ptr<tunnel::ByteStream>;
  if (answer_ != Answer::none) co_return misuse("an upgrade after an answer");
  if (!head_.wants_upgrade || head.status != 101) co_return misuse("an upgrade nobody asked for");
  answer_ = Answer::taken;
  const auto text = tunnel::serialize(head);
  if (auto sent = co_await connection_.transport_->write(bytes_of(text)); !sent)
    co_return tl::unexpected(std::move(sent.error()));
  connection_.context_.record->set_kind("upgraded");
  if (connection_.context_.on_upgraded) connection_.context_.on_upgraded();
  co_return Stream(std::make_unique<RawStream>(connection_.transport_, std::exchange(connection_.in_, {})));
}

asio::awaitable<Result<WebSocket::Setup>> Exchange::answer_websocket(const tunnel::WebSocketAccept& accept) {
  auto& context = connection_.context_;
  if (answer_ != Answer::none) co_return misuse("a WebSocket after an answer");
  std::optional<std::string> compression;
  if (context.options.compression) compression = agree_on_compression(joined_extensions(head_));
  auto answer = websocket_answer(head_, accept, compression.value_or(std::string()));
  if (!answer) {
    context.observer.websocket_refused(accept.role, tunnel::Code::bad_request);
    const bool version = answer.error().status == 426;
    const std::string why = "the WebSocket handshake is broken: " + std::string(answer.error().reason);
    std::vector<Header> fields;
    if (version) fields.push_back({"Sec-WebSocket-Version", "13"});
    const tunnel::Refusal refusal{tunnel::Code::bad_request, why, std::nullopt, answer.error().status};
    co_await answer_error(refusal, std::move(fields));
    co_return fail(Error::Kind::bad_input, why);
  }
  answer_ = Answer::taken;
  const auto text = tunnel::serialize(*answer);
  if (auto sent = co_await connection_.transport_->write(bytes_of(text)); !sent)
    co_return tl::unexpected(std::move(sent.error()));
  context.record->set_kind("websocket");
  if (context.on_upgraded) context.on_upgraded();
  context.observer.setup_finished("upgrade", Transport::Clock::now() - began_);
  co_return WebSocket::Setup{.early = std::exchange(connection_.in_, {}),
                             .options = context.options,
                             .observer = context.observer,
                             .record = context.record,
                             .tier = connection_.tier_,
                             .empty_message_ends = accept.empty_message_ends,
                             .control_messages = accept.control_messages,
                             .control_messages_per_second = accept.control_messages_per_second,
                             .compression = compression.has_value(),
                             .on_large_message = context.on_large_message,
                             .role = accept.role};
}

asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> Exchange::accept_websocket(
    const tunnel::WebSocketAccept& accept) {
  using Stream = std::unique_ptr<tunnel::WebSocketStream>;
  auto setup = co_await answer_websocket(accept);
  if (!setup) co_return tl::unexpected(std::move(setup.error()));
  auto websocket = WebSocket::open(connection_.transport_, std::move(*setup));
  connection_.websocket_ = websocket;
  co_return Stream(std::make_unique<WebSocketDoor>(std::move(websocket)));
}

bool Exchange::lives_on(asio::io_context& home) const {
  const auto executor = connection_.transport_->get_executor();
  return &asio::query(executor, asio::execution::context) == &home;
}

asio::awaitable<Result<void>> Exchange::accept_websocket_on(
    asio::io_context& home, const tunnel::WebSocketAccept& accept,
    std::function<void(std::unique_ptr<tunnel::WebSocketStream>)> take) {
  auto setup = co_await answer_websocket(accept);
  if (!setup) co_return tl::unexpected(std::move(setup.error()));
  auto& transport = connection_.transport_;
  const auto moved = std::make_shared<MovedWebSocket>(transport->get_executor(), home);
  connection_.moved_websocket_ = moved;
  if (lives_on(home)) co_return co_await moved->live_here(transport, std::move(*setup), std::move(take));
  // The connection may end first where all is torn down, and its options with it.
  setup->own_options = std::make_shared<const Options>(setup->options);
  if (auto warn = std::exchange(setup->on_large_message, nullptr)) {
    setup->on_large_message = [there = std::weak_ptr(moved), warn](std::uint64_t bytes) {
      if (const auto found = there.lock()) found->tell_connection([warn, bytes] { warn(bytes); });
    };
  }
  auto detached = transport->detach();
  co_return co_await moved->live_away(std::move(detached), std::move(*setup), std::move(take));
}

bool Exchange::needs_caller() const {
  if (answer_ == Answer::none) return true;
  if (answer_ != Answer::streaming || bodiless_) return false;
  return answer_left_ > 0 || std::holds_alternative<ChunkedBody>(framing_) ||
         std::holds_alternative<UntilCloseBody>(framing_);
}

asio::awaitable<bool> Exchange::drop_unread_body() {
  std::array<std::byte, 4096> dropped;
  auto allowance = connection_.context_.options.max_drained_body_bytes;
  if (body_left_ > allowance) co_return false;
  while (!body_done_) {
    auto got = co_await read_body(dropped);
    if (!got || *got > allowance) co_return false;
    allowance -= *got;
  }
  co_return true;
}

asio::awaitable<Exchange::Fate> Exchange::conclude() {
  if (answer_ == Answer::taken) co_return Fate::taken;
  if (answer_ == Answer::none) {
    keep_alive_ = false;
    const tunnel::Refusal refusal{tunnel::Code::unavailable, "the request was not answered", std::nullopt,
                                  500};
    co_await answer_error(refusal, std::vector<Header>());
  }
  // A handler may leave finish() out where nothing is left to send.
  if (answer_ == Answer::streaming) {
    const bool whole = bodiless_ || (answer_left_ == 0 && !std::holds_alternative<ChunkedBody>(framing_));
    answer_ = whole ? Answer::finished : Answer::broken;
  }
  if (answer_ == Answer::broken || !connection_.transport_->is_open()) co_return Fate::broken;
  if (!keep_alive_) co_return Fate::close;
  const bool dropped = co_await drop_unread_body();
  co_return dropped ? Fate::keep : Fate::close;
}

}  // namespace edge
