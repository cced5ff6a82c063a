#include "tunnelctl/client/http_listener.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "edge/server.h"
#include "tunnel/http_forward.h"
#include "tunnel/http_pool.h"
#include "tunnel/silent_observer.h"
#include "tunnelctl/client/opening.h"
#include "tunnelctl/client/repeatable_exchange.h"
#include "tunnelctl/client/restored_exchange.h"
#include "tunnelctl/client/retry.h"

namespace tunnelctl::client {
namespace {

using tunnel::Code;
using tunnel::HttpExchange;
using tunnel::Refusal;
using tunnel::RequestHead;
using Clock = std::chrono::steady_clock;
using std::chrono::system_clock;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;

constexpr std::size_t kAtHand = RepeatableExchange::kAtHand;
/// Each is a channel that the server keeps open for us.
constexpr std::size_t kIdleStreams = 8;
/// A request under which the link breaks that often may be the cause.
constexpr int kBrokenLinks = 3;
/// Requests of earlier runs that are under way at once: those of this run need most of the ten.
constexpr std::size_t kRestorers = 4;
/// Between two tries for one of them.
constexpr Clock::duration kFirstPause = 1s, kLongestPause = 30s;
/// A service that leaves a request unanswered that often will do so again.
constexpr int kUnanswered = 3;
/// For the rest of the body of one that is to be kept.
constexpr auto kBodyPatience = 2s;
/// By name, for g++ 12 destroys some temporaries of a co_await expression twice.
const std::vector<tunnel::Header> kNoTrailers;

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

/// What a caller is told in place of an answer.
struct Told {
  Refusal why;
  std::vector<tunnel::Header> fields{};
};

asio::awaitable<void> answer(HttpExchange& exchange, Told instead) {
  const auto& why = instead.why;
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
  head.fields.insert(head.fields.end(), instead.fields.begin(), instead.fields.end());
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

/// How far one request has come.
struct Progress {
  bool sent = false;             // by an earlier try
  tunnel::ForwardTimes times{};  // of the newest
  /// The service may have seen it.
  bool handed_over() const { return sent || times.got_channel_after; }
};

/// The same request would be refused again.
bool is_final(const Refusal& refusal) {
  const auto status = refusal.http_status.value_or(tunnel::facts(refusal.code).http_status);
  return status < 500 && status != 408 && status != 429;
}

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
  /// One of the few that send what earlier runs left.
  struct Restorer {
    explicit Restorer(asio::io_context& io) : rest(io) {}
    bool begun = false;
    Progress progress{};
    asio::steady_timer rest;  // between two tries
    asio::cancellation_signal stop{};
  };
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
  /// Nothing is sent after `latest`.
  asio::awaitable<std::optional<Refusal>> serve(const std::string& service_name, RepeatableExchange& exchange,
                                                Progress& progress,
                                                Clock::time_point latest = Clock::time_point::max());
  asio::awaitable<std::optional<std::string>> body_to_keep(RepeatableExchange& exchange);
  asio::awaitable<Told> keep(const std::string& service, RepeatableExchange& exchange,
                             system_clock::time_point queued, Refusal why);
  asio::awaitable<void> restore(Restorer& by, KeptRequests::Entry entry);
  asio::awaitable<void> restore_all(std::shared_ptr<Restorer> by);
  void stop_restoring();
  bool ending() const { return stopping || refusing; }

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
  std::deque<KeptRequests::Entry> left;  // by earlier runs
  std::list<std::shared_ptr<Restorer>> restorers;
  std::size_t kept_now = 0;
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

/// Why there is no answer of the service; nothing if one was begun.
asio::awaitable<std::optional<Refusal>> HttpListeners::Impl::serve(const std::string& service_name,
                                                                   RepeatableExchange& exchange,
                                                                   Progress& progress,
                                                                   Clock::time_point latest) {
  const auto& head = exchange.request();
  const auto priority = tunnel::priority_of(head);
  if (!priority) co_return priority.error();
  const auto deadline = std::min(Clock::now() + timeout_of(head, options.request_timeout), latest);
  const bool again = tunnel::repeatable(head);
  const auto service = service_as_called(service_name, head);
  const auto news = std::make_shared<StreamNews>();
  news->only_new = !again || !is_small(head);
  news->wait_until = deadline;
  const TunnelDialer::Attention attention(dialer, service, news);
  auto& forward = news->only_new ? fresh : reusing;
  tunnel::ForwardTarget to;
  to.principal = &principal;
  to.service = &service;
  to.target = head.target;
  to.credential = tunnel::Credential::none;
  to.priority = *priority;
  to.queue_capacity = options.queue;
  to.times = &progress.times;
  for (int broken = 0;;) {
    progress.times = {};
    auto done = co_await forward.forward(exchange, to);
    if (done) co_return std::nullopt;
    auto why = std::move(done.error());
    const bool no_answer = why.code == Code::ssh_error || why.code == Code::outcome_unknown;
    if (!no_answer) co_return why;
    const auto now = Clock::now();
    if (news->refusal) {
      progress.times = {};  // the server took the stream back before the service got anything
      why = *news->refusal;
      if (!passes(why) || now + *why.retry_after >= deadline) co_return why;
      dialer.hold_until(now + *why.retry_after);
    } else {
      progress.sent = true;
      if (refusing && again) co_return Refusal{Code::unavailable, "tunnelctl is stopping"};
      if (!news->link_broke || !again || ++broken > kBrokenLinks || now >= deadline) co_return why;
    }
    if (!exchange.at_hand()) co_return why;
    exchange.rewind();
  }
}

/// Of a request that is to be kept; nullopt when it does not come, or not in time.
asio::awaitable<std::optional<std::string>> HttpListeners::Impl::body_to_keep(RepeatableExchange& exchange) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer patience(executor, kBodyPatience);
  auto first = co_await (exchange.whole_body(options.keep_in->room()) ||
                         patience.async_wait(asio::as_tuple(asio::use_awaitable)));
  if (first.index() == 1) co_return std::nullopt;
  co_return std::get<0>(std::move(first));
}

/// What the caller of a request is told that nothing has left of; the request is kept if it is one of those.
asio::awaitable<Told> HttpListeners::Impl::keep(const std::string& service, RepeatableExchange& exchange,
                                                system_clock::time_point queued, Refusal why) {
  const auto& head = exchange.request();
  if (options.keep_in == nullptr || !may_be_kept(head)) co_return Told{std::move(why)};
  KeptRequest request;
  request.service = service;
  request.request_id = exchange.correlation_id();
  request.peer_address = exchange.peer_address();
  request.queued = std::chrono::time_point_cast<std::chrono::milliseconds>(queued);
  auto body = co_await body_to_keep(exchange);
  std::string failure = "its body did not come in time, or is too large";
  if (body) {
    request.head = head_to_keep(head, body->size(), options.keep_without);
    request.body = std::move(*body);
    const auto done = options.keep_in->keep(request);
    failure = done ? std::string() : done.error().message;
  } else {
    request.head.method = head.method;
  }
  if (!failure.empty()) {
    if (tell) tell(KeptRequests::name_of(request) + " is not kept: " + failure);
    co_return Told{{Code::unavailable, "tunnelctl is stopping, and this request could not be kept"}};
  }
  ++kept_now;
  const auto until = timestamp(options.keep_in->kept_until(request));
  co_return Told{
      {Code::unavailable, "tunnelctl is stopping and keeps this request, without its credentials: " +
                              ("it is sent if tunnelctl connect --persist runs again before " + until)},
      {{"X-Tunnel-Kept-Until", until}}};
}

/// Sends one until it has its answer, or is too old, or the program ends; then it stays for the next run.
asio::awaitable<void> HttpListeners::Impl::restore(Restorer& by, KeptRequests::Entry entry) {
  auto& store = *options.keep_in;
  const auto say = [this, name = KeptRequests::name_of(entry.request)](const std::string& what) {
    if (tell) tell("kept request " + name + ": " + what);
  };
  int unanswered = 0;
  auto pause = kFirstPause;
  for (;;) {
    if (ending()) co_return;
    if (store.too_old(entry.request)) co_return store.drop(entry);
    by.progress = {};
    RestoredExchange absent(entry.request);
    RepeatableExchange exchange(absent);
    const auto latest = Clock::now() + store.time_left(entry.request);
    const auto refused = co_await serve(entry.request.service, exchange, by.progress, latest);
    const bool was_sent = by.progress.handed_over();
    by.progress = {};
    if (absent.status()) {
      say("answered with " + std::to_string(*absent.status()));
      co_return store.answered(entry.id);
    }
    if (refused && !was_sent && is_final(*refused)) {
      say("refused: " + told(*refused));
      co_return store.answered(entry.id);
    }
    if (was_sent && ++unanswered == kUnanswered) {
      say("sent and not answered, " + std::to_string(unanswered) + " times; it stays until " +
          timestamp(store.kept_until(entry.request)));
      co_return;
    }
    if (ending()) co_return;
    const Clock::duration later =
        std::max<Clock::duration>(pause, refused ? refused->retry_after.value_or(0s) : 0s);
    by.rest.expires_after(std::min<Clock::duration>(later, store.time_left(entry.request)));
    co_await by.rest.async_wait(asio::as_tuple(asio::use_awaitable));
    // Who waits for the connection must be there when it comes.
    const bool never_left = refused && refused->code == Code::timed_out && !was_sent;
    pause = never_left ? kFirstPause : std::min(2 * pause, kLongestPause);
  }
}

/// On disk they are safe; only what is under way is worth a wait.
void HttpListeners::Impl::stop_restoring() {
  left.clear();
  const auto some = restorers;  // those that end leave the list
  for (const auto& by : some)
    if (by->begun && !by->progress.handed_over()) by->stop.emit(asio::cancellation_type::terminal);
}

asio::awaitable<void> HttpListeners::Impl::restore_all(std::shared_ptr<Restorer> by) {
  const Counted counted(active);
  by->begun = true;
  // What is cancelled says so. An exception could come from co_spawn's own last step, where none is caught.
  co_await asio::this_coro::throw_if_cancelled(false);
  try {
    while (!ending() && !left.empty()) {
      auto entry = std::move(left.front());
      left.pop_front();
      co_await restore(*by, std::move(entry));
    }
  } catch (const std::exception& error) {
    if (!ending() && tell) tell(std::string("a bug: kept requests are not sent: ") + error.what());
  }
  restorers.remove(by);
}

/// The requests of the ports of one service.
class HttpListeners::Impl::Requests final : public tunnel::HttpHandler {
 public:
  Requests(Impl& owner, std::string service) : owner_(owner), service_(std::move(service)) {}

