#include "common/atomic_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

namespace {

using atomic_file::IfThere;
using testing::HasSubstr;
namespace fs = std::filesystem;

class AtomicFile : public testing::Test {
 protected:
  AtomicFile() {
    std::string pattern = (fs::temp_directory_path() / "atomic-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~AtomicFile() override { fs::remove_all(folder_); }

  fs::path path() const { return folder_ / "file"; }
  std::string content() const {
    std::ifstream in(path());
    return {std::istreambuf_iterator<char>(in), {}};
  }
  mode_t mode() const {
    struct stat facts {};
    ::stat(path().c_str(), &facts);
    return facts.st_mode & 07777U;
  }
  auto files() const { return std::distance(fs::directory_iterator(folder_), {}); }
  fs::path folder_;
};

TEST_F(AtomicFile, HasTheContentAndModeThatWereAskedForWhateverTheUmask) {
  for (const mode_t wanted : {0600U, 0640U, 0644U}) {
    const mode_t before = ::umask(0077);
    const auto written = atomic_file::write(path(), "mode " + std::to_string(wanted), wanted);
    ::umask(before);
    ASSERT_TRUE(written) << written.error().message;
    EXPECT_EQ(content(), "mode " + std::to_string(wanted));
    EXPECT_EQ(mode(), wanted);
    EXPECT_EQ(files(), 1);
  }
}

TEST_F(AtomicFile, MayBeEmptyOrLarge) {
  ASSERT_TRUE(atomic_file::write(path(), "", 0600));
  EXPECT_EQ(fs::file_size(path()), 0U);
  const std::string large(20 * 1024 * 1024, 'x');
  ASSERT_TRUE(atomic_file::write(path(), large, 0600));
  EXPECT_EQ(content(), large);
}

TEST_F(AtomicFile, LeavesWhatIsThereAloneWhenItMayNotReplace) {
  ASSERT_TRUE(atomic_file::write(path(), "first", 0600, IfThere::refuse));
  const auto second = atomic_file::write(path(), "second", 0644, IfThere::refuse);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, Error::Kind::unavailable);
  EXPECT_THAT(second.error().message, HasSubstr(path().string() + ": cannot put the new file in place: "));
  EXPECT_EQ(content(), "first");
  EXPECT_EQ(mode(), 0600U);
  EXPECT_EQ(files(), 1);
}

TEST_F(AtomicFile, ReplacesASymbolicLinkAndNotWhatItNames) {
  std::ofstream(folder_ / "other") << "precious";
  fs::create_symlink(folder_ / "other", path());
  EXPECT_FALSE(atomic_file::write(path(), "new", 0600, IfThere::refuse));
  ASSERT_TRUE(atomic_file::write(path(), "new", 0600));
  EXPECT_FALSE(fs::is_symlink(path()));
  std::ifstream in(folder_ / "other");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "precious");
}

TEST_F(AtomicFile, LeavesNothingBehindWhenItFails) {
  fs::create_directory(path());
  const auto over_folder = atomic_file::write(path(), "new", 0600);
  ASSERT_FALSE(over_folder);
  EXPECT_EQ(files(), 1);
  const auto nowhere = atomic_file::write(folder_ / "gone" / "file", "new", 0600);
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().kind, Error::Kind::unavailable);
  EXPECT_THAT(nowhere.error().message, HasSubstr("gone/file: cannot create a file beside it: No such file"));
}

TEST_F(AtomicFile, StandsInTheWorkingFolderWhenItsPathNamesNone) {
  const auto before = fs::current_path();
  fs::current_path(folder_);
  const auto written = atomic_file::write("file", "here", 0600);
  fs::current_path(before);
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(content(), "here");
}

TEST_F(AtomicFile, HasOneOfManyWritersWhole) {
  std::vector<int> wrote(8);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&, t] {
        wrote[static_cast<std::size_t>(t)] =
            atomic_file::write(path(), std::string(100'000, static_cast<char>('a' + t)), 0600,
                               IfThere::refuse)
                .has_value();
      });
  }
  EXPECT_EQ(std::count(wrote.begin(), wrote.end(), 1), 1);
  const auto text = content();
  EXPECT_EQ(text.size(), 100'000U);
  EXPECT_EQ(std::set<char>(text.begin(), text.end()).size(), 1U);
  EXPECT_EQ(files(), 1);
}

}  // namespace
