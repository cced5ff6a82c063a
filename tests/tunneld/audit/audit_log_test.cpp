#include "tunneld/audit/audit_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "common/audit_chain.h"
#include "tunneld/audit/audit_files.h"

namespace {

using namespace std::chrono_literals;
using namespace tunneld::audit;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "audit-log-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

std::string contents(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

void put(const fs::path& path, const std::string& text, std::ios::openmode mode = std::ios::app) {
  std::ofstream(path, std::ios::binary | mode) << text;
}

mode_t mode_of(const fs::path& path) {
  struct stat about {};
  return ::stat(path.c_str(), &about) == 0 ? about.st_mode & 07777 : 0;
}

/// What the log reports, and a way to wait for it.
class Watch {
 public:
  AuditLog::Reports reports();
  template <class Condition>
  void until(Condition condition) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 20s, condition)) ADD_FAILURE() << "waited in vain";
  }

  std::size_t written = 0;
  std::size_t failed = 0;
  std::uint64_t lost = 0;
  std::string why;
  std::vector<std::string> events;
  std::vector<bool> health;

 private:
  template <class Change>
  void change(Change what) {
    {
      const std::lock_guard lock(mutex_);
      what();
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
};

AuditLog::Reports Watch::reports() {
  AuditLog::Reports out;
  out.written = [this](std::string_view event) {
    change([&] {
      ++written;
      if (events.size() < 100) events.emplace_back(event);
    });
  };
  out.lost = [this](std::uint64_t lines, std::string_view reason) {
    change([&] { lost += lines, why = reason; });
  };
  out.failed = [this](std::string_view reason) { change([&] { ++failed, why = reason; }); };
  out.health = [this](bool healthy, std::string_view) { change([&] { health.push_back(healthy); }); };
  return out;
}

/// A disk that fails on request.
class BadDisk : public Disk {
 public:
  std::atomic<bool> full{false};
  std::atomic<std::size_t> room{0};  // bytes that still fit while full
  std::atomic<int> sync_error{0};
  std::atomic<bool> cuts{true};
  std::atomic<int> syncs{0};

  ssize_t write(int file, std::string_view bytes) override {
    if (!full) return Disk::write(file, bytes);
    const std::size_t fits = std::min(bytes.size(), room.load());
    room -= fits;
    if (fits > 0) return Disk::write(file, bytes.substr(0, fits));
    errno = ENOSPC;
    return -1;
  }
  int sync(int file) override {
    ++syncs;
    syncs.notify_all();
    if (sync_error == 0) return Disk::sync(file);
    errno = sync_error;
    return -1;
  }
  int cut(int file, std::size_t size) override {
    if (cuts) return Disk::cut(file, size);
    errno = EIO;
    return -1;
  }
};

class Audit : public testing::Test {
 protected:
  Audit() { options_.directory = folder_ / "audit"; }

  std::unique_ptr<AuditLog> open() {
    auto log = AuditLog::open(options_, "edge-1", watch_.reports(), disk_, 5ms);
    if (!log) ADD_FAILURE() << log.error().message;
    return log ? std::move(*log) : nullptr;
  }
  Error refusal() {
    auto log = AuditLog::open(options_, "edge-1", watch_.reports(), disk_, 5ms);
    EXPECT_FALSE(log);
    return log ? Error{} : log.error();
  }
  /// Opens, writes so many lines, closes.
  void session(int lines) {
    const auto log = open();
    for (int i = 0; i < lines; ++i) log->write("request", {{"n", i}});
  }
  std::vector<fs::path> files() const {
    auto found = audit_chain::files_in(options_.directory);
    return found ? *found : std::vector<fs::path>{};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& file : files()) out.push_back(file.filename().string());
    return out;
  }
  std::vector<json> records() const {
    std::vector<json> out;
    for (const auto& file : files()) {
      std::ifstream in(file);
      for (std::string line; std::getline(in, line);) out.push_back(json::parse(line));
    }
    return out;
  }
  std::vector<std::string> events() const {
    std::vector<std::string> out;
    for (const auto& record : records()) out.push_back(record["event"]);
    return out;
  }
  audit_chain::Summary verified() const {
    const auto summary = audit_chain::verify(files());
    if (!summary) {
      ADD_FAILURE() << summary.error().message;
      return {};
    }
    if (summary->problem)
      ADD_FAILURE() << summary->problem->file << ':' << summary->problem->line << ' '
                    << summary->problem->what;
    return *summary;
  }

  Folder folder_;
  Options options_;
  Watch watch_;
  std::shared_ptr<BadDisk> disk_ = std::make_shared<BadDisk>();
};

