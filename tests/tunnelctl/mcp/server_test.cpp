#include "tunnelctl/mcp/server.h"

#include <condition_variable>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::mcp {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using namespace std::chrono_literals;

/// A server whose answers are kept. `wait` waits until it is stopped, `open` until a test lets it go.
class McpServer : public testing::Test {
 protected:
  McpServer() { start({}); }

  void start(Calls::Options calls) {
    server_.reset();
    answers_.clear();
    ServerOptions options{.name = "tunnelctl", .version = "1.2.3", .instructions = "Ask for little."};
    options.why_not = [](std::string_view name) { return name == "drop" ? "it writes" : ""; };
    options.most_answer_bytes = 200;
    options.calls = calls;
    const Json nothing{{"type", "object"}, {"properties", Json::object()}, {"additionalProperties", false}};
    const Json word = {{"type", "object"},
                       {"properties", {{"word", {{"type", "string"}}}}},
                       {"required", {"word"}},
                       {"additionalProperties", false}};
    std::vector<Tool> tools;
    tools.push_back({.name = "echo",
                     .description = "Says it again.",
                     .schema = word,
                     .narrow = "a shorter word",
                     .call = [](const Json& arguments, const std::stop_token&) {
                       return Outcome{.text = Json{{"said", arguments["word"]}}.dump()};
                     }});
    tools.push_back({.name = "wait",
                     .schema = nothing,
                     .effect = Effect::replaces,
                     .call = [this](const Json&, std::stop_token stop) {
                       std::mutex mutex;
                       std::unique_lock lock(mutex);
                       begun_.count_up();
                       std::condition_variable_any().wait(lock, stop, [] { return false; });
                       stopped_.count_up();
                       return Outcome{.text = "stopped", .failed = true};
                     }});
    tools.push_back({.name = "open",
                     .schema = nothing,
                     .effect = Effect::adds,
                     .call = [this](const Json&, const std::stop_token&) {
                       begun_.count_up();
                       let_go_.wait_for(1);
                       return Outcome{.text = "opened"};
                     }});
    tools.push_back({.name = "read", .schema = nothing, .call = [](const Json&, std::stop_token stop) {
                       std::mutex mutex;
                       std::unique_lock lock(mutex);
                       std::condition_variable_any().wait(lock, stop, [] { return false; });
                       return Outcome{.text = "stopped", .failed = true};
                     }});
    tools.push_back(
        {.name = "broken", .schema = nothing, .call = [](const Json&, const std::stop_token&) -> Outcome {
           throw std::runtime_error("surprise");
         }});
    server_.emplace(std::move(options), std::move(tools), [this](const std::string& message) {
      const std::lock_guard lock(mutex_);
      EXPECT_EQ(message.find('\n'), std::string::npos);
      answers_.push_back(Json::parse(message));
      changed_.notify_all();
    });
  }

  void TearDown() override {
    let_go_.count_up();
    server_.reset();
  }

  /// All that came in answer, after what was asked has ended.
  std::vector<Json> said(std::initializer_list<std::string> lines) {
    for (const auto& line : lines) server_->receive(line);
    server_->finish(10s);
    const std::lock_guard lock(mutex_);
    return answers_;
  }
  Json answer_to(const std::string& line) {
    server_->receive(line);
    return next();
  }
  /// The next answer, in the order they came.
  Json next() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, 10s, [&] { return !answers_.empty(); }));
    if (answers_.empty()) return {};
    Json first = answers_.front();
    answers_.erase(answers_.begin());
    return first;
  }
  void shake_hands(const std::string& version = "2025-06-18") {
    answer_to(R"({"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":")" + version +
              R"(","capabilities":{},"clientInfo":{"name":"test","version":"1"}}})");
    server_->receive(R"({"jsonrpc":"2.0","method":"notifications/initialized"})");
  }

  struct Counter {
    std::mutex mutex{};
    std::condition_variable changed{};
    int count = 0;
    void count_up() {
      const std::lock_guard lock(mutex);
      ++count;
      changed.notify_all();
    }
    void wait_for(int wanted) {
      std::unique_lock lock(mutex);
      EXPECT_TRUE(changed.wait_for(lock, 10s, [&] { return count >= wanted; }));
    }
  };
  std::mutex mutex_{};
  std::condition_variable changed_{};
  std::vector<Json> answers_{};
  Counter begun_{}, stopped_{}, let_go_{};
  std::optional<Server> server_{};
};

