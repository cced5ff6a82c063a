#pragma once

#include "tunnelctl/commands/session.h"

/// Into the group `logs`; each in its own file.
namespace tunnelctl {

void add_logs_tail(CLI::App& group, Chosen& chosen);
void add_logs_patterns(CLI::App& group, Chosen& chosen);

}  // namespace tunnelctl
