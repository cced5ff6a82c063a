#include "tunnelctl/monitor/observe.h"

#include <algorithm>
#include <functional>

#include "tunnelctl/monitor/normalise.h"

namespace tunnelctl::monitor {
namespace {

using grafana::Answer;
using grafana::Call;
using grafana::escape;

constexpr std::size_t kManyDashboards = 50;
constexpr int kPage = 5000;  // the largest that Grafana's search allows

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_list(const Json& json) {
  return json.is_array() || json.is_null();
}

class Observer {
 public:
  Observer(grafana::Server& server, const std::vector<Object>& wanted, const std::set<std::string>& packs)
      : server_(server), wanted_(wanted), packs_(packs) {}

  Result<Observed> run() {
    for (const auto step : {&Observer::folders, &Observer::dashboards, &Observer::rules,
                            &Observer::notifications, &Observer::permissions}) {
      if (auto done = (this->*step)(); !done) return tl::unexpected(done.error());
    }
    return std::move(result_);
  }

 private:
  bool wants(Kind kind) const {
    return std::any_of(wanted_.begin(), wanted_.end(),
                       [&](const Object& one) { return one.key.kind == kind; });
  }
  std::set<std::string> folder_uids() const {
    std::set<std::string> uids;
    for (const auto& one : wanted_)
      if (one.key.kind == Kind::folder) uids.insert(one.key.id);
    return uids;
  }

  /// A list, or null for none.
  Result<Json> list(const std::string& path) {
    auto answer = server_.get(path);
    if (!answer) return answer;
    if (!is_list(*answer)) return fail(Error::Kind::unavailable, "GET " + path + ": the answer is no list");
    if (answer->is_null()) return Json::array();
    return answer;
  }

  /// Hands over each path's answer as it comes; what answers 404 is not there. `hidden_is_missing`: a 403
  /// too, because Grafana says that of a folder which does not exist to everybody but administrators.
  Result<void> each(const std::vector<std::string>& paths, const std::function<void(std::size_t, Json)>& take,
                    bool hidden_is_missing = false) {
    std::vector<Call> calls;
    for (const auto& path : paths) calls.push_back({.path = path});
    std::optional<Error> failed;
    server_.calls(calls, [&](std::size_t i, Result<Answer> answer) {
      if (failed) return;
      if (!answer)
        failed = answer.error();
      else if (answer->status == 404 || (hidden_is_missing && answer->status == 403))
        return;
      else if (!answer->ok() || !answer->json.is_object())
        failed = server_.error(calls[i], *answer);
      else
        take(i, std::move(answer->json));
    });
    if (failed) return tl::unexpected(*failed);
    return {};
  }

  Result<void> folders() {
    const auto uids = folder_uids();
    std::vector<std::string> paths;
    for (const auto& uid : uids) paths.push_back("/api/folders/" + escape(uid));
    const std::vector<std::string> ids(uids.begin(), uids.end());
    return each(
        paths,
        [&](std::size_t i, Json raw) {
          Seen seen{.content = {{"uid", ids[i]}, {"title", text_of(raw, "title")}},
                    .title = text_of(raw, "title"),
                    .version = raw.value("version", std::int64_t{0})};
          seen.ours = true;  // a folder bears no mark; its uid is the pack's choice
          seen.raw = std::move(raw);
          result_.objects[{Kind::folder, ids[i]}] = std::move(seen);
        },
        true);
  }

  Seen seen_dashboard(Json answer) const {
    const Json meta = answer.value("meta", Json::object());
    Json& dashboard = answer["dashboard"];
    Seen seen{.title = text_of(dashboard, "title"), .folder = text_of(meta, "folderUid")};
    seen.version = dashboard.value("version", std::int64_t{0});
    seen.provisioned = meta.value("provisioned", false);
    for (const auto& pack : packs_)
      for (const Json& tag : dashboard.value("tags", Json::array()))
        seen.ours = seen.ours || tag == pack_tag(pack);
    // A tree takes many times the memory of its text, and there may be thousands.
    seen.raw = dashboard.dump();
    seen.content = normalise(Kind::dashboard, std::move(dashboard));
    return seen;
  }

  Result<std::set<std::string>> search(const std::string& more) {
    std::set<std::string> uids;
    for (int page = 1;; ++page) {
      auto found = list("/api/search?type=dash-db&limit=" + std::to_string(kPage) +
                        "&page=" + std::to_string(page) + more);
      if (!found) return tl::unexpected(found.error());
      for (const Json& one : *found) uids.insert(text_of(one, "uid"));
      if (found->size() < kPage) return uids;
    }
  }

