#include "tunnelctl/client/preferences.h"

#include <gtest/gtest.h>

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;

std::string checked(std::string_view key, std::string_view text) {
  return check(*find_setting(key), text);
}

/// The environment of a test.
struct Variables {
  Values values{};
  const std::string* operator()(std::string_view name) const {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : &found->second;
  }
};

Resolved resolved(Sources sources) {
  auto result = resolve(sources);
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

TEST(Preferences, TakeWhatIsInRangeAndNothingElse) {
  struct Row {
    const char* key;
    const char* text;
    const char* kept;  // nullptr: refused
  };
  const Row rows[] = {
      {"profile", "stable", "stable"},
      {"profile", "low-bandwidth", "low-bandwidth"},
      {"profile", "Unstable", "unstable"},
      {"profile", "", nullptr},
      {"profile", "fast", nullptr},
      {"retry", "1", "1"},
      {"retry", "20", "20"},
      {"retry", "forever", "forever"},
      {"retry", "0", nullptr},
      {"retry", "21", nullptr},
      {"retry", "-1", nullptr},
      {"retry", "007", nullptr},
      {"retry", "5.0", nullptr},
      {"retry", "99999999999999999999", nullptr},
      {"retry", "", nullptr},
      {"base_delay", "100ms", "100ms"},
      {"base_delay", "2", "2s"},
      {"base_delay", "1500ms", "1500ms"},
      {"base_delay", "2000ms", "2s"},
      {"base_delay", "1m", "60s"},
      {"base_delay", "99ms", nullptr},
      {"base_delay", "61s", nullptr},
      {"base_delay", "0", nullptr},
      {"base_delay", "2 s", nullptr},
      {"base_delay", "-2s", nullptr},
      {"request_timeout", "1", "1s"},
      {"request_timeout", "600", "600s"},
      {"request_timeout", "10m", "600s"},
      {"request_timeout", "0", nullptr},
      {"request_timeout", "601", nullptr},
      {"request_timeout", "500ms", nullptr},
      {"request_timeout", "1500ms", nullptr},
      {"request_timeout", "soon", nullptr},
      {"request_timeout", "99999999999999999999s", nullptr},
      {"queue", "10", "10"},
      {"queue", "1000", "1000"},
      {"queue", "9", nullptr},
      {"queue", "1001", nullptr},
      {"queue", "100 ", nullptr},
      {"queue", "0x20", nullptr},
      {"compression", "on", "on"},
      {"compression", "off", "off"},
      {"compression", "true", "on"},
      {"compression", "false", "off"},
      {"compression", "1", nullptr},
      {"log_level", "error", "error"},
      {"log_level", "DEBUG", "debug"},
      {"log_level", "verbose", nullptr},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.key) + "=" + row.text);
    const auto wrong = checked(row.key, row.text);
    EXPECT_EQ(wrong.empty(), row.kept != nullptr) << wrong;
    if (row.kept != nullptr && wrong.empty()) {
      EXPECT_EQ(canonical(*find_setting(row.key), row.text), row.kept);
    }
  }
}

TEST(Preferences, SayTheRangeWithWhatIsWrong) {
  EXPECT_EQ(checked("queue", "5"), "must be a whole number from 10 to 1000");
  EXPECT_EQ(checked("retry", "often"), "must be a number from 1 to 20, or forever");
  EXPECT_EQ(checked("request_timeout", "0"), "must be whole seconds from 1s to 600s, such as 30s");
}

TEST(Preferences, WhatIsShownCanBeWrittenAgain) {
  for (const auto& profile : profiles()) {
    Values everything;
    const auto one = resolved({.options = {{"profile", std::string(profile.name)}}});
    for (const auto& value : one.values) everything[std::string(value.setting->key)] = value.text;
    const auto again = resolved({.file = everything});
    EXPECT_EQ(again.settings, profile.settings) << profile.name;
    for (const auto& value : again.values) EXPECT_EQ(value.text, one.value(value.setting->key).text);
  }
}

