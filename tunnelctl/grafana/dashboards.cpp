#include "tunnelctl/grafana/dashboards.h"

#include <algorithm>
#include <array>

namespace tunnelctl::grafana {
namespace {

constexpr std::size_t kPage = 1000;  // what Grafana itself answers when nobody says more; 5000 is its limit
constexpr std::size_t kLongestUid = 40;
constexpr const char* kFolder = "grafana.app/folder";  // an annotation
constexpr const char* kGroup = "/apis/dashboard.grafana.app/";

std::string apis_path(const std::string& api, const std::string& name_space, const std::string& uid) {
  return kGroup + api + "/namespaces/" + escape(name_space) + "/dashboards" +
         (uid.empty() ? "" : "/" + escape(uid));
}

/// The organisation as /apis calls it.
Result<std::string> name_space(Server& server) {
  auto settings = server.get("/api/frontend/settings");
  if (!settings) return tl::unexpected(settings.error());
  auto name = text_of(*settings, "namespace");
  return name.empty() ? "default" : name;
}

Result<Json> object_of(Server& server, const Call& call, Result<Answer> answer, const char* what) {
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable, call.method + " " + server.url() + call.path +
                                              ": the answer is no " + what + ": " + message_of(*answer));
  return std::move(answer->json);
}

/// Fills `dashboard` with its v2 form when that is how it is stored. Servers without /apis, or that keep it
/// from this caller, have no v2 dashboards to lose.
Result<void> read_v2(Server& server, const std::string& space, const Answer& classic_object,
                     Dashboard& dashboard) {
  const auto stored = text_of(member(member(classic_object.json, "status"), "conversion"), "storedVersion");
  if (!stored.starts_with("v2")) return {};
  const Call call{.path = apis_path(stored, space, dashboard.uid)};
  auto object = object_of(server, call, server.call(call), "dashboard");
  if (!object) return tl::unexpected(object.error());
  dashboard.schema = stored;
  dashboard.content = member(*object, "spec");
  dashboard.title = text_of(dashboard.content, "title");
  dashboard.object = std::move(*object);
  return {};
}

Saved conflicting(std::string why) {
  Saved saved;
  saved.conflict = std::move(why);
  return saved;
}

/// What stands in the way, where the refusal means that; else nullopt.
std::optional<std::string> conflict_in(const Answer& answer) {
  const auto said = message_of(answer);
  if (answer.status == 412 || answer.status == 409) return said;
  if (answer.status == 400 && said.find("provisioned") != std::string::npos) return said;
  return std::nullopt;
}

Result<Saved> saved_as(Server& server, const Call& call, Result<Answer> answered, const std::string& uid) {
  if (!answered) return tl::unexpected(answered.error());
  if (auto conflict = conflict_in(*answered)) return conflicting(std::move(*conflict));
  auto answer = object_of(server, call, std::move(answered), "report of a saved dashboard");
  if (!answer) return tl::unexpected(answer.error());
  Saved saved;
  const auto& metadata = member(*answer, "metadata");
  saved.uid = metadata.is_object() ? text_of(metadata, "name") : text_of(*answer, "uid");
  saved.url = text_of(*answer, "url");
  saved.version = metadata.is_object() ? number_of(metadata, "generation") : number_of(*answer, "version");
  if (saved.url.empty()) saved.url = "/d/" + escape(saved.uid);
  if (saved.uid != uid)
    return fail(Error::Kind::bug,
                "the server saved dashboard " + uid + " under another uid: " + saved.uid + "; look at both");
  return saved;
}

void set_annotation(Json& object, const char* name, const std::string& value) {
  if (value.empty()) return;
  auto& metadata = object["metadata"];
  if (!metadata.contains("annotations") || !metadata["annotations"].is_object())
    metadata["annotations"] = Json::object();
  metadata["annotations"][name] = value;
}

Result<Saved> save_classic(Server& server, Json content, const std::string& uid, const std::string& folder,
                           const SaveOptions& options) {
  Json body{{"dashboard", std::move(content)}, {"overwrite", options.force}};
  if (!folder.empty()) body["folderUid"] = folder;
  if (!options.message.empty()) body["message"] = options.message;
  const Call call{.method = "POST", .path = "/api/dashboards/db", .body = std::move(body)};
  return saved_as(server, call, server.call(call), uid);
}

Result<Saved> create_v2(Server& server, const Json& content, const std::string& folder,
                        const SaveOptions& options) {
  Json object = content;
  if (!content.contains("spec")) {
    object = {{"spec", content}, {"metadata", {{"name", text_of(content, "uid")}}}};
    object["spec"].erase("uid");
  }
  auto api = text_of(object, "apiVersion");
  if (const auto slash = api.find('/'); slash != std::string::npos) api.erase(0, slash + 1);
  if (api.empty()) api = "v2beta1";
  Json metadata{{"name", text_of(member(object, "metadata"), "name")}};
  if (member(object, "metadata").contains("annotations"))
    metadata["annotations"] = object["metadata"]["annotations"];
  object = {{"apiVersion", "dashboard.grafana.app/" + api},
            {"kind", "Dashboard"},
            {"metadata", metadata},
            {"spec", object["spec"]}};
  set_annotation(object, kFolder, folder);
  set_annotation(object, "grafana.app/message", options.message);
  const auto uid = text_of(metadata, "name");
  auto space = name_space(server);
  if (!space) return tl::unexpected(space.error());
  Call call{.method = "POST", .path = apis_path(api, *space, ""), .body = object};
  // A PUT without a resource version makes or replaces.
  if (options.force) {
    call.method = "PUT";
    call.path = apis_path(api, *space, uid);
  }
  return saved_as(server, call, server.call(call), uid);
}

}  // namespace

