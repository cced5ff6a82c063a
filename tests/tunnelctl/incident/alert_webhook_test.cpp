#include "tunnelctl/incident/alert_webhook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace tunnelctl::incident;
using testing::HasSubstr;

namespace {

/// As Alertmanager 0.25 posts it.
constexpr const char* kAlertmanager = R"({
  "receiver": "watch", "status": "firing",
  "alerts": [
    {"status": "firing",
     "labels": {"alertname": "TunnelDown", "instance": "a", "severity": "critical"},
     "annotations": {"summary": "down", "runbook_url": "https://runbooks.example/TunnelDown"},
     "startsAt": "2026-01-02T03:04:05.678Z", "endsAt": "0001-01-01T00:00:00Z",
     "generatorURL": "http://prometheus:9090/graph?g0.expr=up", "fingerprint": "0a1b2c3d4e5f6071"},
    {"status": "resolved",
     "labels": {"alertname": "TunnelDown", "instance": "b", "severity": "critical"},
     "annotations": {}, "startsAt": "2026-01-02T03:00:00Z", "endsAt": "2026-01-02T03:04:00Z",
     "generatorURL": "", "fingerprint": "1a1b2c3d4e5f6071"}],
  "groupLabels": {"alertname": "TunnelDown"},
  "commonLabels": {"alertname": "TunnelDown", "severity": "critical"},
  "commonAnnotations": {},
  "externalURL": "http://alertmanager:9093", "version": "4",
  "groupKey": "{}:{alertname=\"TunnelDown\"}", "truncatedAlerts": 3})";

/// As Grafana 12 posts it.
constexpr const char* kGrafana = R"({
  "receiver": "watch", "status": "firing",
  "alerts": [
    {"status": "firing", "labels": {"alertname": "Errors", "grafana_folder": "Tunnel"},
     "annotations": {"summary": "many"}, "startsAt": "2026-01-02T03:04:05+01:00",
     "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "https://grafana.example/alerting/grafana/u/view",
     "fingerprint": "f1", "silenceURL": "https://grafana.example/alerting/silence/new",
     "dashboardURL": "https://grafana.example/d/u", "panelURL": "https://grafana.example/d/u?viewPanel=4",
     "values": {"A": 7}, "valueString": "[ var='A' value=7 ]"}],
  "groupLabels": {"alertname": "Errors", "grafana_folder": "Tunnel"}, "commonLabels": {"alertname": "Errors"},
  "commonAnnotations": {"summary": "many"}, "externalURL": "https://grafana.example/", "version": "1",
  "groupKey": "{}:{alertname=\"Errors\"}", "truncatedAlerts": 0, "orgId": 1,
  "title": "[FIRING:1] Errors", "state": "alerting", "message": "text"})";

std::string why_not(std::string_view body) {
  const auto parsed = parse_alerts("alertmanager", body);
  return parsed ? "" : parsed.error().message;
}

}  // namespace

TEST(AlertWebhook, AlertmanagersBodyIsRead) {
  const auto group = parse_alerts("alertmanager", kAlertmanager);
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->origin, "alertmanager");
  EXPECT_EQ(group->key, R"({}:{alertname="TunnelDown"})");
  EXPECT_EQ(group->name, "TunnelDown");
  EXPECT_TRUE(group->firing);
  EXPECT_EQ(group->truncated, 3u);
  EXPECT_EQ(group->url, "http://alertmanager:9093");
  ASSERT_EQ(group->alerts.size(), 2u);
  EXPECT_EQ(group->alerts[0].id, "0a1b2c3d4e5f6071");
  EXPECT_EQ(value_of(group->alerts[0].labels, "instance"), "a");
  EXPECT_EQ(value_of(group->alerts[0].annotations, "summary"), "down");
  EXPECT_EQ(tunnelctl::times::text(group->alerts[0].starts), "2026-01-02T03:04:05.678Z");
  EXPECT_EQ(group->alerts[0].url, "http://prometheus:9090/graph?g0.expr=up");
  EXPECT_FALSE(group->alerts[1].firing);
}

TEST(AlertWebhook, GrafanasBodyIsReadAndItsPanelIsTheAddress) {
  const auto group = parse_alerts("grafana", kGrafana);
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->name, "Errors");
  EXPECT_EQ(group->alerts[0].url, "https://grafana.example/d/u?viewPanel=4");
  EXPECT_EQ(tunnelctl::times::text(group->alerts[0].starts), "2026-01-02T02:04:05.000Z");
}

