#include "tunnelctl/promql/contract.h"

#include <algorithm>

#include "tunnelctl/promql/facts.h"

namespace tunnelctl::promql {

Contract::Contract(const std::vector<ContractMetric>& metrics, std::vector<std::string> recorded,
                   std::vector<std::string> target_labels)
    : target_labels_(target_labels.begin(), target_labels.end()) {
  for (const auto& metric : metrics) {
    KnownMetric known;
    known.labels.insert(metric.labels.begin(), metric.labels.end());
    known.gauge = metric.type == ContractMetric::Type::gauge;
    known.counter = !known.gauge;
    if (metric.type != ContractMetric::Type::histogram) {
      metrics_[metric.name] = known;
      continue;
    }
    histograms_.insert(metric.name);
    metrics_[metric.name + "_sum"] = known;
    metrics_[metric.name + "_count"] = known;
    known.labels.insert("le");
    metrics_[metric.name + "_bucket"] = known;
  }
  const KnownMetric gauge{.counter = false, .gauge = true, .any_label = false, .labels = {}};
  for (const char* name : {"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_series_added",
                           "scrape_samples_post_metric_relabeling"}) {
    metrics_.emplace(name, gauge);
  }
  const KnownMetric anything{.counter = false, .gauge = false, .any_label = true, .labels = {}};
  for (const char* name : {"ALERTS", "ALERTS_FOR_STATE"}) metrics_.emplace(name, anything);
  for (auto& name : recorded) metrics_.emplace(std::move(name), anything);
}

const KnownMetric* Contract::find(std::string_view name) const {
  const auto known = metrics_.find(name);
  return known == metrics_.end() ? nullptr : &known->second;
}

namespace {

using Labels = std::set<std::string, std::less<>>;

/// Goes up the tree once, so that a long chain of operators costs no more than its length.
class LabelChecker {
 public:
  LabelChecker(const Facts& all, const Contract& contract, std::vector<Finding>& out)
      : contract_(contract), out_(out) {
    for (const auto& use : all.labels_used) uses_[use.node].push_back(&use);
  }

  /// The labels that series at this node may have had below it; nullopt if they are not all known.
  std::optional<Labels> visit(const Node& node) {
    std::optional<Labels> labels = own(node);
    for (const Node* child : children(node)) {
      auto below = visit(*child);
      if (!labels || !below) {
        labels.reset();
        continue;  // the other children are checked all the same
      }
      if (below->size() > labels->size()) std::swap(*below, *labels);
      labels->merge(*below);
    }
    const auto used = uses_.find(&node);
    if (labels && used != uses_.end()) {
      for (const auto* use : used->second) check(*use, *labels);
    }
    return labels;
  }

 private:
  std::optional<Labels> own(const Node& node) const {
    const auto* matrix = node.get_if<Matrix>();
    const auto* selector = matrix != nullptr ? &matrix->selector : node.get_if<Selector>();
    if (selector != nullptr) {
      const auto* known = contract_.find(selector->metric());
      if (known == nullptr || known->any_label) return std::nullopt;
      return known->labels;
    }
    Labels made;
    const NodePtr* name = nullptr;
    if (const auto* aggregate = node.get_if<Aggregate>()) {
      if (aggregate->op == "count_values") name = &aggregate->parameter;
    } else if (const auto* call = node.get_if<Call>()) {
      if (call->name() == "label_replace" || call->name() == "label_join") name = &call->arguments[1];
    }
    if (name != nullptr) {
      if (const auto* text = without_parens(**name).get_if<String>()) made.insert(text->value);
    }
    return made;
  }

  void check(const LabelUse& use, const Labels& labels) {
    if (contract_.is_target_label(use.label) || labels.contains(use.label)) return;
    out_.push_back({"unknown-label",
                    use.where + " names the label " + quote(use.label) + ", which no metric there has",
                    use.node->span});
  }

  const Contract& contract_;
  std::vector<Finding>& out_;
  std::map<const Node*, std::vector<const LabelUse*>> uses_;
};

void check_matchers(const SelectorFact& selector, const KnownMetric& known, const Contract& contract,
                    std::vector<Finding>& out) {
  if (known.any_label) return;
  for (const auto& matcher : selector.matchers) {
    if (matcher.label == "__name__" || known.labels.contains(matcher.label) ||
        contract.is_target_label(matcher.label))
      continue;
    out.push_back({"unknown-label",
                   "metric " + selector.metric + " has no label " + quote(matcher.label) + ": the matcher " +
                       (matches_empty(matcher) ? "has no effect" : "takes nothing"),
                   matcher.span});
  }
}

}  // namespace

std::vector<Finding> check_contract(const Ast& ast, const Contract& contract) {
  std::vector<Finding> out;
  const Facts all = facts(*ast.root);
  for (const auto& selector : all.selectors) {
    if (selector.metric.empty()) continue;
    if (const auto* known = contract.find(selector.metric)) {
      check_matchers(selector, *known, contract, out);
    } else if (contract.is_histogram(selector.metric)) {
      out.push_back({"unknown-metric",
                     "histogram " + selector.metric + " is exposed as " + selector.metric +
                         "_bucket, _sum and _count: nothing has the bare name",
                     selector.span});
    } else {
      out.push_back(
          {"unknown-metric", "nothing exposes or records a metric " + selector.metric, selector.span});
    }
  }
  LabelChecker(all, contract, out).visit(*ast.root);
  return out;
}

}  // namespace tunnelctl::promql
