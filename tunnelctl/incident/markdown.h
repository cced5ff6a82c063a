#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/incident/enrichment.h"

/// Markdown that Grafana IRM and GitHub render and that PagerDuty and terminals show as it is: bold lines for
/// headings, code for what others wrote. What is handed in here should be redacted.
namespace tunnelctl::incident {

/// What is said when an incident ends by itself, for Backend::resolve: how long it took and what was counted.
/// `facts`: the data of the event that ended it (breaker.closed, upstream.back, agent.connected,
/// audit.recovered, overload, started), or the alert's annotations. Its member `times`, if there is one, says
/// how often it came back in that time. Redacted; a few lines.
std::string recovery_note(const Subject& subject, Time ended, const Json& facts = Json::object());

namespace markdown {

/// One line of foreign text, to be read as text: nothing in it is markup, a mention or a link.
std::string plain(std::string_view text, std::size_t characters = 300);
/// The same as a code span; "" stays "".
std::string code(std::string_view text, std::size_t characters = 300);
/// A block of code that no line can end.
std::string fenced(const std::vector<std::string>& lines);
/// [caption](url), both foreign. The caption alone when `url` is not of http or https.
std::string link(std::string_view caption, std::string_view url);

/// "2026-01-31 10:00:00 UTC", and "10:00:00".
std::string utc(Time time);
std::string clock(Time time);

/// A part of a note: a bold line, then text and a list, a table or a block of code.
struct Section {
  enum class Form { list, table, code, blocks };
  std::string heading{};  // "": none
  std::string lead{};     // a paragraph
  Form form = Form::list;
  std::vector<std::string> items{};  // of a table: rows of cells as "a | b", the first is the heading
  std::size_t more = 0;              // that were left out already; said
  bool keep = false;                 // never shortened
};

/// All sections, in at most `max_bytes`: the longest ones lose items first, then text is cut; both is said.
std::string note(std::vector<Section> sections, std::size_t max_bytes);

}  // namespace markdown
}  // namespace tunnelctl::incident
