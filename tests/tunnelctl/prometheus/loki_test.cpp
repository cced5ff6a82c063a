#include "tunnelctl/prometheus/loki.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/scripted_api.h"

namespace {

using namespace tunnelctl::prometheus;
using support::ScriptedApi;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using Kind = Error::Kind;
using std::chrono::nanoseconds;

constexpr Range kHour{.from = Time(std::chrono::seconds(3'600)), .to = Time(std::chrono::seconds(7'200))};
constexpr const char* kRange = "/loki/api/v1/query_range";

ScriptedApi::Answer always(unsigned status, std::string body) {
  return [=](const ScriptedApi::Asked&) { return ScriptedApi::Says{status, body}; };
}

Loki at(const ScriptedApi& api, Connection connection = {}) {
  connection.url = api.url();
  auto loki = Loki::make(std::move(connection));
  if (!loki) throw std::runtime_error(loki.error().message);
  return std::move(*loki);
}

/// Of the address; it has no escapes in these tests.
std::string parameter(const ScriptedApi::Asked& asked, const std::string& name) {
  const auto begin = asked.query.find(name + "=") + name.size() + 1;
  return asked.query.substr(begin, asked.query.find('&', begin) - begin);
}

Instant instant(std::int64_t ns) {
  return Instant(nanoseconds(ns));
}

/// As many lines as Loki would give: those of the window, the first `limit` of them in that direction.
class FakeLoki : public Transport {
 public:
  struct Entry {
    std::int64_t at;
    std::string stream, text;
  };