std::string request(const std::string& method, const std::string& params = "{}",
                    const std::string& id = "1") {
  return R"({"jsonrpc":"2.0","id":)" + id + R"(,"method":")" + method + R"(","params":)" + params + "}";
}

std::string call(const std::string& name, const std::string& arguments = "{}", const std::string& id = "1") {
  return request("tools/call", R"({"name":")" + name + R"(","arguments":)" + arguments + "}", id);
}

constexpr const char* kMeta =
    R"("_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}})";

TEST_F(McpServer, AgreesOnTheVersionOfTheClientOrOffersItsNewest) {
  const struct {
    const char *wanted, *agreed;
  } rows[] = {
      {"2024-11-05", "2024-11-05"}, {"2025-03-26", "2025-03-26"}, {"2025-06-18", "2025-06-18"},
      {"2025-11-25", "2025-11-25"}, {"2026-07-28", "2025-11-25"}, {"1999-01-01", "2025-11-25"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.wanted);
    start({});
    const auto answer = answer_to(request(
        "initialize", R"({"protocolVersion":")" + std::string(row.wanted) + R"(","capabilities":{}})"));
    EXPECT_EQ(answer["id"], 1);
    EXPECT_EQ(answer["result"]["protocolVersion"], row.agreed);
    EXPECT_EQ(answer["result"]["serverInfo"], Json({{"name", "tunnelctl"}, {"version", "1.2.3"}}));
    EXPECT_EQ(answer["result"]["instructions"], "Ask for little.");
    EXPECT_TRUE(answer["result"]["capabilities"].contains("tools"));
  }
}

TEST_F(McpServer, AnswersWhatIsWrongWithTheExactCode) {
  const struct {
    const char* line;
    int code;
    const char* id;
    const char* message;
  } rows[] = {
      {"nonsense", -32700, "null", "Parse error"},
      {"{", -32700, "null", "Parse error"},
      {"\xff", -32700, "null", "Parse error"},
      {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2}", -32600, "null", "holds a name twice"},
      {"1", -32600, "null", "a message is an object"},
      {"\"text\"", -32600, "null", "a message is an object"},
      {"null", -32600, "null", "a message is an object"},
      {"[]", -32600, "null", "must not be empty"},
      {"[1]", -32600, "null", "only protocol version 2025-03-26 has batches"},
      {"{}", -32600, "null", "jsonrpc must be"},
      {R"({"jsonrpc":"1.0","id":7,"method":"ping"})", -32600, "7", "jsonrpc must be"},
      {R"({"jsonrpc":"2.0","id":7})", -32600, "7", "method is missing"},
      {R"({"jsonrpc":"2.0","id":7,"method":1})", -32600, "7", "method must be text"},
      {R"({"jsonrpc":"2.0","id":null,"method":"ping"})", -32600, "null", "id must be"},
      {R"({"jsonrpc":"2.0","id":1.5,"method":"ping"})", -32600, "null", "id must be"},
      {R"({"jsonrpc":"2.0","id":{},"method":"ping"})", -32600, "null", "id must be"},
      {R"({"jsonrpc":"2.0","id":"a","method":"ping","params":[]})", -32602, "\"a\"",
       "params must be an object"},
      {R"({"jsonrpc":"2.0","id":"a","method":"ping","params":null})", -32602, "\"a\"",
       "params must be an object"},
      {R"({"jsonrpc":"2.0","id":1,"method":"resources/list"})", -32601, "1", "\"resources/list\""},
      {R"({"jsonrpc":"2.0","id":1,"method":"server/discover"})", -32601, "1", "Method not found"},
      {R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{}})", -32600, "1", "said already"},
      {R"({"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}})", -32602, "1",
       "unknown cursor"},
      {R"({"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":1}})", -32602, "1",
       "_meta must be"},
      {R"({"jsonrpc":"2.0","id":1,"method":"tools/call"})", -32602, "1", "name must be text"},
      {R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}})", -32602, "1",
       "name must be text"},
      {R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nope"}})", -32602, "1",
       "Unknown tool: \"nope\""},
      {R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"drop"}})", -32602, "1",
       "Unknown tool: \"drop\": it writes"},
      {R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":[]}})", -32602,
       "1", "arguments must be an object"},
  };
  shake_hands();
  for (const auto& row : rows) {
    SCOPED_TRACE(row.line);
    const auto answer = answer_to(row.line);
    EXPECT_EQ(answer["jsonrpc"], "2.0");
    EXPECT_EQ(answer["error"]["code"], row.code);
    EXPECT_EQ(answer["id"], Json::parse(row.id));
    EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr(row.message));
  }
}

