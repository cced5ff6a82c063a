#include "tunnelctl/client/diagnosis_path.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include <openssl/rand.h>
#include <openssl/sha.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/http_access.h"
#include "common/http_client.h"
#include "common/http_url.h"
#include "common/strict_json.h"
#include "edge/client_proxy.h"
#include "edge/dial.h"
#include "edge/transport.h"
#include "link/mux.h"
#include "tunnelctl/client/carrier.h"
#include "tunnelctl/client/link_pings.h"
#include "tunnelctl/client/opening.h"
#include "tunnelctl/client/retry.h"
#include "tunnelctl/client/tcp_counts.h"

namespace tunnelctl::client {
namespace {

using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;
using Clock = StepRunner::Clock;
using Json = nlohmann::json;
using SystemClock = std::chrono::system_clock;
using std::chrono::milliseconds;

constexpr const char* kPath = "/ws";
constexpr const char* kProtocol = "tunnel.v1";
constexpr std::size_t kPings = 20;
constexpr milliseconds kBetweenPings{100};
/// None of the values that a Mux counts up to.
constexpr std::uint32_t kFirstPing = 0xC000'0000;
constexpr std::size_t kDataBytes = 1024 * 1024;
constexpr std::size_t kPieceBytes = 64 * 1024;
constexpr std::size_t kMaxHello = 16 * 1024;
constexpr auto kLook = 10ms;
/// What a port says by itself, and then to a plain request.
constexpr auto kFirstWords = 1s;
constexpr auto kGoodbye = 1s;

asio::awaitable<void> pause(asio::io_context& io, Clock::duration time) {
  asio::steady_timer timer(io, time);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

milliseconds in_ms(Clock::duration time) {
  return std::chrono::duration_cast<milliseconds>(time);
}

std::string day_of(SystemClock::time_point time) {
  return timestamp(time).substr(0, 10);
}

/// RFC 9110 5.6.7, the one form that is sent.
std::optional<SystemClock::time_point> parse_date(const std::string& text) {
  std::tm parts{};
  const char* end = ::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return SystemClock::from_time_t(timegm(&parts));
}

std::string text_in(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string()
             ? http::one_line(found->get_ref<const std::string&>(), 200)
             : std::string();
}

std::string place_of(const std::string& host, std::uint16_t port) {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;
Digest sha256(std::span<const std::byte> bytes) {
  Digest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return digest;
}

/// The link, what travels over it, and how it ended.
struct Line {
  Line(asio::io_context& io, std::shared_ptr<links::Link> link_in, std::shared_ptr<CarrierEnd> end_in)
      : link(std::move(link_in)), end(std::move(end_in)), pings(link), mux(io.get_executor(), pings, {}) {}

  std::shared_ptr<links::Link> link;
  std::shared_ptr<CarrierEnd> end;
  PingedLink pings;
  links::Mux mux;
  bool over = false;

  static asio::awaitable<void> carry(std::shared_ptr<Line> line) {
    (void)co_await line->mux.run();
    line->over = true;
  }
};

class Path {
 public:
  Path(asio::io_context& io, DiagnosisOptions options, std::stop_token stop)
      : io_(io), options_(std::move(options)), stop_(std::move(stop)), runner_(options_.limits) {}

  asio::awaitable<Diagnosis> walk();

 private:
  using Deadline = Clock::time_point;
  using Outcome = asio::awaitable<StepOutcome>;
  struct Page {
    std::string body{};
    std::optional<SystemClock::time_point> date{};  // of its Date field
  };

  Outcome dns(Deadline deadline);
  Outcome tcp(Deadline deadline);
  Outcome tls(Deadline deadline);
  Outcome upgrade(Deadline deadline);
  Outcome token(Deadline deadline);
  Outcome session(Deadline deadline);
  Outcome service(Deadline deadline);
  Outcome data(Deadline deadline);
  Outcome latency(Deadline deadline);
  Outcome throughput(Deadline deadline);

  asio::awaitable<void> connect(Deadline deadline);
  StepOutcome certificate_seen() const;
  asio::awaitable<void> look_closer(Deadline deadline);
  asio::awaitable<std::string> first_words(Deadline deadline);
  asio::awaitable<void> ask_time(Deadline deadline);
  void note_time(std::optional<SystemClock::time_point> server_date);
  std::optional<Page> page(std::string path, bool with_token, Deadline deadline) const;
  asio::awaitable<std::optional<Page>> fetch(std::string path, bool with_token, Deadline deadline);
  StepOutcome me_seen(const std::string& body) const;
  asio::awaitable<Result<std::string>> hear_hello();
  Finding session_failed(const std::string& why) const;
  asio::awaitable<Result<void>> send_all(std::shared_ptr<std::vector<std::byte>> bytes);
  asio::awaitable<Result<Digest>> receive(std::size_t bytes);
  Outcome there_and_back();
  Finding no_echo(const std::string& why) const;
  asio::awaitable<Error> pump();
  asio::awaitable<Error> count();
  asio::awaitable<void> goodbye();
  Quality quality_now() const;

  StepRunner::Work work(Outcome (Path::*step)(Deadline)) {
    return [this, step](Deadline deadline) { return (this->*step)(deadline); };
  }
  edge::ClientTarget target_until(Deadline deadline) const {
    auto to = target(options_.server, kPath);
    to.proxies = proxies_;
    to.timeout = std::max(in_ms(deadline - Clock::now()), 1ms);
    return to;
  }

  asio::io_context& io_;
  const DiagnosisOptions options_;
  const std::stop_token stop_;
  StepRunner runner_;
  asio::thread_pool threads_{1};  // libcurl's calls block

  http::Url url_{};
  http::Proxies proxies_{};
  std::optional<edge::Proxy> proxy_{};
  std::vector<asio::ip::tcp::endpoint> endpoints_{};

  // Of the one attempt that tls, upgrade and token are told from.
  bool attempted_ = false;
  std::unique_ptr<tunnel::WebSocketStream> socket_{};
  edge::ConnectReport report_{};
  std::optional<Blame> blame_{};
  Clock::duration attempt_took_{};
  Evidence evidence_{};

  std::shared_ptr<Line> line_{};
  std::unique_ptr<tunnel::ByteStream> control_{};
  std::unique_ptr<tunnel::ByteStream> stream_{};
  std::optional<Latency> latency_{};
  std::optional<double> throughput_bytes_{};
  std::uint64_t counted_ = 0;  // bytes that came back
};

asio::awaitable<Diagnosis> Path::walk() {
  Diagnosis done;
  done.target = http::shown_url(options_.server.url);
  co_await runner_.run("dns", work(&Path::dns));
  co_await runner_.run("tcp", work(&Path::tcp));
  co_await runner_.run("tls", work(&Path::tls));
  co_await runner_.run("upgrade", work(&Path::upgrade));
  co_await runner_.run("token", work(&Path::token));
  co_await runner_.run("session", work(&Path::session));
  co_await runner_.run("service", work(&Path::service));
  co_await runner_.run("data", work(&Path::data));
  co_await runner_.run("latency", work(&Path::latency));
  co_await runner_.run("throughput", work(&Path::throughput));
  if (latency_ && latency_->missed < latency_->pings) done.quality = quality_now();
  co_await goodbye();
  done.steps = runner_.steps();
  done.finding = runner_.finding();
  done.clock_note = clock_note(evidence_.server_ahead);
  co_return done;
}

// The way to the server -----------------------------------------------------------------------------

Path::Outcome Path::dns(Deadline deadline) {
  const auto url = http::parse_url(http_url(options_.server.url));
  if (!url) co_return failed({"bad_address", url.error().message, "correct the server's address"});
  url_ = *url;
  evidence_.host = url_.host;
  proxies_ = options_.server.proxies ? *options_.server.proxies : http::Proxies::from_environment();
  auto proxy = edge::choose_proxy(proxies_, url_);
  if (!proxy)
    co_return failed({"proxy_refused", proxy.error().message, "correct HTTPS_PROXY (for ws:// HTTP_PROXY)"});
  proxy_ = std::move(*proxy);
  const auto host = proxy_ ? proxy_->host : url_.host;
  auto found = co_await edge::look_up(host, proxy_ ? proxy_->port : url_.port, deadline);
  if (!found) co_return failed(unresolved(proxy_ ? "the proxy " + host : host, found.error()));
  endpoints_ = std::move(*found);
  Json v4 = Json::array();
  Json v6 = Json::array();
  std::string shown;
  for (const auto& endpoint : endpoints_) {
    const auto text = endpoint.address().to_string();
    (endpoint.address().is_v4() ? v4 : v6).push_back(text);
    shown.append(shown.empty() ? "" : ", ").append(text);
    if (text != host) shown += endpoint.address().is_v4() ? " (A)" : " (AAAA)";
  }
  if (proxy_) shown += ", of the proxy " + proxy_->shown() + ", which looks " + url_.host + " up itself";
  co_return passed(std::move(shown), {{"a", std::move(v4)}, {"aaaa", std::move(v6)}});
}

Path::Outcome Path::tcp(Deadline deadline) {
  const auto whom = proxy_ ? "the proxy " + proxy_->shown() : place_of(url_.host, url_.port);
  auto socket = co_await edge::connect_any(io_, endpoints_, deadline);
  if (!socket) co_return failed(unconnected(whom, socket.error().cause, socket.error().message));
  boost::system::error_code gone;
  const auto peer = socket->remote_endpoint(gone);
  auto text = gone ? whom : edge::to_text(peer);
  Json facts{{"address", text}};
  text += " answers";
  if (!proxy_) co_return passed(std::move(text), std::move(facts));
  facts["proxy"] = proxy_->shown();
  edge::Transport transport(std::move(*socket), edge::SslHandle(), edge::Options().write_stall);
  auto through = co_await edge::pass_proxy(transport, *proxy_, url_, deadline);
  if (!through) co_return failed(unconnected(whom, through.error().cause, through.error().message));
  co_return passed(text + ", and connects to " + place_of(url_.host, url_.port), std::move(facts));
}

asio::awaitable<void> Path::connect(Deadline deadline) {
  attempted_ = true;
  const auto began = Clock::now();
  edge::ClientRequest request;
  auto token = read_token(options_.server);
  // It could be read a moment ago; without it the server says what it thinks of that.
  if (token) request.bearer = std::move(*token);
  evidence_.token = read_claims(request.bearer.reveal());
  request.subprotocols.emplace_back(kProtocol);
  const auto to = target_until(deadline);
  auto socket = co_await edge::connect_websocket(io_, to, request, edge::Options(), &report_);
  attempt_took_ = Clock::now() - began;
  note_time(report_.server_date);
  if (socket) {
    socket_ = std::move(*socket);
    co_return;
  }
  auto failure = std::move(socket.error());
  evidence_.now = SystemClock::now();
  for (const auto* name : {"Via", "Server"})
    for (const auto& field : report_.answer_fields)
      if (tunnel::same_name(field.name, name)) evidence_.via = http::one_line(field.value, 80);
  const auto step = failure.step;
  if (step == edge::ConnectStep::tls && failure.cause == "certificate_time") co_await ask_time(deadline);
  if (step == edge::ConnectStep::tls && failure.cause == "tls_failed" && !proxy_)
    evidence_.first_words = co_await first_words(deadline);
  if (step == edge::ConnectStep::upgrade && failure.error_code.empty() && failure.cause != "timed_out") {
    const auto keys = co_await fetch("/.well-known/tunnel-keys", false, deadline);
    evidence_.tunneld_there = keys && keys->body.find("\"keys\"") != std::string::npos;
  }
  blame_ = blame(failure, evidence_);
}

void Path::note_time(std::optional<SystemClock::time_point> server_date) {
  if (!server_date) return;
  evidence_.server_ahead =
      std::chrono::duration_cast<std::chrono::seconds>(*server_date - SystemClock::now());
}

/// Of a server whose certificate is out of date, or looks so: what it says counts for nothing but a hint.
asio::awaitable<void> Path::ask_time(Deadline deadline) {
  auto to = target_until(deadline);
  to.tls.insecure = true;
  to.tls.certificate.reset();
  to.tls.key.reset();
  const edge::ClientRequest nobody{.subprotocols = {kProtocol}};
  edge::ConnectReport report;
  (void)co_await edge::connect_websocket(io_, to, nobody, edge::Options(), &report);
  note_time(report.server_date);
}

asio::awaitable<std::string> Path::first_words(Deadline deadline) {
  auto socket = co_await edge::connect_any(io_, endpoints_, deadline);
  if (!socket) co_return std::string();
  edge::Transport transport(std::move(*socket), edge::SslHandle(), edge::Options().write_stall);
  std::array<std::byte, 256> buffer;
  auto got = co_await transport.read(buffer, std::min(deadline, Clock::now() + kFirstWords));
  if (!got && got.error().kind == Error::Kind::timed_out) {
    constexpr std::string_view kRequest = "GET / HTTP/1.0\r\n\r\n";
    (void)co_await transport.write(std::as_bytes(std::span(kRequest)));
    got = co_await transport.read(buffer, std::min(deadline, Clock::now() + kFirstWords));
  }
  if (!got) co_return std::string();
  const std::string_view text(reinterpret_cast<const char*>(buffer.data()), *got);
  co_return http::one_line(text.substr(0, text.find('\n')), 80);
}

StepOutcome Path::certificate_seen() const {
  std::string text = report_.tls_version + ", certificate of " + report_.certificate_subject + " from " +
                     report_.certificate_issuer + ", until " + day_of(report_.certificate_ends);
  const bool verified = !options_.server.tls.insecure;
  if (!verified) text += ", not verified (--insecure)";
  const auto left =
      std::chrono::duration_cast<std::chrono::hours>(report_.certificate_ends - SystemClock::now());
  if (verified && left < 14 * 24h) text += ", which is in " + std::to_string(left.count() / 24) + " days";
  return passed(std::move(text), {{"version", report_.tls_version},
                                  {"subject", report_.certificate_subject},
                                  {"issuer", report_.certificate_issuer},
                                  {"notAfter", timestamp(report_.certificate_ends)},
                                  {"verified", verified}});
}

Path::Outcome Path::tls(Deadline deadline) {
  if (!url_.tls) co_return skipped("ws:// has no TLS");
  co_await connect(deadline);
  const bool here = blame_ && (blame_->step == "tls" || blame_->step == "tcp");
  auto outcome = here ? failed(blame_->finding) : certificate_seen();
  if (!here) outcome.took = in_ms(report_.tls);
  if (here && !report_.certificate_subject.empty())
    outcome.facts = {{"subject", report_.certificate_subject},
                     {"issuer", report_.certificate_issuer},
                     {"notAfter", timestamp(report_.certificate_ends)}};
  co_return outcome;
}

Path::Outcome Path::upgrade(Deadline deadline) {
  if (!attempted_) co_await connect(deadline);
  if (blame_ && (blame_->step == "upgrade" || blame_->step == "tcp")) {
    auto outcome = failed(blame_->finding);
    if (url_.tls) outcome.took = in_ms(attempt_took_ - report_.dns - report_.tcp - report_.tls);
    co_return outcome;
  }
  auto outcome = passed(socket_ ? "a tunneld switched to WebSocket" : "a tunneld answers");
  outcome.took = in_ms(report_.upgrade);
  co_return outcome;
}

// The session ---------------------------------------------------------------------------------------

std::optional<Path::Page> Path::page(std::string path, bool with_token, Deadline deadline) const {
  const auto& server = options_.server;
  auto options = http_options(server);
  options.deadline = options.total = std::clamp(in_ms(deadline - Clock::now()), 1ms, milliseconds(5'000));
  options.max_body_bytes = 64 * 1024;
  options.retry.attempts = 1;
  options.proxies = proxies_;
  const auto client = http::Client::make(std::move(options));
  if (!client) return std::nullopt;
  http::Request request{.url = http_url(server.url) + path};
  if (with_token) {
    const auto token = read_token(server);
    if (token) request.headers.push_back({"Authorization", "Bearer " + std::string(token->reveal())});
  }
  const auto answer = client->send(request, stop_);
  if (!answer || answer->status != 200) return std::nullopt;
  const auto* date = answer->header("Date");
  return Page{answer->body, date == nullptr ? std::nullopt : parse_date(*date)};
}

asio::awaitable<std::optional<Path::Page>> Path::fetch(std::string path, bool with_token, Deadline deadline) {
  struct Call {
    static asio::awaitable<std::optional<Page>> page(const Path* self, std::string path, bool with_token,
                                                     Deadline deadline) {
      co_return self->page(std::move(path), with_token, deadline);
    }
  };
  auto call = Call::page(this, std::move(path), with_token, deadline);
  co_return co_await asio::co_spawn(threads_, std::move(call), asio::use_awaitable);
}

StepOutcome Path::me_seen(const std::string& body) const {
  const auto& claims = evidence_.token;
  Json facts{{"issuer", claims.issuer}, {"audience", claims.audience}, {"subject", claims.subject}};
  if (claims.expires) facts["expires"] = timestamp(*claims.expires);
  std::string text = "accepted";
  const auto me = parse_strict_json(body, 64 * 1024, 16);
  if (!me || !me->is_object()) return passed(std::move(text), std::move(facts));
  text += ": " + text_in(*me, "subject") + ", tier " + text_in(*me, "tier") + ", until " +
          text_in(*me, "tokenExpires");
  facts["tier"] = text_in(*me, "tier");
  Json services = Json::array();
  std::string shown;
  if (const auto agents = me->find("agents"); agents != me->end() && agents->is_array())
    for (const auto& agent : *agents) {
      const auto offered = agent.is_object() ? agent.find("services") : agent.end();
      if (!agent.is_object() || offered == agent.end() || !offered->is_array()) continue;
      for (const auto& one : *offered) {
        if (!one.is_string()) continue;
        const auto name = http::one_line(one.get_ref<const std::string&>(), 63);
        services.push_back(name);
        shown.append(shown.empty() ? "; own agents serve " : ", ").append(name);
      }
    }
  facts["agentServices"] = std::move(services);
  return passed(text + shown, std::move(facts));
}

Path::Outcome Path::token(Deadline deadline) {
  if (blame_ && blame_->step == "token") co_return failed(blame_->finding);
  const auto me = co_await fetch("/api/tunnel/me", true, deadline);
  // A 101 has no Date.
  if (me) note_time(me->date);
  co_return me_seen(me ? me->body : std::string());
}

Finding Path::session_failed(const std::string& why) const {
  const auto& end = line_ ? line_->end : nullptr;
  if (end && end->code && *end->code != 1006) {
    const auto verdict = after_close(*end->code);
    return {verdict.reason, verdict.error.message, "tunneld's log says why it ended the session"};
  }
  return {"session_failed", "the WebSocket is open, and no session begins on it: " + why,
          "check that tunneld and tunnelctl are of versions that fit, and what on the way changes messages"};
}

asio::awaitable<Result<std::string>> Path::hear_hello() {
  std::string text;
  std::array<std::byte, 4096> buffer;
  while (text.find('\n') == std::string::npos) {
    if (text.size() > kMaxHello)
      co_return fail(Error::Kind::bad_input, "the server's first message has no end");
    const auto got = co_await control_->read(buffer);
    if (!got) co_return tl::unexpected(got.error());
    if (*got == 0) co_return fail(Error::Kind::unavailable, "the server ended the session before its hello");
    text.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
  text.resize(text.find('\n'));
  co_return text;
}

Path::Outcome Path::session(Deadline deadline) {
  if (blame_) co_return failed(blame_->finding);
  auto end = std::make_shared<CarrierEnd>();
  auto carrier = std::make_unique<Carrier>(io_.get_executor(), std::move(socket_), end);
  links::LinkOptions options;
  options.handshake_timeout = std::max(in_ms(deadline - Clock::now()), 1ms);
  auto link = co_await links::Link::connect(io_.get_executor(), std::move(carrier), options);
  if (!link) co_return failed(session_failed(link.error().message));
  line_ = std::make_shared<Line>(io_, std::move(*link), std::move(end));
  asio::co_spawn(io_, Line::carry(line_), [](const std::exception_ptr&) {});
  auto control = line_->mux.open();
  if (!control) co_return failed(session_failed(control.error().message));
  control_ = std::move(*control);
  const auto line = co_await hear_hello();
  if (!line) co_return failed(session_failed(line.error().message));
  const auto hello = parse_strict_json(*line, kMaxHello, 8);
  if (!hello || !hello->is_object() || text_in(*hello, "type") != "hello")
    co_return failed(session_failed("the server's first message is no hello"));
  co_return passed("link " + links::to_hex(line_->link->id()) + " of instance " +
                       text_in(*hello, "instanceId") + ", resumable for " +
                       std::to_string(line_->link->window().count() / 1000) + " s",
                   {{"sessionId", links::to_hex(line_->link->id())},
                    {"instanceId", text_in(*hello, "instanceId")},
                    {"resumeWindowMs", line_->link->window().count()}});
}

Path::Outcome Path::service(Deadline) {
  if (options_.service.empty()) co_return skipped("no --service was named");
  auto opened = line_->mux.open();
  if (!opened) co_return failed(session_failed(opened.error().message));
  stream_ = std::move(*opened);
  const auto line = opening_line(options_.service, tunnel::Priority::normal);
  const auto sent = co_await stream_->write(std::as_bytes(std::span(line)));
  if (!sent) co_return failed(session_failed(sent.error().message));
  OpeningAnswer answer;
  // One byte at a time: what follows the line is the service's.
  std::array<std::byte, 1> one;
  while (!answer.complete()) {
    const auto got = co_await stream_->read(one);
    if (!got) co_return failed(session_failed(got.error().message));
    if (*got == 0) answer.end();
    if (*got > 0) answer.feed({reinterpret_cast<const char*>(one.data()), 1});
  }
  if (const auto said = answer.result(); !said) co_return failed(unopened(options_.service, said.error()));
  co_return passed("tunneld reaches " + options_.service + ": SSH, its login and the forward work");
}

// Measurements --------------------------------------------------------------------------------------

asio::awaitable<Result<void>> Path::send_all(std::shared_ptr<std::vector<std::byte>> bytes) {
  co_return co_await stream_->write(*bytes);
}

asio::awaitable<Result<Digest>> Path::receive(std::size_t bytes) {
  std::vector<std::byte> all(bytes);
  std::size_t have = 0;
  while (have < bytes) {
    const auto got = co_await stream_->read(std::span(all).subspan(have));
    if (!got) co_return tl::unexpected(got.error());
    if (*got == 0)
      co_return fail(Error::Kind::unavailable, "it ended after " + std::to_string(have) + " bytes");
    have += *got;
    counted_ = have;
  }
  co_return sha256(all);
}

asio::awaitable<StepOutcome> Path::there_and_back() {
  const auto bytes = std::make_shared<std::vector<std::byte>>(kDataBytes);
  RAND_bytes(reinterpret_cast<unsigned char*>(bytes->data()), static_cast<int>(bytes->size()));
  const auto began = Clock::now();
  const auto both = co_await (send_all(bytes) && receive(bytes->size()));
  const auto& [sent, received] = both;
  if (!received || !sent)
    co_return failed(no_echo(received ? sent.error().message : received.error().message));
  if (*received != sha256(*bytes))
    co_return failed({"data_changed",
                      "1 MiB came back changed, by its SHA-256: " + options_.service +
                          " is no echo, or bytes are lost on the way",
                      "name a service that sends back what it gets; if it does, report this"});
  const std::chrono::duration<double> took = Clock::now() - began;
  co_return passed(
      "1 MiB there and back, SHA-256 equal",
      {{"bytes", kDataBytes}, {"bytesPerSecond", static_cast<double>(kDataBytes) / took.count()}});
}

Finding Path::no_echo(const std::string& why) const {
  return {"no_echo", options_.service + " does not send back what it gets: " + why,
          "leave --echo away, or name a service that sends back what it gets"};
}

Path::Outcome Path::data(Deadline deadline) {
  if (!options_.echo) co_return skipped("needs a --service that sends back what it gets, and --echo");
  counted_ = 0;
  auto first = co_await (there_and_back() || pause(io_, deadline - Clock::now()));
  if (first.index() == 0) co_return std::get<0>(std::move(first));
  if (counted_ == 0) co_return failed(no_echo("nothing came back"));
  co_return failed(
      {"timed_out",
       "of 1 MiB only " + std::to_string(counted_ / 1024) + " KiB came back in time: the way is slow",
       "look at the network between here and tunneld, and between tunneld and the service"});
}

Path::Outcome Path::latency(Deadline deadline) {
  struct Pings {
    std::array<Clock::time_point, kPings> sent{};
    std::vector<std::optional<Clock::duration>> round_trips{};
    std::size_t answered = 0;
  };
  const auto pings = std::make_shared<Pings>();
  line_->pings.on_pong([pings](std::uint32_t value) {
    const auto number = value - kFirstPing;
    if (number >= pings->round_trips.size() || pings->round_trips[number]) return;
    pings->round_trips[number] = Clock::now() - pings->sent[number];
    ++pings->answered;
  });
  while (pings->round_trips.size() < kPings && !line_->over && Clock::now() < deadline) {
    const auto number = pings->round_trips.size();
    pings->sent[number] = Clock::now();
    if (line_->pings.ping(kFirstPing + static_cast<std::uint32_t>(number))) pings->round_trips.emplace_back();
    co_await pause(io_, kBetweenPings);
  }
  while (pings->answered < pings->round_trips.size() && !line_->over && Clock::now() < deadline)
    co_await pause(io_, kLook);
  line_->pings.on_pong({});
  if (line_->over) co_return failed(session_failed("it ended while it was measured"));
  latency_ = latency_of(pings->round_trips);
  if (pings->answered == 0)
    co_return failed({"timed_out", "no ping was answered",
                      "check the network: connections stand, and nothing comes through"});
  const auto& seen = *latency_;
  const auto ms = [](double value) {
    auto text = std::to_string(value);
    return text.substr(0, text.find('.') + 2) + " ms";
  };
  co_return passed("p50 " + ms(seen.p50_ms) + ", p95 " + ms(seen.p95_ms) + ", jitter " + ms(seen.jitter_ms) +
                       " of " + std::to_string(seen.pings) + " pings" +
                       (seen.missed > 0 ? ", " + std::to_string(seen.missed) + " without an answer" : ""),
                   {{"p50Ms", seen.p50_ms},
                    {"p95Ms", seen.p95_ms},
                    {"jitterMs", seen.jitter_ms},
                    {"pings", seen.pings},
                    {"missedPongRatio", seen.missed_ratio()}});
}

asio::awaitable<Error> Path::pump() {
  const std::vector<std::byte> piece(kPieceBytes);
  for (;;) {
    const auto sent = co_await stream_->write(piece);
    if (!sent) co_return sent.error();
  }
}

asio::awaitable<Error> Path::count() {
  std::vector<std::byte> buffer(kPieceBytes);
  for (;;) {
    const auto got = co_await stream_->read(buffer);
    if (!got) co_return got.error();
    if (*got == 0) co_return Error{Error::Kind::unavailable, "the service ended the stream"};
    counted_ += *got;
  }
}

Path::Outcome Path::throughput(Deadline deadline) {
  if (!options_.echo) co_return skipped("needs a --service that sends back what it gets, and --echo");
  const auto began = Clock::now();
  counted_ = 0;
  const auto time = std::min<Clock::duration>(options_.throughput_time, deadline - began);
  auto first = co_await (pump() || count() || pause(io_, time));
  const std::chrono::duration<double> took = Clock::now() - began;
  stream_->close();
  if (first.index() != 2) {
    const auto& error = first.index() == 0 ? std::get<0>(first) : std::get<1>(first);
    co_return failed({"service_broke", "the stream to " + options_.service + " broke: " + error.message,
                      "see the log of the service and of tunneld"});
  }
  throughput_bytes_ = static_cast<double>(counted_) / took.count();
  const auto mib = std::to_string(*throughput_bytes_ / (1024 * 1024));
  co_return passed(mib.substr(0, mib.find('.') + 2) + " MiB/s there, and as much back",
                   {{"bytesPerSecond", *throughput_bytes_}, {"bytes", counted_}});
}

Quality Path::quality_now() const {
  Quality quality;
  quality.latency = *latency_;
  if (const auto counts = tcp_counts(report_.socket); counts && !line_->over)
    quality.retransmit_ratio = counts->retransmit_ratio();
  quality.throughput_bytes = throughput_bytes_;
  quality.word = quality_word(quality.latency.p50_ms, quality.retransmit_ratio.value_or(0));
  return quality;
}

asio::awaitable<void> Path::goodbye() {
  if (!line_) co_return;
  stream_.reset();
  control_.reset();
  line_->end->in_good_order = true;
  line_->link->close();
  line_->mux.close();
  const auto give_up = Clock::now() + kGoodbye;
  while ((!line_->end->closed || !line_->over) && Clock::now() < give_up) co_await pause(io_, kLook);
}

asio::awaitable<Diagnosis> walk_with(std::unique_ptr<Path> path) {
  // A step that is cancelled says so.
  co_await asio::this_coro::throw_if_cancelled(false);
  co_return co_await path->walk();
}

}  // namespace

asio::awaitable<Diagnosis> diagnose(asio::io_context& io, DiagnosisOptions options, std::stop_token stop) {
  return walk_with(std::make_unique<Path>(io, std::move(options), std::move(stop)));
}

}  // namespace tunnelctl::client
