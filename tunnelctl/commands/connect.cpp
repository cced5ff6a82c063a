#include <unistd.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <ostream>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/http_url.h"
#include "common/log_format.h"
#include "common/sd_notify.h"
#include "tunnel/wakeup.h"
#include "tunnelctl/client/client_state_report.h"
#include "tunnelctl/client/http_listener.h"
#include "tunnelctl/client/kept_requests.h"
#include "tunnelctl/client/listeners.h"
#include "tunnelctl/client/local_streams.h"
#include "tunnelctl/client/tunnel.h"
#include "tunnelctl/client/two_way.h"
#include "tunnelctl/commands/config_values.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

namespace asio = boost::asio;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// What is under way when the person says stop has that long to finish.
constexpr auto kFlush = 10s;
/// For the answers to requests that are left then, and for the disk where some are kept.
constexpr auto kRefuse = 1s, kKeep = 10s;

struct Connect {
  std::string server{};
  std::vector<std::string> forwards{};
  std::vector<std::string> http{};
  std::string stdio{};
  bool persist = false;
  std::vector<std::string> persist_omit{};
  std::filesystem::path state_dir{};
  bool no_reconnect = false;
  std::shared_ptr<client::Values> client = std::make_shared<client::Values>();
};

using Connecting = tl::expected<std::unique_ptr<tunnel::WebSocketStream>, edge::ConnectFailure>;

/// Tells a person on stderr, and a program on stdout.
class Display final : public client::TunnelListener {
 public:
  Display(Session& session, bool stdio, logging::Level level)
      : session_(session), quiet_(stdio), level_(level) {}

  bool tells(logging::Level level) const { return level <= level_; }
  void debug(std::string_view message, logging::Fields fields) {
    std::string line;
    logging::render_text(line,
                         {.time = std::chrono::system_clock::now(),
                          .level = logging::Level::debug,
                          .component = "tunnel",
                          .message = message,
                          .instance_id = {},
                          .fields = fields},
                         false);
    say(logging::Level::debug, line);
  }

  void listening(const std::vector<client::Forward>& forwards) {
    forwards_.insert(forwards_.end(), forwards.begin(), forwards.end());
  }
  void on_change(std::function<void()> listener) { on_change_ = std::move(listener); }
  /// Told the same; outlives what is told here.
  void report_to(client::ClientReport& report) { report_ = &report; }

  void on_state(const client::StateChange& change) override {
    if (on_change_) on_change_();
    if (report_ != nullptr) report_->on_state(change);
    if (session_.json()) return print(change);
    const bool again = std::exchange(connected_once_, connected_once_ || is_connected(change));
    // Of a ProxyCommand nobody wants to hear as long as all goes well.
    if (quiet_ && (!again || change.state == client::State::disconnected)) return;
    switch (change.state) {
      case client::State::connecting: return;
      case client::State::connected: return say(logging::Level::info, connected_text(change));
      case client::State::reconnecting: return say(logging::Level::warn, "reconnecting: " + change.why);
      case client::State::disconnected: return say(logging::Level::info, "disconnected");
      case client::State::error: return;  // said with the exit status
    }
  }
  void on_attempt(const client::Attempt& attempt) override {
    if (report_ != nullptr) report_->on_attempt(attempt);
    const bool fine = attempt.outcome == "connected" || attempt.outcome == "resumed";
    if (quiet_ && fine && !connected_once_) return;
    say(logging::Level::info, client::to_line(attempt));
  }
  void on_notice(std::string_view line) override {
    if (report_ != nullptr) report_->on_notice(line);
    say(logging::Level::warn, line);
  }
  void on_failed(std::string_view line) { session_.err << "tunnelctl: " << terminal::harmless(line) << '\n'; }