TEST_F(Audit, KeepsWhatHappenedInItsOrder) {
  {
    const auto log = open();
    log->write("started", {{"version", "1.2.3"}});
    log->write("auth.failed", {{"reason", "expired"}, {"count", 2}});
    log->write("stopped", {});
    EXPECT_TRUE(log->healthy());
  }
  const auto lines = records();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0]["seq"], 1);
  EXPECT_EQ(lines[0]["version"], "1.2.3");
  EXPECT_EQ(lines[1]["event"], "auth.failed");
  EXPECT_EQ(lines[1]["instanceId"], "edge-1");
  EXPECT_EQ(lines[1]["count"], 2);
  EXPECT_EQ(verified().last.seq, 3U);
  EXPECT_THAT(watch_.events, ElementsAre("started", "auth.failed", "stopped"));
  EXPECT_TRUE(watch_.health.empty());
}

TEST_F(Audit, KeepsOthersOutWhateverTheUmask) {
  for (const mode_t mask : {0U, 077U}) {
    const mode_t before = ::umask(mask);
    session(1);
    ::umask(before);
    EXPECT_EQ(mode_of(options_.directory), 0750U);
    EXPECT_EQ(mode_of(files().at(0)), 0640U);
    fs::remove_all(options_.directory);
  }
}

TEST_F(Audit, ClosesAnOpenDirectory) {
  fs::create_directory(options_.directory);
  ::chmod(options_.directory.c_str(), 0777);
  session(1);
  EXPECT_EQ(mode_of(options_.directory), 0750U);
}

TEST_F(Audit, GoesOnWhereTheLastRunEnded) {
  session(3);
  session(0);
  session(2);
  EXPECT_EQ(names().size(), 1U);
  EXPECT_EQ(verified().last.seq, 5U);
}

