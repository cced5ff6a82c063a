#include "tunnelctl/terminal/units.h"

#include <gtest/gtest.h>

#include "tunnelctl/terminal/screen.h"

namespace {

using namespace tunnelctl::terminal;

TEST(Units, BytesHaveThreeDigits) {
  const std::pair<double, const char*> rows[] = {
      {0, "0 B"},          {512, "512 B"},       {1023, "1023 B"},   {1023.6, "1 KiB"},
      {1536, "1.5 KiB"},   {12'345, "12.1 KiB"}, {1048575, "1 MiB"}, {41943040, "40 MiB"},
      {3.3e9, "3.07 GiB"}, {1e20, "88818 PiB"}};
  for (const auto& [value, text] : rows) EXPECT_EQ(bytes(value), text);
}

TEST(Units, DurationsHaveTwoUnits) {
  const std::pair<double, const char*> rows[] = {{0, "0s"},        {-5, "0s"},        {59.9, "59s"},
                                                 {60, "1m"},       {200, "3m 20s"},   {3'600, "1h"},
                                                 {3'700, "1h 1m"}, {90'061, "1d 1h"}, {1e7, "115d 17h"}};
  for (const auto& [value, text] : rows) EXPECT_EQ(duration(value), text);
}

TEST(Units, NumbersAreShort) {
  const std::pair<double, const char*> rows[] = {{0, "0"},      {0.25, "0.25"},    {0.001, "0"},
                                                 {7.5, "7.5"},  {100, "100"},      {999.4, "999"},
                                                 {999.6, "1k"}, {12'345, "12.3k"}, {4.5e6, "4.5M"}};
  for (const auto& [value, text] : rows) EXPECT_EQ(number(value), text);
}

TEST(Units, APercentageIsAHundredOnlyWhenAllOfItIs) {
  const std::pair<double, const char*> rows[] = {{1, "100 %"},   {0.99999, "99.99 %"}, {0.9995, "99.95 %"},
                                                 {0.5, "50 %"},  {0, "0 %"},           {-1, "0 %"},
                                                 {1.5, "100 %"}, {0.00001, "0 %"}};
  for (const auto& [value, text] : rows) EXPECT_EQ(percent(value), text);
}

TEST(Screen, CutsLinesByCharactersAndEndsColours) {
  EXPECT_EQ(cut("abc", 5), "abc");
  EXPECT_EQ(cut("abc", 3), "abc");
  EXPECT_EQ(cut("abc", 2), "ab");
  EXPECT_EQ(cut("abc", 0), "");
  EXPECT_EQ(cut("äöü", 2), "äö");
  EXPECT_EQ(cut("\x1b[31mabc\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
  EXPECT_EQ(cut("\x1b[31mabc\x1b[0m", 2), "\x1b[31mab\x1b[0m");
  EXPECT_EQ(cut("ab\x1b[3", 9), "ab");
}

TEST(Screen, AStopEndsAPause) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_FALSE(pause(std::chrono::hours(1), stop.get_token()));
  EXPECT_TRUE(pause(std::chrono::milliseconds(0), {}));
}

}  // namespace
