#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

/// Addresses of Grafana's pages, for people to click. Nothing is asked of a server.
/// Source: Grafana's documentation of dashboard and Explore URLs, and addresses that Grafana 9.5 to 12.4
/// make.
namespace tunnelctl::grafana {

/// A moment of times::moment as Grafana's pages take it: "now", "now-1h", "now-1d/d" stay ("/fQ", too), "15m"
/// becomes "now-15m", all else epoch milliseconds. Newer Grafanas ignore RFC 3339 without a word, and take
/// seconds for a moment in 1970. Fails with bad_input for anything else.
Result<std::string> link_time(std::string_view text);

struct LinkOptions {
  std::string from{}, to{};                                 // see link_time; empty: the page's own
  std::vector<std::pair<std::string, std::string>> vars{};  // name without "var-"; a name may come again
  std::optional<std::int64_t> org{};
  bool kiosk = false;
  std::string refresh{};   // "30s"
  std::string timezone{};  // "utc", "browser"
  /// Other parameters.
  std::vector<std::pair<std::string, std::string>> more{};
};

/// `base` is the server's public address, with its sub-path; a slash at the end is dropped, and "" gives
/// addresses that begin with "/". The same input gives the same text: parameters are sorted by name, after
/// viewPanel, from and to. All fail with bad_input, for a time or an empty uid.
Result<std::string> dashboard_link(std::string_view base, std::string_view uid,
                                   const LinkOptions& options = {}, std::string_view slug = {});
/// The dashboard with that panel alone.
Result<std::string> panel_link(std::string_view base, std::string_view uid, std::int64_t panel,
                               const LinkOptions& options = {}, std::string_view slug = {});

struct ExploreQuery {
  std::string ref = "A";
  std::string expr{};
  bool instant = false;
};
struct ExploreTarget {
  std::string datasource_uid{};
  std::string datasource_type{};  // prometheus, loki; may be empty
  std::vector<ExploreQuery> queries{};
};
/// `version` of the server, "12.4.0"; empty for a new one. Before 10.2 Grafana only reads `left`, since then
/// `panes`. Of the options from, to and org count.
Result<std::string> explore_link(std::string_view base, std::string_view version, const ExploreTarget& target,
                                 const LinkOptions& options = {});

/// A Grafana-managed rule.
Result<std::string> alert_link(std::string_view base, std::string_view rule_uid);
Result<std::string> folder_link(std::string_view base, std::string_view folder_uid);
/// The form for a new silence, filled with `label=value` matchers.
std::string silence_link(std::string_view base,
                         const std::vector<std::pair<std::string, std::string>>& labels);

/// What POST /api/short-urls wants: the part of `link` behind `base`, without slash in front. Fails with
/// bad_input if the link is of another server.
Result<std::string> short_path(std::string_view base, std::string_view link);

}  // namespace tunnelctl::grafana
