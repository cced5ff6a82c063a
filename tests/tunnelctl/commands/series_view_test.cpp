#include "tunnelctl/commands/series_view.h"

#include <gmock/gmock.h>

#include <limits>
#include <sstream>

namespace tunnelctl {
namespace {

using prometheus::Data;
using prometheus::Sample;
using prometheus::Time;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

struct Said {
  std::string out, err;
};

template <class Show>
Said shown(const Show& show, const char* output = "text", Environment environment = {{"LANG", "C.UTF-8"}}) {
  std::ostringstream out, err;
  Session session(out, err, std::move(environment), {});
  session.globals.output = output;
  show(session);
  return {out.str(), err.str()};
}

Data vector(std::vector<std::pair<prometheus::Texts, double>> rows) {
  Data data{.type = "vector"};
  for (auto& [labels, value] : rows)
    data.series.push_back({.labels = std::move(labels), .samples = {Sample{Time(seconds(1)), value}}});
  return data;
}

TEST(SeriesName, IsAsPromqlWritesIt) {
  struct Row {
    prometheus::Texts labels;
    const char* name;
  };
  const Row rows[] = {
      {{}, "{}"},
      {{{"__name__", "up"}}, "up"},
      {{{"__name__", "up"}, {"job", "a"}, {"instance", "b:1"}}, R"(up{instance="b:1", job="a"})"},
      {{{"a", "say \"hi\" \\ \n"}}, R"({a="say \"hi\" \\ \n"})"},
      {{{"a", "\x1b[31mred"}}, "{a=\" [31mred\"}"},
  };
  for (const auto& row : rows) EXPECT_EQ(series_name(row.labels), row.name);
}

TEST(ValueText, IsExactAndPlain) {
  struct Row {
    double value;
    const char* text;
  };
  const Row rows[] = {
      {0, "0"},
      {-0.25, "-0.25"},
      {0.1, "0.1"},
      {1e5, "100000"},
      {1e20, "100000000000000000000"},
      {1e21, "1e+21"},
      {1.5e-7, "1.5e-07"},
      {1795259964.223, "1795259964.223"},
      {kNaN, "NaN"},
      {kInf, "+Inf"},
      {-kInf, "-Inf"},
      {1e-320, "1e-320"},
  };
  for (const auto& row : rows) EXPECT_EQ(value_text(row.value), row.text);
}

TEST(SeriesView, HasNumbersOrTextInJson) {
  auto data = vector({{{{"a", "b"}}, 0.5}, {{}, kNaN}, {{}, -kInf}});
  data.warnings = {"partial"};
  const auto said = shown(
      [&](Session& session) {
        show_instant(data, {.limit = 2}, {{"query", "up"}}, session);
      },
      "json");
  EXPECT_EQ(Json::parse(said.out), Json::parse(R"({"query":"up","type":"vector","shown":2,"total":3,
      "warnings":["partial"],"series":[
      {"labels":{"a":"b"},"samples":[{"time":"1970-01-01T00:00:01.000Z","value":0.5}]},
      {"labels":{},"samples":[{"time":"1970-01-01T00:00:01.000Z","value":"NaN"}]}]})"));
  EXPECT_THAT(said.err, HasSubstr("warning: the server says: partial"));
  EXPECT_THAT(said.err, HasSubstr("shown 2 of 3 series (--limit 0 shows all)"));
}

TEST(SeriesView, QuotesCsvAndHasAColumnForEachLabel) {
  const auto data = vector({{{{"a", "x,\"y\""}}, 1}, {{{"b", "two\nlines"}}, kInf}});
  const auto said = shown([&](Session& session) { show_instant(data, {.csv = true}, {}, session); });
  EXPECT_EQ(said.out,
            "time,a,b,value\r\n"
            "1970-01-01T00:00:01.000Z,\"x,\"\"y\"\"\",,1\r\n"
            "1970-01-01T00:00:01.000Z,,\"two\nlines\",+Inf\r\n");
}

TEST(SeriesView, WritesJsonPieceByPieceAsItWouldBeWhole) {
  Data data{.type = "matrix", .warnings = {"\"series\": [\n"}};
  for (int i = 0; i < 3; ++i) {
    auto& one = data.series.emplace_back();
    one.labels = {{"samples", "\n      \"samples\": []"}, {"i", std::to_string(i)}};
    for (int at = 0; at < i; ++at) one.samples.push_back({Time(seconds(at)), at == 0 ? 0.5 : kInf});
    one.histograms = i == 1 ? 2 : 0;
  }
  const auto text = shown(
      [&](Session& session) {
        show_range(data, {}, {}, {{"query", "\n  \"series\": []"}}, session);
      },
      "json");
  const auto json = Json::parse(text.out);
  EXPECT_EQ(text.out, json.dump(2) + "\n");
  EXPECT_EQ(json["series"].size(), 3U);
  EXPECT_EQ(json["series"][2]["samples"][1],
            Json::parse(R"({"time":"1970-01-01T00:00:01.000Z","value":"+Inf"})"));
  EXPECT_EQ(json["series"][1]["histograms"], 2);
  Data word{.type = "string"};
  word.series.emplace_back().lines = {{.at = {}, .text = "hi"}};
  const auto said = shown([&](Session& session) { show_instant(word, {}, {}, session); }, "json");
  EXPECT_EQ(said.out, Json::parse(said.out).dump(2) + "\n");
  EXPECT_EQ(Json::parse(said.out)["series"], Json::parse(R"([{"labels":{},"text":"hi"}])"));
}

TEST(SeriesView, KeepsLabelsApartFromTheColumnsOfCsv) {
  const auto data = vector({{{{"time", "noon"}, {"value", "high"}, {"label_time", "x"}}, 1}});
  const auto said = shown([&](Session& session) { show_instant(data, {.csv = true}, {}, session); });
  EXPECT_EQ(said.out,
            "time,label_time,label_label_time,label_value,value\r\n"
            "1970-01-01T00:00:01.000Z,x,noon,high,1\r\n");
}

TEST(SeriesView, LetsNoCsvSteerATerminal) {
  const auto data = vector({{{{"a", "\x1b[31mred\n"}}, 1}});
  const auto csv = [&](bool terminal) {
    return shown([&](Session& session) {
             session.out_is_terminal = terminal;
             show_instant(data, {.csv = true}, {}, session);
           })
        .out;
  };
  EXPECT_THAT(csv(true), HasSubstr(", [31mred ,1\r\n"));
  EXPECT_THAT(csv(false), HasSubstr(",\"\x1b[31mred\n\",1\r\n")) << "a file gets what there is";
}

TEST(SeriesView, SaysWhatAFormLeavesOut) {
  Data data{.type = "matrix"};
  auto& one = data.series.emplace_back();
  one.samples = {{Time(seconds(1)), 1}, {Time(seconds(2)), 2}};
  const auto table = shown([&](Session& session) { show_instant(data, {}, {}, session); });
  EXPECT_EQ(table.out, "VALUE  SERIES\n2      {}\n");
  EXPECT_THAT(table.err, HasSubstr("VALUE is the last sample of each series; --csv"));
  EXPECT_THAT(table.err, HasSubstr("1 series\n"));
  one.histograms = 3;
  const auto csv = shown([&](Session& session) { show_instant(data, {.csv = true}, {}, session); });
  EXPECT_THAT(csv.err, HasSubstr("left out: 3 samples that are native histograms"));
  EXPECT_THAT(csv.err, testing::Not(HasSubstr("VALUE")));
}

TEST(SeriesView, MarksALastValueThatIsOld) {
  Data data{.type = "matrix"};
  const prometheus::Range range{.from = Time(seconds(0)), .to = Time(seconds(45)), .step = seconds(10)};
  data.series.emplace_back().samples = {{Time(seconds(0)), 1}, {Time(seconds(30)), 7}};
  data.series.emplace_back().samples = {{Time(seconds(40)), 8}};  // the last step before the end
  const auto said = shown([&](Session& session) { show_range(data, range, {}, {}, session); });
  EXPECT_THAT(said.out, HasSubstr("  7*    {}\n"));
  EXPECT_THAT(said.out, HasSubstr("  8     {}\n"));
  EXPECT_THAT(said.err, HasSubstr("* the series has nothing at the end of that time: its LAST is older\n"));
}

TEST(SeriesView, ShowsNativeHistogramsByName) {
  Data data{.type = "vector"};
  data.series.push_back({.labels = {{"__name__", "h"}}, .histograms = 1});
  const auto said = shown([&](Session& session) { show_instant(data, {}, {}, session); });
  EXPECT_EQ(said.out, "VALUE      SERIES\nhistogram  h\n");
}

TEST(SeriesView, SumsARangeUpInALine) {
  Data data{.type = "matrix"};
  const prometheus::Range range{.from = Time(seconds(0)), .to = Time(seconds(40)), .step = seconds(10)};
  auto& one = data.series.emplace_back();
  one.labels = {{"a", "b"}};
  one.samples = {{Time(seconds(0)), 1}, {Time(seconds(10)), 2}, {Time(seconds(40)), 3}};
  auto& other = data.series.emplace_back();
  other.samples = {{Time(seconds(10)), kNaN}};
  const auto said = shown([&](Session& session) { show_range(data, range, {}, {}, session); });
  EXPECT_EQ(said.out,
            "GRAPH  MIN  MEAN  MAX  LAST  SERIES\n"
            "▁▅  █  1    2     3    3     {a=\"b\"}\n"
            "       -    -     -    NaN*  {}\n");
  EXPECT_EQ(said.err, "* the series has nothing at the end of that time: its LAST is older\n2 series\n");
}

TEST(SeriesView, DrawsSeveralSeriesWithLettersWhereThereIsNoColour) {
  Data data{.type = "matrix"};
  const prometheus::Range range{.from = Time(seconds(0)), .to = Time(seconds(10)), .step = seconds(10)};
  for (const double value : {1.0, 2.0}) {
    auto& one = data.series.emplace_back();
    one.labels = {{"v", value_text(value)}};
    one.samples = {{Time(seconds(0)), value}, {Time(seconds(10)), value}};
  }
  const auto plain = shown([&](Session& session) { show_range(data, range, {.graph = true}, {}, session); },
                           "text", {{"LANG", "C.UTF-8"}, {"COLUMNS", "30"}});
  EXPECT_THAT(plain.out, HasSubstr("2 +bbbbbbbbbbbbbbbbbbbbbbbbbbb\n"));
  EXPECT_THAT(plain.out, HasSubstr("1 +aaaaaaaaaaaaaaaaaaaaaaaaaaa\n"));
  EXPECT_THAT(plain.out, HasSubstr("\na  "));
  EXPECT_THAT(plain.out, HasSubstr("   1970-01-01 00:00:00Z"));
  const auto coloured = shown([&](Session& session) {
    session.globals.colour = "always";
    show_range(data, range, {.graph = true}, {}, session);
  });
  EXPECT_THAT(coloured.out, HasSubstr("\x1b["));
  EXPECT_THAT(coloured.out, HasSubstr("■"));
}

TEST(SeriesView, SaysThatThereIsNothing) {
  const auto said = shown([&](Session& session) { show_instant({.type = "vector"}, {}, {}, session); });
  EXPECT_EQ(said.out, "");
  EXPECT_THAT(said.err, testing::StartsWith("no series: nothing matches"));
}

TEST(SeriesView, RefusesTwoOutputsAtOnce) {
  const auto fits = [](const SeriesView& view, const char* output) {
    std::ostringstream out;
    Session session(out, out, {}, {});
    session.globals.output = output;
    return check(view, session).has_value();
  };
  EXPECT_TRUE(fits({.csv = true}, "text"));
  EXPECT_TRUE(fits({}, "json"));
  EXPECT_FALSE(fits({.csv = true}, "json"));
  EXPECT_FALSE(fits({.graph = true}, "json"));
  EXPECT_FALSE(fits({.csv = true, .graph = true}, "text"));
}

}  // namespace
}  // namespace tunnelctl
