#include "tunnelctl/client/agent_state.h"

#include <sys/stat.h>

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunnelctl/client/files.h"
#include "tests/tunnelctl/client/temporary_folder.h"

namespace tunnelctl::client {
namespace {

using testing::HasSubstr;

constexpr const char* kKey =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

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

}  // namespace
}  // namespace tunnelctl::client