TEST_F(Audit, WritesValidLinesWhateverTheValuesHold) {
  {
    const auto log = open();
    log->write(
        "request",
        {{"method", "GET\"}\n{\"seq\":99"}, {"peer", "\xff\xfe"}, {"service", std::string(9000, 'x')}});
    log->write(std::string(5000, '\n'), {});
  }
  EXPECT_EQ(verified().lines, 2U);
  EXPECT_EQ(records()[0]["peer"], "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_F(Audit, RefusesASecondWriter) {
  const auto log = open();
  const auto error = refusal();
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_THAT(error.message, HasSubstr(options_.directory.string()));
  EXPECT_THAT(error.message, HasSubstr("another tunneld"));
}

TEST_F(Audit, RefusesADirectoryThatIsNone) {
  put(options_.directory, "x");
  EXPECT_EQ(refusal().kind, Error::Kind::bad_input);
  options_.directory.clear();
  EXPECT_EQ(refusal().kind, Error::Kind::bad_input);
  options_.directory = "/proc/audit";
  EXPECT_THAT(refusal().message, HasSubstr("/proc/audit"));
}

TEST_F(Audit, MovesATornLineAsideAndSaysSo) {
  session(3);
  const auto file = files().at(0);
  put(file, R"({"seq":4,"time":"2026-)");
  session(1);
  const auto summary = verified();
  EXPECT_EQ(summary.lost, 1U);
  EXPECT_THAT(events(), ElementsAre("request", "request", "request", "audit.gap", "request"));
  const auto gap = records()[3];
  EXPECT_EQ(gap["seq"], 5) << "the number of the torn line is not used again";
  EXPECT_EQ(gap["lines"], 1);
  const std::string aside = "damaged-" + file.filename().string();
  EXPECT_THAT(gap["why"].get<std::string>(), HasSubstr(aside));
  EXPECT_EQ(contents(options_.directory / aside), R"({"seq":4,"time":"2026-)");
  EXPECT_EQ(mode_of(options_.directory / aside), 0640U);
}

TEST_F(Audit, SaysOfATornLineEvenWhenNothingElseHappens) {
  session(1);
  put(files().at(0), "torn");
  session(0);
  EXPECT_THAT(events(), ElementsAre("request", "audit.gap"));
}

TEST_F(Audit, KeepsTheTracesOfEveryAccident) {
  session(1);
  const auto file = files().at(0);
  for (const std::string trace : {"one", "two", "three"}) {
    put(file, trace);
    session(1);
  }
  const auto aside = options_.directory / ("damaged-" + file.filename().string());
  EXPECT_EQ(contents(aside), "one");
  EXPECT_EQ(contents(aside.string() + ".2"), "two");
  EXPECT_EQ(contents(aside.string() + ".3"), "three");
  EXPECT_EQ(verified().lost, 3U);
}

TEST_F(Audit, FindsTheLastGoodLineFarBeforeTheEnd) {
  session(2);
  put(files().at(0), std::string(1'000'000, '\0') + "\nmore\n");  // as a file system may leave it
  session(1);
  const auto summary = verified();
  EXPECT_EQ(summary.lost, 2U);
  EXPECT_EQ(summary.last.seq, 6U);
}

TEST_F(Audit, RefusesToGuessWhenTheEndIsNothingButDamage) {
  session(1);
  fs::resize_file(files().at(0), 65U * 1024 * 1024);
  const auto error = refusal();
  EXPECT_EQ(error.kind, Error::Kind::bad_input);
  EXPECT_THAT(error.message, HasSubstr(files().at(0).string()));
}

TEST_F(Audit, PassesOverAFileWithoutAGoodLine) {
  session(2);
  const auto empty = options_.directory / audit_chain::file_name(3);
  put(empty, "");
  session(1);
  EXPECT_EQ(verified().last.seq, 3U);
  const auto junk = options_.directory / audit_chain::file_name(4);
  put(junk, "junk\n");
  session(1);
  EXPECT_EQ(verified().lost, 1U);
  EXPECT_EQ(contents(options_.directory / ("damaged-" + junk.filename().string())), "junk\n");
}

TEST_F(Audit, BeginsANewFileWhenOneIsFullAndKeepsSoMany) {
  options_.max_file_bytes = 2000;
  options_.files = 3;
  std::uint64_t last = 0;
  for (int run = 0; run < 10; ++run) {
    session(20);
    last += 20;
    const auto kept = files();
    ASSERT_LE(kept.size(), 4U);
    for (const auto& file : kept) {
      EXPECT_LE(fs::file_size(file), 2000U + 300U) << "one line above at most";
      EXPECT_EQ(mode_of(file), 0640U);
      std::string line;
      std::getline(std::ifstream(file), line);
      EXPECT_EQ(audit_chain::first_seq_of(file.filename().string()), json::parse(line)["seq"]);
    }
    EXPECT_EQ(verified().last.seq, last);
  }
  EXPECT_EQ(files().size(), 4U) << "three closed ones and the one being written";
  EXPECT_GT(verified().first_seq, 1U);
}

TEST_F(Audit, DeletesClosedFilesPastTheirTimeOnly) {
  options_.max_file_bytes = 2000;
  options_.retention = 24h;
  session(40);
  const auto before = files();
  ASSERT_GE(before.size(), 3U);
  const auto now = fs::file_time_type::clock::now();
  fs::last_write_time(before[0], now - 25h);
  fs::last_write_time(before[1], now - 23h);
  fs::last_write_time(before.back(), now - 100h);
  session(0);
  EXPECT_FALSE(fs::exists(before[0]));
  EXPECT_TRUE(fs::exists(before[1]));
  EXPECT_TRUE(fs::exists(before.back())) << "it is the one being written";
  verified();
}

TEST_F(Audit, NotesTheLastHashInTheProgramsLog) {
  const auto path = (folder_ / "log").string();
  ASSERT_TRUE(logging::start({.format = logging::Format::json, .output = path}));
  options_.max_file_bytes = 2000;
  session(20);
  logging::stop();
  std::vector<audit_chain::Anchor> anchors;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const auto record = json::parse(line);
    if (record["message"] == "anchor") anchors.push_back({record["seq"], record["hash"]});
  }
  ASSERT_EQ(anchors.size(), files().size()) << "at each full file and at the end";
  for (const auto& anchor : anchors) {
    const auto summary = audit_chain::verify(files(), anchor);
    ASSERT_TRUE(summary);
    EXPECT_FALSE(summary->problem);
  }
  EXPECT_EQ(anchors.back().seq, 20U);
}

