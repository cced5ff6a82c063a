#include "tunnelctl/incident/pagerduty_backend.h"

#include <algorithm>

#include "common/log.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl::incident {
namespace {

using grafana::flag_of;
using grafana::member;
using grafana::text_of;

constexpr std::size_t kMaxKey = 255;
constexpr std::size_t kMaxSummary = 1024;
constexpr std::size_t kMaxEvent = 512 * 1024;
constexpr std::size_t kPage = 100;
constexpr std::size_t kMostPages = 100;  // PagerDuty gives no more than 10,000 of a list
constexpr std::string_view kNoteMark = "\n\nref: ";
/// What PagerDuty does not show so long after the event, it never shows.
constexpr auto kShows = std::chrono::minutes(2);
/// So long after the trigger another one adds to its incident: hardly anybody resolves it earlier.
constexpr auto kStaysOpen = std::chrono::minutes(5);
/// By which its clock and ours may differ.
constexpr auto kSkew = std::chrono::seconds(5);

std::string key_of(const std::string& dedup_key) {
  return short_key(dedup_key, kMaxKey);
}

std::string label_of(const std::vector<Label>& labels, std::initializer_list<std::string_view> keys) {
  for (const auto key : keys)
    for (const auto& label : labels)
      if (label.key == key) return label.value;
  return {};
}

/// The newest that is active, else the newest.
const Json* best_of(const Json& list) {
  if (!list.is_array()) return nullptr;
  const Json* best = nullptr;
  for (const auto& one : list) {
    const bool active = text_of(one, "status") != "resolved";
    if (best == nullptr || (active && text_of(*best, "status") == "resolved")) best = &one;
  }
  return best;
}

bool looks_like_rest_id(const std::string& id) {
  return id.size() >= 7 && id.size() <= 20 && (id[0] == 'P' || id[0] == 'Q') &&
         id.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == std::string::npos;
}

}  // namespace

Result<std::unique_ptr<PagerdutyBackend>> PagerdutyBackend::make(PagerdutyOptions options) {
  if (options.routing_key.empty())
    return fail(Error::Kind::bad_input,
                "no PagerDuty routing key: set incident.pagerduty.routing_key_file, or "
                "TUNNELCTL_INCIDENT_PAGERDUTY_ROUTING_KEY");
  if (!options.api_token.empty() && options.from.find('@') == std::string::npos)
    return fail(
        Error::Kind::bad_input,
        "incident.pagerduty.from: must be the e-mail address of a user of the account, since there is an "
        "api_token_file");
  if (!options.now)
    options.now = [] {
      return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
    };
  auto remote = options.remote;
  remote.service = "PagerDuty";
  remote.setting = "incident.pagerduty.url";
  remote.url = options.url;
  auto events = Remote::make(remote);
  if (!events) return tl::unexpected(events.error());
  std::optional<Remote> rest;
  if (!options.api_token.empty()) {
    remote.setting = "incident.pagerduty.api_url";
    remote.url = options.api_url;
    remote.headers = {{"Accept", "application/vnd.pagerduty+json;version=2"},
                      {"Authorization", "Token token=" + std::string(options.api_token.reveal())},
                      {"From", options.from}};
    auto made = Remote::make(remote);
    if (!made) return tl::unexpected(made.error());
    rest.emplace(std::move(*made));
  }
  return std::unique_ptr<PagerdutyBackend>(
      new PagerdutyBackend(std::move(options), std::move(*events), std::move(rest)));
}

Result<void> PagerdutyBackend::send(Json event) {
  event["routing_key"] = std::string(options_.routing_key.reveal());
  // The summary is the only part that can be this large.
  while (event.dump(-1, ' ', false, Json::error_handler_t::replace).size() > kMaxEvent) {
    auto& details = event["payload"]["custom_details"];
    const auto longest =
        text_of(details, "note").size() > text_of(details, "summary").size() ? "note" : "summary";
    const auto text = text_of(details, longest);
    if (text.size() < 100) return fail(Error::Kind::bad_input, "PagerDuty: the event is larger than 512 KB");
    details[longest] = cut(text, text.size() / 2);
  }
  // The dedup_key makes a repetition harmless.
  const RemoteCall call{
      .method = "POST", .path = "/v2/enqueue", .body = std::move(event), .repeatable = true};
  const auto answer = events_.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok() || text_of(answer->json, "status") != "success")
    return tl::unexpected(events_.error(call, *answer));
  return {};
}

