#include "tunnelctl/incident/incident.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace std::chrono_literals;
using namespace tunnelctl::incident;
using testing::HasSubstr;
using Kind = Error::Kind;

TEST(Severity, IsReadByTheNamesThatPeopleUse) {
  struct Row {
    const char* word;
    Severity severity;
  };
  const Row rows[] = {
      {"critical", Severity::critical}, {"CRITICAL", Severity::critical}, {"error", Severity::error},
      {"major", Severity::error},       {"high", Severity::error},        {"warning", Severity::warning},
      {"minor", Severity::warning},     {"Medium", Severity::warning},    {"info", Severity::info},
      {"low", Severity::info},          {"pending", Severity::info},
  };
  for (const auto& row : rows) {
    const auto read = severity_of(row.word);
    ASSERT_TRUE(read) << row.word;
    EXPECT_EQ(*read, row.severity) << row.word;
  }
  for (const auto severity : {Severity::critical, Severity::error, Severity::warning, Severity::info})
    EXPECT_EQ(severity_of(name_of(severity)), severity);
  for (const char* wrong : {"", "urgent", "crit", "1", "critical "}) {
    const auto read = severity_of(wrong);
    ASSERT_FALSE(read) << wrong;
    EXPECT_EQ(read.error().kind, Kind::bad_input);
    EXPECT_THAT(read.error().message, HasSubstr("critical, error"));
  }
}

TEST(Status, IsActiveOrResolved) {
  EXPECT_EQ(status_of("active"), Status::active);
  EXPECT_EQ(status_of("Resolved"), Status::resolved);
  EXPECT_EQ(status_of("open"), Status::active);
  EXPECT_FALSE(status_of("done"));
}

TEST(Label, IsAPairOrOneWord) {
  EXPECT_EQ(label_of("service=api"), (Label{"service", "api"}));
  EXPECT_EQ(label_of("query=a=b"), (Label{"query", "a=b"}));
  EXPECT_EQ(label_of("production"), (Label{"tag", "production"}));
  for (const std::string& wrong :
       {std::string(), std::string("=x"), std::string("x="), std::string("a b=c"), std::string("a=\x1b[2J"),
        std::string("a=line\nbreak"), "a=" + std::string(256, 'x'), std::string(65, 'k') + "=v"}) {
    const auto read = label_of(wrong);
    ASSERT_FALSE(read) << wrong;
    EXPECT_EQ(read.error().kind, Kind::bad_input);
    EXPECT_EQ(read.error().message.find('\x1b'), std::string::npos);
  }
}

TEST(Label, OfAKeyReplacesTheOneBeforeButTagsAddUp) {
  std::vector<Label> labels{{"service", "api"}, {"tag", "a"}};
  add_label(labels, {"service", "web"});
  add_label(labels, {"tag", "b"});
  add_label(labels, {"tag", "b"});
  EXPECT_EQ(labels, (std::vector<Label>{{"service", "web"}, {"tag", "a"}, {"tag", "b"}}));
  EXPECT_TRUE(has_labels(labels, {}));
  EXPECT_TRUE(has_labels(labels, {{"tag", "b"}, {"service", "web"}}));
  EXPECT_FALSE(has_labels(labels, {{"tag", "b"}, {"service", "api"}}));
}

TEST(DedupKey, OfATitleIsTheSameForTheSameWords) {
  EXPECT_EQ(dedup_key_of("The tunnel is down"), "manual:the-tunnel-is-down");
  EXPECT_EQ(dedup_key_of("  the TUNNEL -- is down! "), "manual:the-tunnel-is-down");
  EXPECT_NE(dedup_key_of("Tür"), dedup_key_of("Tor"));
  EXPECT_NE(dedup_key_of("!!"), dedup_key_of("??")) << "without letters too";
  EXPECT_EQ(dedup_key_of("!!"), dedup_key_of("!!"));
}

Incident sample() {
  Incident incident;
  incident.id = "inc-7";
  incident.backend = "local";
  incident.dedup_key = "breaker:api";
  incident.title = "api fails";
  incident.severity = Severity::error;
  incident.status = Status::resolved;
  incident.drill = true;
  incident.room_prefix = "incident";
  incident.labels = {{"service", "api"}, {"tag", "a"}};
  incident.attachments = {{"https://grafana.example/d/x", "dashboard"}};
  incident.opened = Time(1'770'000'000'123ms);
  incident.resolved = Time(1'770'000'060'000ms);
  incident.summary = "**what**";
  incident.notes = {{.key = "k", .at = incident.opened, .body = "b", .author = "ann", .kind = "note"}};
  return incident;
}

TEST(IncidentJson, ComesBackAsItWas) {
  const auto json = to_json(sample());
  const auto back = of_json(json);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_json(*back), json);
  EXPECT_EQ(json["opened"], "2026-02-02T02:40:00.123Z");
  EXPECT_EQ(json["labels"][0], (Json{{"key", "service"}, {"value", "api"}}));
}

TEST(IncidentJson, NamesTheMemberThatIsWrong) {
  struct Row {
    const char* member;
    Json value;
  };
  const Row rows[] = {{"id", 7},           {"title", nullptr},    {"severity", "loud"}, {"status", ""},
                      {"opened", "later"}, {"resolved", "later"}, {"notes", "none"}};
  for (const auto& row : rows) {
    auto json = to_json(sample());
    json[row.member] = row.value;
    const auto back = of_json(json);
    ASSERT_FALSE(back) << row.member;
    EXPECT_EQ(back.error().kind, Kind::unavailable);
    EXPECT_THAT(back.error().message, HasSubstr(row.member));
  }
  EXPECT_FALSE(of_json(Json::array()));
}

}  // namespace
