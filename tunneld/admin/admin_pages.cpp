// What the single admin pages show and do.
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tunnel/client_address.h"
#include "tunneld/admin/admin_handler.h"
#include "tunneld/admin/input.h"
#include "tunneld/admin/me.h"

namespace tunneld::admin {

using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;
using tunnel::Code;
using tunnel::Refusal;
using tunnel::RequestHead;
using WallTime = std::chrono::system_clock::time_point;

namespace {

constexpr std::array<std::string_view, 0> kNothing{};
constexpr std::size_t kMaxText = 512;  // of an issuer, the longest of the texts that come in
constexpr std::size_t kMaxReason = 200;
constexpr std::size_t kMaxKeys = 1000;

Json timestamped() {
  return {{"timestamp", rfc3339(std::chrono::system_clock::now())}};
}

/// Null for a moment that has not been.
Json wall_time(std::chrono::steady_clock::time_point when) {
  if (when == std::chrono::steady_clock::time_point{}) return nullptr;
  const auto ahead = when - std::chrono::steady_clock::now();
  return rfc3339(std::chrono::system_clock::now() +
                 std::chrono::duration_cast<std::chrono::system_clock::duration>(ahead));
}

/// All values of a field as one list, as RFC 9110 §5.2 reads them.
std::optional<std::string> joined(const RequestHead& head, std::string_view name) {
  std::optional<std::string> all;
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, name)) continue;
    if (all)
      (*all += ", ") += field.value;
    else
      all = field.value;
  }
  return all;
}

std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Json user_json(const UserTable::Usage& usage) {
  Json user{{"principal", usage.hash}, {"tier", to_string(usage.tier)}};
  user.update(usage_json(usage));
  return user;
}

Json revocation_json(const access::Revocations::Entry& entry) {
  Json json;
  if (!entry.token_id.empty()) {
    json["tokenId"] = entry.token_id;
  } else {
    json["issuer"] = entry.issuer;
    json["subject"] = entry.subject;
    json["issuedUntil"] = rfc3339(entry.issued_until);
  }
  json["revokedAt"] = rfc3339(entry.revoked_at);
  json["reason"] = entry.reason;
  return json;
}

Json milliseconds(const SlidingDurations::Percentiles& latency) {
  return {{"mean", latency.mean * 1000},
          {"p50", latency.p50 * 1000},
          {"p95", latency.p95 * 1000},
          {"p99", latency.p99 * 1000}};
}

Refusal refusal_for(const Error& error) {
  if (error.kind == Error::Kind::bad_input) return {Code::bad_request, error.message};
  return {Code::unavailable, error.message};
}

}  // namespace

Answer AdminHandler::bad_request(Call& call, Problems problems) const {
  const Refusal why{Code::bad_request, problems.front()};
  return refusal(call, why, problems);
}

Answer AdminHandler::not_found(Call& call, std::string what) const {
  return refusal(call, {Code::bad_request, std::move(what), {}, 404});
}

Answer AdminHandler::metrics_page(Call& call) {
  const bool open = wants_openmetrics(call.exchange.request());
  // The older path is where dashboards of earlier versions look.
  const bool compat = call.page->path != "/metrics" && sources_.compat_metrics;
  return {.content_type = open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                               : "text/plain; version=0.0.4; charset=utf-8",
          .body = sources_.metrics(open, compat)};
}

Answer AdminHandler::health_page(Call& call) {
  // Alive means: this thread answered. Nothing else may turn it into a restart.
  if (call.page->path == "/healthz") return {.body = R"({"status":"alive"})"};
  const auto health = sources_.health();
  const unsigned status = health.not_ready ? 503 : 200;
  if (call.page->path == "/readyz") {
    Json body{{"status", health.not_ready ? "not ready" : "ready"}};
    if (health.not_ready) body["reason"] = *health.not_ready;
    return {.status = status, .body = text_of(body)};
  }
  return {.status = status, .body = health_body(health, sources_.counts())};
}

Answer AdminHandler::diagnostics_page(Call&) {
  return {.body = text_of(sources_.diagnostics())};
}

Answer AdminHandler::connections_page(Call&) {
  return {.body = text_of(sources_.connections())};
}

Answer AdminHandler::agents_page(Call&) {
  return {.body = text_of(sources_.agents())};
}

Answer AdminHandler::config_page(Call&) {
  const auto body = sources_.config();
  return {.body = text_of(body), .fields = {{"ETag", '"' + body.at("etag").get<std::string>() + '"'}}};
}