Json PagerdutyBackend::trigger(const Opening& opening) const {
  Json labels = Json::object();
  for (const auto& label : opening.labels) {
    auto& value = labels[label.key];
    value = value.is_null() ? label.value : value.get<std::string>() + ", " + label.value;
  }
  Json links = Json::array();
  for (const auto& one : opening.attachments)
    links.push_back({{"href", one.url}, {"text", one.caption.empty() ? one.url : one.caption}});
  const auto instance = label_of(opening.labels, {"instance", "host"});
  Json payload{{"summary", cut((opening.drill ? "[DRILL] " : "") + opening.title, kMaxSummary)},
               {"source", instance.empty() ? options_.source : instance},
               {"severity", name_of(opening.severity)},
               {"timestamp", times::text(opening.at)},
               {"custom_details",
                {{"summary", opening.summary},
                 {"labels", std::move(labels)},
                 {"drill", opening.drill},
                 {"room_prefix", opening.room_prefix}}}};
  if (const auto component = label_of(opening.labels, {"upstream", "service"}); !component.empty())
    payload["component"] = component;
  return {{"event_action", "trigger"},
          {"dedup_key", key_of(opening.dedup_key)},
          {"payload", std::move(payload)},
          {"client", "tunnelctl"},
          {"links", std::move(links)}};
}

Result<void> PagerdutyBackend::needs_rest(const char* what) const {
  if (rest_) return {};
  return fail(Error::Kind::bug, std::string("PagerDuty's Events API cannot ") + what +
                                    ": set incident.pagerduty.api_token_file and incident.pagerduty.from, or "
                                    "look at PagerDuty's own page");
}

Result<Opened> PagerdutyBackend::open(const Opening& opening) {
  if (opening.dedup_key.empty()) return fail(Error::Kind::bug, "an incident needs a dedup key");
  const auto key = key_of(opening.dedup_key);
  Trigger made{.opening = opening, .sent = options_.now()};
  if (rest_) {
    auto there = found(key);
    if (!there && there.error().kind != Error::Kind::not_found) return tl::unexpected(there.error());
    // One that was just ended may be shown as it was.
    const auto end = ended_.find(key);
    const bool ending = end != ended_.end() && made.sent - end->second.sent < kShows;
    if (there && !ending && text_of(*there, "status") != "resolved")
      return Opened{.incident = read_incident(*there), .made = false};
    if (there) made.before = text_of(*there, "id");
  }
  if (auto sent = send(trigger(opening)); !sent) return tl::unexpected(sent.error());
  opened_.insert_or_assign(key, std::move(made));
  ended_.erase(key);
  Opened opened{.incident = incident_of(opening)};
  opened.incident.id = key;
  opened.incident.backend = name();
  return opened;
}

Incident PagerdutyBackend::read_incident(const Json& json) const {
  Incident incident;
  incident.backend = name();
  incident.dedup_key = text_of(json, "incident_key");
  incident.id = incident.dedup_key.empty() ? text_of(json, "id") : incident.dedup_key;
  incident.title = text_of(json, "title");
  incident.drill = incident.title.starts_with("[DRILL] ");
  incident.url = text_of(json, "html_url");
  incident.status = text_of(json, "status") == "resolved" ? Status::resolved : Status::active;
  // The severity is the alert's; an incident only has an urgency.
  incident.severity = text_of(json, "urgency") == "low" ? Severity::warning : Severity::critical;
  incident.opened = moment_of(text_of(json, "created_at")).value_or(Time{});
  if (incident.status == Status::resolved) {
    incident.resolved = moment_of(text_of(json, "resolved_at"));
    if (!incident.resolved) incident.resolved = moment_of(text_of(json, "last_status_change_at"));
  }
  return incident;
}

