#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/scripted_api.h"
#include "tunnelctl/monitor/verify.h"

/// What the tests of verify share: a small pack, and how they read an outcome.
namespace tunnelctl::monitor {

using support::ScriptedApi;
using Says = ScriptedApi::Says;
using Asked = ScriptedApi::Asked;
using Api = std::map<std::string, ScriptedApi::Answer>;

inline ScriptedApi::Answer always(unsigned status, std::string body) {
  return [=](const Asked&) { return Says{status, body}; };
}

inline constexpr const char* kDashboard = R"json({
  "templating": {"list": [
    {"name": "datasource", "type": "datasource", "query": "prometheus"},
    {"name": "service", "type": "query", "includeAll": true, "allValue": ".*tunneld.*",
     "current": {"value": ["$__all"]}, "query": "label_values(up, job)"},
    {"name": "instance", "type": "query", "datasource": {"uid": "${datasource}"}, "includeAll": true,
     "current": {"value": "$__all"}, "query": {"query": "label_values(up{job=~\"$service\"}, instance)"}}]},
  "links": [{"url": "/d/two/two?viewPanel=9"}],
  "panels": [
    {"id": 1, "type": "timeseries", "title": "Rate", "datasource": {"type": "prometheus", "uid": "${datasource}"},
     "links": [{"url": "runbooks/x/Down.md#first"}],
     "targets": [{"refId": "A", "expr": "rate(good{job=~\"$service\"}[$__rate_interval])"}]},
    {"id": 2, "type": "stat", "title": "Planned", "datasource": {"type": "prometheus", "uid": "${datasource}"},
     "targets": [{"refId": "A", "expr": "planned", "instant": true}, {"refId": "B", "expr": "none", "instant": true}]},
    {"id": 3, "type": "logs", "title": "Lines", "datasource": {"type": "loki", "uid": "${loki}"},
     "targets": [{"refId": "A", "expr": "{a=\"b\"}"}]},
    {"id": 4, "type": "stat", "title": "Each", "repeat": "instance",
     "datasource": {"type": "prometheus", "uid": "${datasource}"},
     "targets": [{"refId": "A", "expr": "good{instance=~\"$instance\"}", "instant": true}]}]})json";

inline pack::Pack small_pack() {
  pack::Pack pack;
  pack.name = "small";
  pack.title = "Small";
  pack.folder_uid = "small";
  pack.runbook_prefix = "runbooks/x/";
  pack.dashboards = {{.uid = "one", .title = "One", .json = pack::Json::parse(kDashboard)}};
  pack.datasources = {{.variable = "datasource", .type = "prometheus"},
                      {.variable = "loki", .type = "loki", .optional = true}};
  pack.allow_empty = {{.object = "one/2/A", .reason = "planned"}};
  pack.rule_files = {{.groups = {{.name = "g",
                                  .rules = {{.alert = "Down",
                                             .expr = "good < 1",
                                             .annotations = {{"runbook_url", "runbooks/x/Down.md"},
                                                             {"dashboard_uid", "one"},
                                                             {"panel_id", "7"}}},
                                            {.record = "x:y", .expr = "sum(good)"}}}}}};
  return pack;
}

/// What Prometheus says of the rules of that pack.
inline constexpr const char* kGoodRules = R"--({"status":"success","data":{"groups":[{"name":"g","rules":[
    {"type":"alerting","name":"Down","query":"good < 1","health":"ok","state":"inactive"},
    {"type":"recording","name":"x:y","query":"sum(good)","health":"ok"}]}]}})--";

/// "query one/1/A data"
inline std::vector<std::string> told(const Verified& verified) {
  std::vector<std::string> result;
  for (const auto& check : verified.checks)
    result.push_back(std::string(name(check.kind)) + " " + check.id + " " + std::string(name(check.status)));
  return result;
}

inline const Check& the(const Verified& verified, const std::string& id,
                        Check::Kind kind = Check::Kind::query) {
  for (const auto& check : verified.checks)
    if (check.id == id && check.kind == kind) return check;
  throw std::runtime_error("no check " + id);
}

}  // namespace tunnelctl::monitor
