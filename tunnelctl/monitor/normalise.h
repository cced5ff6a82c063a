#pragma once

#include "tunnelctl/monitor/objects.h"

/// Both sides of a comparison in one form, so that no difference is shown where there is none.
namespace tunnelctl::monitor {

/// Without what the server adds (numeric ids, versions, times, provenance), without nulls and the values that
/// mean the same as nothing, durations in one spelling, sets in one order. normalise(normalise(x)) is
/// normalise(x).
Json normalise(Kind kind, Json content);

struct Difference {
  std::string path{};  // "/panels/3/title"; panels, rules and variables by id or name: "/panels[4]/title"
  Json before{};       // null: was not there
  Json after{};        // null: goes away
};

/// What changes from one to the other, in the order of the paths. Lists whose items have an id, uid, refId,
/// name or title are compared by it, so that an inserted panel is one difference.
std::vector<Difference> differences(const Json& before, const Json& after);

}  // namespace tunnelctl::monitor
