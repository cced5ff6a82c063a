#include "tunneld/access/token_verifier.h"

#include <algorithm>
#include <array>
#include <optional>

#include <nlohmann/json.hpp>

#include "common/strict_json.h"
#include "tunneld/access/base64url.h"
#include "tunneld/access/claims.h"

namespace tunneld::access {
namespace {

using nlohmann::json;

/// The three parts of a compact JWS, decoded; `signed_text` is the first two as they came.
struct Parts {
  std::string_view signed_text;
  json header;
  json payload;
  std::string signature;
};

std::optional<json> json_object(std::string_view part) {
  const auto text = base64url_decode(part);
  if (!text) return std::nullopt;
  auto parsed = parse_strict_json(*text, TokenVerifier::kMaxTokenBytes);
  if (!parsed || !parsed->is_object()) return std::nullopt;
  return std::move(*parsed);
}

std::optional<Parts> taken_apart(std::string_view token) {
  const auto first = token.find('.');
  if (first == std::string_view::npos) return std::nullopt;
  const auto second = token.find('.', first + 1);
  // A third dot is left in the signature part, where base64url refuses it.
  if (second == std::string_view::npos) return std::nullopt;
  auto header = json_object(token.substr(0, first));
  if (!header) return std::nullopt;
  auto payload = json_object(token.substr(first + 1, second - first - 1));
  if (!payload) return std::nullopt;
  auto signature = base64url_decode(token.substr(second + 1));
  if (!signature) return std::nullopt;
  return Parts{token.substr(0, second), std::move(*header), std::move(*payload), std::move(*signature)};
}

/// For the audit log: short and printable, whatever the token says.
std::string claimed(const json& object, const char* member) {
  const auto found = object.find(member);
  if (found == object.end() || !found->is_string()) return {};
  std::string text = found->get_ref<const std::string&>().substr(0, 128);
  for (char& c : text)
    if (c < 0x20 || c > 0x7e) c = '?';
  return text;
}

bool same_letters(std::string_view left, std::string_view right) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](char a, char b) { return lower(a) == lower(b); });
}

/// Header members that change what the token is. A verifier that does not understand `crit` must
/// refuse it (RFC 7515 section 4.1.11); `b64` (RFC 7797) may not be passed over; `enc` and `zip` mean
/// encryption, `cty` nesting. Another `typ` is a token made for another purpose (RFC 8725 section 3.11).
bool plain_header(const json& header) {
  for (const char* member : {"crit", "b64", "enc", "zip", "cty"})
    if (header.contains(member)) return false;
  const auto typ = header.find("typ");
  if (typ == header.end()) return true;
  if (!typ->is_string()) return false;
  const auto& text = typ->get_ref<const std::string&>();
  // RFC 9068: at+jwt, with or without the "application/" that media types may drop.
  const auto allowed = {"JWT", "at+jwt", "application/at+jwt"};
  return std::any_of(allowed.begin(), allowed.end(),
                     [&](const char* one) { return same_letters(text, one); });
}

/// The key a token asks for, and why it may not have it.
struct KeyChoice {
  const VerificationKey* key = nullptr;
  std::optional<Reason> problem;
};

KeyChoice choose_key(const json& header, Algorithm algorithm, const JwkSet& keys) {
  KeyChoice choice;
  const auto kid = header.find("kid");
  if (kid != header.end() && (!kid->is_string() || !valid_kid(kid->get_ref<const std::string&>()))) {
    choice.problem = Reason::kid;
  } else if (kid == header.end() || keys.is_shared_secret()) {
    // A shared secret has no name of its own.
    choice.key = keys.only();
    if (choice.key == nullptr) choice.problem = Reason::kid;
  } else {
    choice.key = keys.find(kid->get_ref<const std::string&>());
    if (choice.key == nullptr) choice.problem = Reason::kid_unknown;
  }
  if (choice.key != nullptr && choice.key->algorithm() != algorithm) {
    choice.key = nullptr;
    choice.problem = Reason::alg;
  }
  return choice;
}

Result<void> fits(AuthMode mode, const JwkSet* keys) {
  if (keys == nullptr) return fail(Error::Kind::bad_input, "no verification keys given");
  if (keys->is_shared_secret() && mode != AuthMode::shared_secret)
    return fail(Error::Kind::bad_input, "a shared secret may be used with auth.mode=shared_secret only");
  if (!keys->is_shared_secret() && mode == AuthMode::shared_secret)
    return fail(Error::Kind::bad_input, "auth.mode=shared_secret excludes a JWK Set");
  return {};
}

}  // namespace

Result<std::unique_ptr<TokenVerifier>> TokenVerifier::create(Options options,
                                                             std::shared_ptr<const JwkSet> keys) {
  if (auto fit = fits(options.mode, keys.get()); !fit) return tl::unexpected(fit.error());
  return std::unique_ptr<TokenVerifier>(new TokenVerifier(std::move(options), std::move(keys)));
}

