#include "tunnelctl/mcp/serve.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunnelctl/mcp/lines.h"

namespace tunnelctl::mcp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0); }
  ~Pipe() {
    close();
    ::close(ends[0]);
  }
  void write(const std::string& text) const {
    EXPECT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close() {
    if (ends[1] >= 0) ::close(ends[1]);
    ends[1] = -1;
  }
  std::array<int, 2> ends{};
};

std::vector<std::string> lines_of(const std::string& text, std::size_t longest) {
  Pipe pipe;
  pipe.write(text);
  pipe.close();
  Lines lines(pipe.ends[0], longest, {});
  std::vector<std::string> result;
  std::string line;
  for (auto got = lines.next(line); got != Lines::Got::end; got = lines.next(line))
    result.push_back(got == Lines::Got::line ? line : "<too long>");
  return result;
}

TEST(Lines, EndWithALineFeedOrWithTheInput) {
  EXPECT_THAT(lines_of("", 10), ElementsAre());
  EXPECT_THAT(lines_of("a\n", 10), ElementsAre("a"));
  EXPECT_THAT(lines_of("a\nb", 10), ElementsAre("a", "b"));
  EXPECT_THAT(lines_of("a\r\n\n\rb\n", 10), ElementsAre("a", "", "\rb"));
}

TEST(Lines, ThatAreTooLongArePassedOver) {
  EXPECT_THAT(lines_of("0123456789\nb\n", 10), ElementsAre("0123456789", "b"));
  EXPECT_THAT(lines_of("0123456789x\nb\n", 10), ElementsAre("<too long>", "b"));
  EXPECT_THAT(lines_of("a\n0123456789x", 10), ElementsAre("a", "<too long>"));
}

TEST(Lines, AreBoundedHoweverLongTheyGo) {
  Pipe pipe;
  std::thread writer([&] {
    const std::string much(64 * 1024, 'x');
    for (int i = 0; i < 64; ++i) pipe.write(much);
    pipe.write("\nnext\n");
    pipe.close();
  });
  Lines lines(pipe.ends[0], 1000, {});
  std::string line;
  EXPECT_EQ(lines.next(line), Lines::Got::too_long);
  EXPECT_EQ(lines.next(line), Lines::Got::line);
  EXPECT_EQ(line, "next");
  EXPECT_EQ(lines.next(line), Lines::Got::end);
  EXPECT_EQ(lines.next(line), Lines::Got::end);
  writer.join();
}

TEST(Lines, StopWhenTheyAreTold) {
  Pipe pipe;
  std::stop_source stop;
  Lines lines(pipe.ends[0], 1000, stop.get_token());
  std::thread stopping([&] { stop.request_stop(); });
  std::string line;
  EXPECT_EQ(lines.next(line), Lines::Got::stopped);
  stopping.join();
}

std::vector<Tool> one_tool() {
  std::vector<Tool> tools;
  tools.push_back({.name = "hello",
                   .schema = {{"type", "object"}},
                   .call = [](const Json&, const std::stop_token&) { return Outcome{.text = "hello"}; }});
  return tools;
}

constexpr const char* kAsk =
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}"
    "\n"
    "garbage\n"
    "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"hello\"}}\n";

TEST(Serve, AnswersAllThatWasAskedBeforeTheEnd) {
  Pipe pipe;
  pipe.write(kAsk);
  pipe.close();
  std::ostringstream out;
  EXPECT_TRUE(serve({}, one_tool(), pipe.ends[0], out, {}));
  std::istringstream lines(out.str());
  std::vector<Json> ids;
  for (std::string line; std::getline(lines, line);) ids.push_back(Json::parse(line)["id"]);
  EXPECT_THAT(ids, ElementsAre(1, nullptr, 2));
}

TEST(Serve, EndsWhenNobodyReadsItsAnswers) {
  Pipe pipe;  // stays open
  pipe.write(kAsk);
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  EXPECT_FALSE(serve({}, one_tool(), pipe.ends[0], out, {}));
}

TEST(Serve, EndsWhenItIsTold) {
  Pipe pipe;
  std::stop_source stop;
  stop.request_stop();
  std::ostringstream out;
  EXPECT_TRUE(serve({}, one_tool(), pipe.ends[0], out, stop.get_token()));
}

}  // namespace
}  // namespace tunnelctl::mcp
