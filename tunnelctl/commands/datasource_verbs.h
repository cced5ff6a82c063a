#pragma once

#include "tunnelctl/commands/session.h"

/// The parts of the group `datasource` that have files of their own.
namespace tunnelctl {

/// create, update and delete.
void add_datasource_changes(CLI::App& datasource, Chosen& chosen);
void add_datasource_query(CLI::App& datasource, Chosen& chosen);

}  // namespace tunnelctl
