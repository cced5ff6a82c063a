#include <ostream>

#include "tunnelctl/commands/incident_settings.h"
#include "tunnelctl/commands/incident_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/incident/detect.h"
#include "tunnelctl/incident/timeline.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

using incident::Incident;

struct IncidentList {
  IncidentFlags flags{};
  std::string status{};
  std::vector<std::string> labels{};
  bool drills = false;
  bool no_drills = false;
  std::size_t limit = 50;
};
struct IncidentShow {
  IncidentFlags flags{};
  std::string id{};
};
struct IncidentExport {
  IncidentFlags flags{};
  std::string id{};
  std::string format = "markdown";
};

std::string shown_labels(const std::vector<incident::Label>& labels) {
  std::string text;
  for (const auto& label : labels)
    text += (text.empty() ? "" : ", ") + (label.key == "tag" ? "" : label.key + "=") + label.value;
  return text;
}

terminal::Colour colour(const Incident& incident) {
  if (incident.status == incident::Status::resolved) return terminal::Colour::grey;
  return incident.severity == incident::Severity::critical ? terminal::Colour::red : terminal::Colour::yellow;
}

Result<ExitStatus> run(const IncidentList& options, Session& session) {
  incident::Filter filter{.limit = options.limit};
  if (!options.status.empty()) {
    const auto status = incident::status_of(options.status);
    if (!status) return fail(status.error().kind, "--status: " + status.error().message);
    filter.status = *status;
  }
  if (options.drills || options.no_drills) filter.drill = options.drills;
  auto labels = incident_labels(options.labels);
  if (!labels) return tl::unexpected(labels.error());
  filter.labels = std::move(*labels);
  auto choice = named_backend(options.flags, session, Access::read);
  if (!choice) return tl::unexpected(choice.error());
  const auto listed = choice->backend->list(filter);
  if (!listed) return tl::unexpected(listed.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : listed->incidents) {
      list.push_back(to_json(one));
      list.back().erase("notes");
    }
    session.out << pretty(
        {{"incidents", std::move(list)}, {"more", listed->more}, {"backend", choice->backend->name()}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : listed->incidents)
      rows.push_back({terminal::harmless(one.id), std::string(name_of(one.status)),
                      std::string(name_of(one.severity)), to_the_second(one.opened),
                      terminal::paint(terminal::harmless((one.drill ? "(drill) " : "") + one.title),
                                      colour(one), session.coloured()),
                      terminal::harmless(shown_labels(one.labels))});
    if (!rows.empty())
      terminal::print_table(session.out, {"ID", "STATUS", "SEVERITY", "OPENED", "TITLE", "LABELS"}, rows);
  }
  say_shown(session, listed->incidents.size(), listed->more, "incident");
  return ExitStatus::ok;
}

Result<Incident> found(const IncidentFlags& flags, const std::string& id, Session& session) {
  auto choice = named_backend(flags, session, Access::read);
  if (!choice) return tl::unexpected(choice.error());
  return choice->backend->read(id);
}

Result<ExitStatus> run(const IncidentShow& options, Session& session) {
  const auto incident = found(options.flags, options.id, session);
  if (!incident) return tl::unexpected(incident.error());
  if (session.json())
    session.out << pretty(to_json(*incident));
  else
    show_incident(*incident, session);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const IncidentExport& options, Session& session) {
  const auto incident = found(options.flags, options.id, session);
  if (!incident) return tl::unexpected(incident.error());
  if (options.format == "json" || session.json())
    session.out << pretty(to_json(*incident));
  else
    session.out << incident::timeline(*incident, now());
  return ExitStatus::ok;
}

void add_list(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<IncidentList>();
  auto& verb = add_verb(group, chosen, "list", "Lists incidents, the newest first",
                        "  tunnelctl incident list --status active\n"
                        "  tunnelctl incident list --label service=api --output json | jq '.incidents[].id'",
                        options);
  verb.add_option("--status", options->status, "only those: active or resolved")->type_name("STATUS");
  add_incident_labels(verb, options->labels, "--label",
                      "only those with this label; several: with all of them");
  auto* only = verb.add_flag("--drill", options->drills, "only drills");
  verb.add_flag("--no-drill", options->no_drills, "no drills")->excludes(only);
  add_limit(verb, options->limit);
  add_backend_options(verb, options->flags);
}

}  // namespace

void show_incident(const Incident& incident, Session& session) {
  auto& out = session.out;
  const auto line = [&](const char* name, const std::string& value) {
    if (!value.empty()) out << name << terminal::harmless(value) << '\n';
  };
  const auto block = [&](std::string_view text, const char* indent) {
    while (!text.empty()) {
      const auto end = std::min(text.find('\n'), text.size());
      out << indent << terminal::harmless(text.substr(0, end)) << '\n';
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  };
  out << terminal::paint(terminal::harmless(incident.id + "  " + incident.title), terminal::Colour::bold,
                         session.coloured())
      << '\n';
  line("status    ", std::string(name_of(incident.status)) + (incident.drill ? " (drill)" : ""));
  line("severity  ", std::string(name_of(incident.severity)));
  line("opened    ", to_the_second(incident.opened));
  if (incident.resolved) line("resolved  ", to_the_second(*incident.resolved));
  line("key       ", incident.dedup_key);
  line("labels    ", shown_labels(incident.labels));
  line("page      ", incident.url);
  for (const auto& one : incident.attachments)
    line("link      ", one.url + (one.caption.empty() ? "" : "  " + one.caption));
  if (!incident.summary.empty()) {
    out << '\n';
    block(incident.summary, "");
  }
  if (!incident.notes.empty()) out << '\n';
  for (const auto& note : incident.notes) {
    out << to_the_second(note.at) << "  " << terminal::harmless(note.kind)
        << (note.author.empty() ? "" : " by " + terminal::harmless(note.author)) << '\n';
    block(note.body, "    ");
  }
}

void add_incident_reading(CLI::App& group, Chosen& chosen) {
  add_list(group, chosen);
  {
    auto options = std::make_shared<IncidentShow>();
    auto& verb = add_verb(group, chosen, "show", "Shows an incident with its timeline",
                          "  tunnelctl incident show inc-7\n"
                          "  tunnelctl incident show inc-7 --output json | jq '.notes[].body'",
                          options);
    add_incident_id(verb, options->id, options->flags);
  }
  {
    auto options = std::make_shared<IncidentExport>();
    auto& verb = add_verb(group, chosen, "export", "Prints all of an incident, to be kept elsewhere",
                          "  tunnelctl incident export inc-7 > inc-7.md\n"
                          "  tunnelctl incident export inc-7 --format json > inc-7.json",
                          options);
    add_incident_id(verb, options->id, options->flags);
    verb.add_option("--format", options->format, "json, or markdown: the beginning of a post-mortem")
        ->check(CLI::IsMember({"json", "markdown"}))
        ->type_name("FORMAT")
        ->capture_default_str();
  }
}

}  // namespace tunnelctl
