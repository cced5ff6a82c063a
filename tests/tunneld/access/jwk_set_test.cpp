#include "tunneld/access/jwk_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunneld/access/token_forge.h"

namespace tunneld::access {
namespace {

using forge::json;
using testing::ElementsAre;
using testing::HasSubstr;

const forge::Pkey& rsa() {
  static const forge::Pkey key = forge::rsa_key(2048);
  return key;
}
const forge::Pkey& ec() {
  static const forge::Pkey key = forge::ec_key("P-256");
  return key;
}
const forge::Pkey& ed() {
  static const forge::Pkey key = forge::ed_key();
  return key;
}

Result<JwkSet> parsed(std::initializer_list<json> keys) {
  return JwkSet::parse(json{{"keys", json::array_t(keys)}}.dump());
}
json with(json jwk, const char* member, json value) {
  jwk[member] = std::move(value);
  return jwk;
}

TEST(JwkSet, TakesTheAlgorithmFromTheKindOfKey) {
  const auto set = parsed({forge::jwk(rsa(), "r"), forge::jwk(ec(), "e"), forge::jwk(ed(), "d")});
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_EQ(set->size(), 3u);
  EXPECT_EQ(set->find("r")->algorithm(), Algorithm::rs256);
  EXPECT_EQ(set->find("e")->algorithm(), Algorithm::es256);
  EXPECT_EQ(set->find("d")->algorithm(), Algorithm::eddsa);
  EXPECT_EQ(set->find("R"), nullptr);
  EXPECT_EQ(set->only(), nullptr);
  EXPECT_EQ(set->any(Algorithm::es256), set->find("e"));
  EXPECT_EQ(set->any(Algorithm::hs256), nullptr);
  EXPECT_TRUE(set->skipped().empty());
  EXPECT_FALSE(set->is_shared_secret());
}

TEST(JwkSet, LeavesOutKeysItCannotUseAndSaysWhy) {
  const json good = forge::jwk(ed(), "good");
  json even = forge::jwk(rsa(), "k");
  {
    std::string n = forge::bignum_text(rsa(), OSSL_PKEY_PARAM_RSA_N);
    n.back() = static_cast<char>(n.back() & ~1);
    even["n"] = base64url_encode(n);
  }
  json without_use = forge::jwk(ed(), "k");
  without_use.erase("use");
  const struct {
    const char* what;
    json key;
    const char* why;
  } rows[] = {
      {"RSA 1024", forge::jwk(forge::rsa_key(1024), "k"), "keys[1] (kid k): RSA key shorter than 2048 bits"},
      {"RSA 2047",
       with(forge::jwk(rsa(), "k"), "n", base64url_encode("\x7f" + std::string(254, 'a') + "\x01")),
       "shorter"},
      {"RSA 8200", with(forge::jwk(rsa(), "k"), "n", base64url_encode(std::string(1025, '\xff'))),
       "longer than 8192"},
      {"RSA 20000", with(forge::jwk(rsa(), "k"), "n", base64url_encode(std::string(2500, '\xff'))),
       "too large"},
      {"even modulus", even, "even"},
      {"exponent 1", with(forge::jwk(rsa(), "k"), "e", "AQ"), "exponent"},
      {"exponent 3", with(forge::jwk(rsa(), "k"), "e", "Aw"), "exponent"},
      {"exponent 65536", with(forge::jwk(rsa(), "k"), "e", "AQAA"), "exponent"},
      {"exponent empty", with(forge::jwk(rsa(), "k"), "e", ""), "exponent"},
      {"n with padding", with(forge::jwk(rsa(), "k"), "n", "AQAB=="), "n is not base64url"},
      {"n as a number", with(forge::jwk(rsa(), "k"), "n", 5), "n is missing or not a string"},
      {"P-384", forge::jwk(forge::ec_key("P-384"), "k"), "not P-256"},
      {"P-384 called P-256", with(forge::jwk(forge::ec_key("P-384"), "k"), "crv", "P-256"), "32 bytes"},
      {"point off the curve", with(forge::jwk(ec(), "k"), "y", base64url_encode(std::string(32, 'y'))),
       "not on P-256"},
      {"point at zero",
       with(with(forge::jwk(ec(), "k"), "y", base64url_encode(std::string(32, '\0'))), "x",
            base64url_encode(std::string(32, '\0'))),
       "not on P-256"},
      {"short coordinate", with(forge::jwk(ec(), "k"), "x", base64url_encode(std::string(31, 'x'))),
       "32 bytes"},
      {"Ed448", forge::jwk(forge::ed_key("ED448"), "k"), "not Ed25519"},
      {"X25519", with(forge::jwk(ed(), "k"), "crv", "X25519"), "not Ed25519"},
      {"short Ed25519", with(forge::jwk(ed(), "k"), "x", "AAAA"), "32 bytes"},
      {"symmetric", {{"kty", "oct"}, {"kid", "k"}, {"alg", "HS256"}, {"k", "AAAA"}}, "symmetric"},
      {"kty unknown", with(forge::jwk(ed(), "k"), "kty", "PQC"), "kty is not"},
      {"kty in lower case", with(forge::jwk(rsa(), "k"), "kty", "rsa"), "kty is not"},
      {"no kty", {{"kid", "k"}}, "kty is missing"},
      {"for encryption", with(forge::jwk(rsa(), "k"), "use", "enc"), "use is not sig"},
      {"use as a number", with(forge::jwk(rsa(), "k"), "use", 1), "use is not sig"},
      {"key_ops without verify", with(forge::jwk(rsa(), "k"), "key_ops", {"encrypt"}),
       "key_ops lacks verify"},
      {"key_ops as text", with(forge::jwk(rsa(), "k"), "key_ops", "verify"), "key_ops lacks verify"},
      {"alg of another kind", with(forge::jwk(rsa(), "k"), "alg", "ES256"), "alg is not RS256"},
      {"alg PS256", with(forge::jwk(rsa(), "k"), "alg", "PS256"), "alg is not RS256"},
      {"alg HS256 on RSA", with(forge::jwk(rsa(), "k"), "alg", "HS256"), "alg is not RS256"},
      {"alg none", with(forge::jwk(ed(), "k"), "alg", "none"), "alg is not EdDSA"},
      {"alg as a number", with(forge::jwk(ed(), "k"), "alg", 1), "alg is not EdDSA"},
      {"private key", with(forge::jwk(ed(), "k"), "d", "AAAA"), "private key"},
      {"kid as a path", with(forge::jwk(ed(), ""), "kid", "../k"), "keys[1]: kid is not"},
      {"kid as a number", with(forge::jwk(ed(), ""), "kid", 7), "kid is not"},
      {"kid of 129", with(forge::jwk(ed(), ""), "kid", std::string(129, 'k')), "kid is not"},
      {"no kid beside others", forge::jwk(ec(), ""), "kid is missing"},
      {"a string", "key", "not an object"},
      {"null", nullptr, "not an object"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const auto set = parsed({good, row.key});
    ASSERT_TRUE(set) << set.error().message;
    EXPECT_EQ(set->size(), 1u);
    EXPECT_NE(set->find("good"), nullptr);
    EXPECT_THAT(set->skipped(), ElementsAre(HasSubstr(row.why)));
    if (const auto alone = parsed({row.key}); std::string_view(row.why) != "kid is missing") {
      ASSERT_FALSE(alone) << "no usable key is an error";
      EXPECT_THAT(alone.error().message, HasSubstr("no usable key"));
    }
  }
  EXPECT_TRUE(parsed({without_use}));
  EXPECT_TRUE(parsed({with(without_use, "key_ops", {"sign", "verify"})}));
  EXPECT_TRUE(parsed({with(forge::jwk(rsa(), "k"), "alg", "RS256")}));
}

TEST(JwkSet, RefusesBrokenDocuments) {
  const std::string key = forge::jwk(ed(), "a").dump();
  const struct {
    const char* what;
    std::string text;
    const char* why;
  } rows[] = {
      {"empty", "", "not JSON"},
      {"HTML", "<html>", "not JSON"},
      {"cut short", R"({"keys":[)" + key, "not JSON"},
      {"text after it", R"({"keys":[)" + key + "]}x", "not JSON"},
      {"array", "[" + key + "]", "no \"keys\" array"},
      {"one bare key", key, "no \"keys\" array"},
      {"keys as an object", R"({"keys":{}})", "no \"keys\" array"},
      {"no keys in it", R"({"keys":[]})", "no usable key"},
      {"keys twice", R"({"keys":[],"keys":[)" + key + "]}", "name twice"},
      {"kty twice", R"({"keys":[{"kty":"oct","kty":"OKP"}]})", "name twice"},
      {"nested 33 deep",
       R"({"keys":[)" + key + R"(],"x":)" + std::string(32, '[') + std::string(32, ']') + "}",
       "nested too deeply"},
      {"nested 100,000 deep", std::string(100'000, '['), "nested too deeply"},
      {"integer of 70 digits", R"({"keys":[)" + key + R"(],"x":)" + std::string(70, '9') + "}",
       "out of range"},
      {"negative integer out of range", R"({"keys":[)" + key + R"(],"x":-9223372036854775809})",
       "out of range"},
      {"float out of range", R"({"keys":[)" + key + R"(],"x":1e400})", "JSON"},
      {"byte order mark", "\xef\xbb\xbf{\"keys\":[" + key + "]}", "byte order mark"},
      {"256 KiB and one byte", R"({"keys":[)" + key + "]}" + std::string(256 * 1024, ' '),
       "larger than 262144"},
  };
  for (const auto& row : rows) {
    const auto set = JwkSet::parse(row.text);
    ASSERT_FALSE(set) << row.what;
    EXPECT_EQ(set.error().kind, Error::Kind::bad_input) << row.what;
    EXPECT_THAT(set.error().message, HasSubstr(row.why)) << row.what;
  }
  const std::string frame = R"({"keys":[)" + key + "]}";
  EXPECT_TRUE(JwkSet::parse(frame + std::string(256 * 1024 - frame.size(), ' '))) << "exactly 256 KiB";
  EXPECT_TRUE(
      JwkSet::parse(R"({"keys":[)" + key + R"(],"x":)" + std::string(31, '[') + std::string(31, ']') + "}"))
      << "nested 32 deep";
}

TEST(JwkSet, RefusesTwoUsableKeysOfOneName) {
  const auto set = parsed({forge::jwk(rsa(), "a"), forge::jwk(ec(), "a")});
  ASSERT_FALSE(set);
  EXPECT_THAT(set.error().message, HasSubstr("two keys a"));
  EXPECT_FALSE(parsed({forge::jwk(ec(), "a"), forge::jwk(ec(), "a")})) << "the same key twice as well";
  // Some providers publish an encryption key under the same name; it can never be meant.
  EXPECT_TRUE(parsed({forge::jwk(ec(), "a"), with(forge::jwk(rsa(), "a"), "use", "enc")}));
}

TEST(JwkSet, BoundsTheNumberOfKeys) {
  json keys = json::array();
  for (std::size_t i = 0; i <= JwkSet::kMaxKeys; ++i)
    keys.push_back(forge::jwk(ed(), "k" + std::to_string(i)));
  EXPECT_FALSE(JwkSet::parse(json{{"keys", keys}}.dump()));
  keys.erase(0);
  const auto set = JwkSet::parse(json{{"keys", keys}}.dump());
  ASSERT_TRUE(set);
  EXPECT_EQ(set->size(), JwkSet::kMaxKeys);
}

TEST(JwkSet, LetsANamelessKeyServeOnlyAlone) {
  const auto alone = parsed({forge::jwk(ec(), "")});
  ASSERT_TRUE(alone);
  ASSERT_NE(alone->only(), nullptr);
  EXPECT_EQ(alone->only()->algorithm(), Algorithm::es256);
  EXPECT_EQ(alone->find(""), nullptr);
  EXPECT_FALSE(parsed({forge::jwk(ec(), ""), forge::jwk(ed(), "")}))
      << "two: which one is meant would be a guess";
}

TEST(VerificationKey, ChecksTheExampleOfRfc8037) {
  const auto set = JwkSet::parse(
      R"({"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})");
  ASSERT_TRUE(set) << set.error().message;
  const std::string text = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
  const std::string signature = *base64url_decode(
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
  EXPECT_TRUE(set->only()->verify(text, signature));
  EXPECT_FALSE(set->only()->verify(text + "x", signature));
}

TEST(VerificationKey, ChecksTheExampleOfRfc7515ForEs256) {
  const auto set =
      JwkSet::parse(R"({"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
                    R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})");
  ASSERT_TRUE(set) << set.error().message;
  const std::string text =
      "eyJhbGciOiJFUzI1NiJ9."
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
  const std::string signature = *base64url_decode(
      "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
  EXPECT_TRUE(set->only()->verify(text, signature));
  EXPECT_FALSE(set->only()->verify(text, signature.substr(1)));
}

TEST(Base64Url, HasOneSpellingForEachByteString) {
  EXPECT_EQ(base64url_encode(""), "");
  EXPECT_EQ(base64url_encode("f"), "Zg");
  EXPECT_EQ(base64url_encode("fo"), "Zm8");
  EXPECT_EQ(base64url_encode("foo"), "Zm9v");
  EXPECT_EQ(base64url_encode("\xfb\xff"), "-_8");
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (std::size_t size = 0; size <= all.size(); ++size)
    EXPECT_EQ(base64url_decode(base64url_encode(all.substr(0, size))), all.substr(0, size));
  for (const char* text : {"Z", "Zh", "Zm9", "Zg==", "Zg=", "+/8A", "Zm 9v", "Zm9v\n", "Zm9vZ", "Z\xc3\xa4g"})
    EXPECT_EQ(base64url_decode(text), std::nullopt) << text;
}

}  // namespace
}  // namespace tunneld::access