tl::expected<Accepted, Rejection> TokenVerifier::verify(std::string_view token,
                                                        std::chrono::system_clock::time_point wall,
                                                        std::chrono::steady_clock::time_point steady) {
  if (token.empty()) return tl::unexpected(Rejection{.reason = Reason::missing});
  if (token.size() > kMaxTokenBytes) return tl::unexpected(Rejection{.reason = Reason::size});

  const Sha256 digest = sha256(token);
  if (auto known = cache_.find(digest, version_.load(std::memory_order_acquire), steady)) {
    if (wall < known->principal.expires_at + options_.leeway) return Accepted{std::move(known), true};
    cache_.erase(digest);
    return tl::unexpected(Rejection{.reason = Reason::expired,
                                    .claimed_kid = known->key_id,
                                    .claimed_alg = std::string(name(known->algorithm)),
                                    .claimed_issuer = known->principal.issuer.substr(0, 128)});
  }

  const Snapshot now = snapshot();
  auto verified = verify_fresh(token, *now.keys, wall);
  if (!verified) return tl::unexpected(std::move(verified.error()));
  auto entry = std::make_shared<const VerifiedToken>(std::move(*verified));
  const auto left = entry->principal.expires_at - wall;
  const auto fresh_for = std::min<std::chrono::system_clock::duration>(options_.cache_ttl, left);
  if (fresh_for > fresh_for.zero()) cache_.put(digest, now.version, steady + fresh_for, entry);
  return Accepted{std::move(entry), false};
}

std::optional<Accepted> TokenVerifier::recall(std::string_view token,
                                              std::chrono::system_clock::time_point wall,
                                              std::chrono::steady_clock::time_point steady) {
  if (token.empty() || token.size() > kMaxTokenBytes) return std::nullopt;
  auto known = cache_.find(sha256(token), version_.load(std::memory_order_acquire), steady);
  if (!known || wall >= known->principal.expires_at + options_.leeway) return std::nullopt;
  return Accepted{std::move(known), true};
}

tl::expected<VerifiedToken, Rejection> TokenVerifier::verify_fresh(
    std::string_view token, const JwkSet& keys, std::chrono::system_clock::time_point wall) const {
  const auto parts = taken_apart(token);
  if (!parts) return tl::unexpected(Rejection{.reason = Reason::malformed});
  Rejection rejection{.claimed_kid = claimed(parts->header, "kid"),
                      .claimed_alg = claimed(parts->header, "alg"),
                      .claimed_issuer = claimed(parts->payload, "iss")};
  const auto reject = [&](Reason reason) {
    rejection.reason = reason;
    return tl::unexpected(std::move(rejection));
  };

  if (!plain_header(parts->header)) return reject(Reason::header);
  const auto alg = parts->header.find("alg");
  const auto algorithm = alg != parts->header.end() && alg->is_string()
                             ? algorithm_named(alg->get_ref<const std::string&>())
                             : std::nullopt;
  if (!algorithm || (*algorithm == Algorithm::hs256) != keys.is_shared_secret()) return reject(Reason::alg);

  const KeyChoice choice = choose_key(parts->header, *algorithm, keys);
  const VerificationKey* key = choice.key != nullptr ? choice.key : keys.any(*algorithm);
  const bool genuine = key != nullptr && key->verify(parts->signed_text, parts->signature);
  if (choice.problem) {
    // A token of another issuer is not worth one of the few fetches.
    const auto issuer = parts->payload.find("iss");
    rejection.refetch_may_help = *choice.problem == Reason::kid_unknown && options_.mode == AuthMode::jwks &&
                                 issuer != parts->payload.end() && *issuer == options_.issuer;
    return reject(*choice.problem);
  }
  if (!genuine) return reject(Reason::signature);

  auto principal = principal_from(parts->payload, options_, wall);
  if (!principal) return reject(principal.error());
  auto whose = principal->key();
  auto hash = tunnel::principal_hash(whose);
  return VerifiedToken{std::move(*principal), rejection.claimed_kid, *algorithm, std::move(whose),
                       std::move(hash)};
}

TokenVerifier::Snapshot TokenVerifier::snapshot() const {
  const std::lock_guard lock(mutex_);
  return {keys_, version_.load(std::memory_order_relaxed)};
}

Result<void> TokenVerifier::replace_keys(std::shared_ptr<const JwkSet> keys) {
  if (auto fit = fits(options_.mode, keys.get()); !fit) return fit;
  const std::lock_guard lock(mutex_);
  keys_.swap(keys);
  // Entries carry the version of the keys that verified them, so this empties the cache at once.
  version_.fetch_add(1, std::memory_order_release);
  return {};
}

void TokenVerifier::invalidate() {
  const std::lock_guard lock(mutex_);
  version_.fetch_add(1, std::memory_order_release);
}

std::shared_ptr<const JwkSet> TokenVerifier::keys() const {
  return snapshot().keys;
}

}  // namespace tunneld::access
