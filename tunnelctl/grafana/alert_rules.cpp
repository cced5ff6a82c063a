#include "tunnelctl/grafana/alert_rules.h"

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr const char* kRules = "/api/v1/provisioning/alert-rules";

bool has_labels(const Json& labels, const std::vector<std::string>& wanted) {
  for (const auto& one : wanted) {
    const auto sign = one.find('=');
    if (text_of(labels, one.substr(0, sign).c_str()) !=
        (sign == std::string::npos ? "" : one.substr(sign + 1)))
      return false;
  }
  return true;
}

bool fits(const RuleState& rule, const RuleFilter& filter) {
  const auto is = [](const std::string& wanted, const std::string& value) {
    return wanted.empty() || wanted == value;
  };
  return is(filter.uid, rule.uid) && is(filter.folder_uid, rule.folder_uid) && is(filter.group, rule.group) &&
         is(filter.state, rule.state) && is(filter.health, rule.health) &&
         has_labels(rule.labels, filter.labels);
}

/// Who may not see states may see the rules.
Result<std::vector<RuleState>> without_states(Server& server, const RuleFilter& filter) {
  auto rules = server.get(kRules);
  if (!rules) return tl::unexpected(rules.error());
  std::vector<RuleState> result;
  for (const auto& rule : *rules) {
    RuleState state{.uid = text_of(rule, "uid"),
                    .title = text_of(rule, "title"),
                    .folder_uid = text_of(rule, "folderUID"),
                    .group = text_of(rule, "ruleGroup"),
                    .state = "unknown",
                    .health = "unknown",
                    .paused = flag_of(rule, "isPaused")};
    if (member(rule, "labels").is_object()) state.labels = rule["labels"];
    if (fits(state, filter)) result.push_back(std::move(state));
  }
  return result;
}

Result<RuleWritten> written(Server& server, const Call& call) {
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  RuleWritten result;
  if (answer->status == 409 || answer->status == 412) {
    result.conflict = message_of(*answer);
    return result;
  }
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable, call.method + " " + server.url() + call.path +
                                              ": the answer is no rule: " + message_of(*answer));
  result.rule = std::move(answer->json);
  return result;
}

}  // namespace

Result<std::vector<RuleState>> rule_states(Server& server, const RuleFilter& filter) {
  std::string query = filter.with_alerts ? "" : "&limit_alerts=0";
  if (!filter.folder_uid.empty()) query += "&folder_uid=" + escape(filter.folder_uid);
  if (!filter.group.empty()) query += "&rule_group=" + escape(filter.group);
  const Call call{.path =
                      "/api/prometheus/grafana/api/v1/rules" + (query.empty() ? "" : "?" + query.substr(1))};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 403 || answer->status == 404) return without_states(server, filter);
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!member(answer->json, "data").is_object())
    return fail(Error::Kind::unavailable,
                "GET " + server.url() + call.path + ": the answer holds no rules: " + message_of(*answer));
  std::vector<RuleState> result;
  for (const auto& group : member(member(answer->json, "data"), "groups")) {
    for (const auto& rule : member(group, "rules")) {
      RuleState state{.uid = text_of(rule, "uid"),
                      .title = text_of(rule, "name"),
                      .folder_uid = text_of(group, "folderUid"),
                      .folder = text_of(group, "file"),
                      .group = text_of(group, "name"),
                      .state = text_of(rule, "state"),
                      .health = text_of(rule, "health"),
                      .last_error = text_of(rule, "lastError"),
                      .since = text_of(rule, "activeAt"),
                      .last_evaluation = text_of(rule, "lastEvaluation"),
                      .paused = flag_of(rule, "isPaused"),
                      .recording = text_of(rule, "type") == "recording"};
      // Never evaluated.
      if (state.last_evaluation.starts_with("0001-")) state.last_evaluation.clear();
      if (member(rule, "labels").is_object()) state.labels = rule["labels"];
      if (filter.with_alerts && member(rule, "alerts").is_array()) state.alerts = rule["alerts"];
      if (fits(state, filter)) result.push_back(std::move(state));
    }
  }
  return result;
}

Result<Json> read_rule(Server& server, const std::string& uid) {
  const Call call{.path = std::string(kRules) + "/" + escape(uid)};
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  // It has no body.
  if (answer->status == 404)
    return fail(Error::Kind::not_found, "GET " + server.url() + call.path +
                                            ": 404: no alert rule has the uid \"" + uid +
                                            "\"; see: tunnelctl alert list");
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable,
                "GET " + server.url() + call.path + ": the answer is no rule: " + message_of(*answer));
  return std::move(answer->json);
}

Result<RuleWritten> create_rule(Server& server, const Json& rule, bool locked) {
  Call call{.method = "POST", .path = kRules, .body = rule};
  for (const char* key : {"id", "updated", "provenance"}) call.body.erase(key);
  if (!locked) call.headers.emplace_back("X-Disable-Provenance", "true");
  return written(server, call);
}

Result<RuleWritten> replace_rule(Server& server, const Json& present, const Json& wanted) {
  const auto provenance = text_of(present, "provenance");
  const auto uid = text_of(present, "uid");
  if (provenance == "file") {
    RuleWritten result;
    result.conflict = "alert rule " + uid + " is provisioned from a file on the server; change that file";
    return result;
  }
  Call call{.method = "PUT", .path = std::string(kRules) + "/" + escape(uid), .body = wanted};
  for (const char* key : {"updated", "provenance"}) call.body.erase(key);
  // A rule that was made with provenance cannot lose it this way: the server answers 500.
  if (provenance.empty()) call.headers.emplace_back("X-Disable-Provenance", "true");
  return written(server, call);
}

Result<void> delete_rule(Server& server, const std::string& uid) {
  const Call call{.method = "DELETE",
                  .path = std::string(kRules) + "/" + escape(uid),
                  .headers = {{"X-Disable-Provenance", "true"}}};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return {};
}

Json merged(Json rule, const Json& change) {
  rule.merge_patch(change);
  return rule;
}

}  // namespace tunnelctl::grafana
