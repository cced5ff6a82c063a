#include "tunnelctl/client/preferences_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/file_descriptor.h"
#include "tests/tunnelctl/client/temporary_folder.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const fs::path& path, std::string_view text, mode_t mode = 0600) {
  std::ofstream(path, std::ios::binary) << text;
  ::chmod(path.c_str(), mode);
}

mode_t mode_of(const fs::path& path) {
  struct stat facts {};
  EXPECT_EQ(::stat(path.c_str(), &facts), 0) << path;
  return facts.st_mode & 07777;
}

std::string set(std::string_view text, std::string_view key, std::string_view value) {
  const auto result = with_preference(text, key, value);
  return result ? *result : "! " + result.error().message;
}

std::string removed(std::string_view text, std::string_view key) {
  const auto result = with_preference(text, key, std::nullopt);
  return result ? *result : "! " + result.error().message;
}

TEST(PreferencesFile, GetsASectionWhereThereIsNone) {
  EXPECT_EQ(set("", "queue", "200"), "client:\n  queue: 200\n");
  EXPECT_EQ(set("current: prod\n", "queue", "200"), "current: prod\n\nclient:\n  queue: 200\n");
  EXPECT_EQ(set("current: prod", "queue", "200"), "current: prod\n\nclient:\n  queue: 200\n");
  EXPECT_EQ(set("# client: in a comment\nclients: x\n", "queue", "200"),
            "# client: in a comment\nclients: x\n\nclient:\n  queue: 200\n");
}

TEST(PreferencesFile, ChangesItsLineAndNoOther) {
  const std::string file =
      "# mine\n"
      "current: prod  # for now\n"
      "client:\n"
      "    # the train\n"
      "    queue: 50   # few\n"
      "\n"
      "    retry: forever\n"
      "# of work\n"
      "contexts:\n"
      "  - name: prod\n"
      "    queue: 1\n";
  auto expected = file;
  expected.replace(expected.find("50   #"), 2, "70");
  EXPECT_EQ(set(file, "queue", "70"), expected);
  expected = file;
  expected.insert(expected.find("# of work"), "    profile: unstable\n");
  EXPECT_EQ(set(file, "profile", "unstable"), expected);
  expected = file;
  expected.erase(expected.find("    retry"), 19);
  EXPECT_EQ(removed(file, "retry"), expected);
  EXPECT_EQ(removed(file, "base_delay"), file);
}

TEST(PreferencesFile, FillsASectionThatIsEmpty) {
  EXPECT_EQ(set("client:\ncurrent: x\n", "queue", "20"), "client:\n  queue: 20\ncurrent: x\n");
  EXPECT_EQ(set("client: # nothing yet\n", "queue", "20"), "client: # nothing yet\n  queue: 20\n");
}

TEST(PreferencesFile, TheSectionGoesWithItsLastLine) {
  EXPECT_EQ(removed("client:\n  queue: 20\ncurrent: x\n", "queue"), "current: x\n");
  EXPECT_EQ(removed("client:\n  # why\n  queue: 20\n", "queue"), "client:\n  # why\n");
  EXPECT_EQ(removed("current: x\n", "queue"), "current: x\n");
}

TEST(PreferencesFile, QuotedValuesLoseTheirQuotes) {
  EXPECT_EQ(set("client:\n  profile: \"stable\"\n", "profile", "unstable"), "client:\n  profile: unstable\n");
}

TEST(PreferencesFile, LeavesASectionOnOneLineToWhoeverWroteIt) {
  EXPECT_EQ(set("client: {queue: 20}\n", "queue", "30").substr(0, 10), "! line 1: ");
  EXPECT_EQ(removed("a: b\nclient: {queue: 20}\n", "queue").substr(0, 10), "! line 2: ");
}

