#include "tunnelctl/incident/github_backend.h"

#include <algorithm>

#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl::incident {
namespace {

using grafana::member;
using grafana::number_of;
using grafana::text_of;

constexpr const char* kMark = "tunnelctl-incident";
constexpr const char* kNoteMark = "tunnelctl-note";
constexpr const char* kLabel = "incident";
constexpr std::size_t kPage = 100;  // the most that GitHub gives
constexpr std::size_t kMostPages = 100;
constexpr std::size_t kMaxTitle = 256;
constexpr std::size_t kMaxBody = 65'000;  // GitHub's limit is 65536 characters

/// What an issue has no place for.
Json facts_of(const Incident& incident) {
  return {{"dedup_key", incident.dedup_key},
          {"severity", name_of(incident.severity)},
          {"drill", incident.drill},
          {"room_prefix", incident.room_prefix},
          {"labels", to_json(incident.labels)},
          {"attachments", to_json(incident.attachments)},
          {"opened", times::text(incident.opened)}};
}

/// The facts as people read them, before the summary.
std::string head_of(const Incident& incident) {
  std::string text;
  if (incident.drill) text += "**This is a drill.**\n\n";
  text += "Severity: " + std::string(name_of(incident.severity)) + "\n\n";
  for (const auto& label : incident.labels) text += "- " + label.key + ": `" + label.value + "`\n";
  if (!incident.labels.empty()) text += "\n";
  if (!incident.attachments.empty()) text += link_list(incident.attachments) + "\n";
  return text;
}

std::string body_of(const Incident& incident) {
  return cut(mark(kMark, facts_of(incident)) + "\n" + head_of(incident) + incident.summary, kMaxBody);
}

Json label_names(const Json& issue) {
  Json names = Json::array();
  if (const auto& labels = member(issue, "labels"); labels.is_array())
    for (const auto& label : labels)
      names.push_back(label.is_string() ? label : Json(text_of(label, "name")));
  return names;
}

bool has_label(const Json& issue) {
  const auto names = label_names(issue);
  return std::find(names.begin(), names.end(), kLabel) != names.end();
}

/// A number, with or without "#".
Result<std::string> number_in(const std::string& id) {
  const std::string digits = id.starts_with('#') ? id.substr(1) : id;
  if (digits.empty() || digits.size() > 15 || digits.find_first_not_of("0123456789") != std::string::npos)
    return fail(Error::Kind::bad_input,
                "\"" + terminal::harmless(id) + "\" is no number of an issue; they look like 42");
  return digits;
}

}  // namespace

Result<std::unique_ptr<GithubBackend>> GithubBackend::make(GithubOptions options) {
  const auto slash = options.repository.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == options.repository.size() ||
      options.repository.find('/', slash + 1) != std::string::npos)
    return fail(Error::Kind::bad_input,
                "incident.github.repository: must read owner/name, not \"" + options.repository + "\"");
  if (options.token.empty())
    return fail(Error::Kind::bad_input,
                "no GitHub token: set incident.github.token_file, or TUNNELCTL_INCIDENT_GITHUB_TOKEN");
  auto& remote = options.remote;
  remote.service = "GitHub";
  remote.setting = "incident.github.url";
  remote.url = options.url;
  remote.headers = {{"Accept", "application/vnd.github+json"},
                    {"X-GitHub-Api-Version", "2022-11-28"},
                    {"Authorization", "Bearer " + std::string(options.token.reveal())}};
  auto made = Remote::make(std::move(remote));
  if (!made) return tl::unexpected(made.error());
  const auto repository =
      escape(options.repository.substr(0, slash)) + "/" + escape(options.repository.substr(slash + 1));
  return std::unique_ptr<GithubBackend>(new GithubBackend(repository, std::move(*made)));
}

Incident GithubBackend::read_issue(const Json& issue) const {
  Incident incident;
  incident.id = std::to_string(number_of(issue, "number"));
  incident.backend = name();
  incident.title = text_of(issue, "title");
  incident.url = text_of(issue, "html_url");
  incident.status = text_of(issue, "state") == "closed" ? Status::resolved : Status::active;
  auto marked = unmarked(text_of(issue, "body"), kMark);
  incident.dedup_key = text_of(marked.facts, "dedup_key");
  incident.severity = severity_of(text_of(marked.facts, "severity")).value_or(Severity::critical);
  incident.drill = grafana::flag_of(marked.facts, "drill");
  incident.room_prefix = text_of(marked.facts, "room_prefix");
  incident.labels = labels_of(member(marked.facts, "labels"));
  incident.attachments = attachments_of(member(marked.facts, "attachments"));
  auto opened = moment_of(text_of(marked.facts, "opened"));
  if (!opened) opened = moment_of(text_of(issue, "created_at"));
  incident.opened = opened.value_or(Time{});
  incident.resolved = moment_of(text_of(issue, "closed_at"));
  // GitHub's own editor makes ends of lines as in HTTP.
  std::erase(marked.text, '\r');
  const auto head = head_of(incident);
  incident.summary = marked.text.starts_with(head) ? marked.text.substr(head.size()) : marked.text;
  return incident;
}

