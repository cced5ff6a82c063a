#include <gmock/gmock.h>

#include <functional>

#include "tests/tunnelctl/lint/lint_support.h"
#include "tunnelctl/lint/shape.h"

namespace tunnelctl::lint {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

struct Break {
  const char* check;
  std::function<void(pack::Rule&)> break_it;
};

TEST(RuleLint, FindsWhatIsWrongWithAnAlert) {
  const Break rows[] = {
      {"alert-labels", [](auto& it) { it.labels.erase("component"); }},
      {"alert-severity", [](auto& it) { it.labels["severity"] = "urgent"; }},
      {"alert-annotations", [](auto& it) { it.annotations.erase("runbook_url"); }},
      {"alert-description-value", [](auto& it) { it.annotations["summary"] = "Too many."; }},
      {"alert-description-value",
       [](auto& it) { it.annotations["summary"] = "{{ $labels.instance }} has too many"; }},
      {"alert-dashboard-link", [](auto& it) { it.annotations["panel_id"] = "99"; }},
      {"alert-dashboard-link", [](auto& it) { it.annotations["dashboard_uid"] = "gone"; }},
      {"alert-dashboard-link",
       [](auto& it) {
         it.annotations.erase("dashboard_uid");
         it.annotations.erase("panel_id");
       }},
      {"runbook-missing", [](auto& it) { it.annotations["runbook_url"] = "runbooks/tunnel/Gone.md"; }},
      {"alert-template", [](auto& it) { it.annotations["description"] = "{{ $value"; }},
      {"alert-template", [](auto& it) { it.annotations["dashboard_url"] = "{{ grafana_dashboard_url }}"; }},
      {"alert-template-label", [](auto& it) { it.annotations["description"] = "{{ $labels.user_tier }}"; }},
      {"alert-label-value", [](auto& it) { it.labels["how_many"] = "{{ $value }}"; }},
      {"alert-for-missing",
       [](auto& it) {
         it.expr = "up{job=\"tunneld\"} == 0";
         it.hold = {};
       }},
      {"alert-absent-for",
       [](auto& it) {
         it.expr = "absent(up{job=\"tunneld\", instance=\"a\"}) > 0";
         it.hold = std::chrono::seconds(15);
       }},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.check);
    auto pack = good_pack();
    row.break_it(rule_of(pack));
    EXPECT_THAT(found(pack), Contains(row.check + std::string(" rule/TooMany")));
  }
}

TEST(RuleLint, LetsGoodAlertsPass) {
  const std::function<void(pack::Rule&)> rows[] = {
      [](auto& it) { it.hold = {}; },  // the range of five minutes holds
      [](auto& it) {
        it.expr = "up{job=\"tunneld\"} == 0";
        it.annotations["summary"] = "{{ $labels.instance }} is down";  // 0 says nothing more
      },
      [](auto& it) {
        it.expr = "absent(up{job=\"tunneld\", instance=\"a\"}) > 0";
        it.annotations["summary"] = "{{ $labels.instance }} is gone";
      },
      [](auto& it) {
        it.annotations["description"] = "{{ if gt $value 9.5 }}{{ printf \"%.1f}\" $value }}{{ end }}";
      },
      [](auto& it) { it.annotations["runbook_url"] = "https://runbooks.example/TooMany"; },
  };
  for (const auto& row : rows) {
    auto pack = good_pack();
    row(rule_of(pack));
    auto all = found(pack);
    std::erase(all, "metric-unused contract/tunnel_requests_total");
    std::erase(all, "runbook-orphan runbook/TooMany");
    EXPECT_THAT(all, IsEmpty());
  }
}

struct Expression {
  const char* expr;
  const char* finding;  // "" if there is none
};

