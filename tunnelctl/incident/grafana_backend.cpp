#include "tunnelctl/incident/grafana_backend.h"

#include <algorithm>

#include "common/log.h"
#include "common/sha256.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/incident/remote.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl::incident {
namespace {

using grafana::flag_of;
using grafana::member;
using grafana::text_of;

constexpr const char* kDedup = "dedup";
constexpr const char* kNoteMark = "tunnelctl-note";
constexpr std::size_t kPage = 100;
constexpr std::size_t kMostPages = 1000;
constexpr std::size_t kMaxBody = 65'000;
constexpr unsigned kMostRefusals = 5;
constexpr const char* kAddActivity = "ActivityService.AddActivity";

/// IRM's own words; it has none below minor.
std::string_view irm_severity(Severity severity) {
  switch (severity) {
    case Severity::critical: return "critical";
    case Severity::error: return "major";
    default: return "minor";
  }
}

Json irm_label(std::string_view key, std::string_view value) {
  return {{"key", key}, {"label", value}, {"description", ""}, {"colorHex", ""}};
}

Json first_page() {
  return {{"nextValue", ""}, {"hasMore", false}};
}

/// The cursor of the next page; nullopt at the end. A cursor that stands still would never end.
Result<std::optional<Json>> next_page(const Json& answer, const Json& before) {
  const auto& cursor = member(answer, "cursor");
  const auto next = text_of(cursor, "nextValue");
  if (!flag_of(cursor, "hasMore") || next.empty()) return std::optional<Json>();
  if (next == text_of(before, "nextValue"))
    return fail(Error::Kind::unavailable, "the next page is said to be \"" + terminal::harmless(next) +
                                              "\" again, so the list has no end");
  return std::optional<Json>(Json{{"nextValue", next}, {"hasMore", true}});
}

bool worth_another_try(const Error& error) {
  return error.kind == Error::Kind::unavailable || error.kind == Error::Kind::timed_out ||
         error.kind == Error::Kind::cancelled;
}

bool is_older(const Incident& a, const Incident& b) {
  if (a.opened != b.opened) return a.opened < b.opened;
  if (a.id.size() != b.id.size()) return a.id.size() < b.id.size();
  return a.id < b.id;
}

}  // namespace

Result<Json> GrafanaBackend::ask(const std::string& method, Json body, bool asks) {
  const grafana::Call call{.method = "POST",
                           .path = "/api/plugins/" + plugin_ + "/resources/api/v1/" + method,
                           .body = std::move(body),
                           .asks = asks};
  auto answer = server_.call(call);
  if (!answer) return tl::unexpected(answer.error());
  // Refusals have a body of their own, {"message"}, in which the members that are looked for are just absent.
  if (!answer->ok()) {
    auto error = server_.error(call, *answer);
    // Handlers' errors are all 500, {"error"}.
    if (text_of(answer->json, "error").find("not found") != std::string::npos)
      error.kind = Error::Kind::not_found;
    else if (method == kAddActivity && answer->status == 500 && !text_of(answer->json, "error").empty()) {
      const auto asked = to_hex(sha256(call.body.dump(-1, ' ', false, Json::error_handler_t::replace)));
      if (++refused_[asked] >= kMostRefusals) {
        refused_.erase(asked);
        error.kind = Error::Kind::bad_input;
      }
    }
    if (answer->status == 404 && error.message.find("Plugin not found") != std::string::npos)
      error = {Error::Kind::bad_input,
               error.message + "; this Grafana has no incidents: choose another backend (--backend local)"};
    return tl::unexpected(std::move(error));
  }
  const auto where = "POST " + server_.url() + call.path + ": ";
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable, where + "the answer is no JSON: " + grafana::message_of(*answer));
  if (const auto said = text_of(answer->json, "error"); !said.empty())
    return fail(said.find("not found") == std::string::npos ? Error::Kind::bad_input : Error::Kind::not_found,
                where + terminal::harmless(said));
  return std::move(answer->json);
}