Answer AdminHandler::changed_config(Call& call, const Done<ConfigChanges>& done) const {
  if (!done) return refusal(call, done.error().refusal, done.error().details);
  Json changes = Json::object();
  for (const auto& [key, change] : done->changes) changes[key] = change;
  const Json body{{"message", changes.empty() ? "nothing changed" : "configuration changed"},
                  {"changes", changes},
                  {"etag", done->etag}};
  return {.body = text_of(body), .fields = {{"ETag", '"' + done->etag + '"'}}};
}

Answer AdminHandler::put_config(Call& call, const nlohmann::json& body) {
  return changed_config(call, sources_.put_config(joined(call.exchange.request(), "if-match"), body));
}

Answer AdminHandler::reset_config(Call& call, const nlohmann::json& body) {
  Problems problems;
  constexpr std::array<std::string_view, 1> kKnown{"keys"};
  std::vector<std::string> keys;
  if (!body.is_null()) {
    Fields fields(body, kKnown, problems);
    keys = fields.texts("keys", kMaxKeys, kMaxText);
    // An empty list is a caller's slip and must not mean everything.
    if (fields.has("keys") && keys.empty() && problems.empty())
      problems.emplace_back("keys: an empty list; leave it out to reset all");
  }
  if (!problems.empty()) return bad_request(call, std::move(problems));
  return changed_config(call, sources_.reset_config(joined(call.exchange.request(), "if-match"), keys));
}

Answer AdminHandler::log_level_page(Call&) {
  return {.body = text_of(Json{{"level", sources_.log_level()}})};
}

Answer AdminHandler::put_log_level(Call& call, const nlohmann::json& body) {
  constexpr std::array<std::string_view, 2> kKnown{"level", "ttl"};
  constexpr std::array<std::string_view, 5> kLevels{"ERROR", "WARN", "INFO", "DEBUG", "TRACE"};
  constexpr std::int64_t kDay = 86'400;
  Problems problems;
  Fields fields(body, kKnown, problems);
  std::string level;
  if (fields.has("level")) {
    const auto& value = body.at("level");
    if (value.is_string()) level = value.get<std::string>();
    if (std::find(kLevels.begin(), kLevels.end(), level) == kLevels.end())
      problems.emplace_back("level: one of ERROR WARN INFO DEBUG TRACE is wanted");
  } else if (body.is_object()) {
    problems.emplace_back("level: missing");
  }
  const auto ttl = fields.whole("ttl", 1, kDay, "seconds");
  if (!problems.empty()) return bad_request(call, std::move(problems));
  std::optional<std::chrono::seconds> lasting;
  if (ttl) lasting = std::chrono::seconds(*ttl);
  sources_.set_log_level(level, lasting);
  Json done{{"level", level}};
  if (ttl) done["ttl"] = *ttl;
  return {.body = text_of(done)};
}

Answer AdminHandler::numbers_page(Call& call) {
  constexpr std::array<std::string_view, 1> kKnown{"window"};
  Problems problems;
  Query query(call.exchange.request().target, kKnown, problems);
  const auto window = query.duration("window", 5min, History::kEvery, 1h);
  if (!problems.empty()) return bad_request(call, std::move(problems));

  const auto shot = sources_.snapshot();
  const auto period = sources_.history->sum(window, std::chrono::system_clock::now());
  const auto seconds = std::max(std::chrono::duration<double>(period.length).count(), 1.0);
  const auto per_second = [seconds](std::uint64_t count) { return static_cast<double>(count) / seconds; };
  // Five minutes are measured more finely than what the history keeps.
  auto latency = sources_.latency(window);
  if (window > 5min)
    latency = {.count = period.requests,
               .mean = latency.mean,
               .p50 = period.percentile(0.50),
               .p95 = period.percentile(0.95),
               .p99 = period.percentile(0.99)};
  const auto& tiers = shot.connections_by_tier;
  const auto& waiting = shot.waiting_by_priority;
  auto body = timestamped();
  body["windowSeconds"] = window.count();
  body["coveredSeconds"] = period.length.count();  // less soon after a start
  body["requests"] = {{"total", period.requests},
                      {"failed", period.errors},
                      {"perSecond", per_second(period.requests)},
                      {"successRate", period.requests == 0 ? 1.0
                                                           : 1 - static_cast<double>(period.errors) /
                                                                     static_cast<double>(period.requests)}};
  body["latencyMs"] = milliseconds(latency);
  body["bytes"] = {{"in", period.bytes_in},
                   {"out", period.bytes_out},
                   {"inPerSecond", per_second(period.bytes_in)},
                   {"outPerSecond", per_second(period.bytes_out)}};
  body["connections"] = {{"sockets", shot.sockets},
                         {"byTier", {{"free", tiers[0]}, {"premium", tiers[1]}, {"enterprise", tiers[2]}}},
                         {"highest", period.connections}};
  body["inFlight"] = shot.in_flight;
  body["queue"] = {{"waiting", shot.waiting},
                   {"byPriority", {{"high", waiting[0]}, {"normal", waiting[1]}, {"low", waiting[2]}}},
                   {"highest", period.queue}};
  body["ssh"] = {{"sessions", shot.ssh_sessions}, {"channels", shot.ssh_channels}};
  body["sinceStart"] = {{"requests", shot.succeeded + shot.failed},
                        {"failed", shot.failed},
                        {"slow", shot.slow},
                        {"rateLimited", shot.rate_limited},
                        {"queueDropped", shot.queue_dropped},
                        {"bytesIn", shot.received_bytes},
                        {"bytesOut", shot.sent_bytes}};
  return {.body = text_of(body)};
}

