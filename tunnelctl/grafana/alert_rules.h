#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/grafana/dashboards.h"
#include "tunnelctl/grafana/server.h"

/// Grafana-managed alert rules, one at a time.
namespace tunnelctl::grafana {

/// What a rule does at the moment.
struct RuleState {
  std::string uid{}, title{}, folder_uid{}, folder{}, group{};
  /// firing, pending, recovering, inactive; "unknown" where the caller may not see it. A rule without data or
  /// with an error is inactive here: that is in `health`.
  std::string state{};
  std::string health{};  // ok, nodata, error
  std::string last_error{};
  std::string since{}, last_evaluation{};
  bool paused = false, recording = false;
  Json labels = Json::object();
  Json alerts = Json::array();  // instances, where asked for
};

struct RuleFilter {
  std::string uid{}, folder_uid{}, group{}, state{}, health{};
  std::vector<std::string> labels{};  // NAME=VALUE
  bool with_alerts = false;
};

/// All that fit, by folder, group and place in it. Filters are applied here too: the server takes an unknown
/// folder for no filter.
Result<std::vector<RuleState>> rule_states(Server& server, const RuleFilter& filter);

/// As stored.
Result<Json> read_rule(Server& server, const std::string& uid);

struct RuleWritten {
  Json rule{};
  std::optional<std::string> conflict{};
};

/// `locked`: only the API may change it from then on, not the web page.
Result<RuleWritten> create_rule(Server& server, const Json& rule, bool locked);
/// Replaces the whole rule. Its provenance stays as it is.
Result<RuleWritten> replace_rule(Server& server, const Json& present, const Json& wanted);
Result<void> delete_rule(Server& server, const std::string& uid);

/// The rule with the members of `change` over it (RFC 7386: null removes, objects are merged, lists
/// replaced).
Json merged(Json rule, const Json& change);

/// What is wrong with a rule that the server would take and never evaluate, and what it refuses as "bad
/// request data": each "data[1].relativeTimeRange: ...". Empty: nothing found.
std::vector<std::string> check_rule(const Json& rule);
/// Likewise for what is laid over an existing rule: unknown and misspelt members.
std::vector<std::string> check_rule_change(const Json& change);

}  // namespace tunnelctl::grafana
