#include "tunnelctl/daemon/admin.h"

#include <algorithm>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/json_text.h"
#include "tunnelctl/daemon/json_members.h"

namespace tunnelctl::daemon {
namespace {

/// A thousand connections are 200 KB; past this it is no tunneld.
constexpr std::size_t kMaxAnswer = 64 * 1024 * 1024;
/// The daemon sends a comment every 15 s on a stream without events; three of them lost are a dead peer.
constexpr std::chrono::milliseconds kLongestSilence{45'000};

/// {"error":{"code","message","details"}} of tunneld, or whatever stands in its place.
std::string message_of(const http::Response& response) {
  const Json json = parse_json<Json>(response.body);
  if (const auto* error = member(json, "error"); error != nullptr && error->is_object()) {
    std::string text = text_of(*error, "code");
    text += (text.empty() ? "" : ": ") + text_of(*error, "message");
    if (const auto* details = member(*error, "details"); details != nullptr && details->is_array())
      for (const auto& one : *details)
        if (one.is_string() && text.find(one.get_ref<const std::string&>()) == std::string::npos)
          text += "; " + one.get<std::string>();
    return http::one_line(text, 1'000);
  }
  if (response.content_type.find("html") != std::string::npos)
    return "the answer is a web page, not tunneld's";
  return http::one_line(response.body);
}

Result<Json> parsed(const http::Request& request, const http::Response& response) {
  Json json = parse_json<Json>(response.body);
  if (json.is_object()) return json;
  return fail(Error::Kind::unavailable, http::shown(request) + ": the answer is not tunneld's: " +
                                            message_of(response) + "; is --admin-url its admin listener?");
}

/// The list at `key`, only its objects.
std::vector<const Json*> objects(const Json& holder, const char* key) {
  std::vector<const Json*> result;
  if (const auto* list = member(holder, key); list != nullptr && list->is_array())
    for (const Json& one : *list)
      if (one.is_object()) result.push_back(&one);
  return result;
}

/// One line, whatever is inside.
std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<std::string> texts_of(const Json& json, const char* key) {
  std::vector<std::string> texts;
  if (const auto* list = member(json, key); list != nullptr && list->is_array())
    for (const Json& one : *list)
      if (one.is_string()) texts.push_back(one.get<std::string>());
  return texts;
}

Agent agent_of(const Json& json) {
  return {.id = text_of(json, "agentId"),
          .principal = text_of(json, "principal"),
          .peer = text_of(json, "peer"),
          .user = text_of(json, "user"),
          .host_key = text_of(json, "hostKey"),
          .services = texts_of(json, "services"),
          .connections = count_of(json, "connections"),
          .sessions = count_of(json, "sessions"),
          .since = text_of(json, "since")};
}

Breaker breaker_of(const Json& json) {
  return {.id = text_of(json, "id"),
          .state = text_of(json, "state"),
          .upstream = text_of(json, "upstream"),
          .service = text_of(json, "service"),
          .principal = text_of(json, "principal"),
          .failures = count_of(json, "failures"),
          .successes = count_of(json, "successes"),
          .refused = count_of(json, "refused"),
          .opened_at = text_of(json, "openedAt"),
          .next_probe = text_of(json, "nextProbe"),
          .last_errors = texts_of(json, "lastErrors")};
}

Setting setting_of(const Json& json) {
  const auto said = [&](const char* key) {
    const auto* value = member(json, key);
    if (value == nullptr) return std::string();
    return value->is_string() ? value->get<std::string>() : dumped(*value);
  };
  return {.value = said("value"),
          .from = text_of(json, "from"),
          .hot = flag_of(json, "hot").value_or(false),
          .after_restart = said("afterRestart")};
}

Changes changes_of(const Json& answer) {
  Changes result;
  if (const auto* changes = member(answer, "changes"); changes != nullptr && changes->is_object())
    for (const auto& [key, value] : changes->items())
      result.emplace_back(key, value.is_string() ? value.get<std::string>() : dumped(value));
  return result;
}

}  // namespace

Event event_of(const Json& json) {
  Event result{.id = count_of(json, "id"),
               .kind = text_of(json, "kind"),
               .time = text_of(json, "time"),
               .line = dumped(json)};
  if (const auto* data = member(json, "data")) result.data = *data;
  return result;
}

Result<Admin> Admin::make(Connection connection, std::stop_token stop) {
  while (connection.url.ends_with('/')) connection.url.pop_back();
  if (auto url = http::parse_url(connection.url); !url)
    return fail(Error::Kind::bad_input, "--admin-url: " + url.error().message);
  if (!connection.token_file.empty()) {
    auto token = http::read_token(connection.token_file, "the token file of tunneld");
    if (!token) return tl::unexpected(token.error());
    connection.token = std::move(*token);
  }
  http::ClientOptions options;
  options.tls = connection.tls;
  options.allow_plain = connection.allow_plain;
  options.user_agent = "tunnelctl";
  options.correlation_id = http::new_correlation_id();
  options.deadline = connection.timeout;
  options.connect_timeout = std::min(options.connect_timeout, connection.timeout);
  options.max_body_bytes = kMaxAnswer;
  // Whether it is there is what is asked: no patience with one that is not.
  options.retry.attempts = 1;
  auto client = http::Client::make(std::move(options));
  if (!client) return tl::unexpected(client.error());
  return Admin(std::move(connection), std::move(*client), std::move(stop));
}

http::Request Admin::request(std::string method, const std::string& path) const {
  http::Request result;
  result.method = std::move(method);
  result.url = connection_.url + path;
  if (has_token())
    result.headers.push_back({"Authorization", "Bearer " + std::string(connection_.token.reveal())});
  return result;
}

Result<http::Response> Admin::ask(const http::Request& request) const {
  auto response = client_.send(request, stop_);
  // "Not found" is a page that is missing; a host that is unknown is not there at all.
  if (!response && response.error().kind == Error::Kind::not_found)
    response.error().kind = Error::Kind::unavailable;
  return response;
}

Result<http::Response> Admin::send(const http::Request& request) const {
  auto response = ask(request);
  if (!response) return response;
  if (response->status < 200 || response->status >= 300) return tl::unexpected(error(request, *response));
  return response;
}

Result<Json> Admin::get(const std::string& path) const {
  const auto asked = request("GET", path);
  auto response = send(asked);
  if (!response) return tl::unexpected(response.error());
  return parsed(asked, *response);
}

Result<http::Response> Admin::change(std::string method, const std::string& path, const Json& body,
                                     std::vector<http::Header> headers) const {
  auto asked = request(std::move(method), path);
  if (connection_.read_only)
    return fail(Error::Kind::denied,
                http::shown(asked) + ": refused, because this context is read-only (read_only: true)");
  if (!body.is_null()) {
    asked.body = dumped(body);
    asked.content_type = "application/json";
  }
  for (auto& header : headers) asked.headers.push_back(std::move(header));
  return ask(asked);
}

Error Admin::error(const http::Request& request, const http::Response& response) const {
  std::string text = http::shown(request) + ": " + std::to_string(response.status);
  if (const auto said = message_of(response); !said.empty()) text += ": " + said;
  switch (response.status) {
    case 401:
    case 403:
      return {
          Error::Kind::denied,
          text + (has_token() ? "; the token must be one of scope tunnel:admin that has not expired"
                              : "; no token was sent: set TUNNEL_TOKEN, TUNNEL_TOKEN_FILE or --token-file")};
    case 404: return {Error::Kind::not_found, text};
    case 400:
    case 413:
    case 422: return {Error::Kind::bad_input, text};
    default: return {Error::Kind::unavailable, text};
  }
}

Result<Readiness> Admin::readiness() const {
  const auto asked = request("GET", "/readyz");
  const auto response = ask(asked);
  if (!response) return tl::unexpected(response.error());
  // 503 is an answer here.
  if (response->status != 200 && response->status != 503) return tl::unexpected(error(asked, *response));
  const auto json = parsed(asked, *response);
  if (!json) return tl::unexpected(json.error());
  return Readiness{.ready = response->status == 200, .reason = text_of(*json, "reason")};
}

Result<Health> Admin::health() const {
  const auto asked = request("GET", "/api/tunnel/health");
  const auto response = ask(asked);
  if (!response) return tl::unexpected(response.error());
  if (response->status != 200 && response->status != 503) return tl::unexpected(error(asked, *response));
  const auto json = parsed(asked, *response);
  if (!json) return tl::unexpected(json.error());
  const auto count = [&](const char* key) -> std::optional<std::int64_t> {
    const auto number = number_of(*json, key);
    if (!number) return std::nullopt;
    return static_cast<std::int64_t>(*number);
  };
  return Health{.status = text_of(*json, "status"),
                .reason = text_of(*json, "reason"),
                .version = text_of(*json, "version"),
                .uptime_seconds = count("uptime"),
                .connections = count("connections"),
                .requests_in_flight = count("requestsInFlight")};
}

Result<std::string> Admin::metrics() const {
  auto response = send(request("GET", "/metrics"));
  if (!response) return tl::unexpected(response.error());
  return std::move(response->body);
}

Result<Json> Admin::diagnostics() const {
  return get("/api/tunnel/diagnostics");
}

Result<Json> Admin::connections() const {
  return get("/api/tunnel/connections");
}

Result<Json> Admin::users(std::size_t limit) const {
  return get("/api/tunnel/metrics/users?limit=" + std::to_string(limit));
}

Result<std::vector<Agent>> Admin::agents() const {
  const auto answer = get("/api/tunnel/agents");
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Agent> result;
  for (const Json* one : objects(*answer, "agents")) result.push_back(agent_of(*one));
  return result;
}

Result<void> Admin::forget_agent(const std::string& principal, const std::string& id) const {
  const std::string path = "/api/tunnel/agents/forget";
  const auto response = change("POST", path, {{"agentId", id}, {"principal", principal}});
  if (!response) return tl::unexpected(response.error());
  if (response->status >= 300) return tl::unexpected(error(request("POST", path), *response));
  return {};
}

Result<std::vector<Breaker>> Admin::breakers() const {
  const auto answer = get("/api/tunnel/circuit-breakers");
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Breaker> result;
  for (const Json* one : objects(*answer, "breakers")) result.push_back(breaker_of(*one));
  return result;
}

Result<void> Admin::reset_breaker(std::string_view id) const {
  const std::string path = "/api/tunnel/circuit-breakers/" + http::percent_encode(id) + "/reset";
  const auto response = change("POST", path, nullptr);
  if (!response) return tl::unexpected(response.error());
  if (response->status >= 300) return tl::unexpected(error(request("POST", path), *response));
  return {};
}

Result<EventPage> Admin::events(std::uint64_t after, std::size_t limit) const {
  const auto answer =
      get("/api/tunnel/events?after=" + std::to_string(after) + "&limit=" + std::to_string(limit));
  if (!answer) return tl::unexpected(answer.error());
  EventPage page{.first = count_of(*answer, "first"),
                 .last = count_of(*answer, "last"),
                 .gap = flag_of(*answer, "gap").value_or(false)};
  for (const Json* one : objects(*answer, "events")) page.events.push_back(event_of(*one));
  return page;
}

Result<void> Admin::event_stream(std::uint64_t after,
                                 const std::function<bool(std::string_view)>& take) const {
  auto asked = request("GET", "/api/tunnel/events");
  asked.headers.push_back({"Accept", "text/event-stream"});
  asked.headers.push_back({"Last-Event-ID", std::to_string(after)});
  asked.streaming = http::Streaming{.take = take, .longest_silence = kLongestSilence};
  const auto response = ask(asked);
  if (!response) return tl::unexpected(response.error());
  if (response->status >= 300) return tl::unexpected(error(asked, *response));
  if (response->content_type.find("text/event-stream") == std::string::npos)
    return fail(Error::Kind::unavailable, http::shown(asked) + ": the answer is no stream of events");
  return {};
}

Result<Settings> Admin::settings() const {
  const auto answer = get("/api/tunnel/config");
  if (!answer) return tl::unexpected(answer.error());
  Settings result{.etag = text_of(*answer, "etag")};
  if (const auto* values = member(*answer, "values"); values != nullptr && values->is_object())
    for (const auto& [key, value] : values->items()) result.values[key] = setting_of(value);
  return result;
}

namespace {

std::string quoted(const std::string& etag) {
  return etag.starts_with('"') || etag.starts_with("W/") ? etag : "\"" + etag + "\"";
}

}  // namespace

Result<std::variant<Changes, Conflict>> Admin::change_settings(const Json& values,
                                                               const std::string& etag) const {
  const auto response = change("PUT", "/api/tunnel/config", values, {{"If-Match", quoted(etag)}});
  if (!response) return tl::unexpected(response.error());
  const auto asked = request("PUT", "/api/tunnel/config");
  if (response->status == 409 || response->status == 412) return Conflict{error(asked, *response).message};
  if (response->status >= 300) return tl::unexpected(error(asked, *response));
  const auto json = parsed(asked, *response);
  if (!json) return tl::unexpected(json.error());
  return changes_of(*json);
}

Result<std::variant<Changes, Conflict>> Admin::reset_settings(const std::vector<std::string>& keys) const {
  Json body = Json::object();
  if (!keys.empty()) body["keys"] = keys;
  const auto response = change("POST", "/api/tunnel/config/reset", body);
  if (!response) return tl::unexpected(response.error());
  const auto asked = request("POST", "/api/tunnel/config/reset");
  if (response->status == 409 || response->status == 412) return Conflict{error(asked, *response).message};
  if (response->status >= 300) return tl::unexpected(error(asked, *response));
  const auto json = parsed(asked, *response);
  if (!json) return tl::unexpected(json.error());
  return changes_of(*json);
}

Result<std::string> Admin::log_level() const {
  const auto answer = get("/api/tunnel/config/log-level");
  if (!answer) return tl::unexpected(answer.error());
  return text_of(*answer, "level");
}

Result<void> Admin::set_log_level(const std::string& level, std::optional<std::chrono::seconds> ttl) const {
  Json body{{"level", level}};
  if (ttl) body["ttl"] = ttl->count();
  const auto response = change("PUT", "/api/tunnel/config/log-level", body);
  if (!response) return tl::unexpected(response.error());
  if (response->status >= 300)
    return tl::unexpected(error(request("PUT", "/api/tunnel/config/log-level"), *response));
  return {};
}

Result<std::string> Admin::drain() const {
  const auto response = change("POST", "/api/tunnel/drain", nullptr);
  if (!response) return tl::unexpected(response.error());
  const auto asked = request("POST", "/api/tunnel/drain");
  if (response->status >= 300) return tl::unexpected(error(asked, *response));
  const auto json = parsed(asked, *response);
  if (!json) return tl::unexpected(json.error());
  const auto* deadline = member(*json, "deadline");
  if (deadline == nullptr) return std::string();
  return deadline->is_string() ? deadline->get<std::string>() : dumped(*deadline);
}

Result<void> Admin::revoke(const Revocation& whom) const {
  Json body = Json::object();
  if (!whom.token_id.empty()) body["tokenId"] = whom.token_id;
  if (!whom.issuer.empty()) body["issuer"] = whom.issuer;
  if (!whom.subject.empty()) body["subject"] = whom.subject;
  if (!whom.reason.empty()) body["reason"] = whom.reason;
  const auto response = change("POST", "/api/tunnel/revocations", body);
  if (!response) return tl::unexpected(response.error());
  if (response->status >= 300)
    return tl::unexpected(error(request("POST", "/api/tunnel/revocations"), *response));
  return {};
}

Result<Json> Admin::revocations() const {
  return get("/api/tunnel/revocations");
}

Result<void> Admin::pardon(std::string_view address) const {
  // Colons may stand in a path as they are, and the daemon looks for them so.
  const bool plain = address.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
  const std::string path =
      "/api/tunnel/penalties/" + (plain ? std::string(address) : http::percent_encode(address));
  const auto response = change("DELETE", path, nullptr);
  if (!response) return tl::unexpected(response.error());
  if (response->status >= 300) return tl::unexpected(error(request("DELETE", path), *response));
  return {};
}

Result<void> Admin::close_connection(std::string_view id) const {
  const std::string path = "/api/tunnel/connections/" + http::percent_encode(id);
  const auto response = change("DELETE", path, nullptr);
  if (!response) return tl::unexpected(response.error());
  if (response->status >= 300) return tl::unexpected(error(request("DELETE", path), *response));
  return {};
}

}  // namespace tunnelctl::daemon
