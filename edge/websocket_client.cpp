#include "edge/websocket_client.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <boost/asio/this_coro.hpp>

#include <nlohmann/json.hpp>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/strict_json.h"
#include "edge/client_proxy.h"
#include "edge/client_tls.h"
#include "edge/dial.h"
#include "edge/message_compression.h"
#include "edge/websocket.h"
#include "edge/websocket_handshake.h"
#include "tunnel/silent_observer.h"

namespace edge {

namespace {

using Clock = Transport::Clock;
using Stream = std::unique_ptr<tunnel::WebSocketStream>;
using Outcome = tl::expected<Stream, ConnectFailure>;
using Step = tl::expected<void, ConnectFailure>;

/// More of an answer's body than any error of ours has.
constexpr std::size_t kMaxAnswerBody = 64 * 1024;
/// For the body of an answer that is no 101: it only explains.
constexpr auto kBodyPatience = std::chrono::seconds(3);

std::string base64(std::span<const unsigned char> bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  out.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                      bytes.data(), static_cast<int>(bytes.size()))));
  return out;
}

std::string new_key() {
  std::array<unsigned char, 16> bytes{};
  RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
  return base64(bytes);
}

bool lists(std::string_view value, std::string_view token) {
  while (!value.empty()) {
    const auto end = std::min(value.find(','), value.size());
    auto item = value.substr(0, end);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (tunnel::same_name(item, token)) return true;
    value.remove_prefix(std::min(end + 1, value.size()));
  }
  return false;
}

bool is_field_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return (c >= 0x20 && c != 0x7F) || c == '\t'; });
}

