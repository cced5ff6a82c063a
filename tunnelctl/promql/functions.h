#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "tunnelctl/promql/ast.h"

namespace tunnelctl::promql {

/// One function of PromQL.
struct Function {
  std::string_view name;
  std::array<ValueType, 5> argument_types;
  std::size_t argument_count;
  /// 0: exactly `argument_count`. n > 0: the last may be left out or repeated, up to n - 1 more. -1: any
  /// number.
  int variadic;
  ValueType returns;
  bool experimental;  // needs --enable-feature=promql-experimental-functions
};

/// nullptr if Prometheus has no such function.
const Function* find_function(std::string_view name);
std::span<const Function> functions();

}  // namespace tunnelctl::promql
