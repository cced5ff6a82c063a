#pragma once

#include <cstddef>
#include <string_view>

#include "tunnelctl/patterns/secret_names.h"

namespace tunnelctl::patterns {

/// What a redacted place begins with; "]" ends it.
inline constexpr std::string_view kMarkBegin = "[redacted ";
/// The length of such a mark, 0 when there is none.
std::size_t mark_at(std::string_view text, std::size_t at);

/// Where the value of a secret's name lies.
struct SecretValue {
  Secret secret = Secret::none;  // none: it is no such name, or no value follows
  std::size_t begin = 0;
  std::size_t end = 0;  // equal to begin: there is nothing to hide up to here, an empty or redacted value
};

/// Looks whether the name in [begin, end) is followed by a value, in any of these forms. What stands before
/// it is looked at from `from` on: before that is what was taken out.
///
///     password=x  password = x  password: x  password => x  "password":"x"  \"password\":\"x\"
///     password="x y"  --password x  "--password","x"  -password x  <password>x</password>
///     {"name":"PASSWORD","value":"x"}  Authorization: Basic x  Authorization: Digest a="b", c="d"
///     Cookie: a=b; c=d
///
/// A value without quotes ends at a blank, or at one of , ; & ) ] } where the next pair or the end follows,
/// so that a password with punctuation is taken whole. A word of prose ("token: expired"), a mask ("<*>"), a
/// mark, null, ${NAME} and asterisks are no secrets; nor are `pass` with a small number and a short `sig`.
SecretValue value_of(std::string_view text, std::size_t begin, std::size_t end, std::size_t from);

}  // namespace tunnelctl::patterns
