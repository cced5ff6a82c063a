// room: tunneld_access
// Tokens and the requests that carry them. Input: one byte for the way in, then the bytes.
//   0  a token against a set of public keys: nobody can sign, so nothing may be accepted
//   1  header and payload as text, a line end between: signed with the shared secret, so that the
//      claims behind the signature are reached too
//   2  request target and field values, a line end between each
#include "tunneld/access/token_verifier.h"

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tests/tunneld/access/token_forge.h"
#include "tunneld/access/bearer.h"
#include "tunneld/access/local_issuer.h"

namespace {

using namespace tunneld::access;
using namespace std::chrono_literals;

constexpr std::string_view kSecret = "0123456789abcdef0123456789abcdef";
const std::chrono::system_clock::time_point kWall{1'800'000'000s};

void require(bool holds) {
  if (!holds) std::abort();
}

std::unique_ptr<TokenVerifier> verifier(AuthMode mode, JwkSet keys) {
  Options options;
  options.mode = mode;
  options.issuer = "i";
  options.audience = "a";
  return *TokenVerifier::create(options, std::make_shared<const JwkSet>(std::move(keys)));
}

void check_principal(const tunnel::Principal& who) {
  require(who.issuer == "i");
  require(!who.subject.empty() && who.subject.size() <= 255);
  for (const char c : who.subject) require(c >= 0x20 && c <= 0x7e);
  require(who.expires_at > kWall - 30s && who.expires_at <= kWall + 24h + 30s);
  for (const auto& scope : who.scopes) require(!scope.empty() && scope.find(' ') == scope.npos);
}

void check_rejection(const Rejection& rejection) {
  require(!label(rejection.reason).empty() && !caller_text(rejection).empty());
  for (const auto* claimed : {&rejection.claimed_kid, &rejection.claimed_alg, &rejection.claimed_issuer}) {
    require(claimed->size() <= 128);
    for (const char c : *claimed) require(c >= 0x20 && c <= 0x7e);
  }
}

void token_against_public_keys(std::string_view token) {
  static const auto checks = verifier(AuthMode::jwks, *JwkSet::parse(LocalIssuer::generate()->jwks()));
  const auto verdict = checks->verify(token, kWall, {});
  require(!verdict);
  require(!verdict.error().expired());
  check_rejection(verdict.error());
}

void signed_claims(std::string_view input) {
  static const auto checks = verifier(AuthMode::shared_secret, *JwkSet::shared_secret(kSecret));
  const auto end = std::min(input.find('\n'), input.size());
  const std::string text =
      forge::unsigned_text(input.substr(0, end), input.substr(std::min(end + 1, input.size())));
  const std::string token = forge::with_signature(text, forge::hmac(kSecret, text));
  const auto verdict = checks->verify(token, kWall, {});
  if (!verdict) return check_rejection(verdict.error());
  check_principal(verdict->principal());
  const auto again = checks->verify(token, kWall, {});
  require(again && again->principal().key() == verdict->principal().key());
}

void request(std::string_view input) {
  BearerFinder finder;
  const auto end = std::min(input.find('\n'), input.size());
  const std::string_view target = input.substr(0, end);
  bool header = true;
  for (auto rest = input.substr(std::min(end + 1, input.size())); !rest.empty(); header = !header) {
    const auto line = std::min(rest.find('\n'), rest.size());
    finder.see(header ? "Authorization" : "Sec-WebSocket-Protocol", rest.substr(0, line));
    rest.remove_prefix(std::min(line + 1, rest.size()));
  }
  const auto token = finder.token(target);
  if (!token) return check_rejection(token.error());
  require(!token->token.empty());
  for (const char c : token->token) require(c > 0x20 && c < 0x7f && c != ',' && c != '=');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: token_against_public_keys(rest); break;
    case 1: signed_claims(rest); break;
    default: request(rest); break;
  }
  return 0;
}
