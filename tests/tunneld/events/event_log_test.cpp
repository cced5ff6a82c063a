#include "tunneld/events/event_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

namespace {

using namespace std::chrono_literals;
using namespace tunneld::events;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "event-log-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

mode_t mode_of(const fs::path& path) {
  struct stat about {};
  return ::stat(path.c_str(), &about) == 0 ? about.st_mode & 07777 : 0;
}

std::vector<std::uint64_t> ids(const EventLog::Page& page) {
  std::vector<std::uint64_t> out;
  for (const auto& event : page.events) out.push_back(event.id);
  return out;
}

class Events : public testing::Test {
 protected:
  Events() { options_.directory = folder_ / "events", options_.instance_id = "edge-1"; }

  std::unique_ptr<EventLog> open() {
    auto log = EventLog::open(options_);
    if (!log) ADD_FAILURE() << log.error().message;
    return log ? std::move(*log) : nullptr;
  }
  /// Appends and waits until readers see it.
  void append(EventLog& log, int count, const std::string& text = "x") {
    const auto seen = log.after(0, 0).last + static_cast<std::uint64_t>(count);
    for (int i = 0; i < count; ++i) log.append("breaker.opened", {{"text", text}});
    until(log, [&] { return log.after(0, 0).last == seen; });
  }
  template <class Condition>
  void until(EventLog& log, Condition condition) {
    std::mutex mutex;
    std::condition_variable changed;
    const auto handle = log.subscribe([&] {
      const std::lock_guard lock(mutex);
      changed.notify_all();
    });
    std::unique_lock lock(mutex);
    if (!changed.wait_for(lock, 20s, condition)) ADD_FAILURE() << "waited in vain";
    lock.unlock();
  }
  std::string contents(const char* name) const {
    std::ostringstream out;
    out << std::ifstream(options_.directory / name, std::ios::binary).rdbuf();
    return out.str();
  }

