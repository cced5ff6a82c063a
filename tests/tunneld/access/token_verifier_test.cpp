#include "tunneld/access/token_verifier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/tunneld/access/token_forge.h"

namespace tunneld::access {
namespace {

using namespace std::chrono_literals;
using forge::json;

constexpr auto kNow = 1'800'000'000;
const std::chrono::system_clock::time_point kWall{std::chrono::seconds{kNow}};
const std::chrono::steady_clock::time_point kSteady{1h};
constexpr auto kIssuer = "https://id.example.com/";
constexpr auto kAudience = "https://tunnel.example.com";
const std::string kSecret = "0123456789abcdef0123456789abcdef";

/// Keys are made once: RSA takes its time.
struct Keys {
  forge::Pkey rsa = forge::rsa_key(2048);
  forge::Pkey rsa_other = forge::rsa_key(2048);
  forge::Pkey rsa_weak = forge::rsa_key(1024);
  forge::Pkey ec = forge::ec_key("P-256");
  forge::Pkey ec_other = forge::ec_key("P-256");
  forge::Pkey p384 = forge::ec_key("P-384");
  forge::Pkey ed = forge::ed_key();
  forge::Pkey ed_other = forge::ed_key();
  forge::Pkey ed448 = forge::ed_key("ED448");
};
const Keys& keys() {
  static const Keys made;
  return made;
}

std::shared_ptr<const JwkSet> key_set() {
  const json document{
      {"keys",
       {forge::jwk(keys().rsa, "rsa-1"), forge::jwk(keys().rsa_other, "rsa-2"),
        forge::jwk(keys().rsa_weak, "rsa-weak"), forge::jwk(keys().ec, "ec-1"),
        forge::jwk(keys().p384, "p384"), forge::jwk(keys().ed, "ed-1"), forge::jwk(keys().ed448, "ed448")}}};
  auto set = JwkSet::parse(document.dump());
  EXPECT_TRUE(set) << set.error().message;
  return std::make_shared<const JwkSet>(std::move(*set));
}

Options options(AuthMode mode = AuthMode::jwks) {
  Options made;
  made.mode = mode;
  made.issuer = kIssuer;
  made.audience = kAudience;
  return made;
}

std::unique_ptr<TokenVerifier> verifier(Options with = options()) {
  auto made = TokenVerifier::create(std::move(with), key_set());
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}

std::unique_ptr<TokenVerifier> secret_verifier() {
  auto set = JwkSet::shared_secret(kSecret);
  auto made = TokenVerifier::create(options(AuthMode::shared_secret),
                                    std::make_shared<const JwkSet>(std::move(*set)));
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}

json claims() {
  return {{"iss", kIssuer}, {"aud", kAudience}, {"sub", "ann"}, {"iat", kNow - 10}, {"exp", kNow + 3600}};
}
json claims_with(const char* claim, json value) {
  json made = claims();
  made[claim] = std::move(value);
  return made;
}
json claims_without(const char* claim) {
  json made = claims();
  made.erase(claim);
  return made;
}
json header(const char* alg = "EdDSA", const char* kid = "ed-1") {
  return {{"alg", alg}, {"kid", kid}, {"typ", "JWT"}};
}
json header_with(const char* member, json value) {
  json made = header();
  made[member] = std::move(value);
  return made;
}
/// Properly signed with ed-1: what makes it wrong is inside.
std::string ours(const json& head, const json& payload) {
  return forge::token(keys().ed, head, payload);
}
std::string ours(const json& payload) {
  return ours(header(), payload);
}
std::string ours_text(std::string_view head, std::string_view payload) {
  return forge::token_of_texts(keys().ed, head, payload);
}

std::string label_of(const tl::expected<Accepted, Rejection>& verdict) {
  return verdict ? "accepted" : std::string(label(verdict.error().reason));
}

TEST(TokenVerifier, AcceptsGoodTokensOfEachAlgorithm) {
  const auto checks = verifier();
  const struct {
    const char* alg;
    const char* kid;
    forge::Pkey key;
    Algorithm algorithm;
  } rows[] = {
      {"RS256", "rsa-1", keys().rsa, Algorithm::rs256},
      {"RS256", "rsa-2", keys().rsa_other, Algorithm::rs256},
      {"ES256", "ec-1", keys().ec, Algorithm::es256},
      {"EdDSA", "ed-1", keys().ed, Algorithm::eddsa},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.kid);
    json payload = claims();
    payload.update(
        {{"jti", "id-7"}, {"tier", "premium"}, {"scope", "tunnel:admin tunnel:metrics"}, {"nbf", kNow}});
    const auto verdict =
        checks->verify(forge::token(row.key, header(row.alg, row.kid), payload), kWall, kSteady);
    ASSERT_TRUE(verdict) << label_of(verdict);
    const tunnel::Principal& who = verdict->principal();
    EXPECT_EQ(who.issuer, kIssuer);
    EXPECT_EQ(who.subject, "ann");
    EXPECT_EQ(who.tier, tunnel::Tier::premium);
    EXPECT_EQ(who.scopes, (std::vector<std::string>{"tunnel:admin", "tunnel:metrics"}));
    EXPECT_EQ(who.token_id, "id-7");
    EXPECT_EQ(who.expires_at, kWall + 3600s);
    EXPECT_EQ(verdict->token->key_id, row.kid);
    EXPECT_EQ(verdict->token->algorithm, row.algorithm);
    EXPECT_FALSE(verdict->from_cache);
  }
}

TEST(TokenVerifier, AcceptsWhatIsUnusualButRight) {
  const auto checks = verifier();
  const struct {
    const char* what;
    std::string token;
  } rows[] = {
      {"audience array", ours(claims_with("aud", {"other", kAudience}))},
      {"no typ", ours({{"alg", "EdDSA"}, {"kid", "ed-1"}}, claims())},
      {"access token type", ours(header_with("typ", "at+jwt"), claims())},
      {"long access token type", ours(header_with("typ", "application/at+jwt"), claims())},
      {"lower case type", ours(header_with("typ", "jwt"), claims())},
      {"ignored jku", ours(header_with("jku", "https://evil.example/jwks"), claims())},
      {"ignored jwk", ours(header_with("jwk", forge::jwk(keys().ed_other, "ed-1")), claims())},
      {"ignored x5u", ours(header_with("x5u", "file:///etc/passwd"), claims())},
      {"ignored x5c", ours(header_with("x5c", {"MIIB"}), claims())},
      {"issuer's clock 30 s ahead", ours(claims_with("iat", kNow + 30))},
      {"nbf 30 s ahead", ours(claims_with("nbf", kNow + 30))},
      {"over for 29 s", ours(claims_with("exp", kNow - 1))},
      {"lifetime of exactly a day", ours([] {
         json payload = claims_with("iat", kNow);
         payload["exp"] = kNow + 86400;
         return payload;
       }())},
      {"no iat", ours(claims_without("iat"))},
      {"subject of 255 bytes", ours(claims_with("sub", std::string(255, 's')))},
      {"white space inside the JSON",
       ours_text(" { \"alg\" : \"EdDSA\", \"kid\" : \"ed-1\" } ", claims().dump(2))},
  };
  for (const auto& row : rows)
    EXPECT_EQ(label_of(checks->verify(row.token, kWall, kSteady)), "accepted") << row.what;
}

TEST(TokenVerifier, RejectsEveryForgedOrOddToken) {
  const auto text_of = [](const json& head, const json& payload) {
    return forge::unsigned_text(head.dump(), payload.dump());
  };
  const std::string good = ours(claims());
  const std::string es_text = text_of(header("ES256", "ec-1"), claims());
  const std::string es_der = forge::plain_signature(keys().ec, es_text, EVP_sha256());
  const std::string es_raw = forge::raw_ecdsa(es_der);
  const std::string rs_text = text_of(header("RS256", "rsa-1"), claims());
  const std::string ed_text = text_of(header(), claims());
  const std::string ed_signature = forge::signature(keys().ed, ed_text);
  const std::string group_order = "\xff\xff\xff\xff" + std::string(4, '\0') + std::string(8, '\xff') +
                                  "\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
  const std::string ed_order =
      std::string("\xed\xd3\xf5\x5c\x1a\x63\x12\x58\xd6\x9c\xf7\xa2\xde\xf9\xde\x14") +
      std::string(15, '\0') + "\x10";
  const auto hs_with = [&](std::string_view secret, const char* alg, const char* kid) {
    const std::string text = text_of(header(alg, kid), claims());
    return forge::with_signature(text, forge::hmac(secret, text));
  };
  const auto swap_payload = [](const std::string& token, const json& payload) {
    const auto first = token.find('.');
    const auto second = token.find('.', first + 1);
    return token.substr(0, first + 1) + base64url_encode(payload.dump()) + token.substr(second);
  };
  const auto flipped = [](std::string bytes, std::size_t at) {
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    return bytes;
  };
  const std::string n = forge::bignum_text(keys().rsa, OSSL_PKEY_PARAM_RSA_N);
  const std::string rsa_jwk = forge::jwk(keys().rsa, "rsa-1").dump();
  const std::string ed_x = *base64url_decode(forge::jwk(keys().ed, "")["x"].get<std::string>());
  // S plus the group's order: the same signature to a verifier that does not insist on S < L.
  std::string malleable = ed_signature;
  for (unsigned i = 0, carry = 0; i < 32; ++i) {
    carry += static_cast<unsigned char>(malleable[32 + i]) + static_cast<unsigned char>(ed_order[i]);
    malleable[32 + i] = static_cast<char>(carry & 0xff);
    carry >>= 8;
  }
  const auto deep = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  };
  const std::string body = claims().dump();
  const std::string inner = body.substr(1, body.size() - 2);  // the members without braces
  const auto with_text_exp = [](const std::string& exp) {
    std::string text = claims_without("exp").dump();
    text.pop_back();
    return text + ",\"exp\":" + exp + "}";
  };