TEST(PreferencesFile, IsReadOnlyIfNobodyElseCanHaveWrittenIt) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  for (const mode_t mode : {0600, 0640, 0644, 0400}) {
    write(path, "a", mode);
    EXPECT_TRUE(read_own_file(path)) << std::oct << mode;
    fs::remove(path);
  }
  for (const mode_t mode : {0620, 0602, 0666, 0664}) {
    write(path, "a", mode);
    const auto refused = read_own_file(path);
    ASSERT_FALSE(refused) << std::oct << mode;
    EXPECT_EQ(refused.error().kind, Error::Kind::denied);
    EXPECT_NE(refused.error().message.find("chmod 600"), std::string::npos) << refused.error().message;
    fs::remove(path);
  }
  EXPECT_EQ(read_own_file(path).error().kind, Error::Kind::not_found);
  EXPECT_EQ(read_own_file(folder.path()).error().kind, Error::Kind::bad_input);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(read_own_file(path).error().kind, Error::Kind::bad_input);
}

TEST(PreferencesFile, IsRefusedWhenItBelongsToSomebodyElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  write(path, "a");
  ASSERT_EQ(::chown(path.c_str(), 12345, 12345), 0);
  const auto refused = read_own_file(path);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("uid 12345"), std::string::npos) << refused.error().message;
}

TEST(PreferencesFile, IsRefusedWhenItIsTooLarge) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  write(path, std::string(1024 * 1024, '#'));
  EXPECT_TRUE(read_own_file(path));
  write(path, std::string(1024 * 1024 + 1, '#'));
  EXPECT_EQ(read_own_file(path).error().kind, Error::Kind::bad_input);
}

Result<std::string> appended(const std::string& text) {
  return text + "x";
}

TEST(PreferencesFile, IsMadeWithItsFoldersForItsOwnerAlone) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a" / "b" / "config.yaml";
  const auto done = change_own_file(path, appended);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(read(path), "x");
  EXPECT_EQ(mode_of(path), 0600U);
  EXPECT_EQ(mode_of(folder.path() / "a"), 0700U);
  EXPECT_EQ(mode_of(folder.path() / "a" / "b"), 0700U);
}

TEST(PreferencesFile, IsForItsOwnerAloneAfterAChange) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  write(path, "y", 0644);
  ASSERT_TRUE(change_own_file(path, appended));
  EXPECT_EQ(read(path), "yx");
  EXPECT_EQ(mode_of(path), 0600U);
}

TEST(PreferencesFile, ASymbolicLinkStaysOne) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  fs::create_directory(folder.path() / "dotfiles");
  write(folder.path() / "dotfiles" / "real", "y");
  fs::create_symlink("dotfiles/real", path);
  ASSERT_TRUE(change_own_file(path, appended));
  EXPECT_TRUE(fs::is_symlink(path));
  EXPECT_EQ(read(folder.path() / "dotfiles" / "real"), "yx");
}

TEST(PreferencesFile, IsAsItWasWhenTheChangeIsRefused) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  write(path, "y", 0644);
  const auto done = change_own_file(
      path, [](const std::string&) -> Result<std::string> { return fail(Error::Kind::bad_input, "no"); });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, "no");
  EXPECT_EQ(read(path), "y");
  EXPECT_EQ(mode_of(path), 0644U);
  EXPECT_FALSE(fs::exists(folder.path() / "x"));
}

TEST(PreferencesFile, NeverWritesIntoOneThatOthersMayWrite) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  write(path, "y", 0666);
  const auto done = change_own_file(path, appended);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Error::Kind::denied);
  EXPECT_EQ(read(path), "y");
}

TEST(PreferencesFile, TwoAtOnceLoseNoChange) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  constexpr int kThreads = 4, kChanges = 25;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < kChanges; ++n) {
        const auto done = change_own_file(path, appended, 60s);
        EXPECT_TRUE(done) << done.error().message;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(read(path), std::string(kThreads * kChanges, 'x'));
}

TEST(PreferencesFile, DoesNotWaitForEverForALock) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.yaml";
  const FileDescriptor held(::open((folder.path() / ".config.yaml.lock").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(::flock(held.get(), LOCK_EX), 0);
  const auto done = change_own_file(path, appended, 50ms);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Error::Kind::timed_out);
  EXPECT_FALSE(fs::exists(path));
}

TEST(PreferencesFile, SaysWhatItCannotMake) {
  const auto done = change_own_file("/proc/nothing/config.yaml", appended);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("/proc/nothing: cannot be created"), std::string::npos)
      << done.error().message;
}

}  // namespace
}  // namespace tunnelctl::client
