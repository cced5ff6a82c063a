#include "tunnelctl/terminal/chart.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace tunnelctl::terminal {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::string drawn(const Chart& chart) {
  std::string text;
  for (const auto& row : chart.rows) {
    text += row.label;
    for (const auto& cell : row.cells) text += cell.text;
    text += '\n';
  }
  return text + chart.axis + '\n' + chart.labels + '\n';
}

TEST(Glyphs, AreByTheLocale) {
  struct Row {
    const char *all, *ctype, *lang;
    Glyphs glyphs;
  };
  const Row rows[] = {
      {"", "", "en_GB.UTF-8", Glyphs::utf8}, {"", "", "C.utf8", Glyphs::utf8},
      {"", "", "", Glyphs::ascii},           {"", "", "C", Glyphs::ascii},
      {"C", "", "C.UTF-8", Glyphs::ascii},   {"", "C.UTF-8", "C", Glyphs::utf8},
      {"", "de_DE@euro", "", Glyphs::ascii},
  };
  for (const auto& row : rows)
    EXPECT_EQ(glyphs_of(row.all, row.ctype, row.lang), row.glyphs) << row.all << row.ctype << row.lang;
}

TEST(Compact, IsShortForAnyNumber) {
  struct Row {
    double value;
    const char* text;
  };
  const Row rows[] = {
      {0, "0"},          {-0.5, "-0.5"},      {0.25, "0.25"},  {999.9, "999.9"},     {999.96, "1k"},
      {12345, "12.35k"}, {-12345, "-12.35k"}, {4.5e6, "4.5M"}, {0.00012, "0.00012"}, {1.2e-5, "1.2e-05"},
      {8e14, "800T"},    {1e18, "1e+18"},     {kNaN, "NaN"},   {kInf, "+Inf"},       {-kInf, "-Inf"},
  };
  for (const auto& row : rows) EXPECT_EQ(compact(row.value), row.text);
}

TEST(Sparkline, HasAHeightForEachValue) {
  struct Row {
    std::vector<double> values;
    std::size_t width;
    const char *utf8, *ascii;
  };
  const Row rows[] = {
      {{0, 1, 2, 3, 4, 5, 6, 7}, 20, "▁▂▃▄▅▆▇█", "_.-=+*#@"},
      {{7, kNaN, 0, kInf}, 20, "█ ▁ ", "@ _ "},
      {{5, 5, 5}, 20, "▄▄▄", "==="},
      {{0, 0, 9, 0, 0, 0}, 3, "▁█▁", "_@_"},  // the peak stays
      {{0, kNaN, kNaN, kNaN}, 2, "▄ ", "= "},
      {{-kInf, kNaN}, 5, "  ", "  "},
      {{}, 5, "", ""},
      {{1, 2}, 0, "", ""},
      {{-1e308, 1e308}, 5, "▁█", "_@"},  // their difference is no number
      {{0, 5e-324}, 5, "▄▄", "=="},      // nor is half of theirs
  };
  for (const auto& row : rows) {
    EXPECT_EQ(sparkline(row.values, row.width, Glyphs::utf8), row.utf8);
    EXPECT_EQ(sparkline(row.values, row.width, Glyphs::ascii), row.ascii);
  }
}

TEST(LineChart, DrawsInBraille) {
  const std::vector<std::vector<double>> lines = {{0, 1, 2, 3}};
  EXPECT_EQ(drawn(line_chart(
                lines, {.width = 11, .height = 3, .from = "10:00", .to = "11", .glyphs = Glyphs::utf8})),
            "3 ┤     ⢀⠤⠊\n"
            "  │  ⢀⠤⠒⠁  \n"
            "0 ┤⡠⠒⠁     \n"
            "  └────────\n"
            "   10:00 11\n");
}

TEST(LineChart, DrawsInAsciiWithALetterForEachLine) {
  const std::vector<std::vector<double>> lines = {{0, 0, 4, 4}, {4, 4, 0, kNaN}};
  EXPECT_EQ(
      drawn(line_chart(lines, {.width = 11, .height = 5, .from = "a", .to = "z", .glyphs = Glyphs::ascii})),
      "4 +bbb  aaa\n"
      "  |   ba   \n"
      "2 +    a   \n"
      "  |   ab   \n"
      "0 +aaa  b  \n"
      "  +--------\n"
      "   a      z\n");
}

TEST(LineChart, LeavesGaps) {
  const std::vector<std::vector<double>> lines = {{1, 1, kNaN, 1, kInf, 2}};
  EXPECT_EQ(drawn(line_chart(lines, {.width = 9, .height = 2, .glyphs = Glyphs::ascii})),
            "2 +     *\n"
            "1 +** *  \n"
            "  +------\n"
            "         \n");
}

TEST(LineChart, PutsEqualValuesInTheMiddleWithOneLabel) {
  const std::vector<std::vector<double>> lines = {{7, 7}};
  EXPECT_EQ(drawn(line_chart(lines, {.width = 7, .height = 3, .glyphs = Glyphs::ascii})),
            "  |    \n"
            "7 +****\n"
            "  |    \n"
            "  +----\n"
            "       \n");
}

TEST(LineChart, TellsNearValuesApartAtItsAxis) {
  const std::vector<std::vector<double>> lines = {{100000.1, 100000.2}};
  const auto chart = line_chart(lines, {.width = 40, .height = 2});
  EXPECT_THAT(chart.rows.front().label, testing::HasSubstr("100000.2"));
  EXPECT_THAT(chart.rows.back().label, testing::HasSubstr("100000.1"));
}

TEST(LineChart, HasNothingWithoutAnyValue) {
  EXPECT_TRUE(line_chart({}, {}).rows.empty());
  const std::vector<std::vector<double>> gaps = {{}, {kNaN, kInf}};
  EXPECT_TRUE(line_chart(gaps, {}).rows.empty());
}

TEST(LineChart, StandsAnySize) {
  const std::vector<std::vector<std::vector<double>>> charts = {
      {{1, 2, -1e308, 1e308, 5}, {3}}, {{0, 5e-324}}, {{5e-324, 1e-323}, {0}}};
  for (const auto& lines : charts)
    for (const auto glyphs : {Glyphs::utf8, Glyphs::ascii})
      for (std::size_t width = 0; width < 30; ++width)
        for (std::size_t height = 0; height < 6; ++height) {
          const auto chart =
              line_chart(lines, {.width = width, .height = height, .from = "f", .to = "t", .glyphs = glyphs});
          EXPECT_EQ(chart.rows.size(), std::max<std::size_t>(height, 1));
          EXPECT_GE(chart.rows.front().cells.size(), 2U);
        }
}

}  // namespace
}  // namespace tunnelctl::terminal
