#include "tunnelctl/monitor/write.h"

#include <algorithm>

namespace tunnelctl::monitor {
namespace {

using grafana::Call;
using grafana::escape;

constexpr const char* kPolicies = "/api/v1/provisioning/policies";

std::vector<std::pair<std::string, std::string>> provenance(bool editable) {
  if (!editable) return {};
  return {{"X-Disable-Provenance", "true"}};  // its presence counts
}

std::string group_path(const Key& key) {
  const auto slash = key.id.find('/');
  return "/api/v1/provisioning/folder/" + escape(key.id.substr(0, slash)) + "/rule-groups/" +
         escape(key.id.substr(slash + 1));
}

std::string path_of(const Key& key) {
  switch (key.kind) {
    case Kind::folder: return "/api/folders/" + escape(key.id);
    case Kind::dashboard: return "/api/dashboards/uid/" + escape(key.id);
    case Kind::rule_group: return group_path(key);
    case Kind::contact_point: return "/api/v1/provisioning/contact-points/" + escape(key.id);
    case Kind::template_group: return "/api/v1/provisioning/templates/" + escape(key.id);
    case Kind::mute_timing: return "/api/v1/provisioning/mute-timings/" + escape(key.id);
    case Kind::routes: return kPolicies;
  }
  return {};
}

Json dashboard_body(Json dashboard, const std::string& folder, bool overwrite, const std::string& message) {
  dashboard.erase("id");  // belongs to one life of the object on one server
  return {{"dashboard", std::move(dashboard)},
          {"folderUid", folder},
          {"overwrite", overwrite},
          {"message", message}};
}

/// Rules carry their place twice, in the path and in themselves.
Json group_body(const Key& key, Json content) {
  const auto slash = key.id.find('/');
  for (Json& rule : content["rules"]) {
    rule["folderUID"] = key.id.substr(0, slash);
    rule["ruleGroup"] = key.id.substr(slash + 1);
    for (Json& node : rule["data"])
      if (!node.contains("relativeTimeRange")) node["relativeTimeRange"] = {{"from", 0}, {"to", 0}};
    // Normalising took away what means nothing; the API wants these said.
    if (!rule.contains("record") && !rule.contains("for")) rule["for"] = "0s";
    if (rule.contains("record")) {
      for (const auto& [name, value] :
           {std::pair{"condition", "A"}, {"noDataState", "OK"}, {"execErrState", "Error"}, {"for", "0s"}})
        if (!rule.contains(name)) rule[name] = value;
    }
  }
  return content;
}

Json contact_point_body(const Change& change) {
  Json body = change.wanted.content;
  if (change.send_secrets)
    for (const auto& [key, secret] : change.wanted.secrets)
      body["settings"][key] = std::string(secret.reveal());
  return body;
}

bool is_of(const Json& route, const std::string& pack) {
  return route.value("object_matchers", Json()) ==
         Json::array({Json::array({std::string(kPackLabel), "=", pack})});
}

}  // namespace

std::optional<Call> request(const Change& change, const ApplyOptions& options) {
  const Key& key = change.wanted.key;
  const Json& content = change.wanted.content;
  const bool create = change.action == Action::create;
  Call call{.method = create ? "POST" : "PUT", .path = path_of(key)};
  if (change.action == Action::remove) {
    call.method = "DELETE";
    if (key.kind == Kind::routes) return std::nullopt;
    if (key.kind == Kind::contact_point || key.kind == Kind::mute_timing ||
        key.kind == Kind::template_group || key.kind == Kind::rule_group)
      call.headers = provenance(options.editable);
    return call;
  }
  switch (key.kind) {
    case Kind::folder:
      if (create) {
        call.path = "/api/folders";
        call.body = content;
      } else {
        call.body = {{"title", content["title"]}, {"version", change.before.version}};
      }
      return call;
    case Kind::dashboard: {
      call.method = "POST";
      call.path = "/api/dashboards/db";
      Json dashboard = content;
      if (!create) dashboard["version"] = change.before.version;
      call.body = dashboard_body(std::move(dashboard), change.wanted.folder, false, options.message);
      return call;
    }
    case Kind::rule_group:
      call.method = "PUT";
      call.body = group_body(key, content);
      call.headers = provenance(options.editable);
      return call;
    case Kind::contact_point:
      if (create) call.path = "/api/v1/provisioning/contact-points";
      call.body = contact_point_body(change);
      call.headers = provenance(options.editable);
      return call;
    case Kind::template_group:
      call.method = "PUT";
      call.body = {{"template", content["template"]}};
      if (!create && change.before.raw.contains("version"))
        call.body["version"] = change.before.raw["version"];
      call.headers = provenance(options.editable);
      return call;
    case Kind::mute_timing:
      if (create) call.path = "/api/v1/provisioning/mute-timings";
      call.body = content;
      if (!create && change.before.raw.contains("version"))
        call.body["version"] = change.before.raw["version"];
      call.headers = provenance(options.editable);
      return call;
    case Kind::routes: return std::nullopt;
  }
  return std::nullopt;
}

std::optional<Call> look(const Change& change) {
  const Key& key = change.wanted.key;
  if (key.kind == Kind::rule_group) return Call{.path = path_of(key)};
  if (key.kind == Kind::contact_point) return Call{.path = "/api/v1/provisioning/contact-points"};
  if (key.kind == Kind::template_group && change.action == Action::create) return Call{.path = path_of(key)};
  return std::nullopt;
}

std::optional<Call> restoring(const Change& change) {
  const Key& key = change.wanted.key;
  const Json& raw = change.before.raw;
  const bool editable = change.before.provenance.empty();
  if (key.kind == Kind::routes) return std::nullopt;
  if (change.action == Action::create) return Call{.method = "DELETE", .path = path_of(key)};
  const bool removed = change.action == Action::remove;
  Call call{.method = "PUT", .path = path_of(key)};
  switch (key.kind) {
    case Kind::folder:
      if (removed) {
        call.method = "POST";
        call.path = "/api/folders";
        call.body = {{"uid", key.id}, {"title", raw.value("title", "")}};
        if (raw.contains("parentUid")) call.body["parentUid"] = raw["parentUid"];
      } else {
        call.body = {{"title", raw.value("title", "")}, {"overwrite", true}};
      }
      return call;
    case Kind::dashboard: {
      call.method = "POST";
      call.path = "/api/dashboards/db";
      Json dashboard = Json::parse(raw.get<std::string>());
      dashboard.erase("version");
      call.body = dashboard_body(std::move(dashboard), change.before.folder, true, "restored by tunnelctl");
      return call;
    }
    case Kind::rule_group:
      call.body = raw;
      call.headers = provenance(editable);
      return call;
    case Kind::contact_point:
      if (removed) {
        call.method = "POST";
        call.path = "/api/v1/provisioning/contact-points";
      }
      call.body = raw;  // "[REDACTED]" keeps the secret that the server has
      call.body.erase("provenance");
      call.headers = provenance(editable);
      return call;
    case Kind::template_group:
      call.body = {{"template", raw.value("template", "")}};
      call.headers = provenance(editable);
      return call;
    case Kind::mute_timing:
      if (removed) {
        call.method = "POST";
        call.path = "/api/v1/provisioning/mute-timings";
      }
      call.body = {{"name", key.id}, {"time_intervals", raw.value("time_intervals", Json::array())}};
      call.headers = provenance(editable);
      return call;
    case Kind::routes: break;
  }
  return std::nullopt;
}

Result<void> write_routes(grafana::Server& server, const std::string& pack, const Json& subtree,
                          const std::optional<Json>& expected) {
  auto tree = server.get(kPolicies);
  if (!tree) return tl::unexpected(tree.error());
  Json routes = tree->value("routes", Json::array());
  if (routes.is_null()) routes = Json::array();
  const auto own =
      std::find_if(routes.begin(), routes.end(), [&](const Json& one) { return is_of(one, pack); });
  if (expected) {
    const Json there = own == routes.end() ? Json() : normalise(Kind::routes, *own);
    if (there == (subtree.is_null() ? Json() : normalise(Kind::routes, subtree))) return {};
    if (there != *expected)
      return fail(Error::Kind::bad_input,
                  "the notification routes were changed by someone else since the plan; run it again");
  }
  if (own != routes.end() && subtree.is_null()) {
    routes.erase(own);
  } else if (own != routes.end()) {
    *own = subtree;
  } else if (!subtree.is_null()) {
    // In front: a route of somebody else's that matches everything must not swallow the pack's alerts.
    routes.insert(routes.begin(), subtree);
  } else {
    return {};
  }
  (*tree)["routes"] = std::move(routes);
  // The tree is everybody's: who could change it in Grafana's pages still can. And back from "api" to that
  // there is no way but to delete all of it.
  const bool editable = tree->value("provenance", "").empty();
  tree->erase("provenance");
  const Call put{
      .method = "PUT", .path = kPolicies, .body = std::move(*tree), .headers = provenance(editable)};
  auto answer = server.call(put);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(put, *answer));
  return {};
}

std::string inspection(const Key& key) {
  switch (key.kind) {
    case Kind::folder: return "tunnelctl folder get " + key.id;
    case Kind::dashboard: return "tunnelctl dashboard get " + key.id;
    case Kind::rule_group: return "tunnelctl alert list --group " + key.id.substr(key.id.find('/') + 1);
    case Kind::contact_point:
    case Kind::template_group:
    case Kind::mute_timing:
    case Kind::routes: return "tunnelctl contact-point list";
  }
  return {};
}

}  // namespace tunnelctl::monitor