Result<Json> GithubBackend::issue(const std::string& id) {
  const auto number = number_in(id);
  if (!number) return tl::unexpected(number.error());
  auto found = remote_.json({.path = path("/" + *number)});
  if (!found && found.error().kind == Error::Kind::not_found) {
    const auto repository = remote_.json({.path = "/repos/" + repository_});
    // GitHub says 404 also of what a token may not see.
    if (!repository && repository.error().kind == Error::Kind::not_found)
      return fail(Error::Kind::denied, repository.error().message +
                                           "; look at incident.github.repository, and at what the token may "
                                           "see");
  }
  if (!found) return found;
  if (!found->is_object() || number_of(*found, "number") == 0)
    return fail(Error::Kind::unavailable, "GitHub: the answer is no issue");
  if (!has_label(*found) || found->contains("pull_request"))
    return fail(Error::Kind::not_found, "issue " + *number + " of " + repository_ +
                                            " is no incident: it has no label \"" + kLabel + "\"");
  return found;
}

Result<Json> GithubBackend::patch(const std::string& id, Json body) {
  const auto number = number_in(id);
  if (!number) return tl::unexpected(number.error());
  return remote_.json(
      {.method = "PATCH", .path = path("/" + *number), .body = std::move(body), .repeatable = true});
}

Result<std::vector<Incident>> GithubBackend::open_ones(const std::string& dedup_key) {
  auto listed = list({.status = Status::active, .dedup_key = dedup_key, .limit = 0});
  if (!listed) return tl::unexpected(listed.error());
  if (listed->more)
    return fail(Error::Kind::unavailable, place() + ": too many open incidents to look through");
  std::reverse(listed->incidents.begin(), listed->incidents.end());
  return std::move(listed->incidents);
}

Result<Opened> GithubBackend::open(const Opening& opening) {
  if (opening.dedup_key.empty()) return fail(Error::Kind::bug, "an incident needs a dedup key");
  // What fails here is done when the key is opened again.
  const auto close_duplicates = [&](const std::vector<Incident>& all) {
    for (std::size_t i = 1; i < all.size(); ++i) {
      (void)note(all[i].id, {.key = "duplicate", .at = opening.at, .body = "The same as #" + all.front().id});
      (void)patch(all[i].id, {{"state", "closed"}, {"state_reason", "not_planned"}});
    }
  };
  auto there = open_ones(opening.dedup_key);
  if (!there) return tl::unexpected(there.error());
  if (!there->empty()) {
    close_duplicates(*there);
    return Opened{.incident = std::move(there->front()), .made = false};
  }
  auto incident = incident_of(opening);
  Json labels = {kLabel, "severity:" + std::string(name_of(opening.severity))};
  if (opening.drill) labels.push_back("drill");
  const RemoteCall call{.method = "POST",
                        .path = path(),
                        .body = {{"title", cut((opening.drill ? "[DRILL] " : "") + opening.title, kMaxTitle)},
                                 {"body", body_of(incident)},
                                 {"labels", std::move(labels)}}};
  const auto answer = remote_.json(call);
  if (!answer) return tl::unexpected(answer.error());
  auto made = read_issue(*answer);
  if (made.id == "0") return fail(Error::Kind::unavailable, "GitHub: the answer is no issue");
  // Who may only write issues gets them without labels and without a word: it would never be found again.
  if (!has_label(*answer)) {
    (void)patch(made.id, {{"state", "closed"}, {"state_reason", "not_planned"}});
    return fail(Error::Kind::denied,
                "GitHub: " + made.url +
                    ": the token may not set labels, so the issue was closed again; give "
                    "it write access to the repository");
  }
  // Somebody may have made one in the same moment.
  if (auto all = open_ones(opening.dedup_key); all && !all->empty() && all->front().id != made.id) {
    close_duplicates(*all);
    return Opened{.incident = std::move(all->front()), .made = false};
  }
  return Opened{.incident = std::move(made)};
}

Result<Listed> GithubBackend::list(const Filter& filter) {
  const std::string state = !filter.status ? "all" : *filter.status == Status::active ? "open" : "closed";
  Listed listed;
  for (std::size_t page = 1; page <= kMostPages; ++page) {
    const auto answer =
        remote_.json({.path = path("?labels=" + std::string(kLabel) + "&state=" + state +
                                   "&sort=created&direction=desc&per_page=" + std::to_string(kPage) +
                                   "&page=" + std::to_string(page))});
    if (!answer) return tl::unexpected(answer.error());
    if (!answer->is_array()) return fail(Error::Kind::unavailable, "GitHub: the answer is no list of issues");
    for (const auto& issue : *answer) {
      if (issue.contains("pull_request")) continue;
      auto incident = read_issue(issue);
      if ((filter.drill && incident.drill != *filter.drill) ||
          (!filter.dedup_key.empty() && incident.dedup_key != filter.dedup_key) ||
          !has_labels(incident.labels, filter.labels))
        continue;
      if (filter.limit > 0 && listed.incidents.size() == filter.limit) {
        listed.more = true;
        return listed;
      }
      listed.incidents.push_back(std::move(incident));
    }
    if (answer->size() < kPage) return listed;
  }
  listed.more = true;
  return listed;
}

