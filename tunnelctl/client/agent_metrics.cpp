#include "tunnelctl/client/agent_metrics.h"

#include <cstdio>
#include <utility>

#include "common/http_url.h"
#include "edge/server.h"
#include "tunnel/silent_observer.h"

namespace tunnelctl::client {
namespace {

using Clock = std::chrono::steady_clock;

void add(std::string& text, const char* name, const char* type, const char* help,
         const std::string& samples) {
  text += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n" + samples;
}

std::string sample(const char* name, std::uint64_t value, const char* labels = "") {
  return std::string(name) + labels + " " + std::to_string(value) + "\n";
}

tunnel::ResponseHead head_of(unsigned status, const char* reason, std::size_t size) {
  tunnel::ResponseHead head;
  head.status = status;
  head.reason = reason;
  head.fields = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}, {"Cache-Control", "no-store"}};
  head.body = tunnel::SizedBody{size};
  return head;
}

struct Handler final : tunnel::HttpHandler {
  asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override {
    exchange.authenticated(tunnel::Tier::free);  // whoever is on this machine may ask
    const auto& request = exchange.request();
    const bool known = request.target == "/metrics" && (request.method == "GET" || request.method == "HEAD");
    const auto text =
        known ? metrics_text(counts(), Clock::now() - began) : std::string("only GET /metrics\n");
    const auto head = known ? head_of(200, "OK", text.size()) : head_of(404, "Not Found", text.size());
    Result<void> sent;
    if (request.method == "HEAD")
      sent = co_await exchange.send_head(head);
    else
      sent = co_await exchange.send_head_with(head, std::as_bytes(std::span(text)));
    const std::vector<tunnel::Header> no_trailers;
    if (sent) (void)co_await exchange.finish(no_trailers);
  }
  std::function<AgentCounts()> counts;
  Clock::time_point began = Clock::now();
};

}  // namespace

std::string metrics_text(const AgentCounts& counts, Clock::duration uptime) {
  std::string text;
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.3f", std::chrono::duration<double>(uptime).count());
  add(text, "tunnel_agent_uptime_seconds", "gauge", "Since the agent started.",
      std::string("tunnel_agent_uptime_seconds ") + seconds + "\n");
  add(text, "tunnel_agent_connected", "gauge", "1 while tunneld has the agent's services.",
      sample("tunnel_agent_connected", counts.connections_now > 0 ? 1 : 0));
  add(text, "tunnel_agent_connections", "gauge", "Control connections that stand now.",
      sample("tunnel_agent_connections", counts.connections_now));
  add(text, "tunnel_agent_attempts_total", "counter", "Attempts to reach tunneld.",
      sample("tunnel_agent_attempts_total", counts.attempts));
  add(text, "tunnel_agent_connections_total", "counter", "Attempts after which tunneld had the services.",
      sample("tunnel_agent_connections_total", counts.connections));
  add(text, "tunnel_agent_reconnects_total", "counter", "Connections that came back.",
      sample("tunnel_agent_reconnects_total", counts.reconnects));
  add(text, "tunnel_agent_sessions", "gauge", "SSH sessions that are served now.",
      sample("tunnel_agent_sessions", counts.sessions_now));
  add(text, "tunnel_agent_sessions_total", "counter", "SSH sessions that tunneld asked for.",
      sample("tunnel_agent_sessions_total", counts.sessions, "{result=\"opened\"}") +
          sample("tunnel_agent_sessions_total", counts.sessions_failed, "{result=\"failed\"}"));
  add(text, "tunnel_agent_session_resumes_total", "counter", "Sessions that went on over another connection.",
      sample("tunnel_agent_session_resumes_total", counts.resumes));
  add(text, "tunnel_agent_session_bytes_total", "counter", "Bytes between tunneld and sshd.",
      sample("tunnel_agent_session_bytes_total", counts.bytes_in, "{direction=\"in\"}") +
          sample("tunnel_agent_session_bytes_total", counts.bytes_out, "{direction=\"out\"}"));
  return text;
}

struct AgentMetrics::Impl {
  Handler handler;
  tunnel::SilentObserver observer;
  std::unique_ptr<edge::Server> server;
};

AgentMetrics::AgentMetrics(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AgentMetrics::~AgentMetrics() = default;

void AgentMetrics::stop() {
  impl_->server.reset();
}

unsigned short AgentMetrics::port() const {
  return impl_->server->local_endpoints().front().port();
}

Result<std::unique_ptr<AgentMetrics>> AgentMetrics::start(asio::io_context& io, const std::string& listen,
                                                          std::function<AgentCounts()> counts) {
  const auto colon = listen.rfind(':');
  auto host = listen.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || !http::is_loopback(host))
    return fail(Error::Kind::bad_input,
                "--metrics: they are for this machine only: name a loopback address and a port, as in "
                "127.0.0.1:9464");
  auto impl = std::make_unique<Impl>();
  impl->handler.counts = std::move(counts);
  edge::Options options;
  options.listen = {listen};
  options.max_connections = 32;
  edge::Server::Parts parts;
  parts.threads = {&io};
  parts.handler = [handler = &impl->handler](std::size_t) -> tunnel::HttpHandler& { return *handler; };
  parts.observer = &impl->observer;
  impl->server = std::make_unique<edge::Server>(std::move(options), std::move(parts));
  if (auto started = impl->server->start(); !started)
    return fail(Error::Kind::bad_input, "--metrics: " + started.error().message);
  return std::unique_ptr<AgentMetrics>(new AgentMetrics(std::move(impl)));
}

}  // namespace tunnelctl::client
