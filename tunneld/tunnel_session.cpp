#include "tunneld/tunnel_session.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <utility>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/strict_json.h"
#include "tunnel/control_messages.h"
#include "tunnel/request_path.h"
#include "tunneld/admin/health.h"

namespace tunneld {

namespace asio = tunnel::asio;
using namespace std::chrono_literals;
using tunnel::Code;
using tunnel::Refusal;
using Json = nlohmann::ordered_json;

namespace {

constexpr std::size_t kMaxJsonDepth = 8;
constexpr std::size_t kMaxCorrelationId = 64;
/// Notices for a caller that does not take them: what they announce happens without them.
constexpr std::size_t kMaxMessages = 64;
constexpr unsigned kControlLinesPerSecond = 10;
constexpr std::uint16_t kSilent = 4408;  // a peer declared dead

bool is_correlation_id(std::string_view text) {
  return !text.empty() && text.size() <= kMaxCorrelationId &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '_' || c == '-';
         });
}

/// A stream that begins with lines. What was read beyond a line is read again by whoever comes next.
class LineStream final : public tunnel::ByteStream {
 public:
  explicit LineStream(std::unique_ptr<tunnel::ByteStream> stream) : stream_(std::move(stream)) {}
  ~LineStream() override { stream_->close(); }

  /// A line without its end. bad_input: it is longer than `most`, or the stream ended within it;
  /// not_found: the stream has ended.
  asio::awaitable<Result<std::string>> read_line(std::size_t most) {
    for (;;) {
      if (const auto end = early_.find('\n'); end != std::string::npos && end <= most) {
        std::string line = early_.substr(0, end);
        early_.erase(0, end + 1);
        co_return line;
      }
      if (early_.size() > most) co_return fail(Error::Kind::bad_input, "a line is too long");
      std::array<std::byte, 2048> buffer;
      const auto got = co_await stream_->read(buffer);
      if (!got) co_return tl::unexpected(got.error());
      if (*got == 0 && early_.empty()) co_return fail(Error::Kind::not_found, "the stream has ended");
      if (*got == 0) co_return fail(Error::Kind::bad_input, "the stream ended within a line");
      early_.append(reinterpret_cast<const char*>(buffer.data()), *got);
    }
  }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    if (early_.empty()) co_return co_await stream_->read(into);
    const auto size = std::min(into.size(), early_.size());
    std::memcpy(into.data(), early_.data(), size);
    early_.erase(0, size);
    if (early_.empty()) early_.shrink_to_fit();
    co_return size;
  }
  bool readable() const noexcept override { return !early_.empty() || stream_->readable(); }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return stream_->write(bytes);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return stream_->shutdown_write(); }
  void close() noexcept override { stream_->close(); }

 private:
  std::unique_ptr<tunnel::ByteStream> stream_;
  std::string early_;
};

/// Closes a stream whose peer takes too long.
class Patience final : tunnel::DeadlineWatch::Entry {
 public:
  Patience(tunnel::DeadlineWatch& watch, std::chrono::milliseconds limit, tunnel::ByteStream& stream)
      : stream_(stream) {
    watch_until(watch, tunnel::DeadlineWatch::Clock::now() + limit);
  }
  bool is_over() const { return over_; }

 private:
  void expired() override {
    over_ = true;
    stream_.close();
  }
  tunnel::ByteStream& stream_;
  bool over_ = false;
};

Farewell broken_rules() {
  return {1002, close_reason(Code::bad_request)};
}

