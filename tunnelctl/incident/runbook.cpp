#include "tunnelctl/incident/runbook.h"

#include <algorithm>
#include <array>
#include <utility>

#include "tunnelctl/incident/enrichment_parts.h"

namespace tunnelctl::incident {
namespace {

/// "[TUNNEL_014](../../docs/errors/TUNNEL_014.md)" leads nowhere outside the repository: "TUNNEL_014".
std::string without_links(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const auto open = text.find('[');
    result += text.substr(0, open);
    if (open == std::string_view::npos) break;
    text.remove_prefix(open);
    const auto middle = text.find("](");
    const auto close = middle == std::string_view::npos ? middle : text.find(')', middle);
    // A bracket that begins no link, as in a query's [5m]: the link's words hold no other bracket.
    if (close == std::string_view::npos ||
        text.substr(1, middle - 1).find_first_of("[]\n") != std::string_view::npos) {
      result += '[';
      text.remove_prefix(1);
      continue;
    }
    result += text.substr(1, middle - 1);
    text.remove_prefix(close + 1);
  }
  return result;
}

std::string_view section(std::string_view page, std::string_view heading) {
  const std::string line = "\n## " + std::string(heading) + "\n";
  const auto begin = page.find(line);
  if (begin == std::string_view::npos) return {};
  page.remove_prefix(begin + line.size());
  return page.substr(0, page.find("\n## "));
}

std::string trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \n");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \n") - begin + 1));
}

bool begins_check(std::string_view line) {
  return line.size() > 2 && line[0] >= '1' && line[0] <= '9' && line.substr(1, 2) == ". ";
}

}  // namespace

const RunbookPage* runbook_for(const Subject& subject, std::span<const RunbookPage> pages) {
  const auto named = [&](std::string_view name) -> const RunbookPage* {
    const auto found =
        std::find_if(pages.begin(), pages.end(), [&](const auto& page) { return page.name == name; });
    return name.empty() || found == pages.end() ? nullptr : &*found;
  };
  for (const auto* label : {"runbook", "alertname"})
    if (const auto* page = named(label_value(subject, label))) return page;
  if (subject.kind == "overload") {
    const auto what = subject.facts.is_object() ? subject.facts.find("what") : subject.facts.end();
    const bool queue = what != subject.facts.end() && *what == "queue";
    return named(queue ? "TunnelQueueNearlyFull" : "TunnelConnectionsNearLimit");
  }
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kByKind{{
      {"breaker", "TunnelCircuitBreakerOpen"},
      {"upstream", "TunnelErrorRatioHigh"},
      {"agent", "TunnelAgentsLost"},
      {"daemon", "TunnelDown"},
      {"audit", "TunnelAuditLogFailing"},
  }};
  for (const auto& [kind, name] : kByKind)
    if (subject.kind == kind) return named(name);
  return nullptr;
}

RunbookExcerpt excerpt_of(std::string_view page) {
  RunbookExcerpt excerpt;
  const auto meaning = trimmed(section(page, "Meaning"));
  excerpt.meaning = without_links(std::string_view(meaning).substr(0, meaning.find("\n\n")));
  auto checks = section(page, "First checks");
  bool in_code = false;
  while (!checks.empty()) {
    const auto end = checks.find('\n');
    auto line = checks.substr(0, end);
    checks.remove_prefix(end == std::string_view::npos ? checks.size() : end + 1);
    if (!in_code && begins_check(line))
      excerpt.checks.emplace_back();
    else if (line.starts_with("   "))
      line.remove_prefix(3);  // the list's: not every page that shows it indents code in lists
    if (excerpt.checks.empty()) continue;
    const bool fence = line.starts_with("```");
    if (fence) in_code = !in_code;
    excerpt.checks.back() += (in_code || fence ? std::string(line) : without_links(line)) + "\n";
  }
  for (auto& check : excerpt.checks) check = trimmed(check);
  return excerpt;
}

}  // namespace tunnelctl::incident
