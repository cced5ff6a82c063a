#include "tunnelctl/incident/receiver.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "common/http_url.h"
#include "edge/server.h"
#include "edge/tls_context.h"
#include "tunnel/silent_observer.h"

namespace tunnelctl::incident {
namespace {

namespace asio = boost::asio;
using tunnel::HttpExchange;

constexpr std::string_view kSignature = "X-Grafana-Alerting-Signature";
constexpr std::string_view kSignatureTime = "X-Grafana-Alerting-Signature-Timestamp";
constexpr const char* kText = "text/plain; charset=utf-8";
constexpr const char* kMetrics = "text/plain; version=0.0.4; charset=utf-8";
constexpr const char* kJson = "application/json";
const std::vector<tunnel::Header> kNoTrailers;

struct Answer {
  unsigned status = 200;
  std::string body{};
  const char* type = kJson;
  std::vector<tunnel::Header> fields{};
};

Answer refusal(unsigned status, std::string_view why, std::vector<tunnel::Header> fields = {}) {
  const Json body{{"error", why}};
  return {status, body.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n", kJson, std::move(fields)};
}

const char* reason_of(unsigned status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    default: return "Service Unavailable";
  }
}

std::string_view field(const tunnel::RequestHead& head, std::string_view name) {
  const auto* found = head.find(name);
  return found == nullptr ? std::string_view() : std::string_view(*found);
}

bool shows(const tunnel::RequestHead& head, const Secret& token) {
  constexpr std::string_view kScheme = "bearer ";
  const auto value = field(head, "Authorization");
  if (token.empty() || value.size() <= kScheme.size()) return false;
  const bool bearer = std::equal(kScheme.begin(), kScheme.end(), value.begin(), [](char wanted, char c) {
    return wanted == (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return bearer && Secret(std::string(value.substr(kScheme.size()))) == token;
}

struct Body {
  std::string bytes{};
  std::optional<Answer> refused{};
};

asio::awaitable<Body> read_body(HttpExchange& exchange) {
  Body body;
  const auto* sized = std::get_if<tunnel::SizedBody>(&exchange.request().body);
  bool large = sized != nullptr && sized->bytes > kMaxWebhook;
  std::array<std::byte, 16 * 1024> piece{};
  while (!large) {
    const auto got = co_await exchange.read_body(piece);
    if (!got) {
      const bool slow = got.error().kind == Error::Kind::timed_out;
      body.refused = refusal(slow ? 408 : 400, slow ? "the body did not come" : "the body is broken off");
      co_return body;
    }
    if (*got == 0) co_return body;
    large = body.bytes.size() + *got > kMaxWebhook;
    if (!large) body.bytes.append(reinterpret_cast<const char*>(piece.data()), *got);
  }
  body.refused =
      refusal(413, "the body is larger than " + std::to_string(kMaxWebhook) + " bytes; set max_alerts");
  co_return body;
}

struct Handler final : tunnel::HttpHandler {
  asio::awaitable<void> handle(HttpExchange& exchange) override {
    Answer answer;
    const auto& request = exchange.request();
    const bool post = request.method == "POST";
    const bool hooks = request.target == "/alertmanager" || request.target == "/grafana";
    if (hooks && post) {
      // By name, for g++ 12 destroys some temporaries of a co_await expression twice.
      const std::string origin = request.target.substr(1);
      answer = co_await hook(exchange, origin);
      if (answer.status != 200) parts.refused(origin, std::to_string(answer.status));
    } else {
      answer = page(exchange, hooks);
    }
    if (answer.status != 401) exchange.authenticated(tunnel::Tier::free);
    co_await send(exchange, answer);
  }

  asio::awaitable<Answer> hook(HttpExchange& exchange, const std::string& origin) {
    const auto& request = exchange.request();
    const bool nearby =
        options.token.empty() && options.grafana_secret.empty() && http::is_loopback(exchange.peer_address());
    const auto signature = field(request, kSignature);
    const bool may_be_signed = origin == "grafana" && !options.grafana_secret.empty() && !signature.empty();
    const bool known = nearby || shows(request, options.token);
    if (!known && !may_be_signed) co_return unknown();
    auto body = co_await read_body(exchange);
    if (body.refused) co_return std::move(*body.refused);
    if (!known && !is_signed(body.bytes, signature, field(request, kSignatureTime), options.grafana_secret,
                             parts.now()))
      co_return unknown();
    const auto group = parse_alerts(origin, body.bytes);
    if (!group) co_return refusal(400, group.error().message);
    const auto taken = parts.take(*group);
    if (!taken) co_return refusal(503, taken.error().message, {{"Retry-After", "10"}});
    co_return Answer{.status = 200, .body = "{\"status\":\"accepted\"}\n"};
  }

  Answer page(HttpExchange& exchange, bool hooks) const {
    const auto& request = exchange.request();
    const bool nearby = http::is_loopback(exchange.peer_address());
    if (!nearby && !shows(request, options.token)) return unknown();
    if (hooks) return refusal(405, "only POST", {{"Allow", "POST"}});
    const bool pages =
        request.target == "/metrics" || request.target == "/healthz" || request.target == "/readyz";
    if (!pages)
      return refusal(404, "there are POST /alertmanager and /grafana, GET /metrics, /healthz and /readyz");
    if (request.method != "GET" && request.method != "HEAD")
      return refusal(405, "only GET", {{"Allow", "GET, HEAD"}});
    if (request.target == "/metrics") return {.status = 200, .body = parts.metrics(), .type = kMetrics};
    const auto well = request.target == "/healthz" ? parts.healthy() : parts.ready();
    if (!well) return refusal(503, well.error().message);
    return {.status = 200, .body = "ok\n", .type = kText};
  }

  static Answer unknown() {
    return refusal(401, "show the token of --listen-token-file as a bearer token",
                   {{"WWW-Authenticate", "Bearer"}});
  }

  static asio::awaitable<void> send(HttpExchange& exchange, const Answer& answer) {
    tunnel::ResponseHead head;
    head.status = answer.status;
    head.reason = reason_of(answer.status);
    head.fields = {
        {"Content-Type", answer.type}, {"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}};
    head.fields.insert(head.fields.end(), answer.fields.begin(), answer.fields.end());
    head.body = tunnel::SizedBody{answer.body.size()};
    Result<void> sent;
    if (exchange.request().method == "HEAD")
      sent = co_await exchange.send_head(head);
    else
      sent = co_await exchange.send_head_with(head, std::as_bytes(std::span(answer.body)));
    if (sent) (void)co_await exchange.finish(kNoTrailers);
  }

  ReceiverOptions options{};
  Receiver::Parts parts{};
};

}  // namespace

struct Receiver::Impl {
  // Connections that are left over end with the context, before what they use.
  Handler handler;
  tunnel::SilentObserver observer;
  asio::io_context io{1};
  std::unique_ptr<edge::Server> server;
  std::thread thread;
};

Receiver::Receiver(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Receiver::~Receiver() {
  impl_->io.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

unsigned short Receiver::port() const {
  return impl_->server->local_endpoints().front().port();
}

Result<std::unique_ptr<Receiver>> Receiver::start(ReceiverOptions options, Parts parts) {
  const auto colon = options.listen.rfind(':');
  auto host = options.listen.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty())
    return fail(Error::Kind::bad_input, "--listen: name an address and a port, as in 127.0.0.1:9465");
  const bool beyond = !http::is_loopback(host);
  if (beyond && options.token.empty())
    return fail(Error::Kind::bad_input,
                "--listen " + options.listen + ": beyond this machine only with --listen-token-file");
  const bool plain = options.certificate.empty() && options.key.empty();
  if (beyond && plain && !options.allow_plain)
    return fail(Error::Kind::bad_input,
                "--listen " + options.listen +
                    ": whoever is on the way would read the token: name --listen-certificate and "
                    "--listen-key, or say --allow-plain-http where the network protects it");
  edge::Server::Parts server;
  if (!plain) {
    auto tls = edge::load_tls({.certificate_file = options.certificate,
                               .key_file = options.key,
                               .min_version = edge::TlsOptions::MinVersion::tls1_2});
    if (!tls) return fail(Error::Kind::bad_input, "--listen-certificate: " + tls.error().message);
    server.tls = std::move(*tls);
  }
  auto impl = std::make_unique<Impl>();
  edge::Options limits;
  limits.listen = {options.listen};
  limits.max_connections = 64;
  limits.max_unauthenticated = 48;
  limits.early_drop_from = 32;
  impl->handler.options = std::move(options);
  impl->handler.parts = std::move(parts);
  server.threads = {&impl->io};
  server.handler = [handler = &impl->handler](std::size_t) -> tunnel::HttpHandler& { return *handler; };
  server.observer = &impl->observer;
  impl->server = std::make_unique<edge::Server>(std::move(limits), std::move(server));
  if (auto started = impl->server->start(); !started)
    return fail(Error::Kind::bad_input, "--listen: " + started.error().message);
  impl->thread = std::thread([io = &impl->io] {
    const auto work = asio::make_work_guard(*io);
    io->run();
  });
  return std::unique_ptr<Receiver>(new Receiver(std::move(impl)));
}

}  // namespace tunnelctl::incident
