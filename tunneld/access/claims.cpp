#include "tunneld/access/claims.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include <nlohmann/json.hpp>

namespace tunneld::access {
namespace {

using nlohmann::json;
using Rejected = tl::unexpected<Reason>;

constexpr std::int64_t kLastSecondOf9999 = 253'402'300'799;

const std::string* text_claim(const json& payload, const std::string& claim) {
  const auto found = payload.find(claim);
  return found == payload.end() ? nullptr : found->get_ptr<const std::string*>();
}

/// Seconds since 1970. An absent claim is an empty optional; a float, string, negative or absurd
/// number is a rejection.
tl::expected<std::optional<std::int64_t>, Reason> time_claim(const json& payload, const char* claim) {
  const auto found = payload.find(claim);
  if (found == payload.end()) return std::nullopt;
  if (!found->is_number_unsigned()) return Rejected(Reason::claims);
  const auto value = found->get<std::uint64_t>();
  if (value > static_cast<std::uint64_t>(kLastSecondOf9999)) return Rejected(Reason::claims);
  return static_cast<std::int64_t>(value);
}

tl::expected<void, Reason> check_audience(const json& payload, const std::string& ours) {
  const auto aud = payload.find("aud");
  if (aud == payload.end()) return Rejected(Reason::claims);
  if (aud->is_string()) {
    if (aud->get_ref<const std::string&>() != ours) return Rejected(Reason::audience);
    return {};
  }
  if (!aud->is_array()) return Rejected(Reason::claims);
  bool found = false;
  for (const json& one : *aud) {
    if (!one.is_string()) return Rejected(Reason::claims);
    found = found || one.get_ref<const std::string&>() == ours;
  }
  if (!found) return Rejected(Reason::audience);
  return {};
}

bool add_scope(std::vector<std::string>& scopes, std::string_view scope) {
  if (!valid_scope(scope)) return false;
  if (std::find(scopes.begin(), scopes.end(), scope) == scopes.end()) scopes.emplace_back(scope);
  return true;
}

tl::expected<std::vector<std::string>, Reason> scopes_from(const json& payload, const std::string& claim) {
  std::vector<std::string> scopes;
  const auto found = payload.find(claim);
  if (found == payload.end()) return scopes;
  if (found->is_array()) {
    for (const json& one : *found)
      if (!one.is_string() || !add_scope(scopes, one.get_ref<const std::string&>()))
        return Rejected(Reason::claims);
    return scopes;
  }
  if (!found->is_string()) return Rejected(Reason::claims);
  std::string_view rest = found->get_ref<const std::string&>();
  while (!rest.empty()) {
    const auto space = std::min(rest.find(' '), rest.size());
    if (space > 0 && !add_scope(scopes, rest.substr(0, space))) return Rejected(Reason::claims);
    rest.remove_prefix(std::min(space + 1, rest.size()));
  }
  return scopes;
}

/// Everything about time. Comparisons are in whole seconds of 64 bits, where nothing here can overflow.
tl::expected<std::int64_t, Reason> check_times(const json& payload, const Options& options,
                                               std::int64_t now) {
  const auto exp = time_claim(payload, "exp");
  const auto nbf = time_claim(payload, "nbf");
  const auto iat = time_claim(payload, "iat");
  if (!exp || !nbf || !iat || !*exp) return Rejected(Reason::claims);
  const std::int64_t leeway = options.leeway.count();
  const std::int64_t ends = **exp;
  if ((*nbf && **nbf > now + leeway) || (*iat && **iat > now + leeway))
    return Rejected(Reason::not_yet_valid);
  const std::int64_t begins = *iat ? **iat : *nbf ? **nbf : now;
  if (ends - begins > options.max_lifetime.count()) return Rejected(Reason::lifetime);
  if ((*iat || *nbf) && ends <= begins) return Rejected(Reason::claims);
  return ends;
}

}  // namespace

bool valid_subject(std::string_view subject) {
  return !subject.empty() && subject.size() <= 255 &&
         std::all_of(subject.begin(), subject.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

bool valid_scope(std::string_view scope) {
  return !scope.empty() && std::all_of(scope.begin(), scope.end(),
                                       [](char c) { return c > 0x20 && c <= 0x7e && c != '"' && c != '\\'; });
}

std::optional<tunnel::Tier> tier_named(std::string_view text) {
  for (const tunnel::Tier tier : {tunnel::Tier::free, tunnel::Tier::premium, tunnel::Tier::enterprise})
    if (text == to_string(tier)) return tier;
  return std::nullopt;
}

tl::expected<tunnel::Principal, Reason> principal_from(const json& payload, const Options& options,
                                                       std::chrono::system_clock::time_point now) {
  using std::chrono::seconds;
  const std::string* issuer = text_claim(payload, "iss");
  const std::string* subject = text_claim(payload, "sub");
  if (issuer == nullptr || subject == nullptr || !valid_subject(*subject)) return Rejected(Reason::claims);
  if (*issuer != options.issuer) return Rejected(Reason::issuer);
  if (const auto audience = check_audience(payload, options.audience); !audience)
    return Rejected(audience.error());

  tunnel::Principal principal{.issuer = *issuer, .subject = *subject, .scopes = {}, .token_id = {}};
  if (payload.contains("jti")) {
    const std::string* id = text_claim(payload, "jti");
    // The same alphabet and length as a subject: it is logged and looked up the same way.
    if (id == nullptr || !valid_subject(*id)) return Rejected(Reason::claims);
    principal.token_id = *id;
  }
  if (const std::string* tier = text_claim(payload, options.tier_claim))
    principal.tier = tier_named(*tier).value_or(tunnel::Tier::free);
  auto scopes = scopes_from(payload, options.scope_claim);
  if (!scopes) return Rejected(scopes.error());
  principal.scopes = std::move(*scopes);

  const std::int64_t now_s = std::chrono::floor<seconds>(now).time_since_epoch().count();
  const auto ends = check_times(payload, options, now_s);
  if (!ends) return Rejected(ends.error());
  if (now_s >= *ends + options.leeway.count()) return Rejected(Reason::expired);
  // In range for the clock's nanoseconds: within max_lifetime of about now.
  principal.expires_at = std::chrono::system_clock::time_point(seconds{*ends});
  if (const auto issued = time_claim(payload, "iat"); issued && *issued)
    principal.issued_at = std::chrono::system_clock::time_point(seconds{**issued});
  return principal;
}

}  // namespace tunneld::access
