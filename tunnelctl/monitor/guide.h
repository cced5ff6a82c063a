#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/monitor/compile.h"
#include "tunnelctl/pack/pack.h"

/// The monitoring guide: what a person on call reads first. Made from the packs, so that it cannot say
/// anything else than what is set up.
namespace tunnelctl::monitor {

struct GuideOptions {
  /// The server's public address; empty: links begin with "/", for a page that Grafana itself shows.
  std::string grafana_url{};
  std::string grafana_version{};  // "12.4.0"; decides the form of Explore links; empty: a new one
  std::optional<std::int64_t> org{};
  /// Base of the runbooks' addresses; empty: the pack's runbook dashboard.
  std::string runbook_url{};
  /// By the dashboards' variable; without one there are no Explore links.
  std::map<std::string, ServerDatasource> datasources{};
  /// Time range of a dashboard's links, "6h"; any other's is its own. What is slow is seen over hours, what
  /// fails over a day.
  std::map<std::string, std::string> ranges{{"tunnel-performance", "now-6h"}, {"tunnel-errors", "now-24h"}};
};

/// Markdown, the same for the same packs and options. Fails with bad_input if a link cannot be made.
Result<std::string> guide(const std::vector<pack::Pack>& packs, const GuideOptions& options);

/// What an alert's expression waits for, in words: "above 5 %", "equal to 0", "no data at all"; the
/// expression's own text where it is no comparison with a number.
std::string condition_in_words(const pack::Rule& rule);

}  // namespace tunnelctl::monitor
