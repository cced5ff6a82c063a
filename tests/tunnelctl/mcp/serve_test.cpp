#include "tunnelctl/mcp/serve.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <future>
#include <sstream>
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunnelctl/mcp/lines.h"

namespace tunnelctl::mcp {
namespace {

using testing::ElementsAre;

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

/// What stands in a pipe that nobody writes to any more.
std::vector<Json> answers_in(Pipe& pipe) {
  pipe.close();
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t count = 0; (count = ::read(pipe.ends[0], buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  std::istringstream lines(text);
  std::vector<Json> answers;
  for (std::string line; std::getline(lines, line);) answers.push_back(Json::parse(line, nullptr, false));
  return answers;
}

TEST(Serve, AnswersAllThatWasAskedBeforeTheEnd) {
  Pipe in, out;
  in.write(kAsk);
  in.close();
  EXPECT_TRUE(serve({}, one_tool(), in.ends[0], out.ends[1], {}));
  std::vector<Json> ids;
  for (const auto& answer : answers_in(out)) ids.push_back(answer["id"]);
  EXPECT_THAT(ids, ElementsAre(1, nullptr, 2));
}

TEST(Serve, EndsWhenNobodyReadsItsAnswers) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe in, out;  // the input stays open
  in.write(kAsk);
  ::close(std::exchange(out.ends[0], ::open("/dev/null", O_RDONLY | O_CLOEXEC)));
  EXPECT_FALSE(serve({}, one_tool(), in.ends[0], out.ends[1], {}));
}

TEST(Serve, EndsWhenItIsTold) {
  Pipe in, out;
  std::stop_source stop;
  stop.request_stop();
  EXPECT_TRUE(serve({}, one_tool(), in.ends[0], out.ends[1], stop.get_token()));
}

TEST(Serve, EndsWhenItIsToldThoughAnAnswerWaitsForItsReader) {
  Pipe in, out;
  // Its reader takes nothing, and what comes is more than a pipe holds.
  ASSERT_GT(::fcntl(out.ends[1], F_SETPIPE_SZ, 4096), 0);
  out.write(std::string(4096, ' '));
  std::string asked =
      R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}})"
      "\n";
  in.write(asked);
  std::stop_source stop;
  std::promise<bool> ended;
  std::thread serving(
      [&] { ended.set_value(serve({}, one_tool(), in.ends[0], out.ends[1], stop.get_token())); });
  // What was written was read, so the answer to it is the next thing that is written.
  for (int left = 1; left > 0; std::this_thread::yield()) ASSERT_EQ(::ioctl(in.ends[0], FIONREAD, &left), 0);
  stop.request_stop();
  auto result = ended.get_future();
  EXPECT_EQ(result.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  in.close();
  serving.join();
  EXPECT_TRUE(result.get()) << "that is in order";
}

TEST(Serve, WritesWholeLinesThroughASmallPipe) {
  Pipe in, out;
  ASSERT_GT(::fcntl(out.ends[1], F_SETPIPE_SZ, 4096), 0);
  std::vector<Tool> tools;
  tools.push_back(
      {.name = "hello", .schema = {{"type", "object"}}, .call = [](const Json&, const std::stop_token&) {
         return Outcome{.text = std::string(60'000, 'x')};
       }});
  in.write(kAsk);
  in.close();
  std::thread serving([&] {
    EXPECT_TRUE(serve({}, std::move(tools), in.ends[0], out.ends[1], {}));
    out.close();
  });
  std::string text;
  std::array<char, 1000> buffer;
  for (ssize_t count = 0; (count = ::read(out.ends[0], buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  serving.join();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_EQ(Json::parse(text.substr(text.rfind('\n', text.size() - 2)))["result"]["content"][0]["text"],
            std::string(60'000, 'x'));
}

}  // namespace
}  // namespace tunnelctl::mcp
