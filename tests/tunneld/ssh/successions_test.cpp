#include "tunneld/ssh/successions.h"

#include <sys/stat.h>

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "tests/support/ssh_lab.h"
#include "tunnel/key_succession.h"

namespace tunneld::ssh {
namespace {

using testing::HasSubstr;

class Rotation : public testing::Test {
 protected:
  std::string current() const {
    const auto identity = Identity::load(files_.identity);
    return identity ? line_of(*identity) : identity.error().message;
  }
  static std::string line_of(const Identity& identity) {
    const auto& line = identity.public_line();
    return line.substr(0, line.find(' ', line.find(' ') + 1));
  }
  Succession rotate() {
    auto made = take_next_identity(files_, "tunneld");
    EXPECT_TRUE(made) << made.error().message;
    return made ? *made : Succession();
  }
  static mode_t mode_of(const std::filesystem::path& path) {
    struct stat status {};
    ::stat(path.c_str(), &status);
    return status.st_mode & 0777;
  }
  static std::string bytes_of(const std::string& base64) {
    std::string bytes(base64.size() / 4 * 3, '\0');
    EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                    reinterpret_cast<const unsigned char*>(base64.data()), static_cast<int>(base64.size()));
    return bytes;
  }
  /// As an agent looks at it.
  static bool is_signed(const Succession& one, const std::string& from) {
    const auto blob = *public_key_blob(from);
    const auto* point = reinterpret_cast<const unsigned char*>(blob.data()) + blob.size() - 32;
    auto* key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, point, 32);
    auto* context = EVP_MD_CTX_new();
    const auto message = tunnel::key_succession_message(one.from, one.to);
    const auto signature = bytes_of(one.signature);
    EVP_DigestVerifyInit(context, nullptr, nullptr, nullptr, key);
    const bool good =
        EVP_DigestVerify(context, reinterpret_cast<const unsigned char*>(signature.data()), 64,
                         reinterpret_cast<const unsigned char*>(message.data()), message.size()) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return good;
  }

  support::TemporaryFolder folder_;
  KeyFiles files_{folder_.path() / "id", folder_.path() / "id.next", folder_.path() / "id.previous",
                  folder_.path() / "successions.json"};
};

TEST_F(Rotation, PutsTheNextKeyInTheOldOnesPlace) {
  const auto old = line_of(*Identity::load_or_create(files_.identity, "tunneld"));
  const auto next = line_of(*next_identity(files_, "tunneld"));
  EXPECT_EQ(line_of(*next_identity(files_, "tunneld")), next) << "it stays the same until it is taken";
  EXPECT_EQ(current(), old);
  const auto made = rotate();
  EXPECT_EQ(made.from, old);
  EXPECT_EQ(made.to, next);
  EXPECT_EQ(current(), next);
  EXPECT_EQ(line_of(*Identity::load(files_.previous)), old);
  EXPECT_FALSE(std::filesystem::exists(files_.next));
  for (const auto& file : {files_.identity, files_.previous, files_.successions})
    EXPECT_EQ(mode_of(file), 0600U) << file;
}

TEST_F(Rotation, IsSignedByTheOldKey) {
  const auto made = rotate();
  EXPECT_TRUE(is_signed(made, made.from));
  EXPECT_FALSE(is_signed(made, made.to)) << "and by no other";
}

TEST_F(Rotation, IsRememberedOverSeveral) {
  const auto first = rotate(), second = rotate();
  EXPECT_EQ(second.from, first.to);
  const auto kept = read_successions(files_.successions);
  ASSERT_TRUE(kept) << kept.error().message;
  ASSERT_EQ(kept->size(), 2U);
  EXPECT_EQ(kept->front().signature, first.signature);
  EXPECT_EQ(kept->back().to, current());
  for (int i = 0; i < 40; ++i) rotate();
  EXPECT_EQ(read_successions(files_.successions)->size(), 32U) << "bounded";
}

TEST_F(Rotation, ThatWasCutShortIsDoneAgain) {
  const auto old = line_of(*Identity::load_or_create(files_.identity, "tunneld"));
  const auto old_text = Identity::load(files_.identity)->private_text();
  rotate();
  // As if the power had gone before the key was replaced: what is signed is there already.
  const auto next_text = Identity::load(files_.identity)->private_text();
  std::ofstream(files_.identity) << old_text;
  std::ofstream(files_.next) << next_text;
  std::filesystem::permissions(files_.next, std::filesystem::perms(0600));
  EXPECT_EQ(current(), old);
  const auto again = rotate();
  EXPECT_EQ(again.from, old);
  EXPECT_EQ(read_successions(files_.successions)->size(), 1U);
  // Or just before its end.
  std::ofstream(files_.next) << next_text;
  std::filesystem::permissions(files_.next, std::filesystem::perms(0600));
  const auto nothing = take_next_identity(files_, "tunneld");
  ASSERT_FALSE(nothing);
  EXPECT_THAT(nothing.error().message, HasSubstr("nothing to do"));
  EXPECT_EQ(current(), again.to);
}

TEST_F(Rotation, DoesNothingWhereItCannotBeWrittenDown) {
  const auto old = line_of(*Identity::load_or_create(files_.identity, "tunneld"));
  files_.successions = folder_.path() / "missing" / "successions.json";
  EXPECT_FALSE(take_next_identity(files_, "tunneld"));
  EXPECT_EQ(current(), old);
}

TEST_F(Rotation, AFileThatIsNotUnderstoodIsAnError) {
  const auto old = line_of(*Identity::load_or_create(files_.identity, "tunneld"));
  for (const auto* text :
       {"", "[]", R"({"version":2,"successions":[]})", R"({"version":1})",
        R"({"version":1,"successions":[1]})", R"({"version":1,"successions":[{"from":"a","to":"b"}]})"}) {
    std::ofstream(files_.successions) << text;
    const auto read = read_successions(files_.successions);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(read.error().message, HasSubstr(files_.successions.string()));
    EXPECT_FALSE(take_next_identity(files_, "tunneld")) << "nor is it overwritten";
  }
  EXPECT_EQ(current(), old);
}

TEST(Identities, SignAsEd25519Does) {
  const support::TemporaryFolder folder;
  const auto identity = *Identity::load_or_create(folder.path() / "id", "tunneld");
  const auto one = identity.sign("text"), again = identity.sign("text"), other = identity.sign("texts");
  ASSERT_TRUE(one && again && other);
  EXPECT_EQ(*one, *again) << "it is deterministic (RFC 8032)";
  EXPECT_NE(*one, *other);
  EXPECT_EQ(one->size(), 88U);
}

}  // namespace
}  // namespace tunneld::ssh