  Folder folder_;
  EventLog::Options options_;
};

TEST_F(Events, AreNumberedJsonObjects) {
  const auto log = open();
  log->append("breaker.opened", {{"service", "api"}, {"failures", 5}});
  log->append("upstream.lost", {{"upstream", "home"}});
  until(*log, [&] { return log->after(0, 0).last == 2; });
  const auto page = log->after(0, 10);
  ASSERT_THAT(ids(page), ElementsAre(1, 2));
  EXPECT_EQ(page.events[0].kind, "breaker.opened");
  const auto event = json::parse(page.events[0].json);
  EXPECT_EQ(event["id"], 1);
  EXPECT_EQ(event["kind"], "breaker.opened");
  EXPECT_EQ(event["instanceId"], "edge-1");
  EXPECT_EQ(event["data"]["failures"], 5);
  EXPECT_EQ(event["time"].get<std::string>().size(), 24U);
  EXPECT_EQ(page.first, 1U);
  EXPECT_EQ(page.last, 2U);
  EXPECT_FALSE(page.gap);
}

TEST_F(Events, OfANewLogAreNone) {
  const auto log = open();
  const auto page = log->after(0, 10);
  EXPECT_THAT(page.events, IsEmpty());
  EXPECT_EQ(page.first, 0U);
  EXPECT_EQ(page.last, 0U);
  EXPECT_FALSE(page.gap);
  EXPECT_TRUE(log->healthy());
}

TEST_F(Events, AreOneLineWhateverTheDataHolds) {
  const auto log = open();
  log->append("evil\nevent: x\"", {{"text", "a\nb\r\xff\"}"}});
  log->append("large", {{"text", std::string(20'000, 'x')}});
  until(*log, [&] { return log->after(0, 0).last == 2; });
  const auto page = log->after(0, 10);
  ASSERT_EQ(page.events.size(), 2U);
  EXPECT_EQ(page.events[0].kind, "evil_event__x_");
  for (const auto& event : page.events) {
    EXPECT_EQ(event.json.find_first_of("\r\n"), std::string::npos);
    EXPECT_TRUE(json::accept(event.json)) << event.json;
  }
  EXPECT_EQ(json::parse(page.events[1].json)["data"], json({{"truncated", true}}));
}

TEST_F(Events, AreReadInPages) {
  const auto log = open();
  append(*log, 5);
  EXPECT_THAT(ids(log->after(0, 2)), ElementsAre(1, 2));
  EXPECT_THAT(ids(log->after(2, 2)), ElementsAre(3, 4));
  EXPECT_THAT(ids(log->after(4, 2)), ElementsAre(5));
  EXPECT_THAT(ids(log->after(5, 2)), IsEmpty());
  EXPECT_THAT(ids(log->after(0, 0)), IsEmpty());
}

TEST_F(Events, ComeFromTheDiskWhenMemoryForgotThem) {
  options_.in_memory = 3;
  const auto log = open();
  append(*log, 10);
  for (std::uint64_t after = 0; after < 10; ++after) {
    const auto page = log->after(after, 4);
    ASSERT_EQ(page.events.size(), std::min<std::uint64_t>(4, 10 - after)) << after;
    for (std::size_t i = 0; i < page.events.size(); ++i) EXPECT_EQ(page.events[i].id, after + 1 + i);
    EXPECT_FALSE(page.gap);
    EXPECT_EQ(page.first, 1U);
  }
}

TEST_F(Events, SurviveARestartAndGoOnWithTheNextNumber) {
  append(*open(), 3);
  const auto log = open();
  EXPECT_THAT(ids(log->after(1, 10)), ElementsAre(2, 3));
  append(*log, 1);
  EXPECT_THAT(ids(log->after(1, 10)), ElementsAre(2, 3, 4));
  EXPECT_FALSE(log->after(1, 10).gap);
}

TEST_F(Events, AreWrittenBeforeTheLogCloses) {
  {
    const auto log = open();
    for (int i = 0; i < 100; ++i) log->append("drain", {{"n", i}});
  }
  EXPECT_EQ(open()->after(0, 1000).events.size(), 100U);
}

TEST_F(Events, StayWithinTheirSpaceAndReadersSeeWhatIsGone) {
  options_.max_bytes = 400'000;
  options_.in_memory = 10;
  auto log = open();
  append(*log, 3000, std::string(200, 'x'));
  EXPECT_LE(fs::file_size(options_.directory / "events.jsonl"), 200'000U);
  EXPECT_LE(fs::file_size(options_.directory / "events.old.jsonl"), 200'000U);
  EXPECT_EQ(mode_of(options_.directory), 0750U);
  EXPECT_EQ(mode_of(options_.directory / "events.jsonl"), 0640U);
  EXPECT_EQ(mode_of(options_.directory / "events.old.jsonl"), 0640U);
  const auto first = log->after(0, 1).first;
  ASSERT_GT(first, 1U);
  for (int round = 0; round < 2; ++round) {
    const auto missed = log->after(1, 5);
    EXPECT_TRUE(missed.gap);
    EXPECT_EQ(missed.events.at(0).id, first);
    EXPECT_FALSE(log->after(0, 5).gap) << "who asks for all knows nothing to miss";
    EXPECT_FALSE(log->after(first - 1, 5).gap);
    for (std::uint64_t after = first - 1; after < 3000; after += 97) {
      const auto page = log->after(after, 5);
      EXPECT_EQ(page.events.at(0).id, after + 1);
      EXPECT_FALSE(page.gap);
    }
    log.reset();
    log = open();
  }
}

TEST_F(Events, StartOverForAReaderOfAnotherLog) {
  const auto log = open();
  append(*log, 2);
  const auto page = log->after(50, 10);
  EXPECT_THAT(ids(page), ElementsAre(1, 2));
  EXPECT_TRUE(page.gap);
}

TEST_F(Events, AreReadAroundWhatAPowerCutLeft) {
  append(*open(), 2);
  std::ofstream(options_.directory / "events.jsonl", std::ios::app) << "{\"id\":3,\"kind\":\"torn";
  {
    const auto log = open();
    EXPECT_THAT(ids(log->after(0, 10)), ElementsAre(1, 2));
    append(*log, 1);
    EXPECT_THAT(ids(log->after(0, 10)), ElementsAre(1, 2, 3));
  }
  std::ofstream(options_.directory / "events.jsonl", std::ios::app)
      << std::string(200'000, '\0') << "\nnothing\n{\"id\":4,\"kind\":\"half\",\n";
  const auto log = open();
  EXPECT_THAT(ids(log->after(0, 10)), ElementsAre(1, 2, 3));
  append(*log, 1);
  EXPECT_THAT(ids(log->after(0, 10)), ElementsAre(1, 2, 3, 5)) << "a number that was used is not used again";
  const auto page = log->after(3, 10);
  EXPECT_THAT(ids(page), ElementsAre(5));
  EXPECT_TRUE(page.gap);
}

TEST_F(Events, NeedADirectory) {
  std::ofstream(options_.directory) << "x";
  EXPECT_EQ(EventLog::open(options_).error().kind, Error::Kind::bad_input);
  options_.directory = "/proc/events";
  EXPECT_THAT(EventLog::open(options_).error().message, HasSubstr("/proc/events"));
  options_.directory.clear();
  EXPECT_EQ(EventLog::open(options_).error().kind, Error::Kind::bad_input);
}

/// A limit on the size of files stands for a full disk.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(Events, LiveInMemoryWhileTheDiskIsFullAndReachItLater) {
  auto log = open();
  append(*log, 2);
  {
    const SmallFiles limit(fs::file_size(options_.directory / "events.jsonl") + 30);
    append(*log, 3);
    EXPECT_THAT(ids(log->after(0, 10)), ElementsAre(1, 2, 3, 4, 5));
    EXPECT_FALSE(log->healthy());
    EXPECT_EQ(contents("events.jsonl").back(), '\n') << "no torn line";
  }
  while (!log->healthy()) std::this_thread::yield();
  log.reset();
  EXPECT_THAT(ids(open()->after(0, 10)), ElementsAre(1, 2, 3, 4, 5)) << "without another event to push them";
}

TEST_F(Events, ThatNeverReachedTheDiskAreAGapForTheirReaders) {
  options_.in_memory = 4;
  auto log = open();
  append(*log, 2);
  {
    const SmallFiles limit(fs::file_size(options_.directory / "events.jsonl"));
    for (int i = 0; i < 10; ++i) append(*log, 1);
  }
  while (!log->healthy()) std::this_thread::yield();
  const auto page = log->after(2, 20);
  EXPECT_THAT(ids(page), ElementsAre(9, 10, 11, 12));
  EXPECT_TRUE(page.gap);
  EXPECT_EQ(page.first, 1U);
}

TEST_F(Events, TellSubscribersUntilTheyLeave) {
  const auto log = open();
  std::mutex mutex;
  std::condition_variable changed;
  int calls = 0;
  const auto count = [&] {
    const std::lock_guard lock(mutex);
    ++calls;
    changed.notify_all();
  };
  auto handle = log->subscribe(count);
  log->append("drain", {});
  {
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, 20s, [&] { return calls == 1; }));
  }
  handle.reset();
  append(*log, 3);
  EXPECT_EQ(calls, 1);
}

TEST_F(Events, LetASubscriberLeaveWithinItsCallAndAfterTheLog) {
  auto log = open();
  std::shared_ptr<void> inside;
  std::atomic<int> calls{0};
  inside = log->subscribe([&] {
    ++calls;
    inside.reset();
  });
  const auto outliving = log->subscribe([] {});
  append(*log, 1);
  append(*log, 1);
  log.reset();
  EXPECT_EQ(calls, 1);
}

TEST_F(Events, OfManyThreadsReachAReaderOnceEachAndInOrder) {
  options_.max_bytes = 64 * 1024 * 1024;
  options_.in_memory = 50;
  const auto log = open();
  constexpr std::uint64_t kThreads = 4, kEach = 1000;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i < kEach; ++i) log->append("overload", {{"n", i}});
    });
  std::uint64_t seen = 0;
  while (seen < kThreads * kEach) {
    const auto page = log->after(seen, 100);
    EXPECT_FALSE(page.gap);
    for (const auto& event : page.events) EXPECT_EQ(event.id, ++seen);
    if (testing::Test::HasFailure()) break;
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
