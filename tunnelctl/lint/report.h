#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tunnelctl/lint/lint.h"

namespace tunnelctl::lint {

/// Collects findings; each has the severity of its check.
class Report {
 public:
  void add(std::string_view check, const pack::Place& place, std::string object, std::string message);
  /// Marks what the pack accepts, reports acceptances that accept nothing, and hands over.
  std::vector<Finding> finish(const pack::Pack& pack);

 private:
  std::vector<Finding> findings_;
};

}  // namespace tunnelctl::lint
