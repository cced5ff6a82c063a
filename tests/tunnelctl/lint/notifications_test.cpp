#include <gmock/gmock.h>

#include <functional>

#include "tests/tunnelctl/lint/lint_support.h"
#include "tunnelctl/pack/routing.h"

namespace tunnelctl::lint {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

pack::Route route(std::vector<pack::Matcher> matchers, const std::string& receiver, bool go_on = false) {
  return {.receiver = receiver, .matchers = std::move(matchers), .go_on = go_on};
}

/// With routing by severity, an inhibition and a template that are all right.
pack::Pack with_alertmanager() {
  auto pack = good_pack();
  auto warning =
      alert("ABitMuch", "sum by (instance) (rate(tunnel_requests_total{status=\"error\"}[5m])) > 3");
  warning.labels["severity"] = "warning";
  warning.annotations["runbook_url"] = "https://runbooks.example/ABitMuch";
  pack.rule_files[0].groups[0].rules.push_back(warning);
  pack::Alertmanager all;
  all.path = "alertmanager.yaml";
  all.root.receiver = "team";
  all.root.routes = {route({{"severity", "=", "critical"}}, "pager"),
                     route({{"severity", "=~", "warning|info"}}, "team")};
  all.receivers = {
      {.name = "pager",
       .integrations = {{.kind = "pagerduty", .settings = {{"description", "{{ template \"mine\" . }}"}}}}},
      {.name = "team", .integrations = {{.kind = "slack", .settings = {{"send_resolved", true}}}}}};
  all.templates = {{.name = "t", .path = "t.tmpl", .text = "{{ define \"mine\" }}{{ .Status }}{{ end }}"}};
  all.document = {{"inhibit_rules", Json::array({{{"source_matchers", Json::array({"alertname=\"TooMany\""})},
                                                  {"target_matchers", Json::array({"severity=\"warning\""})},
                                                  {"equal", Json::array({"instance"})}}})}};
  pack.alertmanager = std::move(all);
  return pack;
}

TEST(NotificationLint, FindsNothingInGoodRoutes) {
  EXPECT_THAT(found(with_alertmanager()), IsEmpty());
}

struct Break {
  const char* finding;
  std::function<void(pack::Alertmanager&)> break_it;
};

TEST(NotificationLint, FindsWhatIsWrong) {
  const Break rows[] = {
      {"receiver-unused alertmanager/receiver/spare",
       [](auto& it) { it.receivers.push_back({.name = "spare"}); }},
      {"receiver-resolved alertmanager/receiver/team",
       [](auto& it) { it.receivers[1].integrations[0].settings = Json::object(); }},
      {"route-unreachable alertmanager/route.routes[1]",
       [](auto& it) { it.root.routes[0].matchers.clear(); }},
      {"route-unreachable alertmanager/route.routes[2]",
       [](auto& it) {
         it.root.routes.push_back(route({{"severity", "=", "warning"}, {"component", "=", "tls"}}, "team"));
       }},
      {"route-unreachable alertmanager/route.routes[1]",
       [](auto& it) {
         it.root.routes[1].matchers.push_back({"severity", "!~", "warning|info"});
       }},
      {"route-severity alertmanager/severity/warning", [](auto& it) { it.root.routes.pop_back(); }},
      {"route-repeat alertmanager/route", [](auto& it) { it.root.repeat_interval = "7m"; }},
      {"route-match alertmanager/route",
       [](auto& it) {
         it.document["route"]["routes"] = Json::array({{{"match", {{"severity", "critical"}}}}});
       }},
      {"template-undefined alertmanager/receiver/team",
       [](auto& it) { it.receivers[1].integrations[0].settings["text"] = "{{- template \"theirs\" . }}"; }},
      {"template-unused alertmanager/template/other",
       [](auto& it) { it.templates[0].text += "{{ define \"other\" }}{{ end }}"; }},
      {"inhibit-equal alertmanager/inhibit_rules[0]",
       [](auto& it) { it.document["inhibit_rules"][0].erase("equal"); }},
      {"inhibit-equal alertmanager/inhibit_rules[0]",
       [](auto& it) { it.document["inhibit_rules"][0]["equal"] = Json::array({"cluster"}); }},
      {"inhibit-self alertmanager/inhibit_rules[0]",
       [](auto& it) {
         it.document["inhibit_rules"][0]["target_matchers"] = Json::array({"severity=~\"critical|warning\""});
       }},
      {"inhibit-unmatched alertmanager/inhibit_rules[0]",
       [](auto& it) {
         it.document["inhibit_rules"][0]["source_matchers"] = Json::array({"alertname = \"Gone\""});
       }},
      {"secret-in-file alertmanager/file",
       [](auto& it) { it.document["global"]["smtp_auth_password"] = "Tr0ub4dor&3"; }},
      {"alertmanager-v1-api alertmanager/file",
       [](auto& it) { it.text = "# see http://alertmanager/api/v1/silences\n"; }},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.finding);
    auto pack = with_alertmanager();
    row.break_it(*pack.alertmanager);
    EXPECT_THAT(found(pack), Contains(row.finding));
  }
}