std::string hello(const links::Link& link, const TunnelSession::Options& options) {
  return Json{{"type", "hello"},
              {"sessionId", links::to_hex(link.id())},
              {"instanceId", options.instance_id},
              {"heartbeatMs", options.heartbeat.count()},
              {"limits", {{"streams", options.max_streams}}}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

links::Mux::Options mux_options(const TunnelSession::Options& options) {
  links::Mux::Options mux;
  mux.role = yamux::Role::server;
  mux.yamux.max_peer_streams = options.max_streams + 1;  // and the control stream
  return mux;
}

}  // namespace

asio::awaitable<Result<void>> Carrier::shutdown_write() {
  // Those who hold us may go while we say it.
  const auto socket = socket_;
  const auto farewell = *farewell_;
  co_await socket->close_with(farewell.code, farewell.reason);
  co_return Result<void>{};
}

std::chrono::milliseconds window_left(const tunnel::WebSocketStream::Ending& ending,
                                      std::chrono::milliseconds window,
                                      std::chrono::milliseconds dead_after) {
  if (ending.by_peer || ending.code != kSilent) return window;
  return std::max(window - dead_after, std::chrono::milliseconds::zero());
}

asio::awaitable<void> read_out(tunnel::ByteStream& stream, tunnel::DeadlineWatch& watch,
                               std::chrono::milliseconds limit) {
  const Patience patience(watch, limit, stream);
  std::array<std::byte, 4096> dropped;
  for (;;) {
    const auto got = co_await stream.read(dropped);
    if (!got || *got == 0) co_return;
  }
}

tunnel::Served<StreamOpening> parse_stream_opening(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const auto json = parse_strict_json(line, kMaxOpeningBytes, kMaxJsonDepth);
  if (!json || !json->is_object())
    return tunnel::refuse(Code::bad_request, "a stream begins with one JSON object on a line");
  StreamOpening opening;
  const auto service = json->find("service");
  if (service == json->end() || !service->is_string())
    return tunnel::refuse(Code::bad_request, "service: missing, or not a text");
  opening.service = service->get<std::string>();
  if (!tunnel::valid_service_name(opening.service))
    return tunnel::refuse(Code::service_denied, "service denied or unknown");
  if (const auto priority = json->find("priority"); priority != json->end()) {
    std::optional<tunnel::Priority> named;
    if (priority->is_string()) named = tunnel::priority_named(priority->get<std::string>());
    if (!named) return tunnel::refuse(Code::bad_request, "priority: one of high, normal, low is wanted");
    opening.priority = *named;
  }
  const auto id = json->find("correlationId");
  if (id != json->end() && id->is_string() && is_correlation_id(id->get<std::string>()))
    opening.correlation_id = id->get<std::string>();
  return opening;
}

tunnel::Served<LiveStreams::Token> renewed_token(const Admission& admission, const tunnel::Principal& before,
                                                 std::string_view message, const std::string& peer) {
  const auto parsed = tunnel::parse_control_message(message);
  if (!parsed) return tl::unexpected<Refusal>(parsed.error());
  return admission.renew(before, parsed->token, peer);
}

std::string error_control_message(const Refusal& why, std::string_view correlation_id) {
  auto body = tunnel::error_body(why, admin::rfc3339(std::chrono::system_clock::now()), correlation_id,
                                 correlation_id);
  if (body.ends_with('\n')) body.pop_back();
  return R"({"type":"error",)" + body.substr(1);
}

TunnelSession::Relaying::Relaying(TunnelSession& session, tunnel::RelayControl& control)
    : session_(session), place_(session.relays_.insert(session.relays_.end(), &control)) {
  if (session.stop_) control.stop(session.stop_->how, session.stop_->why);
  if (session.quiet_)
    control.stop_when_quiet(session.quiet_->limit, session.quiet_->how, session.quiet_->why);
}

TunnelSession::Relaying::~Relaying() {
  session_.relays_.erase(place_);
  session_.look_if_quiet();
}

TunnelSession::TunnelSession(const Parts& parts, Caller caller, std::shared_ptr<links::Link> link,
                             Options options, Serve serve)
    : LiveStreams::Life(parts.streams, parts.watch, caller.credentials.token, this),
      parts_(parts),
      caller_(std::move(caller)),
      link_(std::move(link)),
      options_(std::move(options)),
      serve_(std::move(serve)),
      mux_(parts.io.get_executor(), *link_, mux_options(options_)),
      until_timer_(parts.io),
      quiet_timer_(parts.io),
      window_timer_(parts.io) {
  on_carrier(true);
}

TunnelSession::~TunnelSession() {
  link_->on_attached({});
  link_->on_over({});
  link_->close();
}

asio::awaitable<void> TunnelSession::run() {
  const std::weak_ptr<TunnelSession> weak = weak_from_this();
  link_->on_attached([weak](bool attached, std::string_view) {
    if (const auto self = weak.lock()) self->on_carrier(attached);
  });
  link_->on_over([weak](std::string_view) {
    const auto self = weak.lock();
    if (!self) return;
    self->place_ = {};
    // The client's own goodbye is answered with a plain one; else it broke the rules.
    if (self->farewell_ && !self->stop_ && self->link_->ended_by_peer()) *self->farewell_ = {};
  });
  mux_.on_stream([weak](std::unique_ptr<tunnel::ByteStream> stream) {
    if (const auto self = weak.lock()) self->on_stream(std::move(stream));
  });
  messages_.push_back(hello(*link_, options_));
  set_until(expiry_of(token()->principal));
  begin();
  const auto carried = co_await mux_.run();
  if (!stop_) {
    const bool broke_rules = !carried && carried.error().kind == Error::Kind::bad_input;
    const auto how = carried ? How::finished : How::caller_failed;
    std::string why = carried ? std::string() : carried.error().message;
    end(how, std::move(why), broke_rules ? broken_rules() : Farewell{});
  }
  over_ = true;
  until_timer_.cancel();
  quiet_timer_.cancel();
  window_timer_.cancel();
  mux_.close();
  for (auto& task : tasks_) task.cancel.emit(asio::cancellation_type::terminal);
  while (!tasks_.empty()) co_await tasks_changed_.wait();
  link_->on_attached({});
  link_->on_over({});
  link_->close();
  if (std::exchange(socket_, nullptr)) close_code_ = stop_->farewell.code;
}

std::string TunnelSession::next_correlation_id() {
  constexpr std::size_t kMostOfTheLinks = 48;
  return caller_.correlation_id.substr(0, kMostOfTheLinks) + "-" + std::to_string(streams_opened_);
}

TunnelSession::Ending TunnelSession::ending() const {
  Ending ending;
  if (stop_) {
    ending.how = stop_->how;
    ending.why = stop_->why;
  }
  ending.close_code = close_code_;
  ending.streams = streams_opened_;
  ending.from_caller_bytes = from_caller_bytes_;
  ending.from_services_bytes = from_services_bytes_;
  return ending;
}

// Its end -------------------------------------------------------------------------------------------

void TunnelSession::stop(How how, std::string why) {
  end(how, std::move(why), farewell_after(how));
}

void TunnelSession::reject(std::uint16_t close_code, Code code, std::string why) {
  end(How::caller_failed, std::move(why), {close_code, close_reason(code)});
}

void TunnelSession::end(How how, std::string why, Farewell farewell) {
  if (stop_) return;
  stop_ = Stop{how, std::move(why), std::move(farewell)};
  if (farewell_) *farewell_ = stop_->farewell;
  place_ = {};
  for (auto* relay : relays_) relay->stop(stop_->how, stop_->why);
  mux_.close();
}

void TunnelSession::stop_when_quiet(std::chrono::milliseconds quiet, How how, std::string why) {
  quiet_ = Quiet{quiet, how, std::move(why)};
  for (auto* relay : relays_) relay->stop_when_quiet(quiet, how, quiet_->why);
  look_if_quiet();
}

void TunnelSession::look_if_quiet() {
  if (!quiet_ || !relays_.empty() || over_) return;
  quiet_timer_.expires_after(quiet_->limit);
  quiet_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || !self->relays_.empty()) return;
    self->stop(self->quiet_->how, self->quiet_->why);
  });
}

