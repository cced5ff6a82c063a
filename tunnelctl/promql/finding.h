#pragma once

#include <string>

#include "tunnelctl/promql/text.h"

namespace tunnelctl::promql {

/// Something a check found in a query that parses.
struct Finding {
  std::string check;    // its id, as in suppressions
  std::string message;  // one sentence, with the remedy
  Span span;            // where in the text
};

}  // namespace tunnelctl::promql