Answer AdminHandler::history_page(Call& call) {
  constexpr std::array<std::string_view, 2> kKnown{"window", "aggregation"};
  constexpr std::array<std::string_view, 3> kWindows{"1h", "24h", "7d"};
  constexpr std::array<std::string_view, 3> kAggregations{"raw", "hourly", "daily"};
  Problems problems;
  Query query(call.exchange.request().target, kKnown, problems);
  const auto window = query.word("window", "1h", kWindows);
  const auto aggregation = query.word("aggregation", window == "1h" ? "raw" : "hourly", kAggregations);
  if (aggregation == "raw" && window != "1h")
    problems.emplace_back("aggregation: raw values reach back an hour; use hourly or daily");
  if (!problems.empty()) return bad_request(call, std::move(problems));

  using Aggregation = History::Aggregation;
  const auto length = window == "1h" ? 1h : window == "24h" ? 24h : 24h * 7;
  const auto by = aggregation == "raw"      ? Aggregation::raw
                  : aggregation == "hourly" ? Aggregation::hourly
                                            : Aggregation::daily;
  return {.body = text_of(sources_.history->json(window, length, by, std::chrono::system_clock::now()))};
}

Answer AdminHandler::users_page(Call& call) {
  constexpr std::array<std::string_view, 1> kKnown{"limit"};
  Problems problems;
  Query query(call.exchange.request().target, kKnown, problems);
  const auto limit = query.number("limit", 100, 1, 10'000);
  if (!problems.empty()) return bad_request(call, std::move(problems));
  auto body = timestamped();
  body["total"] = sources_.users->size();
  auto& list = body["users"] = Json::array();
  for (const auto& usage : sources_.users->busiest(limit)) list.push_back(user_json(usage));
  return {.body = text_of(body)};
}

Answer AdminHandler::user_page(Call& call) {
  const auto usage = sources_.users->find_hash(call.id);
  if (!usage) return not_found(call, "no such user here");
  auto body = timestamped();
  body.update(user_json(*usage));
  return {.body = text_of(body)};
}

Answer AdminHandler::breakers_page(Call&) {
  auto body = timestamped();
  auto& list = body["breakers"] = Json::array();
  for (const auto& breaker : sources_.breakers())
    list.push_back({{"id", breaker.id},
                    {"state", to_string(breaker.state)},
                    {"upstream", breaker.upstream},
                    {"service", breaker.service},
                    {"principal", tunnel::principal_hash(breaker.principal)},
                    {"failures", breaker.failures_in_a_row},
                    {"successes", breaker.successes_in_a_row},
                    {"refused", breaker.refused},
                    {"openedAt", wall_time(breaker.opened_at)},
                    {"nextProbe", wall_time(breaker.next_probe)},
                    {"lastErrors", breaker.last_errors}});
  return {.body = text_of(body)};
}

Answer AdminHandler::reset_breaker(Call& call, const nlohmann::json& body) {
  Problems problems;
  if (!body.is_null()) Fields(body, kNothing, problems);
  if (!problems.empty()) return bad_request(call, std::move(problems));
  if (!sources_.reset_breaker(call.id)) return not_found(call, "no such breaker");
  return {.body = text_of(Json{{"id", call.id}, {"state", "closed"}})};
}

Answer AdminHandler::close_connection(Call& call, const nlohmann::json&) {
  const auto id = number_in(call.id);
  if (!id || !sources_.close_connection(*id)) return not_found(call, "no such connection");
  return {.status = 204};
}

Answer AdminHandler::drain(Call& call, const nlohmann::json& body) {
  Problems problems;
  if (!body.is_null()) Fields(body, kNothing, problems);
  if (!problems.empty()) return bad_request(call, std::move(problems));
  return {.status = 202, .body = text_of(Json{{"deadline", rfc3339(sources_.drain())}})};
}

Answer AdminHandler::events_page(Call& call) {
  constexpr std::array<std::string_view, 2> kKnown{"after", "limit"};
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  const auto& head = call.exchange.request();
  Problems problems;
  Query query(head.target, kKnown, problems);
  auto after = query.number("after", 0, 0, kMost);
  const auto limit = query.number("limit", 100, 1, 1000);
  const bool streams = accept_weight(head, "text/event-stream") > 0;
  if (const auto* last = head.find("last-event-id"); streams && last != nullptr) {
    // Where a reader was when its connection broke; it knows better than the address it began with.
    if (const auto id = number_in(*last))
      after = *id;
    else
      problems.emplace_back("Last-Event-ID: a whole number is wanted");
  }
  if (!problems.empty()) return bad_request(call, std::move(problems));
  if (streams && head.method == "GET") {
    if (!streams_.room())
      return refusal(call, {Code::unavailable, "as many event streams as there may be are open", 10s});
    call.streams_after = after;
    return {};
  }

  // Each event is one line of JSON already: no need to take it apart.
  const auto page = sources_.events.after(after, limit);
  std::string body = "{\"first\":" + std::to_string(page.first) + ",\"last\":" + std::to_string(page.last) +
                     ",\"gap\":" + (page.gap ? "true" : "false") + ",\"events\":[";
  for (const auto& event : page.events) {
    if (body.back() != '[') body += ',';
    body += event.json;
  }
  return {.body = body + "]}"};
}

Answer AdminHandler::revocations_page(Call&) {
  auto body = timestamped();
  auto& list = body["revocations"] = Json::array();
  for (const auto& entry : sources_.revocations()) list.push_back(revocation_json(entry));
  return {.body = text_of(body)};
}

Answer AdminHandler::revoke(Call& call, const nlohmann::json& body) {
  constexpr std::array<std::string_view, 4> kKnown{"tokenId", "issuer", "subject", "reason"};
  constexpr std::size_t kMaxId = 255;
  Problems problems;
  Fields fields(body, kKnown, problems);
  const bool by_id = fields.has("tokenId");
  const bool by_subject = fields.has("issuer") || fields.has("subject");
  access::Revocations::Entry entry;
  entry.token_id = fields.text("tokenId", kMaxId).value_or("");
  entry.issuer = fields.text("issuer", kMaxText).value_or("");
  entry.subject = fields.text("subject", kMaxId).value_or("");
  entry.reason = fields.text("reason", kMaxReason).value_or("");
  if (by_id && by_subject)
    problems.emplace_back("tokenId: excludes issuer and subject");
  else if (!by_id && body.is_object())
    for (const auto* name : {"issuer", "subject"})
      if (!fields.has(name)) problems.push_back(std::string(name) + ": missing; or give tokenId alone");
  if (!problems.empty()) return bad_request(call, std::move(problems));

  const WallTime now = std::chrono::system_clock::now();
  entry.revoked_at = now;
  if (!by_id) entry.issued_until = now;
  const auto done = sources_.revoke(entry);
  if (!done) return refusal(call, refusal_for(done.error()), {done.error().message});
  return {.status = 201, .body = text_of(revocation_json(entry))};
}

Answer AdminHandler::forget_agent(Call& call, const nlohmann::json& body) {
  constexpr std::array<std::string_view, 2> kKnown{"agentId", "principal"};
  Problems problems;
  Fields fields(body, kKnown, problems);
  const auto id = fields.text("agentId", kMaxText).value_or("");
  const auto whose = fields.text("principal", kMaxText).value_or("");
  if (body.is_object())
    for (const auto* name : {"agentId", "principal"})
      if (!fields.has(name)) problems.push_back(std::string(name) + ": missing");
  if (!problems.empty()) return bad_request(call, std::move(problems));
  const auto done = sources_.forget_agent(whose, id);
  if (!done) return refusal(call, done.error(), {done.error().message});
  return {.status = 204};
}

Answer AdminHandler::pardon(Call& call, const nlohmann::json&) {
  if (!tunnel::Address::parse(call.id))
    return bad_request(call, {"address: an IPv4 or IPv6 address is wanted"});
  if (!sources_.pardon(call.id)) return not_found(call, "that address is not in the penalty box");
  return {.status = 204};
}

}  // namespace tunneld::admin
