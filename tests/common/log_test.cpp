#include "common/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "common/log_format.h"
#include "common/log_output.h"
#include "common/secret.h"

namespace {

using namespace std::chrono_literals;
using logging::Level;
using nlohmann::json;
using testing::HasSubstr;

static_assert(std::constructible_from<logging::Field, const char*, std::string>);
static_assert(!std::constructible_from<logging::Field, const char*, Secret>);
static_assert(!std::constructible_from<logging::Field, const char*, int*>, "a pointer is not a switch");
static_assert(!std::constructible_from<logging::Field, const char*, std::chrono::seconds>, "say the unit");

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "log-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string at(const char* name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

std::string read(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

std::vector<json> records_of(const std::string& text) {
  std::vector<json> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) out.push_back(json::parse(line));
  return out;
}

// 2026-01-02T03:04:05.678Z
constexpr std::chrono::system_clock::time_point kTime{1767323045678ms};

std::string json_of(std::string_view message, logging::Fields fields, Level level = Level::info) {
  std::string line;
  logging::render_json(line, {kTime, level, "ssh", message, "edge-1", fields});
  return line;
}
std::string text_of(std::string_view message, logging::Fields fields) {
  std::string line;
  logging::render_text(line, {kTime, Level::warn, "ssh", message, "edge-1", fields}, false);
  return line;
}

TEST(LogFormat, WritesOneJsonObjectInAFixedOrder) {
  EXPECT_EQ(json_of("session opened", {{"upstream", std::string("home")},
                                       {"took_ms", 12},
                                       {"ratio", 0.5},
                                       {"ok", true},
                                       {"big", std::numeric_limits<std::uint64_t>::max()}}),
            R"({"timestamp":"2026-01-02T03:04:05.678Z","level":"INFO","message":"session opened",)"
            R"("component":"ssh","instanceId":"edge-1","upstream":"home","took_ms":12,"ratio":0.5,)"
            R"("ok":true,"big":18446744073709551615})");
}

TEST(LogFormat, NamesEveryLevel) {
  std::string names;
  for (const Level level : {Level::error, Level::warn, Level::info, Level::debug, Level::trace}) {
    names += json::parse(json_of("x", {}, level))["level"].get<std::string>() + " ";
  }
  EXPECT_EQ(names, "ERROR WARN INFO DEBUG TRACE ");
}

TEST(LogFormat, KeepsHostileBytesInsideTheirQuotes) {
  struct Row {
    std::string bytes;
    const char* written;
  };
  const Row rows[] = {
      {"\",\"level\":\"ERROR", R"(\",\"level\":\"ERROR)"},
      {"line\r\n\tend", R"(line\r\n\tend)"},
      {std::string("nul\0!", 5), R"(nul\u0000!)"},
      {"\x1b[31mred", R"(\u001b[31mred)"},
      {"\x7f", R"(\u007f)"},
      {"\xc2\x9b"
       "31m",
       R"(\u009b31m)"},  // CSI, the one-character escape
      {"back\\slash", R"(back\\slash)"},
      {"grün €  𝄞", "grün €  𝄞"},
      {"\xff", "\xEF\xBF\xBD"},
      {"a\xc3", "a\xEF\xBF\xBD"},                                                // cut short
      {"\xc0\xaf", "\xEF\xBF\xBD\xEF\xBF\xBD"},                                  // overlong slash
      {"\xed\xa0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},                  // a surrogate
      {"\xf4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},  // above U+10FFFF
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.written);
    const std::string line = json_of("m", {{"value", row.bytes}});
    EXPECT_THAT(line, HasSubstr(std::string("\"value\":\"") + row.written + "\"}"));
    EXPECT_TRUE(json::accept(line));
    EXPECT_TRUE(json::accept(json_of(row.bytes, {{row.bytes, 1}}))) << "as message and as key";
    const std::string text = text_of(row.bytes, {{row.bytes, row.bytes}});
    EXPECT_TRUE(
        std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }));
  }
}

TEST(LogFormat, WritesEveryByteValueAsValidJson) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  EXPECT_TRUE(json::accept(json_of(all, {{all, all}})));
}

TEST(LogFormat, CutsLongValuesBetweenCharacters) {
  const json cut = json::parse(json_of("m", {{"value", std::string(5000, 'x')}}));
  EXPECT_EQ(cut["value"], std::string(2048, 'x') + "...");
  std::string euros;
  for (int i = 0; i < 2000; ++i) euros += "€";
  const auto value = json::parse(json_of("m", {{"value", euros}}))["value"].get<std::string>();
  EXPECT_TRUE(value.ends_with("€..."));
  EXPECT_LE(value.size(), 2048U + 6U);
  EXPECT_EQ(json::parse(json_of("m", {{"value", std::string(2048, 'x')}}))["value"], std::string(2048, 'x'));
}