Result<Json> PagerdutyBackend::found(const std::string& id) {
  const auto answer = rest_->json({.path = "/incidents?incident_key=" + escape(id) +
                                           "&date_range=all&sort_by=created_at%3Adesc&limit=100"});
  if (!answer) return tl::unexpected(answer.error());
  if (const auto* best = best_of(member(*answer, "incidents"))) {
    Json incident = *best;
    // One that was made of alerts has the key at its alerts only.
    if (text_of(incident, "incident_key").empty()) incident["incident_key"] = id;
    return incident;
  }
  const Error none{Error::Kind::not_found, "PagerDuty: there is no incident \"" + terminal::harmless(id) +
                                               "\"; one that was just opened needs some seconds"};
  if (!looks_like_rest_id(id)) return tl::unexpected(none);
  const auto by_id = rest_->json({.path = "/incidents/" + escape(id)});
  if (!by_id) return tl::unexpected(by_id.error().kind == Error::Kind::not_found ? none : by_id.error());
  if (!member(*by_id, "incident").is_object()) return tl::unexpected(none);
  return member(*by_id, "incident");
}

Result<Json> PagerdutyBackend::shown(const std::string& id, const Note& note) {
  auto json = found(id);
  if (!json && json.error().kind != Error::Kind::not_found) return json;
  const auto now = options_.now();
  const auto mine = opened_.find(id);
  const bool opened_now = mine != opened_.end() && now - mine->second.sent < kShows;
  // What another run opened is known by its note's key only: a person's note has none.
  const bool may_come = opened_now || (!note.key.empty() && now - note.at < kShows);
  bool is_earlier = false;
  if (json && text_of(*json, "id") != id) {
    const bool resolved = text_of(*json, "status") == "resolved";
    if (mine != opened_.end()) {
      is_earlier = text_of(*json, "id") == mine->second.before && (resolved || opened_now);
    } else if (resolved && !note.key.empty()) {
      const auto incident = read_incident(*json);
      is_earlier = incident.resolved && *incident.resolved + kSkew < note.at && may_come;
    }
  }
  if (json && !is_earlier) return json;
  const std::string who = "PagerDuty: there is no incident \"" + terminal::harmless(id) + "\"";
  if (may_come)
    return fail(Error::Kind::unavailable, who + " yet; it shows one some seconds after its event");
  // A program would go on asking for what is not found.
  return fail(note.key.empty() ? Error::Kind::not_found : Error::Kind::bad_input,
              json ? who + " but an earlier one" : who + "; one that was just opened needs some seconds");
}

Result<std::vector<Note>> PagerdutyBackend::notes(const std::string& rest_id) {
  const auto answer = rest_->json({.path = "/incidents/" + escape(rest_id) + "/notes"});
  if (!answer) return tl::unexpected(answer.error());
  if (!member(*answer, "notes").is_array())
    return fail(Error::Kind::unavailable, "PagerDuty: the answer has no notes");
  std::vector<Note> notes;
  for (const auto& one : member(*answer, "notes")) {
    Note note{.at = moment_of(text_of(one, "created_at")).value_or(Time{}),
              .body = text_of(one, "content"),
              .author = text_of(member(one, "user"), "summary")};
    if (const auto at = note.body.rfind(kNoteMark); at != std::string::npos) {
      note.key = note.body.substr(at + kNoteMark.size());
      note.body.resize(at);
    }
    notes.push_back(std::move(note));
  }
  std::stable_sort(notes.begin(), notes.end(), [](const Note& a, const Note& b) { return a.at < b.at; });
  return notes;
}

Result<Listed> PagerdutyBackend::list(const Filter& filter) {
  if (auto able = needs_rest("list incidents"); !able) return tl::unexpected(able.error());
  if (!filter.labels.empty())
    return fail(Error::Kind::bug, "PagerDuty's incidents have no labels to look for; leave --label out");
  std::string query = "/incidents?date_range=all&sort_by=created_at%3Adesc&limit=" + std::to_string(kPage);
  if (filter.status == Status::active) query += "&statuses%5B%5D=triggered&statuses%5B%5D=acknowledged";
  if (filter.status == Status::resolved) query += "&statuses%5B%5D=resolved";
  if (!filter.dedup_key.empty()) query += "&incident_key=" + escape(key_of(filter.dedup_key));
  Listed listed;
  for (std::size_t page = 0; page < kMostPages; ++page) {
    const auto answer = rest_->json({.path = query + "&offset=" + std::to_string(page * kPage)});
    if (!answer) return tl::unexpected(answer.error());
    const auto& incidents = member(*answer, "incidents");
    if (!incidents.is_array())
      return fail(Error::Kind::unavailable, "PagerDuty: the answer has no incidents");
    for (const auto& one : incidents) {
      auto incident = read_incident(one);
      if (incident.dedup_key.empty() && !filter.dedup_key.empty())
        incident.id = incident.dedup_key = key_of(filter.dedup_key);
      if (filter.drill && incident.drill != *filter.drill) continue;
      if (filter.limit > 0 && listed.incidents.size() == filter.limit) {
        listed.more = true;
        return listed;
      }
      listed.incidents.push_back(std::move(incident));
    }
    if (!flag_of(*answer, "more")) return listed;
  }
  listed.more = true;
  return listed;
}

