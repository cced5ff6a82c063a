#include "tunneld/access/jwk_set.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/strict_json.h"
#include "tunneld/access/base64url.h"

namespace tunneld::access {
namespace {

using nlohmann::json;

tl::unexpected<Error> bad(std::string message) {
  return fail(Error::Kind::bad_input, std::move(message));
}

/// nullptr unless the member is there and a string.
const std::string* text_member(const json& object, const char* member) {
  const auto found = object.find(member);
  return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

Result<std::string> bytes_member(const json& jwk, const char* member) {
  const std::string* text = text_member(jwk, member);
  if (text == nullptr) return bad(std::string(member) + " is missing or not a string");
  auto bytes = base64url_decode(*text);
  if (!bytes) return bad(std::string(member) + " is not base64url");
  return std::move(*bytes);
}

/// `use` and `key_ops` say what a key is for (RFC 7517 sections 4.2 and 4.3).
Result<void> check_purpose(const json& jwk) {
  if (jwk.contains("use")) {
    const std::string* use = text_member(jwk, "use");
    if (use == nullptr || *use != "sig") return bad("use is not sig");
  }
  if (const auto ops = jwk.find("key_ops"); ops != jwk.end()) {
    if (!ops->is_array() || std::find(ops->begin(), ops->end(), json("verify")) == ops->end())
      return bad("key_ops lacks verify");
  }
  if (jwk.contains("d")) return bad("it is a private key; publish the public part only and replace the key");
  return {};
}

Result<VerificationKey> key_from(const json& jwk) {
  const std::string* kty = text_member(jwk, "kty");
  if (kty == nullptr) return bad("kty is missing");
  if (*kty == "RSA") {
    const auto n = bytes_member(jwk, "n");
    if (!n) return tl::unexpected(n.error());
    const auto e = bytes_member(jwk, "e");
    if (!e) return tl::unexpected(e.error());
    return VerificationKey::rsa(*n, *e);
  }
  const std::string* crv = text_member(jwk, "crv");
  if (*kty == "EC") {
    if (crv == nullptr || *crv != "P-256") return bad("EC curve is not P-256");
    const auto x = bytes_member(jwk, "x");
    if (!x) return tl::unexpected(x.error());
    const auto y = bytes_member(jwk, "y");
    if (!y) return tl::unexpected(y.error());
    return VerificationKey::p256(*x, *y);
  }
  if (*kty == "OKP") {
    if (crv == nullptr || *crv != "Ed25519") return bad("OKP curve is not Ed25519");
    const auto x = bytes_member(jwk, "x");
    if (!x) return tl::unexpected(x.error());
    return VerificationKey::ed25519(*x);
  }
  if (*kty == "oct") return bad("a symmetric key has no place in a public key set");
  return bad("kty is not RSA, EC or OKP");
}

Result<VerificationKey> usable_key(const json& jwk) {
  if (!jwk.is_object()) return bad("it is not an object");
  if (auto purpose = check_purpose(jwk); !purpose) return tl::unexpected(purpose.error());
  if (jwk.contains("kid")) {
    const std::string* kid = text_member(jwk, "kid");
    if (kid == nullptr || !valid_kid(*kid)) return bad("kid is not 1 to 128 of A-Z a-z 0-9 . _ -");
  }
  auto key = key_from(jwk);
  if (key && jwk.contains("alg")) {
    const std::string* alg = text_member(jwk, "alg");
    if (alg == nullptr || *alg != name(key->algorithm()))
      return bad("alg is not " + std::string(name(key->algorithm())) + ", the one for this kind of key");
  }
  return key;
}

std::string described(const json& jwk, std::size_t place) {
  const std::string* kid = jwk.is_object() ? text_member(jwk, "kid") : nullptr;
  std::string text = "keys[" + std::to_string(place) + "]";
  if (kid != nullptr && valid_kid(*kid)) text += " (kid " + *kid + ")";
  return text;
}

}  // namespace

bool valid_kid(std::string_view kid) {
  if (kid.empty() || kid.size() > 128) return false;
  return std::all_of(kid.begin(), kid.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

Result<JwkSet> JwkSet::parse(std::string_view document) {
  const auto parsed = parse_strict_json(document, kMaxBytes);
  if (!parsed) return bad("the JWK Set " + parsed.error().message);
  const json& root = *parsed;
  if (!root.is_object() || !root.contains("keys") || !root["keys"].is_array())
    return bad("the JWK Set has no \"keys\" array");
  const json& list = root["keys"];
  if (list.size() > kMaxKeys) return bad("the JWK Set has more than " + std::to_string(kMaxKeys) + " keys");

  JwkSet set;
  std::vector<std::pair<std::size_t, VerificationKey>> unnamed;
  for (std::size_t place = 0; place < list.size(); ++place) {
    const json& jwk = list[place];
    auto key = usable_key(jwk);
    if (!key) {
      set.skipped_.push_back(described(jwk, place) + ": " + key.error().message);
    } else if (!jwk.contains("kid")) {
      unnamed.emplace_back(place, std::move(*key));
    } else if (!set.keys_.emplace(jwk["kid"].get<std::string>(), std::move(*key)).second) {
      return bad("the JWK Set names two keys " + jwk["kid"].get<std::string>() + "; each kid must be unique");
    }
  }
  // Which of several keys a nameless one stands for would be a guess.
  if (unnamed.size() == 1 && set.keys_.empty()) {
    set.unnamed_ = std::move(unnamed.front().second);
  } else {
    for (const auto& [place, key] : unnamed)
      set.skipped_.push_back(described(list[place], place) + ": kid is missing and the set has other keys");
  }
  if (set.size() == 0) {
    std::string message = "the JWK Set has no usable key";
    if (!set.skipped_.empty()) message += ": " + set.skipped_.front();
    if (set.skipped_.size() > 1) message += " (and " + std::to_string(set.skipped_.size() - 1) + " more)";
    return bad(std::move(message));
  }
  return set;
}

Result<JwkSet> JwkSet::shared_secret(std::string_view secret) {
  auto key = VerificationKey::shared_secret(secret);
  if (!key) return tl::unexpected(key.error());
  JwkSet set;
  set.unnamed_ = std::move(*key);
  set.shared_secret_ = true;
  return set;
}

const VerificationKey* JwkSet::find(std::string_view kid) const {
  const auto found = keys_.find(kid);
  return found == keys_.end() ? nullptr : &found->second;
}

const VerificationKey* JwkSet::only() const {
  if (size() != 1) return nullptr;
  return unnamed_ ? &*unnamed_ : &keys_.begin()->second;
}

const VerificationKey* JwkSet::any(Algorithm algorithm) const {
  if (unnamed_ && unnamed_->algorithm() == algorithm) return &*unnamed_;
  for (const auto& [kid, key] : keys_)
    if (key.algorithm() == algorithm) return &key;
  return nullptr;
}

}  // namespace tunneld::access