  const struct {
    const char* what;
    std::string token;
    const char* reason;
  } rows[] = {
      // Shape
      {"nothing", "", "missing"},
      {"one part", "abc", "malformed"},
      {"two parts", ed_text, "malformed"},
      {"four parts", good + ".abcd", "malformed"},
      {"five parts, as encrypted tokens have", good + ".abcd.abcd", "malformed"},
      {"only dots", "..", "malformed"},
      {"empty header", good.substr(good.find('.')), "malformed"},
      {"empty payload", base64url_encode(header().dump()) + ".." + base64url_encode(ed_signature), "malformed"},
      {"empty signature", ed_text + ".", "signature"},
      {"leading space", " " + good, "malformed"},
      {"trailing line end", good + "\n", "malformed"},
      {"trailing NUL", good + std::string(1, '\0'), "malformed"},
      {"space inside", good.substr(0, 10) + " " + good.substr(10), "malformed"},
      {"padding", good + "=", "malformed"},
      {"double padding", good + "==", "malformed"},
      {"padding in the header", base64url_encode(header().dump()) + "=" + good.substr(good.find('.')), "malformed"},
      {"plain base64 alphabet", forge::with_signature(ed_text, ed_signature).substr(0, ed_text.size()) + ".+/+/", "malformed"},
      {"set bits after the last byte", good.substr(0, good.size() - 1) + (good.back() == 'A' ? 'B' : static_cast<char>(good.back() + 1)), "malformed"},
      {"UTF-8 in place of base64url", "\xc3\xa4" + good.substr(2), "malformed"},
      {"8 KiB and one byte", good + std::string(8 * 1024 + 1 - good.size(), 'A'), "size"},
      {"a megabyte", std::string(1 << 20, 'e'), "size"},
      {"JSON serialization instead of compact", R"({"payload":"e30","signatures":[]})", "malformed"},

      // JSON
      {"header is not JSON", ours_text("alg=EdDSA", body), "malformed"},
      {"header is an array", ours_text("[]", body), "malformed"},
      {"header is null", ours_text("null", body), "malformed"},
      {"header ends early", ours_text(R"({"alg":"EdDSA","kid":"ed-1")", body), "malformed"},
      {"text after the header", ours_text(header().dump() + "{}", body), "malformed"},
      {"byte order mark", ours_text("\xef\xbb\xbf" + header().dump(), body), "malformed"},
      {"comment in the header", ours_text("/**/" + header().dump(), body), "malformed"},
      {"alg twice", ours_text(R"({"alg":"none","alg":"EdDSA","kid":"ed-1"})", body), "malformed"},
      {"alg twice, once escaped", ours_text(R"({"alg":"EdDSA","\u0061lg":"none","kid":"ed-1"})", body), "malformed"},
      {"kid twice", ours_text(R"({"alg":"EdDSA","kid":"ed-1","kid":"rsa-1"})", body), "malformed"},
      {"sub twice", ours_text(header().dump(), "{" + inner + R"(,"sub":"root"})"), "malformed"},
      {"exp twice", ours_text(header().dump(), "{" + inner + R"(,"exp":9999999999})"), "malformed"},
      {"a name twice deep inside", ours_text(header().dump(), "{" + inner + R"(,"x":[{"a":{"b":1,"b":2}}]})"), "malformed"},
      {"nested 33 deep", ours_text(header().dump(), "{" + inner + ",\"x\":" + deep(32) + "}"), "malformed"},
      {"nested 2,000 deep", ours_text(header().dump(), "{" + inner + ",\"x\":" + deep(2000) + "}"), "malformed"},
      {"invalid UTF-8", ours_text(header().dump(), "{" + inner + ",\"x\":\"\xff\"}"), "malformed"},
      {"overlong UTF-8", ours_text(header().dump(), "{" + inner + ",\"x\":\"\xc0\xaf\"}"), "malformed"},
      {"lone surrogate", ours_text(header().dump(), "{" + inner + R"(,"x":"\ud800"})"), "malformed"},
      {"payload is an array", ours_text(header().dump(), "[" + body + "]"), "malformed"},
      {"payload is a string", ours_text(header().dump(), "\"ann\""), "malformed"},
      {"NaN", ours_text(header().dump(), "{" + inner + ",\"x\":NaN}"), "malformed"},
      {"1e999", ours_text(header().dump(), "{" + inner + ",\"x\":1e999}"), "malformed"},

      // Algorithm
      {"none", forge::with_signature(text_of(header("none"), claims()), ""), "alg"},
      {"none with a signature", ours(header("none"), claims()), "alg"},
      {"None", ours(header("None"), claims()), "alg"},
      {"NONE", ours(header("NONE"), claims()), "alg"},
      {"nOnE without kid", forge::with_signature(text_of({{"alg", "nOnE"}}, claims()), ""), "alg"},
      {"no alg", ours({{"kid", "ed-1"}}, claims()), "alg"},
      {"empty alg", ours(header(""), claims()), "alg"},
      {"alg null", ours(header_with("alg", nullptr), claims()), "alg"},
      {"alg as a number", ours(header_with("alg", 256), claims()), "alg"},
      {"alg as an array", ours(header_with("alg", {"EdDSA"}), claims()), "alg"},
      {"alg in lower case", ours(header("eddsa"), claims()), "alg"},
      {"rs256 in lower case", forge::token(keys().rsa, header("rs256", "rsa-1"), claims()), "alg"},
      {"alg with a space", ours(header("EdDSA "), claims()), "alg"},
      {"alg with a NUL", ours(header_with("alg", std::string("EdDSA\0", 6)), claims()), "alg"},
      {"HS256 keyed with the RSA modulus", hs_with(n, "HS256", "rsa-1"), "alg"},
      {"HS256 keyed with the RSA key's JWK", hs_with(rsa_jwk, "HS256", "rsa-1"), "alg"},
      {"HS256 keyed with the Ed25519 key", hs_with(ed_x, "HS256", "ed-1"), "alg"},
      {"HS256 keyed with nothing", hs_with(std::string(1, '\0'), "HS256", "ed-1"), "alg"},
      {"HMAC called RS256", hs_with(n, "RS256", "rsa-1"), "signature"},
      {"HMAC called EdDSA", hs_with(ed_x, "EdDSA", "ed-1"), "signature"},
      {"HS384", hs_with(n, "HS384", "rsa-1"), "alg"},
      {"HS512", hs_with(n, "HS512", "rsa-1"), "alg"},
      {"PS256", forge::with_signature(text_of(header("PS256", "rsa-1"), claims()), forge::plain_signature(keys().rsa, text_of(header("PS256", "rsa-1"), claims()), EVP_sha256(), true)), "alg"},
      {"PSS signature called RS256", forge::with_signature(rs_text, forge::plain_signature(keys().rsa, rs_text, EVP_sha256(), true)), "signature"},
      {"SHA-1 signature called RS256", forge::with_signature(rs_text, forge::plain_signature(keys().rsa, rs_text, EVP_sha1())), "signature"},
      {"RS384", forge::with_signature(text_of(header("RS384", "rsa-1"), claims()), forge::plain_signature(keys().rsa, text_of(header("RS384", "rsa-1"), claims()), EVP_sha384())), "alg"},
      {"ES384", forge::token(keys().p384, header("ES384", "p384"), claims()), "alg"},
      {"ES256 with a P-384 key", forge::with_signature(text_of(header("ES256", "p384"), claims()), forge::raw_ecdsa(forge::plain_signature(keys().p384, text_of(header("ES256", "p384"), claims()), EVP_sha256()), 48)), "kid_unknown"},
      {"EdDSA with an Ed448 key", forge::token(keys().ed448, header("EdDSA", "ed448"), claims()), "kid_unknown"},
      {"an algorithm from another registry", ours(header("RSA-OAEP"), claims()), "alg"},

      // Key
      {"RSA 1024", forge::token(keys().rsa_weak, header("RS256", "rsa-weak"), claims()), "kid_unknown"},
      {"unknown kid", ours(header("EdDSA", "ed-9"), claims()), "kid_unknown"},
      {"kid in another case", ours(header("EdDSA", "ED-1"), claims()), "kid_unknown"},
      {"kid cut short", ours(header("EdDSA", "ed-"), claims()), "kid_unknown"},
      {"kid of the Ed25519 key with RS256", ours(header("RS256", "ed-1"), claims()), "alg"},
      {"kid of the RSA key with EdDSA", ours(header("EdDSA", "rsa-1"), claims()), "alg"},
      {"kid of the other RSA key", forge::token(keys().rsa, header("RS256", "rsa-2"), claims()), "signature"},
      {"no kid though there are several keys", ours({{"alg", "EdDSA"}}, claims()), "kid"},
      {"empty kid", ours(header("EdDSA", ""), claims()), "kid"},
      {"kid as a number", ours(header_with("kid", 1), claims()), "kid"},
      {"kid null", ours(header_with("kid", nullptr), claims()), "kid"},
      {"kid as an object", ours(header_with("kid", {{"a", 1}}), claims()), "kid"},
      {"kid of 129 bytes", ours(header_with("kid", std::string(129, 'k')), claims()), "kid"},
      {"kid as a path", ours(header_with("kid", "../../../../dev/null"), claims()), "kid"},
      {"kid as an absolute path", ours(header_with("kid", "/etc/passwd"), claims()), "kid"},
      {"kid with SQL", ours(header_with("kid", "x' UNION SELECT 'key"), claims()), "kid"},
      {"kid with a command", ours(header_with("kid", "$(id)"), claims()), "kid"},
      {"kid as a URL", ours(header_with("kid", "https://evil.example/k"), claims()), "kid"},
      {"kid with a query", ours(header_with("kid", "ed-1?x=1"), claims()), "kid"},
      {"kid with a NUL", ours(header_with("kid", std::string("ed-1\0x", 6)), claims()), "kid"},
      {"kid with a line end", ours(header_with("kid", "ed-1\n"), claims()), "kid"},
      {"kid in Cyrillic", ours(header_with("kid", "\xd0\xb5"
                                                  "d-1"), claims()), "kid"},
      {"signed by the key it carries (jwk)", [&] {
         json head = header("EdDSA", "ed-1");
         head["jwk"] = forge::jwk(keys().ed_other, "ed-1");
         return forge::token(keys().ed_other, head, claims());
       }(), "signature"},
      {"signed by the key at its jku", [&] {
         json head = header("EdDSA", "evil");
         head["jku"] = "https://evil.example/jwks.json";
         return forge::token(keys().ed_other, head, claims());
       }(), "kid_unknown"},
      {"signed by the key at its x5u", [&] {
         json head = header("RS256", "rsa-1");
         head["x5u"] = "https://evil.example/cert.pem";
         return forge::token(keys().rsa_other, head, claims());
       }(), "signature"},
      {"signed by the key in its x5c", [&] {
         json head = header("RS256", "rsa-1");
         head["x5c"] = {"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"};
         return forge::token(keys().rsa_other, head, claims());
       }(), "signature"},

      // Header members that change the meaning
      {"crit", ours(header_with("crit", {"exp"}), claims()), "header"},
      {"empty crit", ours(header_with("crit", json::array()), claims()), "header"},
      {"crit null", ours(header_with("crit", nullptr), claims()), "header"},
      {"b64 false", ours(header_with("b64", false), claims()), "header"},
      {"b64 true", ours(header_with("b64", true), claims()), "header"},
      {"b64 false and critical", [&] {
         json head = header_with("b64", false);
         head["crit"] = {"b64"};
         return ours(head, claims());
       }(), "header"},
      {"enc", ours(header_with("enc", "A256GCM"), claims()), "header"},
      {"zip", ours(header_with("zip", "DEF"), claims()), "header"},
      {"nested (cty JWT)", ours(header_with("cty", "JWT"), claims()), "header"},
      {"typ of a proof", ours(header_with("typ", "dpop+jwt"), claims()), "header"},
      {"typ of a logout token", ours(header_with("typ", "logout+jwt"), claims()), "header"},
      {"typ as a number", ours(header_with("typ", 1), claims()), "header"},

      // Signature
      {"signature of another token", swap_payload(good, claims_with("sub", "root")), "signature"},
      {"first bit flipped", forge::with_signature(ed_text, flipped(ed_signature, 0)), "signature"},
      {"last bit flipped", forge::with_signature(ed_text, flipped(ed_signature, 63)), "signature"},
      {"one byte short", forge::with_signature(ed_text, ed_signature.substr(0, 63)), "signature"},
      {"one byte long", forge::with_signature(ed_text, ed_signature + "x"), "signature"},
      {"all zero", forge::with_signature(ed_text, std::string(64, '\0')), "signature"},
      {"Ed25519 S plus the group's order", forge::with_signature(ed_text, malleable), "signature"},
      {"signed by a stranger", forge::token(keys().ed_other, header(), claims()), "signature"},
      {"ES256 in DER", forge::with_signature(es_text, es_der), "signature"},
      {"ES256 r zero", forge::with_signature(es_text, std::string(32, '\0') + es_raw.substr(32)), "signature"},
      {"ES256 s zero", forge::with_signature(es_text, es_raw.substr(0, 32) + std::string(32, '\0')), "signature"},
      {"ES256 r and s zero (psychic)", forge::with_signature(es_text, std::string(64, '\0')), "signature"},
      {"ES256 r and s the group's order", forge::with_signature(es_text, group_order + group_order), "signature"},
      {"ES256 of 63 bytes", forge::with_signature(es_text, es_raw.substr(0, 63)), "signature"},
      {"ES256 of 65 bytes", forge::with_signature(es_text, es_raw + "x"), "signature"},
      {"ES256 r and s swapped", forge::with_signature(es_text, es_raw.substr(32) + es_raw.substr(0, 32)), "signature"},
      {"ES256 by a stranger", forge::token(keys().ec_other, header("ES256", "ec-1"), claims()), "signature"},
      {"RS256 of zeros", forge::with_signature(rs_text, std::string(256, '\0')), "signature"},
      {"RS256 of the modulus", forge::with_signature(rs_text, n), "signature"},
      {"RS256 one", forge::with_signature(rs_text, std::string(255, '\0') + "\x01"), "signature"},
      {"RS256 cut short", forge::with_signature(rs_text, forge::signature(keys().rsa, rs_text).substr(0, 255)), "signature"},
      {"RS256 with a leading zero", forge::with_signature(rs_text, std::string(1, '\0') + forge::signature(keys().rsa, rs_text)), "signature"},

      // Issuer, audience, subject
      {"no iss", ours(claims_without("iss")), "claims"},
      {"iss of another", ours(claims_with("iss", "https://id.example.org/")), "issuer"},
      {"iss without the last slash", ours(claims_with("iss", "https://id.example.com")), "issuer"},
      {"iss in another case", ours(claims_with("iss", "https://ID.example.com/")), "issuer"},
      {"iss with a NUL", ours(claims_with("iss", std::string(kIssuer) + std::string(1, '\0'))), "issuer"},
      {"iss as an array (CVE-2025-30144)", ours(claims_with("iss", {kIssuer, "https://evil.example"})), "claims"},
      {"iss null", ours(claims_with("iss", nullptr)), "claims"},
      {"no aud", ours(claims_without("aud")), "claims"},
      {"aud of another", ours(claims_with("aud", "https://other.example.com")), "audience"},
      {"aud only begins like ours", ours(claims_with("aud", std::string(kAudience) + ".evil.example")), "audience"},
      {"empty aud", ours(claims_with("aud", "")), "audience"},
      {"aud as a number", ours(claims_with("aud", 1)), "claims"},
      {"aud as an object", ours(claims_with("aud", {{"a", kAudience}})), "claims"},
      {"aud true", ours(claims_with("aud", true)), "claims"},
      {"aud as an empty array", ours(claims_with("aud", json::array())), "audience"},
      {"aud array without ours", ours(claims_with("aud", {"a", "b"})), "audience"},
      {"aud array with a number", ours(claims_with("aud", {json(kAudience), json(1)})), "claims"},
      {"aud array in an array", ours(claims_with("aud", json::array({json::array({kAudience})}))), "claims"},
      {"no sub", ours(claims_without("sub")), "claims"},
      {"empty sub", ours(claims_with("sub", "")), "claims"},
      {"sub of 256 bytes", ours(claims_with("sub", std::string(256, 's'))), "claims"},
      {"sub as a number", ours(claims_with("sub", 1)), "claims"},
      {"sub as an array", ours(claims_with("sub", {"ann"})), "claims"},
      {"sub with a NUL", ours(claims_with("sub", std::string("ann\0x", 5))), "claims"},
      {"sub with a line end", ours(claims_with("sub", "ann\nlevel=INFO")), "claims"},
      {"sub with look-alike letters", ours(claims_with("sub", "\xd0\xb0nn")), "claims"},
      {"sub with a right-to-left override", ours(claims_with("sub", "ann\xe2\x80\xae")), "claims"},
      {"sub with a zero-width space", ours(claims_with("sub", "ann\xe2\x80\x8b")), "claims"},
      {"sub with DEL", ours(claims_with("sub", "ann\x7f")), "claims"},
      {"jti as a number", ours(claims_with("jti", 7)), "claims"},
      {"jti with a line end", ours(claims_with("jti", "a\nb")), "claims"},
      {"scope as a number", ours(claims_with("scope", 1)), "claims"},
      {"scope with a quote", ours(claims_with("scope", "a\"b")), "claims"},
      {"scope array with a number", ours(claims_with("scope", {1})), "claims"},
      {"scope array smuggling two in one", ours(claims_with("scope", {"a tunnel:admin"})), "claims"},

      // Time
      {"no exp", ours(claims_without("exp")), "claims"},
      {"exp as a float", ours(claims_with("exp", kNow + 0.5)), "claims"},
      {"exp as a whole float", ours_text(header().dump(), with_text_exp("1.8000036e9")), "claims"},
      {"exp as a string", ours(claims_with("exp", std::to_string(kNow + 60))), "claims"},
      {"exp negative", ours(claims_with("exp", -1)), "claims"},
      {"exp null", ours(claims_with("exp", nullptr)), "claims"},
      {"exp true", ours(claims_with("exp", true)), "claims"},
      {"exp as an array", ours(claims_with("exp", {kNow + 60})), "claims"},
      {"exp 2^63", ours(claims_with("exp", 9223372036854775808ULL)), "claims"},
      {"exp 2^64 - 1", ours(claims_with("exp", 18446744073709551615ULL)), "claims"},
      {"exp 2^64", ours_text(header().dump(), with_text_exp("18446744073709551616")), "malformed"},
      {"exp in the year 10000", ours(claims_with("exp", 253402300800)), "claims"},
      {"exp in milliseconds", ours(claims_with("exp", (kNow + 60) * 1000LL)), "claims"},
      {"lifetime of a day and a second", ours([] {
         json payload = claims_with("iat", kNow);
         payload["exp"] = kNow + 86401;
         return payload;
       }()), "lifetime"},
      {"issued long ago for long", ours(claims_with("iat", 1)), "lifetime"},
      {"a week ahead without iat", ours([] {
         json payload = claims_without("iat");
         payload["exp"] = kNow + 7 * 86400;
         return payload;
       }()), "lifetime"},
      {"a week since nbf without iat", ours([] {
         json payload = claims_without("iat");
         payload["nbf"] = kNow - 7 * 86400;
         return payload;
       }()), "lifetime"},
      {"over before it began", ours(claims_with("exp", kNow - 10)), "claims"},
      {"nbf 31 s ahead", ours(claims_with("nbf", kNow + 31)), "not_yet_valid"},
      {"nbf as a string", ours(claims_with("nbf", "0")), "claims"},
      {"nbf negative", ours(claims_with("nbf", -5)), "claims"},
      {"iat 31 s ahead", ours(claims_with("iat", kNow + 31)), "not_yet_valid"},
      {"iat as a float", ours(claims_with("iat", kNow - 0.5)), "claims"},
      {"iat null", ours(claims_with("iat", nullptr)), "claims"},
  };
  EXPECT_GE(std::size(rows), 80u);
  const auto checks = verifier();
  for (const auto& row : rows) {
    const auto verdict = checks->verify(row.token, kWall, kSteady);
    EXPECT_EQ(label_of(verdict), row.reason) << row.what;
    if (verdict) continue;
    EXPECT_EQ(caller_text(verdict.error()), "The access token is missing or invalid.") << row.what;
  }
  EXPECT_EQ(checks->cache_stats().entries, 0u) << "no rejection may be remembered";
  EXPECT_TRUE(checks->verify(good, kWall, kSteady)) << "the token the forgeries were made from is good";
}

