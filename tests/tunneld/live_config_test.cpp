#include "tunneld/live_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

namespace tunneld {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

constexpr const char* kFile = R"(drain_timeout: 20s
threads: 2
tiers:
  free:
    requests_per_minute: 60
)";

struct LiveConfiguration : testing::Test {
  LiveConfiguration() {
    std::string name = "/tmp/tunneld-live-XXXXXX";
    folder = ::mkdtemp(name.data());
    write(kFile);
  }
  ~LiveConfiguration() override { std::filesystem::remove_all(folder); }

  void write(const std::string& text) const { std::ofstream(folder / "tunneld.yaml") << text; }
  std::filesystem::path overlay() const { return folder / "config_overlay.json"; }
  std::string overlay_text() const {
    std::ostringstream text;
    text << std::ifstream(overlay()).rdbuf();
    return text.str();
  }
  Result<std::unique_ptr<LiveConfig>> try_open() const {
    return LiveConfig::open({folder / "tunneld.yaml", {"tiers.free.queue=50"}}, overlay());
  }
  std::unique_ptr<LiveConfig> open() {
    auto opened = try_open();
    if (!opened) throw std::runtime_error(opened.error().message);
    (*opened)->on_change([this](LiveConfig::Step& step) -> Result<void> {
      ++applied;
      hot = step.hot;
      cold = step.cold;
      if (!apply_fails.empty()) return fail(apply_kind, apply_fails);
      if (take_upstreams && std::erase(step.cold, "upstreams") > 0)
        step.next.upstreams = step.wanted.upstreams;
      return {};
    });
    return std::move(*opened);
  }
  static std::string match(const LiveConfig& live) { return '"' + live.etag() + '"'; }

  std::filesystem::path folder;
  int applied = 0;
  std::vector<std::string> hot, cold;
  std::string apply_fails;
  Error::Kind apply_kind = Error::Kind::unavailable;
  bool take_upstreams = false;
};

TEST_F(LiveConfiguration, ShowsEveryValueWithItsSourceAndWhetherItIsHot) {
  const auto live = open();
  const auto values = live->get()["values"];
  EXPECT_EQ(values["drain_timeout"]["value"], "20s");
  EXPECT_THAT(values["drain_timeout"]["from"].get<std::string>(), testing::EndsWith("tunneld.yaml:1"));
  EXPECT_EQ(values["drain_timeout"]["hot"], true);
  EXPECT_EQ(values["tiers.free.queue"]["from"], "--set");
  EXPECT_EQ(values["threads"]["hot"], false);
  EXPECT_EQ(values["request.slow"]["from"], "default");
  EXPECT_TRUE(values["upstreams"]["value"].is_array());
  EXPECT_EQ(values["upstreams"]["hot"], false);
  EXPECT_EQ(live->get()["etag"], live->etag());
}

