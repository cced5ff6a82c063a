#include <string>

#include <gtest/gtest.h>

#include "tunnelctl/terminal/table.h"

namespace tunnelctl::terminal {
namespace {

TEST(Harmless, LeavesNothingThatSteersATerminal) {
  struct Row {
    const char* what;
    std::string text, shown;
  };
  const Row rows[] = {
      {"plain text", "breaker opened", "breaker opened"},
      {"other alphabets", "Grüße 東京 🚇", "Grüße 東京 🚇"},
      {"an escape sequence", "\x1b[2Jgone", " [2Jgone"},
      {"a line's end", "a\r\nb\tc", "a  b c"},
      {"delete", "a\x7f", "a "},
      {"a C1 control, CSI in one character",
       "a\xC2\x9B"
       "2J",
       "a 2J"},
      {"the same as a bare byte, which is no UTF-8",
       "a\x9B"
       "2J",
       "a\xEF\xBF\xBD"
       "2J"},
      {"a no-break space is no control", "a\xC2\xA0z", "a\xC2\xA0z"},
      {"text that is turned around",
       "a\xE2\x80\xAE"
       "b\xE2\x81\xA6"
       "c\xE2\x81\xA9",
       "a b c "},
      {"a line separator",
       "a\xE2\x80\xA8"
       "b",
       "a b"},
      {"dashes and quotes beside those", "\xE2\x80\x93 \xE2\x80\x9C\xE2\x80\xA6",
       "\xE2\x80\x93 \xE2\x80\x9C\xE2\x80\xA6"},
      {"a character cut off", "ab\xE2\x82", "ab\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"a zero", std::string("a\0b", 3), "a b"},
      {"nothing", "", ""},
  };
  for (const auto& row : rows) EXPECT_EQ(harmless(row.text), row.shown) << row.what;
}

TEST(Harmless, TwiceChangesNothingMore) {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every += static_cast<char>(byte);
  const auto once = harmless(every);
  EXPECT_EQ(harmless(once), once);
}

}  // namespace
}  // namespace tunnelctl::terminal