TEST_F(Audit, ReachesTheDiskWithinItsTime) {
  options_.flush = 20ms;
  const auto log = open();
  log->write("request", {});
  disk_->syncs.wait(0);
  EXPECT_EQ(contents(files().at(0)).find("{\"seq\":1,"), 0U);
}

TEST_F(Audit, KeepsLinesInMemoryWhileTheDiskIsFullAndLosesNone) {
  {
    const auto log = open();
    log->write("started", {});
    watch_.until([&] { return watch_.written == 1; });
    disk_->full = true;
    disk_->room = 100;  // a piece of the line still fits
    log->write("request", {{"n", 1}});
    watch_.until([&] { return watch_.failed >= 3 && !watch_.health.empty(); });
    EXPECT_FALSE(log->healthy());
    EXPECT_TRUE(log->may_serve());
    EXPECT_EQ(verified().lines, 1U) << "no torn line stays";
    for (int n = 2; n <= 100; ++n) log->write("request", {{"n", n}});
    disk_->full = false;
    watch_.until([&] { return watch_.health.size() == 2; });
    EXPECT_TRUE(log->healthy());
  }
  EXPECT_THAT(watch_.health, ElementsAre(false, true));
  EXPECT_THAT(watch_.why, HasSubstr("No space left"));
  EXPECT_EQ(watch_.lost, 0U);
  const auto summary = verified();
  EXPECT_EQ(summary.lines, 102U);
  EXPECT_EQ(summary.gaps, 1U);
  EXPECT_EQ(summary.lost, 0U);
  for (const auto& record : records()) {
    if (record["event"] != "audit.gap") continue;
    EXPECT_EQ(record["lines"], 0);
    EXPECT_THAT(record["why"].get<std::string>(), HasSubstr("No space left"));
    EXPECT_TRUE(record["ms"].is_number_unsigned() || record["ms"].is_number_integer());
  }
}