TEST(LogFormat, LeavesOutFieldsThatWouldMakeALineTooLong) {
  const std::string half(1500, '\x01');  // grows six times when escaped
  const std::string line = json_of("m", {{"a", half}, {"b", half}, {"c", 1}});
  EXPECT_LE(line.size(), logging::kMaxLineBytes);
  const json record = json::parse(line);
  EXPECT_TRUE(record.contains("a"));
  EXPECT_FALSE(record.contains("b"));
  EXPECT_EQ(record["truncated"], true);
  EXPECT_LE(text_of("m", {{"a", half}, {"b", half}}).size(), logging::kMaxLineBytes);
}

TEST(LogFormat, WritesNullForNumbersThatJsonDoesNotHave) {
  EXPECT_THAT(json_of("m", {{"nan", std::nan("")}, {"inf", -INFINITY}}),
              HasSubstr(R"("nan":null,"inf":null})"));
}

TEST(LogFormat, WritesTextThatAPersonCanRead) {
  EXPECT_EQ(
      text_of("session opened", {{"upstream", "home"}, {"reason", "two words"}, {"none", ""}, {"n", -3}}),
      R"(2026-01-02T03:04:05.678Z WARN  ssh: session opened upstream=home reason="two words" none="" n=-3)");
}

TEST(LogLevel, ComesBackByItselfWhenItsTimeIsOver) {
  struct Step {
    std::chrono::seconds at;
    std::optional<Level> set;
    std::optional<std::chrono::seconds> ttl;
    Level in_force;
    bool borrowed;
  };
  const Step steps[] = {
      {0s, {}, {}, Level::info, false},
      {1s, Level::trace, 10s, Level::trace, true},
      {10s, {}, {}, Level::trace, true},
      {11s, {}, {}, Level::info, false},
      {20s, Level::debug, 10s, Level::debug, true},
      {25s, Level::error, 2s, Level::error, true},  // borrowed again: still goes back to the lasting one
      {27s, {}, {}, Level::info, false},
      {30s, Level::debug, 10s, Level::debug, true},
      {31s, Level::warn, {}, Level::warn, false},  // a lasting one ends the borrowed one
      {60s, {}, {}, Level::warn, false},
      {61s, Level::trace, std::chrono::seconds::max(), Level::trace, false},  // for ever
  };
  logging::LevelSwitch level(Level::info);
  for (const Step& step : steps) {
    SCOPED_TRACE(step.at.count());
    const logging::LevelSwitch::Time now{step.at};
    if (step.set) level.set(*step.set, step.ttl, now);
    EXPECT_EQ(level.at(now), step.in_force);
    EXPECT_EQ(level.borrowed(), step.borrowed);
  }
}

TEST(LogOutput, SaysOnceThatItFailsAndOnceThatItWorksAgain) {
  const Folder folder;
  const std::string name = folder.at("log");
  std::filesystem::create_symlink("/dev/full", name);
  logging::Output output(name);
  ASSERT_TRUE(output.open());
  testing::internal::CaptureStderr();
  output.write("one\n", 1);
  output.write("two\nthree\n", 2);
  EXPECT_EQ(output.lost(), 3U);
  std::filesystem::remove(name);
  output.reopen();
  output.write("four\n", 1);
  output.write("five\n", 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "log " + name +
                ": cannot be written: No space left on device; records are lost until it can (this is said "
                "once)\nlog " +
                name + ": writing works again; 3 records were lost\n");
  EXPECT_EQ(read(name), "four\nfive\n");
  EXPECT_EQ(output.lost(), 3U);
}

TEST(LogOutput, KeepsTheOldFileWhenTheNewOneCannotBeOpened) {
  const Folder folder;
  const std::string name = folder.at("log");
  logging::Output output(name);
  ASSERT_TRUE(output.open());
  std::filesystem::rename(name, folder.at("old"));
  std::filesystem::create_directory(name);
  testing::internal::CaptureStderr();
  output.reopen();
  EXPECT_EQ(
      testing::internal::GetCapturedStderr(),
      "log file " + name +
          ": cannot be opened: Is a directory; create its folder and make it writable, or choose another "
          "log output; still writing to the file opened before\n");
  output.write("line\n", 1);
  EXPECT_EQ(read(folder.at("old")), "line\n");
}

