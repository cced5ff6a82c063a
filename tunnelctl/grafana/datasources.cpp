#include "tunnelctl/grafana/datasources.h"

#include <algorithm>

#include "tunnelctl/grafana/datasource_routes.h"
#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

/// Passwords are written into URLs by some: "http://user:password@host".
std::string without_password(std::string url) {
  const auto scheme = url.find("://");
  const auto start = scheme == std::string::npos ? 0 : scheme + 3;
  const auto at = url.substr(0, url.find_first_of("/?#", start)).rfind('@');
  if (at != std::string::npos && at >= start) url.replace(start, at - start, "***");
  return url;
}

Datasource datasource_of(Json json) {
  if (!text_of(json, "url").empty()) json["url"] = without_password(text_of(json, "url"));
  for (const char* key : {"password", "basicAuthPassword", "secureJsonData"})
    if (json.is_object()) json.erase(key);
  return {.uid = text_of(json, "uid"),
          .name = text_of(json, "name"),
          .type = text_of(json, "type"),
          .url = text_of(json, "url"),
          .is_default = flag_of(json, "isDefault"),
          .read_only = flag_of(json, "readOnly"),
          .json = json};
}

void sort_by_name(std::vector<Datasource>& list) {
  std::sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
}

Result<Datasources> from_settings(Server& server) {
  auto settings = server.get("/api/frontend/settings");
  if (!settings) return tl::unexpected(settings.error());
  Datasources result{.from_settings = true};
  for (const auto& item : member(*settings, "datasources"))
    // Those without a number are Grafana's own: -- Mixed --, -- Dashboard --.
    if (number_of(item, "id") > 0) result.items.push_back(datasource_of(item));
  sort_by_name(result.items);
  return result;
}

/// A question that any working data source of that type answers; nullopt where we know none.
std::optional<Call> probe(const Datasource& source, std::string_view route) {
  const auto uid = escape(source.uid);
  const bool prometheus = source.type == "prometheus";
  const bool loki = source.type == "loki";
  if (!prometheus && !loki) return std::nullopt;
  if (route == "resources")
    return Call{.path = "/api/datasources/uid/" + uid + "/resources/" +
                        (prometheus ? "api/v1/query?query=1" : "labels")};
  if (route == "proxy")
    return Call{.path = "/api/datasources/proxy/uid/" + uid +
                        (prometheus ? "/api/v1/query?query=1" : "/loki/api/v1/labels")};
  Json query{{"refId", "A"},
             {"datasource", {{"type", source.type}, {"uid", source.uid}}},
             {"expr", prometheus ? "1" : "vector(1)"}};
  query[prometheus ? "instant" : "queryType"] = prometheus ? Json(true) : Json("instant");
  return Call{.method = "POST",
              .path = "/api/ds/query",
              .body = {{"from", "now-5m"}, {"to", "now"}, {"queries", Json::array({query})}},
              .asks = true};
}

std::vector<std::string> routes_of(const Datasource& source) {
  if (source.type == "prometheus") return {"resources", "proxy", "query"};
  if (source.type == "loki") return {"proxy", "resources", "query"};
  return {};
}

/// That plugin has no health check.
bool no_health(const Route& route) {
  return route.name == "health" && (route.status == 404 || route.status == 501);
}

std::string said(const Route& route) {
  return route.name + " " + (route.status == 0 ? "no answer" : std::to_string(route.status)) +
         (route.said.empty() ? "" : " (" + route.said + ")");
}

void settle(Check& check, const Route& route, bool ok, bool more) {
  check.tried.push_back(route);
  if (ok) {
    check.state = Check::State::ok;
    check.message = route.said;
    if (route.name != "health") {
      check.message = "answers by the route " + route.name;
      if (route.name == "query")
        check.message += " alone: tunnelctl datasource query works, tunnelctl " +
                         std::string(check.datasource.type == "loki" ? "logs" : "metrics") + " does not";
      check.message += "; refused: ";
      for (std::size_t i = 0; i + 1 < check.tried.size(); ++i)
        check.message += (i == 0 ? "" : ", ") + said(check.tried[i]);
    }
    return;
  }
  if (more && (closed(route.status) || no_health(route))) return;  // the next route
  check.state = Check::State::failed;
  check.message.clear();
  for (const auto& one : check.tried) check.message += (check.message.empty() ? "" : ", ") + said(one);
}

Result<DatasourceWritten> written(Server& server, const Call& call) {
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 409 || answer->status == 412)
    return DatasourceWritten{.conflict = message_of(*answer)};
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!member(answer->json, "datasource").is_object())
    return fail(Error::Kind::unavailable, call.method + " " + server.url() + call.path +
                                              ": the answer is no data source: " + message_of(*answer));
  return DatasourceWritten{.datasource = datasource_of(answer->json["datasource"])};
}

}  // namespace

