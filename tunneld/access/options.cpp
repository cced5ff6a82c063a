#include "tunneld/access/options.h"

#include <string_view>

namespace tunneld::access {
namespace {

bool plain_https_url(std::string_view url) {
  constexpr std::string_view scheme = "https://";
  if (!url.starts_with(scheme)) return false;
  for (const char c : url)
    if (c <= 0x20 || c >= 0x7f || c == '#' || c == '\\') return false;
  const std::string_view authority =
      url.substr(scheme.size(), url.find_first_of("/?", scheme.size()) - scheme.size());
  return !authority.empty() && authority.front() != ':' && authority.find('@') == std::string_view::npos;
}

tl::unexpected<Error> bad(std::string message) {
  return fail(Error::Kind::bad_input, std::move(message));
}

Result<void> check_sources(const Options& options) {
  const bool any_jwks = !options.jwks_file.empty() || !options.jwks_url.empty();
  switch (options.mode) {
    case AuthMode::local:
      if (any_jwks) return bad("auth.jwks_file and auth.jwks_url need auth.mode=jwks (auth.mode is local)");
      if (!options.shared_secret_file.empty())
        return bad("auth.shared_secret_file needs auth.mode=shared_secret (auth.mode is local)");
      break;
    case AuthMode::jwks:
      if (options.jwks_file.empty() == options.jwks_url.empty())
        return bad("auth.mode=jwks needs exactly one of auth.jwks_file and auth.jwks_url");
      if (!options.jwks_url.empty() && !plain_https_url(options.jwks_url))
        return bad("auth.jwks_url must be an https:// URL without user name or fragment");
      if (!options.shared_secret_file.empty())
        return bad("auth.shared_secret_file cannot be combined with auth.mode=jwks; remove one of them");
      break;
    case AuthMode::shared_secret:
      if (options.shared_secret_file.empty())
        return bad("auth.mode=shared_secret needs auth.shared_secret_file");
      if (any_jwks)
        return bad("auth.mode=shared_secret excludes auth.jwks_file and auth.jwks_url; remove them");
      break;
  }
  return {};
}

}  // namespace

Result<Options> validated(Options options) {
  using std::chrono::seconds;
  if (auto sources = check_sources(options); !sources) return tl::unexpected(sources.error());
  if (options.mode == AuthMode::local) {
    if (options.issuer.empty()) options.issuer = "tunneld";
    if (options.audience.empty()) options.audience = "tunneld";
  }
  if (options.issuer.empty()) return bad("auth.issuer is required: the exact `iss` of the tokens");
  if (options.audience.empty())
    return bad("auth.audience is required: the `aud` that tokens for this tunnel carry");
  // The principal's key joins issuer and subject with NUL, so the issuer must not hold one.
  for (const char c : options.issuer)
    if (c < 0x20 || c == 0x7f) return bad("auth.issuer must not contain control characters");
  if (options.issuer.size() > 512) return bad("auth.issuer is longer than 512 bytes");
  if (options.tier_claim.empty()) return bad("auth.tier_claim must name a claim");
  if (options.scope_claim.empty()) return bad("auth.scope_claim must name a claim");
  if (options.leeway < seconds{0} || options.leeway > seconds{300})
    return bad("auth.leeway must be 0 to 300 seconds");
  if (options.max_lifetime < seconds{60} || options.max_lifetime > std::chrono::hours{24})
    return bad("auth.max_lifetime must be 60 seconds to 24 hours");
  if (options.cache_entries < 1 || options.cache_entries > 1'000'000)
    return bad("auth.cache_entries must be 1 to 1000000");
  if (options.cache_ttl < seconds{0} || options.cache_ttl > seconds{60})
    return bad("auth.cache_ttl must be 0 to 60 seconds");
  return options;
}

}  // namespace tunneld::access