  void stopping(std::size_t streams, std::chrono::seconds left) {
    stopping(std::to_string(streams) + (streams == 1 ? " stream" : " streams") + " left", left);
  }
  void stopping_http(std::size_t requests, std::size_t waiting, std::chrono::seconds left) {
    auto text = std::to_string(requests) + (requests == 1 ? " request" : " requests") + " left";
    if (waiting > 0) text += ", " + std::to_string(waiting) + " of them waiting for the connection";
    stopping(text, left);
  }

 private:
  void say(logging::Level level, std::string_view line) {
    if (tells(level)) session_.say(line);
  }

  static bool is_connected(const client::StateChange& change) {
    return change.state == client::State::connected;
  }

  std::string connected_text(const client::StateChange& change) const {
    if (change.resumed)
      return "connected again to " + change.why + "; " + std::to_string(change.streams) +
             (change.streams == 1 ? " stream goes on" : " streams go on");
    std::string text = "connected to " + change.why;
    for (const auto& forward : forwards_) text += "; " + client::to_text(forward);
    return text;
  }

  void print(const client::StateChange& change) {
    Json ports = Json::array();
    for (const auto& forward : forwards_) {
      const auto text = client::to_text(forward);
      ports.push_back({{"address", text.substr(0, text.find(' '))}, {"service", forward.service}});
    }
    const Json json{{"time", client::timestamp(change.at)},
                    {"state", client::to_string(change.state)},
                    {"why", change.why},
                    {"sessionId", change.session_id},
                    {"resumed", change.resumed},
                    {"streams", change.streams},
                    {"listening", ports}};
    session_.out << json.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }

  void stopping(const std::string& what, std::chrono::seconds left) {
    const auto text = "stopping: " + what + ", " + std::to_string(left.count()) + " s";
    session_.err_is_terminal ? session_.progress(text) : say(logging::Level::info, text);
  }

  Session& session_;
  const bool quiet_;
  const logging::Level level_;
  bool connected_once_ = false;
  std::vector<client::Forward> forwards_{};
  std::function<void()> on_change_{};
  client::ClientReport* report_ = nullptr;
};