void TunnelSession::set_until(Clock::time_point until) {
  until_timer_.expires_at(until);
  until_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self) return;
    // The timer may have been moved while this was on its way.
    if (Clock::now() >= self->until_timer_.expiry()) self->stop(How::expired, "the token expired");
  });
}

// What carries it -----------------------------------------------------------------------------------

void TunnelSession::on_carrier(bool attached) {
  if (!attached) return on_carrier_lost();
  const auto* carrier = dynamic_cast<Carrier*>(link_->carrier());
  if (carrier == nullptr) return;
  window_timer_.cancel();
  socket_ = carrier->socket();
  farewell_ = carrier->farewell();
  *farewell_ = stop_ ? stop_->farewell : broken_rules();
  // Who comes back with a newer token has shown it already.
  const auto& shown = carrier->token();
  if (shown && shown->principal.expires_at > token()->principal.expires_at) refresh(shown);
}

void TunnelSession::on_carrier_lost() {
  const auto socket = std::exchange(socket_, nullptr);
  if (!socket) return;
  const auto ending = socket->ending();
  close_code_ = ending.code;
  // A WebSocket that one side has closed on purpose is not one that broke: nobody will come back.
  auto how = How::finished;
  const auto left = window_left(ending, link_->window(), options_.dead_after);
  if (left < link_->window()) return shorten_window(left);
  if (ending.by_peer && ending.code != 1000) return;
  if (!ending.by_peer) {
    if (ending.code == 1008)
      how = How::closed_by_admin;
    else if (ending.code == 1012)
      how = How::draining;
    else if (ending.code == 1002 || ending.code == 1003 || ending.code == 1007 || ending.code == 1009)
      how = How::caller_failed;
    else
      return;
  }
  // Not within a call of the link.
  asio::post(parts_.io, [weak = weak_from_this(), how, code = ending.code] {
    const auto self = weak.lock();
    if (self) self->stop(how, "the WebSocket was closed with " + std::to_string(code));
  });
}

