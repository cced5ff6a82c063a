#include "tunnelctl/grafana/datasource_routes.h"

#include <algorithm>
#include <string_view>

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr std::string_view kLoki = "/loki/api/v1/";

/// What Grafana passes on as resources of a Loki. Source: pkg/tsdb/loki/resource.go of Grafana 12.
bool is_resource_of_loki(const std::string& path) {
  if (!path.starts_with(kLoki)) return false;
  const auto rest = std::string_view(path).substr(kLoki.size());
  return rest == "labels" || rest == "series" || rest == "patterns" || rest.starts_with("label/") ||
         rest.starts_with("index/") || rest.starts_with("detected_");
}

}  // namespace

bool closed(unsigned status) {
  return status == 401 || status == 403 || status == 500;
}

DatasourceRoutes::DatasourceRoutes(std::shared_ptr<Server> server, Datasource source)
    : server_(std::move(server)), source_(std::move(source)) {
  forms_ = source_.type != "loki" && text_of(member(source_.json, "jsonData"), "httpMethod") != "GET";
}

std::vector<DatasourceRoutes::Route> DatasourceRoutes::order(const std::string& path) const {
  if (source_.type == "loki" && !is_resource_of_loki(path)) return {Route::proxy};
  std::vector<Route> order = {Route::resources, Route::proxy};
  if (source_.type == "loki") std::reverse(order.begin(), order.end());
  const std::lock_guard lock(mutex_);
  if (const auto known = worked_.find(path); known != worked_.end() && known->second != order.front())
    std::reverse(order.begin(), order.end());
  return order;
}

Call DatasourceRoutes::call(Route route, const SourceAsk& ask) const {
  const auto uid = escape(source_.uid);
  Call call;
  call.headers = ask.headers;
  call.asks = true;
  call.heavy = ask.form;
  call.max_body_bytes = kMaxSourceAnswer;
  if (route == Route::proxy)
    call.path = "/api/datasources/proxy/uid/" + uid + ask.path;
  else if (source_.type == "loki")
    call.path = "/api/datasources/uid/" + uid + "/resources/" + ask.path.substr(kLoki.size());
  else
    call.path = "/api/datasources/uid/" + uid + "/resources" + ask.path;
  if (ask.form && forms_) {
    call.method = "POST";
    call.form = ask.query;
  } else if (!ask.query.empty() || (route == Route::resources && source_.type == "loki")) {
    // Loki's resources are told from each other with the question mark.
    call.path += "?" + ask.query;
  }
  return call;
}

Result<SourceAnswer> DatasourceRoutes::ask(const SourceAsk& ask) const {
  SourceAnswer result;
  const auto routes = order(ask.path);
  for (const Route route : routes) {
    const Call asked = call(route, ask);
    auto answer = server_->call(asked);
    if (!answer) return tl::unexpected(answer.error());
    result.where = asked.method + " " + server_->url() + asked.path.substr(0, asked.path.find('?'));
    result.answer = std::move(*answer);
    if (result.answer.ok()) {
      const std::lock_guard lock(mutex_);
      worked_[ask.path] = route;
      return result;
    }
    if (!closed(result.answer.status) || route == routes.back()) return result;
    const auto said = message_of(result.answer);
    result.refused = std::string(route == Route::proxy ? "proxy" : "resources") + ": " +
                     std::to_string(result.answer.status) + (said.empty() ? "" : ": " + said);
  }
  return result;
}

}  // namespace tunnelctl::grafana
