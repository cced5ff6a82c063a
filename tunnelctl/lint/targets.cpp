#include <algorithm>

#include "tunnelctl/lint/parts.h"
#include "tunnelctl/logql/parser.h"
#include "tunnelctl/pack/queries.h"
#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/parser.h"
#include "tunnelctl/promql/variables.h"

namespace tunnelctl::lint {
namespace {

/// Ranges that no person writes, so that a parsed query shows which variable stood there.
constexpr const char* kRateInterval = "1000003s";
constexpr const char* kInterval = "1000033s";
constexpr const char* kRange = "1000037s";
/// A value of a variable that is a regular expression, and shows in a parsed matcher which variable stood
/// there.
std::string mark_of(const std::string& name) {
  return "__variable_" + name + "__.*";
}

bool is_one_of_labels(const promql::Matcher& matcher, const char* label,
                      const std::vector<std::string>& variables) {
  return matcher.label == label &&
         std::any_of(variables.begin(), variables.end(), [&](const std::string& name) {
           return matcher.value.find("__variable_" + name + "__") != std::string::npos;
         });
}

class TargetLinter {
 public:
  TargetLinter(Context& context, const pack::Dashboard& dashboard)
      : context_(context), dashboard_(dashboard), current_(pack::variables(dashboard)), marked_(current_) {
    marked_["__rate_interval"].values = {kRateInterval};
    marked_["__interval"].values = {kInterval};
    marked_["__range"].values = {kRange};
    for (const Json& variable : items(member(dashboard.json, "templating"), "list")) {
      const std::string name = text_of(variable, "name");
      if (text_of(variable, "type") != "query") continue;
      promql::Variable mark;
      mark.values = {mark_of(name)};
      marked_[name] = std::move(mark);
      const Json& query = member(variable, "query");
      const std::string text = query.is_string() ? query.get<std::string>() : text_of(query, "query");
      if (text.ends_with("job)")) jobs_.push_back(name);
      if (text.ends_with("instance)")) instances_.push_back(name);
    }
  }

  void run() {
    for (const auto& query : pack::queries(dashboard_)) {
      if (query.type == "prometheus") prometheus(query);
      if (query.type == "loki") loki(query);
    }
  }

 private:
  void add(const char* check, const pack::Query& query, std::string message) {
    context_.report.add(check, dashboard_.place, query.id(), std::move(message));
  }

  void prometheus(const pack::Query& query) {
    // A variable that is a metric's name or a number does not take the mark; then the current values do.
    bool marked = true;
    auto parsed = promql::parse(promql::expand(query.expr, marked_).text);
    if (!parsed) {
      marked = false;
      auto expanded = promql::expand(query.expr, current_);
      if (!expanded.undefined.empty()) return;  // variable-undefined
      parsed = promql::parse(expanded.text);
    }
    if (!parsed) return add("target-promql", query, parsed.error().message + " in: " + query.expr);
    lint_query(context_, *parsed, {dashboard_.place, query.id()});
    const auto found = promql::facts(*parsed->root);
    if (marked) filters(query, found);
    if (!query.instant) ranges(query, found);
    topk(query, *parsed->root);
  }

  void filters(const pack::Query& query, const promql::Facts& found) {
    const auto check = [&](const char* id, const char* label, const std::vector<std::string>& variables) {
      if (variables.empty()) return;  // template-job, template-instance
      for (const auto& selector : found.selectors) {
        // Recorded series may have lost the label on purpose; alerts about alerts have their own.
        if (selector.metric.find(':') != std::string::npos || selector.metric.starts_with("ALERTS")) continue;
        if (std::any_of(selector.matchers.begin(), selector.matchers.end(),
                        [&](const auto& matcher) { return is_one_of_labels(matcher, label, variables); }))
          continue;
        return add(id, query,
                   (selector.metric.empty() ? "a selector" : selector.metric) + " is not filtered by " +
                       label + "=~\"$" + variables.front() + "\": choosing one changes nothing here");
      }
    };
    check("target-job", "job", jobs_);
    check("target-instance", "instance", instances_);
  }

  /// An instant query looks at a range that its author means; a graph's must follow its step.
  void ranges(const pack::Query& query, const promql::Facts& found) {
    // A variable of the dashboard's own between the brackets is the reader's choice.
    for (const auto& use : promql::variables_used(query.expr))
      if (use.span.begin > 0 && query.expr[use.span.begin - 1] == '[' &&
          !promql::is_builtin_variable(use.name))
        return;
    const auto rate = *promql::parse_duration(kRateInterval), step = *promql::parse_duration(kInterval),
               whole = *promql::parse_duration(kRange);
    for (const auto& selector : found.selectors) {
      const bool rated = selector.function == "rate" || selector.function == "irate";
      if (!selector.range || (!rated && selector.function != "increase")) continue;
      if (*selector.range == rate || *selector.range == whole) continue;
      if (*selector.range == step)
        return add("target-rate-interval", query,
                   selector.function +
                       "() over $__interval is empty when zoomed in, as it then holds less than two "
                       "scrapes: use $__rate_interval");
      // increase() over a fixed range is a number that people know ("in 5 minutes").
      if (rated)
        return add("target-rate-interval", query,
                   selector.function + "() over a fixed range of " + promql::print_duration(*selector.range) +
                       " leaves out what lies between the points when zoomed out: use $__rate_interval");
    }
  }

  void topk(const pack::Query& query, const promql::Node& node) {
    if (query.instant) return;
    const auto* aggregate = node.get_if<promql::Aggregate>();
    if (aggregate != nullptr && (aggregate->op == "topk" || aggregate->op == "bottomk"))
      add("fragile-topk", query,
          aggregate->op +
              " picks anew at each point of a graph, so that it shows many more series: filter by `and` "
              "with a topk over $__range @ end(), or show a table of an instant query");
    for (const promql::Node* child : promql::children(node)) topk(query, *child);
  }

  void loki(const pack::Query& query) {
    auto expanded = promql::expand(query.expr, current_);
    if (!expanded.undefined.empty()) return;
    if (const auto parsed = logql::parse(expanded.text); !parsed)
      return add("target-logql", query, parsed.error().message + " in: " + query.expr);
    if (!query.instant) logql_ranges(query);
  }

  /// Ranges stand between brackets outside of strings.
  void logql_ranges(const pack::Query& query) {
    char quote = '\0';
    const std::string& text = query.expr;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (quote != '\0') {
        if (c == '\\' && quote == '"') ++i;
        if (c == quote) quote = '\0';
        continue;
      }
      if (c == '"' || c == '`') quote = c;
      if (c != '[') continue;
      const auto end = text.find(']', i);
      if (end == std::string::npos) return;
      const std::string range = text.substr(i + 1, end - i - 1);
      const bool digits = !range.empty() && promql::is_digit(range.front());
      const bool interval = range == "$__interval" || range == "${__interval}";
      if (digits || interval)
        return add("target-logql-auto", query,
                   "the range [" + range + "] does not follow the graph's step: use [$__auto]");
      i = end;
    }
  }

  Context& context_;
  const pack::Dashboard& dashboard_;
  promql::Variables current_;
  promql::Variables marked_;
  std::vector<std::string> jobs_, instances_;
};

}  // namespace

void lint_targets(Context& context, const pack::Dashboard& dashboard) {
  TargetLinter(context, dashboard).run();
}

}  // namespace tunnelctl::lint
