#include "tunnelctl/commands/status_view.h"

#include <array>
#include <cstdio>

#include "tunnelctl/terminal/units.h"

namespace tunnelctl {
namespace {

using terminal::Colour;
using terminal::harmless;
using terminal::paint;

std::string ms(std::optional<double> value) {
  return value ? terminal::number(*value) + " ms" : "-";
}

std::string line(const char* label, const std::string& text) {
  std::array<char, 32> head{};
  std::snprintf(head.data(), head.size(), "  %-12s", label);
  return head.data() + text;
}

std::string requests_text(const daemon::Overview& now, const std::optional<daemon::Rates>& rates) {
  std::string text;
  if (rates) {
    text = terminal::number(rates->requests_per_second) + "/s";
    if (rates->success_rate) text += ", " + terminal::percent(*rates->success_rate) + " good";
    text += "; ";
  }
  text += std::to_string(now.requests) + " since the start";
  if (now.requests > 0)
    text += ", " + terminal::percent(static_cast<double>(now.succeeded) / static_cast<double>(now.requests)) +
            " good";
  return text + "; " + std::to_string(now.in_flight) + " in flight";
}

std::string health_word(const std::optional<bool>& healthy, bool coloured) {
  if (!healthy) return "unknown";
  return *healthy ? "ok" : paint("FAILING", Colour::red, coloured);
}

std::string records_text(const daemon::Overview& now, bool coloured) {
  std::string text = "audit " + health_word(now.audit_healthy, coloured) + ", events " +
                     health_word(now.events_healthy, coloured);
  if (now.last_event) text += " (last " + std::to_string(*now.last_event) + ")";
  text += ", log ";
  return text + (now.log_lost == 0
                     ? "ok"
                     : paint(std::to_string(now.log_lost) + " records lost", Colour::yellow, coloured));
}

std::string resources_text(const daemon::Overview& now) {
  std::string text;
  if (now.memory_bytes) text = terminal::bytes(static_cast<double>(*now.memory_bytes));
  if (now.fds) text += (text.empty() ? "" : ", ") + std::to_string(*now.fds) + " descriptors";
  if (now.fds && now.max_fds) text += " of " + std::to_string(*now.max_fds);
  return text;
}

template <class Value>
void put(daemon::Json& json, const char* key, const std::optional<Value>& value) {
  if (value) json[key] = *value;
}

daemon::Json object_of(const std::vector<std::pair<std::string, std::uint64_t>>& counts) {
  daemon::Json json = daemon::Json::object();
  for (const auto& [name, count] : counts) json[name] = count;
  return json;
}

daemon::Json requests_json(const daemon::Overview& now, const std::optional<daemon::Rates>& rates) {
  daemon::Json json{{"total", now.requests},
                    {"successful", now.succeeded},
                    {"failed", now.failed},
                    {"inFlight", now.in_flight}};
  put(json, "p50Ms", now.p50);
  put(json, "p95Ms", now.p95);
  put(json, "p99Ms", now.p99);
  if (rates) {
    json["perSecond"] = rates->requests_per_second;
    put(json, "successRate", rates->success_rate);
    json["overSeconds"] = rates->seconds;
  }
  return json;
}

daemon::Json queue_json(const daemon::Queue& queue) {
  daemon::Json json{{"waiting", queue.waiting}};
  put(json, "bytes", queue.bytes);
  put(json, "fullest", queue.fullest);
  json["byPriority"] = object_of(queue.by_priority);
  return json;
}

}  // namespace

const char* const kWithoutToken =
    "no token (TUNNEL_TOKEN, TUNNEL_TOKEN_FILE, --token-file): with one of scope tunnel:admin there are also "
    "latencies of the last five minutes, breakers, connections, users, and the health of audit log and "
    "events";

Colour colour_of_state(const std::string& state) {
  if (state == "serving" || state == "closed") return Colour::green;
  return state == "degraded" || state == "half_open" || state == "draining" ? Colour::yellow : Colour::red;
}

std::string counts_text(const std::vector<std::pair<std::string, std::uint64_t>>& counts) {
  std::string text;
  for (const auto& [name, count] : counts)
    text += (text.empty() ? "" : ", ") + harmless(name) + " " + std::to_string(count);
  return text;
}

std::string latency_text(const daemon::Overview& now) {
  return "p50 " + ms(now.p50) + "  p95 " + ms(now.p95) + "  p99 " + ms(now.p99);
}

std::string queue_text(const daemon::Overview& now) {
  if (!now.queue) return "unknown";
  std::string text = std::to_string(now.queue->waiting) + " waiting";
  if (now.queue->waiting > 0 && !now.queue->by_priority.empty())
    text += " (" + counts_text(now.queue->by_priority) + ")";
  if (now.queue->fullest) text += ", fullest " + terminal::percent(*now.queue->fullest);
  if (now.queue->bytes && *now.queue->bytes > 0)
    text += ", " + terminal::bytes(static_cast<double>(*now.queue->bytes));
  return text;
}

std::string breakers_text(const daemon::Overview& now) {
  if (now.breakers.worst.empty()) return "unknown";
  if (now.breakers.count == 0) return now.breakers.worst == "closed" ? "all closed" : now.breakers.worst;
  std::string text = std::to_string(now.breakers.count) + " not closed";
  constexpr std::size_t kShown = 4;
  for (std::size_t i = 0; i < now.breakers.open.size() && i < kShown; ++i)
    text += (i == 0 ? ": " : ", ") + harmless(now.breakers.open[i]);
  return text + (now.breakers.open.size() > kShown ? ", ..." : "");
}

std::vector<std::string> status_lines(const std::string& url, const daemon::Overview& now,
                                      const std::optional<daemon::Rates>& rates, bool coloured) {
  std::vector<std::string> lines;
  std::string head = "tunneld " + harmless(now.version) + " at " + harmless(url) + ": " +
                     paint(harmless(now.state), colour_of_state(now.state), coloured);
  if (now.uptime_seconds) head += ", up " + terminal::duration(*now.uptime_seconds);
  lines.push_back(std::move(head));
  std::string connections = std::to_string(now.connections);
  if (!now.connections_by_tier.empty()) connections += " (" + counts_text(now.connections_by_tier) + ")";
  if (now.users) connections += ", users " + std::to_string(*now.users);
  lines.push_back(line("connections", connections));
  lines.push_back(line("requests", requests_text(now, rates)));
  lines.push_back(
      line("latency", latency_text(now) + (now.with_token ? " over 5 minutes" : " since the start")));
  if (rates)
    lines.push_back(line("bytes", terminal::bytes(rates->bytes_in_per_second) + "/s in, " +
                                      terminal::bytes(rates->bytes_out_per_second) + "/s out"));
  lines.push_back(line("queue", queue_text(now)));
  lines.push_back(line("breakers", breakers_text(now)));
  lines.push_back(line("ssh", std::to_string(now.ssh_sessions) + " sessions, " +
                                  std::to_string(now.ssh_channels) + " channels"));
  if (now.throttled && now.blocked)
    lines.push_back(line("addresses", std::to_string(*now.throttled) + " throttled, " +
                                          std::to_string(*now.blocked) + " blocked"));
  lines.push_back(line("records", records_text(now, coloured)));
  if (const auto resources = resources_text(now); !resources.empty())
    lines.push_back(line("resources", resources));
  return lines;
}

daemon::Json status_json(const std::string& url, const daemon::Overview& now,
                         const std::optional<daemon::Rates>& rates) {
  daemon::Json json{{"url", url},
                    {"serving", now.serving},
                    {"state", now.state},
                    {"version", now.version},
                    {"withToken", now.with_token}};
  put(json, "uptimeSeconds", now.uptime_seconds);
  json["connections"] = {{"active", now.connections}, {"byTier", object_of(now.connections_by_tier)}};
  put(json, "users", now.users);
  json["requests"] = requests_json(now, rates);
  json["bytes"] = {{"in", now.bytes_in}, {"out", now.bytes_out}};
  if (rates) {
    json["bytes"]["inPerSecond"] = rates->bytes_in_per_second;
    json["bytes"]["outPerSecond"] = rates->bytes_out_per_second;
  }
  if (now.queue) json["queue"] = queue_json(*now.queue);
  if (!now.breakers.worst.empty())
    json["breakers"] = {
        {"state", now.breakers.worst}, {"notClosed", now.breakers.count}, {"open", now.breakers.open}};
  json["ssh"] = {{"sessions", now.ssh_sessions}, {"channels", now.ssh_channels}};
  put(json, "auditHealthy", now.audit_healthy);
  put(json, "eventsHealthy", now.events_healthy);
  put(json, "lastEvent", now.last_event);
  json["logRecordsLost"] = now.log_lost;
  put(json, "addressesThrottled", now.throttled);
  put(json, "addressesBlocked", now.blocked);
  put(json, "memoryBytes", now.memory_bytes);
  put(json, "fds", now.fds);
  put(json, "maxFds", now.max_fds);
  return json;
}

}  // namespace tunnelctl
