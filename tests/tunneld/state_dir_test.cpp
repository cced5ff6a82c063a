#include "tunneld/state_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace tunneld {
namespace {

struct StateDirectory : testing::Test {
  StateDirectory() {
    std::string pattern = "/tmp/tunneld-state-XXXXXX";
    root = ::mkdtemp(pattern.data());
  }
  ~StateDirectory() override { std::filesystem::remove_all(root); }
  static unsigned mode_of(const std::filesystem::path& path) {
    struct stat about {};
    return ::stat(path.c_str(), &about) == 0 ? about.st_mode & 07777U : 0;
  }
  std::filesystem::path root;
};

TEST_F(StateDirectory, IsMadeForItsOwnerAlone) {
  const auto path = root / "state/tunneld";
  const auto made = StateDir::open(path, StateDir::Use::exclusive);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(mode_of(path), 0700U);
  EXPECT_EQ(made->file("ssh_identity"), path / "ssh_identity");
}

TEST_F(StateDirectory, IsNarrowedWhenItWasWider) {
  const auto path = root / "wide";
  ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
  ASSERT_TRUE(StateDir::open(path, StateDir::Use::exclusive));
  EXPECT_EQ(mode_of(path), 0700U);
}

TEST_F(StateDirectory, IsHeldByOneDaemonAtATime) {
  {
    auto first = StateDir::open(root / "s", StateDir::Use::exclusive);
    ASSERT_TRUE(first);
    const auto second = StateDir::open(root / "s", StateDir::Use::exclusive);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, Error::Kind::unavailable);
    EXPECT_NE(second.error().message.find("in use by another tunneld"), std::string::npos);
    // `tunneld token create` works beside the daemon.
    EXPECT_TRUE(StateDir::open(root / "s", StateDir::Use::shared));
  }
  EXPECT_TRUE(StateDir::open(root / "s", StateDir::Use::exclusive));
}

TEST_F(StateDirectory, SaysWhatIsWrongWithItsPath) {
  std::ofstream(root / "file") << "x";
  const auto file = StateDir::open(root / "file", StateDir::Use::exclusive);
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message.find("is not a directory"), std::string::npos);

  const auto below_file = StateDir::open(root / "file/below", StateDir::Use::exclusive);
  ASSERT_FALSE(below_file);
  EXPECT_EQ(below_file.error().kind, Error::Kind::denied);
  EXPECT_NE(below_file.error().message.find("state_dir"), std::string::npos);
}

TEST_F(StateDirectory, DoesNotFollowALinkInPlaceOfItsLock) {
  ASSERT_EQ(::mkdir((root / "s").c_str(), 0700), 0);
  ASSERT_EQ(::symlink("/dev/null", (root / "s/lock").c_str()), 0);
  EXPECT_FALSE(StateDir::open(root / "s", StateDir::Use::exclusive));
}

TEST_F(StateDirectory, DefaultFollowsSystemdThenXdgThenHome) {
  ::setenv("STATE_DIRECTORY", "/var/lib/private/tunneld:/var/lib/other", 1);
  EXPECT_EQ(StateDir::default_path(), "/var/lib/private/tunneld");
  ::unsetenv("STATE_DIRECTORY");
  ::setenv("XDG_STATE_HOME", "/home/ann/state", 1);
  EXPECT_EQ(StateDir::default_path(), "/home/ann/state/tunneld");
  ::setenv("XDG_STATE_HOME", "relative", 1);  // the specification: ignore it
  EXPECT_NE(StateDir::default_path(), "relative/tunneld");
  ::unsetenv("XDG_STATE_HOME");
  if (::geteuid() == 0) {
    EXPECT_EQ(StateDir::default_path(), "/var/lib/tunneld");
  } else {
    ::setenv("HOME", "/home/ann", 1);
    EXPECT_EQ(StateDir::default_path(), "/home/ann/.local/state/tunneld");
  }
}

}  // namespace
}  // namespace tunneld
