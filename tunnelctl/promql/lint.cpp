#include "tunnelctl/promql/lint.h"

#include <algorithm>
#include <cmath>

#include "tunnelctl/promql/facts.h"
#include "tunnelctl/promql/functions.h"
#include "tunnelctl/promql/regexp.h"

namespace tunnelctl::promql {
namespace {

/// Functions that do not look at a counter's value.
bool ignores_value(std::string_view function) {
  constexpr std::string_view kOnes[] = {
      "absent",    "absent_over_time", "present_over_time", "count_over_time",
      "timestamp", "changes",          "histogram_quantile"};
  return std::find(std::begin(kOnes), std::end(kOnes), function) != std::end(kOnes);
}

bool is_bucket(std::string_view metric) {
  return metric.ends_with("_bucket");
}

/// A selector, or a growth function of one; what a ratio of single series is made of.
const Selector* single_selector(const Node& node) {
  const Node& inner = without_parens(node);
  if (const auto* selector = inner.get_if<Selector>()) return selector;
  const auto* call = inner.get_if<Call>();
  if (call == nullptr || !is_growth_function(call->name())) return nullptr;
  const auto* matrix = without_parens(*call->arguments[0]).get_if<Matrix>();
  return matrix != nullptr ? &matrix->selector : nullptr;
}

bool contains_aggregate(const Node& node) {
  if (node.get_if<Aggregate>() != nullptr) return true;
  const auto below = children(node);
  return std::any_of(below.begin(), below.end(),
                     [](const Node* child) { return contains_aggregate(*child); });
}

bool contains_set_operator(const Node& node) {
  const auto* binary = node.get_if<Binary>();
  if (binary != nullptr && is_set_operator(binary->op)) return true;
  const auto below = children(node);
  return std::any_of(below.begin(), below.end(),
                     [](const Node* child) { return contains_set_operator(*child); });
}

bool has_matcher(const std::vector<Matcher>& matchers, const Matcher& wanted) {
  return std::any_of(matchers.begin(), matchers.end(), [&](const Matcher& matcher) {
    return matcher.label == wanted.label && matcher.op == wanted.op && matcher.value == wanted.value;
  });
}

bool has(const std::vector<std::string>& labels, const std::string& label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

class Linter {
 public:
  Linter(const Ast& ast, const LintOptions& options) : ast_(ast), options_(options) {}

  std::vector<Finding> run() {
    visit(*ast_.root, {});
    return std::move(found_);
  }

 private:
  struct Context {
    std::string_view function;  // the nearest around
    bool value_unused = false;  // of the counter's value: right of `and`, inside count()
  };

  void add(const char* check, std::string message, Span span) {
    found_.push_back({check, std::move(message), span});
  }

  bool is_counter(const std::string& metric) const {
    if (options_.contract != nullptr) {
      if (const auto* known = options_.contract->find(metric)) return known->counter;
    }
    return metric.ends_with("_total");
  }
  bool is_gauge(const std::string& metric) const {
    const auto* known = options_.contract != nullptr ? options_.contract->find(metric) : nullptr;
    return known != nullptr && known->gauge;
  }

  void visit(const Node& node, Context context) {
    if (const auto* selector = node.get_if<Selector>()) visit_selector(*selector, node.span, context);
    if (const auto* matrix = node.get_if<Matrix>()) {
      visit_selector(matrix->selector, matrix->selector_span, context);
      visit_range(node, *matrix, context);
    }
    if (const auto* binary = node.get_if<Binary>()) {
      visit_binary(node, *binary);
      visit(*binary->left, context);
      if (binary->op == Op::logical_and || binary->op == Op::unless) context.value_unused = true;
      return visit(*binary->right, context);
    }
    if (const auto* aggregate = node.get_if<Aggregate>()) {
      visit_aggregate(*aggregate);
      context.function = {};
      context.value_unused = context.value_unused || aggregate->op == "count" || aggregate->op == "group";
    }
    if (const auto* call = node.get_if<Call>()) {
      const auto before = found_.size();
      visit_call(node, *call);
      // One finding is enough: rate(sum(x_total)[…]) has its rate, in the wrong place.
      context.value_unused =
          context.value_unused || (found_.size() > before && found_.back().check == "rate-after-sum");
      // Through an outer function the value is still that of the inner: floor(count(…)).
      context.value_unused = context.value_unused || call->name() == "histogram_quantile";
      context.function = call->name();
    }
    for (const Node* child : children(node)) visit(*child, context);
  }

  void visit_selector(const Selector& selector, Span span, const Context& context) {
    const auto metric = selector.metric();
    const bool growth = is_growth_function(context.function);
    if (!growth && !context.value_unused && !ignores_value(context.function) && is_counter(metric)) {
      add("counter-without-rate",
          metric +
              " is a counter: its value only says how long the program has run. Put rate() or increase() "
              "around it",
          span);
    }
    for (const auto& matcher : selector.matchers) {
      if (matcher.op != MatchOp::regexp && matcher.op != MatchOp::not_regexp) continue;
      const auto pattern = parse_regexp(matcher.value);
      if (!pattern || !pattern->literal) continue;
      const bool equal = matcher.op == MatchOp::regexp;
      add("regex-without-metacharacters",
          matcher.label + (equal ? "=~" : "!~") + quote(matcher.value) + " is no pattern: write " +
              matcher.label + (equal ? "=" : "!=") + quote(matcher.value),
          matcher.span);
    }
  }

  void visit_range(const Node& node, const Matrix& matrix, const Context& context) {
    const bool growth = is_growth_function(context.function);
    const auto metric = matrix.selector.metric();
    if (growth && is_gauge(metric)) {
      add("rate-of-gauge",
          metric + " is a gauge: " + std::string(context.function) +
              "() takes its every fall for a restart. Use delta() or deriv()",
          node.span);
    }
    if (growth && options_.scrape_interval && matrix.range < 4 * *options_.scrape_interval) {
      add("range-too-short",
          "a range of " + print_duration(matrix.range) + " is less than four scrapes of " +
              print_duration(*options_.scrape_interval) + ": use $__rate_interval or a longer one",
          node.span);
    }
  }

  void visit_binary(const Node& node, const Binary& binary) {
    if (is_comparison(binary.op)) {
      for (const Node* side : {binary.left.get(), binary.right.get()}) {
        const auto value = constant(*side);
        if (value && std::isnan(*value))
          add("compare-with-nan", "a comparison with NaN never holds (and != always does)", node.span);
      }
    }
    if (binary.op == Op::divide) visit_ratio(node, binary);
    if (binary.op == Op::subtract) visit_complement(node, binary);
  }

  /// x{status="ok"} / x: both sides keep `status`, so only equal series meet.
  void visit_ratio(const Node& node, const Binary& binary) {
    const Selector* left = single_selector(*binary.left);
    const Selector* right = single_selector(*binary.right);
    if (left == nullptr || right == nullptr || left->metric().empty() || left->metric() != right->metric())
      return;
    if (left->modifiers.offset != right->modifiers.offset) return;
    if (matrix_offset(*binary.left) != matrix_offset(*binary.right)) return;
    const auto free = [&](const Matcher& matcher) {  // the label does not take part in the matching
      const auto& matching = binary.matching;
      if (matching.kind == Matching::Labels::on) return !has(matching.labels, matcher.label);
      return matching.kind == Matching::Labels::ignoring && has(matching.labels, matcher.label);
    };
    const auto differs_freely = [&](const Selector& one, const Selector& other) {
      return std::any_of(one.matchers.begin(), one.matchers.end(), [&](const Matcher& matcher) {
        return !has_matcher(other.matchers, matcher) && free(matcher);
      });
    };
    if (differs_freely(*left, *right) || differs_freely(*right, *left)) return;
    add("same-label-ratio",
        "both sides of this ratio keep all labels of " + left->metric() +
            ", so each series is divided by itself: aggregate both sides, sum(…) / sum(…)",
        node.span);
  }
  static std::chrono::nanoseconds matrix_offset(const Node& node) {
    const auto* call = without_parens(node).get_if<Call>();
    const auto* matrix = call != nullptr ? without_parens(*call->arguments[0]).get_if<Matrix>() : nullptr;
    return matrix != nullptr ? matrix->modifiers.offset : std::chrono::nanoseconds{0};
  }

  /// 1 - good/total, where `good` is picked by a matcher that `total` has not.
  void visit_complement(const Node& node, const Binary& binary) {
    const auto whole = constant(*binary.left);
    if (!whole || (*whole != 1 && *whole != 100)) return;
    const Node* right = &without_parens(*binary.right);
    for (const auto* product = right->get_if<Binary>(); product != nullptr && product->op == Op::multiply;
         product = right->get_if<Binary>()) {
      right = &without_parens(constant(*product->left) ? *product->right : *product->left);
    }
    const auto* ratio = right->get_if<Binary>();
    if (ratio == nullptr || ratio->op != Op::divide || contains_set_operator(*ratio->left)) return;
    const auto good = facts(*ratio->left).selectors;
    const auto total = facts(*ratio->right).selectors;
    if (good.size() != 1 || total.size() != 1 || good[0].metric.empty() || good[0].metric != total[0].metric)
      return;
    for (const auto& matcher : good[0].matchers) {
      if (matcher.label == "le" || matches_empty(matcher) || has_matcher(total[0].matchers, matcher))
        continue;
      add("silent-at-total-failure",
          "when no series has " + matcher.label + std::string(spelling(matcher.op)) + quote(matcher.value) +
              " this gives nothing, so it is silent when everything fails: select the bad ones, or add `or "
              "on() vector(0)` to the numerator",
          node.span);
      return;
    }
  }

  void visit_aggregate(const Aggregate& aggregate) {
    const Node& inner = without_parens(*aggregate.inner);
    const auto* binary = inner.get_if<Binary>();
    if (binary == nullptr || binary->op != Op::logical_or) return;
    const auto* zero = without_parens(*binary->right).get_if<Call>();
    if (zero == nullptr || zero->name() != "vector") return;
    const bool harmless =
        aggregate.grouping == Aggregate::Grouping::none && (aggregate.op == "sum" || aggregate.op == "max");
    if (harmless) return;
    add("or-vector-in-aggregation",
        "`or vector(…)` inside " + aggregate.op +
            "() adds a series without labels to the others: put it outside",
        inner.span);
  }

  void visit_call(const Node& node, const Call& call) {
    const auto name = call.name();
    if (name == "histogram_quantile") visit_quantile(node, *call.arguments[1]);
    if (name == "absent" && without_parens(*call.arguments[0]).get_if<Aggregate>() != nullptr) {
      add("absent-of-aggregate",
          "absent() takes its labels from a selector's matchers, and an aggregation has none: ask absent() "
          "of the selector",
          node.span);
    }
    if (is_growth_function(name)) {
      const auto* subquery = without_parens(*call.arguments[0]).get_if<Subquery>();
      if (subquery != nullptr && contains_aggregate(*subquery->inner)) {
        add("rate-after-sum",
            std::string(name) +
                "() of an aggregation takes the restart of one series for a restart of all: aggregate the "
                "rates",
            node.span);
      }
    }
  }

  void visit_quantile(const Node& node, const Node& argument) {
    const auto below = facts(argument);
    bool buckets = false;
    for (const auto& selector : below.selectors) {
      const auto& metric = selector.metric;
      if (is_bucket(metric)) {
        buckets = true;
        if (!selector.growth)
          add("quantile-without-rate",
              metric + " counts since the program began: put rate() around it, inside the sum",
              selector.span);
        continue;
      }
      const bool recorded = metric.find(':') != std::string::npos;
      if (metric.empty() || recorded || options_.native_histograms) continue;
      add("quantile-without-bucket",
          "histogram_quantile needs " + metric + "_bucket; " + metric + " has no buckets", selector.span);
    }
    const auto* aggregate = without_parens(argument).get_if<Aggregate>();
    if (!buckets || aggregate == nullptr) return;
    const bool listed = has(aggregate->labels, "le");
    const bool keeps = aggregate->grouping == Aggregate::Grouping::without
                           ? !listed
                           : aggregate->grouping == Aggregate::Grouping::by && listed;
    if (keeps) return;
    add("quantile-without-le",
        "this " + aggregate->op +
            "() drops the label le, without which there are no buckets: " + aggregate->op + " by (le, …)",
        node.span);
  }

  const Ast& ast_;
  LintOptions options_;
  std::vector<Finding> found_;
};

}  // namespace

std::vector<Finding> lint(const Ast& ast, const LintOptions& options) {
  return Linter(ast, options).run();
}

}  // namespace tunnelctl::promql
