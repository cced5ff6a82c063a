#include "tunnelctl/prometheus/data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace {

using namespace tunnelctl::prometheus;

std::string answer(const std::string& type, const std::string& result) {
  return R"({"status":"success","data":{"resultType":")" + type + R"(","result":)" + result + "}}";
}

Result<Data> read(const std::string& text) {
  return read_data(Json::parse(text));
}

TEST(PrometheusData, ReadsEveryKindOfAnswer) {
  struct Case {
    const char* type;
    const char* result;
    std::size_t series, with_data;
  };
  const Case cases[] = {
      {"vector", "[]", 0, 0},
      {"vector", R"([{"metric":{"a":"b"},"value":[1.5,"2"]},{"metric":{},"value":[1.5,"NaN"]}])", 2, 1},
      {"vector", R"([{"metric":{},"value":[1,"+Inf"]}])", 1, 1},  // drawn, unlike NaN
      {"vector", R"([{"metric":{},"histogram":[1,{"count":"3"}]}])", 1, 1},
      {"matrix",
       R"([{"metric":{},"values":[[1,"NaN"],[2,"NaN"]]},{"metric":{},"values":[[1,"NaN"],[2,"0"]]}])", 2, 1},
      {"matrix", R"([{"metric":{},"histograms":[[1,{}],[2,{}]]}])", 1, 1},
      {"scalar", R"([1,"7"])", 1, 1},
      {"string", R"([1,"x"])", 1, 1},
      {"streams", R"([{"stream":{"a":"b"},"values":[["1500000000","line",{"extra":"x"}]]}])", 1, 1},
      {"streams", R"([{"stream":{},"values":[]}])", 1, 0},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(std::string(one.type) + " " + one.result);
    const auto data = read(answer(one.type, one.result));
    ASSERT_TRUE(data) << data.error().message;
    EXPECT_EQ(data->series.size(), one.series);
    EXPECT_EQ(series_with_data(*data), one.with_data);
  }
}

TEST(PrometheusData, KeepsLabelsTimesAndValues) {
  const auto vector = read(answer("vector", R"([{"metric":{"job":"x"},"value":[1795259964.223,"-1.5e3"]}])"));
  ASSERT_TRUE(vector);
  EXPECT_EQ(vector->series[0].labels.at("job"), "x");
  EXPECT_EQ(vector->series[0].samples[0].at.time_since_epoch().count(), 1795259964223);
  EXPECT_EQ(vector->series[0].samples[0].value, -1500);
  const auto text = read(answer("string", R"([1.5,"hello"])"));
  ASSERT_TRUE(text);
  EXPECT_EQ(text->series[0].lines[0].text, "hello");
  EXPECT_EQ(text->series[0].lines[0].at.time_since_epoch().count(), 1'500'000'000);
  const auto lines =
      read(answer("streams", R"([{"stream":{"service":"t"},"values":[["1795259964223000001","a\nb"]]}])"));
  ASSERT_TRUE(lines);
  EXPECT_EQ(lines->series[0].labels.at("service"), "t");
  EXPECT_EQ(lines->series[0].lines[0].at.time_since_epoch().count(), 1795259964223000001);
  EXPECT_EQ(lines->series[0].lines[0].text, "a\nb");
}

TEST(PrometheusData, RefusesWhatIsNoAnswer) {
  for (const std::string& text :
       {std::string("[]"), std::string("null"), std::string("{}"), std::string(R"({"data":[]})"),
        std::string(R"({"data":{"resultType":7,"result":[]}})"), answer("vector", "{}"),
        answer("vector", "[7]"), answer("vector", R"([{"metric":{},"value":[1]}])"),
        answer("vector", R"([{"metric":{},"value":["1","2"]}])"),
        answer("vector", R"([{"metric":{},"value":[1,"two"]}])"),
        answer("vector", R"([{"metric":{},"value":[1e300,"2"]}])"),
        answer("matrix", R"([{"metric":{},"values":7}])"), answer("scalar", "[]"), answer("string", "[1,2]"),
        answer("streams", R"([{"stream":{},"values":[[1,"a"]]}])"),
        answer("streams", R"([{"stream":{},"values":[["99999999999999999999","a"]]}])")}) {
    const auto data = read(text);
    ASSERT_FALSE(data) << text;
    EXPECT_EQ(data.error().kind, Error::Kind::unavailable);
  }
}

}  // namespace
