#include "tunnelctl/commands/status_clients.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <ostream>

#include <nlohmann/json.hpp>

#include "tunnelctl/client/client_state_file.h"
#include "tunnelctl/commands/refresh.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl {
namespace {

using nlohmann::json;
using terminal::Colour;
using terminal::harmless;

/// Between two looks of --watch; a change should be seen when it happens.
constexpr std::chrono::milliseconds kLook{200};
constexpr std::size_t kEventsShown = 3;
constexpr std::size_t kLongestLine = 300;
constexpr const char* kNobody = "no connect and no agent of this user runs on this machine";

// The files are ours, but of whatever version: what is missing or of another type is left out.

std::string text_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string()
             ? terminal::shortened(harmless(found->get_ref<const std::string&>()), kLongestLine)
             : std::string();
}

double number_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

const json& member(const json& object, const char* name) {
  static const json none;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : none;
}

std::string count(const json& object, const char* name) {
  return std::to_string(static_cast<std::uint64_t>(std::max(0.0, number_of(object, name))));
}

std::string line(const char* label, const std::string& text) {
  std::array<char, 32> head{};
  std::snprintf(head.data(), head.size(), "  %-12s", label);
  return head.data() + text;
}

bool is_connected(const json& client) {
  return text_of(client, "state") == "connected";
}

Colour colour_of(const std::string& state) {
  if (state == "connected") return Colour::green;
  return state == "error" || state == "disconnected" ? Colour::red : Colour::yellow;
}

/// "agent laptop to wss://tunnel.example.org (pid 4711)".
std::string name_of(const json& client) {
  auto name = text_of(client, "kind");
  if (const auto id = text_of(client, "id"); !id.empty()) name += " " + id;
  return name + " to " + text_of(client, "server") + " (pid " + count(client, "pid") + ")";
}

std::string serves_text(const json& client) {
  std::string text;
  const auto& serves = member(client, "serves");
  if (!serves.is_array()) return text;
  for (const auto& each : serves)
    if (each.is_string()) text += (text.empty() ? "" : "; ") + harmless(each.get_ref<const std::string&>());
  return terminal::shortened(text, kLongestLine);
}

std::string attempts_text(const json& client) {
  return count(client, "attempts") + ", reconnects " + count(client, "reconnects");
}

std::string streams_text(const json& client) {
  auto text = count(client, "streams");
  if (client.contains("queueCapacity"))
    text += "; " + count(client, "queued") + " of " + count(client, "queueCapacity") + " waiting";
  const auto& bytes = member(client, "bytes");
  if (!bytes.is_object()) return text;
  return text + "; " + terminal::bytes(number_of(bytes, "in")) + " in, " +
         terminal::bytes(number_of(bytes, "out")) + " out";
}

std::string quality_text(const json& quality) {
  const auto ms = [&](const char* name) { return terminal::number(number_of(quality, name)) + " ms"; };
  auto text = text_of(quality, "band") + ": round trip p50 " + ms("p50Ms") + ", p95 " + ms("p95Ms") +
              ", jitter " + ms("jitterMs");
  if (quality.contains("retransmitRatio"))
    text += "; sent again " + terminal::percent(number_of(quality, "retransmitRatio"));
  return text + "; pongs missed " + terminal::percent(number_of(quality, "missedPongRatio"));
}

void add_events(std::vector<std::string>& lines, const json& events) {
  if (!events.is_array()) return;
  const auto first = events.size() > kEventsShown ? events.size() - kEventsShown : 0;
  for (auto at = first; at < events.size(); ++at) {
    if (!events[at].is_object()) continue;
    lines.push_back(
        line(at == first ? "events" : "", text_of(events[at], "time") + " " + text_of(events[at], "what")));
  }
}