TEST_F(LiveConfiguration, AChangeIsAppliedKeptAndTold) {
  auto live = open();
  const auto before = live->etag();
  const auto done = live->put(match(*live), Json{{"tiers.free.requests_per_minute", 150},
                                                 {"drain_timeout", "40s"},
                                                 {"allowed_origins", {"https://a.example"}}});
  ASSERT_TRUE(done) << done.error().refusal.message;
  EXPECT_THAT(done->changes,
              testing::UnorderedElementsAre(testing::Pair("tiers.free.requests_per_minute", "60 -> 150"),
                                            testing::Pair("drain_timeout", "20s -> 40s"),
                                            testing::Pair("allowed_origins", " -> https://a.example")));
  EXPECT_NE(done->etag, before);
  EXPECT_EQ(done->etag, live->etag());
  EXPECT_EQ(live->values().limits.rates.per_minute[0], 150U);
  EXPECT_EQ(live->values().drain_timeout, 40s);
  EXPECT_EQ(live->get()["values"]["drain_timeout"]["from"], "admin");
  EXPECT_EQ(applied, 1);
  struct stat about {};
  ASSERT_EQ(::stat(overlay().c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777U, 0600U);

  live.reset();
  live = open();
  EXPECT_EQ(live->values().drain_timeout, 40s) << "a restart forgot it";
  EXPECT_THAT(live->values().allowed_origins, ElementsAre("https://a.example"));
}

TEST_F(LiveConfiguration, WinsOverTheCommandLineToo) {
  auto live = open();
  EXPECT_EQ(live->values().tiers[0].queue, 50U);
  ASSERT_TRUE(live->put(match(*live), Json{{"tiers.free.queue", 60}}));
  EXPECT_EQ(live->values().tiers[0].queue, 60U);
  ASSERT_TRUE(live->put(match(*live), Json{{"tiers.free.queue", nullptr}}));
  EXPECT_EQ(live->values().tiers[0].queue, 50U);
  EXPECT_EQ(live->get()["values"]["tiers.free.queue"]["from"], "--set");
}

TEST_F(LiveConfiguration, AChangeNeedsToKnowWhatItChanges) {
  auto live = open();
  const Json body{{"drain_timeout", "40s"}};
  const auto status = [&](const std::optional<std::string>& if_match) {
    const auto done = live->put(if_match, body);
    return done ? 200U : done.error().refusal.http_status.value_or(0);
  };
  const auto first = match(*live);
  EXPECT_EQ(status(std::nullopt), 428U);
  EXPECT_EQ(status(""), 412U);
  EXPECT_EQ(status("\"nonsense\""), 412U);
  EXPECT_EQ(status(live->etag()), 412U) << "without its quotes it is no entity tag";
  EXPECT_EQ(status("W/" + first), 412U) << "a weak tag";
  EXPECT_EQ(applied, 0);
  EXPECT_FALSE(std::filesystem::exists(overlay()));
  EXPECT_EQ(status("\"other\" , " + first), 200U);
  EXPECT_EQ(status(first), 412U) << "somebody else was faster";
  EXPECT_EQ(status("*"), 200U);
}

TEST_F(LiveConfiguration, BadChangesNameEveryFaultAndChangeNothing) {
  struct Row {
    const char* body;
    unsigned status;
    std::vector<std::string> details;
  };
  const Row rows[] = {
      {"7", 400, {"body"}},
      {"[]", 400, {"body"}},
      {"null", 400, {"body"}},
      {R"({"drain_timeout":"40s","drain_timeuot":"1s"})", 400, {"did you mean drain_timeout?"}},
      {R"({"tiers.free.queue":5})", 400, {"tiers.free.queue: \"5\" is out of range"}},
      {R"({"tiers.free.queue":5,"request.slow":"x","drain_timeout":"40s"})",
       400,
       {"request.slow", "tiers.free.queue"}},
      {R"({"drain_timeout":40})", 400, {"drain_timeout"}},
      {R"({"drain_timeout":{"seconds":40}})", 400, {"drain_timeout: is an object"}},
      {R"({"drain_timeout":1e99})", 400, {"drain_timeout: is not a whole number"}},
      {R"({"allowed_origins":["https://a.example","nonsense"]})", 400, {"allowed_origins"}},
      {R"({"threads":4})", 409, {"threads: takes effect only after a restart"}},
      {R"({"upstreams":[]})", 409, {"upstreams: is a list"}},
      {R"({"threads":4,"drain_timeout":"40s"})", 409, {"threads"}},
      {R"({"threads":4,"nothing":1})", 400, {"nothing", "threads"}},
      {R"({"tiers.free.queue":5,"nothing":1})", 400, {"nothing", "tiers.free.queue: \"5\" is out of range"}},
      {R"({"threads":null})", 409, {"threads"}},
      {R"({"request":{"slow":"1s"}})", 400, {"request"}},
  };
  auto live = open();
  const auto before = live->get();
  for (const auto& row : rows) {
    SCOPED_TRACE(row.body);
    const auto done = live->put(match(*live), Json::parse(row.body));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().refusal.http_status, row.status);
    EXPECT_EQ(done.error().refusal.code, tunnel::Code::bad_request);
    ASSERT_EQ(done.error().details.size(), row.details.size());
    for (std::size_t i = 0; i < row.details.size(); ++i)
      EXPECT_THAT(done.error().details[i], HasSubstr(row.details[i]));
    EXPECT_EQ(live->get(), before);
  }
  EXPECT_EQ(applied, 0);
  EXPECT_FALSE(std::filesystem::exists(overlay()));
}

TEST_F(LiveConfiguration, AnEmptyChangeChangesNothing) {
  auto live = open();
  const auto before = live->etag();
  const auto done = live->put("*", Json::object());
  ASSERT_TRUE(done);
  EXPECT_TRUE(done->changes.empty());
  EXPECT_EQ(done->etag, before);
  EXPECT_FALSE(std::filesystem::exists(overlay()));
}

TEST_F(LiveConfiguration, AChangeThatCannotBeAppliedIsForgotten) {
  auto live = open();
  ASSERT_TRUE(live->put("*", Json{{"request.slow", "1s"}}));
  const auto kept = overlay_text();
  const auto before = live->get();
  apply_fails = "no";
  const auto done = live->put("*", Json{{"drain_timeout", "40s"}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().refusal.http_status, 503U);
  EXPECT_EQ(live->get(), before);
  EXPECT_EQ(live->values().drain_timeout, 20s);
  EXPECT_EQ(overlay_text(), kept);
  apply_kind = Error::Kind::bad_input;
  EXPECT_EQ(live->put("*", Json{{"drain_timeout", "40s"}}).error().refusal.http_status, 400U);
}

TEST_F(LiveConfiguration, AChangeThatCannotBeKeptIsNotMade) {
  auto live = open();
  // Root may write anywhere: a folder in the file's place stops it too.
  std::filesystem::create_directory(overlay());
  std::ofstream(overlay() / "x") << "x";
  const auto done = live->put("*", Json{{"drain_timeout", "40s"}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().refusal.http_status, 503U);
  EXPECT_EQ(live->values().drain_timeout, 20s);
  EXPECT_EQ(applied, 0);
}

TEST_F(LiveConfiguration, AResetGoesBackToTheSources) {
  auto live = open();
  ASSERT_TRUE(live->put("*", Json{{"drain_timeout", "40s"}, {"request.slow", "1s"}}));
  const auto one = live->reset(std::nullopt, {"request.slow", "threads"});
  ASSERT_TRUE(one);
  EXPECT_THAT(one->changes, ElementsAre(testing::Pair("request.slow", "1s -> 5s")));
  EXPECT_EQ(live->values().drain_timeout, 40s);
  EXPECT_EQ(live->reset("\"stale\"", {}).error().refusal.http_status, 412U);
  const auto unknown = live->reset(std::nullopt, {"drain_timeout", "nothing"});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().refusal.http_status, 400U);
  EXPECT_EQ(live->values().drain_timeout, 40s);
  const auto all = live->reset(std::nullopt, {});
  ASSERT_TRUE(all);
  EXPECT_THAT(all->changes, ElementsAre(testing::Pair("drain_timeout", "40s -> 20s")));
  EXPECT_EQ(open()->values().drain_timeout, 20s);
}

TEST_F(LiveConfiguration, AReloadAppliesHotSettingsAndTellsColdOnes) {
  auto live = open();
  write("drain_timeout: 25s\nthreads: 3\n");
  const auto done = live->reload();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_THAT(done->hot, testing::UnorderedElementsAre("drain_timeout", "tiers.free.requests_per_minute"));
  EXPECT_THAT(done->cold, ElementsAre("threads"));
  EXPECT_EQ(live->values().drain_timeout, 25s);
  EXPECT_EQ(live->values().threads, 2U) << "a cold setting is in force half";
  const auto shown = live->get()["values"]["threads"];
  EXPECT_EQ(shown["value"], 2);
  EXPECT_EQ(shown["afterRestart"], 3);
  EXPECT_FALSE(live->get()["values"]["drain_timeout"].contains("afterRestart"));
  // The same file again: still waiting for the restart, and nothing else.
  const auto again = live->reload();
  ASSERT_TRUE(again);
  EXPECT_THAT(again->hot, testing::IsEmpty());
  EXPECT_THAT(again->cold, ElementsAre("threads"));
}

TEST_F(LiveConfiguration, AReloadKeepsWhatTheAdminPagesSet) {
  auto live = open();
  ASSERT_TRUE(live->put("*", Json{{"drain_timeout", "40s"}}));
  write("drain_timeout: 25s\n");
  const auto done = live->reload();
  ASSERT_TRUE(done);
  EXPECT_EQ(live->values().drain_timeout, 40s);
  ASSERT_TRUE(live->reset(std::nullopt, {}));
  EXPECT_EQ(live->values().drain_timeout, 25s) << "back to the file as it was read last";
}

TEST_F(LiveConfiguration, AChangeDoesNotReadTheFileBehindTheOperatorsBack) {
  auto live = open();
  write("drain_timeout: 25s\nrequest:\n  slow: 9s\n");
  const auto done = live->put("*", Json{{"tiers.free.queue", 70}});
  ASSERT_TRUE(done);
  EXPECT_THAT(done->changes, ElementsAre(testing::Pair("tiers.free.queue", "50 -> 70")));
  EXPECT_EQ(live->values().drain_timeout, 20s);
  EXPECT_EQ(live->values().request.slow, 5s);
}

TEST_F(LiveConfiguration, ABadReloadChangesNothing) {
  auto live = open();
  const auto before = live->get();
  write("drain_timeout: 25s\nthreds: 3\n");
  const auto done = live->reload();
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("tunneld.yaml:2: threds: unknown key"));
  EXPECT_EQ(live->get(), before);
  apply_fails = "no certificate";
  write("drain_timeout: 25s\n");
  EXPECT_EQ(live->reload().error().message, "no certificate");
  EXPECT_EQ(live->get(), before);
  std::filesystem::remove(folder / "tunneld.yaml");
  EXPECT_FALSE(live->reload());
  EXPECT_EQ(live->get(), before);
}

TEST_F(LiveConfiguration, WhatTheDaemonTakesOverAtOnceNeedsNoRestart) {
  auto live = open();
  take_upstreams = true;
  write("upstreams:\n  - name: lab\n    address: 192.0.2.1:22\n    user: t\n    trust_on_first_use: true\n");
  const auto done = live->reload();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_THAT(done->cold, testing::Not(testing::Contains("upstreams")));
  ASSERT_EQ(live->values().upstreams.size(), 1U);
  EXPECT_EQ(live->get()["values"]["upstreams"]["value"][0]["name"]["value"], "lab");
  EXPECT_FALSE(live->get()["values"]["upstreams"].contains("afterRestart"));
}

TEST_F(LiveConfiguration, ABrokenOverlayStopsTheStartAndSaysWhatToDo) {
  const char* const texts[] = {
      "",
      "{",
      "[]",
      "{}",
      R"({"version":2,"values":{}})",
      R"({"version":1,"values":[]})",
      R"({"version":1,"values":{},"more":1})",
      R"({"version":1,"values":{"drain_timeout":"40s"}})",
      R"({"version":1,"values":{"drain_timeout":[40]}})",
      R"({"version":1,"values":{"drain_timeout":["40"]}})",
      R"({"version":1,"values":{"drain_timeout":["40s","50s"]}})",
      R"({"version":1,"values":{"nothing":["40s"]}})",
      R"({"version":1,"values":{"threads":["4"]}})",
      R"({"version":1,"values":{"upstreams":[]}})",
      R"({"version":1,"values":{"drain_timeout":["40s"],"drain_timeout":["41s"]}})",
  };
  for (const auto* text : texts) {
    SCOPED_TRACE(text);
    std::ofstream(overlay()) << text;
    const auto opened = try_open();
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(opened.error().message, testing::StartsWith(overlay().string() + ": "));
    EXPECT_THAT(opened.error().message, HasSubstr("remove it"));
  }
  std::ofstream(overlay()) << R"({"version":1,"values":{"drain_timeout":["40s"]}})";
  EXPECT_TRUE(try_open());
}

TEST_F(LiveConfiguration, TheValuesStayWhereTheyAre) {
  auto live = open();
  const Config& values = live->values();
  ASSERT_TRUE(live->put("*", Json{{"drain_timeout", "40s"}}));
  ASSERT_TRUE(live->reload());
  EXPECT_EQ(&live->values(), &values);
  EXPECT_EQ(values.drain_timeout, 40s);
}

}  // namespace
}  // namespace tunneld