/// RFC 9110 5.6.7, the one form that is sent.
std::optional<std::chrono::system_clock::time_point> parse_date(const std::string& text) {
  std::tm parts{};
  const char* end = ::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

/// Retry-After (RFC 9110 10.2.3): seconds, or a date by the server's clock.
std::optional<std::chrono::milliseconds> parse_retry_after(
    const std::string& text, std::optional<std::chrono::system_clock::time_point> server_date) {
  unsigned seconds = 0;
  const auto [stop, wrong] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (wrong == std::errc() && stop == text.data() + text.size()) return std::chrono::seconds(seconds);
  const auto when = parse_date(text);
  if (!when) return std::nullopt;
  const auto pause = *when - server_date.value_or(std::chrono::system_clock::now());
  return std::max(std::chrono::milliseconds(0), std::chrono::duration_cast<std::chrono::milliseconds>(pause));
}

std::string text_in(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// One attempt: each step fills in what the next needs, or says why not.
class Attempt {
 public:
  Attempt(asio::io_context& io, ClientTarget target, ClientRequest request, const Options& options,
          ConnectReport* report)
      : io_(io),
        target_(std::move(target)),
        request_(std::move(request)),
        options_(std::make_shared<const Options>(options)),
        report_(report != nullptr ? *report : own_report_),
        deadline_(Clock::now() + target_.timeout) {}

  asio::awaitable<Outcome> run();

 private:
  Step read_target();
  asio::awaitable<Step> connect();
  asio::awaitable<Step> begin_tls();
  asio::awaitable<Step> upgrade();
  std::string upgrade_request(const std::string& key);
  /// Up to the end of the head; what comes behind it stays in received_.
  asio::awaitable<tl::expected<tunnel::ResponseHead, ConnectFailure>> read_answer();
  Step check_switch(const tunnel::ResponseHead& answer, const std::string& key);
  Step check_extensions(const tunnel::ResponseHead& answer);
  asio::awaitable<Step> refuse(tunnel::ResponseHead answer);
  asio::awaitable<std::string> read_body(tunnel::ResponseHead answer);
  bool take_error_body(const std::string& body, ConnectFailure& failure) const;
  void note_tls();
  Stream open();

  ConnectFailure failure(std::string cause, const std::string& what) const;
  tl::unexpected<ConnectFailure> fails(std::string cause, const std::string& what) const {
    return tl::unexpected(failure(std::move(cause), what));
  }
  /// For what a Transport says; `otherwise` when it was neither time nor cancellation.
  tl::unexpected<ConnectFailure> fails_by(const Error& error, const char* otherwise) const;

  asio::io_context& io_;
  const ClientTarget target_;
  const ClientRequest request_;
  const std::shared_ptr<const Options> options_;
  ConnectReport own_report_;
  ConnectReport& report_;
  const Clock::time_point deadline_;

  ConnectStep step_ = ConnectStep::address;
  http::Url url_;
  std::string resource_;  // path and query
  std::optional<Proxy> proxy_;
  SslHandle ssl_;
  std::shared_ptr<Transport> transport_;
  std::string received_;      // and not used
  bool compression_ = false;  // was agreed on
};

ConnectFailure Attempt::failure(std::string cause, const std::string& what) const {
  std::string place = http::shown_url(target_.url);
  if (!report_.address.empty()) {
    place += " (";
    if (proxy_) place += "by the proxy ";
    place += report_.address + ")";
  }
  ConnectFailure failed;
  failed.step = step_;
  failed.cause = std::move(cause);
  failed.message = http::one_line(place + ": " + what, 1000);
  // Whatever a server sends back: the token stays out of messages.
  const auto token = request_.bearer.reveal();
  for (std::size_t at = 0; !token.empty() && (at = failed.message.find(token)) != std::string::npos;)
    failed.message.replace(at, token.size(), "***");
  return failed;
}

tl::unexpected<ConnectFailure> Attempt::fails_by(const Error& error, const char* otherwise) const {
  if (error.kind == Error::Kind::cancelled) return fails("cancelled", "cancelled");
  if (error.kind == Error::Kind::timed_out)
    return fails("timed_out", "no answer within " + std::to_string(target_.timeout.count() / 1000) + " s (" +
                                  error.message + ")");
  if (error.kind == Error::Kind::unavailable && step_ >= ConnectStep::tls)
    return fails("broken", "the connection broke: " + error.message);
  return fails(otherwise, error.message);
}

asio::awaitable<Outcome> Attempt::run() {
  if (auto good = read_target(); !good) co_return tl::unexpected(std::move(good.error()));
  auto connected = co_await connect();
  if (!connected) co_return tl::unexpected(std::move(connected.error()));
  auto secured = co_await begin_tls();
  if (!secured) co_return tl::unexpected(std::move(secured.error()));
  auto upgraded = co_await upgrade();
  if (!upgraded) co_return tl::unexpected(std::move(upgraded.error()));
  const auto state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none) co_return fails("cancelled", "cancelled");
  step_ = ConnectStep::done;
  co_return open();
}

Step Attempt::read_target() {
  std::string_view text = target_.url;
  const bool tls = text.starts_with("wss://");
  if (!tls && !text.starts_with("ws://"))
    return fails("bad_address", "the URL must start with wss:// or ws://");
  text.remove_prefix(tls ? 6 : 5);
  const auto url = http::parse_url((tls ? "https://" : "http://") + std::string(text));
  if (!url) return fails("bad_address", url.error().message);
  url_ = *url;
  const auto path = text.find_first_of("/?");
  if (path != std::string_view::npos) resource_ = text.substr(path);
  if (resource_.empty() || resource_.front() == '?') resource_.insert(0, "/");
  if (!tls && !target_.allow_plain && !http::is_loopback(url_.host))
    return fails("bad_address",
                 "ws:// without TLS is for loopback only, because whoever is on the way can read the token; "
                 "use wss://");
  if (!is_field_text(request_.bearer.reveal()))
    return fails("bad_address", "the token has characters that no header may hold");

  step_ = ConnectStep::proxy;
  auto proxy = choose_proxy(target_.proxies ? *target_.proxies : http::Proxies::from_environment(), url_);
  if (!proxy) return fails("proxy_refused", proxy.error().message);
  proxy_ = std::move(*proxy);
  if (proxy_) report_.proxy = proxy_->shown();

  step_ = ConnectStep::tls;
  if (!url_.tls) return {};
  auto ssl = client_tls(target_.tls, url_.host);
  if (!ssl) return fails("tls_failed", ssl.error().message);
  ssl_ = std::move(*ssl);
  return {};
}

asio::awaitable<Step> Attempt::connect() {
  const auto began = Clock::now();
  step_ = proxy_ ? ConnectStep::proxy : ConnectStep::dns;
  const auto whom = proxy_ ? "proxy " + proxy_->shown() : url_.host;
  const auto host = proxy_ ? proxy_->host : url_.host;
  const auto port = proxy_ ? proxy_->port : url_.port;
  auto endpoints = co_await look_up(host, port, deadline_);
  report_.dns = Clock::now() - began;
  if (!endpoints) {
    auto& error = endpoints.error();
    error.message = whom + ": the name cannot be looked up: " + error.message;
    co_return fails_by(error, "dns_failed");
  }

  if (!proxy_) step_ = ConnectStep::tcp;
  const auto looked_up = Clock::now();
  auto socket = co_await connect_any(io_, std::move(*endpoints), deadline_);
  report_.tcp = Clock::now() - looked_up;
  if (!socket)
    co_return fails(socket.error().cause, "cannot connect to " + whom + ": " + socket.error().message);
  boost::system::error_code gone;
  const auto peer = socket->remote_endpoint(gone);
  if (!gone) report_.address = to_text(peer);
  transport_ = std::make_shared<Transport>(std::move(*socket), std::move(ssl_), options_->write_stall);
  report_.socket = transport_->descriptor();

  if (!proxy_) co_return Step{};
  auto passed = co_await pass_proxy(*transport_, *proxy_, url_, deadline_);
  report_.tcp = Clock::now() - looked_up;
  if (passed) co_return Step{};
  auto failed = failure(passed.error().cause, passed.error().message);
  failed.status = passed.error().status;
  co_return tl::unexpected(std::move(failed));
}

void Attempt::note_tls() {
  const auto& certificate = certificate_of(transport_->tls());
  report_.certificate_subject = certificate.subject;
  report_.certificate_issuer = certificate.issuer;
  report_.certificate_ends = certificate.ends;
}

asio::awaitable<Step> Attempt::begin_tls() {
  if (!transport_->is_tls()) co_return Step{};
  step_ = ConnectStep::tls;
  const auto began = Clock::now();
  const auto shaken = co_await transport_->handshake(deadline_);
  report_.tls = Clock::now() - began;
  note_tls();
  if (shaken) {
    report_.tls_version = transport_->tls_version();
    co_return Step{};
  }
  const auto verdict = SSL_get_verify_result(transport_->tls());
  if (target_.tls.insecure || verdict == X509_V_OK) co_return fails_by(shaken.error(), "tls_failed");
  auto what = "the server's certificate is refused: " + std::string(X509_verify_cert_error_string(verdict)) +
              "; it is for " + report_.certificate_subject + ", from " + report_.certificate_issuer;
  const std::string cause = cause_of(verdict);
  if (cause == "certificate_untrusted")
    what += "; if it is right, name its issuer's certificate as " + target_.tls.ca_setting;
  co_return fails(cause, what);
}

std::string Attempt::upgrade_request(const std::string& key) {
  const bool v6 = url_.host.find(':') != std::string::npos;
  auto host = v6 ? "[" + url_.host + "]" : url_.host;
  if (url_.port != (url_.tls ? 443 : 80)) host += ":" + std::to_string(url_.port);
  std::string text = "GET " + resource_ + " HTTP/1.1\r\nHost: " + host +
                     "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: " +
                     key + "\r\n";
  const auto add = [&text](std::string_view name, std::string_view value) {
    text.append(name).append(": ").append(value).append("\r\n");
  };
  std::string subprotocols;
  for (const auto& each : request_.subprotocols)
    subprotocols.append(subprotocols.empty() ? "" : ", ").append(each);
  if (!subprotocols.empty()) add("Sec-WebSocket-Protocol", subprotocols);
  if (options_->compression) add("Sec-WebSocket-Extensions", kCompressionOffer);
  for (const auto& field : request_.fields) add(field.name, field.value);
  text.reserve(text.size() + request_.bearer.reveal().size() + 32);  // so that it has one copy
  if (!request_.bearer.empty())
    text.append("Authorization: Bearer ").append(request_.bearer.reveal()).append("\r\n");
  return text.append("\r\n");
}

asio::awaitable<Step> Attempt::upgrade() {
  step_ = ConnectStep::upgrade;
  const auto began = Clock::now();
  const auto key = new_key();
  auto text = upgrade_request(key);
  const auto sent = co_await transport_->write(std::as_bytes(std::span(text)));
  OPENSSL_cleanse(text.data(), text.size());
  if (!sent) co_return fails_by(sent.error(), "not_http");
  auto answer = co_await read_answer();
  report_.upgrade = Clock::now() - began;
  if (!answer) co_return tl::unexpected(std::move(answer.error()));
  report_.answer_fields = answer->fields;
  if (const auto* date = answer->find("Date")) report_.server_date = parse_date(*date);
  if (answer->status == 101) co_return check_switch(*answer, key);
  co_return co_await refuse(std::move(*answer));
}

asio::awaitable<tl::expected<tunnel::ResponseHead, ConnectFailure>> Attempt::read_answer() {
  const tunnel::HeadLimits limits;
  std::array<std::byte, 4096> buffer;
  std::size_t scanned = 0;
  for (;;) {
    constexpr std::string_view kHttp = "HTTP/";
    if (received_.substr(0, kHttp.size()) != kHttp.substr(0, received_.size()))
      co_return fails("not_http", "it speaks something other than HTTP: " +
                                      http::one_line(received_.substr(0, received_.find('\n')), 80));
    if (const auto end = tunnel::find_head_end(std::as_bytes(std::span(received_)), scanned)) {
      auto head = tunnel::parse_response_head(received_.substr(0, *end), "GET", limits);
      received_.erase(0, *end);
      if (!head)
        co_return fails("not_http", "its answer is broken HTTP: " + std::string(head.error().reason));
      if (head->status >= 200 || head->status == 101) co_return std::move(*head);
      scanned = 0;
      continue;
    }
    if (received_.size() > limits.max_total_bytes)
      co_return fails("not_http", "the head of its answer is too long");
    const auto got = co_await transport_->read(buffer, deadline_);
    if (!got && got.error().kind == Error::Kind::bad_input) {
      step_ = ConnectStep::tls;  // an alert: with TLS 1.3 it comes after the handshake
      co_return fails("tls_failed", got.error().message);
    }
    if (!got) co_return fails_by(got.error(), "not_http");
    if (*got == 0) co_return fails("broken", "it closed the connection without an answer");
    received_.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
}

Step Attempt::check_extensions(const tunnel::ResponseHead& answer) {
  std::string all;
  for (const auto& field : answer.fields)
    if (tunnel::same_name(field.name, "Sec-WebSocket-Extensions"))
      all.append(all.empty() ? "" : ", ").append(field.value);
  if (all.empty()) return {};
  if (!options_->compression)
    return fails("not_websocket", "it uses a WebSocket extension that nobody offered");
  compression_ = agrees_to_our_offer(all);
  if (compression_) return {};
  return fails("not_websocket",
               "it answers the offer of compression with something else: " + http::one_line(all, 80));
}

Step Attempt::check_switch(const tunnel::ResponseHead& answer, const std::string& key) {
  const auto is = [&answer](const char* name, std::string_view value) {
    const auto* found = answer.find(name);
    return found != nullptr && lists(*found, value);
  };
  if (!is("Upgrade", "websocket") || !is("Connection", "upgrade"))
    return fails("not_websocket", "it switched to something other than WebSocket");
  const auto* accepted = answer.find("Sec-WebSocket-Accept");
  if (accepted == nullptr || *accepted != accept_value(key))
    return fails("not_websocket",
                 "its Sec-WebSocket-Accept is wrong: something on the way answers from memory");
  if (auto good = check_extensions(answer); !good) return good;
  const auto& offered = request_.subprotocols;
  const auto* chosen = answer.find("Sec-WebSocket-Protocol");
  if (chosen == nullptr && !offered.empty())
    return fails("not_websocket", "it chose none of the subprotocols, first " + offered.front() +
                                      ": is this the right path, and the right server?");
  if (chosen != nullptr && std::find(offered.begin(), offered.end(), *chosen) == offered.end())
    return fails("not_websocket",
                 "it chose a subprotocol that nobody offered: " + http::one_line(*chosen, 80));
  return {};
}

asio::awaitable<std::string> Attempt::read_body(tunnel::ResponseHead answer) {
  const auto deadline = std::min(deadline_, Clock::now() + kBodyPatience);
  std::optional<tunnel::ChunkDecoder> chunks;
  std::size_t left = kMaxAnswerBody;
  if (const auto* sized = std::get_if<tunnel::SizedBody>(&answer.body))
    left = static_cast<std::size_t>(std::min<std::uint64_t>(left, sized->bytes));
  else if (std::holds_alternative<tunnel::ChunkedBody>(answer.body))
    chunks.emplace();
  else if (std::holds_alternative<tunnel::NoBody>(answer.body))
    left = 0;
  std::string body;
  std::array<std::byte, 4096> buffer;
  while (left > 0) {
    auto input = std::as_bytes(std::span(received_));
    bool done = false;
    while (chunks && !input.empty() && !done) {
      const auto step = chunks->decode(input);
      if (!step) co_return body;
      body.append(reinterpret_cast<const char*>(step->data.data()), step->data.size());
      done = step->done || step->consumed == 0;
      input = input.subspan(step->consumed);
    }
    if (!chunks) body += received_;
    received_.clear();
    if (done || body.size() >= left) break;
    const auto got = co_await transport_->read(buffer, deadline);
    if (!got || *got == 0) break;
    received_.assign(reinterpret_cast<const char*>(buffer.data()), *got);
  }
  if (body.size() > left) body.resize(left);
  co_return body;
}

/// The one error body of the HTTP API (tunnel/refusal.h).
bool Attempt::take_error_body(const std::string& body, ConnectFailure& failed) const {
  const auto json = parse_strict_json(body, kMaxAnswerBody);
  if (!json || !json->is_object()) return false;
  const auto found = json->find("error");
  if (found == json->end() || !found->is_object()) return false;
  const auto code = text_in(*found, "code");
  if (!code.starts_with("TUNNEL_")) return false;
  std::string what = code;
  for (const char* each : {"message", "userMessage", "suggestion"}) {
    auto text = text_in(*found, each);
    if (!text.empty()) what.append(what == code ? ": " : what.back() == '.' ? " " : ". ").append(text);
  }
  const auto status = failed.status;
  auto retry_after = failed.retry_after;
  const auto seconds = found->find("retryAfter");
  if (seconds != found->end() && seconds->is_number_unsigned())
    retry_after = std::chrono::seconds(std::min<std::uint64_t>(seconds->get<std::uint64_t>(), 24 * 60 * 60));
  // We did ask for an upgrade: a tunneld that misses it was not shown it.
  if (status == 426)
    failed = failure("upgrade_stripped",
                     "something on the way to tunneld removed the Upgrade field; it says HTTP 426 " + what);
  else
    failed = failure("refused_by_server", "HTTP " + std::to_string(status) + " " + what);
  failed.status = status;
  failed.error_code = http::one_line(code, 20);
  failed.retry_after = retry_after;
  return true;
}

asio::awaitable<Step> Attempt::refuse(tunnel::ResponseHead answer) {
  const auto status = answer.status;
  const auto* type = answer.find("Content-Type");
  const bool page = type != nullptr && type->starts_with("text/html");
  const auto* location = answer.find("Location");
  const auto seen = "HTTP " + std::to_string(status) + " " + http::one_line(answer.reason, 80);
  ConnectFailure failed;
  if ((status >= 300 && status < 400) || (status == 200 && page) || status == 511)
    failed = failure("captive_portal",
                     seen + (location != nullptr ? " to " + http::shown_url(*location) : std::string()) +
                         " where a WebSocket was due: a sign-in page of the network, or a wrong address");
  else if (status == 200 || status == 400 || status == 426)
    failed =
        failure("upgrade_stripped",
                seen + " where a WebSocket was due: a proxy on the way may have removed the Upgrade field");
  else
    failed = failure("refused_by_server", seen);
  failed.status = status;
  if (const auto* pause = answer.find("Retry-After"))
    failed.retry_after = parse_retry_after(*pause, report_.server_date);
  const bool maybe_ours = type != nullptr && type->starts_with("application/json");
  if (maybe_ours) {
    const auto body = co_await read_body(std::move(answer));
    take_error_body(body, failed);
  }
  co_return tl::unexpected(std::move(failed));
}

Stream Attempt::open() {
  static tunnel::SilentObserver nobody;
  WebSocket::Setup setup{.early = std::move(received_),
                         .options = *options_,
                         .observer = nobody,
                         .record = nullptr,
                         .empty_message_ends = request_.empty_message_ends,
                         .control_messages = request_.control_messages,
                         .compression = compression_,
                         .own_options = options_,
                         .speaks_as = WebSocket::Side::client};
  auto websocket = WebSocket::open(std::move(transport_), std::move(setup));
  return std::make_unique<WebSocketDoor>(std::move(websocket));
}

/// Everything by value: whoever spawned it need not keep it.
asio::awaitable<Outcome> connect_with(std::unique_ptr<Attempt> attempt) {
  // A step that was cancelled says so; what follows it must not throw instead.
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  auto outcome = co_await attempt->run();
  co_await asio::this_coro::throw_if_cancelled(throws);
  co_return outcome;
}

}  // namespace

asio::awaitable<Outcome> connect_websocket(asio::io_context& io, const ClientTarget& target,
                                           const ClientRequest& request, const Options& options,
                                           ConnectReport* report) {
  return connect_with(std::make_unique<Attempt>(io, target, request, options, report));
}

}  // namespace edge
