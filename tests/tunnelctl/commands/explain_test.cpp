#include "tunnelctl/commands/explain.h"

#include <sstream>

#include <gtest/gtest.h>

namespace tunnelctl {
namespace {

const ErrorPage kPages[] = {{"TUNNEL_001", "# One\n\nfirst\n"}, {"TUNNEL_015", "# Fifteen"}};

TEST(Explain, PrintsThePageAsItIs) {
  std::ostringstream out;
  ASSERT_TRUE(explain({"TUNNEL_001"}, kPages, out));
  EXPECT_EQ(out.str(), "# One\n\nfirst\n");
}

TEST(Explain, EndsAPageWithALineEnd) {
  std::ostringstream out;
  ASSERT_TRUE(explain({"TUNNEL_015"}, kPages, out));
  EXPECT_EQ(out.str(), "# Fifteen\n");
}

TEST(Explain, TakesSmallLetters) {
  std::ostringstream out;
  EXPECT_TRUE(explain({"tunnel_015"}, kPages, out));
}

TEST(Explain, AnUnknownCodeNamesTheKnownOnesAndPrintsNothing) {
  std::ostringstream out;
  const auto result = explain({"TUNNEL_0"}, kPages, out);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, Error::Kind::bad_input);
  EXPECT_EQ(result.error().message, "no error has the code \"TUNNEL_0\"; known: TUNNEL_001 TUNNEL_015");
  EXPECT_EQ(out.str(), "");
}

TEST(Explain, SaysSoWhenThereAreNoPages) {
  std::ostringstream out;
  const auto result = explain({"TUNNEL_001"}, {}, out);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "no error has the code \"TUNNEL_001\"; known: none in this build");
}

}  // namespace
}  // namespace tunnelctl