  explicit FakeLoki(std::vector<Entry> entries, std::size_t most = 5'000)
      : entries_(std::move(entries)), most_(most) {}

  const std::string& name() const override { return name_; }

  Result<Json> get(const Ask& ask) const override {
    const auto limit = static_cast<std::size_t>(number(ask, "limit"));
    if (limit > most_)
      return fail(Kind::bad_input,
                  "GET x: 400: max entries limit per query exceeded, limit > max_entries_limit_per_query (" +
                      std::to_string(limit) + " > " + std::to_string(most_) + ")");
    const bool backward = text(ask, "direction") == "backward";
    std::vector<Entry> found;
    for (const auto& entry : entries_)
      if (entry.at >= number(ask, "start") && entry.at < number(ask, "end")) found.push_back(entry);
    std::stable_sort(found.begin(), found.end(),
                     [&](const Entry& a, const Entry& b) { return backward ? a.at > b.at : a.at < b.at; });
    if (found.size() > limit) found.resize(limit);
    std::map<std::string, Json> streams;
    for (const auto& entry : found)
      streams[entry.stream].push_back({std::to_string(entry.at), entry.text, Json::object()});
    Json result = Json::array();
    for (const auto& [name, values] : streams)
      result.push_back({{"stream", {{"app", name}}}, {"values", values}});
    return Json{{"status", "success"}, {"data", {{"resultType", "streams"}, {"result", result}}}};
  }

 private:
  static std::string text(const Ask& ask, const std::string& name) {
    for (const auto& [key, value] : ask.parameters)
      if (key == name) return value;
    return {};
  }
  static std::int64_t number(const Ask& ask, const std::string& name) { return std::stoll(text(ask, name)); }

  std::vector<Entry> entries_;
  std::size_t most_;
  std::string name_ = "a fake";
};

Loki fake(std::vector<FakeLoki::Entry> entries, std::size_t most = 5'000) {
  return Loki(std::make_shared<const FakeLoki>(std::move(entries), most));
}

struct Got {
  std::vector<std::string> lines{};  // "<at> <app> <text>"
  std::size_t pages = 0;
  LinesRead end{};
};

Got read(const Loki& loki, const LogQuery& query, std::size_t enough = 0) {
  Got got;
  const auto end = loki.lines(query, [&](std::vector<LogLine> page) {
    ++got.pages;
    for (const auto& line : page)
      got.lines.push_back(std::to_string(line.at.time_since_epoch().count()) + " " + line.stream->at("app") +
                          " " + line.text);
    return enough == 0 || got.lines.size() < enough;
  });
  if (!end) throw std::runtime_error(end.error().message);
  got.end = *end;
  EXPECT_EQ(got.end.lines, got.lines.size());
  return got;
}

const std::vector<FakeLoki::Entry> kSome = {
    {10, "a", "one"}, {30, "a", "three"}, {20, "b", "two"}, {40, "b", "four"}};
const Window kAll{.from = instant(0), .to = instant(100)};

TEST(LokiLines, OfAllStreamsComeInTheOrderOfTime) {
  EXPECT_THAT(read(fake(kSome), {.expr = "{a=\"b\"}", .window = kAll}).lines,
              ElementsAre("40 b four", "30 a three", "20 b two", "10 a one"));
  EXPECT_THAT(read(fake(kSome), {.expr = "{a=\"b\"}", .window = kAll, .order = Order::oldest_first}).lines,
              ElementsAre("10 a one", "20 b two", "30 a three", "40 b four"));
}

TEST(LokiLines, SaysWhetherThereAreMoreThanWereWanted) {
  struct Case {
    std::size_t limit;
    std::size_t lines;
    bool more;
  };
  for (const auto& one : {Case{3, 3, true}, Case{4, 4, false}, Case{5, 4, false}, Case{0, 4, false}}) {
    const auto got = read(fake(kSome), {.expr = "{}", .window = kAll, .limit = one.limit});
    EXPECT_EQ(got.lines.size(), one.lines) << one.limit;
    EXPECT_EQ(got.end.more, one.more) << one.limit;
  }
  EXPECT_THAT(read(fake(kSome), {.expr = "{}", .window = kAll, .limit = 2}).lines,
              ElementsAre("40 b four", "30 a three"));
}

TEST(LokiLines, EndWhenTheCallerHasEnough) {
  std::vector<FakeLoki::Entry> many;
  for (int i = 0; i < 50; ++i) many.push_back({i, "a", std::to_string(i)});
  const auto got = read(fake(many, 10), {.expr = "{}", .window = kAll, .limit = 0}, 15);
  EXPECT_LT(got.lines.size(), 25U);
  EXPECT_TRUE(got.end.more);
}

TEST(LokiLines, TellMetadataAndParsedLabelsFromTheStreams) {
  const ScriptedApi api({{kRange, always(200, R"({"status":"success","data":{"resultType":"streams","result":[
      {"stream":{"app":"x","level":"of the stream"},"values":[
        ["5","a",{"structuredMetadata":{"trace":"7","user":"m"},"parsed":{"user":"p"}}],["4","b",{}],["3","c"]]}]}})")}});
  std::vector<LogLine> lines;
  ASSERT_TRUE(at(api).lines({.expr = "{}", .window = kAll}, [&](std::vector<LogLine> page) {
    lines = std::move(page);
    return true;
  }));
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_THAT(lines[0].metadata, ElementsAre(Pair("trace", "7"), Pair("user", "m")));
  EXPECT_THAT(lines[0].parsed, ElementsAre(Pair("user", "p")));
  EXPECT_EQ(*lines[0].label("user"), "p");
  EXPECT_EQ(*lines[0].label("trace"), "7");
  EXPECT_EQ(*lines[0].label("level"), "of the stream");
  EXPECT_EQ(lines[1].label("user"), nullptr);
  EXPECT_THAT(api.lines(), ElementsAre("GET /loki/api/v1/query_range?query=%7B%7D&start=0&end=100&limit=101&"
                                       "direction=backward"));
  EXPECT_THAT(api.server().seen().at(0).head,
              HasSubstr("X-Loki-Response-Encoding-Flags: categorize-labels\r\n"));
}

/// Lines crowd on few moments, pages are small: every line must come once, in order.
TEST(LokiLines, AreNeitherLostNorDoubledWherePagesEndBetweenLinesOfOneMoment) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    std::vector<FakeLoki::Entry> entries;
    const int count = std::uniform_int_distribution(0, 60)(random);
    for (int i = 0; i < count; ++i)
      entries.push_back({std::uniform_int_distribution(1, 20)(random),
                         std::string(1, "abc"[std::uniform_int_distribution(0, 2)(random)]),
                         std::to_string(i)});
    std::map<std::int64_t, std::size_t> crowd;
    std::size_t largest = 0;
    for (const auto& entry : entries) largest = std::max(largest, ++crowd[entry.at]);
    // A page must have room for the lines of one moment and one more.
    const auto most = largest + 1 + static_cast<std::size_t>(std::uniform_int_distribution(0, 5)(random));
    for (const auto order : {Order::newest_first, Order::oldest_first}) {
      const auto got = read(fake(entries, most), {.expr = "{}", .window = kAll, .order = order, .limit = 0});
      auto lines = got.lines;
      std::vector<std::string> expected;
      for (const auto& entry : entries)
        expected.push_back(std::to_string(entry.at) + " " + entry.stream + " " + entry.text);
      std::vector<int> times;
      for (const auto& line : lines) times.push_back(std::stoi(line));
      if (order == Order::newest_first) std::reverse(times.begin(), times.end());
      EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
      std::sort(lines.begin(), lines.end());
      std::sort(expected.begin(), expected.end());
      EXPECT_EQ(lines, expected) << "round " << round << ", pages of " << most;
      EXPECT_THAT(got.end.warnings, IsEmpty());
      EXPECT_FALSE(got.end.more);
    }
  }
}