TEST_F(Audit, CountsWhatDoesNotFitIntoMemoryAndSaysHowMuch) {
  constexpr int kTried = 70'000;  // of 65,536 that fit
  {
    const auto log = open();
    disk_->full = true;
    log->write("first", {});
    watch_.until([&] { return watch_.failed > 0; });
    for (int n = 0; n < kTried; ++n) log->write("request", {{"n", n}});
    watch_.until([&] { return watch_.lost == kTried + 1 - 65'536; });
    EXPECT_FALSE(log->healthy());
    disk_->full = false;
    watch_.until([&] { return !watch_.health.empty() && watch_.health.back(); });
    log->write("last", {});
  }
  const auto summary = verified();
  EXPECT_EQ(summary.lost, kTried + 1U - 65'536U);
  EXPECT_EQ(summary.lines, 65'536U + 1U + summary.gaps);
  EXPECT_EQ(summary.last.seq, summary.lines + summary.lost);
  EXPECT_THAT(watch_.health, ElementsAre(false, true));
}

TEST_F(Audit, TakesBackATornPieceAsSoonAsItCan) {
  {
    const auto log = open();
    log->write("started", {});
    watch_.until([&] { return watch_.written == 1; });
    disk_->cuts = false;
    disk_->full = true;
    disk_->room = 50;
    log->write("request", {});
    watch_.until([&] { return watch_.failed >= 2; });
    disk_->full = false;
    watch_.until(
        [&] { return watch_.failed >= 4; });  // a write behind the torn piece would make one bad line
    disk_->cuts = true;
  }
  EXPECT_THAT(events(), ElementsAre("started", "request", "audit.gap"));
  EXPECT_EQ(verified().lost, 0U);
}

TEST_F(Audit, GoesToAnotherFileWhenASyncFailed) {
  options_.flush = 10ms;
  {
    const auto log = open();
    disk_->sync_error = EIO;
    log->write("started", {});
    watch_.until([&] { return watch_.failed >= 1; });
    log->write("request", {});
    watch_.until([&] { return watch_.failed >= 3; });
    EXPECT_FALSE(log->healthy()) << "though writes succeed";
    disk_->sync_error = 0;
    watch_.until([&] { return !watch_.health.empty() && watch_.health.back(); });
  }
  EXPECT_EQ(files().size(), 2U) << "and not one for each try";
  const auto summary = verified();
  EXPECT_EQ(summary.lost, 0U);
  EXPECT_GE(summary.gaps, 1U);
  EXPECT_THAT(records().back()["why"].get<std::string>(), HasSubstr("synced"));
}

TEST_F(Audit, BeginsAgainWhenItsFileIsDeletedUnderIt) {
  options_.flush = 10ms;
  const auto log = open();
  log->write("started", {});
  watch_.until([&] { return watch_.written == 1; });
  disk_->syncs.wait(0);
  fs::remove(files().at(0));
  log->write("request", {});
  watch_.until([&] { return watch_.health.size() == 2; });
  log->write("request", {});
  watch_.until([&] { return watch_.written >= 4; });
  EXPECT_EQ(names().size(), 1U);
  EXPECT_GT(verified().first_seq, 1U) << "what was deleted stays missing";
}

TEST_F(Audit, StartsOnAFullDiskAndMendsLater) {
  session(2);
  put(files().at(0), "torn");
  disk_->full = true;
  {
    const auto log = open();
    ASSERT_TRUE(log);
    watch_.until([&] { return watch_.failed >= 2; });
    EXPECT_FALSE(log->healthy());
    disk_->full = false;
    watch_.until([&] { return !watch_.health.empty() && watch_.health.back(); });
  }
  EXPECT_EQ(verified().lost, 1U);
}

TEST_F(Audit, SaysWhatIsLostWhenItEndsWithAFullDisk) {
  {
    const auto log = open();
    disk_->full = true;
    for (int i = 0; i < 7; ++i) log->write("request", {});
  }
  EXPECT_EQ(watch_.lost, 7U);
  EXPECT_THAT(watch_.why, HasSubstr("No space left"));
  disk_->full = false;
  session(1);
  EXPECT_EQ(verified().lines, 1U);
}

TEST_F(Audit, RefusesServiceWhileItFailsWhereThatIsWanted) {
  options_.on_error = OnError::refuse;
  const auto log = open();
  EXPECT_TRUE(log->may_serve());
  disk_->full = true;
  log->write("request", {});
  watch_.until([&] { return watch_.health.size() == 1; });
  EXPECT_FALSE(log->may_serve());
  options_.on_error = OnError::go_on;
  log->configure(options_);
  EXPECT_TRUE(log->may_serve());
  EXPECT_FALSE(log->healthy());
  options_.on_error = OnError::refuse;
  log->configure(options_);
  EXPECT_FALSE(log->may_serve());
  disk_->full = false;
  watch_.until([&] { return watch_.health.size() == 2; });
  EXPECT_TRUE(log->may_serve());
}

TEST_F(Audit, LeavesRequestsOutOnRequest) {
  options_.requests = false;
  {
    const auto log = open();
    for (const auto* event : {"started", "request", "stream.opened", "stream.closed", "auth.failed"})
      log->write(event, {});
    options_.requests = true;
    log->configure(options_);
    log->write("request", {});
  }
  EXPECT_THAT(events(), ElementsAre("started", "auth.failed", "request"));
}

TEST_F(Audit, TakesNewLimitsWhileItRuns) {
  options_.max_file_bytes = 2000;
  const auto log = open();
  for (int i = 0; i < 60; ++i) log->write("request", {});
  watch_.until([&] { return watch_.written == 60; });
  ASSERT_GE(files().size(), 5U);
  options_.files = 1;
  options_.max_file_bytes = 1'000'000;
  log->configure(options_);
  log->write("config.changed", {});
  watch_.until([&] { return watch_.written == 61; });
  for (int i = 0; i < 60; ++i) log->write("request", {});
  watch_.until([&] { return watch_.written == 121; });
  EXPECT_LE(files().size(), 2U);
}

TEST_F(Audit, DoesNothingWhenItIsSwitchedOff) {
  options_.enabled = false;
  {
    const auto log = open();
    log->write("started", {});
    log->configure(options_);
    EXPECT_TRUE(log->healthy());
    EXPECT_TRUE(log->may_serve());
  }
  EXPECT_FALSE(fs::exists(options_.directory));
}

TEST_F(Audit, NumbersTheLinesOfManyThreadsOnceEach) {
  constexpr int kThreads = 8;
  constexpr int kLines = 10'000;
  options_.max_file_bytes = 4 * 1024 * 1024;
  {
    std::atomic<int> produced{0};
    std::atomic<int> kept{0};
    AuditLog::Reports reports;
    reports.written = [&](std::string_view) { ++kept; };
    auto log = std::move(*AuditLog::open(options_, "edge-1", std::move(reports)));
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (int n = 0; n < kLines; ++n) {
          // The queue holds 65,536 lines; a machine that runs the writer seldom must not spill it.
          while (produced - kept > 50'000) std::this_thread::yield();
          ++produced;
          log->write("request", {{"thread", t}, {"n", n}});
        }
      });
    for (auto& thread : threads) thread.join();
  }
  const auto summary = verified();
  EXPECT_EQ(summary.lines, kThreads * kLines + 0U);
  EXPECT_EQ(summary.lost, 0U);
  EXPECT_EQ(summary.last.seq, kThreads * kLines + 0U);
  std::vector<int> next(kThreads, 0);
  for (const auto& record : records())
    EXPECT_EQ(record["n"], next.at(record["thread"])++) << "each thread's order";
  EXPECT_THAT(next, testing::Each(kLines));
}

TEST_F(Audit, VerifiesAfterItsProcessWasKilled) {
  options_.flush = 10ms;
  options_.max_file_bytes = 64 * 1024;
  options_.files = 10'000;
  std::uint64_t last = 0;
  for (int round = 0; round < 5; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      AuditLog::Reports reports;
      std::size_t lines = 0;
      reports.written = [&](std::string_view) {
        if (++lines == 2000) [[maybe_unused]]
          const auto told = ::write(pipe_ends[1], "x", 1);
      };
      auto log = AuditLog::open(options_, "edge-1", reports);
      for (;;) (*log)->write("request", {{"text", std::string(100, 'x')}});
    }
    char told = 0;
    ASSERT_EQ(::read(pipe_ends[0], &told, 1), 1);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(pipe_ends[0]);
    ::close(pipe_ends[1]);
    session(1);  // mends what is torn
    const auto summary = verified();
    EXPECT_GT(summary.last.seq, last + 2000);
    last = summary.last.seq;
  }
}

/// The kernel itself refuses: a limit on the size of files stands for the full disk.
TEST_F(Audit, RecoversFromARealRefusalOfTheKernel) {
  const auto log = std::move(*AuditLog::open(options_, "edge-1", watch_.reports()));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  for (int i = 0; i < 20; ++i) log->write("request", {{"n", i}});
  watch_.until([&] { return watch_.failed >= 1; });
  EXPECT_FALSE(log->healthy());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  watch_.until([&] { return watch_.written == 21; });
  const auto summary = verified();
  EXPECT_EQ(summary.lines, 21U);
  EXPECT_EQ(summary.gaps, 1U);
}

}  // namespace