TEST(TokenVerifier, TellsExpiredApartOnlyWhenAllElseIsRight) {
  const auto checks = verifier();
  json old = claims();
  old["iat"] = kNow - 7200;
  old["exp"] = kNow - 30;  // the leeway is just over
  const auto expired = checks->verify(ours(old), kWall, kSteady);
  ASSERT_FALSE(expired);
  EXPECT_TRUE(expired.error().expired());
  EXPECT_EQ(caller_text(expired.error()), "The access token has expired.");

  const auto also = [&](const char* claim, json value) {
    json payload = old;
    payload[claim] = std::move(value);
    return payload;
  };
  EXPECT_EQ(label_of(checks->verify(forge::token(keys().ed_other, header(), old), kWall, kSteady)),
            "signature");
  EXPECT_EQ(label_of(checks->verify(ours(header("EdDSA", "gone"), old), kWall, kSteady)), "kid_unknown");
  EXPECT_EQ(label_of(checks->verify(ours(also("aud", "other")), kWall, kSteady)), "audience");
  EXPECT_EQ(label_of(checks->verify(ours(also("iss", "other")), kWall, kSteady)), "issuer");
  EXPECT_EQ(label_of(checks->verify(ours(also("sub", "")), kWall, kSteady)), "claims");
  EXPECT_EQ(label_of(checks->verify(ours(also("iat", 5)), kWall, kSteady)), "lifetime");
}

