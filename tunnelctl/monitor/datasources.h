#pragma once

#include <map>
#include <string>
#include <vector>

#include "tunnelctl/monitor/compile.h"
#include "tunnelctl/monitor/observe.h"

namespace tunnelctl::monitor {

/// Which of the server's data sources each variable of the pack stands for. `overrides` (variable -> uid or
/// name) come first, then the manifest's uid or name, then the type: the default one of it, else the only
/// one. Optional variables without one are left out, and so are those whose override is empty. Overrides of
/// variables that the pack does not have are ignored: they may be another pack's.
/// Fails with bad_input or not_found, for all variables at once, saying which there are and what to set.
Result<std::map<std::string, ServerDatasource>> choose_datasources(
    const pack::Pack& pack, const std::vector<FoundDatasource>& found,
    const std::map<std::string, std::string>& overrides);

}  // namespace tunnelctl::monitor