TEST(LokiLines, AreReadInPagesAsLargeAsTheServerAllows) {
  std::vector<FakeLoki::Entry> many;
  for (int i = 0; i < 95; ++i) many.push_back({i, "a", std::to_string(i)});
  const auto got = read(fake(many, 10), {.expr = "{}", .window = kAll, .limit = 50});
  EXPECT_EQ(got.lines.size(), 50U);
  EXPECT_TRUE(got.end.more);
  EXPECT_GE(got.pages, 5U);
  EXPECT_EQ(got.lines.front(), "94 a 94");
  EXPECT_EQ(got.lines.back(), "45 a 45");
}

TEST(LokiLines, SayWhenOneMomentHasMoreThanTheServerGives) {
  std::vector<FakeLoki::Entry> crowd;
  for (int i = 0; i < 30; ++i) crowd.push_back({50, "a", std::to_string(i)});
  crowd.push_back({40, "a", "before"});
  crowd.push_back({60, "a", "after"});
  for (const auto order : {Order::newest_first, Order::oldest_first}) {
    const auto got = read(fake(crowd, 10), {.expr = "{}", .window = kAll, .order = order, .limit = 0});
    EXPECT_THAT(got.lines, testing::Contains("40 a before"));
    EXPECT_THAT(got.lines, testing::Contains("60 a after"));
    EXPECT_THAT(got.end.warnings, ElementsAre(HasSubstr("more than 10 lines have the time 50 ns")));
  }
}

TEST(LokiLines, AreAskedForInSmallerPagesWhenAnAnswerIsTooLarge) {
  std::vector<FakeLoki::Entry> large;
  for (int i = 0; i < 20; ++i) large.push_back({i, "a", std::string(1'000, 'x') + std::to_string(i)});
  const auto whole = std::make_shared<const FakeLoki>(large);
  const ScriptedApi api({{kRange, [&](const ScriptedApi::Asked& asked) {
                            Ask ask;
                            for (const char* name : {"start", "end", "limit", "direction"})
                              ask.parameters.emplace_back(name, parameter(asked, name));
                            return ScriptedApi::Says{200, whole->get(ask)->dump()};
                          }}});
  EXPECT_EQ(
      read(at(api, {.max_answer_bytes = 6'000}), {.expr = "{}", .window = kAll, .limit = 0}).lines.size(),
      20U);
  const auto refused =
      at(api, {.max_answer_bytes = 600}).lines({.expr = "{}", .window = kAll}, [](std::vector<LogLine>) {
        return true;
      });
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("larger than 600 bytes"));
}

TEST(LokiLines, AreNotWhatAMetricQueryGives) {
  const ScriptedApi api(
      {{kRange, always(200, R"({"status":"success","data":{"resultType":"matrix","result":[]}})")}});
  const auto lines =
      at(api).lines({.expr = "rate", .window = kAll}, [](std::vector<LogLine>) { return true; });
  ASSERT_FALSE(lines);
  EXPECT_EQ(lines.error().kind, Kind::bad_input);
  EXPECT_THAT(lines.error().message, HasSubstr("gives numbers (matrix)"));
}

TEST(Loki, TellsErrorsInItsOwnWords) {
  struct Case {
    unsigned status;
    const char* body;
    Kind kind;
    const char* says;
  };
  const Case cases[] = {
      {400, "parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,", Kind::bad_input,
       "400: parse error at line 1, col 11: syntax error: unexpected $end, expecting } or ,"},
      {400, "max entries limit per query exceeded, limit > max_entries_limit_per_query (101 > 100000)",
       Kind::bad_input, "(101 > 100000)"},  // no way down: told as it is
      {400, "max entries limit per query exceeded, limit > max_entries_limit_per_query (101 > 0)",
       Kind::bad_input, "(101 > 0)"},
      {401, "no org id\n", Kind::denied, "401: no org id"},
      {500, "rpc error: code = Code(500) desc = empty ring", Kind::unavailable, "empty ring"},
      {200, "<html><body>Sign in</body></html>", Kind::unavailable, "is this a Loki?"},
      {200,
       R"({"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["x"]]}]}})",
       Kind::unavailable, "no series"},
  };
  for (const auto& one : cases) {
    const ScriptedApi api({{kRange, always(one.status, one.body)}});
    const auto lines =
        at(api).lines({.expr = "{", .window = kAll}, [](std::vector<LogLine>) { return true; });
    ASSERT_FALSE(lines) << one.says;
    EXPECT_EQ(lines.error().kind, one.kind) << lines.error().message;
    EXPECT_THAT(lines.error().message, HasSubstr(one.says));
  }
}

