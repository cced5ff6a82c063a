#include "tunnelctl/lint/report.h"

#include <algorithm>
#include <array>

#include "tunnelctl/pack/queries.h"

namespace tunnelctl::lint {
namespace {

constexpr auto kError = Severity::error;
constexpr auto kWarning = Severity::warning;
constexpr auto kInfo = Severity::info;

// Sorted by id; a test holds it so.
constexpr std::array kChecks{
    Check{"absent-of-aggregate", kWarning, "absent() of an aggregation has none of the labels it would give",
          ""},
    Check{"alert-absent-for", kWarning,
          "absent() without a `for` of two scrapes fires when Prometheus restarts", "alerts/absent"},
    Check{"alert-annotations", kError, "an alert lacks summary, description or runbook_url",
          "alerts/annotation"},
    Check{"alert-comparison", kError,
          "the expression has no condition: the alert fires whenever there is data", "alerts/comparison"},
    Check{"alert-dashboard-link", kError, "dashboard_uid or panel_id names nothing that the pack has", ""},
    Check{"alert-description-value", kWarning, "an alert's texts tell neither the value nor who is meant",
          ""},
    Check{"alert-for-missing", kWarning,
          "neither `for`, keep_firing_for nor a range holds the alert: one bad sample fires it", ""},
    Check{"alert-for-too-long", kError, "`for` is longer than the state it waits for can last", ""},
    Check{"alert-label-value", kError, "a label holds the value: every evaluation is another alert",
          "alerts/template"},
    Check{"alert-labels", kError, "an alert lacks one of the labels severity, component, service",
          "rule/label"},
    Check{"alert-severity", kError, "a severity that nobody knows", ""},
    Check{"alert-template", kError, "a template in a label or annotation would not expand",
          "alerts/template"},
    Check{"alert-template-label", kWarning, "a template names a label that the expression does not keep",
          "alerts/template"},
    Check{"alertmanager-v1-api", kError, "Alertmanager's API v1 is gone since 0.27", ""},
    Check{"compare-with-nan", kError, "a comparison with NaN never holds", "promql/nan"},
    Check{"counter-without-rate", kWarning, "a counter's raw value is shown or compared",
          "target-counter-agg-rule"},
    Check{"dashboard-link", kError, "a link leads to a dashboard or panel that the pack does not have", ""},
    Check{"dashboard-timezone", kWarning, "a dashboard's times are in some fixed zone", ""},
    Check{"fragile-topk", kWarning, "topk picks other series at each evaluation", "promql/fragile"},
    Check{"grid-overlap", kWarning, "two panels stand in the same place", ""},
    Check{"grid-width", kError, "a panel stands outside the grid of 24 columns", ""},
    Check{"impossible-comparison", kError, "the compared value can never get there", "promql/impossible"},
    Check{"impossible-matching", kError, "labels that were aggregated away are grouped or matched by",
          "promql/vector_matching"},
    Check{"inhibit-equal", kError, "an inhibition without a common label that alerts have silences them all",
          ""},
    Check{"inhibit-self", kWarning, "an alert is source and target of one inhibition, so never inhibited",
          ""},
    Check{"inhibit-unmatched", kWarning, "an inhibition's matchers fit no alert of the pack", ""},
    Check{"metric-unused", kInfo, "a metric is exposed and nothing looks at it", ""},
    Check{"or-vector-in-aggregation", kWarning,
          "`or vector(0)` inside an aggregation adds a series without labels", ""},
    Check{"panel-datasource", kWarning, "a panel is tied to one server's data source",
          "panel-datasource-rule"},
    Check{"panel-gauge-range", kWarning, "a gauge without min and max invents its scale", ""},
    Check{"panel-no-targets", kError, "a panel asks for nothing", "panel-no-targets-rule"},
    Check{"panel-reduce", kWarning, "one value is shown of a query that gives many, and nothing says which",
          ""},
    Check{"panel-refid", kError, "two queries of a panel have the same refId", ""},
    Check{"panel-thresholds", kWarning, "thresholds do not begin at null or do not rise", ""},
    Check{"panel-title-description", kWarning, "a panel lacks its title or description",
          "panel-title-description-rule"},
    Check{"panel-type-graph", kError, "a panel type that Grafana 12 has no more (graph, singlestat, …)", ""},
    Check{"panel-units", kWarning, "a panel's numbers have no unit, or one that Grafana does not know",
          "panel-units-rule"},
    Check{"quantile-without-bucket", kError, "histogram_quantile of something that is no _bucket", ""},
    Check{"quantile-without-le", kError, "histogram_quantile over an aggregation that drops `le`", ""},
    Check{"quantile-without-rate", kWarning, "histogram_quantile of buckets since the program's start", ""},
    Check{"range-too-short", kWarning, "a rate over less than four scrapes", "promql/rate"},
    Check{"rate-after-sum", kError, "a rate of an aggregation takes one restart for all", "promql/rate"},
    Check{"rate-of-gauge", kError, "rate, irate or increase of a gauge", "promql/rate"},
    Check{"receiver-resolved", kWarning, "slack or email without send_resolved never tell that it is over",
          ""},
    Check{"receiver-unused", kWarning, "no route leads to a receiver", ""},
    Check{"regex-without-metacharacters", kWarning, "a regular expression that is plain text",
          "promql/regexp"},
    Check{"route-match", kWarning, "match and match_re are deprecated: matchers", ""},
    Check{"route-repeat", kWarning, "repeat_interval is no multiple of group_interval", ""},
    Check{"route-severity", kError, "a severity of the pack's alerts has no route of its own", ""},
    Check{"route-unreachable", kError, "no alert comes as far as this route", ""},
    Check{"rule-duplicate", kWarning, "two alerts have the same expression", "rule/duplicate"},
    Check{"rule-name", kWarning, "an alert is no CamelCase word, or a record not level:metric:operation",
          "rule/name"},
    Check{"runbook-missing", kError, "runbook_url names a runbook that the pack does not have", "rule/link"},
    Check{"runbook-orphan", kWarning, "no alert and no panel leads to a runbook", ""},
    Check{"same-label-ratio", kError, "each series is divided by itself", ""},
    Check{"schema-version", kWarning,
          "a dashboard's schemaVersion is so old that Grafana rewrites it, or unknown", ""},
    Check{"secret-in-file", kError, "a password, token or key stands in a file", ""},
    Check{"silent-at-total-failure", kError, "1 - good/total is empty when nothing is good", ""},
    Check{"target-datasource-uid-field", kError,
          "a query names its data source by datasourceUid, which is not read", ""},
    Check{"target-instance", kWarning, "a query does not filter by the dashboard's instance variable",
          "target-instance-rule"},
    Check{"target-job", kWarning, "a query does not filter by the dashboard's job variable",
          "target-job-rule"},
    Check{"target-logql", kError, "a LogQL query that Loki would refuse", "target-logql-rule"},
    Check{"target-logql-auto", kWarning, "a LogQL range that does not follow the time range ($__auto)",
          "target-logql-auto-rule"},
    Check{"target-promql", kError, "a PromQL query that Prometheus would refuse", "target-promql-rule"},
    Check{"target-rate-interval", kWarning,
          "rate() over a fixed range or $__interval instead of $__rate_interval",
          "target-rate-interval-rule"},
    Check{"template-datasource", kError, "a dashboard without a variable for its data source",
          "template-datasource-rule"},
    Check{"template-instance", kWarning, "no variable lets choose instances", "template-instance-rule"},
    Check{"template-job", kWarning, "no variable lets choose jobs", "template-job-rule"},
    Check{"template-label-promql", kError,
          "a variable's query that Prometheus' data source does not understand",
          "template-label-promql-rule"},
    Check{"template-on-time-change-reload", kWarning, "a variable does not follow the time range",
          "template-on-time-change-reload-rule"},
    Check{"template-undefined", kError, "a receiver uses a template that no file defines", ""},
    Check{"template-unused", kWarning, "a template that nothing uses", ""},
    Check{"uneditable-dashboard", kWarning, "a dashboard may be edited where the next setup overwrites it",
          "uneditable-dashboard"},
    Check{"unknown-label", kError, "a label that the metric does not have", ""},
    Check{"unknown-metric", kError, "a metric that the program does not expose", "promql/series"},
    Check{"unused-suppression", kWarning, "an entry of lint.ignore suppresses nothing", ""},
    Check{"variable-undefined", kError, "a variable is used that the dashboard does not have", ""},
    Check{"variable-unused", kWarning, "a variable that changes nothing", ""},
};

const Check* find(std::string_view id) {
  const auto found =
      std::find_if(kChecks.begin(), kChecks.end(), [&](const Check& one) { return one.id == id; });
  return found == kChecks.end() ? nullptr : &*found;
}

}  // namespace

std::string_view name(Severity severity) {
  switch (severity) {
    case Severity::error: return "error";
    case Severity::warning: return "warning";
    case Severity::info: return "info";
  }
  return "";
}

std::span<const Check> list_checks() {
  return kChecks;
}

void Report::add(std::string_view check, const pack::Place& place, std::string object, std::string message) {
  const Check* row = find(check);
  findings_.push_back({.check = std::string(check),
                       .severity = row != nullptr ? row->severity : Severity::error,
                       .place = place,
                       .object = std::move(object),
                       .message = std::move(message)});
}

std::vector<Finding> Report::finish(const pack::Pack& pack) {
  std::set<const pack::Exception*> used;
  for (auto& finding : findings_) {
    const Check* row = find(finding.check);
    const pack::Exception* exception = pack::covering(pack.lint_ignore, finding.object, finding.check);
    if (exception == nullptr && row != nullptr && !row->also.empty())
      exception = pack::covering(pack.lint_ignore, finding.object, row->also);
    if (exception == nullptr) continue;
    // Without a reason it would look as if it stood.
    finding.suppressed = exception->reason.empty() ? "(no reason given)" : exception->reason;
    used.insert(exception);
  }
  for (const auto& exception : pack.lint_ignore) {
    if (used.contains(&exception)) continue;
    const bool known = std::any_of(kChecks.begin(), kChecks.end(), [&](const Check& one) {
      return one.id == exception.check || (!one.also.empty() && one.also == exception.check);
    });
    add("unused-suppression", exception.place, "pack",
        "lint.ignore " + exception.check + " of " + exception.object +
            (known ? " suppresses nothing: remove it"
                   : ": there is no such check; `monitor lint --list` has them"));
  }
  return std::move(findings_);
}

}  // namespace tunnelctl::lint
