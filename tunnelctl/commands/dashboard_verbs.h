#pragma once

#include "tunnelctl/commands/session.h"
#include "tunnelctl/grafana/panels.h"

namespace tunnelctl {

/// create, patch, delete and open, into the group `dashboard`.
void add_dashboard_changes(CLI::App& group, Chosen& chosen);

/// --panel, --query, --var
void add_selector(CLI::App& verb, grafana::Selector& selector);

}  // namespace tunnelctl