TEST(TokenVerifier, HonoursTheLeewayToTheSecond) {
  const auto checks = verifier();
  json payload = claims();
  payload["exp"] = kNow;
  const std::string token = ours(payload);
  EXPECT_EQ(label_of(checks->verify(token, kWall + 29s, kSteady)), "accepted");
  EXPECT_EQ(label_of(checks->verify(token, kWall + 30s - 1ms, kSteady)), "accepted");
  EXPECT_EQ(label_of(checks->verify(token, kWall + 30s, kSteady)), "expired");
}

TEST(TokenVerifier, TakesTheTierFromOneClaimAndScopesExactly) {
  Options with = options();
  with.tier_claim = "https://example.com/tier";
  with.scope_claim = "permissions";
  const auto checks = verifier(with);
  const struct {
    json tier;
    tunnel::Tier expected;
  } rows[] = {{"free", tunnel::Tier::free},
              {"premium", tunnel::Tier::premium},
              {"enterprise", tunnel::Tier::enterprise},
              {"Premium", tunnel::Tier::free},
              {"root", tunnel::Tier::free},
              {"", tunnel::Tier::free},
              {json(2), tunnel::Tier::free},
              {nullptr, tunnel::Tier::free},
              {{"premium"}, tunnel::Tier::free}};
  for (const auto& row : rows) {
    json payload = claims_with("https://example.com/tier", row.tier);
    payload["tier"] = "enterprise";  // not the configured claim
    payload["permissions"] = {"read", "write", "read"};
    const auto verdict = checks->verify(ours(payload), kWall, kSteady);
    ASSERT_TRUE(verdict) << label_of(verdict);
    EXPECT_EQ(verdict->principal().tier, row.expected) << row.tier;
    EXPECT_EQ(verdict->principal().scopes, (std::vector<std::string>{"read", "write"}));
    EXPECT_FALSE(verdict->principal().has_scope("Read"));
  }
}

