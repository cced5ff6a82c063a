#include "tunnelctl/mcp/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnelctl::mcp {
namespace {

using testing::HasSubstr;

const Json kSchema = Json::parse(R"({
  "type": "object", "additionalProperties": false, "required": ["expr"],
  "properties": {
    "expr": {"type": "string", "minLength": 1},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "percentile": {"type": "number"},
    "overwrite": {"type": "boolean"},
    "direction": {"type": "string", "enum": ["forward", "backward"]},
    "uids": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "tags": {"type": ["object", "array"]},
    "timeRange": {"type": "object", "additionalProperties": false, "required": ["from"],
                  "properties": {"from": {"type": "string"}, "to": {"type": "string"}}}
  }})");

TEST(Arguments, AreTakenAsTheyCanOnlyBeMeant) {
  const struct {
    const char *given, *taken;
  } rows[] = {
      {R"({"expr": "up"})", R"({"expr": "up"})"},
      {R"({"expr": "up", "limit": 7})", R"({"expr": "up", "limit": 7})"},
      {R"({"expr": "up", "limit": "7"})", R"({"expr": "up", "limit": 7})"},
      {R"({"expr": "up", "limit": 7.0})", R"({"expr": "up", "limit": 7})"},
      {R"({"expr": "up", "percentile": "99.9"})", R"({"expr": "up", "percentile": 99.9})"},
      {R"({"expr": "up", "percentile": 95})", R"({"expr": "up", "percentile": 95})"},
      {R"({"expr": 1})", R"({"expr": "1"})"},
      {R"({"expr": "up", "overwrite": "True"})", R"({"expr": "up", "overwrite": true})"},
      {R"({"expr": "up", "uids": "a"})", R"({"expr": "up", "uids": ["a"]})"},
      {R"({"expr": "up", "uids": "[\"a\", \"b\"]"})", R"({"expr": "up", "uids": ["a", "b"]})"},
      {R"({"expr": "up", "uids": [1, "b"]})", R"({"expr": "up", "uids": ["1", "b"]})"},
      {R"({"expr": "up", "labels": "{\"a\": \"b\"}"})", R"({"expr": "up", "labels": {"a": "b"}})"},
      {R"({"expr": "up", "labels": {"a": 1}})", R"({"expr": "up", "labels": {"a": "1"}})"},
      {R"({"EXPR": "up", "timerange": {"From": "now"}})", R"({"expr": "up", "timeRange": {"from": "now"}})"},
      {R"({"expr": "up", "limit": null})", R"({"expr": "up"})"},
      {R"({"expr": "up", "direction": "Forward"})", R"({"expr": "up", "direction": "forward"})"},
      {R"({"expr": "up", "tags": {"a": 1}})", R"({"expr": "up", "tags": {"a": 1}})"},
      {R"({"expr": "up", "tags": [{"a": 1}, "b"]})", R"({"expr": "up", "tags": [{"a": 1}, "b"]})"},
      {R"({"expr": "up", "tags": "[\"b\"]"})", R"({"expr": "up", "tags": ["b"]})"},
      {R"({"expr": "up", "tags": "b"})", R"({"expr": "up", "tags": ["b"]})"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.given);
    const auto taken = checked_arguments(kSchema, Json::parse(row.given));
    ASSERT_TRUE(taken) << taken.error().message;
    EXPECT_EQ(*taken, Json::parse(row.taken));
  }
}

TEST(Arguments, ThatAreWrongAreNamedWithTheRemedy) {
  const struct {
    const char *given, *message;
  } rows[] = {
      {"{}", "expr is required"},
      {"null", "expr is required"},
      {R"({"expr": null})", "expr is required"},
      {R"({"expr": ""})", "expr must not be empty"},
      {R"({"expr": ["up"]})", "expr must be text, not [\"up\"]"},
      {R"({"expr": "up", "exprs": 1})",
       "unknown argument \"exprs\"; valid: direction, expr, labels, limit, overwrite, percentile, tags, "
       "timeRange, uids"},
      {R"({"expr": "up", "limit": 0})", "limit is 0 but must be from 1 to 100"},
      {R"({"expr": "up", "limit": 101})", "limit is 101 but must be from 1 to 100"},
      {R"({"expr": "up", "limit": 1.5})", "limit must be an integer, not 1.5"},
      {R"({"expr": "up", "limit": 1e300})", "limit must be an integer, not 1e+300"},
      {R"({"expr": "up", "limit": "1 "})", "limit must be an integer, not \"1 \""},
      {R"({"expr": "up", "limit": true})", "limit must be an integer, not true"},
      {R"({"expr": "up", "percentile": "high"})", "percentile must be a number, not \"high\""},
      {R"({"expr": "up", "overwrite": "yes"})", "overwrite must be true or false, not \"yes\""},
      {R"({"expr": "up", "direction": "up"})", "direction is \"up\" but must be one of: forward, backward"},
      {R"({"expr": "up", "uids": []})", "uids must have at least 1 item"},
      {R"({"expr": "up", "uids": [{}]})", "uids[0] must be text, not {}"},
      {R"({"expr": "up", "labels": "a"})", "labels must be an object, not \"a\""},
      {R"({"expr": "up", "labels": {"a": []}})", "labels.a must be text, not []"},
      {R"({"expr": "up", "timeRange": {"until": 1}})",
       "unknown argument \"timeRange.until\"; valid: from, to; timeRange.from is required"},
      {R"({"expr": "up", "Expr": "down"})", "expr is given twice"},
      {R"({"limit": 0, "x": 1})",
       "limit is 0 but must be from 1 to 100; unknown argument \"x\"; valid: direction, expr, labels, limit, "
       "overwrite, percentile, tags, timeRange, uids; expr is required"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.given);
    const auto taken = checked_arguments(kSchema, Json::parse(row.given));
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().kind, Error::Kind::bad_input);
    EXPECT_EQ(taken.error().message, row.message);
  }
}

TEST(Arguments, ThatAreWrongAndLongAreNotSentBackWhole) {
  Json many = {{"expr", "up"}, {"limit", std::string(100'000, 'x')}};
  for (int i = 0; i < 1000; ++i) many["\xc3\xa9" + std::to_string(i)] = i;
  const auto taken = checked_arguments(kSchema, many);
  ASSERT_FALSE(taken);
  EXPECT_LT(taken.error().message.size(), 2500U);
  EXPECT_THAT(taken.error().message, HasSubstr("and 991 more"));
}

}  // namespace
}  // namespace tunnelctl::mcp