Result<Datasources> list_datasources(Server& server) {
  const Call call{.path = "/api/datasources"};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  // Editors without more rights may not list them, yet may use them.
  if (answer->status == 403) return from_settings(server);
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!answer->json.is_array())
    return fail(Error::Kind::unavailable,
                "GET " + server.url() + call.path + ": the answer is no list: " + message_of(*answer));
  Datasources result;
  for (const auto& item : answer->json) result.items.push_back(datasource_of(item));
  sort_by_name(result.items);
  return result;
}

Result<Datasource> find_datasource(Server& server, const std::string& uid_or_name) {
  for (const char* by : {"uid", "name"}) {
    const Call call{.path = std::string("/api/datasources/") + by + "/" + escape(uid_or_name)};
    const auto answer = server.call(call);
    if (!answer) return tl::unexpected(answer.error());
    if (answer->ok() && answer->json.is_object()) return datasource_of(answer->json);
    if (answer->status != 404 && answer->status != 403 && answer->status != 400)
      return tl::unexpected(server.error(call, *answer));
    if (answer->status == 403) break;
  }
  auto all = list_datasources(server);
  if (!all) return tl::unexpected(all.error());
  std::string names;
  for (const auto& one : all->items) {
    if (one.uid == uid_or_name || one.name == uid_or_name) return one;
    names += (names.empty() ? "" : ", ") + one.name + " (" + one.uid + ")";
  }
  return fail(Error::Kind::not_found, "no data source has the uid or name \"" + uid_or_name +
                                          "\"; there are: " + (names.empty() ? "none" : names));
}

Result<DatasourceWritten> create_datasource(Server& server, const Json& json) {
  return written(server, {.method = "POST", .path = "/api/datasources", .body = json});
}

Result<DatasourceWritten> update_datasource(Server& server, const std::string& uid, const Json& change) {
  const auto path = "/api/datasources/uid/" + escape(uid);
  auto present = server.get(path);
  if (!present) return tl::unexpected(present.error());
  if (flag_of(*present, "readOnly"))
    return DatasourceWritten{.conflict = "it is provisioned from a file on the server; change that file"};
  // The whole object goes back, with the version that was read. Secrets that are not named stay.
  present->merge_patch(change);
  return written(server, {.method = "PUT", .path = path, .body = std::move(*present)});
}

Result<void> delete_datasource(Server& server, const std::string& uid) {
  const Call call{.method = "DELETE", .path = "/api/datasources/uid/" + escape(uid)};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return {};
}

std::vector<Check> check_datasources(Server& server, const std::vector<Datasource>& datasources,
                                     const std::function<void(std::size_t)>& done) {
  std::vector<Check> checks;
  std::vector<bool> settled(datasources.size(), false);
  for (const auto& source : datasources) checks.push_back({.datasource = source});
  const auto report = [&] {
    if (done) done(static_cast<std::size_t>(std::count(settled.begin(), settled.end(), true)));
  };
  // Round 0 is the health; the others are the data routes of each.
  for (std::size_t round = 0; round <= 3; ++round) {
    std::vector<Call> calls;
    std::vector<std::pair<std::size_t, std::string>> whose;
    for (std::size_t i = 0; i < checks.size(); ++i) {
      if (settled[i]) continue;
      if (round == 0) {
        calls.push_back({.path = "/api/datasources/uid/" + escape(datasources[i].uid) + "/health"});
        whose.emplace_back(i, "health");
        continue;
      }
      const auto routes = routes_of(datasources[i]);
      if (round - 1 >= routes.size()) continue;
      calls.push_back(*probe(datasources[i], routes[round - 1]));
      whose.emplace_back(i, routes[round - 1]);
    }
    server.calls(calls, [&](std::size_t index, Result<Answer> answer) {
      const auto& [source, name] = whose[index];
      Route route{.name = name};
      if (!answer) {
        route.said = answer.error().message;
      } else {
        route.status = answer->status;
        route.said = message_of(*answer).substr(0, answer->ok() && name != "health" ? 0 : std::string::npos);
      }
      Check& check = checks[source];
      const bool right = answer && answer->ok() && answer->json.is_object() &&
                         (name != "health" || text_of(answer->json, "status") != "ERROR");
      const bool more = round < routes_of(check.datasource).size();
      settle(check, route, right, more);
      // What has no health check and no route of its own is nothing we can judge.
      if (name == "health" && !right && !more && (no_health(route) || route.status == 403)) {
        check.state = Check::State::unknown;
        check.message =
            route.status == 403 ? "not allowed to ask: " + route.said : "its plugin has no health check";
      }
      settled[source] = check.state != Check::State::unknown || !more;
      report();
    });
  }
  return checks;
}

}  // namespace tunnelctl::grafana