TEST(TokenVerifier, TellsTheAuditLogWhatTheTokenClaimedInPrintableForm) {
  const auto checks = verifier();
  json payload = claims_with("iss", "evil\n\xc3\xa4" + std::string(300, 'x'));
  const auto verdict = checks->verify(forge::token(keys().ed_other, header(), payload), kWall, kSteady);
  ASSERT_FALSE(verdict);
  EXPECT_EQ(verdict.error().claimed_kid, "ed-1");
  EXPECT_EQ(verdict.error().claimed_alg, "EdDSA");
  EXPECT_EQ(verdict.error().claimed_issuer, "evil???" + std::string(121, 'x'));
}

TEST(TokenVerifier, SaysWhenFreshKeysMayHelp) {
  const auto checks = verifier();
  const auto helps = [&](const std::string& token) {
    return checks->verify(token, kWall, kSteady).error().refetch_may_help;
  };
  EXPECT_TRUE(helps(ours(header("EdDSA", "next-month"), claims())));
  EXPECT_FALSE(helps(ours(header("EdDSA", "next-month"), claims_with("iss", "other")))) << "not our issuer's";
  EXPECT_FALSE(helps(ours(header("EdDSA", "a/b"), claims()))) << "no such kid can exist";
  EXPECT_FALSE(helps(ours(header("none", "next-month"), claims())));
  EXPECT_FALSE(helps(forge::token(keys().ed_other, header(), claims())));
}