TEST_F(McpServer, SaysNothingToNotificationsResponsesAndEmptyLines) {
  shake_hands();
  EXPECT_THAT(said({"", "  \r", R"({"jsonrpc":"2.0","method":"notifications/initialized"})",
                    R"({"jsonrpc":"2.0","method":"notifications/unheard_of","params":{}})",
                    R"({"jsonrpc":"2.0","method":"notifications/cancelled"})",
                    R"({"jsonrpc":"2.0","method":"notifications/cancelled","params":[]})",
                    R"({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}})",
                    R"({"jsonrpc":"2.0","id":5,"result":{}})", R"({"jsonrpc":"2.0","id":5,"error":{}})"}),
              IsEmpty());
}

TEST_F(McpServer, RefusesDeepAndTooLongMessages) {
  shake_hands();
  const auto deep = request("ping", "{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}");
  EXPECT_EQ(answer_to(deep)["error"]["code"], -32600);
  server_->refuse_too_long(4096);
  const auto answer = next();
  EXPECT_EQ(answer["error"]["code"], -32600);
  EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr("4096 bytes at most"));
}

TEST_F(McpServer, WantsAVersionBeforeAnythingButPing) {
  EXPECT_EQ(answer_to(request("ping"))["result"], Json::object());
  for (const auto& line : {request("tools/list"), call("echo", R"({"word":"a"})")}) {
    const auto answer = answer_to(line);
    EXPECT_EQ(answer["error"]["code"], -32602);
    EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr("say initialize first"));
  }
  EXPECT_EQ(answer_to(request("initialize"))["error"]["code"], -32602);
  EXPECT_EQ(answer_to(request("initialize", R"({"protocolVersion":5})"))["error"]["code"], -32602);
}

TEST_F(McpServer, ListsItsToolsWithWhatTheyDoToTheWorld) {
  shake_hands();
  const auto result = answer_to(request("tools/list"))["result"];
  EXPECT_EQ(result.size(), 1U);
  ASSERT_EQ(result["tools"].size(), 5U);
  EXPECT_EQ(result["tools"][0]["name"], "echo");
  EXPECT_EQ(result["tools"][0]["description"], "Says it again.");
  EXPECT_EQ(result["tools"][0]["inputSchema"]["required"], Json({"word"}));
  EXPECT_EQ(result["tools"][0]["annotations"], Json({{"readOnlyHint", true}}));
  EXPECT_EQ(result["tools"][1]["annotations"], Json({{"readOnlyHint", false}, {"destructiveHint", true}}));
  EXPECT_EQ(result["tools"][2]["annotations"], Json({{"readOnlyHint", false}, {"destructiveHint", false}}));
}

TEST_F(McpServer, CallsAToolAndGivesStructureToThoseWhoKnowIt) {
  const struct {
    const char* version;
    bool structured;
  } rows[] = {{"2024-11-05", false}, {"2025-03-26", false}, {"2025-06-18", true}, {"2025-11-25", true}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.version);
    start({});
    shake_hands(row.version);
    const auto result = answer_to(call("echo", R"({"word":"hello"})"))["result"];
    EXPECT_EQ(result["content"], Json::parse(R"([{"type":"text","text":"{\"said\":\"hello\"}"}])"));
    EXPECT_EQ(result.contains("structuredContent"), row.structured);
    EXPECT_FALSE(result.contains("resultType"));
  }
}

