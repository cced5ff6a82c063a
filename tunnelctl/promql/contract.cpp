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

/// The labels that the series below a node can have; nullopt if they are not all known.
std::optional<std::set<std::string, std::less<>>> labels_below(const Facts& below, const Contract& contract) {
  std::set<std::string, std::less<>> out(below.labels_made.begin(), below.labels_made.end());
  for (const auto& selector : below.selectors) {
    const auto* known = selector.metric.empty() ? nullptr : contract.find(selector.metric);
    if (known == nullptr || known->any_label) return std::nullopt;
    out.insert(known->labels.begin(), known->labels.end());
  }
  return out;
}

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
  const Node* last = nullptr;
  std::optional<std::set<std::string, std::less<>>> known;
  for (const auto& use : all.labels_used) {
    if (contract.is_target_label(use.label)) continue;
    if (use.node != last) {
      last = use.node;
      known = labels_below(facts(*last), contract);
    }
    if (!known || known->contains(use.label)) continue;
    out.push_back({"unknown-label",
                   use.where + " names the label " + quote(use.label) + ", which no metric there has",
                   last->span});
  }
  return out;
}

}  // namespace tunnelctl::promql