Result<Incident> GrafanaBackend::incident(const std::string& method, Json body, bool asks) {
  const auto id = text_of(body, "incidentID");
  const auto answer = ask(method, std::move(body), asks);
  if (!answer) return tl::unexpected(answer.error());
  auto incident = read_incident(member(*answer, "incident"));
  if (incident.id.empty())
    return fail(id.empty() ? Error::Kind::unavailable : Error::Kind::not_found,
                place() + ": " + method + ": the answer has no incident" +
                    (id.empty() ? "" : " \"" + terminal::harmless(id) + "\""));
  return incident;
}

Incident GrafanaBackend::read_incident(const Json& json) {
  Incident incident;
  incident.id = text_of(json, "incidentID");
  incident.backend = name();
  incident.title = text_of(json, "title");
  for (const char* key : {"severity", "severityLabel", "severityID"})
    if (const auto severity = severity_of(text_of(json, key))) {
      incident.severity = *severity;
      break;
    }
  incident.status = text_of(json, "status") == "resolved" ? Status::resolved : Status::active;
  incident.drill = flag_of(json, "isDrill");
  if (const auto& labels = member(json, "labels"); labels.is_array())
    for (const auto& label : labels) {
      const auto key = text_of(label, "key");
      if (key == kDedup)
        incident.dedup_key = text_of(label, "label");
      else
        incident.labels.push_back({key.empty() ? "tag" : key, text_of(label, "label")});
    }
  for (const char* key : {"incidentStart", "createdTime"})
    if (const auto time = moment_of(text_of(json, key))) {
      incident.opened = *time;
      break;
    }
  if (incident.status == Status::resolved)
    for (const char* key : {"incidentEnd", "closedTime", "modifiedTime"})
      if (!incident.resolved) incident.resolved = moment_of(text_of(json, key));
  incident.summary = text_of(json, "summary");
  const auto page = text_of(json, "overviewURL");
  incident.url = page.starts_with("/") ? server_.public_url() + page : page;
  return incident;
}

Result<Incident> GrafanaBackend::make(const Opening& opening) {
  Json labels = Json::array();
  for (const auto& label : opening.labels) labels.push_back(irm_label(label.key, label.value));
  labels.push_back(irm_label(kDedup, opening.dedup_key));
  const auto* first = opening.attachments.empty() ? nullptr : &opening.attachments.front();
  return incident("IncidentsService.CreateIncident",
                  {{"title", opening.title},
                   {"severity", irm_severity(opening.severity)},
                   {"labels", std::move(labels)},
                   {"roomPrefix", opening.room_prefix},
                   {"isDrill", opening.drill},
                   {"status", "active"},
                   {"attachCaption", first == nullptr ? "" : first->caption},
                   {"attachURL", first == nullptr ? "" : first->url},
                   {"alertGroupID", nullptr}});
}

Result<std::vector<Incident>> GrafanaBackend::open_ones(const std::string& dedup_key) {
  auto listed = list({.status = Status::active, .dedup_key = dedup_key, .limit = 0});
  if (!listed) return tl::unexpected(listed.error());
  std::sort(listed->incidents.begin(), listed->incidents.end(), is_older);
  return std::move(listed->incidents);
}

Result<Opened> GrafanaBackend::open(const Opening& opening) {
  if (opening.dedup_key.empty()) return fail(Error::Kind::bug, "an incident needs a dedup key");
  // What fails here is done when the key is opened again.
  const auto resolve_duplicates = [&](const std::vector<Incident>& all) {
    for (std::size_t i = 1; i < all.size(); ++i)
      (void)resolve(all[i].id,
                    {.key = "duplicate", .at = opening.at, .body = "The same as " + all.front().id});
  };
  const auto there = open_ones(opening.dedup_key);
  if (!there) return tl::unexpected(there.error());
  Opened opened{.made = there->empty()};
  if (!there->empty()) {
    resolve_duplicates(*there);
    opened.incident = there->front();
  } else {
    auto made = make(opening);
    if (!made) return tl::unexpected(made.error());
    opened.incident = std::move(*made);
    // Somebody may have made one in the same moment. When that cannot be found out, both stay.
    if (const auto all = open_ones(opening.dedup_key);
        all && !all->empty() && all->front().id != opened.incident.id) {
      resolve_duplicates(*all);
      opened = {.incident = all->front(), .made = false};
    }
  }
  std::string first_note = opening.summary;
  if (opening.attachments.size() > 1)
    first_note += (first_note.empty() ? "" : "\n\n") +
                  link_list({opening.attachments.begin() + 1, opening.attachments.end()});
  if (first_note.empty()) return opened;
  if (auto noted = note(opened.incident.id, {.key = "opening", .at = opening.at, .body = first_note});
      !noted) {
    const auto said =
        "incident " + opened.incident.id + " is open, but without its first note: " + noted.error().message;
    // It is there, and has to be ended by its id one day.
    if (worth_another_try(noted.error())) return fail(noted.error().kind, said);
    logging::error("incident", said);
  }
  return opened;
}

