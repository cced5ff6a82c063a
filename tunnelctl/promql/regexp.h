#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

/// Judges regular expressions in the syntax of RE2 (Go's regexp package), which Prometheus and Loki use. It
/// does not match anything: it says whether the server will accept the pattern, and a few facts about it.
namespace tunnelctl::promql {

struct Regexp {
  bool matches_empty = false;              // the whole pattern matches the empty text
  bool literal = false;                    // no metacharacter: `=` would do
  std::vector<std::string> capture_names;  // of (?P<name>…), in order
};

/// Fails as Go words it: "error parsing regexp: missing closing ): `…`".
/// Lenient in one point: any capitalised script name is taken in \p{…}.
Result<Regexp> parse_regexp(std::string_view pattern);

/// `text` as a pattern that matches just it.
std::string escape_regexp(std::string_view text);

}  // namespace tunnelctl::promql
