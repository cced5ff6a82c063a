#include "tunnelctl/client/agent_state.h"

#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunnelctl/client/temporary_folder.h"

namespace tunnelctl::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kKey =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
constexpr const char* kOther =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/+/fz7+vn49/b19PPy8fDv7u3s6+rp6Ofm5eTj4uHg";
constexpr const char* kOrigin = "https://tunnel.example:443";

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status {};
  ::stat(path.c_str(), &status);
  return status.st_mode & 07777;
}

TEST(AgentId, IsShortAndSmall) {
  for (const auto* good : {"a", "laptop", "room-4-shelf-2", "0", "-"}) EXPECT_TRUE(is_agent_id(good)) << good;
  EXPECT_TRUE(is_agent_id(std::string(63, 'a')));
  for (const auto* bad : {"", "Laptop", "a b", "a/b", "..", "a_b", "\xc3\xa4", "a\n"})
    EXPECT_FALSE(is_agent_id(bad)) << bad;
  EXPECT_FALSE(is_agent_id(std::string(64, 'a')));
}

TEST(AgentFolder, FollowsTheXdgSpecification) {
  EXPECT_EQ(*agent_folder("/x", "/home/ann", "a"), "/x/tunnelctl/agents/a");
  EXPECT_EQ(*agent_folder("", "/home/ann", "a"), "/home/ann/.local/state/tunnelctl/agents/a");
  EXPECT_EQ(*agent_folder("relative", "/home/ann", "a"), "/home/ann/.local/state/tunnelctl/agents/a");
  const auto nowhere = agent_folder("", "", "a");
  ASSERT_FALSE(nowhere);
  EXPECT_THAT(nowhere.error().message, HasSubstr("--state-dir"));
}

TEST(AgentFolder, IsMadeForItsOwnerAlone) {
  const TemporaryFolder folder;
  const auto made = folder.path() / "a" / "b" / "c";
  ASSERT_TRUE(make_private_folder(made));
  EXPECT_EQ(mode_of(made), 0700U);
  EXPECT_TRUE(make_private_folder(made)) << "once more";
}

TEST(AgentFolder, OthersMayNotReadIsRefusedWithTheRemedy) {
  const TemporaryFolder folder;
  const auto open = folder.path() / "open";
  std::filesystem::create_directory(open);
  ::chmod(open.c_str(), 0755);
  const auto refused = make_private_folder(open);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::denied);
  EXPECT_THAT(refused.error().message, HasSubstr("chmod 700 " + open.string()));

  const auto elsewhere = folder.path() / "link";
  std::filesystem::create_directory_symlink("/tmp", elsewhere);
  EXPECT_FALSE(make_private_folder(elsewhere)) << "a link may lead anywhere";
  std::ofstream(folder.path() / "file") << "x";
  EXPECT_FALSE(make_private_folder(folder.path() / "file"));
  EXPECT_FALSE(make_private_folder(folder.path() / "file" / "below"));
}

TEST(PublicKey, LosesItsComment) {
  EXPECT_EQ(*parse_public_key(std::string(kKey) + " ann@laptop"), kKey);
  EXPECT_EQ(*parse_public_key(kKey), kKey);
}

TEST(PublicKey, ThatCouldSmuggleOptionsIsRefused) {
  const std::string key(kKey);
  for (const auto& bad :
       {std::string(), std::string("ssh-ed25519"), std::string("ssh-ed25519 "),
        std::string("ssh-ed25519 AAAA"), "command=\"sh\" " + key, key + "\nssh-ed25519 AAAA",
        key.substr(0, key.size() - 4), "ssh-rsa " + key.substr(12), "ssh-dss" + key.substr(11),
        key + std::string(9000, 'A'), std::string("ssh-ed25519 ====")}) {
    const auto parsed = parse_public_key(bad);
    EXPECT_FALSE(parsed) << bad;
  }
}

TEST(PublicKey, HasTheFingerprintThatSshKeygenPrints) {
  // printf '%s\n' <key> | ssh-keygen -lf -
  EXPECT_EQ(key_fingerprint(kKey), "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA");
}

TEST(TunnelKeys, AreReadAsTunneldServesThem) {
  const std::string body =
      std::string(R"({"keys":[{"type":"ssh-ed25519","fingerprint":"SHA256:x","publicKey":")") + kOther +
      R"( tunneld@host"},{"publicKey":")" + kKey + R"("},{"publicKey":")" + kKey + R"("}],"more":1})";
  const auto keys = parse_tunnel_keys(body);
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_THAT(*keys, ElementsAre(kKey, kOther));
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
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {kKey}));
  EXPECT_EQ(text_of(folder.path() / "known_servers"), std::string(kOrigin) + " " + kKey + "\n");
  EXPECT_EQ(mode_of(folder.path() / "known_servers"), 0600U);
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {kKey}));

  const auto changed = pin_tunnel_keys(folder.path(), kOrigin, {kOther});
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
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {kKey, kOther}));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), kOrigin, {kOther}));
  const TemporaryFolder second;
  ASSERT_TRUE(pin_tunnel_keys(second.path(), kOrigin, {kKey}));
  EXPECT_FALSE(pin_tunnel_keys(second.path(), kOrigin, {kKey, kOther}));
}

TEST(KnownServers, AreToldApartByTheirWholeOrigin) {
  const TemporaryFolder folder;
  ASSERT_TRUE(pin_tunnel_keys(folder.path(), "https://a:443", {kKey}));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), "https://a:4433", {kOther}));
  EXPECT_TRUE(pin_tunnel_keys(folder.path(), "https://a:44", {kOther}));
  EXPECT_FALSE(pin_tunnel_keys(folder.path(), "https://a:443", {kOther}));
}

TEST(KnownServers, ThatCannotBeReadPinNothingAnew) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "known_servers");
  EXPECT_FALSE(pin_tunnel_keys(folder.path(), kOrigin, {kKey}));
}

}  // namespace
}  // namespace tunnelctl::client
