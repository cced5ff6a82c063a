#include "tunnelctl/incident/markdown.h"

#include <algorithm>
#include <cctype>

#include "tunnelctl/incident/enrichment_parts.h"
#include "tunnelctl/patterns/redaction.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl::incident {
namespace markdown {
namespace {

/// Enough to find out what the shown part of a line is; the rest of a line of megabytes is not looked at.
constexpr std::size_t kLookedAt = 16 * 1024;

std::string one_line(std::string_view text, std::size_t characters) {
  return terminal::shortened(terminal::harmless(text.substr(0, kLookedAt)), characters);
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || (static_cast<unsigned char>(c) & 0x80U) != 0;
}

std::size_t longest_run(std::string_view text, char of) {
  std::size_t longest = 0, run = 0;
  for (const char c : text) {
    run = c == of ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return longest;
}

std::string more_of(std::size_t count) {
  return "… and " + std::to_string(count) + " more";
}

std::string rows_of(const Section& section, std::size_t shown) {
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) {
    text += "| " + section.items[i] + " |\n";
    if (i > 0) continue;
    const auto cells = static_cast<std::size_t>(std::count(text.begin(), text.end(), '|')) - 1;
    text += "|";
    for (std::size_t cell = 0; cell < cells; ++cell) text += "---|";
    text += "\n";
  }
  return text;
}

/// Of the items only the first `shown`.
std::string render(const Section& section, std::size_t shown) {
  std::string text;
  if (!section.heading.empty()) text += "**" + section.heading + "**\n\n";
  if (!section.lead.empty()) text += section.lead + "\n\n";
  const std::size_t left = section.items.size() - shown + section.more;
  if (shown > 0) {
    switch (section.form) {
      case Section::Form::list:
        for (std::size_t i = 0; i < shown; ++i) text += "- " + section.items[i] + "\n";
        break;
      case Section::Form::table: text += rows_of(section, shown); break;
      case Section::Form::code:
        text += fenced({section.items.begin(), section.items.begin() + static_cast<std::ptrdiff_t>(shown)});
        break;
      case Section::Form::blocks:
        for (std::size_t i = 0; i < shown; ++i) text += (i == 0 ? "" : "\n") + section.items[i] + "\n";
        break;
    }
    text += "\n";
  }
  if (left > 0) text += more_of(left) + "\n\n";
  return text;
}

}  // namespace

std::string plain(std::string_view text, std::size_t characters) {
  const auto line = one_line(text, characters);
  std::string result;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    const bool in_word = i > 0 && i + 1 < line.size() && is_word(line[i - 1]) && is_word(line[i + 1]);
    if (std::string_view("\\`*[]<>|~!").find(c) != std::string_view::npos || (c == '_' && !in_word) ||
        ((c == '#' || c == '-' || c == '+') && i == 0)) {
      result += '\\';
      result += c;
    } else if (c == '&') {
      result += "&amp;";
    } else if (c == '@') {
      result += "@\u200B";  // else it calls somebody of that name
    } else if (c == ':' && line.compare(i, 3, "://") == 0) {
      result += ":\u200B";  // else it becomes a link
    } else {
      result += c;
    }
  }
  return result;
}

std::string code(std::string_view text, std::size_t characters) {
  auto line = one_line(text, characters);
  if (line.find_first_not_of(' ') == std::string::npos) return "";
  const std::string ticks(longest_run(line, '`') + 1, '`');
  if (line.front() == '`' || line.back() == '`') line = " " + line + " ";
  return ticks + line + ticks;
}

std::string fenced(const std::vector<std::string>& lines) {
  std::size_t ticks = 3;
  for (const auto& line : lines) ticks = std::max(ticks, longest_run(line, '`') + 1);
  const std::string fence(ticks, '`');
  std::string text = fence + "text\n";
  for (const auto& line : lines) text += one_line(line, kLookedAt) + "\n";
  return text + fence + "\n";
}

std::string link(std::string_view caption, std::string_view url) {
  if (!url.starts_with("https://") && !url.starts_with("http://")) return plain(caption);
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string target;
  for (const char c : url) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7F || std::string_view("()<>\"\\`[]|*").find(c) != std::string_view::npos) {
      target += '%';
      target += kHex[byte >> 4U];
      target += kHex[byte & 0xFU];
    } else {
      target += c;
    }
  }
  return "[" + plain(caption) + "](" + target + ")";
}

std::string utc(Time time) {
  auto text = times::text(time).substr(0, 19);
  if (text.size() > 10) text[10] = ' ';
  return text + " UTC";
}

std::string clock(Time time) {
  return utc(time).substr(11, 8);
}

