#include "tunnelctl/commands/top_view.h"

#include <algorithm>
#include <sstream>

#include "tunnelctl/commands/status_view.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl {
namespace {

using terminal::Colour;
using terminal::harmless;
using terminal::paint;
using Rows = std::vector<std::vector<std::string>>;

void add_table(std::vector<std::string>& lines, const std::vector<std::string>& heading, const Rows& rows,
               bool coloured) {
  std::ostringstream text;
  terminal::print_table(text, heading, rows);
  std::istringstream in(text.str());
  bool first = true;
  for (std::string line; std::getline(in, line); first = false)
    lines.push_back(first ? paint(line, Colour::bold, coloured) : line);
}

std::string rate(double bytes_per_second) {
  return bytes_per_second < 0.5 ? "-" : terminal::bytes(bytes_per_second) + "/s";
}

std::vector<std::string> row_of(const daemon::Connected& one) {
  return {harmless(one.id),
          harmless(one.kind),
          one.service.empty() ? "-" : terminal::shortened(harmless(one.service), 24),
          one.principal.empty() ? "-" : terminal::shortened(harmless(one.principal), 12),
          harmless(one.peer) + (one.tls ? "" : " plain"),
          terminal::duration(one.age_seconds),
          std::to_string(one.requests),
          rate(one.bytes_in_per_second),
          rate(one.bytes_out_per_second)};
}

std::vector<std::string> row_of(const daemon::User& one) {
  return {terminal::shortened(harmless(one.principal), 12),
          harmless(one.tier),
          std::to_string(one.requests),
          std::to_string(one.errors),
          one.mean_ms ? terminal::number(*one.mean_ms) + " ms" : "-",
          terminal::bytes(static_cast<double>(one.bytes_in)),
          terminal::bytes(static_cast<double>(one.bytes_out)),
          harmless(one.last_seen)};
}

void add_totals(std::vector<std::string>& lines, const TopView& view) {
  std::string requests = view.rates ? terminal::number(view.rates->requests_per_second) + " requests/s" : "";
  if (view.rates && view.rates->success_rate)
    requests += ", " + terminal::percent(*view.rates->success_rate) + " good";
  requests += (requests.empty() ? "" : ", ") + std::to_string(view.now.in_flight) + " in flight";
  if (view.rates)
    requests += ", " + terminal::bytes(view.rates->bytes_in_per_second) + "/s in, " +
                terminal::bytes(view.rates->bytes_out_per_second) + "/s out";
  lines.push_back(std::move(requests));
  lines.push_back(latency_text(view.now) + "   queue: " + queue_text(view.now));
  lines.push_back(
      "breakers: " + breakers_text(view.now) + "   ssh: " + std::to_string(view.now.ssh_sessions) +
      " sessions, " + std::to_string(view.now.ssh_channels) +
      " channels   connections: " + std::to_string(view.now.connections) +
      (view.now.connections_by_tier.empty() ? "" : " (" + counts_text(view.now.connections_by_tier) + ")"));
}

void add_breakers(std::vector<std::string>& lines, const TopView& view, bool coloured) {
  if (view.breakers.empty()) return;
  Rows rows;
  for (const auto& one : view.breakers)
    rows.push_back({harmless(one.id), harmless(one.state), harmless(one.service), harmless(one.upstream),
                    std::to_string(one.refused), one.next_probe.empty() ? "-" : harmless(one.next_probe)});
  lines.emplace_back();
  add_table(lines, {"BREAKER", "STATE", "SERVICE", "UPSTREAM", "REFUSED", "NEXT PROBE"}, rows, coloured);
}

void add_users(std::vector<std::string>& lines, const TopView& view, bool coloured) {
  if (view.users.empty()) return;
  Rows rows;
  for (const auto& one : view.users) rows.push_back(row_of(one));
  lines.emplace_back();
  add_table(lines, {"USER", "TIER", "REQUESTS", "ERRORS", "MEAN", "IN", "OUT", "LAST SEEN"}, rows, coloured);
}

void add_connections(std::vector<std::string>& lines, const TopView& view, std::size_t rows_left,
                     bool coloured) {
  const std::size_t all = view.connections.size();
  const std::size_t shown = std::min(all, rows_left);
  Rows rows;
  for (std::size_t i = 0; i < shown; ++i) rows.push_back(row_of(view.connections[i]));
  lines.emplace_back();
  add_table(lines, {"ID", "KIND", "SERVICE", "USER", "PEER", "AGE", "REQUESTS", "IN", "OUT"}, rows, coloured);
  if (shown < all) lines.push_back("and " + std::to_string(all - shown) + " more");
}

}  // namespace