  asio::awaitable<void> handle(HttpExchange& caller) override {
    caller.authenticated(tunnel::Tier::free);  // whoever reaches the port may use it
    caller.serving(service_);
    const Counted counted(owner_.active);
    const auto cancellation = co_await asio::this_coro::cancellation_state;
    const auto abandoned = [&] { return cancellation.cancelled() != asio::cancellation_type::none; };
    std::optional<Told> instead;
    try {
      instead = co_await serve(caller);
    } catch (...) {
      if (!abandoned()) throw;
    }
    if (instead && !abandoned()) co_await answer(caller, std::move(*instead));
  }

 private:
  asio::awaitable<std::optional<Told>> serve(HttpExchange& caller) {
    const auto queued = system_clock::now();
    RepeatableExchange exchange(caller);
    Progress progress;
    auto refused = co_await owner_.serve(service_, exchange, progress);
    if (!refused) co_return std::nullopt;
    // The queue was closed under it, and there is no other way for it to be sent than by a later run.
    const bool left_over = owner_.refusing && refused->code == Code::unavailable && !progress.handed_over();
    if (!left_over) co_return Told{std::move(*refused)};
    co_return co_await owner_.keep(service_, exchange, queued, std::move(*refused));
  }

  Impl& owner_;
  const std::string service_;
};

Result<Forward> parse_http_forward(std::string_view text) {
  return parse_forward(text, "--http");
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
      const bool in_use = server->listen_error() == asio::error::address_in_use;
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

void HttpListeners::restore() {
  if (impl_->options.keep_in == nullptr) return;
  for (auto& entry : impl_->options.keep_in->restore()) impl_->left.push_back(std::move(entry));
  if (impl_->left.empty()) return;
  const auto count = impl_->left.size();
  if (impl_->tell)
    impl_->tell(std::to_string(count) + (count == 1 ? " request is" : " requests are") +
                " kept from an earlier run, to be sent now");
  for (std::size_t n = 0; n < std::min(kRestorers, count); ++n) {
    auto by = std::make_shared<Impl::Restorer>(impl_->io);
    impl_->restorers.push_back(by);
    asio::co_spawn(impl_->io, impl_->restore_all(by),
                   asio::bind_cancellation_slot(by->stop.slot(), [by](const std::exception_ptr&) {}));
  }
}

std::size_t HttpListeners::kept() const {
  return impl_->kept_now;
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
  impl_->stop_restoring();
  for (auto& server : impl_->servers)
    asio::co_spawn(impl_->io, server->drain(Clock::now()), [](const std::exception_ptr&, bool) {});
}

void HttpListeners::refuse_rest() {
  impl_->refusing = true;
  impl_->stop_restoring();
  impl_->dialer.close();
}

void HttpListeners::abort() {
  refuse_rest();
  for (auto& server : impl_->servers) server->close_all();
}

}  // namespace tunnelctl::client