std::string note(std::vector<Section> sections, std::size_t max_bytes) {
  std::vector<std::size_t> shown;
  std::vector<std::string> parts;
  std::size_t size = 0;
  for (const auto& section : sections) {
    shown.push_back(section.items.size());
    parts.push_back(render(section, section.items.size()));
    size += parts.back().size();
  }
  constexpr std::string_view kCut = "\n\n*This note was cut to its size limit.*";
  const bool cut = size > max_bytes;
  const std::size_t room = cut && max_bytes > kCut.size() ? max_bytes - kCut.size() : max_bytes;
  while (size > room) {
    std::size_t longest = sections.size();
    for (std::size_t i = 0; i < sections.size(); ++i)
      if (!sections[i].keep && shown[i] > 0 &&
          (longest == sections.size() || parts[i].size() > parts[longest].size()))
        longest = i;
    if (longest == sections.size()) break;
    size -= parts[longest].size();
    shown[longest] = shown[longest] * 3 / 4;
    // A table's heading alone says nothing.
    if (shown[longest] == 1 && sections[longest].form == Section::Form::table) shown[longest] = 0;
    parts[longest] = render(sections[longest], shown[longest]);
    size += parts[longest].size();
  }
  std::string text;
  for (const auto& part : parts) text += part;
  while (text.ends_with('\n')) text.pop_back();
  if (cut && text.size() + kCut.size() <= max_bytes) text += kCut;
  if (text.size() > max_bytes) {
    std::size_t end = max_bytes > kCut.size() ? max_bytes - kCut.size() : 0;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
    text.resize(end);
    text += kCut.substr(0, std::min(kCut.size(), max_bytes - end));
  }
  return text + "\n";
}

}  // namespace markdown

namespace {

std::string count_of(const Json& facts, const char* member) {
  const auto found = facts.find(member);
  if (found == facts.end() || !found->is_number()) return "";
  return terminal::number(found->get<double>());
}

/// "Circuit breaker of service `api`", from the labels.
std::string thing(const Subject& subject, const patterns::Redaction& redaction) {
  const auto named = [&](const char* word, const char* label) {
    const auto value = markdown::code(redaction.apply(label_value(subject, label)), 100);
    return value.empty() ? std::string() : " " + std::string(word) + value;
  };
  if (subject.kind == "breaker")
    return "The circuit breaker" + named("of service ", "service") + " is closed";
  if (subject.kind == "upstream") return "Upstream" + named("", "upstream") + " can be reached again";
  if (subject.kind == "agent") return "Agent" + named("", "agent") + " is connected again";
  if (subject.kind == "daemon") return "tunneld serves again";
  if (subject.kind == "audit") return "The audit log can be written again";
  if (subject.kind == "overload") return "The load is under its limit again";
  if (subject.kind == "alert") return "Alert" + named("", "alertname") + " does not fire any more";
  return "It is over";
}

}  // namespace

std::string recovery_note(const Subject& subject, Time ended, const Json& facts) {
  const patterns::Redaction redaction;
  const auto seconds = [](auto duration) {
    return terminal::duration(static_cast<double>(std::chrono::milliseconds(duration).count()) / 1000);
  };
  std::string text = "**Recovered**";
  if (ended > subject.at) text += " after " + seconds(ended - subject.at);
  text += ": " + thing(subject, redaction) + ".\n\n";
  text += "- From " + markdown::utc(subject.at) + " to " + markdown::utc(std::max(ended, subject.at)) + "\n";
  if (!facts.is_object()) return text;
  for (const auto* member : {"openForMs", "awayMs"})
    if (const auto found = facts.find(member); found != facts.end() && found->is_number())
      text += "- As the daemon measured it: " + terminal::duration(found->get<double>() / 1000) + "\n";
  if (const auto successes = count_of(facts, "successes"); !successes.empty())
    text += successes == "0" ? "- An operator closed it\n"
                             : "- Tries in a row that succeeded: " + successes + "\n";
  if (const auto refused = count_of(facts, "refusedRequests"); !refused.empty())
    text += "- Requests that were refused meanwhile: " + refused + "\n";
  if (const auto times = count_of(facts, "times"); !times.empty() && times != "1" && times != "0")
    text += "- It came " + times + " times in that time\n";
  if (const auto errors = facts.find("lastErrors");
      errors != facts.end() && errors->is_array() && !errors->empty() && errors->back().is_string())
    text +=
        "- The last failure: " + markdown::code(redaction.apply(errors->back().get<std::string>())) + "\n";
  if (const auto why = facts.find("why"); why != facts.end() && why->is_string())
    if (const auto shown = markdown::code(redaction.apply(why->get<std::string>())); !shown.empty())
      text += "- Why: " + shown + "\n";
  return text;
}

}  // namespace tunnelctl::incident