void add_lines(std::vector<std::string>& lines, const json& client, bool coloured) {
  const auto state = text_of(client, "state");
  auto head = name_of(client) + ": " + terminal::paint(state, colour_of(state), coloured) + " since " +
              text_of(client, "since");
  if (const auto why = text_of(client, "why"); !is_connected(client) && !why.empty()) head += ": " + why;
  lines.push_back(std::move(head));
  if (const auto serves = serves_text(client); !serves.empty()) lines.push_back(line("serves", serves));
  if (const auto id = text_of(client, "sessionId"); !id.empty()) lines.push_back(line("session", id));
  lines.push_back(line("attempts", attempts_text(client)));
  lines.push_back(line(text_of(client, "kind") == "agent" ? "sessions" : "streams", streams_text(client)));
  if (const auto& quality = member(client, "quality"); quality.is_object())
    lines.push_back(line("quality", quality_text(quality)));
  add_events(lines, member(client, "events"));
}

/// By what it is known again in another look.
bool is_same(const json& a, const json& b) {
  return member(a, "pid") == member(b, "pid") && member(a, "startedAt") == member(b, "startedAt");
}

const json* find(const ClientStates& among, const json& client) {
  const auto found =
      std::find_if(among.begin(), among.end(), [&](const json& other) { return is_same(other, client); });
  return found == among.end() ? nullptr : &*found;
}

bool differ(const json& a, const json& b) {
  for (const char* name : {"state", "since", "why", "sessionId", "attempts", "reconnects", "serves"})
    if (member(a, name) != member(b, name)) return true;
  return false;
}

std::string change_line(const json& client) {
  auto text = text_of(client, "since") + " " + name_of(client) + ": " + text_of(client, "state");
  if (const auto why = text_of(client, "why"); !why.empty()) text += ": " + why;
  return text + "; attempts " + attempts_text(client);
}

}  // namespace

Result<ClientStates> running_clients(const Session& session) {
  const auto* folder = session.variable("XDG_RUNTIME_DIR");
  return client::read_client_states(client::client_state_folder(folder == nullptr ? "" : *folder));
}

std::vector<std::string> client_lines(const ClientStates& clients, bool coloured) {
  std::vector<std::string> lines;
  for (const auto& client : clients) add_lines(lines, client, coloured);
  return lines;
}

std::vector<std::string> client_changes(const ClientStates& before, const ClientStates& now) {
  std::vector<std::string> lines;
  for (const auto& client : now) {
    const auto* known = find(before, client);
    if (known == nullptr || differ(*known, client)) lines.push_back(change_line(client));
  }
  for (const auto& client : before)
    if (find(now, client) == nullptr) lines.push_back(name_of(client) + ": ended");
  return lines;
}

json clients_json(const ClientStates& clients) {
  return json{{"clients", json(clients)}};
}

Result<ExitStatus> show_clients(Session& session) {
  const auto clients = running_clients(session);
  if (!clients) return tl::unexpected(clients.error());
  if (session.json())
    session.out << clients_json(*clients).dump(2, ' ', false, json::error_handler_t::replace) << '\n';
  else
    for (const auto& each : client_lines(*clients, session.coloured())) session.out << each << '\n';
  if (clients->empty()) session.say(kNobody);
  const bool all = !clients->empty() && std::all_of(clients->begin(), clients->end(), is_connected);
  return all ? ExitStatus::ok : ExitStatus::failure;
}

Result<ExitStatus> watch_clients(Session& session) {
  Refresh refresh(session);
  const bool in_place = session.out_is_terminal && !session.json();
  ClientStates before;
  bool first = true;
  do {
    auto now = running_clients(session);
    if (!now) return tl::unexpected(now.error());
    const auto changes = client_changes(before, *now);
    if (in_place)
      refresh.show(now->empty() ? std::vector<std::string>{kNobody} : client_lines(*now, session.coloured()));
    else if (session.json() && (first || !changes.empty()))
      refresh.show({clients_json(*now).dump(-1, ' ', false, json::error_handler_t::replace)});
    else
      for (const auto& each : changes) session.out << each << std::endl;
    if (!in_place && first && now->empty()) session.say(kNobody);
    before = std::move(*now);
    first = false;
  } while (refresh.wait(kLook));
  return ended_by_person(session);
}

}  // namespace tunnelctl
