#include "tunnelctl/client/agent_world.h"

#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/http_access.h"
#include "common/http_client.h"
#include "common/http_url.h"
#include "tunnelctl/client/agent_pins.h"
#include "tunnelctl/client/agent_state.h"

namespace tunnelctl::client {
namespace {

constexpr const char* kKeysPath = "/.well-known/tunnel-keys";

Verdict later(std::string reason, Error error) {
  Verdict verdict;
  // Nothing that waiting would mend: a wrong address, a certificate that is not trusted, no tunneld there.
  verdict.stops_first = error.kind == Error::Kind::bad_input || error.kind == Error::Kind::denied;
  verdict.reason = std::move(reason);
  verdict.error = std::move(error);
  return verdict;
}

using Keys = tl::expected<TunnelKeys, Verdict>;

Keys keys_of(const http::Response& answer, const std::string& url) {
  if (answer.status != 200) {
    const auto status = std::to_string(answer.status);
    // 404 and such: something else than tunneld answers there.
    const bool busy = answer.status == 429 || answer.status >= 500;
    auto verdict =
        later("keys_status_" + status, {busy ? Error::Kind::unavailable : Error::Kind::bad_input,
                                        url + ": status " + status + (busy ? "" : "; is this a tunneld?")});
    const auto* date = answer.header("Date");
    if (const auto* after = answer.header("Retry-After"))
      verdict.advice.hint = http::retry_after(*after, date == nullptr ? std::string_view() : *date,
                                              std::chrono::system_clock::now());
    return tl::unexpected(std::move(verdict));
  }
  auto keys = parse_tunnel_keys(answer.body);
  if (!keys)
    return tl::unexpected(
        later("keys_unreadable", {Error::Kind::bad_input, url + ": " + keys.error().message}));
  return std::move(*keys);
}

Keys fetch_keys(const ServerSettings& server, const std::stop_token& stop) {
  auto options = http_options(server);
  options.max_body_bytes = 64 * 1024;
  options.retry.attempts = 1;  // the agent itself tries again, and tells each try
  const auto client = http::Client::make(std::move(options));
  if (!client) return tl::unexpected(later("keys_settings", client.error()));
  const auto url = http_url(server.url) + kKeysPath;
  const auto answer = client->send({.url = url}, stop);
  if (!answer) return tl::unexpected(later("keys_unreachable", answer.error()));
  return keys_of(*answer, http::shown_url(url));
}

/// What trust() needs, kept for as long as anybody calls it.
struct Trust {
  using Tell = std::function<void(logging::Level, std::string_view, logging::Fields)>;
  asio::thread_pool threads{1};  // libcurl's calls block
  ServerSettings server;
  const Sshd& sshd;
  const std::filesystem::path folder;
  std::stop_token stop;
  const Tell tell;
  const std::vector<std::string> server_keys;
  std::vector<std::string> authorized{};

  static asio::awaitable<Keys> fetch(const ServerSettings& server, const std::stop_token& stop) {
    co_return fetch_keys(server, stop);
  }
  static asio::awaitable<tl::expected<void, Verdict>> learn(std::shared_ptr<Trust> self) {
    auto keys = co_await asio::co_spawn(self->threads, fetch(self->server, self->stop), asio::use_awaitable);
    if (!keys) co_return tl::unexpected(std::move(keys.error()));
    co_return self->accept(*keys);
  }

  tl::expected<void, Verdict> accept(const TunnelKeys& shown) {
    if (shown.keys == authorized) return {};
    const auto final = [](std::string reason, Error error) {
      Verdict verdict;
      verdict.then = Then::stop;
      verdict.reason = std::move(reason);
      verdict.error = std::move(error);
      return tl::unexpected(std::move(verdict));
    };
    const auto pinned = pin_tunnel_keys(folder, origin_of(server.url), shown, server_keys);
    if (!pinned)
      return final(pinned.error().kind == Error::Kind::denied ? "TUNNEL_015" : "known_servers",
                   pinned.error());
    if (auto taken = sshd.authorize(shown.keys); !taken) return final("sshd", std::move(taken.error()));
    tell_of(*pinned);
    authorized = shown.keys;
    return {};
  }

  void tell_of(const Pinned& pinned) const {
    using How = Pinned::How;
    if (pinned.how == How::known || pinned.how == How::first) return;
    const auto file = (folder / "known_servers").string();
    tell(logging::Level::warn,
         pinned.how == How::followed ? "tunneld has a new SSH key, which the one before has signed"
                                     : "tunneld's SSH key is the one of --server-key from now on",
         {{"key", pinned.now}, {"before", pinned.before}, {"file", file}});
  }
};

edge::Options websocket_options(const std::string& url) {
  edge::Options options;
  // Of the control connection, whose quality is shown; sessions have enough in the usual ones.
  if (url.ends_with("/agent")) options.ping_after = kPingAfter;
  // Our own tunneld asks for sessions as fast as its callers come.
  options.max_control_messages_per_second = 1000;
  return options;
}

asio::awaitable<AgentWorld::Connected> connect(asio::io_context& io, edge::ClientTarget target,
                                               edge::ClientRequest request) {
  const auto options = websocket_options(target.url);
  co_return co_await edge::connect_websocket(io, target, request, options);
}

}  // namespace

std::string origin_of(std::string_view server_url) {
  const auto url = http_url(server_url);
  const auto scheme_end = url.find("://") + 3;
  const auto origin = url.substr(0, url.find('/', scheme_end));
  const auto parsed = http::parse_url(origin);
  if (!parsed) return origin;
  const bool v6 = parsed->host.find(':') != std::string::npos;
  return url.substr(0, scheme_end) + (v6 ? "[" + parsed->host + "]" : parsed->host) + ":" +
         std::to_string(parsed->port);
}

bool is_worth_telling(std::string_view line) {
  for (const auto* routine : {"Accepted publickey for ", "Connection closed by ", "Disconnected from ",
                              "Received disconnect from ", "Close session: ", "Connection reset by "})
    if (line.starts_with(routine)) return false;
  return true;
}

AgentWorld agent_world(asio::io_context& io, ServerSettings server, const Sshd& sshd,
                       const std::filesystem::path& folder, std::stop_token stop,
                       std::function<void(logging::Level, std::string_view, logging::Fields)> tell,
                       std::vector<std::string> server_keys) {
  const auto trust = std::shared_ptr<Trust>(new Trust{.server = server,
                                                      .sshd = sshd,
                                                      .folder = folder,
                                                      .stop = std::move(stop),
                                                      .tell = tell,
                                                      .server_keys = std::move(server_keys)});
  const auto settings = std::make_shared<const ServerSettings>(std::move(server));
  AgentWorld world;
  world.connect = [&io, settings](const std::string& path, edge::ClientRequest request) {
    return connect(io, target(*settings, path), std::move(request));
  };
  world.shown = [settings](std::string_view path) {
    return http::shown_url(settings->url + std::string(path));
  };
  world.trust = [trust] { return Trust::learn(trust); };
  world.token = [settings] { return read_token(*settings); };
  world.sshd =
      [&io, &sshd](std::function<void(std::string)> on_line) -> Result<std::unique_ptr<tunnel::ByteStream>> {
    auto tell_line = [on_line = std::move(on_line)](std::string line) {
      if (is_worth_telling(line)) on_line(std::move(line));
    };
    auto session = sshd.spawn(io.get_executor(), std::move(tell_line));
    if (!session) return tl::unexpected(session.error());
    return std::unique_ptr<tunnel::ByteStream>(std::move(*session));
  };
  world.tell = std::move(tell);
  return world;
}

}  // namespace tunnelctl::client
