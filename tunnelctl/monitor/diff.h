#pragma once

#include <string>

#include "tunnelctl/monitor/plan.h"

/// A plan for people and for machines. Pure; never shows a secret.
namespace tunnelctl::monitor {

struct DiffOptions {
  bool full = false;  // every difference of every object; otherwise the first few
  bool coloured = false;
};

/// One line for each object, indented ones for what differs in it, a sentence with the numbers at the end.
std::string text(const Plan& plan, const DiffOptions& options);

/// {"changes": [{"action", "kind", "id", "title", "pack", "conflict"?, "differences": [{"path", "before",
/// "after"}]}], "unchanged", "missing_permissions", "missing_secrets", "notes"}
Json to_json(const Plan& plan);

}  // namespace tunnelctl::monitor
