#pragma once

#include "tunnelctl/commands/packs.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/monitor/verify.h"

/// The commands below `monitor`, by file.
namespace tunnelctl {

void add_monitor_checks(CLI::App& group, Chosen& chosen);  // verify, lint
void add_monitor_files(CLI::App& group, Chosen& chosen);   // render, guide, export

/// PACK..., --datasource, --target and what else decides how packs are compiled for a server.
void add_pack_options(CLI::App& command, PackOptions& options);

/// "NAME=VALUE" lines; fails with bad_input, naming the option.
Result<std::map<std::string, std::string>> assignments(const std::vector<std::string>& lines,
                                                       const char* option);

}  // namespace tunnelctl
