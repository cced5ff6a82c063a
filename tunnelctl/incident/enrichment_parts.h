#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/incident/enrichment.h"
#include "tunnelctl/incident/markdown.h"
#include "tunnelctl/patterns/redaction.h"

/// What enrichment's files share; not for other rooms.
namespace tunnelctl::incident {

/// "" when the subject has no such label.
std::string label_value(const Subject& subject, std::string_view key);

/// One harmless line of foreign text, redacted and then cut to that many characters.
std::string clean(std::string_view text, std::size_t characters, const patterns::Redaction& redaction);
/// Each of them so. What begins in one and ends in another, such as a private key, is found too; then there
/// may be fewer lines than before.
std::vector<std::string> clean(const std::vector<std::string>& lines, std::size_t characters,
                               const patterns::Redaction& redaction);

/// The question's expr for that subject. Fails with bad_input when the subject lacks a label.
Result<std::string> expanded(const Question& question, const Subject& subject,
                             const EnrichmentOptions& options);

/// The time that is looked at.
times::Range range_of(const Subject& subject, const EnrichmentOptions& options, Time now);

/// What came of one question.
struct Answer {
  std::vector<markdown::Section> sections{};  // of a table, lines and patterns
  std::string item{};                         // of a metric: a line for the list of numbers
  std::vector<Sources::Change> changes{};
  std::string problem{};  // "" when it was answered
  // Of patterns: who and what stands in the lines.
  std::set<std::string> principals{}, services{};
};

/// Asks it now, in this thread.
Answer answer_to(const Question& question, const std::string& expr, const Subject& subject,
                 const EnrichmentOptions& options, const Sources& sources, times::Range range);

/// A log line as people read it: of a JSON object its level, message and members, without its time.
std::string readable(std::string_view line);
}  // namespace tunnelctl::incident
