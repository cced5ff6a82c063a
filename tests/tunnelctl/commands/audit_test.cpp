#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/audit_chain.h"
#include "tests/tunnelctl/commands/call.h"

namespace {

using namespace tunnelctl;
using support::call;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

/// An audit log of two files: lines 1 to 3 and 4 to 5.
class Audit : public testing::Test {
 protected:
  Audit() {
    std::filesystem::create_directories(directory_);
    const auto start = std::chrono::sys_days(std::chrono::year(2026) / 1 / 2) + std::chrono::hours(3);
    std::string text;
    for (int i = 1; i <= 5; ++i) {
      std::string body;
      audit_chain::append_body(
          body,
          {.time = start + std::chrono::minutes(i),
           .instance_id = "edge-1",
           .event = i % 2 == 0 ? "auth.failed" : "request",
           .fields = {{"peer", "10.0.0." + std::to_string(i)}, {"status", 200 + i}, {"note", "two words"}}});
      audit_chain::append_line(text, body, last_);
      if (i == 3) write(1, std::exchange(text, {}));
    }
    write(4, text);
  }
  ~Audit() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path file(std::uint64_t first) const { return directory_ / audit_chain::file_name(first); }
  void write(std::uint64_t first, const std::string& text) const { std::ofstream(file(first)) << text; }
  std::string read(std::uint64_t first) const {
    std::ifstream in(file(first));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  support::Ended audit(std::vector<std::string> words) const {
    words.insert(words.begin(), "audit");
    words.insert(words.begin() + 2, {"--directory", directory_.string()});
    return call(words);
  }

  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("tunnelctl-audit-" + std::to_string(::getpid()));
  audit_chain::Link last_;
};

TEST_F(Audit, ThatIsIntactIsSummedUp) {
  const auto ended = audit({"verify"});
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_EQ(ended.out, "5 lines in 2 files, 1 to 5\nlast hash 5:" + last_.hash + "\nintact\n");
  const auto json = nlohmann::json::parse(audit({"verify", "-o", "json"}).out);
  EXPECT_EQ(json["intact"], true);
  EXPECT_EQ(json["lastHash"], last_.hash);
}

TEST_F(Audit, ThatWasTamperedWithIsBadInputWithFileLineAndKind) {
  auto text = read(1);
  text.replace(text.find("10.0.0.2"), 8, "10.9.9.9");
  write(1, text);
  const auto ended = audit({"verify"});
  EXPECT_EQ(ended.status, ExitStatus::bad_input);
  EXPECT_THAT(ended.err, HasSubstr(file(1).string() + ":2: bad hash: "));
  EXPECT_THAT(ended.out, Not(HasSubstr("intact")));
  const auto json = audit({"verify", "-o", "json"});
  EXPECT_EQ(json.status, ExitStatus::bad_input);
  EXPECT_EQ(nlohmann::json::parse(json.out)["problem"]["line"], 2);
}

TEST_F(Audit, WithAMissingLineIsBroken) {
  auto text = read(1);
  text.erase(text.find('\n') + 1, text.find('\n', text.find('\n') + 1) - text.find('\n'));
  write(1, text);
  EXPECT_EQ(audit({"verify"}).status, ExitStatus::bad_input);
}

TEST_F(Audit, WithoutItsEndMeetsNoAnchorThatWasNotedElsewhere) {
  const auto anchor = "5:" + last_.hash;
  EXPECT_EQ(audit({"verify", "--from", anchor}).status, ExitStatus::ok);
  std::filesystem::remove(file(4));
  EXPECT_EQ(audit({"verify"}).status, ExitStatus::ok) << "nobody can see what is not there";
  const auto ended = audit({"verify", "--from", anchor});
  EXPECT_EQ(ended.status, ExitStatus::bad_input);
  EXPECT_THAT(ended.err, HasSubstr("anchor"));
}

TEST_F(Audit, WithoutOlderFilesSaysFromWhere) {
  std::filesystem::remove(file(1));
  const auto ended = audit({"verify"});
  EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("4 to 5"), HasSubstr("intact from there on")));
}