TEST(TokenVerifier, AcceptsATokenWithoutKidOnlyFromALoneKey) {
  for (const char* kid : {"", "only-1"}) {
    const json document{{"keys", {forge::jwk(keys().ec, kid)}}};
    auto set = JwkSet::parse(document.dump());
    ASSERT_TRUE(set);
    auto checks = *TokenVerifier::create(options(), std::make_shared<const JwkSet>(std::move(*set)));
    const json bare{{"alg", "ES256"}};
    EXPECT_EQ(label_of(checks->verify(forge::token(keys().ec, bare, claims()), kWall, kSteady)), "accepted");
    EXPECT_EQ(label_of(checks->verify(forge::token(keys().ec_other, bare, claims()), kWall, kSteady)),
              "signature");
    EXPECT_EQ(
        label_of(checks->verify(forge::token(keys().ed, json{{"alg", "EdDSA"}}, claims()), kWall, kSteady)),
        "alg");
  }
}

TEST(SharedSecretMode, AcceptsHs256AndNothingElse) {
  const auto checks = secret_verifier();
  const auto hs = [](std::string_view secret, const json& head) {
    const std::string text = forge::unsigned_text(head.dump(), claims().dump());
    return forge::with_signature(text, forge::hmac(secret, text));
  };
  EXPECT_EQ(label_of(checks->verify(hs(kSecret, {{"alg", "HS256"}}), kWall, kSteady)), "accepted");
  EXPECT_EQ(label_of(checks->verify(hs(kSecret, header("HS256", "any")), kWall, kSteady)), "accepted");
  EXPECT_EQ(label_of(checks->verify(hs(kSecret, header("HS256", "../x")), kWall, kSteady)), "kid");
  EXPECT_EQ(
      label_of(checks->verify(hs("fedcba9876543210fedcba9876543210", {{"alg", "HS256"}}), kWall, kSteady)),
      "signature");
  EXPECT_EQ(label_of(checks->verify(hs(kSecret + '\0', {{"alg", "HS256"}}), kWall, kSteady)), "accepted")
      << "HMAC pads keys with zeros: one that differs only there is the same key (RFC 2104)";
  EXPECT_EQ(label_of(checks->verify(hs(kSecret, {{"alg", "HS512"}}), kWall, kSteady)), "alg");
  EXPECT_EQ(label_of(checks->verify(hs(kSecret, {{"alg", "none"}}), kWall, kSteady)), "alg");
  EXPECT_EQ(label_of(checks->verify(ours(claims()), kWall, kSteady)), "alg");
  EXPECT_EQ(
      label_of(checks->verify(forge::token(keys().rsa, header("RS256", "rsa-1"), claims()), kWall, kSteady)),
      "alg");
  const std::string text = forge::unsigned_text(json{{"alg", "HS256"}}.dump(), claims().dump());
  EXPECT_EQ(label_of(checks->verify(forge::with_signature(text, ""), kWall, kSteady)), "signature");
  EXPECT_EQ(label_of(checks->verify(forge::with_signature(text, forge::hmac(kSecret, text).substr(0, 16)),
                                    kWall, kSteady)),
            "signature");
}