Result<Listed> GrafanaBackend::list(const Filter& filter) {
  std::string query;
  if (filter.drill) query += *filter.drill ? "isdrill:true" : "isdrill:false";
  if (filter.status) query += (query.empty() ? "status:" : " status:") + std::string(name_of(*filter.status));
  Listed listed;
  Json cursor = first_page();
  for (std::size_t page = 0; page < kMostPages; ++page) {
    const auto answer = ask("IncidentsService.QueryIncidentPreviews",
                            {{"query",
                              {{"limit", kPage},
                               {"orderDirection", "DESC"},
                               {"orderField", "createdTime"},
                               {"queryString", query}}},
                             {"cursor", cursor},
                             {"includeCustomFieldValues", false},
                             {"includeMembershipPreview", false}},
                            true);
    if (!answer) return tl::unexpected(answer.error());
    const auto& previews = member(*answer, "incidentPreviews");
    if (!previews.is_array() && !previews.is_null())
      return fail(Error::Kind::unavailable, place() + ": incidentPreviews is no list");
    for (const auto& one : previews) {
      auto incident = read_incident(one);
      if (incident.id.empty() || (filter.status && incident.status != *filter.status) ||
          (filter.drill && incident.drill != *filter.drill) ||
          (!filter.dedup_key.empty() && incident.dedup_key != filter.dedup_key) ||
          !has_labels(incident.labels, filter.labels))
        continue;
      if (filter.limit > 0 && listed.incidents.size() == filter.limit) {
        listed.more = true;
        return listed;
      }
      listed.incidents.push_back(std::move(incident));
    }
    auto next = next_page(*answer, cursor);
    if (!next) return fail(next.error().kind, place() + ": " + next.error().message);
    if (!*next) return listed;
    cursor = std::move(**next);
  }
  listed.more = true;
  return listed;
}

Result<std::vector<Note>> GrafanaBackend::activity(const std::string& id) {
  std::vector<Note> notes;
  Json cursor = first_page();
  for (std::size_t page = 0; page < kMostPages; ++page) {
    const auto answer = ask("ActivityService.QueryActivity",
                            {{"query",
                              {{"incidentID", id},
                               {"limit", kPage},
                               {"tag", ""},
                               {"orderDirection", "ASC"},
                               {"activityKind", nullptr}}},
                             {"cursor", cursor}},
                            true);
    if (!answer) return tl::unexpected(answer.error());
    const auto& items = member(*answer, "activityItems");
    if (items.is_array())
      for (const auto& item : items) {
        auto marked = unmarked(text_of(item, "body"), kNoteMark);
        const auto kind = text_of(item, "activityKind");
        auto at = moment_of(text_of(item, "eventTime"));
        if (!at) at = moment_of(text_of(item, "createdTime"));
        notes.push_back({.key = text_of(marked.facts, "key"),
                         .at = at.value_or(Time{}),
                         .body = std::move(marked.text),
                         .author = text_of(member(item, "user"), "name"),
                         .kind = kind == "userNote" ? "note" : kind});
      }
    auto next = next_page(*answer, cursor);
    if (!next) return fail(next.error().kind, place() + ": " + next.error().message);
    if (!*next) break;
    cursor = std::move(**next);
  }
  std::stable_sort(notes.begin(), notes.end(), [](const Note& a, const Note& b) { return a.at < b.at; });
  return notes;
}

