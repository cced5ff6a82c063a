#include "tunnelctl/prometheus/server.h"

#include "common/http_url.h"
#include "tunnelctl/prometheus/api.h"

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

Server::Server(std::unique_ptr<Api> api) : api_(std::move(api)) {}
Server::Server(Server&&) noexcept = default;
Server& Server::operator=(Server&&) noexcept = default;
Server::~Server() = default;

Result<Server> Server::make(Connection connection, std::stop_token stop) {
  auto api = Api::make(std::move(connection), std::move(stop));
  if (!api) return tl::unexpected(api.error());
  return Server(std::make_unique<Api>(std::move(*api)));
}

const std::string& Server::url() const {
  return api_->url();
}

Result<Data> Server::query(const std::string& expr, Time at) const {
  auto answer = api_->get("/api/v1/query", {{"query", expr}, {"time", seconds(at.time_since_epoch())}}, true);
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<Data> Server::query_range(const std::string& expr, const Range& range) const {
  auto answer = api_->get("/api/v1/query_range",
                          {{"query", expr},
                           {"start", seconds(range.from.time_since_epoch())},
                           {"end", seconds(range.to.time_since_epoch())},
                           {"step", seconds(range.step)}},
                          true);
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<std::vector<std::string>> Server::label_values(const std::string& label, const std::string& selector,
                                                      const Range& range) const {
  Parameters parameters{{"start", seconds(range.from.time_since_epoch())},
                        {"end", seconds(range.to.time_since_epoch())}};
  if (!selector.empty()) parameters.emplace_back("match[]", selector);
  const std::string path = "/api/v1/label/" + http::percent_encode(label) + "/values";
  auto answer = api_->get(path, parameters);
  if (!answer) return tl::unexpected(answer.error());
  std::vector<std::string> result;
  if (const auto data = answer->find("data"); data != answer->end() && data->is_array())
    for (const Json& one : *data)
      if (one.is_string()) result.push_back(one.get<std::string>());
  return result;
}

Result<std::vector<RuleGroup>> Server::rules() const {
  auto answer = api_->get("/api/v1/rules", {});
  if (!answer) return tl::unexpected(answer.error());
  auto groups = read_rules(*answer);
  if (!groups) return fail(groups.error().kind, url() + "/api/v1/rules: " + groups.error().message);
  return groups;
}

Result<std::vector<Target>> Server::targets() const {
  auto answer = api_->get("/api/v1/targets", {{"state", "active"}});
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Target> result;
  const auto data = answer->find("data");
  if (data == answer->end())
    return fail(Error::Kind::unavailable, url() + "/api/v1/targets: no targets inside");
  for (const Json* target : objects(*data, "activeTargets"))
    result.push_back({.labels = texts_of(*target, "labels"),
                      .url = text_of(*target, "scrapeUrl"),
                      .health = text_of(*target, "health"),
                      .last_error = text_of(*target, "lastError")});
  return result;
}

}  // namespace tunnelctl::prometheus