void TunnelSession::shorten_window(std::chrono::milliseconds left) {
  window_timer_.expires_after(left);
  window_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->link_->state() != links::Link::State::detached) return;
    self->stop(How::caller_failed, "the caller was silent and did not come back");
  });
}

// Its streams ---------------------------------------------------------------------------------------

void TunnelSession::spawn(asio::awaitable<void> story) {
  const auto task = tasks_.emplace(tasks_.end());
  auto ended = [self = shared_from_this(), task](const std::exception_ptr& failure) {
    if (failure) {
      try {
        std::rethrow_exception(failure);
      } catch (const std::exception& error) {
        // Cancelling a wait may surface like this.
        if (!self->over_) logging::error("link", "a stream failed", {{"why", error.what()}});
      }
    }
    // Not while its signal may be on the stack.
    asio::post(self->parts_.io, [self, task] {
      self->tasks_.erase(task);
      self->tasks_changed_.notify();
    });
  };
  asio::co_spawn(parts_.io, std::move(story),
                 asio::bind_cancellation_slot(task->cancel.slot(), std::move(ended)));
}

void TunnelSession::on_stream(std::unique_ptr<tunnel::ByteStream> stream) {
  if (over_ || stop_) return;
  if (has_control_stream_) {
    ++streams_opened_;
    return spawn(serve_stream(std::move(stream)));
  }
  has_control_stream_ = true;
  const auto lines = std::make_shared<LineStream>(std::move(stream));
  spawn(read_control(lines));
  spawn(write_control(lines));
}

asio::awaitable<void> TunnelSession::serve_stream(std::unique_ptr<tunnel::ByteStream> raw) {
  LineStream stream(std::move(raw));
  Result<std::string> line;
  {
    const Patience patience(parts_.watch, options_.opening_timeout, stream);
    line = co_await stream.read_line(kMaxOpeningBytes);
  }
  if (!line && line.error().kind != Error::Kind::bad_input) co_return;  // nobody asked for anything
  tunnel::Served<StreamOpening> opening;
  if (line)
    opening = parse_stream_opening(*line);
  else
    opening = tunnel::refuse(Code::bad_request, "a stream begins with one line of at most 4096 bytes");
  co_await serve_(*this, stream, std::move(opening));
}

// Its control stream --------------------------------------------------------------------------------

bool TunnelSession::post_control(std::string_view message) {
  if (over_ || messages_.size() >= kMaxMessages) return false;
  messages_.emplace_back(message);
  message_waits_.notify();
  return true;
}

asio::awaitable<void> TunnelSession::write_control(std::shared_ptr<tunnel::ByteStream> stream) {
  while (!over_) {
    if (messages_.empty()) {
      co_await message_waits_.wait();
      continue;
    }
    const std::string line = std::move(messages_.front()) + "\n";
    messages_.pop_front();
    const auto sent = co_await stream->write(std::as_bytes(std::span(line)));
    if (!sent) co_return;
  }
}

asio::awaitable<void> TunnelSession::read_control(std::shared_ptr<tunnel::ByteStream> stream) {
  auto& lines = static_cast<LineStream&>(*stream);
  for (;;) {
    const auto line = co_await lines.read_line(tunnel::kMaxControlMessageBytes);
    if (line) {
      on_control_line(*line);
      continue;
    }
    if (line.error().kind == Error::Kind::bad_input)
      reject(1009, Code::bad_request, "control stream: " + line.error().message);
    co_return;
  }
}

void TunnelSession::on_control_line(std::string_view line) {
  const auto now = Clock::now();
  if (now - control_second_ >= 1s) {
    control_second_ = now;
    in_control_second_ = 0;
  }
  if (++in_control_second_ > kControlLinesPerSecond)
    return reject(1008, Code::rate_limited, "too many control messages");
  auto renewed = renewed_token(parts_.admission, token()->principal, line, caller_.address);
  if (!renewed) {
    parts_.observer.error_answered(renewed.error().code);
    post_control(error_control_message(renewed.error(), caller_.correlation_id));
    return;
  }
  refresh(std::move(*renewed));
  post_control(tunnel::auth_ok_message(token()->principal.expires_at));
}

}  // namespace tunneld
