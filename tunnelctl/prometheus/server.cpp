#include "tunnelctl/prometheus/server.h"

#include <algorithm>

#include "common/http_url.h"
#include "tunnelctl/prometheus/answer.h"
#include "tunnelctl/prometheus/direct.h"
#include "tunnelctl/prometheus/names.h"

namespace tunnelctl::prometheus {
namespace {

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Texts texts_of(const Json& object, const char* key) {
  Texts result;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_object()) return result;
  for (const auto& [name, value] : found->items())
    if (value.is_string()) result[name] = value.get<std::string>();
  return result;
}

/// The list at `key`, empty when there is none; only its objects.
std::vector<const Json*> objects(const Json& holder, const char* key) {
  std::vector<const Json*> result;
  if (!holder.is_object()) return result;
  const auto list = holder.find(key);
  if (list == holder.end() || !list->is_array()) return result;
  for (const Json& one : *list)
    if (one.is_object()) result.push_back(&one);
  return result;
}

Rule rule_of(const Json& json) {
  return {.name = text_of(json, "name"),
          .alerting = text_of(json, "type") != "recording",
          .query = text_of(json, "query"),
          .labels = texts_of(json, "labels"),
          .health = text_of(json, "health"),
          .last_error = text_of(json, "lastError"),
          .state = text_of(json, "state")};
}

}  // namespace

Result<std::vector<RuleGroup>> read_rules(const Json& answer) {
  std::vector<RuleGroup> result;
  const auto data = answer.is_object() ? answer.find("data") : answer.end();
  if (data == answer.end() || !data->is_object() || !data->contains("groups"))
    return fail(Error::Kind::unavailable, "the answer holds no groups of rules");
  for (const Json* group : objects(*data, "groups")) {
    RuleGroup one{.name = text_of(*group, "name"), .file = text_of(*group, "file")};
    if (const auto interval = group->find("interval"); interval != group->end() && interval->is_number())
      one.interval_seconds = interval->get<double>();
    for (const Json* rule : objects(*group, "rules")) one.rules.push_back(rule_of(*rule));
    result.push_back(std::move(one));
  }
  return result;
}

Result<Server> Server::make(Connection connection, std::stop_token stop) {
  auto way = Direct::make(std::move(connection), std::move(stop));
  if (!way) return tl::unexpected(way.error());
  return Server(std::move(*way));
}

Result<Data> Server::query(const std::string& expr, std::optional<Time> at) const {
  Ask ask{.path = "/api/v1/query", .parameters = {{"query", expr}}, .form = true};
  if (at) ask.parameters.emplace_back("time", seconds(at->time_since_epoch()));
  auto answer = way_->get(ask);
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<Data> Server::query_range(const std::string& expr, const Range& range) const {
  auto answer = way_->get({.path = "/api/v1/query_range",
                           .parameters = {{"query", expr},
                                          {"start", seconds(range.from.time_since_epoch())},
                                          {"end", seconds(range.to.time_since_epoch())},
                                          {"step", seconds(range.step)}},
                           .form = true});
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<Names> Server::names(std::string path, const Scope& scope, bool form) const {
  Ask ask{.path = std::move(path), .form = form};
  if (scope.range) {
    ask.parameters.emplace_back("start", seconds(scope.range->from.time_since_epoch()));
    ask.parameters.emplace_back("end", seconds(scope.range->to.time_since_epoch()));
  }
  for (const auto& selector : scope.selectors) ask.parameters.emplace_back("match[]", selector);
  auto answer = way_->get(ask);
  if (!answer) return tl::unexpected(answer.error());
  auto items = read_names(*answer);
  if (!items) return fail(items.error().kind, name() + ask.path + ": " + items.error().message);
  std::sort(items->begin(), items->end());
  return Names{std::move(*items), read_warnings(*answer)};
}

Result<Names> Server::label_values(const std::string& label, const Scope& scope) const {
  return names("/api/v1/label/" + http::percent_encode(label_in_path(label)) + "/values", scope, false);
}

Result<Names> Server::label_names(const Scope& scope) const {
  return names("/api/v1/labels", scope, true);
}

Result<Names> Server::metric_names(const std::string& regexp, const Scope& scope) const {
  Scope within = scope;
  // The server refuses selectors that also match a series without the label.
  if (!regexp.empty())
    within.selectors = {"{__name__!=\"\",__name__=~" + promql_string("(?s:.*)(?:" + regexp + ")(?s:.*)") +
                        "}"};
  return label_values("__name__", within);
}

Result<std::map<std::string, std::vector<Metadata>>> Server::metadata(const std::string& metric) const {
  Ask ask{.path = "/api/v1/metadata"};
  if (!metric.empty()) ask.parameters.emplace_back("metric", metric);
  const auto answer = way_->get(ask);
  if (!answer) return tl::unexpected(answer.error());
  const auto data = answer->find("data");
  if (data == answer->end() || !data->is_object())
    return fail(Error::Kind::unavailable, name() + "/api/v1/metadata: no metadata inside");
  std::map<std::string, std::vector<Metadata>> result;
  for (const auto& [named, list] : data->items()) {
    if (!list.is_array()) continue;
    auto& of = result[named];
    for (const Json& one : list)
      of.push_back(
          {.type = text_of(one, "type"), .help = text_of(one, "help"), .unit = text_of(one, "unit")});
  }
  return result;
}

Result<std::vector<std::string>> Server::label_values(const std::string& label, const std::string& selector,
                                                      const Range& range) const {
  Scope scope{.range = range};
  if (!selector.empty()) scope.selectors.push_back(selector);
  auto found = label_values(label, scope);
  if (!found) return tl::unexpected(found.error());
  return std::move(found->items);
}

Result<std::vector<RuleGroup>> Server::rules() const {
  auto answer = way_->get({.path = "/api/v1/rules"});
  if (!answer) return tl::unexpected(answer.error());
  auto groups = read_rules(*answer);
  if (!groups) return fail(groups.error().kind, name() + "/api/v1/rules: " + groups.error().message);
  return groups;
}

Result<std::vector<Target>> Server::targets() const {
  auto answer = way_->get({.path = "/api/v1/targets", .parameters = {{"state", "active"}}});
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Target> result;
  const auto data = answer->find("data");
  if (data == answer->end())
    return fail(Error::Kind::unavailable, name() + "/api/v1/targets: no targets inside");
  for (const Json* target : objects(*data, "activeTargets"))
    result.push_back({.labels = texts_of(*target, "labels"),
                      .url = text_of(*target, "scrapeUrl"),
                      .health = text_of(*target, "health"),
                      .last_error = text_of(*target, "lastError")});
  return result;
}

}  // namespace tunnelctl::prometheus
