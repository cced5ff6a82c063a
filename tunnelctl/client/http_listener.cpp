#include "tunnelctl/client/http_listener.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include "edge/server.h"
#include "tunnel/http_forward.h"
#include "tunnel/http_pool.h"
#include "tunnel/silent_observer.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {
namespace {

using tunnel::Code;
using tunnel::HttpExchange;
using tunnel::Refusal;
using tunnel::RequestHead;
using Clock = std::chrono::steady_clock;

/// As much of a body as HttpForward takes for small.
constexpr std::size_t kAtHand = 16 * 1024;
/// Each is a channel that the server keeps open for us.
constexpr std::size_t kIdleStreams = 8;
/// A request under which the link breaks that often may be the cause.
constexpr int kBrokenLinks = 3;
/// By name, for g++ 12 destroys some temporaries of a co_await expression twice.
const std::vector<tunnel::Header> kNoTrailers;

/// A caller's request that can be sent again as long as its body is at hand and it got no answer.
class Repeatable final : public HttpExchange {
 public:
  explicit Repeatable(HttpExchange& caller) : caller_(caller) {}

  bool at_hand() const { return !lost_ && !answered_; }
  void rewind() { at_ = 0; }

  const RequestHead& request() const override { return caller_.request(); }
  const std::string& peer_address() const override { return caller_.peer_address(); }
  const char* scheme() const override { return caller_.scheme(); }
  const std::string& correlation_id() const override { return caller_.correlation_id(); }

  asio::awaitable<Result<std::size_t>> read_body(std::span<std::byte> into) override {
    if (at_ < held_.size()) {
      const auto size = std::min(into.size(), held_.size() - at_);
      std::memcpy(into.data(), held_.data() + at_, size);
      at_ += size;
      co_return size;
    }
    // Cut short, and where the body stands is anybody's guess.
    const bool was_lost = std::exchange(lost_, true);
    auto got = co_await caller_.read_body(into);
    if (!got || was_lost || held_.size() + *got > kAtHand) co_return got;
    lost_ = false;
    held_.insert(held_.end(), into.begin(), into.begin() + static_cast<std::ptrdiff_t>(*got));
    at_ = held_.size();
    co_return got;
  }
  const std::vector<tunnel::Header>& trailers() const override { return caller_.trailers(); }

  asio::awaitable<Result<void>> send_interim(const tunnel::ResponseHead& head) override {
    return caller_.send_interim(head);
  }
  asio::awaitable<Result<void>> send_head(const tunnel::ResponseHead& head) override {
    answered_ = true;
    return caller_.send_head(head);
  }
  asio::awaitable<Result<void>> write_body(std::span<const std::byte> bytes) override {
    return caller_.write_body(bytes);
  }
  asio::awaitable<Result<void>> send_head_with(const tunnel::ResponseHead& head,
                                               std::span<const std::byte> body) override {
    answered_ = true;
    return caller_.send_head_with(head, body);
  }
  asio::awaitable<Result<void>> finish(const std::vector<tunnel::Header>& trailers) override {
    return caller_.finish(trailers);
  }
  void abort() noexcept override { caller_.abort(); }
  asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> upgrade(
      const tunnel::ResponseHead& head) override {
    answered_ = true;
    return caller_.upgrade(head);
  }
  asio::awaitable<Result<std::unique_ptr<tunnel::WebSocketStream>>> accept_websocket(
      const tunnel::WebSocketAccept& accept) override {
    return caller_.accept_websocket(accept);
  }
  asio::awaitable<Result<void>> accept_websocket_on(
      asio::io_context& home, const tunnel::WebSocketAccept& accept,
      std::function<void(std::unique_ptr<tunnel::WebSocketStream>)> take) override {
    return caller_.accept_websocket_on(home, accept, std::move(take));
  }

