#include "tunnelctl/client/agent_pins.h"

#include <array>
#include <fstream>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <nlohmann/json.hpp>

#include "tests/tunnelctl/client/files.h"
#include "tests/tunnelctl/client/temporary_folder.h"
#include "tunnel/key_succession.h"
#include "tunnelctl/client/agent_state.h"

namespace tunnelctl::client {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kKey =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
constexpr const char* kOther =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/+/fz7+vn49/b19PPy8fDv7u3s6+rp6Ofm5eTj4uHg";
constexpr const char* kOrigin = "https://tunnel.example:443";

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

/// A tunneld's key that can sign.
class SigningKey {
 public:
  SigningKey() : key_(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), &EVP_PKEY_free) {
    std::array<unsigned char, 32> point{};
    std::size_t size = point.size();
    EVP_PKEY_get_raw_public_key(key_.get(), point.data(), &size);
    std::string blob("\0\0\0\x0bssh-ed25519\0\0\0\x20", 19);
    blob.append(reinterpret_cast<const char*>(point.data()), point.size());
    line_ = "ssh-ed25519 " + base64(blob);
  }
  const std::string& line() const { return line_; }
  TunnelKeys::Succession hands_over_to(const std::string& to) const {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
    const auto message = tunnel::key_succession_message(line_, to);
    std::string signature(64, '\0');
    std::size_t size = signature.size();
    EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get());
    EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                   reinterpret_cast<const unsigned char*>(message.data()), message.size());
    return {line_, to, signature};
  }

 private:
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
  std::string line_;
};

TEST(TunnelKeys, AreReadAsTunneldServesThem) {
  const std::string body =
      std::string(R"({"keys":[{"type":"ssh-ed25519","fingerprint":"SHA256:x","publicKey":")") + kOther +
      R"( tunneld@host"},{"publicKey":")" + kKey + R"("},{"publicKey":")" + kKey + R"("}],"more":1})";
  const auto keys = parse_tunnel_keys(body);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_THAT(keys->keys, ElementsAre(kKey, kOther));
}

TEST(TunnelKeys, ThatAreNoneAreRefused) {
  for (const auto* body :
       {"", "[]", "{}", R"({"keys":[]})", R"({"keys":{}})", R"({"keys":[1]})", R"({"keys":[{}]})",
        R"({"keys":[{"publicKey":1}]})", R"({"keys":[{"publicKey":"ssh-ed25519 AAAA"}]})", "<html>"})
    EXPECT_FALSE(parse_tunnel_keys(body)) << body;
  std::string many = R"({"keys":[)";
  for (int i = 0; i < 9; ++i) many += std::string(i > 0 ? "," : "") + R"({"publicKey":")" + kKey + "\"}";
  EXPECT_FALSE(parse_tunnel_keys(many + "]}"));
}

TEST(KnownServers, KeepTheKeyThatWasSeenFirst) {
  const TemporaryFolder folder;
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey}}));
  EXPECT_EQ(text_of(folder.path() / "known_servers"), std::string(kOrigin) + " " + kKey + "\n");
  EXPECT_EQ(mode_of(folder.path() / "known_servers"), 0600U);
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey}}));

  const auto changed = pin_tunnel_keys(folder.path(), kOrigin, {{kOther}});
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().kind, Error::Kind::denied);
  EXPECT_THAT(changed.error().message, HasSubstr("TUNNEL_015"));
  EXPECT_THAT(changed.error().message, HasSubstr(key_fingerprint(kOther)));
  EXPECT_THAT(changed.error().message, HasSubstr(key_fingerprint(kKey)));
  EXPECT_THAT(changed.error().message, HasSubstr((folder.path() / "known_servers").string()));
  EXPECT_THAT(changed.error().message, Not(HasSubstr("\n")));
  EXPECT_EQ(text_of(folder.path() / "known_servers"), std::string(kOrigin) + " " + kKey + "\n")
      << "never overwritten";
}

TEST(KnownServers, AServerMayDropKeysAndNotAddThem) {
  const TemporaryFolder folder;
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey, kOther}}));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{kOther}}));
  const TemporaryFolder second;
  ASSERT_TRUE(pin_tunnel_keys(second.path(), kOrigin, {{kKey}}));
  EXPECT_FALSE(pin_tunnel_keys(second.path(), kOrigin, {{kKey, kOther}}));
}

TEST(KnownServers, AreToldApartByTheirWholeOrigin) {
  const TemporaryFolder folder;
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), "https://a:443", {{kKey}}));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), "https://a:4433", {{kOther}}));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), "https://a:44", {{kOther}}));
  EXPECT_FALSE(pin_tunnel_keys(folder.path(), "https://a:443", {{kOther}}));
}

TEST(KnownServers, ThatCannotBeReadPinNothingAnew) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "known_servers");
  EXPECT_FALSE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey}}));
}