  Result<void> dashboards() {
    std::set<std::string> uids;
    for (const auto& one : wanted_)
      if (one.key.kind == Kind::dashboard) uids.insert(one.key.id);
    // One request for each wanted one, unless they are so many that asking which exist at all is cheaper.
    if (uids.size() > kManyDashboards) {
      auto all = search("");
      if (!all) return tl::unexpected(all.error());
      std::erase_if(uids, [&](const std::string& uid) { return !all->contains(uid); });
    }
    for (const auto& pack : packs_) {
      auto marked = search("&tag=" + escape(pack_tag(pack)));
      if (!marked) return tl::unexpected(marked.error());
      uids.merge(*marked);
    }
    std::vector<std::string> paths;
    for (const auto& uid : uids) paths.push_back("/api/dashboards/uid/" + escape(uid));
    const std::vector<std::string> ids(uids.begin(), uids.end());
    auto done = each(paths, [&](std::size_t i, Json answer) {
      if (answer.contains("dashboard"))
        result_.objects[{Kind::dashboard, ids[i]}] = seen_dashboard(std::move(answer));
    });
    if (!done) return done;
    // Whether a folder could go, too.
    for (const auto& folder : folder_uids()) {
      if (!result_.objects.contains({Kind::folder, folder})) continue;
      auto inside = list("/api/search?limit=" + std::to_string(kPage) + "&folderUIDs=" + escape(folder));
      if (!inside) return tl::unexpected(inside.error());
      for (const Json& one : *inside) {
        const auto seen = result_.objects.find({Kind::dashboard, text_of(one, "uid")});
        if (seen == result_.objects.end() || !seen->second.ours) result_.shared_folders.insert(folder);
      }
    }
    return {};
  }

  Result<void> rules() {
    auto all = list("/api/v1/provisioning/alert-rules");
    if (!all) return tl::unexpected(all.error());
    std::map<std::string, Json> groups;  // by "<folder>/<group>": those with a rule of ours, or wanted
    std::set<std::string> marked;
    for (const Json& rule : *all) {
      const std::string place = text_of(rule, "folderUID") + "/" + text_of(rule, "ruleGroup");
      result_.rule_places[text_of(rule, "uid")] = place;
      // Asked for its group, Grafana leaves this out. Files win: they cannot be changed.
      if (const auto provenance = text_of(rule, "provenance"); !provenance.empty())
        if (auto& known = provenances_[place]; known != "file") known = provenance;
      const bool ours =
          packs_.contains(text_of(rule.value("labels", Json::object()), std::string(kPackLabel).c_str()));
      if (ours)
        marked.insert(place);
      else if (folder_uids().contains(text_of(rule, "folderUID")))
        result_.shared_folders.insert(text_of(rule, "folderUID"));
    }
    for (const auto& one : wanted_)
      if (one.key.kind == Kind::rule_group) marked.insert(one.key.id);
    std::vector<std::string> ids;
    std::vector<std::string> paths;
    for (const auto& place : marked) {
      const bool exists = std::any_of(result_.rule_places.begin(), result_.rule_places.end(),
                                      [&](const auto& rule) { return rule.second == place; });
      if (!exists) continue;
      const auto slash = place.find('/');
      ids.push_back(place);
      paths.push_back("/api/v1/provisioning/folder/" + escape(place.substr(0, slash)) + "/rule-groups/" +
                      escape(place.substr(slash + 1)));
    }
    return each(paths, [&](std::size_t i, Json raw) {
      result_.objects[{Kind::rule_group, ids[i]}] = seen_group(ids[i], std::move(raw));
    });
  }

  Seen seen_group(const std::string& place, Json raw) const {
    Seen seen{.title = text_of(raw, "title")};
    if (const auto known = provenances_.find(place); known != provenances_.end())
      seen.provenance = known->second;
    const Json& rules = raw["rules"];
    for (const Json& rule : rules) {
      if (packs_.contains(text_of(rule.value("labels", Json::object()), std::string(kPackLabel).c_str())))
        seen.ours = true;
      else
        seen.strangers.push_back(text_of(rule, "title"));
    }
    seen.provisioned = seen.provenance == "file";
    seen.content = normalise(Kind::rule_group, {{"title", raw.value("title", "")},
                                                {"folderUid", raw.value("folderUid", "")},
                                                {"interval", raw.value("interval", 0)},
                                                {"rules", rules}});
    seen.raw = std::move(raw);
    return seen;
  }

