#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "tunnelctl/promql/ast.h"
#include "tunnelctl/promql/contract.h"
#include "tunnelctl/promql/finding.h"

/// Queries that parse and yet cannot mean what they say.
namespace tunnelctl::promql {

struct LintOptions {
  const Contract* contract = nullptr;  // tells counters from gauges; without it the name's end does
  /// Where set, a rate over less than four of these is found: one lost scrape leaves it without two samples.
  std::optional<std::chrono::nanoseconds> scrape_interval;
  /// histogram_quantile may be given names without _bucket.
  bool native_histograms = false;
};

/// Checks, by id:
///   counter-without-rate      a counter's raw value is shown or compared
///   rate-of-gauge             rate, irate, increase or resets of a gauge (needs the contract)
///   same-label-ratio          x{a="1"} / x without aggregation: series match themselves, the ratio is always
///   1 quantile-without-le       histogram_quantile over an aggregation that drops `le`
///   quantile-without-bucket   histogram_quantile of something that is no _bucket
///   quantile-without-rate     histogram_quantile of buckets since the program's start
///   rate-after-sum            rate over a subquery of an aggregation: resets of single series become jumps
///   absent-of-aggregate       absent(sum(…)): the aggregation loses the labels that absent would give
///   regex-without-metacharacters   =~"x", where ="x" says it
///   compare-with-nan          nothing is equal to, less or greater than NaN
///   silent-at-total-failure   1 - good/total: without one good series there is no result
///   or-vector-in-aggregation  sum by (x) (a or vector(0)): the zero is one more series, without labels
///   range-too-short           see LintOptions::scrape_interval
/// In the order of the text's nodes, outermost first.
std::vector<Finding> lint(const Ast& ast, const LintOptions& options = {});

}  // namespace tunnelctl::promql