 private:
  HttpExchange& caller_;
  std::vector<std::byte> held_{};
  std::size_t at_ = 0;
  bool lost_ = false;
  bool answered_ = false;
};

std::optional<std::uint16_t> number_in(std::string_view text) {
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// The service as this caller calls it: HttpForward writes Host from where the service lives, which only the
/// server knows; a page's own links must lead back here, and a service that judges Host must see what the
/// caller sent.
tunnel::Service service_as_called(const std::string& name, const RequestHead& head) {
  tunnel::Service service{
      .name = name, .upstream = "tunnel", .target_host = name, .target_port = 80, .allow = {}};
  const auto* host = head.find("host");
  if (host == nullptr) return service;  // of HTTP/1.0; another one has been found to be "host[:port]"
  const auto colon = host->rfind(':');
  const bool has_port = colon != host->npos && host->find(']', colon) == host->npos;
  service.target_host = host->substr(0, has_port ? colon : host->npos);
  if (has_port) service.target_port = number_in(host->substr(colon + 1)).value_or(80);
  return service;
}

bool is_small(const RequestHead& head) {
  const auto* sized = std::get_if<tunnel::SizedBody>(&head.body);
  return std::holds_alternative<tunnel::NoBody>(head.body) ||
         (sized != nullptr && sized->bytes <= kAtHand && !head.expects_continue);
}

/// A valid X-Tunnel-Timeout; HttpForward refuses others.
std::chrono::milliseconds timeout_of(const RequestHead& head, std::chrono::milliseconds usual) {
  const auto* text = head.find("x-tunnel-timeout");
  if (text == nullptr) return usual;
  const auto seconds = number_in(*text);
  return seconds ? std::chrono::seconds(*seconds) : usual;
}

/// The server refused for the moment and not for good: too many requests just now, or it is about to restart.
bool passes(const Refusal& refusal) {
  return refusal.retry_after && (refusal.code == Code::rate_limited || refusal.code == Code::unavailable);
}

asio::awaitable<void> answer(HttpExchange& exchange, Refusal why) {
  const auto& id = exchange.correlation_id();
  const auto body = tunnel::error_body(why, timestamp(std::chrono::system_clock::now()), id, id);
  tunnel::ResponseHead head;
  head.status = why.http_status.value_or(tunnel::facts(why.code).http_status);
  head.fields = {{"Cache-Control", "no-store"},
                 {"X-Content-Type-Options", "nosniff"},
                 {"X-Correlation-ID", id},
                 {"Content-Type", "application/json"}};
  if (head.status == 401) head.fields.push_back({"WWW-Authenticate", "Bearer error=\"invalid_token\""});
  if (why.retry_after) head.fields.push_back({"Retry-After", std::to_string(why.retry_after->count())});
  head.body = tunnel::SizedBody{body.size()};
  Result<void> sent;
  if (exchange.request().method == "HEAD")
    sent = co_await exchange.send_head(head);
  else
    sent = co_await exchange.send_head_with(head, std::as_bytes(std::span(body)));
  if (sent) (void)co_await exchange.finish(kNoTrailers);
}

/// Counts one request while it lives.
struct Counted {
  explicit Counted(std::size_t& count_in) : count(count_in) { ++count; }
  ~Counted() { --count; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  std::size_t& count;
};

std::string address_of(const Forward& forward) {
  const auto text = to_text(forward);
  return text.substr(0, text.find(' '));
}

tunnel::Principal nobody() {
  // There is one caller on this side, and it never expires.
  return {.issuer = "local", .subject = "local", .tier = tunnel::Tier::free, .scopes = {}, .token_id = {}};
}

}  // namespace

struct HttpListeners::Impl {
  class Requests;
  Impl(asio::io_context& io_in, StreamSource source, const HttpOptions& options_in,
       std::function<void(std::string_view)> tell_in)
      : io(io_in),
        options(options_in),
        tell(std::move(tell_in)),
        dialer(io, std::move(source), options.dialer,
               [this](tunnel::FlowLevel to, double fill) { level_changed(to, fill); }),
        watch(io.get_executor()),
        kept(dialer, watch, {.max_idle_per_service = kIdleStreams, .max_idle = 4 * kIdleStreams}),
        unkept(dialer, watch, {.max_idle_per_service = 0, .max_idle = 0}),
        reusing(kept, watch, observer, forward_options()),
        fresh(unkept, watch, observer, forward_options()) {}

  tunnel::ForwardOptions forward_options() const {
    tunnel::ForwardOptions made;
    made.request_timeout = options.request_timeout;
    return made;
  }
  void level_changed(tunnel::FlowLevel to, double fill);

  asio::io_context& io;
  const HttpOptions options;
  const std::function<void(std::string_view)> tell;
  const tunnel::Principal principal = nobody();
  tunnel::SilentObserver observer;
  TunnelDialer dialer;
  tunnel::DeadlineWatch watch;
  tunnel::HttpPool kept, unkept;
  /// For requests that can be sent again, and for the others.
  tunnel::HttpForward reusing, fresh;

  std::map<std::string, std::unique_ptr<tunnel::HttpHandler>> handlers;
  std::vector<Forward> forwards;
  std::list<std::unique_ptr<edge::Server>> servers;
  std::size_t active = 0;
  bool stopping = false;
  bool refusing = false;
  tunnel::FlowLevel level = tunnel::FlowLevel::open;
};

void HttpListeners::Impl::level_changed(tunnel::FlowLevel to, double fill) {
  const auto before = std::exchange(level, to);
  if (!tell || to <= before || to < tunnel::FlowLevel::throttle) return;
  auto text = std::to_string(dialer.waiting() + 1) + " requests wait for the connection; the queue is " +
              std::to_string(static_cast<int>(fill * 100)) + " % full";
  if (to == tunnel::FlowLevel::drop_low) text += ", and those of low priority are dropped";
  tell(text);
}

/// The requests of the ports of one service.
class HttpListeners::Impl::Requests final : public tunnel::HttpHandler {
 public:
  Requests(Impl& owner, std::string service) : owner_(owner), service_(std::move(service)) {}

  asio::awaitable<void> handle(HttpExchange& exchange) override {
    exchange.authenticated(tunnel::Tier::free);  // whoever reaches the port may use it
    exchange.serving(service_);
    const Counted counted(owner_.active);
    const auto cancellation = co_await asio::this_coro::cancellation_state;
    const auto abandoned = [&] { return cancellation.cancelled() != asio::cancellation_type::none; };
    std::optional<Refusal> refused;
    try {
      refused = co_await serve(exchange);
    } catch (...) {
      if (!abandoned()) throw;
    }
    if (refused && !abandoned()) co_await answer(exchange, std::move(*refused));
  }

 private:
  /// Why there is no answer of the service; nothing if one was begun.
  asio::awaitable<std::optional<Refusal>> serve(HttpExchange& caller) {
    const auto& head = caller.request();
    const auto priority = tunnel::priority_of(head);
    if (!priority) co_return priority.error();
    const auto deadline = Clock::now() + timeout_of(head, owner_.options.request_timeout);
    const bool again = tunnel::repeatable(head);
    const auto service = service_as_called(service_, head);
    const auto news = std::make_shared<StreamNews>();
    news->only_new = !again || !is_small(head);
    news->wait_until = deadline;
    const TunnelDialer::Attention attention(owner_.dialer, service, news);
    auto& forward = news->only_new ? owner_.fresh : owner_.reusing;
    Repeatable exchange(caller);
    tunnel::ForwardTarget to;
    to.principal = &owner_.principal;
    to.service = &service;
    to.target = head.target;
    to.credential = tunnel::Credential::none;
    to.priority = *priority;
    to.queue_capacity = owner_.options.queue;
    for (int broken = 0;;) {
      auto done = co_await forward.forward(exchange, to);
      if (done) co_return std::nullopt;
      auto why = std::move(done.error());
      const bool no_answer = why.code == Code::ssh_error || why.code == Code::outcome_unknown;
      if (!no_answer) co_return why;
      const auto now = Clock::now();
      if (news->refusal) {
        why = *news->refusal;
        if (!passes(why) || now + *why.retry_after >= deadline) co_return why;
        owner_.dialer.hold_until(now + *why.retry_after);
      } else if (owner_.refusing && again) {
        co_return Refusal{Code::unavailable, "tunnelctl is stopping"};
      } else if (!news->link_broke || !again || ++broken > kBrokenLinks || now >= deadline) {
        co_return why;
      }
      if (!exchange.at_hand()) co_return why;
      exchange.rewind();
    }
  }

  Impl& owner_;
  const std::string service_;
};

Result<Forward> parse_http_forward(std::string_view text) {
  auto forward = parse_forward(text);
  constexpr std::string_view kOther = "-L ";
  if (!forward && forward.error().message.starts_with(kOther))
    forward.error().message.replace(0, kOther.size(), "--http ");
  return forward;
}

HttpListeners::HttpListeners(asio::io_context& io, StreamSource source, HttpOptions options,
                             std::function<void(std::string_view line)> tell)
    : impl_(std::make_unique<Impl>(io, std::move(source), options, std::move(tell))) {}

HttpListeners::~HttpListeners() = default;

tunnel::HttpHandler& HttpListeners::handler_for(const std::string& service) {
  auto& handler = impl_->handlers[service];
  if (!handler) handler = std::make_unique<Impl::Requests>(*impl_, service);
  return *handler;
}

tl::expected<void, Listeners::Failure> HttpListeners::bind(const std::vector<Forward>& forwards) {
  for (const auto& forward : forwards) {
    edge::Options options;
    options.listen = {address_of(forward)};
    // The crowd at this door is one person's programs.
    options.max_unauthenticated = options.early_drop_from = options.max_connections;
    edge::Server::Parts parts;
    parts.threads = {&impl_->io};
    parts.handler = [handler = &handler_for(forward.service)](std::size_t) -> tunnel::HttpHandler& {
      return *handler;
    };
    parts.observer = &impl_->observer;
    auto server = std::make_unique<edge::Server>(std::move(options), std::move(parts));
    if (auto started = server->start(); !started) {
      for (auto& other : impl_->servers) other->stop_accepting();
      impl_->forwards.clear();
      // What edge says of an address that somebody else has.
      const bool in_use = started.error().message.find("in use") != std::string::npos;
      return tl::unexpected(
          Listeners::Failure{in_use, "--http " + to_text(forward) + ": " + started.error().message});
    }
    impl_->forwards.push_back(forward);
    impl_->forwards.back().local = server->local_endpoints().front();
    impl_->servers.push_back(std::move(server));
  }
  return {};
}

const std::vector<Forward>& HttpListeners::forwards() const {
  return impl_->forwards;
}

void HttpListeners::tunnel_changed() {
  impl_->dialer.source_changed();
}

std::size_t HttpListeners::active() const {
  return impl_->active;
}

std::size_t HttpListeners::waiting() const {
  return impl_->dialer.waiting();
}

std::size_t HttpListeners::connections() const {
  std::size_t count = 0;
  for (const auto& server : impl_->servers) count += server->connection_count();
  return count;
}

void HttpListeners::stop_accepting() {
  if (std::exchange(impl_->stopping, true)) return;
  impl_->dialer.keep_none();
  impl_->kept.clear();
  for (auto& server : impl_->servers)
    asio::co_spawn(impl_->io, server->drain(Clock::now()), [](const std::exception_ptr&, bool) {});
}

void HttpListeners::refuse_rest() {
  impl_->refusing = true;
  impl_->dialer.close();
}

void HttpListeners::abort() {
  refuse_rest();
  for (auto& server : impl_->servers) server->close_all();
}

}  // namespace tunnelctl::client