  bool is_own(const std::string& id) const {
    return std::any_of(packs_.begin(), packs_.end(),
                       [&](const auto& pack) { return id.starts_with(own_prefix(pack)); });
  }

  Result<void> notifications() {
    const bool asked = wants(Kind::routes) || wants(Kind::contact_point);
    auto points = list("/api/v1/provisioning/contact-points");
    // Without any wish about notifications, a server that hides them is no obstacle.
    if (!points) return asked ? Result<void>(tl::unexpected(points.error())) : Result<void>();
    for (Json& raw : *points) {
      const std::string uid = text_of(raw, "uid"), name = text_of(raw, "name");
      const bool ours = is_own(uid);
      result_.contact_point_names[name] = result_.contact_point_names[name] || !ours;
      if (!ours) continue;
      Seen seen{
          .title = name + "/" + text_of(raw, "type"), .provenance = text_of(raw, "provenance"), .ours = true};
      Json content = raw;
      content.erase("provenance");
      seen.content = normalise(Kind::contact_point, std::move(content));
      seen.provisioned = seen.provenance == "file";
      seen.raw = std::move(raw);
      result_.objects[{Kind::contact_point, uid}] = std::move(seen);
    }
    if (auto done = named("/api/v1/provisioning/templates", Kind::template_group, "template"); !done)
      return done;
    if (auto done = named("/api/v1/provisioning/mute-timings", Kind::mute_timing, "time_intervals"); !done)
      return done;
    return routes();
  }

  Result<void> named(const std::string& path, Kind kind, const char* content_key) {
    auto all = list(path);
    if (!all) return tl::unexpected(all.error());
    for (Json& raw : *all) {
      const std::string name = text_of(raw, "name");
      if (!is_own(name)) continue;
      Seen seen{.title = name, .provenance = text_of(raw, "provenance"), .ours = true};
      seen.content = normalise(kind, {{"name", name}, {content_key, raw.value(content_key, Json())}});
      seen.provisioned = seen.provenance == "file";
      seen.raw = std::move(raw);
      result_.objects[{kind, name}] = std::move(seen);
    }
    return {};
  }

  Result<void> routes() {
    auto tree = server_.get("/api/v1/provisioning/policies");
    if (!tree) return tl::unexpected(tree.error());
    for (const auto& pack : packs_) {
      const Json mark = Json::array({Json::array({std::string(kPackLabel), "=", pack})});
      for (const Json& route : tree->value("routes", Json::array())) {
        if (route.value("object_matchers", Json()) != mark) continue;
        Seen seen{.content = normalise(Kind::routes, route),
                  .raw = route,
                  .title = "routes of pack " + pack,
                  .provenance = text_of(*tree, "provenance"),
                  .ours = true};
        seen.provisioned = seen.provenance == "file";
        result_.objects[{Kind::routes, pack}] = std::move(seen);
        break;
      }
    }
    result_.routes_provisioned = text_of(*tree, "provenance") == "file";
    return {};
  }

  Result<void> permissions() {
    auto answer = server_.call({.path = "/api/access-control/user/permissions"});
    if (!answer) return tl::unexpected(answer.error());
    if (!answer->ok() || !answer->json.is_object()) return {};
    result_.permissions.emplace();
    for (const auto& item : answer->json.items()) result_.permissions->insert(item.key());
    return {};
  }

  grafana::Server& server_;
  const std::vector<Object>& wanted_;
  const std::set<std::string>& packs_;
  std::map<std::string, std::string> provenances_;  // of rules, by "<folder>/<group>"
  Observed result_;
};

}  // namespace

Result<Observed> observe(grafana::Server& server, const std::vector<Object>& wanted,
                         const std::set<std::string>& packs) {
  return Observer(server, wanted, packs).run();
}

Result<std::vector<FoundDatasource>> datasources(grafana::Server& server) {
  auto all = server.get("/api/datasources");
  if (!all) return tl::unexpected(all.error());
  if (!is_list(*all)) return fail(Error::Kind::unavailable, "GET /api/datasources: the answer is no list");
  std::vector<FoundDatasource> result;
  for (const Json& one : *all)
    result.push_back(
        {text_of(one, "uid"), text_of(one, "name"), text_of(one, "type"), one.value("isDefault", false)});
  return result;
}

}  // namespace tunnelctl::monitor
