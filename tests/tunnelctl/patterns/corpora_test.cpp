#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>

#include "corpora.h"
#include "tunnelctl/patterns/redaction.h"

namespace {

using namespace tunnelctl::patterns;

class Corpus : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Logs, Corpus, testing::ValuesIn(corpora::names()),
                         [](const auto& corpus) { return corpus.param; });

/// TUNNELCTL_UPDATE_GOLDEN=1 writes them anew; read what changed before you commit it.
TEST_P(Corpus, ComesToThePatternsThatAreKept) {
  const auto path = corpora::folder() / (GetParam() + ".patterns");
  const auto table = corpora::table(corpora::mine(corpora::lines(GetParam())));
  if (std::getenv("TUNNELCTL_UPDATE_GOLDEN") != nullptr) std::ofstream(path, std::ios::binary) << table;
  EXPECT_EQ(table, corpora::file(path));
}

TEST_P(Corpus, GivesTheSameTwice) {
  const auto lines = corpora::lines(GetParam());
  EXPECT_EQ(corpora::table(corpora::mine(lines)), corpora::table(corpora::mine(lines)));
}

TEST_P(Corpus, CountsKTimesAsMuchWhenFedKTimes) {
  const auto lines = corpora::lines(GetParam());
  const auto once = corpora::mine(lines), often = corpora::mine(lines, 7);
  ASSERT_EQ(once.patterns.size(), often.patterns.size());
  EXPECT_EQ(often.lines, once.lines * 7);
  for (std::size_t i = 0; i < once.patterns.size(); ++i) {
    EXPECT_EQ(often.patterns[i].text, once.patterns[i].text);
    EXPECT_EQ(often.patterns[i].count, once.patterns[i].count * 7);
    EXPECT_DOUBLE_EQ(often.patterns[i].share, once.patterns[i].share);
    EXPECT_EQ(often.patterns[i].level, once.patterns[i].level);
    EXPECT_EQ(often.patterns[i].samples, once.patterns[i].samples);
  }
}

TEST_P(Corpus, IsCountedInAnyOrder) {
  auto lines = corpora::lines(GetParam());
  const auto straight = corpora::mine(lines);
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    std::shuffle(lines.begin(), lines.end(), random);
    const auto mined = corpora::mine(lines);
    EXPECT_EQ(corpora::counted(mined), lines.size());
    EXPECT_EQ(mined.lines, straight.lines);
    EXPECT_EQ(mined.empty, straight.empty);
    // These logs are clear enough that the patterns are the same ones, too.
    EXPECT_EQ(corpora::table(mined), corpora::table(straight));
  }
}

TEST_P(Corpus, LosesNoLineWhenPatternsAreGivenUp) {
  const auto lines = corpora::lines(GetParam());
  for (const std::size_t most : {1U, 2U, 5U}) {
    const auto mined = corpora::mine(lines, 3, {.max_patterns = most});
    EXPECT_LE(mined.patterns.size(), most);
    EXPECT_EQ(mined.lines, lines.size() * 3);
    EXPECT_EQ(corpora::counted(mined), mined.lines);
    EXPECT_GT(mined.given_up, 0U);
  }
}

TEST_P(Corpus, ShowsNoSecret) {
  const auto mined = corpora::mine(corpora::lines(GetParam()));
  const Redaction redaction;
  for (const auto& pattern : mined.patterns) {
    EXPECT_FALSE(redaction.finds(pattern.text)) << pattern.text;
    for (const auto& sample : pattern.samples) EXPECT_FALSE(redaction.finds(sample)) << sample;
    for (const char* secret : {"s3cr3t", "pa55", "eyJ"}) {
      EXPECT_EQ(pattern.text.find(secret), std::string::npos) << pattern.text;
      for (const auto& sample : pattern.samples) EXPECT_EQ(sample.find(secret), std::string::npos) << sample;
    }
  }
}

}  // namespace
