#include "tunnelctl/monitor/frames.h"

#include <gtest/gtest.h>

namespace {

using tunnelctl::monitor::count_frames;
using tunnelctl::monitor::Json;

Json frame(const std::string& values, const std::string& more = "") {
  return Json::parse(R"({"schema":{"fields":[{"name":"Time","type":"time"},{"name":"v","type":"number"}]},)"
                     R"("data":{"values":)" +
                     values + more + "}}");
}

TEST(Frames, CountASeriesForEachFrameThatHasAnythingToDraw) {
  struct Case {
    const char* what;
    Json frames;
    std::size_t all, with_data;
  };
  const Case cases[] = {
      {"none", Json::array(), 0, 0},
      {"Prometheus' empty answer",
       Json::array({Json::parse(R"({"schema":{"fields":[]},"data":{"values":[]}})")}), 0, 0},
      {"no rows", Json::array({frame("[[],[]]")}), 0, 0},
      {"two series", Json::array({frame("[[1],[0.5]]"), frame("[[1,2],[null,3]]")}), 2, 2},
      {"only NaN", Json::array({frame("[[1,2],[null,null]]", R"(,"entities":[null,{"NaN":[0,1]}])")}), 1, 0},
      {"infinity", Json::array({frame("[[1],[null]]", R"(,"entities":[null,{"Inf":[0]}])")}), 1, 1},
      {"nothing but times", Json::array({frame("[[1]]")}), 1, 0},
      {"odd things", Json::parse(R"([7,null,{},{"data":7},{"data":{"values":7}},{"data":{"values":[7]}}])"),
       0, 0},
  };
  for (const auto& one : cases) {
    const auto count = count_frames(one.frames);
    EXPECT_EQ(count.frames, one.all) << one.what;
    EXPECT_EQ(count.with_data, one.with_data) << one.what;
  }
  EXPECT_EQ(count_frames(nullptr).frames, 0U);
}

TEST(Frames, PassOnWhatTheDataSourceRemarks) {
  Json one = frame("[[1],[1]]");
  one["schema"]["meta"]["notices"] =
      Json::parse(R"([{"severity":"info","text":"metric might not be a counter"},7])");
  EXPECT_EQ(count_frames(Json::array({one})).notices, "metric might not be a counter");
}

}  // namespace
