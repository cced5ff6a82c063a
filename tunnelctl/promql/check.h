#pragma once

#include <optional>
#include <string>

#include "tunnelctl/promql/ast.h"

namespace tunnelctl::promql {

struct Problem {
  std::size_t at = 0;  // byte offset
  std::string message;
};

/// The rules that the grammar does not hold: types, numbers of arguments, matching. The first one broken.
std::optional<Problem> check(const Node& node);

/// "instant vector", "range vector", "scalar", "string".
std::string_view documented(ValueType type);

}  // namespace tunnelctl::promql
