#pragma once

#include <string>

#include "tunnelctl/monitor/verify.h"

/// What verify found, for people and programs. Texts of servers are made harmless: no control characters, no
/// broken UTF-8.
namespace tunnelctl::monitor {

/// {"good", "counts": {status: n}, "checks": [{"kind", "id", "title", "datasource", "expr", "status",
/// "series", "milliseconds", "message", "reason"}]}; what is empty is left out, series and milliseconds are
/// of queries.
Json to_json(const Verified& verified);

/// JUnit's XML, as CI systems read it: a suite for each kind, a case for each check. Empty, pending and
/// missing are failures, error and cancelled are errors.
std::string to_junit(const Verified& verified);

/// A table, one line for each check, its columns aligned, and a line that sums up.
std::string to_text(const Verified& verified);

}  // namespace tunnelctl::monitor