TEST(TunnelKeys, SayWhichKeyFollowedWhich) {
  const SigningKey old;
  const auto one = old.hands_over_to(kKey);
  const auto body = [&](const json& successions) {
    return json{{"keys", {{{"publicKey", kKey}}}}, {"successions", successions}}.dump();
  };
  const json good{{"from", one.from}, {"to", one.to}, {"signature", base64(one.signature)}};
  const auto keys = parse_tunnel_keys(body(json::array({good})));
  ASSERT_TRUE(keys) << keys.error().message;
  ASSERT_EQ(keys->successions.size(), 1U);
  EXPECT_EQ(keys->successions[0].from, old.line());
  EXPECT_EQ(keys->successions[0].to, kKey);
  EXPECT_EQ(keys->successions[0].signature, one.signature);
  for (const auto* missing : {"from", "to", "signature"}) {
    auto bad = good;
    bad[missing] = "x";
    EXPECT_FALSE(parse_tunnel_keys(body(json::array({bad})))) << missing;
    bad.erase(missing);
    EXPECT_FALSE(parse_tunnel_keys(body(json::array({bad})))) << missing;
  }
  EXPECT_FALSE(parse_tunnel_keys(body(json::array({1}))));
  EXPECT_FALSE(parse_tunnel_keys(body(json::object())));
}

TEST(KnownServers, FollowAKeyThatTheOlderOneHasSigned) {
  const TemporaryFolder folder;
  const SigningKey first, second, third;
  const std::vector successions{first.hands_over_to(second.line()), second.hands_over_to(third.line())};
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), "https://other:443", {{kOther}}));
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{first.line()}}));
  // It was away while there was a second.
  const auto done = pin_tunnel_keys(folder.path(), kOrigin, {{third.line()}, successions});
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->how, Pinned::How::followed);
  EXPECT_EQ(done->now, key_fingerprint(third.line()));
  EXPECT_EQ(done->before, key_fingerprint(first.line()));
  EXPECT_EQ(pin_tunnel_keys(folder.path(), kOrigin, {{third.line()}})->how, Pinned::How::known);
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{first.line()}}))
      << "another instance may not have been started anew yet";
  EXPECT_FALSE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey}}));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), "https://other:443", {{kOther}})) << "others are left alone";
  EXPECT_FALSE(pin_tunnel_keys(folder.path(), "https://other:443", {{kKey}}));
}

TEST(KnownServers, DoNotFollowAKeyThatAnybodyElseHasSigned) {
  const TemporaryFolder folder;
  const SigningKey first, second, stranger;
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{first.line()}}));
  const auto before = text_of(folder.path() / "known_servers");
  auto forged = stranger.hands_over_to(second.line());
  const auto by_stranger = forged;
  forged.from = first.line();
  auto cut = first.hands_over_to(second.line());
  cut.signature.pop_back();
  auto other_key = first.hands_over_to(kKey);
  other_key.to = second.line();
  const auto backwards = second.hands_over_to(first.line());
  for (const auto& one : {by_stranger, forged, cut, other_key, backwards}) {
    const auto refused = pin_tunnel_keys(folder.path(), kOrigin, {{second.line()}, {one}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, Error::Kind::denied);
    EXPECT_THAT(refused.error().message, HasSubstr("--server-key " + key_fingerprint(second.line())));
  }
  EXPECT_EQ(text_of(folder.path() / "known_servers"), before);
}

TEST(KnownServers, GiveWayToTheKeyThatIsNamed) {
  const TemporaryFolder folder;
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey}}));
  const auto named = std::vector{key_fingerprint(kOther)};
  const auto refused = pin_tunnel_keys(folder.path(), kOrigin, {{kKey}}, named);
  ASSERT_FALSE(refused) << "what was seen first counts no more";
  EXPECT_THAT(refused.error().message, HasSubstr("--server-key names (" + key_fingerprint(kOther)));
  const auto done = pin_tunnel_keys(folder.path(), kOrigin, {{kOther}}, named);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->how, Pinned::How::named);
  EXPECT_EQ(done->before, key_fingerprint(kKey));
  EXPECT_EQ(text_of(folder.path() / "known_servers"), std::string(kOrigin) + " " + kOther + "\n");
  EXPECT_FALSE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey}})) << "the older one is forgotten";
  const TemporaryFolder fresh;
  EXPECT_FALSE(pin_tunnel_keys(fresh.path(), kOrigin, {{kKey}}, named)) << "nothing is learnt by sight then";
}

TEST(KnownServers, ANamedKeyMayHaveBeenFollowedByAnother) {
  const TemporaryFolder folder;
  const SigningKey first, second;
  const std::vector named{key_fingerprint(first.line())};
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{first.line()}}, named));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{second.line()}, {first.hands_over_to(second.line())}},
                              named));
}

TEST(KnownServers, ThatAreDamagedPinNothingAnew) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "known_servers";
  for (const std::string text : {"nonsense\n", "https://tunnel.example:443 ssh-ed25519 AAAA\n", "\x01\x02\n",
                                 "https://tunnel.example:443\n", "a b c d\n"}) {
    std::ofstream(file) << "# kept\n\n" << text;
    const auto refused = pin_tunnel_keys(folder.path(), kOrigin, {{kKey}});
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(refused.error().message, HasSubstr(file.string() + ":3: is damaged"));
    EXPECT_THAT(refused.error().message, Not(HasSubstr("\n")));
  }
  std::ofstream(file) << "# kept\n";
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {{kKey}}));
  EXPECT_THAT(text_of(file), HasSubstr("# kept\n"));
}

TEST(Fingerprints, AreWhatSshKeygenPrints) {
  EXPECT_TRUE(is_fingerprint(key_fingerprint(kKey)));
  for (const auto* bad :
       {"", "SHA256:", "SHA256:abc", "MD5:aa", "ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA",
        "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA=",
        "SHA256:ZkAslGjFiUHdGf_WUL8rQvkib4PTvQatUV0OUQSncCA"})
    EXPECT_FALSE(is_fingerprint(bad)) << bad;
}

}  // namespace
}  // namespace tunnelctl::client
