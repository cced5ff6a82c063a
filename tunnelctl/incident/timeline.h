#pragma once

#include <string>

#include "tunnelctl/incident/incident.h"

namespace tunnelctl::incident {

/// The beginning of a post-mortem, in Markdown: what is known of the incident (its facts, how long detection,
/// response and resolution took, each line of its timeline in UTC, its notes in full), and headings with a
/// question under each for what only people know. `incident` was read by its id, so that it has its notes.
/// `now` counts for one that is still open. Redacted; the same input gives the same text.
std::string timeline(const Incident& incident, Time now);

}  // namespace tunnelctl::incident
