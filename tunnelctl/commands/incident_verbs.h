#pragma once

#include <string>
#include <vector>

#include "tunnelctl/commands/incident_settings.h"
#include "tunnelctl/commands/session.h"
#include "tunnelctl/incident/detect.h"

/// What the files of the group `incident` share.
namespace tunnelctl {

/// list, show and export.
void add_incident_reading(CLI::App& group, Chosen& chosen);
/// enrich and timeline.
void add_incident_context(CLI::App& group, Chosen& chosen);
void add_incident_watch(CLI::App& group, Chosen& chosen);

/// A text that a person gave, "-" for what standard input has. At most 64 KiB; `name` is how it is called in
/// messages. Fails with bad_input, also when it is empty.
Result<std::string> incident_text(const std::string& text, const char* name, Session& session);
/// Each "key=value" or a word. Fails with bad_input.
Result<std::vector<incident::Label>> incident_labels(const std::vector<std::string>& texts);
/// incident_backend(), and which it is said to the person who did not name it.
Result<incident::Choice> named_backend(const IncidentFlags& flags, Session& session, Access access);
/// The id, and which backend.
void add_incident_id(CLI::App& verb, std::string& id, IncidentFlags& flags);
void add_incident_labels(CLI::App& verb, std::vector<std::string>& labels, const char* name,
                         const char* help);
/// The facts and the timeline, for a terminal.
void show_incident(const incident::Incident& incident, Session& session);

}  // namespace tunnelctl
