#include "tunneld/upstream/agent_enrolments.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunneld/upstream/agent_lab.h"

namespace tunneld::upstream {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

/// As check_fingerprint() wants it, another one for each number.
std::string fingerprint(std::size_t number) {
  auto digits = std::to_string(number);
  return "SHA256:" + std::string(42 - digits.size(), 'A') + digits + "A";
}
std::string id(std::size_t number) {
  return "agent-" + std::to_string(number);
}

class Enrolments : public testing::Test {
 protected:
  Enrolments() {
    std::string name = (fs::temp_directory_path() / "enrolments.XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    file_ = folder_ / "agents.json";
    lines_ = folder_ / "agents.json.additions";
  }
  ~Enrolments() override { fs::remove_all(folder_); }

  AgentEnrolments read() const {
    auto enrolments = AgentEnrolments::read(file_);
    if (!enrolments) throw std::runtime_error(enrolments.error().message);
    return std::move(*enrolments);
  }
  Result<void> try_add(AgentEnrolments& to, std::size_t number) const {
    return to.add(ann_, id(number), fingerprint(number), std::chrono::system_clock::now());
  }
  void add(AgentEnrolments& to, std::size_t from, std::size_t until) const {
    for (auto number = from; number < until; ++number) ASSERT_TRUE(try_add(to, number));
  }
  bool knows(const AgentEnrolments& enrolments, std::size_t number) const {
    const auto* known = enrolments.fingerprint(ann_, id(number));
    return known != nullptr && *known == fingerprint(number);
  }
  std::string text_of(const fs::path& file) const {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
  }

  const tunnel::Principal ann_ = principal_named("ann");
  fs::path folder_, file_, lines_;
};

TEST_F(Enrolments, AreOneFileWhenTheyAreFew) {
  auto enrolments = read();
  add(enrolments, 0, 50);
  EXPECT_FALSE(fs::exists(lines_));
  EXPECT_EQ(read().count(), 50u);
}

TEST_F(Enrolments, AddLinesWhenTheyAreManyAndNotTheWholeFileEachTime) {
  auto enrolments = read();
  std::size_t whole = 0;
  std::string before;
  for (std::size_t number = 0; number < 1000; ++number) {
    ASSERT_TRUE(try_add(enrolments, number));
    if (number < 100) continue;
    const auto now = fs::last_write_time(file_).time_since_epoch().count();
    if (std::exchange(before, std::to_string(now)) != before) ++whole;
  }
  EXPECT_LT(whole, 20u) << "writes of the whole file";
  EXPECT_TRUE(fs::exists(lines_));
  struct stat status {};
  ASSERT_EQ(::stat(lines_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const auto again = read();
  EXPECT_EQ(again.count(), 1000u);
  for (std::size_t number = 0; number < 1000; ++number) EXPECT_TRUE(knows(again, number)) << number;
}

TEST_F(Enrolments, ForgetALineThatWasTornAndGoOn) {
  auto first = read();
  add(first, 0, 90);
  const auto lines = text_of(lines_);
  ASSERT_GT(lines.size(), 300u);
  std::ofstream(lines_) << lines << lines.substr(0, 40);
  auto second = read();
  EXPECT_EQ(second.count(), 90u);
  add(second, 90, 120);
  EXPECT_EQ(read().count(), 120u);
}

TEST_F(Enrolments, AreNotDoubledByAnInterruptionBetweenTheWholeFileAndItsLines) {
  auto enrolments = read();
  add(enrolments, 0, 90);
  const auto lines = text_of(lines_);
  ASSERT_TRUE(enrolments.remove(ann_, id(3)));
  std::ofstream(lines_) << lines.substr(0, lines.find('\n') + 1);
  EXPECT_EQ(read().count(), 89u);
}

TEST_F(Enrolments, ThatAreForgottenAreInNeitherFile) {
  auto enrolments = read();
  add(enrolments, 0, 90);
  ASSERT_THAT(text_of(lines_), HasSubstr("\"agent-89\""));
  ASSERT_TRUE(enrolments.remove(ann_, id(89)));
  EXPECT_FALSE(fs::exists(lines_));
  const auto again = read();
  EXPECT_FALSE(knows(again, 89));
  EXPECT_EQ(again.count(), 89u);
}

TEST_F(Enrolments, WithALineThatMakesNoSenseAreRefusedByFileAndLine) {
  auto enrolments = read();
  add(enrolments, 0, 1);
  for (const auto* line : {"nonsense", "[]", R"({"issuer":"a","subject":"b","agentId":"c","since":1})"}) {
    std::ofstream(lines_) << line << "\n";
    const auto again = AgentEnrolments::read(file_);
    ASSERT_FALSE(again) << line;
    EXPECT_EQ(again.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(again.error().message, HasSubstr("agents.json.additions:1: "));
  }
}

TEST_F(Enrolments, ThatCannotBeWrittenDownAreNone) {
  auto enrolments = read();
  add(enrolments, 0, 90);
  fs::remove(lines_);
  fs::create_directory(lines_);  // nothing can be appended to it
  const auto failed = try_add(enrolments, 90);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, Error::Kind::unavailable);
  EXPECT_THAT(failed.error().message, HasSubstr("agents.json.additions: cannot write: "));
  EXPECT_FALSE(knows(enrolments, 90));
  fs::remove(lines_);
  EXPECT_TRUE(try_add(enrolments, 90)) << "and then all of them are written anew";
  EXPECT_EQ(read().count(), 91u);
}

}  // namespace
}  // namespace tunneld::upstream
