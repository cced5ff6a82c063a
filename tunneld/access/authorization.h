#pragma once

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "common/result.h"
#include "tunnel/principal.h"

namespace tunneld::access {

/// Who may use a service. Entries, of which one must match:
///   "*"                any verified principal
///   "sub:<subject>"    that subject of the configured issuer
///   "tier:<tier>"      exactly that tier: list several to admit several
///   "scope:<scope>"    whoever holds that scope
/// An empty list admits nobody.
///
/// Subjects belong to the one issuer whose tokens are accepted (Options::issuer); there is no
/// "<subject>@<issuer>", because subjects hold '@' themselves (mail addresses) and it would be a guess
/// where one ends. An entry that looks like it is refused rather than never matching.
class AllowList {
 public:
  static constexpr std::size_t kMaxEntries = 10'000;

  /// Admits nobody.
  AllowList() = default;
  /// `issuer`: Options::issuer as validated. Fails with bad_input naming the entry and the remedy;
  /// the caller adds which service it belongs to.
  static Result<AllowList> parse(const std::vector<std::string>& entries, std::string_view issuer);

  /// Constant time in the number of entries.
  bool permits(const tunnel::Principal& principal) const;

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Names = std::unordered_set<std::string, TextHash, std::equal_to<>>;

  std::string issuer_;
  bool everybody_ = false;
  Names subjects_;
  std::array<bool, 3> tiers_{};  // by tunnel::Tier
  Names scopes_;
};

/// The one question doors ask: may `principal` use the service with this list? nullptr stands for a service
/// that does not exist, and is answered like one that is denied.
bool may_use(const tunnel::Principal& principal, const AllowList* service);

}  // namespace tunneld::access