std::int64_t milliseconds_of(std::chrono::steady_clock::duration time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

/// Connects, and tells what happened on the way.
asio::awaitable<Connecting> connect_and_tell(asio::io_context& io, edge::ClientTarget target,
                                             edge::ClientRequest request, const edge::Options& options,
                                             edge::ConnectReport& report, Display& display) {
  display.debug("connecting", {{"endpoint", http::shown_url(target.url)}});
  auto connected = co_await edge::connect_websocket(io, target, request, options, &report);
  const bool compression = std::any_of(
      report.answer_fields.begin(), report.answer_fields.end(),
      [](const auto& field) { return tunnel::same_name(field.name, "Sec-WebSocket-Extensions"); });
  display.debug(connected ? "websocket opened" : "websocket failed",
                {{"address", report.address},
                 {"proxy", report.proxy},
                 {"tls", report.tls_version},
                 {"dns_ms", milliseconds_of(report.dns)},
                 {"tcp_ms", milliseconds_of(report.tcp)},
                 {"tls_ms", milliseconds_of(report.tls)},
                 {"upgrade_ms", milliseconds_of(report.upgrade)},
                 {"compression", compression}});
  co_return connected;
}

/// How the program ends, and what is said then.
using Ended = Result<ExitStatus>;

/// The command while it runs.
class Connected {
 public:
  Connected(asio::io_context& io, Session& session, client::ServerSettings server,
            const client::TunnelOptions& options, client::HttpOptions http, bool stdio,
            const client::Resolved& settings)
      : io_(io),
        session_(session),
        display_(session, stdio, settings.settings.log_level),
        websocket_(options.websocket),
        tunnel_(io, std::move(server), options, display_, connect()),
        listeners_(io, tunnel_),
        http_(io, client::streams_of(tunnel_), http,
              [this](std::string_view line) { display_.on_notice(line); }),
        persists_(http.keep_in != nullptr) {
    display_.on_change([this] { http_.tunnel_changed(); });
    if (!display_.tells(logging::Level::debug)) return;
    const auto value = [&settings](std::string_view key) -> const std::string& {
      return settings.value(key).text;
    };
    display_.debug("settings", {{"profile", value("profile")},
                                {"retry", value("retry")},
                                {"base_delay", value("base_delay")},
                                {"request_timeout", value("request_timeout")},
                                {"queue", value("queue")},
                                {"compression", value("compression")}});
  }

  tl::expected<void, client::Listeners::Failure> bind(const std::vector<client::Forward>& forwards,
                                                      const std::vector<client::Forward>& http) {
    auto bound = listeners_.bind(forwards);
    if (bound) bound = http_.bind(http);
    if (!bound) return bound;
    display_.listening(listeners_.forwards());
    display_.listening(http_.forwards());
    return bound;
  }

  /// Says from here on how it does, in its state file and to systemd.
  void report(client::ClientReport::Parts parts, std::optional<std::size_t> queue) {
    for (const auto* forwards : {&listeners_.forwards(), &http_.forwards()})
      for (const auto& forward : *forwards) parts.state.serves.push_back(client::to_text(forward));
    parts.figures = [this, queue] { return figures(queue); };
    report_.emplace(io_, std::move(parts));
    display_.report_to(*report_);
    // Of a ProxyCommand nobody wants to hear.
    if (const auto started = report_->start(); !started)
      display_.debug("no state for tunnelctl status", {{"why", started.error().message}});
  }

  /// Until the person stops it, the tunnel gives up or, with a service, that one ends.
  asio::awaitable<Ended> run(std::string stdio_service) {
    listeners_.start([this](std::string_view line) { display_.on_failed(line); });
    http_.restore();
    auto first = co_await (keep_connected() || stop_in_order() || serve_stdio(std::move(stdio_service)));
    listeners_.stop_accepting();
    listeners_.abort();
    co_await refuse_requests();
    http_.abort();
    const auto give_up = Clock::now() + 1s;
    while (listeners_.active() + http_.active() + http_.connections() > 0 && Clock::now() < give_up)
      co_await pause(10ms);
    if (first.index() == 0) co_return after_run(std::get<0>(first));
    co_return first.index() == 1 ? Ended(std::get<1>(first)) : std::get<2>(std::move(first));
  }

  /// From the event loop.
  void stop() {
    stopping_ = true;
    if (report_) report_->stopping("stopping");
    stop_wanted_.notify();
  }

 private:
  /// The default, unless somebody wants to know what happens.
  client::Connect connect() {
    if (!display_.tells(logging::Level::debug)) return {};
    return [this](edge::ClientTarget target, edge::ClientRequest request, edge::ConnectReport& report) {
      return connect_and_tell(io_, std::move(target), std::move(request), websocket_, report, display_);
    };
  }

  client::ClientFigures figures(std::optional<std::size_t> queue) {
    pings_.look(tunnel_.vitals());
    const auto traffic = tunnel_.traffic();
    client::ClientFigures now{
        .streams = tunnel_.streams(), .queued = http_.waiting(), .queue_capacity = queue};
    now.bytes_in = traffic.bytes_in;
    now.bytes_out = traffic.bytes_out;
    now.quality = pings_.quality();
    return now;
  }

  asio::awaitable<void> pause(std::chrono::milliseconds time) {
    asio::steady_timer timer(io_, time);
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }

  /// Those that are left get their answers, which takes a moment.
  asio::awaitable<void> refuse_requests() {
    http_.stop_accepting();
    http_.refuse_rest();
    const auto give_up = Clock::now() + (persists_ ? kKeep : kRefuse);
    while (http_.active() > 0 && Clock::now() < give_up) co_await pause(10ms);
    const auto kept = http_.kept() - std::exchange(told_kept_, http_.kept());
    if (kept > 0)
      session_.say(std::to_string(kept) + (kept == 1 ? " request is" : " requests are") +
                   " kept, to be sent when tunnelctl connect --persist runs again within 5 minutes");
  }

  Ended after_run(const Result<void>& ended) const {
    if (ended || stopping_) return ExitStatus::ok;
    return tl::unexpected(ended.error());
  }

  /// An exception must not look like a branch that still runs.
  asio::awaitable<Result<void>> keep_connected() {
    std::string what;
    try {
      co_return co_await tunnel_.run();
    } catch (const std::exception& error) {
      what = error.what();
    }
    co_return fail(Error::Kind::bug, "a bug: " + what);
  }

  /// Nothing new; what is under way may finish; then the end.
  asio::awaitable<ExitStatus> stop_in_order() {
    while (!stopping_)
      if (!co_await stop_wanted_.wait()) break;
    listeners_.stop_accepting();
    http_.stop_accepting();
    const auto deadline = Clock::now() + kFlush;
    auto shown = -1s;
    while (tunnel_.streams() + http_.active() > 0 && Clock::now() < deadline) {
      const auto left = std::chrono::ceil<std::chrono::seconds>(deadline - Clock::now());
      if (left != std::exchange(shown, left)) show_stopping(left);
      co_await pause(20ms);
    }
    session_.progress("");
    const bool cut = tunnel_.streams() + http_.active() > 0;
    if (tunnel_.streams() > 0)
      session_.say(std::to_string(tunnel_.streams()) + " streams were still open and are cut off");
    if (http_.waiting() > 0)
      session_.say(std::to_string(http_.waiting()) + " requests still waited and are answered with 503");
    co_await refuse_requests();
    listeners_.abort();
    co_await tunnel_.close(deadline);
    co_return cut ? ExitStatus::interrupted : ExitStatus::ok;
  }

  void show_stopping(std::chrono::seconds left) {
    if (http_.active() > 0)
      display_.stopping_http(http_.active(), http_.waiting(), left);
    else
      display_.stopping(tunnel_.streams(), left);
  }

  /// Standard input and output as one stream. Never returns without a service.
  asio::awaitable<Ended> serve_stdio(std::string service) {
    tunnel::Wakeup never;
    if (service.empty()) (void)co_await never.wait();
    auto ended = co_await carry_stdio(std::move(service));
    // The tunnel says itself why it is over.
    if (tunnel_.state() == client::State::error) (void)co_await never.wait();
    co_await tunnel_.close(Clock::now() + kFlush);
    co_return ended;
  }

  asio::awaitable<Ended> carry_stdio(std::string service) {
    auto stream =
        co_await tunnel_.open(std::move(service), tunnel::Priority::normal, Clock::time_point::max());
    if (!stream) co_return refused(stream.error());
    client::DescriptorStream local(io_, STDIN_FILENO, STDOUT_FILENO);
    const auto end = co_await client::copy_both_ways(local, **stream, client::Until::service_ended);
    if ((*stream)->refusal()) co_return refused(*(*stream)->refusal());
    if (end.clean) co_return ExitStatus::ok;
    const std::string what =
        end.service_broke ? "the connection to the service broke: " : "standard input or output: ";
    co_return fail(end.service_broke ? Error::Kind::unavailable : Error::Kind::not_found,
                   what + end.error.message);
  }

  static Ended refused(const tunnel::Refusal& refusal) {
    const auto category = tunnel::facts(refusal.code).category;
    return fail(category == "authentication" ? Error::Kind::denied : Error::Kind::unavailable,
                client::told(refusal));
  }

  asio::io_context& io_;
  Session& session_;
  Display display_;
  const edge::Options websocket_;
  client::Tunnel tunnel_;
  client::Listeners listeners_;
  client::HttpListeners http_;
  client::PingHistory pings_{};
  std::optional<client::ClientReport> report_{};
  const bool persists_;
  std::size_t told_kept_ = 0;
  bool stopping_ = false;
  tunnel::Wakeup stop_wanted_;
};

/// But for what it listens on.
client::ClientReport::Parts report_parts(const Connect& options, const Session& session,
                                         const client::ServerSettings& server) {
  client::ClientReport::Parts parts;
  parts.state.kind = "connect";
  parts.state.server = http::shown_url(server.url);
  const auto* folder = session.variable("XDG_RUNTIME_DIR");
  parts.folder = client::client_state_folder(folder == nullptr ? "" : *folder);
  if (!options.stdio.empty()) parts.state.serves.push_back("standard input and output -> " + options.stdio);
  // A ProxyCommand is not the service that it was started from.
  if (options.stdio.empty()) parts.manager = systemd::ServiceManager::from_environment();
  return parts;
}

client::TunnelOptions tunnel_options(const Connect& options, const client::ClientSettings& settings) {
  client::TunnelOptions result;
  result.reconnect = !options.no_reconnect;
  result.backoff = client::backoff_of(settings);
  result.websocket.compression = settings.compression;
  result.websocket.ping_after = client::kPingAfter;
  return result;
}

tl::expected<std::unique_ptr<client::KeptRequests>, client::KeptRequests::Failure> kept_requests(
    const Connect& options, Session& session, const std::string& server) {
  const auto folder_in = [&session](std::string_view name) {
    const auto* found = session.variable(name);
    return found == nullptr ? std::filesystem::path() : std::filesystem::path(*found);
  };
  auto folder =
      client::kept_folder(options.state_dir, folder_in("XDG_STATE_HOME"), folder_in("HOME"), server);
  if (!folder) return tl::unexpected(client::KeptRequests::Failure{false, folder.error().message});
  client::KeptRequests::Options kept;
  kept.folder = std::move(*folder);
  kept.server = server;
  return client::KeptRequests::open(std::move(kept),
                                    [&session](std::string_view line) { session.warn(line); });
}

Result<ExitStatus> run(const Connect& options, Session& session) {
  const bool no_ports = options.forwards.empty() && options.http.empty();
  if (no_ports == options.stdio.empty())
    return refuse(session, ExitStatus::usage,
                  options.stdio.empty()
                      ? "say -L or --http [address:]port:service for each service, or --stdio SERVICE"
                      : "-L and --http exclude --stdio");
  if (options.persist && options.http.empty())
    return refuse(session, ExitStatus::usage, "--persist keeps requests of --http; name one");
  if (!options.persist && (!options.persist_omit.empty() || !options.state_dir.empty()))
    return refuse(session, ExitStatus::usage, "--persist-omit and --state-dir are of use with --persist");
  if (!options.stdio.empty() && session.json())
    return refuse(session, ExitStatus::usage,
                  "--stdio needs standard output for the service: --output json cannot");
  if (!options.stdio.empty() && !client::is_service_name(options.stdio))
    return refuse(
        session, ExitStatus::usage,
        "--stdio " + options.stdio + ": that is no name of a service; they are made of a-z, 0-9 and -");
  std::vector<client::Forward> forwards;
  for (const auto& text : options.forwards) {
    auto forward = client::parse_forward(text);
    if (!forward) return refuse(session, ExitStatus::usage, forward.error().message);
    if (!forward->local.address().is_loopback())
      session.warn("-L " + text + ": whoever reaches this machine there uses the service as you");
    forwards.push_back(std::move(*forward));
  }
  std::vector<client::Forward> http;
  for (const auto& text : options.http) {
    auto forward = client::parse_http_forward(text);
    if (!forward) return refuse(session, ExitStatus::usage, forward.error().message);
    if (!forward->local.address().is_loopback())
      session.warn("--http " + text + ": whoever reaches this machine there uses the service as you");
    http.push_back(std::move(*forward));
  }
  const auto settings = client_settings(session, *options.client);
  if (!settings) return tl::unexpected(settings.error());
  client::HttpOptions http_options;
  http_options.queue = settings->settings.queue;
  http_options.request_timeout = settings->settings.request_timeout;
  auto server = session.server(options.server);
  if (!server) return tl::unexpected(server.error());
  std::unique_ptr<client::KeptRequests> kept;
  if (options.persist) {
    auto opened = kept_requests(options, session, server->url);
    if (!opened)
      return refuse(session, opened.error().in_use ? ExitStatus::conflict : ExitStatus::config,
                    opened.error().message);
    kept = std::move(*opened);
    http_options.keep_in = kept.get();
    http_options.keep_without = options.persist_omit;
  }

  auto parts = report_parts(options, session, *server);
  asio::io_context io{1};
  Connected connected(io, session, std::move(*server), tunnel_options(options, settings->settings),
                      http_options, !options.stdio.empty(), *settings);
  if (const auto bound = connected.bind(forwards, http); !bound)
    return refuse(session, bound.error().in_use ? ExitStatus::conflict : ExitStatus::failure,
                  bound.error().message);
  connected.report(std::move(parts), http.empty() ? std::nullopt : std::optional(http_options.queue));
  const std::stop_callback on_stop(session.stop, [&] { asio::post(io, [&] { connected.stop(); }); });
  Ended ended = fail(Error::Kind::bug, "the connection's story has no end");
  std::exception_ptr failure;
  asio::co_spawn(io, connected.run(options.stdio), [&](std::exception_ptr error, Ended value) {
    failure = error;
    if (!error) ended = std::move(value);
    io.stop();
  });
  io.run();
  if (failure) std::rethrow_exception(failure);
  return ended;
}

}  // namespace