TEST(NotificationLint, LetsGoodThingsPass) {
  const std::function<void(pack::Alertmanager&)> rows[] = {
      // Takes everything, and hands on.
      [](auto& it) { it.root.routes.insert(it.root.routes.begin(), route({}, "team", true)); },
      [](auto& it) { it.root.repeat_interval = "12h"; },
      [](auto& it) {
        it.receivers[1].integrations[0].settings["text"] = "{{ template \"slack.default.text\" . }}";
      },
      [](auto& it) { it.document["global"]["smtp_auth_password_file"] = "secrets/smtp"; },
      // A label that only a matcher demands.
      [](auto& it) {
        it.document["inhibit_rules"][0]["source_matchers"].push_back("instance=~\".+\"");
        it.document["inhibit_rules"][0]["target_matchers"].push_back("instance=~\".+\"");
      },
  };
  for (const auto& row : rows) {
    auto pack = with_alertmanager();
    row(*pack.alertmanager);
    EXPECT_THAT(found(pack), IsEmpty());
  }
}

std::vector<std::string> receivers_of(const pack::Alertmanager& all, const pack::Texts& labels) {
  std::vector<std::string> result;
  for (const auto& taken : pack::routes_for(all, labels)) result.push_back(taken.receiver);
  return result;
}

TEST(Routing, GoesTheWayOfAlertmanager) {
  pack::Alertmanager all;
  all.root.receiver = "default";
  auto critical = route({{"severity", "=", "critical"}}, "pager");
  critical.routes = {route({{"component", "=~", "tls|auth"}}, "security", true),
                     route({{"component", "=", "tls"}}, "")};
  all.root.routes = {route({{"severity", "=~", "critical|warning"}}, "chat", true), critical,
                     route({{"severity", "=", "critical"}}, "never")};
  EXPECT_THAT(receivers_of(all, {}), ElementsAre("default"));
  EXPECT_THAT(receivers_of(all, {{"severity", "warning"}}), ElementsAre("chat"));
  EXPECT_THAT(receivers_of(all, {{"severity", "critical"}}), ElementsAre("chat", "pager"));
  EXPECT_THAT(receivers_of(all, {{"severity", "critical"}, {"component", "tls"}}),
              ElementsAre("chat", "security", "pager"));
  EXPECT_THAT(receivers_of(all, {{"severity", "supercritical"}}), ElementsAre("default"));
}

TEST(Routing, TakesAMissingLabelForAnEmptyOne) {
  EXPECT_TRUE(pack::matches({{"team", "=", ""}}, {}));
  EXPECT_TRUE(pack::matches({{"team", "!=", "a"}}, {}));
  EXPECT_FALSE(pack::matches({{"team", "=~", ".+"}}, {}));
  EXPECT_TRUE(pack::matches({{"team", "=~", "(?i)ops"}}, {{"team", "OPS"}}));
  EXPECT_FALSE(pack::matches({{"team", "=~", "("}}, {{"team", "ops"}}));
}

}  // namespace
}  // namespace tunnelctl::lint
