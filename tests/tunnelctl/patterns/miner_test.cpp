#include "tunnelctl/patterns/miner.h"

#include <gtest/gtest.h>

#include <random>

#include "common/utf8.h"
#include "corpora.h"

namespace {

using namespace tunnelctl::patterns;
using namespace std::chrono_literals;

std::vector<std::string> texts(const Mined& mined) {
  std::vector<std::string> all;
  for (const auto& pattern : mined.patterns)
    all.push_back(std::to_string(pattern.count) + " " + pattern.text);
  return all;
}

using Texts = std::vector<std::string>;

TEST(Miner, PutsAWildcardWhereLinesDiffer) {
  EXPECT_EQ(texts(corpora::mine({"unknown service db", "unknown service web", "unknown service db"})),
            Texts({"3 unknown service <*>"}));
  EXPECT_EQ(texts(corpora::mine({"open (user=ann) now ok", "open (user=bob) now ok"})),
            Texts({"2 open (user=<*>) now ok"}));
}

TEST(Miner, KeepsStatementsApartThatShareTheirFirstWordsOnly) {
  EXPECT_EQ(
      texts(corpora::mine({"failed to start service", "failed to load config", "failed to start service"})),
      Texts({"2 failed to start service", "1 failed to load config"}));
}

TEST(Miner, TellsStatementsApartByRoutesAndNamesOfPairsNotByIdentifiers) {
  EXPECT_EQ(texts(corpora::mine({"member shop-550e8400-e29b-41d4-a716-446655440000 left",
                                 "member till-550e8400-e29b-41d4-a716-446655440001 left"})),
            Texts({"2 member <*> left"}));
  EXPECT_EQ(texts(corpora::mine({"GET /users/1 done", "GET /orders/2 done", "GET /users/3 done"})),
            Texts({"2 GET /users/<num> done", "1 GET /orders/<num> done"}));
  EXPECT_EQ(texts(corpora::mine({"user=ann did it", "user=bob did it", "role=ann did it"})),
            Texts({"2 user=<*> did it", "1 role=ann did it"}));
}

TEST(Miner, KeepsLevelsAndStatusesOfTextApart) {
  EXPECT_EQ(texts(corpora::mine(
                {"2026-01-02 ERROR it is so", "2026-01-02 INFO it is so", "2026-01-03 INFO it is so"})),
            Texts({"2 <time> INFO it is so", "1 <time> ERROR it is so"}));
  EXPECT_EQ(texts(corpora::mine(
                {R"("GET / HTTP/1.1" 200 5)", R"("GET / HTTP/1.1" 502 5)", R"("GET / HTTP/1.1" 200 6)"})),
            Texts({R"(2 "GET / HTTP/1.1" 200 <num>)", R"(1 "GET / HTTP/1.1" 502 <num>)"}));
}

TEST(Miner, CountsSharesAndEmptyLines) {
  const auto mined = corpora::mine({"a", "", "b b", "a", " \t", "a"});
  EXPECT_EQ(mined.lines, 6U);
  EXPECT_EQ(mined.empty, 2U);
  EXPECT_EQ(texts(mined), Texts({"3 a", "1 b b"}));
  EXPECT_DOUBLE_EQ(mined.patterns[0].share, 0.75);
  EXPECT_EQ(corpora::counted(mined), mined.lines);
}

TEST(Miner, FindsNothingInNothing) {
  const auto mined = Miner().result();
  EXPECT_EQ(mined.lines, 0U);
  EXPECT_TRUE(mined.patterns.empty());
  EXPECT_TRUE(corpora::mine({"", ""}).patterns.empty());
}

TEST(Miner, RemembersTheFirstAndTheLastTime) {
  Miner miner;
  miner.add({.at = Instant(30s), .line = "x 1"});
  miner.add({.at = Instant{}, .line = "x 2"});
  miner.add({.at = Instant(10s), .line = "x 3"});
  miner.add({.at = Instant(20s), .line = "x 4"});
  miner.add({.at = Instant{}, .line = "untimed"});
  const auto mined = miner.result();
  EXPECT_EQ(mined.patterns[0].first, Instant(10s));
  EXPECT_EQ(mined.patterns[0].last, Instant(30s));
  EXPECT_EQ(mined.patterns[1].first, Instant{});
  EXPECT_EQ(mined.patterns[1].last, Instant{});
}

TEST(Miner, TellsTheLevelOfMostLines) {
  const auto level = [](std::vector<std::string> lines) { return corpora::mine(lines).patterns.at(0).level; };
  EXPECT_EQ(level({R"({"level":"info","msg":"m"})", R"({"level":"error","msg":"m"})",
                   R"({"level":"info","msg":"m"})"}),
            "info");
  EXPECT_EQ(level({R"({"level":"info","msg":"m"})", R"({"level":"error","msg":"m"})"}), "error");
  EXPECT_EQ(level({"m", "m", R"({"level":"warn","msg":"m"})"}), "warn");
  EXPECT_EQ(level({"m"}), "");
}

TEST(Miner, KeepsTheFirstDifferentLinesAsSamples) {
  const auto mined = corpora::mine({"n 1", "n 1", "n 2", "n 3", "n 4"}, 1, {.samples = 3});
  EXPECT_EQ(mined.patterns[0].samples, Texts({"n 1", "n 2", "n 3"}));
  EXPECT_TRUE(corpora::mine({"n 1"}, 1, {.samples = 0}).patterns[0].samples.empty());
}

TEST(Miner, RedactsPatternsAndSamples) {
  const auto mined = corpora::mine({R"({"msg":"login with password=hunter2 ok","token":"abcd1234"})",
                                    R"({"msg":"login with password=letmein! ok","token":"efgh5678"})"});
  ASSERT_EQ(texts(mined), Texts({"2 login with password=[redacted password] ok"}));
  EXPECT_EQ(mined.patterns[0].samples[0],
            R"({"msg":"login with password=[redacted password] ok","token":"[redacted token]"})");
  // Masks must not take a secret apart so that the rest of it is no longer known for one.
  const auto tokens =
      corpora::mine({"key xoxb-123456789012-secretpart done", "key ghp_abcdefghijklmnopqrstuvwx done"});
  EXPECT_EQ(texts(tokens), Texts({"2 key [redacted token] done"}));
}

TEST(Miner, RedactsAddressesWhenAsked) {
  const std::vector<std::string> lines = {"from 192.0.2.7 port 1"};
  EXPECT_EQ(corpora::mine(lines).patterns[0].samples[0], "from 192.0.2.7 port 1");
  const auto mined = corpora::mine(lines, 1, {.redact_addresses = true});
  EXPECT_EQ(mined.patterns[0].samples[0], "from [redacted address] port 1");
  EXPECT_EQ(mined.patterns[0].text, "from <ip> port <num>");
}

TEST(Miner, LooksAtNoMoreThanTheBoundsAllow) {
  std::string many;
  for (int i = 0; i < 500; ++i) many += "word ";
  EXPECT_EQ(corpora::mine({many}, 1, {.max_tokens = 3}).patterns[0].text, "word word <...>");
  const auto cut = corpora::mine({"short words then aaaaaaaaaaaaaaaaaaaaaa"}, 1, {.max_line_bytes = 20});
  EXPECT_EQ(cut.patterns[0].text, "short words then");
  EXPECT_EQ(cut.patterns[0].samples[0], "short words then");
  const auto sample = corpora::mine({many}).patterns[0].samples[0];
  EXPECT_LE(sample.size(), 1030U);
  EXPECT_TRUE(sample.ends_with("..."));
}

TEST(Miner, TakesSenselessOptionsForTheNearestSensibleOnes) {
  for (const auto& options :
       {MinerOptions{.depth = 0, .max_children = 0, .max_patterns = 0, .max_line_bytes = 0, .max_tokens = 0},
        MinerOptions{.depth = 1000, .similarity = -3, .max_tokens = 1'000'000, .samples = 1'000'000},
        MinerOptions{.similarity = std::numeric_limits<double>::quiet_NaN()},
        MinerOptions{.similarity = 7}}) {
    const auto mined = corpora::mine({"a b c", "a b d", "x"}, 2, options);
    EXPECT_EQ(mined.lines, 6U);
    EXPECT_EQ(corpora::counted(mined), 6U);
  }
}

TEST(Miner, StaysBoundedWhenNoTwoLinesAreAlike) {
  std::mt19937 random(3);
  const auto word = [&random] {
    std::string text;
    for (int i = 0; i < 8; ++i) text += static_cast<char>('a' + random() % 26);
    return text;
  };
  Miner miner({.max_patterns = 50});
  constexpr std::uint64_t kLines = 20'000;
  for (std::uint64_t i = 0; i < kLines; ++i) {
    std::string line = word();
    for (auto more = random() % 6; more > 0; --more) line += ' ' + word();
    miner.add({.line = line});
  }
  const auto mined = miner.result();
  EXPECT_LE(mined.patterns.size(), 50U);
  EXPECT_EQ(mined.lines, kLines);
  EXPECT_EQ(corpora::counted(mined), kLines);
}

TEST(Miner, GivesValidTextForAnyBytes) {
  std::mt19937 random(4);
  Miner miner({.max_patterns = 200});
  for (int i = 0; i < 5'000; ++i) {
    std::string line;
    for (auto size = random() % 60; size > 0; --size) line += static_cast<char>(random() % 256);
    miner.add({.line = line});
  }
  const auto mined = miner.result();
  EXPECT_EQ(corpora::counted(mined), 5'000U);
  for (const auto& pattern : mined.patterns) {
    EXPECT_TRUE(utf8::valid(pattern.text));
    EXPECT_EQ(pattern.text.find_first_of(std::string_view("\0\n\r\t\x1b", 5)), std::string::npos);
    for (const auto& sample : pattern.samples) EXPECT_TRUE(utf8::valid(sample));
  }
}

TEST(Miner, GivesUpTheLeastRecentlySeen) {
  Miner miner({.max_patterns = 2});
  for (const char* line : {"first one", "second two", "first one", "third three", "first one"})
    miner.add({.line = line});
  const auto mined = miner.result();
  EXPECT_EQ(texts(mined), Texts({"3 first one", "1 third three"}));
  EXPECT_EQ(mined.given_up, 1U);
}

TEST(Miner, CanBeMovedAndGoOn) {
  Miner one;
  one.add({.line = "x"});
  Miner two = std::move(one);
  two.add({.line = "x"});
  EXPECT_EQ(texts(two.result()), Texts({"2 x"}));
}

}  // namespace