TEST(AlertWebhook, WhatIsWrongIsNamedAndNotQuoted) {
  struct Row {
    const char* body;
    const char* says;
  };
  const Row rows[] = {
      {"", "the body is no JSON"},
      {"<html>", "the body is no JSON"},
      {"[]", "no JSON object"},
      {"null", "no JSON object"},
      {"{}", "\"status\" is neither firing nor resolved"},
      {R"({"status":"firing"})", "\"alerts\" is missing"},
      {R"({"status":"firing","alerts":{}})", "\"alerts\" is missing, or no list"},
      {R"({"status":"firing","alerts":[]})", "\"alerts\" is empty"},
      {R"({"status":"firing","alerts":[7]})", "\"alerts[0]\" is no object"},
      {R"({"status":"firing","alerts":[{"status":"secret"}]})", "\"alerts[0].status\" is neither"},
      {R"({"status":"firing","alerts":[{"status":"firing","labels":[]}]})",
       "\"alerts[0].labels\" is no object"},
      {R"({"status":"firing","alerts":[{"status":"firing","labels":{"a":7}}]})",
       "has a value that is no text"},
      {R"({"status":"firing","groupKey":7,"alerts":[]})", "\"groupKey\" is no text"},
      {R"({"status":"firing","truncatedAlerts":-1,"alerts":[]})", "\"truncatedAlerts\" is no count"},
      {R"({"status":"firing","status":"resolved","alerts":[]})", "the body is no JSON"},
      {"{\"status\":\"firing\",\"alerts\":[{\"status\":\"firing\",\"labels\":{\"a\":\"\xff\"}}]}", "no JSON"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.body);
    EXPECT_THAT(why_not(row.body), HasSubstr(row.says));
    EXPECT_THAT(why_not(row.body), testing::Not(HasSubstr("secret")));
  }
  EXPECT_THAT(why_not(std::string(kMaxWebhook + 1, ' ')), HasSubstr("larger than"));
  EXPECT_THAT(why_not(std::string(100'000, '[')), HasSubstr("no JSON"));
}

TEST(AlertWebhook, WithoutAFingerprintItsLabelsAreItsName) {
  const auto one = [](const char* value) {
    return parse_alerts("grafana",
                        std::string(R"({"status":"firing","alerts":[{"status":"firing","labels":{"a":")") +
                            value + R"("}}]})")
        ->alerts[0]
        .id;
  };
  EXPECT_EQ(one("x"), one("x"));
  EXPECT_NE(one("x"), one("y"));
}

TEST(AlertWebhook, OnlyWebAddressesAreKept) {
  for (const char* url : {"javascript:alert(1)", "https://x/\\u0007", "ftp://x", "https://a b", "//x"}) {
    SCOPED_TRACE(url);
    const auto group = parse_alerts("grafana", std::string(R"({"status":"firing","externalURL":")") + url +
                                                   R"(","alerts":[{"status":"firing"}]})");
    ASSERT_TRUE(group);
    EXPECT_EQ(group->url, "");
  }
}

TEST(AlertWebhook, ManyAndLongLabelsAreCut) {
  std::string labels;
  for (int n = 0; n < 100; ++n)
    labels += (n ? "," : "") + ("\"l" + std::to_string(n)) + "\":\"" + std::string(5000, 'x') + "\"";
  const auto group = parse_alerts(
      "grafana", R"({"status":"firing","alerts":[{"status":"firing","labels":{)" + labels + "}}]}");
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->alerts[0].labels.size(), 40u);
  EXPECT_LE(group->alerts[0].labels[0].value.size(), 1100u);
}

TEST(AlertWebhook, GrafanasSignatureIsChecked) {
  // printf '%s' '{}' | openssl dgst -sha256 -hmac key; the same of '1767348000:{}'.
  const Secret key(std::string("key"));
  const Time now(std::chrono::seconds(1'767'348'000));
  const char* alone = "a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032";
  EXPECT_FALSE(is_signed("{}", "", "", key, now));
  EXPECT_FALSE(is_signed("{}", std::string(64, '0'), "", key, now));
  EXPECT_TRUE(is_signed("{}", alone, "", key, now));
  EXPECT_FALSE(is_signed("{ }", alone, "", key, now));
  EXPECT_FALSE(is_signed("{}", alone, "", Secret(std::string("other")), now));
  EXPECT_FALSE(is_signed("{}", alone, "", Secret(), now));
  EXPECT_FALSE(is_signed("{}", alone, "1767348000", key, now)) << "signed without the time";
  const char* timed = "4f8ede351758f1d402ee3d23cc39ae27fa968aabc065c68e38feb38fbedc9a3c";
  EXPECT_TRUE(is_signed("{}", timed, "1767348000", key, now));
  EXPECT_TRUE(is_signed("{}", timed, "1767348000", key, now + std::chrono::minutes(5)));
  EXPECT_FALSE(is_signed("{}", timed, "1767348000", key, now + std::chrono::minutes(6))) << "replayed";
  EXPECT_FALSE(is_signed("{}", timed, "1767347999", key, now));
  for (const char* time : {"x", "-1", "99999999999999999999", " 1767348000", "1767348000 "})
    EXPECT_FALSE(is_signed("{}", timed, time, key, now)) << time;
}
