#include <algorithm>
#include <istream>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/incident_settings.h"
#include "tunnelctl/commands/incident_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/incident/detect.h"
#include "tunnelctl/patterns/redaction.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

using incident::Incident;

constexpr std::size_t kMaxText = 64 * 1024;

struct IncidentCreate {
  IncidentFlags flags{};
  std::string title{};
  std::string severity = "critical";
  std::vector<std::string> labels{};
  std::string room_prefix = "incident";
  bool drill = false;
  std::vector<std::string> attachments{};
  std::vector<std::string> captions{};
  std::string dedup_key{};
  std::optional<std::string> note{};
};
struct IncidentNote {
  IncidentFlags flags{};
  std::string id{};
  std::string text{};
  std::string at{};
};
struct IncidentUpdate {
  IncidentFlags flags{};
  std::string id{};
  std::optional<std::string> title{};
  std::string severity{};
  std::string status{};
  std::vector<std::string> add_labels{};
  std::vector<std::string> remove_labels{};
};
struct IncidentResolve {
  IncidentFlags flags{};
  std::string id{};
  std::optional<std::string> note{};
};
/// URL, or URL=CAPTION. Addresses may have "=" themselves: the last one counts, unless it is a parameter's.
/// With a caption of its own all of the text is the address.
Result<incident::Attachment> attachment_of(const std::string& text, const std::string* caption) {
  const auto refuse = [&](const char* why) {
    return fail(Error::Kind::bad_input, "--attach \"" + terminal::harmless(text) + "\": " + why);
  };
  if (!text.starts_with("https://") && !text.starts_with("http://"))
    return refuse("must begin with https:// or http://");
  if (terminal::harmless(text) != text) return refuse("has characters that are no text");
  if (caption != nullptr) {
    if (terminal::harmless(*caption) != *caption)
      return fail(Error::Kind::bad_input, "--attach-caption: must be one line of text");
    return incident::Attachment{.url = text, .caption = *caption};
  }
  const auto sign = text.rfind('=');
  if (sign == std::string::npos) return incident::Attachment{.url = text};
  incident::Attachment attachment{.url = text.substr(0, sign), .caption = text.substr(sign + 1)};
  if (const auto parameter = attachment.url.find_last_of("?&");
      parameter != std::string::npos && attachment.url.find('=', parameter) == std::string::npos)
    return refuse(
        "is the part behind the last = its caption or a parameter? Add =CAPTION, or = alone for none");
  return attachment;
}

void say_redacted(const Session& session, const std::vector<std::string>& texts) {
  const patterns::Redaction redaction;
  for (const auto& text : texts)
    if (redaction.finds(text)) {
      session.say("what looks like a secret was taken out of the text");
      return;
    }
}

/// "inc-7 \"title\" resolved".
void report(const Incident& incident, const std::string& what, Session& session) {
  std::string line = "incident " + incident.id;
  if (!incident.title.empty()) line += " \"" + incident.title + "\"";
  line += " " + what;
  if (!incident.url.empty()) line += ": " + incident.url;
  session.say(terminal::harmless(line));
}