Result<Incident> PagerdutyBackend::read(const std::string& id) {
  if (auto able = needs_rest("show an incident"); !able) return tl::unexpected(able.error());
  const auto json = found(id);
  if (!json) return tl::unexpected(json.error());
  return read_all(*json);
}

Result<Incident> PagerdutyBackend::read_all(const Json& json) {
  auto incident = read_incident(json);
  const auto rest_id = text_of(json, "id");
  auto written = notes(rest_id);
  if (!written) return tl::unexpected(written.error());
  incident.notes = std::move(*written);
  // What the first event said; an incident that was made by hand has none.
  const auto alerts = rest_->json({.path = "/incidents/" + escape(rest_id) + "/alerts?limit=1"});
  if (!alerts) return incident;
  const auto& list = member(*alerts, "alerts");
  if (!list.is_array() || list.empty()) return incident;
  if (const auto key = text_of(list.front(), "alert_key"); incident.dedup_key.empty() && !key.empty())
    incident.id = incident.dedup_key = key;
  if (const auto severity = severity_of(text_of(list.front(), "severity"))) incident.severity = *severity;
  const auto& details = member(member(member(list.front(), "body"), "cef_details"), "details");
  incident.summary = text_of(details, "summary");
  incident.room_prefix = text_of(details, "room_prefix");
  incident.drill = incident.drill || flag_of(details, "drill");
  if (const auto& labels = member(details, "labels"); labels.is_object())
    for (const auto& [key, value] : labels.items())
      if (value.is_string()) incident.labels.push_back({key, value.get<std::string>()});
  return incident;
}

void PagerdutyBackend::knows(const std::string& id, const Opening& opening) {
  // With the REST API the incident is asked for. When another run sent the trigger nobody wrote down.
  if (!rest_ && !id.empty()) opened_.try_emplace(key_of(id), Trigger{.opening = opening, .sent = opening.at});
}

Result<void> PagerdutyBackend::note(const std::string& id, const Note& note) {
  const auto key = key_of(id);
  if (!rest_) {
    const auto mine = opened_.find(key);
    if (mine == opened_.end() || options_.now() - mine->second.sent > kStaysOpen)
      return needs_rest("add a note to what another run, or this one long ago, opened");
    auto event = trigger(mine->second.opening);
    event["payload"]["custom_details"]["note"] = note.body;
    return send(std::move(event));
  }
  const auto json = shown(key, note);
  if (!json) return tl::unexpected(json.error());
  return add_note(text_of(*json, "id"), note);
}

Result<void> PagerdutyBackend::add_note(const std::string& rest_id, const Note& note) {
  std::string content = note.body;
  if (!note.key.empty()) {
    const auto present = notes(rest_id);
    if (!present) return tl::unexpected(present.error());
    for (const auto& one : *present)
      if (one.key == note.key) return {};
    content += std::string(kNoteMark) + note.key;
  }
  const auto added = rest_->json({.method = "POST",
                                  .path = "/incidents/" + escape(rest_id) + "/notes",
                                  .body = {{"note", {{"content", content}}}}});
  if (!added) return tl::unexpected(added.error());
  return {};
}

Result<Incident> PagerdutyBackend::change(const std::string& id, const Changes& changes) {
  if (changes.severity || !changes.add_labels.empty() || !changes.remove_labels.empty())
    return fail(Error::Kind::bug,
                "PagerDuty keeps the severity and the labels of the first event; say what changed in a note");
  if (changes.status == Status::active)
    return fail(Error::Kind::bug,
                "PagerDuty opens nothing again; make a new incident with the same --dedup-key");
  if (changes.title) {
    if (auto able = needs_rest("change a title"); !able) return tl::unexpected(able.error());
    const auto json = found(key_of(id));
    if (!json) return tl::unexpected(json.error());
    const bool drill = text_of(*json, "title").starts_with("[DRILL] ");
    const auto title = cut((drill ? "[DRILL] " : "") + *changes.title, kMaxSummary);
    const auto changed =
        rest_->json({.method = "PUT",
                     .path = "/incidents/" + escape(text_of(*json, "id")),
                     .body = {{"incident", {{"type", "incident_reference"}, {"title", title}}}},
                     .repeatable = true});
    if (!changed) return tl::unexpected(changed.error());
  }
  if (changes.status) {
    auto resolved = resolve(id, {.at = changes.at});
    if (!resolved && changes.title)
      return fail(resolved.error().kind,
                  "the title was changed, but the status not: " + resolved.error().message);
    return resolved;
  }
  return read(id);
}

