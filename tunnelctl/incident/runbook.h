#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/incident/enrichment.h"

namespace tunnelctl::incident {

/// What runbooks/tunnel/<name>.md says, as Markdown.
struct RunbookPage {
  std::string_view name;  // of its alert: "TunnelDown"
  std::string_view text;
};

/// The pages this program was built with, by name. CMake writes the definition, so that they are at hand
/// where there is no network.
std::span<const RunbookPage> runbook_pages();

/// Which page is about it: its alert's, that of its label `runbook`, or that of its kind. Null: none.
const RunbookPage* runbook_for(const Subject& subject, std::span<const RunbookPage> pages = runbook_pages());

/// The beginning of a page, for somebody who was just woken.
struct RunbookExcerpt {
  std::string meaning{};              // the first paragraph of "Meaning"
  std::vector<std::string> checks{};  // of "First checks", each with its commands; Markdown without links
};
RunbookExcerpt excerpt_of(std::string_view page);

}  // namespace tunnelctl::incident
