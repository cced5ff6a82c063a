#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tunnelctl/lint/lint.h"
#include "tunnelctl/promql/parser.h"

/// A pack without a finding, small enough that a test breaks one thing of it.
namespace tunnelctl::lint {

using pack::Json;

inline Json target(const std::string& expr, const std::string& ref = "A") {
  return {{"refId", ref},
          {"expr", expr},
          {"instant", false},
          {"datasource", {{"type", "prometheus"}, {"uid", "${datasource}"}}}};
}

inline Json logs_target(const std::string& expr) {
  return {{"refId", "A"}, {"expr", expr}, {"datasource", {{"type", "loki"}, {"uid", "${loki}"}}}};
}

inline constexpr const char* kGoodQuery =
    "sum(rate(tunnel_requests_total{job=~\"$job\", instance=~\"$instance\"}[$__rate_interval]))";

inline Json panel(int id, const std::string& type = "timeseries", const std::string& expr = kGoodQuery) {
  return {{"id", id},
          {"type", type},
          {"title", "Requests"},
          {"description", "Good: what is usual."},
          {"datasource", {{"type", "prometheus"}, {"uid", "${datasource}"}}},
          {"gridPos", {{"x", 0}, {"y", 8 * id}, {"w", 12}, {"h", 8}}},
          {"fieldConfig", {{"defaults", {{"unit", "reqps"}, {"min", 0}, {"max", 1}}}}},
          {"targets", Json::array({target(expr)})}};
}

inline Json query_variable(const std::string& name, const std::string& query) {
  return {{"type", "query"},  {"name", name},
          {"query", query},   {"refresh", 2},
          {"multi", true},    {"includeAll", true},
          {"allValue", ".+"}, {"datasource", {{"type", "prometheus"}, {"uid", "${datasource}"}}}};
}

inline pack::Dashboard dashboard(std::vector<Json> panels) {
  pack::Dashboard result{.place = {"health.json"}, .uid = "health", .title = "Health"};
  result.json = {
      {"uid", "health"},
      {"title", "Health"},
      {"editable", false},
      {"timezone", "browser"},
      {"schemaVersion", 39},
      {"templating",
       {{"list", Json::array({{{"type", "datasource"}, {"name", "datasource"}, {"query", "prometheus"}},
                              query_variable("job", "label_values(up, job)"),
                              query_variable("instance", "label_values(up{job=~\"$job\"}, instance)")})}}},
      {"panels", std::move(panels)}};
  return result;
}

inline pack::Rule alert(const std::string& name, const std::string& expr) {
  return {.place = {"a.rules.yaml", 7, 9},
          .alert = name,
          .expr = expr,
          .hold = std::chrono::minutes(5),
          .labels = {{"severity", "critical"}, {"component", "requests"}, {"service", "tunneld"}},
          .annotations = {{"summary", "{{ $labels.instance }} refuses {{ $value | humanize }}"},
                          {"description", "More than usual."},
                          {"runbook_url", "runbooks/tunnel/" + name + ".md"},
                          {"dashboard_uid", "health"},
                          {"panel_id", "1"}}};
}

inline constexpr const char* kGoodAlert =
    "sum by (instance) (rate(tunnel_requests_total{status=\"error\"}[5m])) > 7";

inline pack::Pack good_pack() {
  pack::Pack pack;
  pack.manifest = "pack.yaml";
  pack.name = "tunnel";
  pack.runbook_prefix = "runbooks/tunnel/";
  pack.dashboards.push_back(dashboard({panel(1)}));
  pack.rule_files.push_back(
      {.path = "a.rules.yaml", .groups = {{.name = "a", .rules = {alert("TooMany", kGoodAlert)}}}});
  pack.runbooks.push_back(
      {.path = "TooMany.md", .name = "TooMany", .title = "Too many", .text = "# Too many\n"});
  pack.scrape = pack::Scrape{.job = "tunneld", .port = "admin"};
  pack.contract = {{"tunnel_requests_total", "counter", {"status", "user_tier"}}};
  return pack;
}

inline pack::Rule& rule_of(pack::Pack& pack) {
  return pack.rule_files[0].groups[0].rules[0];
}
inline Json& panel_of(pack::Pack& pack) {
  return pack.dashboards[0].json["panels"][0];
}

/// "check object" of what stands, in order.
inline std::vector<std::string> found(const pack::Pack& pack, const LintOptions& options = {}) {
  std::vector<std::string> result;
  for (const auto& finding : lint(pack, options))
    if (finding.suppressed.empty()) result.push_back(finding.check + " " + finding.object);
  return result;
}
/// Only of that check.
inline std::vector<Finding> of(const pack::Pack& pack, const std::string& check) {
  auto all = lint(pack);
  std::erase_if(all, [&](const Finding& one) { return one.check != check; });
  return all;
}

}  // namespace tunnelctl::lint
