#include "tunnelctl/incident/timeline.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "tunnelctl/incident/markdown.h"
#include "tunnelctl/patterns/redaction.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl::incident {
namespace {

std::string lasted(Time from, Time to) {
  return terminal::duration(std::chrono::duration<double>(to - from).count());
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  while (!lines.empty() && lines.back().find_first_not_of(' ') == std::string_view::npos) lines.pop_back();
  return lines;
}

/// Markdown of others, as a quotation: its headings and fences end with it.
std::string quotation(std::string_view text) {
  std::string result;
  for (const auto line : lines_of(text)) {
    const auto harmless = terminal::harmless(line);
    result += harmless.empty() ? ">\n" : "> " + harmless + "\n";
  }
  return result;
}

/// The first line that says something, without the marks of lists and emphasis.
std::string headline(std::string_view text) {
  for (auto line : lines_of(text)) {
    const auto begin = line.find_first_not_of(" -*#>`");
    if (begin == std::string_view::npos) continue;
    std::string plain;
    for (const char c : line.substr(begin))
      if (c != '*' && c != '`') plain += c;
    return markdown::plain(plain, 160);
  }
  return "";
}

struct Durations {
  std::optional<Time> noticed{};   // the first line of the timeline
  std::optional<Time> answered{};  // the first one by somebody behind that
};

/// Programs' notes have keys; the rest is what backends write down by themselves.
bool by_somebody(const Note& note) {
  constexpr std::array kByItself{"opened", "resolved", "incidentCreated", "incidentStatusChanged"};
  return note.key.empty() && std::find(kByItself.begin(), kByItself.end(), note.kind) == kByItself.end();
}

Durations durations_of(const std::vector<Note>& notes) {
  Durations durations;
  for (const auto& note : notes) {
    if (!durations.noticed) durations.noticed = note.at;
    if (!durations.answered && by_somebody(note)) durations.answered = note.at;
  }
  return durations;
}

std::string row(std::string_view name, const std::string& value) {
  return "| " + std::string(name) + " | " + value + " |\n";
}

std::string facts(const Incident& incident, Time now, const patterns::Redaction& redaction) {
  std::string text = "| | |\n|---|---|\n";
  text +=
      row("Incident", markdown::plain(incident.id) +
                          (incident.backend.empty() ? "" : " (" + markdown::plain(incident.backend) + ")"));
  if (!incident.url.empty()) text += row("Page", markdown::link("open it", incident.url));
  text += row("Severity", std::string(name_of(incident.severity)));
  text += row("Status", std::string(name_of(incident.status)) + (incident.drill ? ", a drill" : ""));
  text += row("Began", markdown::utc(incident.opened));
  text += row("Resolved", incident.resolved ? markdown::utc(*incident.resolved) : "not yet");
  text += row(incident.resolved ? "Took" : "Takes", lasted(incident.opened, incident.resolved.value_or(now)));
  std::string labels;
  for (const auto& label : incident.labels)
    labels +=
        (labels.empty() ? "" : ", ") + markdown::plain(redaction.apply(label.key + "=" + label.value), 120);
  if (!labels.empty()) text += row("Labels", labels);
  return text;
}

std::string table_of(const std::vector<Note>& notes, Time opened, const patterns::Redaction& redaction) {
  std::string text = "| UTC | After | What | Who |\n|---|---|---|---|\n";
  std::size_t number = 0;
  for (const auto& note : notes) {
    ++number;
    const auto at = markdown::utc(note.at);
    text += "| " + at.substr(0, at.size() - 4) + " | " +
            (note.at < opened ? "-" + lasted(note.at, opened) : lasted(opened, note.at)) + " | ";
    if (note.kind != "note") text += markdown::plain(note.kind, 20) + ": ";
    const auto said = headline(redaction.apply(note.body));
    text += (said.empty() ? "(nothing)" : said);
    if (lines_of(note.body).size() > 1) text += " (note " + std::to_string(number) + ")";
    text += " | " + markdown::plain(redaction.apply(note.author), 60) + " |\n";
  }
  return text;
}

/// Those that do not fit into the table.
std::string notes_in_full(const std::vector<Note>& notes, const patterns::Redaction& redaction) {
  std::string text;
  std::size_t number = 0;
  for (const auto& note : notes) {
    ++number;
    if (lines_of(note.body).size() < 2) continue;
    text += "\n### Note " + std::to_string(number) + ", " + markdown::utc(note.at) + "\n\n" +
            quotation(redaction.apply(note.body));
  }
  return text;
}

}  // namespace

std::string timeline(const Incident& incident, Time now) {
  const patterns::Redaction redaction;
  auto notes = incident.notes;
  std::stable_sort(notes.begin(), notes.end(), [](const Note& a, const Note& b) { return a.at < b.at; });
  const auto took = durations_of(notes);
  std::string text = "# Post-mortem: " + markdown::plain(redaction.apply(incident.title)) + "\n\n";
  text += facts(incident, now, redaction);

  text += "\n## Summary\n\n*What happened, in three sentences that somebody outside the team understands.*\n";
  if (const auto summary = quotation(redaction.apply(incident.summary)); !summary.empty())
    text += "\nAs it was opened:\n\n" + summary;

  text += "\n## Impact\n\n*Who could not do what, and how many were they?*\n";

  text += "\n## Durations\n\n| | |\n|---|---|\n";
  text += row("Detection: from its beginning to the first line below",
              took.noticed ? lasted(incident.opened, *took.noticed) : "not known");
  text += row("Response: to the first line behind the opening",
              took.answered ? lasted(incident.opened, *took.answered) : "not known");
  text += row("Resolution: to its end",
              incident.resolved ? lasted(incident.opened, *incident.resolved) : "not yet");

  text += "\n## Timeline\n\n";
  text += notes.empty() ? "*Nothing was written down.*\n" : table_of(notes, incident.opened, redaction);

  constexpr std::array<std::pair<const char*, const char*>, 4> kQuestions{
      {{"Contributing factors",
        "*What had to come together? Ask why until the answer is something to change.*"},
       {"What went well", "*What limited it, and should stay?*"},
       {"What went badly", "*What took longer than it had to, and where were you lucky?*"},
       {"Action items", "| Action | Owner | Due |\n|---|---|---|\n| | | |"}}};
  for (const auto& [heading, question] : kQuestions)
    text += "\n## " + std::string(heading) + "\n\n" + question + "\n";

  if (!incident.attachments.empty()) {
    text += "\n## Links\n\n";
    for (const auto& one : incident.attachments)
      text +=
          "- " + markdown::link(one.caption.empty() ? one.url : one.caption, redaction.apply(one.url)) + "\n";
  }
  if (const auto full = notes_in_full(notes, redaction); !full.empty()) text += "\n## Notes\n" + full;
  return text;
}

}  // namespace tunnelctl::incident
