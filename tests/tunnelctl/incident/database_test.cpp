#include "tunnelctl/incident/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "tests/tunnelctl/incident/temporary_folder.h"

namespace {

using namespace tunnelctl::incident;
using support::TemporaryFolder;
using testing::HasSubstr;
using Kind = Error::Kind;

constexpr std::int32_t kOurs = 0x1234;
const std::vector<std::string> kSchemas = {"CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)"};

Database opened(const std::filesystem::path& path, const std::vector<std::string>& schemas = kSchemas) {
  auto database = Database::open(path, kOurs, schemas);
  if (!database) throw std::runtime_error(database.error().message);
  return std::move(*database);
}

std::size_t count(Database& database) {
  const auto rows = database.rows("SELECT count(*) FROM t");
  return rows ? static_cast<std::size_t>(rows->front().number(0)) : 9999;
}

unsigned mode_of(const std::filesystem::path& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 ? facts.st_mode & 07777U : 0;
}

/// In a process of its own; its exit status.
template <class Work>
int in_a_child(Work work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(Database, KeepsValuesOfEveryKind) {
  const TemporaryFolder folder;
  auto database = opened(folder / "a.db");
  const std::string text("x\0y'\";--\xC3\xA9", 9);
  ASSERT_TRUE(database.run("INSERT INTO t (b) VALUES (?)", {text}));
  EXPECT_EQ(database.last_id(), 1);
  EXPECT_EQ(database.changed(), 1);
  const auto rows = database.rows("SELECT a, b, NULL, 0.5 FROM t WHERE b = ?", {text});
  ASSERT_TRUE(rows) << rows.error().message;
  ASSERT_EQ(rows->size(), 1U);
  EXPECT_EQ(rows->front().number(0), 1);
  EXPECT_EQ(rows->front().text(1), text);
  EXPECT_EQ(rows->front().text(2), "");
  EXPECT_EQ(std::get<double>(rows->front().values[3]), 0.5);
  EXPECT_EQ(rows->front().text(17), "");
}

TEST(Database, IsItsOwnersAlone) {
  const TemporaryFolder folder;
  const auto before = ::umask(0);
  auto database = opened(folder / "x" / "y" / "a.db");
  ::umask(before);
  ASSERT_TRUE(database.run("INSERT INTO t (b) VALUES ('c')"));
  EXPECT_EQ(mode_of(folder / "x"), 0700U);
  EXPECT_EQ(mode_of(folder / "x" / "y"), 0700U);
  for (const char* name : {"a.db", "a.db-wal", "a.db-shm"})
    EXPECT_EQ(mode_of(folder / "x" / "y" / name), 0600U) << name;
}

TEST(Database, TightensAFileThatOthersCouldRead) {
  const TemporaryFolder folder;
  { opened(folder / "a.db"); }
  ::chmod((folder / "a.db").c_str(), 0644);
  opened(folder / "a.db");
  EXPECT_EQ(mode_of(folder / "a.db"), 0600U);
}

TEST(Database, RefusesWhatIsNotItsOwnAndLeavesItAsItIs) {
  const TemporaryFolder folder;
  const auto refused = [&](const char* name) {
    const auto database = Database::open(folder / name, kOurs, kSchemas);
    EXPECT_FALSE(database) << name;
    return database ? Error{} : database.error();
  };
  std::ofstream(folder / "text.db") << std::string(5000, 'x');
  EXPECT_EQ(refused("text.db").kind, Kind::bad_input);
  EXPECT_THAT(refused("text.db").message, HasSubstr("text.db: is no database"));
  EXPECT_EQ(std::filesystem::file_size(folder / "text.db"), 5000U);

  { ASSERT_TRUE(Database::open(folder / "other.db", 0x77, kSchemas)); }
  EXPECT_EQ(refused("other.db").kind, Kind::bad_input);
  EXPECT_THAT(refused("other.db").message, HasSubstr("something else"));

  { opened(folder / "new.db", {kSchemas[0], "CREATE TABLE u (x)"}); }
  EXPECT_EQ(refused("new.db").kind, Kind::bad_input);
  EXPECT_THAT(refused("new.db").message, HasSubstr("format 2, this one knows up to 1"));

  std::filesystem::create_directory(folder / "folder.db");
  EXPECT_THAT(refused("folder.db").message, HasSubstr("no regular file"));
  std::ofstream(folder / "file") << "x";
  EXPECT_THAT(refused("file/a.db").message, HasSubstr("file"));
}

TEST(Database, SaysThatAFileIsDamaged) {
  const TemporaryFolder folder;
  {
    auto database = opened(folder / "a.db");
    ASSERT_TRUE(database.transaction([&]() -> Result<void> {
      for (int i = 0; i < 500; ++i)
        if (auto done = database.run("INSERT INTO t (b) VALUES (?)", {std::string(100, 'x')}); !done)
          return done;
      return {};
    }));
  }
  std::fstream file(folder / "a.db", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4096);
  file << std::string(20'000, '\xFF');
  file.close();
  auto database = Database::open(folder / "a.db", kOurs, kSchemas);
  ASSERT_TRUE(database) << database.error().message;  // the first page is whole
  const auto rows = database->rows("SELECT * FROM t");
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().kind, Kind::unavailable);
  EXPECT_THAT(rows.error().message, HasSubstr("is damaged; move it away"));
}

TEST(Database, LiftsOlderFilesOnce) {
  const TemporaryFolder folder;
  {
    auto first = opened(folder / "a.db");
    ASSERT_TRUE(first.run("INSERT INTO t (b) VALUES ('old')"));
  }
  const std::vector<std::string> later = {kSchemas[0], "ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'new'"};
  { opened(folder / "a.db", later); }
  auto third = opened(folder / "a.db", later);
  const auto rows = third.rows("SELECT b, c FROM t");
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ(rows->front().text(0), "old");
  EXPECT_EQ(rows->front().text(1), "new");
}

TEST(Database, IsLiftedWholeOrNotAtAll) {
  const TemporaryFolder folder;
  const auto wrong = Database::open(folder / "a.db", kOurs, {kSchemas[0], "CREATE NONSENSE"});
  ASSERT_FALSE(wrong);
  auto database = opened(folder / "a.db");
  EXPECT_EQ(count(database), 0U);
}

TEST(Database, TakesBackATransactionThatFailed) {
  const TemporaryFolder folder;
  auto database = opened(folder / "a.db");
  const auto done = database.transaction([&]() -> Result<void> {
    EXPECT_TRUE(database.run("INSERT INTO t (b) VALUES ('x')"));
    return fail(Kind::bad_input, "no");
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, "no");
  EXPECT_EQ(count(database), 0U);
  EXPECT_TRUE(database.transaction([&] { return database.run("INSERT INTO t (b) VALUES ('y')"); }));
  EXPECT_EQ(count(database), 1U);
}

TEST(Database, IsOpenedForTheFirstTimeByManyAtOnce) {
  const TemporaryFolder folder;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      auto database = Database::open(folder / "a.db", kOurs, kSchemas);
      if (database && database->run("INSERT INTO t (b) VALUES ('x')")) ++good;
      if (!database) ADD_FAILURE() << database.error().message;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 8);
  auto database = opened(folder / "a.db");
  EXPECT_EQ(count(database), 8U);
}

TEST(Database, KeepsWhatWasCommittedWhenItsProcessIsKilled) {
  const TemporaryFolder folder;
  const int status = in_a_child([&] {
    auto database = opened(folder / "a.db");
    (void)database.run("INSERT INTO t (b) VALUES ('kept')");
    (void)database.transaction([&]() -> Result<void> {
      (void)database.run("INSERT INTO t (b) VALUES ('lost')");
      ::kill(::getpid(), SIGKILL);
      return {};
    });
    return 0;
  });
  EXPECT_EQ(status, 1000 + SIGKILL);
  auto database = opened(folder / "a.db");
  const auto rows = database.rows("SELECT b FROM t");
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), 1U);
  EXPECT_EQ(rows->front().text(0), "kept");
}

