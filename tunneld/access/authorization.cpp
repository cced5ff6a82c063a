#include "tunneld/access/authorization.h"

#include <algorithm>

#include "tunneld/access/claims.h"

namespace tunneld::access {
namespace {

tl::unexpected<Error> bad(const std::string& entry, const std::string& why) {
  // Configuration, not a stranger's text, but a message still should not carry a page of it.
  return fail(Error::Kind::bad_input, "allow entry \"" + entry.substr(0, 80) + "\": " + why);
}

bool starts(std::string_view text, std::string_view prefix, std::string_view& rest) {
  if (!text.starts_with(prefix)) return false;
  rest = text.substr(prefix.size());
  return true;
}

}  // namespace

Result<AllowList> AllowList::parse(const std::vector<std::string>& entries, std::string_view issuer) {
  if (entries.size() > kMaxEntries)
    return fail(Error::Kind::bad_input,
                "allow has more than " + std::to_string(kMaxEntries) + " entries; use a scope");
  AllowList list;
  list.issuer_ = issuer;
  for (const std::string& entry : entries) {
    std::string_view what;
    if (entry == "*") {
      list.everybody_ = true;
    } else if (starts(entry, "sub:", what)) {
      if (!valid_subject(what)) return bad(entry, "a subject is 1 to 255 bytes of printable ASCII");
      if (what == "*") return bad(entry, "write \"*\" to allow everybody with a valid token");
      const auto at = what.rfind('@');
      if (at != std::string_view::npos &&
          (what.substr(at + 1) == issuer || what.find("://", at) != std::string_view::npos))
        return bad(entry, "leave out the issuer; subjects are those of the configured auth.issuer");
      list.subjects_.emplace(what);
    } else if (starts(entry, "tier:", what)) {
      const auto tier = tier_named(what);
      if (!tier) return bad(entry, "the tier must be free, premium or enterprise");
      list.tiers_[static_cast<std::size_t>(*tier)] = true;
    } else if (starts(entry, "scope:", what)) {
      if (!valid_scope(what))
        return bad(entry, "a scope is printable ASCII without space, quote or backslash");
      list.scopes_.emplace(what);
    } else {
      return bad(entry, "use \"*\", \"sub:<subject>\", \"tier:<tier>\" or \"scope:<scope>\"");
    }
  }
  return list;
}

bool AllowList::permits(const tunnel::Principal& principal) const {
  if (principal.issuer != issuer_) return false;
  // Every kind is looked at, so that time does not tell which one matched.
  const bool by_subject = subjects_.find(principal.subject) != subjects_.end();
  const bool by_tier = tiers_[static_cast<std::size_t>(principal.tier)];
  bool by_scope = false;
  for (const auto& scope : principal.scopes) by_scope |= scopes_.find(scope) != scopes_.end();
  return everybody_ || by_subject || by_tier || by_scope;
}

bool may_use(const tunnel::Principal& principal, const AllowList* service) {
  // An unknown service walks the same path as one with nobody on its list.
  static const AllowList nobody;
  return (service != nullptr ? *service : nobody).permits(principal);
}

}  // namespace tunneld::access