TEST(SharedSecretMode, ExcludesKeySetsBothWays) {
  const auto secret = std::make_shared<const JwkSet>(*JwkSet::shared_secret(kSecret));
  EXPECT_FALSE(TokenVerifier::create(options(AuthMode::shared_secret), key_set()));
  EXPECT_FALSE(TokenVerifier::create(options(AuthMode::jwks), secret));
  EXPECT_FALSE(TokenVerifier::create(options(AuthMode::local), secret));
  EXPECT_FALSE(TokenVerifier::create(options(), nullptr));
  EXPECT_FALSE(verifier()->replace_keys(secret));
  EXPECT_FALSE(secret_verifier()->replace_keys(key_set()));
  EXPECT_FALSE(JwkSet::shared_secret(std::string(31, 's')));
}

TEST(TokenCacheInTheVerifier, RemembersASuccessForAMinuteOfTheMonotonicClock) {
  const auto checks = verifier();
  const std::string token = ours(claims());
  EXPECT_FALSE(checks->verify(token, kWall, kSteady)->from_cache);
  const auto again = checks->verify(token, kWall, kSteady + 60s - 1ms);
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->from_cache);
  EXPECT_EQ(again->principal().subject, "ann");
  EXPECT_FALSE(checks->verify(token, kWall, kSteady + 60s)->from_cache);
  EXPECT_FALSE(checks->verify(token + "A", kWall, kSteady)) << "another text is another token";
}