TEST(Loki, ListsLabelsAndTheirValues) {
  const ScriptedApi api(
      {{"/loki/api/v1/labels", always(200, R"({"status":"success","data":["app","host"]})")},
       {"/loki/api/v1/label/a%20b/values", always(200, R"({"status":"success"})")}});
  const auto labels = at(api).labels("", kHour);
  ASSERT_TRUE(labels) << labels.error().message;
  EXPECT_THAT(*labels, ElementsAre("app", "host"));
  const auto values = at(api).label_values("a b", "{x=\"y\"}", kHour);  // Loki leaves an empty list out
  ASSERT_TRUE(values) << values.error().message;
  EXPECT_THAT(*values, IsEmpty());
  EXPECT_THAT(api.lines(),
              ElementsAre("GET /loki/api/v1/labels?start=3600000000000&end=7200000000000",
                          "GET /loki/api/v1/label/a%20b/values?start=3600000000000&end=7200000000000&"
                          "query=%7Bx%3D%22y%22%7D"));
}

TEST(Loki, KnowsHowMuchThereIs) {
  const ScriptedApi api(
      {{"/loki/api/v1/index/stats",
        always(200, R"({"streams":2,"chunks":3,"entries":4,"bytes":18446744073709551615})")}});
  const auto stats = at(api).stats("{a=\"b\"}", kHour);
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_EQ(stats->streams, 2U);
  EXPECT_EQ(stats->chunks, 3U);
  EXPECT_EQ(stats->entries, 4U);
  EXPECT_EQ(stats->bytes, 18446744073709551615U);
  const ScriptedApi other({{"/loki/api/v1/index/stats", always(200, R"({"streams":-1})")}});
  EXPECT_EQ(at(other).stats("{}", kHour).error().kind, Kind::unavailable);
}

TEST(Loki, GivesItsPatternsOrSaysThatItHasNone) {
  const ScriptedApi api({{"/loki/api/v1/patterns", always(200, R"({"status":"success","data":[
      {"pattern":"took <_> ms","level":"info","samples":[[10,3],[20,4]]},{"pattern":"old","samples":[]}]})")}});
  const auto patterns = at(api).patterns("{a=\"b\"}", kHour);
  ASSERT_TRUE(patterns) << patterns.error().message;
  ASSERT_TRUE(*patterns);
  ASSERT_EQ((*patterns)->size(), 2U);
  EXPECT_EQ((**patterns)[0].text, "took <_> ms");
  EXPECT_EQ((**patterns)[0].level, "info");
  ASSERT_EQ((**patterns)[0].counts.size(), 2U);
  EXPECT_EQ((**patterns)[0].counts[1].at, Time(std::chrono::seconds(20)));
  EXPECT_EQ((**patterns)[0].counts[1].lines, 4U);
  EXPECT_EQ((**patterns)[1].level, "");

  const ScriptedApi off({{"/loki/api/v1/patterns", always(404, "")}});
  const auto none = at(off).patterns("{}", kHour);
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
  for (const char* odd : {R"({"data":[{"pattern":"x"}]})", R"({"data":[{"pattern":1,"samples":[]}]})",
                          R"({"data":[{"pattern":"x","samples":[[1]]}]})", R"({"data":[7]})",
                          R"({"data":[{"pattern":"x","samples":[[1,-1]]}]})", R"({"data":{}})"}) {
    const ScriptedApi wrong({{"/loki/api/v1/patterns", always(200, odd)}});
    const auto answer = at(wrong).patterns("{}", kHour);
    ASSERT_FALSE(answer) << odd;
    EXPECT_EQ(answer.error().kind, Kind::unavailable);
  }
}

TEST(Loki, QueriesForLinesAreToldFromThoseForNumbers) {
  for (const char* lines :
       {"{a=\"b\"}", "  {a=\"b\"} |= \"rate(\"", "({a=\"b\"})", "# rate(\n\t{a=\"b\"}", "( ( {"})
    EXPECT_TRUE(asks_for_lines(lines)) << lines;
  for (const char* numbers :
       {"rate({a=\"b\"}[5m])", "sum by (x) (rate({}[1m]))", "1", "(vector(1))", "# {a}\n1", "", "#", "(("})
    EXPECT_FALSE(asks_for_lines(numbers)) << numbers;
}

}  // namespace