TEST(Preferences, FindAKeyWithHyphensAndNameTheOneThatWasMeant) {
  EXPECT_EQ(find_setting("request-timeout"), find_setting("request_timeout"));
  const auto typo = setting_named("qeue");
  ASSERT_FALSE(typo);
  EXPECT_EQ(typo.error().kind, Error::Kind::bad_input);
  EXPECT_NE(typo.error().message.find("did you mean queue?"), std::string::npos) << typo.error().message;
  const auto far = setting_named("colour-of-the-sky");
  ASSERT_FALSE(far);
  EXPECT_NE(far.error().message.find("there are: profile, retry"), std::string::npos) << far.error().message;
}

TEST(Preferences, WithoutAnybodyElseAreTheDefaults) {
  const auto result = resolved({});
  EXPECT_EQ(result.profile, Profile::stable);
  EXPECT_EQ(result.settings, ClientSettings{});
  EXPECT_EQ(result.values.size(), settings().size());
  for (const auto& value : result.values) {
    EXPECT_EQ(value.source, Source::built_in) << value.setting->key;
    EXPECT_EQ(value.from, "default");
    EXPECT_EQ(value.text, value.default_text);
    EXPECT_FALSE(result.chosen(value.setting->key));
  }
}

TEST(Preferences, TheNearerSourceWins) {
  // option > environment > file > profile > built in
  const Variables environment{{{"TUNNEL_QUEUE", "300"}}};
  Sources sources{.options = {{"queue", "400"}},
                  .variable = environment,
                  .file = {{"queue", "200"}, {"profile", "low-bandwidth"}},
                  .place = [](std::string_view key) { return "c.yaml:" + std::to_string(key.size()); }};
  struct Row {
    const char* text;
    Source source;
    const char* from;
  };
  const auto expect = [&](const Row& row) {
    const auto result = resolved(sources);
    const auto& value = result.value("queue");
    EXPECT_EQ(value.text, row.text);
    EXPECT_EQ(value.source, row.source);
    EXPECT_EQ(value.from, row.from);
    EXPECT_EQ(value.default_text, "100");
    EXPECT_EQ(std::to_string(result.settings.queue), row.text);
  };
  expect({"400", Source::option, "--queue"});
  sources.options.clear();
  expect({"300", Source::environment, "environment TUNNEL_QUEUE"});
  sources.variable = nullptr;
  expect({"200", Source::file, "c.yaml:5"});
  sources.file.erase("queue");
  expect({"50", Source::profile, "profile low-bandwidth"});
  sources.file.clear();
  expect({"100", Source::built_in, "default"});
}

TEST(Preferences, TheProfileItselfMayComeFromEachSource) {
  const Variables environment{{{"TUNNEL_PROFILE", "unstable"}}};
  Sources sources{
      .options = {{"profile", "stable"}}, .variable = environment, .file = {{"profile", "low-bandwidth"}}};
  EXPECT_EQ(resolved(sources).settings.retry, 10U);
  EXPECT_EQ(resolved(sources).value("retry").from, "profile stable");
  sources.options.clear();
  EXPECT_EQ(resolved(sources).settings.retry, 15U);
  sources.variable = nullptr;
  EXPECT_EQ(resolved(sources).settings.queue, 50U);
  EXPECT_TRUE(resolved(sources).chosen("profile"));
  EXPECT_FALSE(resolved(sources).chosen("queue"));
}

TEST(Preferences, AWrongVariableIsNamedAndNothingCounts) {
  const Variables environment{{{"TUNNEL_RETRY", "99"}}};
  const auto result = resolve({.variable = environment});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, Error::Kind::bad_input);
  EXPECT_EQ(result.error().message,
            "environment TUNNEL_RETRY: \"99\" must be a number from 1 to 20, or forever");
  // An option does not make it right, but it makes it of no account.
  EXPECT_TRUE(resolve({.options = {{"retry", "3"}}, .variable = environment}));
}

}  // namespace
}  // namespace tunnelctl::client