TEST(TokenCacheInTheVerifier, NeverOutlivesTheToken) {
  const auto checks = verifier();
  const std::string token = ours(claims_with("exp", kNow + 5));
  EXPECT_TRUE(checks->verify(token, kWall, kSteady));
  EXPECT_TRUE(checks->verify(token, kWall + 4s, kSteady + 4s)->from_cache);
  EXPECT_FALSE(checks->verify(token, kWall + 5s, kSteady + 5s)->from_cache) << "TTL is exp - now";
  EXPECT_FALSE(checks->verify(token, kWall + 6s, kSteady + 6s)->from_cache)
      << "in the leeway nothing is remembered";
}

TEST(TokenCacheInTheVerifier, LooksAtTheWallClockOnEveryHit) {
  const auto checks = verifier();
  const std::string token = ours(claims());
  ASSERT_TRUE(checks->verify(token, kWall, kSteady));
  // The wall clock jumps over the token's end while the monotonic one stands still.
  const auto verdict = checks->verify(token, kWall + 3630s, kSteady);
  ASSERT_FALSE(verdict);
  EXPECT_TRUE(verdict.error().expired());
  EXPECT_EQ(verdict.error().claimed_kid, "ed-1");
  EXPECT_EQ(checks->cache_stats().entries, 0u);
}

TEST(TokenCacheInTheVerifier, ForgetsAllWhenKeysOrPolicyChange) {
  const auto checks = verifier();
  const std::string token = ours(claims());
  ASSERT_TRUE(checks->verify(token, kWall, kSteady));
  checks->invalidate();
  EXPECT_FALSE(checks->verify(token, kWall, kSteady)->from_cache);
  EXPECT_TRUE(checks->verify(token, kWall, kSteady)->from_cache);

  const json without{{"keys", {forge::jwk(keys().rsa, "rsa-1")}}};
  ASSERT_TRUE(checks->replace_keys(std::make_shared<const JwkSet>(*JwkSet::parse(without.dump()))));
  EXPECT_EQ(label_of(checks->verify(token, kWall, kSteady)), "kid_unknown") << "its key was withdrawn";
  ASSERT_TRUE(checks->replace_keys(key_set()));
  EXPECT_FALSE(checks->verify(token, kWall, kSteady)->from_cache);
}

TEST(TokenCacheInTheVerifier, IsBoundedAndDropsTheLeastRecentlyUsed) {
  // On the heap: g++ 12's address sanitizer misplaces aligned locals.
  const auto on_heap = std::make_unique<TokenCache>(16 * 2);  // two a shard
  TokenCache& cache = *on_heap;
  const auto named = [](unsigned char shard, unsigned char id) {
    Sha256 digest{};
    digest.back() = shard;
    digest.front() = id;
    return digest;
  };
  const auto entry = std::make_shared<const VerifiedToken>();
  cache.put(named(3, 1), 0, kSteady + 60s, entry);
  cache.put(named(3, 2), 0, kSteady + 60s, entry);
  EXPECT_TRUE(cache.find(named(3, 1), 0, kSteady));  // 2 is now the older
  cache.put(named(3, 3), 0, kSteady + 60s, entry);
  EXPECT_TRUE(cache.find(named(3, 1), 0, kSteady));
  EXPECT_FALSE(cache.find(named(3, 2), 0, kSteady));
  EXPECT_TRUE(cache.find(named(3, 3), 0, kSteady));
  for (int i = 0; i < 4096; ++i)
    cache.put(named(static_cast<unsigned char>(i), static_cast<unsigned char>(i / 16)), 0, kSteady + 60s,
              entry);
  EXPECT_EQ(cache.stats().entries, 32u);
  EXPECT_GT(cache.stats().evictions, 200u);
  EXPECT_FALSE(cache.find(named(3, 3), 1, kSteady)) << "another version";
}

TEST(TokenVerifier, ServesManyThreadsWhileKeysAreReplaced) {
  const auto checks = verifier();
  std::vector<std::string> tokens;
  for (int i = 0; i < 8; ++i) tokens.push_back(ours(claims_with("sub", "user-" + std::to_string(i))));
  const auto set = key_set();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 500; ++i) {
        const unsigned which = (i + t) % 8;
        const auto verdict = checks->verify(tokens[which], kWall, kSteady);
        if (!verdict || verdict->principal().subject != "user-" + std::to_string(which)) ++wrong;
      }
    });
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(checks->replace_keys(set));
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(TokenVerifier, SpendsLikeTimeOnUnknownKidWrongSignatureAndWrongAudience) {
  const auto checks = verifier();
  const std::vector<std::string> kinds = {
      ours(header("EdDSA", "unknown"), claims()), forge::token(keys().ed_other, header(), claims()),
      ours(claims_with("aud", "https://other.example")),
      ours(header("EdDSA", "rsa-1"), claims()),  // the kid exists, for another algorithm
  };
  std::vector<std::vector<std::chrono::nanoseconds>> took(kinds.size());
  for (int round = 0; round < 101; ++round)
    for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
      const auto begin = std::chrono::steady_clock::now();
      ASSERT_FALSE(checks->verify(kinds[kind], kWall, kSteady));
      took[kind].push_back(std::chrono::steady_clock::now() - begin);
    }
  std::vector<double> medians;
  for (auto& times : took) {
    std::nth_element(times.begin(), times.begin() + 50, times.end());
    medians.push_back(static_cast<double>(times[50].count()));
  }
  const auto [least, most] = std::minmax_element(medians.begin(), medians.end());
  // Without the check against another key an unknown kid is several times quicker.
  EXPECT_LT(*most / *least, 2.0) << medians[0] << " " << medians[1] << " " << medians[2] << " " << medians[3];
}

}  // namespace
}  // namespace tunneld::access