Result<ExitStatus> run(const IncidentCreate& options, Session& session) {
  incident::Opening opening{
      .title = options.title, .room_prefix = options.room_prefix, .drill = options.drill, .at = now()};
  if (opening.title.find_first_not_of(" \t") == std::string::npos)
    return fail(Error::Kind::bad_input, "--title: must not be empty");
  if (opening.title.size() > 1024) return fail(Error::Kind::bad_input, "--title: is longer than 1024 bytes");
  if (terminal::harmless(opening.title) != opening.title)
    return fail(Error::Kind::bad_input, "--title: must be one line of text");
  const auto severity = incident::severity_of(options.severity);
  if (!severity) return fail(severity.error().kind, "--severity: " + severity.error().message);
  opening.severity = *severity;
  auto labels = incident_labels(options.labels);
  if (!labels) return tl::unexpected(labels.error());
  opening.labels = std::move(*labels);
  if (!options.captions.empty() && options.captions.size() != options.attachments.size())
    return fail(Error::Kind::bad_input, "--attach-caption: say it once for each --attach, or not at all");
  for (std::size_t i = 0; i < options.attachments.size(); ++i) {
    auto attachment =
        attachment_of(options.attachments[i], options.captions.empty() ? nullptr : &options.captions[i]);
    if (!attachment) return tl::unexpected(attachment.error());
    opening.attachments.push_back(std::move(*attachment));
  }
  if (options.note) {
    auto text = incident_text(*options.note, "--note", session);
    if (!text) return tl::unexpected(text.error());
    opening.summary = std::move(*text);
  }
  opening.dedup_key = options.dedup_key.empty() ? incident::dedup_key_of(opening.title) : options.dedup_key;
  if (terminal::harmless(opening.dedup_key) != opening.dedup_key)
    return fail(Error::Kind::bad_input, "--dedup-key: must be one line of text");
  auto choice = named_backend(options.flags, session, Access::write);
  if (!choice) return tl::unexpected(choice.error());
  say_redacted(session, {opening.title, opening.summary});
  const auto opened = choice->backend->open(opening);
  if (!opened) return tl::unexpected(opened.error());
  if (session.json()) {
    auto json = to_json(opened->incident);
    json["made"] = opened->made;
    session.out << pretty(json);
  } else {
    session.out << terminal::harmless(opened->incident.id) << '\n';
  }
  report(opened->incident, opened->made ? "opened" : "is open already; nothing was made", session);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const IncidentNote& options, Session& session) {
  const auto text = incident_text(options.text, "the note", session);
  if (!text) return tl::unexpected(text.error());
  const auto at = options.at.empty() ? Result<times::Time>(now()) : times::moment(options.at, now());
  if (!at) return fail(at.error().kind, "--at: " + at.error().message);
  auto choice = named_backend(options.flags, session, Access::write);
  if (!choice) return tl::unexpected(choice.error());
  say_redacted(session, {*text});
  if (auto noted = choice->backend->note(options.id, {.at = *at, .body = *text}); !noted)
    return tl::unexpected(noted.error());
  if (session.json()) session.out << pretty({{"id", options.id}, {"noted", true}});
  session.say(terminal::harmless("incident " + options.id + ": noted"));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const IncidentUpdate& options, Session& session) {
  incident::Changes changes{.title = options.title, .remove_labels = options.remove_labels, .at = now()};
  if (changes.title && (changes.title->empty() || terminal::harmless(*changes.title) != *changes.title))
    return fail(Error::Kind::bad_input, "--title: must be one line of text");
  if (!options.severity.empty()) {
    const auto severity = incident::severity_of(options.severity);
    if (!severity) return fail(severity.error().kind, "--severity: " + severity.error().message);
    changes.severity = *severity;
  }
  if (!options.status.empty()) {
    const auto status = incident::status_of(options.status);
    if (!status) return fail(status.error().kind, "--status: " + status.error().message);
    changes.status = *status;
  }
  auto labels = incident_labels(options.add_labels);
  if (!labels) return tl::unexpected(labels.error());
  changes.add_labels = std::move(*labels);
  if (!changes.title && !changes.severity && !changes.status && changes.add_labels.empty() &&
      changes.remove_labels.empty())
    return fail(Error::Kind::bad_input,
                "nothing says what to change: --title, --severity, --status, --add-label or --remove-label");
  auto choice = named_backend(options.flags, session, Access::write);
  if (!choice) return tl::unexpected(choice.error());
  const auto changed = choice->backend->change(options.id, changes);
  if (!changed) return tl::unexpected(changed.error());
  if (session.json()) session.out << pretty(to_json(*changed));
  report(*changed, "updated", session);
  return ExitStatus::ok;
}

/// Backends leave what is resolved already as it is: what somebody found out is not lost for that.
void add_last_note(incident::Backend& backend, const std::string& id, const incident::Note& note,
                   Incident& resolved, const Session& session) {
  const auto body = patterns::Redaction().apply(note.body);
  // Services cut what is nearly as long as a note may be.
  constexpr std::size_t kNeverCut = 60'000;
  const bool has_it =
      std::any_of(resolved.notes.begin(), resolved.notes.end(), [&](const incident::Note& one) {
        return one.body == body ||
               (body.size() > kNeverCut && one.body.starts_with(body.substr(0, kNeverCut)));
      });
  if (note.body.empty() || has_it) return;
  if (auto noted = backend.note(id, note); !noted) {
    session.warn(terminal::harmless("the note was not added: " + noted.error().message));
    return;
  }
  resolved.notes.push_back(note);
  resolved.notes.back().body = body;
  session.say("it was resolved already; the note was added");
}

Result<ExitStatus> run(const IncidentResolve& options, Session& session) {
  incident::Note note{.at = now()};
  if (options.note) {
    auto text = incident_text(*options.note, "--note", session);
    if (!text) return tl::unexpected(text.error());
    note.body = std::move(*text);
  }
  auto choice = named_backend(options.flags, session, Access::write);
  if (!choice) return tl::unexpected(choice.error());
  say_redacted(session, {note.body});
  auto resolved = choice->backend->resolve(options.id, note);
  if (!resolved) return tl::unexpected(resolved.error());
  add_last_note(*choice->backend, options.id, note, *resolved, session);
  if (session.json()) session.out << pretty(to_json(*resolved));
  // What only is told does not say what it knows.
  report(*resolved,
         resolved->title.empty()
             ? choice->backend->name() + " took it; whether such an incident was open it does not say"
             : "is resolved",
         session);
  return ExitStatus::ok;
}