TEST(RuleLint, JudgesExpressions) {
  const Expression rows[] = {
      {"sum by (instance) (rate(tunnel_requests_total[5m]))", "alert-comparison"},
      {"sum by (instance) (rate(tunnel_requests_total[5m])) > bool 7", "alert-comparison"},
      {"sum by (instance) (rate(tunnel_requests_total[5m])) >= 0", "alert-comparison"},
      {"sum by (instance) (rate(tunnel_requests_total[5m])) > 7 or vector(1)", "alert-comparison"},
      {"sum by (instance) (rate(tunnel_requests_total[5m])) and on (instance) up == 1", ""},
      {"up unless on (instance) sum by (instance) (rate(tunnel_requests_total[5m]))", ""},
      {"max by (instance) (up > 0)", ""},
      {"up > 1", "impossible-comparison"},
      {"up == 2", "impossible-comparison"},
      {"count(up) < 1", "impossible-comparison"},
      {"sum by (instance) (rate(tunnel_requests_total[5m])) < 0", "impossible-comparison"},
      // 14.4 times a budget of 10 % is more than everything.
      {"sum(rate(tunnel_requests_total{status=\"error\"}[5m])) / sum(rate(tunnel_requests_total[5m])) > 14.4 "
       "* 0.1",
       "impossible-comparison"},
      {"sum(rate(tunnel_requests_total{status=\"error\"}[5m])) / (sum(rate(tunnel_requests_total[5m])) > 1) "
       "> 1",
       "impossible-comparison"},
      {"sum(rate(tunnel_requests_total{status=\"error\"}[5m])) / sum(rate(tunnel_requests_total[5m])) > 14.4 "
       "* 0.001",
       ""},
      {"sum by (instance) (rate(tunnel_requests_total[5m])) / sum by (job) (rate(tunnel_requests_total[5m])) "
       "> 1",
       "impossible-matching"},
      {"sum by (instance) (sum(rate(tunnel_requests_total[5m]))) > 1", "impossible-matching"},
      {"sum(rate(tunnel_requests_total[5m])) / on (job) count by (job) (up) > 1", "impossible-matching"},
      {"sum by (instance) (rate(tunnel_requests_total[5m])) / ignoring (job) group_left sum by (instance, "
       "job) (up) > 2",
       ""},
      {"topk(3, sum by (instance) (rate(tunnel_requests_total[5m]))) > 2", "fragile-topk"},
      {"sum(topk(3, sum by (instance) (rate(tunnel_requests_total[5m])))) > 2", ""},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.expr);
    auto pack = good_pack();
    rule_of(pack).expr = row.expr;
    auto all = found(pack);
    std::erase_if(all, [](const std::string& one) {  // what those rows are not about
      return one.starts_with("metric-unused") || one.starts_with("alert-template-label") ||
             one.starts_with("alert-for");
    });
    if (*row.finding == '\0')
      EXPECT_THAT(all, IsEmpty());
    else
      EXPECT_THAT(all, ElementsAre(row.finding + std::string(" rule/TooMany")));
  }
}

TEST(RuleLint, FindsAnAlertThatWaitsLongerThanTheStateLasts) {
  auto pack = good_pack();
  pack.contract.push_back({"tunnel_circuit_breaker_state", "gauge", {"service"}});
  auto& rule = rule_of(pack);
  rule.expr = "tunnel_circuit_breaker_state == 1";
  rule.hold = std::chrono::minutes(2);
  EXPECT_THAT(found(pack), Contains("alert-for-too-long rule/TooMany"));
  rule.hold = std::chrono::seconds(30);
  EXPECT_THAT(found(pack), Not(Contains("alert-for-too-long rule/TooMany")));
  rule.hold = std::chrono::minutes(2);
  rule.expr = "max_over_time(tunnel_circuit_breaker_state[3m]) == 1";
  EXPECT_THAT(found(pack), Not(Contains("alert-for-too-long rule/TooMany")));
}

TEST(RuleLint, WantsNamesThatSayWhatTheyAre) {
  auto pack = good_pack();
  pack.rule_files[0].groups[0].rules.push_back(
      {.record = "errors", .expr = "sum(rate(tunnel_requests_total[5m]))"});
  pack.rule_files[0].groups[0].rules.push_back(
      {.record = "job:tunnel_requests:rate5m", .expr = "sum by (job) (rate(tunnel_requests_total[5m]))"});
  EXPECT_THAT(found(pack), ElementsAre("rule-name rule/errors"));
  auto other = good_pack();
  rule_of(other).alert = "too many";
  EXPECT_THAT(found(other), Contains("rule-name rule/too many"));
}

TEST(RuleLint, FindsTheSameExpressionTwiceHoweverItIsWritten) {
  auto pack = good_pack();
  auto again =
      alert("TooManyAgain", "sum  by(instance)(rate(tunnel_requests_total{status='error'}[5m])) > 7");
  again.annotations["runbook_url"] = "runbooks/tunnel/TooMany.md";
  pack.rule_files[0].groups[0].rules.push_back(again);
  EXPECT_THAT(found(pack), ElementsAre("rule-duplicate rule/TooManyAgain"));
}