TEST(LogOutput, EndsATornLineBeforeTheNext) {
  const Folder folder;
  const std::string name = folder.at("pipe");
  ASSERT_EQ(::mkfifo(name.c_str(), 0600), 0);
  const int reader = ::open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  logging::Output output(name);
  ASSERT_TRUE(output.open());
  output.give_up_at(std::chrono::steady_clock::now());
  testing::internal::CaptureStderr();
  output.write(std::string(1'000'000, 'x') + "\n", 1);  // more than a pipe holds
  EXPECT_EQ(output.lost(), 1U);
  std::string taken(2'000'000, '\0');
  ssize_t count = ::read(reader, taken.data(), taken.size());
  ASSERT_GT(count, 0);
  ASSERT_LT(count, 1'000'000);
  output.write("next\n", 1);
  testing::internal::GetCapturedStderr();
  count = ::read(reader, taken.data(), taken.size());
  EXPECT_EQ(taken.substr(0, static_cast<std::size_t>(count)), "\nnext\n");
  ::close(reader);
}

class Log : public testing::Test {
 protected:
  ~Log() override {
    logging::stop();
    logging::set_level(Level::warn);
  }
  const Folder folder_;
  const std::string file_ = folder_.at("log");
};

TEST_F(Log, WritesEveryRecordOfEveryThreadWhole) {
  ASSERT_TRUE(logging::start({.output = file_, .instance_id = "edge-1", .queue = 10'000}));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 1000; ++i) logging::info("test", "counting", {{"thread", t}, {"i", i}});
    });
  }
  for (auto& thread : threads) thread.join();
  logging::stop();
  const auto records = records_of(read(file_));
  EXPECT_EQ(records.size(), 4000U);
  EXPECT_EQ(logging::dropped(), 0U);
  std::array<int, 4> next{};
  for (const json& record : records) {
    EXPECT_EQ(record["i"], next.at(record["thread"].get<std::size_t>())++) << "in each thread's order";
    EXPECT_EQ(record["instanceId"], "edge-1");
  }
}

TEST_F(Log, LeavesOutWhatIsBelowTheLevel) {
  ASSERT_TRUE(logging::start({.level = Level::info, .output = file_}));
  logging::debug("test", "left out");
  logging::info("test", "kept");
  logging::set_level(Level::error);
  logging::warn("test", "left out");
  logging::set_level(Level::trace, 1h);
  EXPECT_EQ(logging::level(), Level::trace);
  EXPECT_TRUE(logging::enabled(Level::trace));
  logging::trace("test", "kept too");
  logging::set_level(Level::trace, 0s);
  EXPECT_FALSE(logging::enabled(Level::warn)) << "a borrowed level of no time is over at once";
  EXPECT_TRUE(logging::enabled(Level::error));
  logging::stop();
  const auto records = records_of(read(file_));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0]["message"], "kept");
  EXPECT_EQ(records[1]["message"], "kept too");
}

TEST_F(Log, GoesOnInANewFileAfterRotation) {
  ASSERT_TRUE(logging::start({.output = file_}));
  logging::info("test", "before");
  std::filesystem::rename(file_, folder_.at("old"));
  logging::reopen();
  logging::info("test", "after");
  logging::stop();
  const std::string old = read(folder_.at("old"));
  const std::string fresh = read(file_);
  EXPECT_EQ(records_of(old + fresh).size(), 2U) << "nothing lost, nothing twice";
  EXPECT_THAT(fresh, testing::AnyOf(HasSubstr("after"), testing::IsEmpty()));
  EXPECT_TRUE(std::filesystem::exists(file_));
}

TEST_F(Log, DropsTheOldestAndNeverWaitsWhenNobodyReads) {
  ASSERT_EQ(::mkfifo(file_.c_str(), 0600), 0);
  const int reader = ::open(file_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  ASSERT_TRUE(logging::start({.output = file_, .queue = 256, .drain_limit = 10ms}));
  testing::internal::CaptureStderr();
  constexpr int kRecords = 5000;  // of about 600 bytes; the queue alone holds more than the pipe
  for (int i = 0; i < kRecords; ++i) logging::info("test", std::string(500, 'x'), {{"i", i}});
  EXPECT_GT(logging::dropped(), 0U);
  logging::stop();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("cannot be written"));
  std::string taken(4'000'000, '\0');
  const ssize_t count = ::read(reader, taken.data(), taken.size());
  ASSERT_GT(count, 0);
  const auto written = std::count(taken.begin(), taken.begin() + count, '\n');
  EXPECT_EQ(static_cast<std::uint64_t>(written) + logging::dropped(), static_cast<std::uint64_t>(kRecords))
      << "each record is either written or counted";
  ::close(reader);
}

TEST_F(Log, RefusesAFileItCannotOpen) {
  const auto started = logging::start({.output = folder_.at("missing/log")});
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().message,
            "log file " + folder_.at("missing/log") +
                ": cannot be opened: No such file or directory; create its folder and "
                "make it writable, or choose another log output");
}

TEST_F(Log, GoesToStderrBeforeItIsStarted) {
  testing::internal::CaptureStderr();
  logging::info("test", "too early for this");
  logging::warn("test", "early");
  const auto records = records_of(testing::internal::GetCapturedStderr());
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0]["message"], "early");
}

}  // namespace