Result<std::vector<Note>> GithubBackend::comments(const std::string& id) {
  std::vector<Note> notes;
  for (std::size_t page = 1; page <= kMostPages; ++page) {
    const auto answer = remote_.json({.path = path("/" + id + "/comments?per_page=" + std::to_string(kPage) +
                                                   "&page=" + std::to_string(page))});
    if (!answer) return tl::unexpected(answer.error());
    if (!answer->is_array())
      return fail(Error::Kind::unavailable, "GitHub: the answer is no list of comments");
    for (const auto& one : *answer) {
      auto marked = unmarked(text_of(one, "body"), kNoteMark);
      auto at = moment_of(text_of(marked.facts, "at"));
      if (!at) at = moment_of(text_of(one, "created_at"));
      notes.push_back({.key = text_of(marked.facts, "key"),
                       .at = at.value_or(Time{}),
                       .body = std::move(marked.text),
                       .author = text_of(member(one, "user"), "login")});
    }
    if (answer->size() < kPage) break;
  }
  return notes;
}

Result<Incident> GithubBackend::read(const std::string& id) {
  const auto found = issue(id);
  if (!found) return tl::unexpected(found.error());
  auto incident = read_issue(*found);
  auto notes = comments(incident.id);
  if (!notes) return tl::unexpected(notes.error());
  incident.notes = std::move(*notes);
  return incident;
}

Result<void> GithubBackend::note(const std::string& id, const Note& note) {
  const auto found = issue(id);
  if (!found) return tl::unexpected(found.error());
  const auto number = std::to_string(number_of(*found, "number"));
  Json facts{{"at", times::text(note.at)}};
  if (!note.key.empty()) {
    const auto present = comments(number);
    if (!present) return tl::unexpected(present.error());
    for (const auto& one : *present)
      if (one.key == note.key) return {};
    facts["key"] = note.key;
  }
  const auto added =
      remote_.json({.method = "POST",
                    .path = path("/" + number + "/comments"),
                    .body = {{"body", cut(mark(kNoteMark, facts) + "\n" + note.body, kMaxBody)}}});
  if (!added) return tl::unexpected(added.error());
  return {};
}

Result<Incident> GithubBackend::change(const std::string& id, const Changes& changes) {
  const auto found = issue(id);
  if (!found) return tl::unexpected(found.error());
  auto incident = read_issue(*found);
  Json body = Json::object();
  if (changes.title) body["title"] = cut((incident.drill ? "[DRILL] " : "") + *changes.title, kMaxTitle);
  for (const auto& key : changes.remove_labels)
    std::erase_if(incident.labels, [&](const Label& label) { return label.key == key; });
  for (const auto& label : changes.add_labels) add_label(incident.labels, label);
  if (changes.severity) {
    incident.severity = *changes.severity;
    Json labels = Json::array();
    for (const auto& name : label_names(*found))
      if (!name.get<std::string>().starts_with("severity:")) labels.push_back(name);
    labels.push_back("severity:" + std::string(name_of(incident.severity)));
    body["labels"] = std::move(labels);
  }
  if (changes.severity || !changes.add_labels.empty() || !changes.remove_labels.empty())
    body["body"] = body_of(incident);
  if (changes.status == Status::active && incident.status == Status::resolved) {
    const auto open = open_ones(incident.dedup_key);
    if (!open) return tl::unexpected(open.error());
    if (!incident.dedup_key.empty() && !open->empty())
      return tl::unexpected(open_already(incident, open->front()));
  }
  if (changes.status) {
    body["state"] = *changes.status == Status::active ? "open" : "closed";
    body["state_reason"] = *changes.status == Status::active ? "reopened" : "completed";
  }
  if (!body.empty())
    if (const auto changed = patch(incident.id, std::move(body)); !changed)
      return tl::unexpected(changed.error());
  return read(incident.id);
}

Result<Incident> GithubBackend::resolve(const std::string& id, const Note& last) {
  const auto found = issue(id);
  if (!found) return tl::unexpected(found.error());
  const auto incident = read_issue(*found);
  if (incident.status == Status::active) {
    if (!last.body.empty())
      if (auto noted = note(incident.id, last); !noted) return tl::unexpected(noted.error());
    if (const auto closed = patch(incident.id, {{"state", "closed"}, {"state_reason", "completed"}}); !closed)
      return tl::unexpected(closed.error());
  }
  return read(incident.id);
}

}  // namespace tunnelctl::incident