void add_create(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<IncidentCreate>();
  auto& verb = add_verb(
      group, chosen, "create", "Opens an incident, unless one of its key is open already",
      "  tunnelctl incident create --title \"api answers 502\" --severity critical --label service=api\n"
      "  tunnelctl incident create --title \"fire drill\" --drill --backend local --output json\n"
      "  tunnelctl logs query '{service=\"api\"} |= \"error\"' | tunnelctl incident create --title \"api "
      "fails\" "
      "--note -",
      options);
  verb.add_option("--title", options->title, "what is wrong, in one line")->required()->type_name("TEXT");
  verb.add_option("--severity", options->severity, "critical, error, warning or info")
      ->type_name("NAME")
      ->capture_default_str();
  add_incident_labels(verb, options->labels, "--label",
                      "a label, or one word as a tag; several times for several");
  verb.add_option("--room-prefix", options->room_prefix, "how Grafana IRM names the room")
      ->type_name("TEXT")
      ->capture_default_str();
  verb.add_flag("--drill", options->drill, "an exercise");
  verb.add_option("--attach", options->attachments, "an address that belongs to it, with its caption")
      ->allow_extra_args(false)
      ->type_name("URL=CAPTION");
  verb.add_option("--attach-caption", options->captions,
                  "the caption of the --attach at the same place, which then is an address alone")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  verb.add_option("--dedup-key", options->dedup_key,
                  "at most one incident of a key is open; default: made of the title")
      ->type_name("KEY");
  verb.add_option("--note", options->note, "what is known; - reads standard input")->type_name("TEXT");
  add_backend_options(verb, options->flags);
}

void add_changing(CLI::App& group, Chosen& chosen) {
  {
    auto options = std::make_shared<IncidentNote>();
    auto& verb = add_verb(group, chosen, "note", "Adds a line to an incident's timeline",
                          "  tunnelctl incident note inc-7 \"restarted the origin\"\n"
                          "  tunnelctl status | tunnelctl incident note inc-7 -",
                          options);
    add_incident_id(verb, options->id, options->flags);
    verb.add_option("text", options->text, "Markdown; - reads standard input")->required()->type_name("TEXT");
    verb.add_option("--at", options->at,
                    "when it was; default: now, and so for PagerDuty, whose notes have no time to set")
        ->type_name("TIME");
  }
  {
    auto options = std::make_shared<IncidentUpdate>();
    auto& verb = add_verb(group, chosen, "update", "Changes what is named of an incident, and keeps the rest",
                          "  tunnelctl incident update inc-7 --severity warning\n"
                          "  tunnelctl incident update inc-7 --add-label team=edge --remove-label tag",
                          options);
    add_incident_id(verb, options->id, options->flags);
    verb.add_option("--title", options->title, "what is wrong, in one line")->type_name("TEXT");
    verb.add_option("--severity", options->severity, "critical, error, warning or info")->type_name("NAME");
    verb.add_option("--status", options->status, "active or resolved")->type_name("STATUS");
    add_incident_labels(verb, options->add_labels, "--add-label", "a label, in place of the one of its key");
    verb.add_option("--remove-label", options->remove_labels, "the key of a label")
        ->allow_extra_args(false)
        ->type_name("KEY");
  }
  {
    auto options = std::make_shared<IncidentResolve>();
    auto& verb = add_verb(group, chosen, "resolve", "Ends an incident, with a last note if there is one",
                          "  tunnelctl incident resolve inc-7\n"
                          "  tunnelctl incident resolve inc-7 --note \"certificate renewed\"",
                          options);
    add_incident_id(verb, options->id, options->flags);
    verb.add_option("--note", options->note, "what it was; - reads standard input")->type_name("TEXT");
  }
}

}  // namespace

Result<std::string> incident_text(const std::string& given, const char* name, Session& session) {
  std::string text = given;
  if (given == "-") {
    // One more than fits, so that more is noticed without reading it.
    text.resize(kMaxText + 1);
    session.in->read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(session.in->gcount()));
  }
  if (text.size() > kMaxText)
    return fail(Error::Kind::bad_input,
                std::string(name) + ": is larger than 64 KiB; send its end (tail -c 60000)");
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  if (text.empty()) return fail(Error::Kind::bad_input, std::string(name) + ": is empty");
  return text;
}

Result<std::vector<incident::Label>> incident_labels(const std::vector<std::string>& texts) {
  std::vector<incident::Label> labels;
  for (const auto& text : texts) {
    const auto label = incident::label_of(text);
    if (!label) return tl::unexpected(label.error());
    incident::add_label(labels, *label);
  }
  return labels;
}

Result<incident::Choice> named_backend(const IncidentFlags& flags, Session& session, Access access) {
  auto choice = incident_backend(flags, session, access);
  if (choice && flags.backend.empty())
    session.say(terminal::harmless("backend " + choice->why + " (" + choice->backend->place() + ")"));
  return choice;
}

void add_incident_id(CLI::App& verb, std::string& id, IncidentFlags& flags) {
  verb.add_option("id", id, "the incident's id, as list shows it")->required()->type_name("ID");
  add_backend_options(verb, flags);
}

void add_incident_labels(CLI::App& verb, std::vector<std::string>& labels, const char* name,
                         const char* help) {
  verb.add_option(name, labels, help)->allow_extra_args(false)->type_name("KEY=VALUE");
}

void add_incident(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("incident", "Incidents: open, explain, resolve, export");
  group.require_subcommand(1);
  add_create(group, chosen);
  add_incident_reading(group, chosen);
  add_changing(group, chosen);
  add_incident_context(group, chosen);
  add_incident_watch(group, chosen);
}

}  // namespace tunnelctl