void sort_busiest_first(std::vector<daemon::Connected>& connections) {
  const auto traffic = [](const daemon::Connected& one) {
    return one.bytes_in_per_second + one.bytes_out_per_second;
  };
  std::stable_sort(connections.begin(), connections.end(), [&](const auto& a, const auto& b) {
    return traffic(a) != traffic(b) ? traffic(a) > traffic(b) : a.age_seconds > b.age_seconds;
  });
}

std::vector<std::string> top_lines(const TopView& view, std::size_t rows, bool coloured) {
  std::vector<std::string> lines;
  std::string head = "tunneld " + harmless(view.now.version) + " at " + harmless(view.url) + ": " +
                     paint(harmless(view.now.state), colour_of_state(view.now.state), coloured);
  if (view.now.uptime_seconds) head += ", up " + terminal::duration(*view.now.uptime_seconds);
  lines.push_back(std::move(head));
  add_totals(lines, view);
  if (!view.now.with_token) {
    lines.emplace_back();
    lines.emplace_back(kWithoutToken);
    return lines;
  }
  add_breakers(lines, view, coloured);
  std::vector<std::string> users;
  add_users(users, view, coloured);
  // Room for an empty line, the heading and "and N more"; at least five connections, whatever else there is.
  const std::size_t taken = lines.size() + users.size() + 3;
  const std::size_t left =
      rows == 0 ? view.connections.size() : std::max<std::size_t>(rows, taken + 5) - taken;
  add_connections(lines, view, left, coloured);
  lines.insert(lines.end(), users.begin(), users.end());
  return lines;
}

daemon::Json top_json(const TopView& view) {
  daemon::Json json = status_json(view.url, view.now, view.rates);
  if (!view.now.with_token) return json;
  json["connectionList"] = daemon::Json::array();
  for (const auto& one : view.connections)
    json["connectionList"].push_back({{"id", one.id},
                                      {"kind", one.kind},
                                      {"service", one.service},
                                      {"principal", one.principal},
                                      {"peer", one.peer},
                                      {"tls", one.tls},
                                      {"ageSeconds", one.age_seconds},
                                      {"requests", one.requests},
                                      {"bytesIn", one.bytes_in},
                                      {"bytesOut", one.bytes_out},
                                      {"bytesInPerSecond", one.bytes_in_per_second},
                                      {"bytesOutPerSecond", one.bytes_out_per_second}});
  json["breakerList"] = daemon::Json::array();
  for (const auto& one : view.breakers)
    json["breakerList"].push_back({{"id", one.id},
                                   {"state", one.state},
                                   {"service", one.service},
                                   {"upstream", one.upstream},
                                   {"refused", one.refused},
                                   {"nextProbe", one.next_probe}});
  json["userList"] = daemon::Json::array();
  for (const auto& one : view.users) {
    daemon::Json user{
        {"principal", one.principal}, {"tier", one.tier}, {"requests", one.requests}, {"errors", one.errors}};
    if (one.mean_ms) user["meanMs"] = *one.mean_ms;
    user["bytesIn"] = one.bytes_in;
    user["bytesOut"] = one.bytes_out;
    user["lastSeen"] = one.last_seen;
    json["userList"].push_back(std::move(user));
  }
  return json;
}

}  // namespace tunnelctl