TEST_F(Audit, FilesCanBeNamed) {
  EXPECT_EQ(call({"audit", "verify", file(1).string(), file(4).string()}).status, ExitStatus::ok);
  EXPECT_EQ(call({"audit", "verify", file(4).string(), file(1).string()}).status, ExitStatus::bad_input);
}

TEST_F(Audit, ThatIsNotThereIsAWrongArgument) {
  const auto empty = directory_ / "empty";
  std::filesystem::create_directory(empty);
  const std::vector<std::vector<std::string>> lines{
      {"audit", "verify"},
      {"audit", "search"},
      {"audit", "verify", "--directory", empty.string()},
      {"audit", "search", "--directory", empty.string()},
      {"audit", "verify", "--directory", (directory_ / "none").string()},
      {"audit", "verify", (directory_ / "none.jsonl").string()},
      {"audit", "search", (directory_ / "none.jsonl").string()},
      {"audit", "verify", "--directory", directory_.string(), "--from", "5"},
  };
  for (const auto& words : lines) {
    const auto ended = call(words);
    EXPECT_EQ(ended.status, ExitStatus::bad_input) << ended.err;
    EXPECT_FALSE(ended.err.empty());
    EXPECT_THAT(ended.out, IsEmpty());
  }
}

TEST_F(Audit, IsSearchedByEventFieldAndTime) {
  const auto found = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "search");
    words.insert(words.end(), {"-o", "json"});
    const auto ended = audit(words);
    EXPECT_EQ(ended.status, ExitStatus::ok) << ended.err;
    std::string numbers;
    std::istringstream lines(ended.out);
    for (std::string line; std::getline(lines, line);)
      numbers += std::to_string(nlohmann::json::parse(line)["seq"].get<int>()) + " ";
    return numbers;
  };
  EXPECT_EQ(found({}), "1 2 3 4 5 ");
  EXPECT_EQ(found({"--event", "auth.*"}), "2 4 ");
  EXPECT_EQ(found({"--event", "auth.*", "--field", "peer=10.0.0.4"}), "4 ");
  EXPECT_EQ(found({"--field", "status=203"}), "3 ");
  EXPECT_EQ(found({"--field", "status=203", "--field", "peer=10.0.0.4"}), "");
  EXPECT_EQ(found({"--since", "2026-01-02T03:03:00Z", "--until", "2026-01-02T03:04:00Z"}), "3 4 ");
  EXPECT_EQ(found({"--since", "2026-01-03"}), "");
  EXPECT_EQ(found({"--until", "1h"}),
            std::chrono::system_clock::now() > std::chrono::sys_days(std::chrono::year(2026) / 1 / 3)
                ? "1 2 3 4 5 "
                : "");
  EXPECT_EQ(found({"--limit", "2"}), "1 2 ");
}

TEST_F(Audit, LinesAreShownWithoutTheirChain) {
  const auto ended = audit({"search", "--limit", "1"});
  EXPECT_EQ(ended.out,
            "1  2026-01-02T03:01:00.000Z  request  instanceId=edge-1 peer=10.0.0.1 status=201 note=\"two "
            "words\"\n");
  EXPECT_THAT(ended.err, StartsWith("shown 1 line, more exist"));
}

TEST_F(Audit, ANonsenseQueryIsRefused) {
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"--field", "status"},
                                             {"--field", "=5"},
                                             {"--since", "yesterday"},
                                             {"--until", "2026-13-01"},
                                             {"--since", "2026-01-03", "--until", "2026-01-02"}}) {
    auto line = words;
    line.insert(line.begin(), "search");
    const auto ended = audit(line);
    EXPECT_EQ(ended.status, ExitStatus::bad_input) << ended.err;
  }
}

}  // namespace
