#include "common/metric_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

namespace {

using metric_names::Metric;
using metric_names::Since;
using metric_names::Type;

TEST(MetricNames, AreUniqueAndOurs) {
  std::set<std::string_view> seen;
  for (const Metric& metric : metric_names::kAll) {
    const std::string_view name = metric.name;
    EXPECT_TRUE(seen.insert(name).second) << name << " is listed twice";
    EXPECT_TRUE(name.starts_with("tunnel_") || name.starts_with("process_")) << name;
    EXPECT_TRUE(std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || c == '_';
    })) << name;
  }
}

TEST(MetricNames, EndInTotalExactlyWhenTheyCount) {
  for (const Metric& metric : metric_names::kAll) {
    EXPECT_EQ(std::string_view(metric.name).ends_with("_total"), metric.type == Type::counter) << metric.name;
  }
}

TEST(MetricNames, CarryTheirUnitAsSuffix) {
  for (const Metric& metric : metric_names::kAll) {
    SCOPED_TRACE(metric.name);
    std::string stem = metric.name;
    if (metric.type == Type::counter) stem.resize(stem.size() - std::string_view("_total").size());
    const std::string_view unit = metric.unit;
    if (!unit.empty()) {
      EXPECT_TRUE(stem.ends_with("_" + std::string(unit)));
      EXPECT_TRUE(unit == "seconds" || unit == "bytes" || unit == "ratio" ||
                  (unit == "ms" && metric.since == Since::compat));
    } else {
      for (const char* suffix : {"_seconds", "_bytes", "_ratio", "_ms"}) EXPECT_FALSE(stem.ends_with(suffix));
    }
    EXPECT_FALSE(metric.type == Type::histogram && unit.empty());
  }
}

TEST(MetricNames, HaveLabelsOnlyFromTheBoundedList) {
  // Each has a small fixed set of values. Nothing here may name a person, an address or a path.
  const std::set<std::string_view> bounded{
      "version",   "commit",    "tls",      "ssh",  "user_tier", "role",     "result",  "phase",    "code",
      "initiator", "reason",    "upstream", "type", "status",    "priority", "outcome", "category", "side",
      "thread",    "direction", "service",  "to",   "scope",     "event",    "level",   "state",    "stage"};
  for (const Metric& metric : metric_names::kAll) {
    std::set<std::string_view> own;
    bool ended = false;
    for (const std::string_view label : metric.labels) {
      if (label.empty()) {
        ended = true;
        continue;
      }
      EXPECT_FALSE(ended) << metric.name << " has a gap in its labels";
      EXPECT_TRUE(bounded.contains(label)) << metric.name << " " << label;
      EXPECT_TRUE(own.insert(label).second) << metric.name << " repeats " << label;
    }
  }
}

TEST(MetricNames, ExplainThemselvesInASentence) {
  for (const Metric& metric : metric_names::kAll) {
    EXPECT_TRUE(metric.help.ends_with('.')) << metric.name;
    EXPECT_EQ(metric.help.find_first_of("\n\\"), std::string_view::npos) << metric.name;
    EXPECT_EQ(metric.help.starts_with("Old name: "), metric.since == Since::compat) << metric.name;
    EXPECT_EQ(metric_names::help(metric.name), metric.help);
  }
  EXPECT_EQ(metric_names::help("tunnel_unheard_of"), "");
  EXPECT_EQ(metric_names::find("tunnel_unheard_of"), nullptr);
}

}  // namespace