TEST_F(McpServer, TellsTheAssistantAndNotTheProtocolWhatIsWrongWithArguments) {
  shake_hands();
  const auto result = answer_to(call("echo", R"({"words":"hello"})"))["result"];
  EXPECT_EQ(result["isError"], true);
  EXPECT_EQ(result["content"][0]["text"], "echo: unknown argument \"words\"; valid: word; word is required");
}

TEST_F(McpServer, CutsLongAnswersAndSaysHowToAskForLess) {
  shake_hands();
  const auto result = answer_to(call("echo", R"({"word":")" + std::string(500, 'x') + "\"}"))["result"];
  EXPECT_EQ(result["content"][0]["text"].get<std::string>().size(), 200U);
  EXPECT_THAT(result["content"][1]["text"].get<std::string>(), HasSubstr("to get less: a shorter word"));
}

TEST_F(McpServer, SurvivesABrokenTool) {
  shake_hands();
  const auto result = answer_to(call("broken"))["result"];
  EXPECT_EQ(result["isError"], true);
  EXPECT_EQ(result["content"][0]["text"], "a bug: surprise");
  EXPECT_TRUE(answer_to(request("ping")).contains("result"));
}

TEST_F(McpServer, ServesRequestsThatBringTheirVersionWithThem) {
  const auto meta = std::string("{") + kMeta + "}";
  const auto discovered = answer_to(request("server/discover", meta))["result"];
  EXPECT_EQ(discovered["supportedVersions"],
            Json({"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}));
  const auto listed = answer_to(request("tools/list", meta))["result"];
  const auto called = answer_to(request(
      "tools/call", std::string(R"({"name":"echo","arguments":{"word":"a"},)") + kMeta + "}"))["result"];
  for (const auto& result : {discovered, listed, called}) {
    EXPECT_EQ(result["resultType"], "complete");
    EXPECT_EQ(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "tunnelctl");
  }
  for (const auto& result : {discovered, listed}) {
    EXPECT_GE(result["ttlMs"], 0);
    EXPECT_EQ(result["cacheScope"], "private");
  }
  EXPECT_EQ(called["structuredContent"]["said"], "a");
  // What that revision took away.
  EXPECT_EQ(answer_to(request("ping", meta))["error"]["code"], -32601);
  EXPECT_EQ(answer_to(request("initialize", meta))["error"]["code"], -32601);
}

TEST_F(McpServer, NamesItsVersionsToWhoBringsAnother) {
  const auto error = answer_to(request(
      "tools/list",
      R"({"_meta":{"io.modelcontextprotocol/protocolVersion":"1900-01-01","io.modelcontextprotocol/clientCapabilities":{}}})"))
      ["error"];
  EXPECT_EQ(error["code"], -32022);
  EXPECT_EQ(error["data"]["requested"], "1900-01-01");
  EXPECT_EQ(error["data"]["supported"][0], "2026-07-28");
  for (const char* meta : {R"({"io.modelcontextprotocol/protocolVersion":"2026-07-28"})",
                           R"({"io.modelcontextprotocol/protocolVersion":20260728})"})
    EXPECT_EQ(answer_to(request("tools/list", std::string(R"({"_meta":)") + meta + "}"))["error"]["code"],
              -32602);
}

TEST_F(McpServer, AnswersABatchAsOneArrayInTheOneVersionThatHasThem) {
  shake_hands("2025-03-26");
  const auto answers =
      answer_to("[" + request("ping", "{}", "1") + "," + call("echo", R"({"word":"a"})", "2") +
                R"(,{"jsonrpc":"2.0","method":"notifications/initialized"},5])");
  ASSERT_TRUE(answers.is_array());
  ASSERT_EQ(answers.size(), 3U);
  std::vector<Json> ids;
  for (const auto& one : answers) ids.push_back(one["id"]);
  EXPECT_THAT(ids, testing::UnorderedElementsAre(1, 2, nullptr));
  EXPECT_THAT(said({R"([{"jsonrpc":"2.0","method":"notifications/initialized"}])"}), IsEmpty());
}

TEST_F(McpServer, RefusesABatchOfMillionsOfMessagesAtOnce) {
  shake_hands("2025-03-26");
  std::string many = "[1";
  for (int i = 0; i < 1'000'000; ++i) many += ",1";
  const auto answer = answer_to(many + "]");
  ASSERT_TRUE(answer.is_object()) << "one answer, not a million";
  EXPECT_EQ(answer["error"]["code"], -32600);
  EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr("100 messages at most"));
}

TEST_F(McpServer, AnswersCallsAsTheyEndAndNotAsTheyCame) {
  shake_hands();
  server_->receive(call("open", "{}", "1"));
  begun_.wait_for(1);
  EXPECT_EQ(answer_to(call("echo", R"({"word":"a"})", "2"))["id"], 2);
  let_go_.count_up();
  EXPECT_EQ(next()["id"], 1);
}

TEST_F(McpServer, StopsACancelledCallAndDoesNotAnswerIt) {
  shake_hands();
  server_->receive(call("wait", "{}", "\"one\""));
  begun_.wait_for(1);
  server_->receive(
      R"({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"one","reason":"no"}})");
  stopped_.wait_for(1);
  EXPECT_THAT(said({}), IsEmpty());
}

TEST_F(McpServer, TellsTheIdsOneAndOneApart) {
  shake_hands();
  server_->receive(call("wait", "{}", "1"));
  begun_.wait_for(1);
  server_->receive(R"({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"1"}})");
  EXPECT_EQ(answer_to(call("echo", R"({"word":"a"})", "1"))["error"]["code"], -32600) << "it is still served";
  server_->receive(R"({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}})");
  stopped_.wait_for(1);
  EXPECT_EQ(answer_to(call("echo", R"({"word":"a"})", "1"))["id"], 1) << "a cancelled id is free again";
}

TEST_F(McpServer, GivesUpOnACallThatTakesTooLong) {
  start({.at_once = 1, .deadline = 50ms});
  shake_hands();
  server_->receive(call("wait", "{}", "1"));
  const auto result = next()["result"];
  EXPECT_EQ(result["isError"], true);
  EXPECT_THAT(result["content"][0]["text"].get<std::string>(),
              AllOf(HasSubstr("wait: gave up after"), HasSubstr("it may have been done: look before"),
                    Not(HasSubstr("ask for less"))))
      << "it writes";
  stopped_.wait_for(1);
}

TEST_F(McpServer, AsksForLessWhenReadingTookTooLong) {
  start({.at_once = 1, .deadline = 50ms});
  shake_hands();
  server_->receive(call("read", "{}", "1"));
  EXPECT_EQ(next()["result"]["content"][0]["text"], "read: gave up after 0 s; ask for less");
}

TEST_F(McpServer, TheDeadlineIsAnsweredEvenWhenTheToolDoesNotStop) {
  start({.at_once = 1, .deadline = 50ms});
  shake_hands();
  server_->receive(call("open", "{}", "1"));
  begun_.wait_for(1);
  EXPECT_EQ(next()["result"]["isError"], true);
  server_->receive(call("echo", R"({"word":"a"})", "2"));
  EXPECT_EQ(next()["result"]["isError"], true) << "it waited behind the stuck one";
  let_go_.count_up();
  EXPECT_THAT(said({}), IsEmpty()) << "a late answer is dropped";
}

TEST_F(McpServer, RefusesMoreCallsThanMayWait) {
  start({.at_once = 1, .waiting = 1});
  shake_hands();
  server_->receive(call("open", "{}", "1"));
  begun_.wait_for(1);
  server_->receive(call("echo", R"({"word":"a"})", "2"));
  const auto refused = answer_to(call("echo", R"({"word":"b"})", "3"));
  EXPECT_EQ(refused["id"], 3);
  EXPECT_THAT(refused["result"]["content"][0]["text"].get<std::string>(), HasSubstr("too many calls wait"));
  let_go_.count_up();
  EXPECT_EQ(next()["id"], 1);
  EXPECT_EQ(next()["id"], 2);
}

TEST_F(McpServer, AnswersWhatItStopsAtItsEnd) {
  shake_hands();
  server_->receive(call("wait", "{}", "1"));
  begun_.wait_for(1);
  server_->finish(0ms);
  const auto result = next()["result"];
  EXPECT_EQ(result["isError"], true);
  EXPECT_EQ(result["content"][0]["text"],
            "wait: the server ends; it may have been done: look before saying it again");
  stopped_.wait_for(1);
}

}  // namespace
}  // namespace tunnelctl::mcp