Result<Incident> PagerdutyBackend::resolve(const std::string& id, const Note& last) {
  const auto key = key_of(id);
  if (rest_ && looks_like_rest_id(key) && !opened_.contains(key)) {
    const auto json = found(key);
    if (!json) return tl::unexpected(json.error());
    if (text_of(*json, "id") == key) return resolve_found(*json, last);
  }
  return resolve_made_here(key, last);
}

Result<Incident> PagerdutyBackend::resolve_made_here(const std::string& key, const Note& last) {
  Incident incident;
  incident.id = key;
  incident.backend = name();
  incident.dedup_key = key;
  incident.opened = last.at;
  // Before the event, to know whether it is this that ends it.
  const auto before = rest_ ? found(key) : Result<Json>(Json());
  const bool was_active = before && text_of(*before, "status") != "resolved";
  // Always sent, since PagerDuty may not show yet what it is to end; but once, since the key may have been
  // opened anew when the note is tried again.
  const auto end = ended_.find(key);
  if (end == ended_.end() || end->second.at != last.at) {
    if (auto sent = send({{"event_action", "resolve"}, {"dedup_key", key}}); !sent)
      return tl::unexpected(sent.error());
    ended_.insert_or_assign(key, End{.at = last.at, .sent = options_.now()});
  }
  incident.status = Status::resolved;
  incident.resolved = last.at;
  if (!rest_) {
    opened_.erase(key);
    return incident;
  }
  // It has its end; only what may still be added is worth asking for again.
  const auto without_note = [&](const Error& why) -> Result<Incident> {
    const auto said = "\"" + key + "\" was told to end, but without its last note: " + why.message;
    if (why.kind == Error::Kind::unavailable || why.kind == Error::Kind::timed_out ||
        why.kind == Error::Kind::cancelled)
      return fail(why.kind, said);
    if (!last.key.empty()) logging::error("incident", said);
    return incident;
  };
  const auto json = shown(key, last);
  if (!json) return last.body.empty() ? Result<Incident>(incident) : without_note(json.error());
  const auto rest_id = text_of(*json, "id");
  const bool adds = !last.body.empty() && (was_active || !last.key.empty());
  if (adds)
    if (auto noted = add_note(rest_id, last); !noted) return without_note(noted.error());
  opened_.erase(key);
  if (auto whole = read_all(*json)) {
    incident = std::move(*whole);
  } else {
    incident = read_incident(*json);
    if (adds) incident.notes.push_back(last);
  }
  incident.status = Status::resolved;
  if (!incident.resolved) incident.resolved = last.at;
  return incident;
}

Result<Incident> PagerdutyBackend::resolve_found(const Json& json, const Note& last) {
  auto incident = read_all(json);
  if (!incident) return incident;
  const auto rest_id = text_of(json, "id");
  const bool was_active = incident->status == Status::active;
  if (!last.body.empty() && (was_active || !last.key.empty())) {
    if (auto noted = add_note(rest_id, last); !noted) return tl::unexpected(noted.error());
    incident->notes.push_back(last);
  }
  if (!was_active) return incident;
  if (!incident->dedup_key.empty()) {
    if (auto sent = send({{"event_action", "resolve"}, {"dedup_key", incident->dedup_key}}); !sent)
      return tl::unexpected(sent.error());
  } else {
    // Made by hand in PagerDuty: there is no key that an event could name.
    const auto done =
        rest_->json({.method = "PUT",
                     .path = "/incidents/" + escape(rest_id),
                     .body = {{"incident", {{"type", "incident_reference"}, {"status", "resolved"}}}},
                     .repeatable = true});
    if (!done) return tl::unexpected(done.error());
  }
  incident->status = Status::resolved;
  incident->resolved = last.at;
  return incident;
}

}  // namespace tunnelctl::incident