/// A large row is refused with `says`, alone and within a transaction, and the file stays good. For a child.
int refuses(Database& database, const char* says) {
  const std::string large(400'000, 'x');
  const auto alone = database.run("INSERT INTO t (b) VALUES (?)", {large});
  if (alone) return 2;
  if (alone.error().kind != Kind::unavailable) return 3;
  if (alone.error().message.find(says) == std::string::npos) return 4;
  const auto inside =
      database.transaction([&] { return database.run("INSERT INTO t (b) VALUES (?)", {large}); });
  if (inside || inside.error().message.find(says) == std::string::npos) return 5;
  return count(database) == 1 ? 0 : 6;
}

TEST(Database, SaysThatTheDiskIsFull) {
  const TemporaryFolder folder;
  const int status = in_a_child([&] {
    const bool root = ::geteuid() == 0;
    if (::unshare(CLONE_NEWNS | (root ? 0 : CLONE_NEWUSER)) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", (folder / "").c_str(), "tmpfs", 0, "size=256k") != 0)
      return 99;
    auto database = opened(folder / "a.db");
    if (!database.run("INSERT INTO t (b) VALUES ('first')")) return 1;
    return refuses(database, "a.db: the disk is full");
  });
  if (status == 99) GTEST_SKIP() << "no small disk can be mounted here";
  EXPECT_EQ(status, 0);
}

TEST(Database, GoesOnWhenTheDiskTakesWritesAgain) {
  const TemporaryFolder folder;
  const int status = in_a_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    auto database = opened(folder / "a.db");
    if (!database.run("INSERT INTO t (b) VALUES ('first')")) return 1;
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    const auto before = limit.rlim_cur;
    limit.rlim_cur = 64 * 1024;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    if (const int wrong = refuses(database, "a.db: the disk failed"); wrong != 0) return wrong;
    limit.rlim_cur = before;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    if (!database.run("INSERT INTO t (b) VALUES ('second')")) return 7;
    return count(database) == 2 ? 0 : 8;
  });
  EXPECT_EQ(status, 0);
}

TEST(Database, SaysThatAnotherProgramHoldsIt) {
  const TemporaryFolder folder;
  auto holder = opened(folder / "a.db");
  auto waiting = opened(folder / "a.db");
  ASSERT_TRUE(waiting.rows("PRAGMA busy_timeout = 50"));
  const auto done = holder.transaction([&]() -> Result<void> {
    const auto refused = waiting.run("INSERT INTO t (b) VALUES ('x')");
    EXPECT_FALSE(refused);
    if (!refused) {
      EXPECT_EQ(refused.error().kind, Kind::unavailable);
      EXPECT_THAT(refused.error().message, HasSubstr("another program kept it locked"));
    }
    EXPECT_EQ(count(waiting), 0U);  // reading goes on
    return {};
  });
  EXPECT_TRUE(done);
}

TEST(Database, SaysThatItMayNotBeWritten) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "closed");
  ::chmod((folder / "closed").c_str(), 0500);
  const auto database = Database::open(folder / "closed" / "a.db", kOurs, kSchemas);
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().kind, Kind::denied);
}

}  // namespace