Result<Incident> GrafanaBackend::read(const std::string& id) {
  auto found = incident("IncidentsService.GetIncident", {{"incidentID", id}}, true);
  if (!found) return found;
  auto notes = activity(id);
  if (!notes) return tl::unexpected(notes.error());
  found->notes = std::move(*notes);
  return found;
}

Result<void> GrafanaBackend::note(const std::string& id, const Note& note) {
  std::string body = note.body;
  if (!note.key.empty()) {
    const auto notes = activity(id);
    if (!notes) return tl::unexpected(notes.error());
    for (const auto& one : *notes)
      if (one.key == note.key) return {};
    body = mark(kNoteMark, {{"key", note.key}}) + "\n" + body;
  }
  body = cut(body, kMaxBody);
  const auto added = ask(kAddActivity, {{"incidentID", id},
                                        {"activityKind", "userNote"},
                                        {"body", body},
                                        {"fieldValues", nullptr},
                                        {"eventTime", note.at == Time{} ? "" : times::text(note.at)}});
  if (!added) return tl::unexpected(added.error());
  if (!member(*added, "activityItem").is_object())
    return fail(Error::Kind::unavailable, place() + ": ActivityService.AddActivity: the answer has no item");
  return {};
}

Result<Incident> GrafanaBackend::change(const std::string& id, const Changes& changes) {
  std::vector<std::pair<std::string, std::pair<std::string, Json>>> steps;  // what, method and body
  const auto step = [&](std::string what, const char* method, Json body) {
    body["incidentID"] = id;
    steps.push_back({std::move(what), {std::string("IncidentsService.") + method, std::move(body)}});
  };
  if (changes.title) step("the title", "UpdateTitle", {{"title", *changes.title}});
  if (changes.severity)
    step("the severity", "UpdateSeverity", {{"severity", irm_severity(*changes.severity)}});
  const auto present = incident("IncidentsService.GetIncident", {{"incidentID", id}}, true);
  if (!present) return present;
  for (const auto& label : present->labels) {
    const auto is_key = [&](const std::string& key) { return key == label.key; };
    const bool replaced = label.key != "tag" &&
                          std::any_of(changes.add_labels.begin(), changes.add_labels.end(),
                                      [&](const Label& one) { return one.key == label.key && one != label; });
    if (replaced || std::any_of(changes.remove_labels.begin(), changes.remove_labels.end(), is_key))
      step("label " + label.key, "UnassignLabel", {{"key", label.key}, {"value", label.value}});
  }
  for (const auto& label : changes.add_labels)
    if (!has_labels(present->labels, {label}))
      step("label " + label.key, "AssignLabel", {{"key", label.key}, {"value", label.value}});
  if (changes.status) step("the status", "UpdateStatus", {{"status", name_of(*changes.status)}});
  if (changes.status == Status::active && present->status == Status::resolved &&
      !present->dedup_key.empty()) {
    const auto open = open_ones(present->dedup_key);
    if (!open) return tl::unexpected(open.error());
    if (!open->empty()) return tl::unexpected(open_already(*present, open->front()));
  }
  std::string done;
  for (auto& [what, call] : steps) {
    if (const auto changed = incident(call.first, std::move(call.second)); !changed)
      return fail(changed.error().kind, (done.empty() ? "" : "changed already: " + done + "; ") +
                                            "not changed: " + what + ": " + changed.error().message);
    done += (done.empty() ? "" : ", ") + what;
  }
  return read(id);
}

Result<Incident> GrafanaBackend::resolve(const std::string& id, const Note& last) {
  const auto present = incident("IncidentsService.GetIncident", {{"incidentID", id}}, true);
  if (!present) return present;
  if (present->status == Status::resolved) return read(id);
  // In this order a repetition after either failure does what is missing.
  if (!last.body.empty())
    if (auto noted = note(id, last); !noted) {
      if (noted.error().kind != Error::Kind::bad_input) return tl::unexpected(noted.error());
      logging::error("incident",
                     "incident " + id + " is resolved without its last note: " + noted.error().message);
    }
  const auto resolved =
      incident("IncidentsService.UpdateStatus", {{"incidentID", id}, {"status", "resolved"}});
  if (!resolved) return resolved;
  return read(id);
}

}  // namespace tunnelctl::incident