bool is_v2(const Json& content) {
  if (!content.is_object()) return false;
  if (content.contains("spec") && content.contains("metadata")) return is_v2(content["spec"]);
  return content.contains("elements") || content.contains("layout");
}

std::string wrong_uid(std::string_view uid) {
  if (uid.empty()) return "is empty";
  if (uid.size() > kLongestUid) return "has " + std::to_string(uid.size()) + " characters; 40 are allowed";
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  if (!std::all_of(uid.begin(), uid.end(), fine)) return "has other characters than letters, digits, - and _";
  return "";
}

Error error_of_one(const Server& server, const Call& call, const Answer& answer) {
  auto error = server.error(call, answer);
  if (answer.status == 403) error.message += "; or it does not exist";
  return error;
}

Result<Dashboard> read_dashboard(Server& server, const std::string& uid) {
  const std::array<Call, 2> calls{Call{.path = "/api/dashboards/uid/" + escape(uid)},
                                  Call{.path = "/api/frontend/settings"}};
  std::array<Result<Answer>, 2> answers{fail(Error::Kind::bug, "unanswered"),
                                        fail(Error::Kind::bug, "unanswered")};
  server.calls(calls,
               [&](std::size_t index, Result<Answer> answer) { answers.at(index) = std::move(answer); });
  if (answers[0] && !answers[0]->ok()) return tl::unexpected(error_of_one(server, calls[0], *answers[0]));
  auto found = object_of(server, calls[0], std::move(answers[0]), "dashboard");
  if (!found) return tl::unexpected(found.error());
  if (!member(*found, "dashboard").is_object())
    return fail(Error::Kind::unavailable,
                "GET " + server.url() + calls[0].path + ": the answer holds no dashboard");
  const Json& meta = member(*found, "meta");
  Dashboard dashboard;
  dashboard.uid = uid;
  dashboard.title = text_of((*found)["dashboard"], "title");
  dashboard.url = text_of(meta, "url");
  dashboard.folder_uid = text_of(meta, "folderUid");
  dashboard.folder_title = text_of(meta, "folderTitle");
  dashboard.version = number_of((*found)["dashboard"], "version");
  dashboard.updated = text_of(meta, "updated");
  dashboard.updated_by = text_of(meta, "updatedBy");
  dashboard.provisioned = flag_of(meta, "provisioned");
  dashboard.content = std::move((*found)["dashboard"]);

  std::string space = "default";
  if (answers[1] && answers[1]->ok())
    if (auto named = text_of(answers[1]->json, "namespace"); !named.empty()) space = std::move(named);
  const Call ask{.path = apis_path("v1beta1", space, uid)};
  const auto classic = server.call(ask);
  if (!classic) return tl::unexpected(classic.error());
  if (classic->ok())
    if (auto done = read_v2(server, space, *classic, dashboard); !done) return tl::unexpected(done.error());
  return dashboard;
}

Result<Json> read_dashboard_version(Server& server, const std::string& uid, std::int64_t version) {
  const Call call{.path = "/api/dashboards/uid/" + escape(uid) + "/versions/" + std::to_string(version)};
  auto answer = server.call(call);
  // Its way to say that there is no such version.
  if (answer && answer->status == 500 && message_of(*answer).find("not found") != std::string::npos)
    return fail(Error::Kind::not_found, "dashboard " + uid + " has no version " + std::to_string(version) +
                                            "; see: tunnelctl dashboard versions " + uid);
  auto found = object_of(server, call, std::move(answer), "version");
  if (!found) return tl::unexpected(found.error());
  return member(*found, "data");
}

