#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/monitor/objects.h"

/// Panels and rows that a dashboard shows once for each value of a variable.
namespace tunnelctl::monitor {

/// label_values(selector, label)
struct LabelValues {
  std::string selector{};  // "" for label_values(label)
  std::string label{};
};
/// nullopt for every other kind of variable query.
std::optional<LabelValues> parse_label_values(std::string_view query);

/// By panel id, the variables that the panel itself, or its row, is repeated for.
std::map<std::int64_t, std::vector<std::string>> repeats(const Json& dashboard);

/// What is known about a variable's values without asking.
struct Values {
  std::vector<std::string> known{};  // selected in the file, or the options of a custom variable
  std::optional<LabelValues> ask{};  // when `known` is empty: the question, with variables inside
  std::string datasource{};          // whom to ask, as written
  std::string regex{};               // of the variable: filters and shortens what comes back
  std::string unknown{};             // why neither is there
};
Values values_of(const Json& dashboard, const std::string& variable);

/// The values as the variable's `regex` leaves them: "/^(.+):\d+$/" keeps what matches, and of it the first
/// group. Each once, in their order; a regex that cannot be read leaves all.
std::vector<std::string> filtered(const std::vector<std::string>& values, const std::string& regex);

}  // namespace tunnelctl::monitor
