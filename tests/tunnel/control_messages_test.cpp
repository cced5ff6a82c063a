#include "tunnel/control_messages.h"

#include <limits>

#include <gtest/gtest.h>

namespace tunnel {
namespace {

using namespace std::chrono_literals;

const std::chrono::system_clock::time_point kNewYear{std::chrono::seconds(1'767'225'600)};

TEST(ControlMessages, TakeARefreshedToken) {
  const char* const rows[] = {
      R"({"type":"auth.refresh","token":"a.b.c"})",
      R"( { "token" : "a.b.c" , "type" : "auth.refresh" } )",
      R"({"type":"auth.refresh","token":"a.b.c","newer":{"fields":["are",1,null]}})",
  };
  for (const auto* text : rows) {
    SCOPED_TRACE(text);
    const auto parsed = parse_control_message(text);
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->token, "a.b.c");
  }
}

TEST(ControlMessages, RefuseWhatIsNoneWithoutRepeatingIt) {
  const std::string deep =
      R"({"type":"auth.refresh","token":"secret","x":)" + std::string(20, '[') + std::string(20, ']') + "}";
  const std::string rows[] = {
      "",
      "secret",
      "[]",
      "null",
      R"("secret")",
      "{}",
      R"({"type":null,"token":"secret"})",
      R"({"type":1})",
      R"({"type":"secret","token":"secret"})",
      R"({"type":"auth.Refresh","token":"secret"})",
      R"({"type":"auth.ok","token":"secret"})",
      R"({"type":"auth.refresh"})",
      R"({"type":"auth.refresh","token":""})",
      R"({"type":"auth.refresh","token":["secret"]})",
      R"({"type":"auth.refresh","token":"secret"} )" + std::string(1, 'x'),
      R"({"type":"auth.refresh","token":"a","token":"secret"})",
      R"({"type":"auth.refresh","type":"auth.refresh","token":"secret"})",
      "\xEF\xBB\xBF{}",
      deep,
      R"({"type":"auth.refresh","token":")" + std::string(kMaxControlMessageBytes, 'x') + "\"}",
  };
  for (const auto& text : rows) {
    SCOPED_TRACE(text.substr(0, 100));
    const auto parsed = parse_control_message(text);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().code, Code::bad_request);
    EXPECT_EQ(parsed.error().message.find("secret"), std::string::npos);
  }
}

TEST(ControlMessages, MayBeAsLongAsTheyMayBe) {
  const std::string begin = R"({"type":"auth.refresh","token":")";
  const std::string token(kMaxControlMessageBytes - begin.size() - 2, 't');
  EXPECT_TRUE(parse_control_message(begin + token + "\"}"));
  EXPECT_FALSE(parse_control_message(begin + token + "t\"}"));
}

TEST(ControlMessages, AreWrittenAsDocumented) {
  EXPECT_EQ(flow_message(FlowLevel::throttle, 0.8249, 500ms),
            R"({"type":"flow","level":"throttle","fill":0.82,"recommendedDelayMs":500})");
  EXPECT_EQ(auth_expiring_message(kNewYear),
            R"({"type":"auth.expiring","expiresAt":"2026-01-01T00:00:00Z"})");
  EXPECT_EQ(auth_ok_message(kNewYear + 1999ms), R"({"type":"auth.ok","expiresAt":"2026-01-01T00:00:01Z"})");
  EXPECT_EQ(maintenance_message(kNewYear, "draining"),
            R"({"type":"maintenance","deadline":"2026-01-01T00:00:00Z","reason":"draining"})");
  EXPECT_EQ(error_message(Code::bad_request, "unknown type of control message"),
            R"({"type":"error","code":"TUNNEL_010","message":"unknown type of control message"})");
}

TEST(ControlMessages, SayAFillBetweenNothingAndFullWhateverTheyAreGiven) {
  struct Row {
    double fill;
    const char* says;
  };
  const Row rows[] = {{-1, "\"fill\":0.0,"},
                      {7, "\"fill\":1.0,"},
                      {std::numeric_limits<double>::quiet_NaN(), "\"fill\":0.0,"},
                      {std::numeric_limits<double>::infinity(), "\"fill\":1.0,"}};
  for (const auto& row : rows)
    EXPECT_NE(flow_message(FlowLevel::open, row.fill, 0ms).find(row.says), std::string::npos) << row.fill;
}

TEST(ControlMessages, SurviveTextsThatAreNotUtf8) {
  EXPECT_EQ(
      maintenance_message(kNewYear, "\xFF\"\n"),
      "{\"type\":\"maintenance\",\"deadline\":\"2026-01-01T00:00:00Z\",\"reason\":\"\xEF\xBF\xBD\\\"\\n\"}");
}

}  // namespace
}  // namespace tunnel