Result<Saved> save_dashboard(Server& server, const Dashboard& dashboard, const SaveOptions& options) {
  if (dashboard.provisioned)
    return conflicting("dashboard " + dashboard.uid +
                       " is provisioned from a file on the server; change that file");
  if (dashboard.schema.empty()) {
    Json content = dashboard.content;
    content["version"] = dashboard.version;
    return save_classic(server, std::move(content), dashboard.uid, dashboard.folder_uid, options);
  }
  Json object = dashboard.object;
  object["spec"] = dashboard.content;
  object.erase("status");
  set_annotation(object, "grafana.app/message", options.message);
  if (options.force) object["metadata"].erase("resourceVersion");
  auto space = name_space(server);
  if (!space) return tl::unexpected(space.error());
  const Call call{
      .method = "PUT", .path = apis_path(dashboard.schema, *space, dashboard.uid), .body = std::move(object)};
  return saved_as(server, call, server.call(call), dashboard.uid);
}

Result<Saved> create_dashboard(Server& server, const Json& content, const std::string& folder_uid,
                               const SaveOptions& options) {
  const bool object = content.contains("spec") && content.contains("metadata");
  const auto uid = object ? text_of(content["metadata"], "name") : text_of(content, "uid");
  std::string folder = folder_uid;
  if (object && folder.empty()) folder = text_of(member(content["metadata"], "annotations"), kFolder);
  if (options.force && folder.empty()) {
    // A save that names no folder would move it out of the one it is in.
    const auto present = read_dashboard(server, uid);
    if (present)
      folder = present->folder_uid;
    else if (present.error().kind != Error::Kind::not_found)
      return tl::unexpected(present.error());
  }
  if (is_v2(content)) return create_v2(server, content, folder, options);
  Json body = content;
  body.erase("id");       // of one server
  body.erase("version");  // of one history; without it an existing one is a conflict
  return save_classic(server, std::move(body), uid, folder, options);
}

Result<void> delete_dashboard(Server& server, const std::string& uid) {
  const Call call{.method = "DELETE", .path = "/api/dashboards/uid/" + escape(uid)};
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return {};
}

Result<Part<Found>> search_dashboards(Server& server, const Search& search) {
  std::string query = search.folders ? "type=dash-folder" : "type=dash-db";
  if (!search.text.empty()) query += "&query=" + escape(search.text);
  for (const auto& tag : search.tags) query += "&tag=" + escape(tag);
  for (const auto& uid : search.folder_uids) query += "&folderUIDs=" + escape(uid);
  if (search.starred) query += "&starred=true";
  const std::size_t page_size = search.limit == 0 ? kPage : std::min(search.limit + 1, kPage);
  Part<Found> result;
  for (std::size_t page = 1;; ++page) {
    auto hits = server.get("/api/search?" + query + "&limit=" + std::to_string(page_size) +
                           "&page=" + std::to_string(page));
    if (!hits) return tl::unexpected(hits.error());
    if (!hits->is_array())
      return fail(Error::Kind::unavailable, "GET " + server.url() + "/api/search: the answer is no list");
    for (const auto& hit : *hits) {
      if (search.limit > 0 && result.items.size() == search.limit) {
        result.more = true;
        return result;
      }
      Found found{.uid = text_of(hit, "uid"),
                  .title = text_of(hit, "title"),
                  .url = text_of(hit, "url"),
                  .folder_uid = text_of(hit, "folderUid"),
                  .folder_title = text_of(hit, "folderTitle")};
      for (const auto& tag : member(hit, "tags"))
        if (tag.is_string()) found.tags.push_back(tag.get<std::string>());
      result.items.push_back(std::move(found));
    }
    if (hits->size() < page_size) return result;
  }
}

Result<Part<Version>> dashboard_versions(Server& server, const std::string& uid, std::size_t limit) {
  auto answer = server.get("/api/dashboards/uid/" + escape(uid) +
                           "/versions?limit=" + std::to_string(limit == 0 ? kPage : limit + 1));
  if (!answer) return tl::unexpected(answer.error());
  // Older servers answer the list itself.
  const Json& list = answer->is_array() ? *answer : member(*answer, "versions");
  Part<Version> result;
  for (const auto& item : list) {
    if (limit > 0 && result.items.size() == limit) {
      result.more = true;
      break;
    }
    result.items.push_back({.version = number_of(item, "version"),
                            .created = text_of(item, "created"),
                            .created_by = text_of(item, "createdBy"),
                            .message = text_of(item, "message"),
                            .restored_from = number_of(item, "restoredFrom")});
  }
  if (limit == 0 && !text_of(*answer, "continueToken").empty()) result.more = true;
  return result;
}

}  // namespace tunnelctl::grafana
