#include "tunnelctl/cli.h"

#include <array>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "build_info.h"
#include "tunnelctl/commands/error_pages.h"

namespace tunnelctl {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

struct Ended {
  ExitStatus status;
  std::string out, err;
};

Ended call(std::initializer_list<const char*> arguments) {
  std::vector<const char*> argv{"tunnelctl"};
  argv.insert(argv.end(), arguments);
  std::ostringstream out, err;
  const auto status = run(static_cast<int>(argv.size()), argv.data(), out, err);
  return {status, out.str(), err.str()};
}

TEST(Cli, PrintsItsVersionOnStdout) {
  const auto ended = call({"--version"});
  EXPECT_EQ(ended.status, ExitStatus::ok);
  EXPECT_EQ(ended.out, std::string("tunnelctl ") + TUNNEL_VERSION + "\n");
  EXPECT_THAT(ended.err, IsEmpty());
}

TEST(Cli, HelpNamesEveryExitStatus) {
  const auto ended = call({"--help"});
  EXPECT_EQ(ended.status, ExitStatus::ok);
  for (const char* line : {"  0    ", "  1    ", "  2    ", "  64   ", "  65   ", "  69   ", "  73   ",
                           "  75   ", "  77   ", "  78   ", "  130  "})
    EXPECT_THAT(ended.out, HasSubstr(line));
}

TEST(Cli, ACommandLineThatMakesNoSenseIsAUsageErrorOnStderr) {
  const std::initializer_list<const char*> lines[] = {
      {}, {"nonsense"}, {"--nonsense"}, {"explain"}, {"explain", "TUNNEL_001", "surplus"}};
  for (const auto& line : lines) {
    const auto ended = call(line);
    EXPECT_EQ(ended.status, ExitStatus::usage);
    EXPECT_THAT(ended.out, IsEmpty());
    EXPECT_FALSE(ended.err.empty());
  }
}

TEST(Cli, ExplainsEveryPageItWasBuiltWith) {
  for (const auto& page : error_pages()) {
    SCOPED_TRACE(page.code);
    const auto ended = call({"explain", page.code.data()});
    EXPECT_EQ(ended.status, ExitStatus::ok);
    EXPECT_THAT(ended.out, HasSubstr(std::string(page.text)));
  }
}

TEST(Cli, AnUnknownCodeIsBadInputToldInOneLine) {
  const auto ended = call({"explain", "TUNNEL_9\n99"});
  EXPECT_EQ(ended.status, ExitStatus::bad_input);
  EXPECT_THAT(ended.err, HasSubstr("\"TUNNEL_9?99\""));
  EXPECT_EQ(ended.err.find('\n'), ended.err.size() - 1);
}

TEST(Cli, OutputThatCannotBeWrittenIsAFailure) {
  std::ostringstream out, err;
  out.setstate(std::ios::badbit);
  const std::array argv{"tunnelctl", "--version"};
  EXPECT_EQ(run(static_cast<int>(argv.size()), argv.data(), out, err), ExitStatus::failure);
  EXPECT_THAT(err.str(), HasSubstr("could not be written"));
}

TEST(Cli, EachKindOfErrorHasItsExitStatus) {
  const struct {
    Error::Kind kind;
    ExitStatus status;
  } rows[] = {
      {Error::Kind::bad_input, ExitStatus::bad_input}, {Error::Kind::not_found, ExitStatus::failure},
      {Error::Kind::denied, ExitStatus::denied},       {Error::Kind::unavailable, ExitStatus::unavailable},
      {Error::Kind::timed_out, ExitStatus::gave_up},   {Error::Kind::cancelled, ExitStatus::interrupted},
      {Error::Kind::bug, ExitStatus::failure},
  };
  for (const auto& row : rows) EXPECT_EQ(exit_status(row.kind), row.status);
}

}  // namespace
}  // namespace tunnelctl
