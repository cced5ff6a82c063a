#pragma once

#include "tunnelctl/commands/session.h"

/// The parts of the group `alert` that have files of their own.
namespace tunnelctl {

void add_alert_silence(CLI::App& alert, Chosen& chosen);
void add_alert_history(CLI::App& alert, Chosen& chosen);
void add_alert_ack(CLI::App& alert, Chosen& chosen);

}  // namespace tunnelctl