void add_connect(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Connect>();
  auto& verb = add_verb(app, chosen, "connect",
                        "Brings services behind tunneld to ports of this machine, over one connection",
                        "  tunnelctl connect --server wss://tunnel.example.org -L 5432:db -L 8022:ssh\n"
                        "  tunnelctl connect -L 8080:web --retry forever --output json\n"
                        "  tunnelctl connect --http 8080:web --queue 200\n"
                        "  tunnelctl connect --http 8080:web --persist --persist-omit X-Session\n"
                        "  tunnelctl connect -L 8022:ssh --profile unstable\n"
                        "  ssh -o ProxyCommand='tunnelctl connect --stdio ssh' me@far",
                        options);
  verb.add_option("--server", options->server, "tunneld's address, wss://host[:port] (TUNNEL_SERVER)")
      ->type_name("URL");
  verb.add_option("-L,--listen", options->forwards,
                  "a port of this machine, on 127.0.0.1 unless an address is named; may be given again")
      ->type_name("[ADDRESS:]PORT:SERVICE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb.add_option("--http", options->http,
                  "the same for HTTP: requests wait while there is no connection; may be given again")
      ->type_name("[ADDRESS:]PORT:SERVICE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb.add_option("--stdio", options->stdio,
                  "one service on standard input and output, as ProxyCommand wants it")
      ->type_name("SERVICE");
  add_client_options(
      verb, options->client,
      {"profile", "retry", "base_delay", "request_timeout", "queue", "compression", "log_level"});
  verb.add_flag(
      "--persist", options->persist,
      "keep requests of --http that are left at the end, encrypted, and send them at the next start: "
      "of high priority, and such as may be sent twice");
  verb.add_option(
          "--persist-omit", options->persist_omit,
          "a field that is not kept, beyond Authorization, Cookie, Proxy-Authorization and X-Api-Key; "
          "may be given again")
      ->type_name("NAME")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb.add_option("--state-dir", options->state_dir,
                  "folder for kept requests; default ~/.local/state/tunnelctl/connect")
      ->type_name("FOLDER");
  verb.add_flag("--no-reconnect", options->no_reconnect, "one attempt, and the end with the connection");
}

}  // namespace tunnelctl