TEST(RuleLint, FindsRunbooksThatNothingLeadsTo) {
  auto pack = good_pack();
  pack.runbooks.push_back({.path = "Old.md", .name = "Old", .title = "Old"});
  EXPECT_THAT(found(pack), ElementsAre("runbook-orphan runbook/Old"));
  panel_of(pack)["links"] = Json::array({{{"title", "what to do"}, {"url", "runbooks/tunnel/Old.md#x"}}});
  EXPECT_THAT(found(pack), IsEmpty());
}

TEST(RuleLint, FindsSecrets) {
  const char* bad[] = {"Bearer 9f8a7b6c5d4e3f2a1b0c9d8e7f", "glsa_9aZkQ3mT7vXb2LpW8nRcY5dH_1f2e3d4c",
                       "https://hooks.slack.com/services/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",
                       "postgres://app:Tr0ub4dor@db:5432/x", "-----BEGIN RSA PRIVATE KEY-----"};
  for (const char* text : bad) {
    SCOPED_TRACE(text);
    auto pack = good_pack();
    panel_of(pack)["description"] = std::string("see ") + text;
    EXPECT_THAT(found(pack), ElementsAre("secret-in-file health"));
    const auto message = of(pack, "secret-in-file").at(0).message;
    EXPECT_THAT(message, Not(testing::HasSubstr(text)));
    auto other = good_pack();
    other.runbooks[0].text = std::string("# x\n\ncurl -H '") + text + "'\n";
    EXPECT_EQ(pack::text(of(other, "secret-in-file").at(0).place), "TooMany.md:3");
  }
  const char* good[] = {"Bearer $TOKEN",
                        "Bearer <your token>",
                        "https://hooks.slack.com/services/XXXX/XXXX/XXXXXXXXXXXX",
                        "https://user:password@example.com",
                        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        "sum(rate(x[5m]))",
                        "tunnel-health"};
  for (const char* text : good) {
    SCOPED_TRACE(text);
    auto pack = good_pack();
    panel_of(pack)["description"] = std::string("see ") + text;
    EXPECT_THAT(found(pack), IsEmpty());
  }
}

TEST(RuleLint, FindsTheOldApiOfAlertmanagerAndLeavesPrometheusAlone) {
  auto pack = good_pack();
  pack.runbooks[0].text = "# x\ncurl http://prometheus:9090/api/v1/alerts\n";
  EXPECT_THAT(found(pack), IsEmpty());
  pack.runbooks[0].text = "# x\ncurl http://alertmanager:9093/api/v1/alerts\n";
  EXPECT_THAT(found(pack), ElementsAre("alertmanager-v1-api runbook/TooMany"));
}

TEST(Shape, KnowsWhichLabelsAResultMayHave) {
  struct Row {
    const char* expr;
    const char* label;
    bool may;
  };
  const Row rows[] = {
      {"x", "anything", true},
      {"sum(x)", "job", false},
      {"sum by (job) (x)", "job", true},
      {"sum by (job) (x)", "instance", false},
      {"sum without (job) (x)", "job", false},
      {"sum without (job) (x)", "instance", true},
      {"topk(3, x)", "instance", true},
      {"count_values(\"version\", x)", "version", true},
      {"absent(up{job=\"a\", instance=~\"b\"})", "job", true},
      {"absent(up{job=\"a\", instance=~\"b\"})", "instance", false},
      {"histogram_quantile(0.9, sum by (le, job) (rate(x_bucket[5m])))", "le", false},
      {"histogram_quantile(0.9, sum by (le, job) (rate(x_bucket[5m])))", "job", true},
      {"label_replace(sum(x), \"a\", \"b\", \"c\", \"d\")", "a", true},
      {"sum by (job) (x) or vector(0)", "job", true},
      {"x * on (job) group_left (version) y", "version", true},
      {"sum by (job) (x) * 2", "job", true},
      {"x / on (job) y", "instance", false},
      {"vector(1)", "job", false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.expr) + " " + row.label);
    const auto parsed = promql::parse(row.expr);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(labels_of(*parsed->root).may_have(row.label), row.may);
  }
}

}  // namespace
}  // namespace tunnelctl::lint
