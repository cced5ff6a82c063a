#include "tunnelctl/grafana/folders.h"

namespace tunnelctl::grafana {
namespace {

constexpr std::size_t kPage = 1000;

Folder folder_of(const Json& json) {
  Folder folder{.uid = text_of(json, "uid"),
                .title = text_of(json, "title"),
                .url = text_of(json, "url"),
                .parent_uid = text_of(json, "parentUid"),
                .version = number_of(json, "version")};
  if (json.contains("parents"))
    for (const auto& parent : json["parents"]) folder.path.push_back(text_of(parent, "title"));
  folder.path.push_back(folder.title);
  return folder;
}

Result<FolderChange> changed(Server& server, const Call& call) {
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  FolderChange change;
  if (answer->status == 409 || answer->status == 412) {
    change.conflict = message_of(*answer);
    return change;
  }
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable, call.method + " " + server.url() + call.path +
                                              ": the answer is no folder: " + message_of(*answer));
  change.folder = folder_of(answer->json);
  return change;
}

std::string path_of(const std::string& uid) {
  return "/api/folders/" + escape(uid);
}

}  // namespace

Result<Part<Folder>> list_folders(Server& server, const std::string& parent_uid, std::size_t limit) {
  Part<Folder> result;
  for (std::size_t page = 1;; ++page) {
    auto list = server.get("/api/folders?limit=" + std::to_string(kPage) + "&page=" + std::to_string(page) +
                           (parent_uid.empty() ? "" : "&parentUid=" + escape(parent_uid)));
    if (!list) return tl::unexpected(list.error());
    if (!list->is_array())
      return fail(Error::Kind::unavailable, "GET " + server.url() + "/api/folders: the answer is no list");
    for (const auto& item : *list) {
      // {"id": -1, "uid": "sharedwithme"}: shown to all who are no admins, and no folder.
      if (number_of(item, "id") == -1) continue;
      if (limit > 0 && result.items.size() == limit) {
        result.more = true;
        return result;
      }
      result.items.push_back(folder_of(item));
    }
    if (list->size() < kPage) return result;
  }
}

Result<Folder> read_folder(Server& server, const std::string& uid) {
  const Call call{.path = path_of(uid)};
  auto found = server.call(call);
  if (!found) return tl::unexpected(found.error());
  if (!found->ok()) return tl::unexpected(error_of_one(server, call, *found));
  if (!found->json.is_object())
    return fail(Error::Kind::unavailable,
                "GET " + server.url() + call.path + ": the answer is no folder: " + message_of(*found));
  return folder_of(found->json);
}

Result<FolderCounts> count_folder(Server& server, const std::string& uid) {
  auto counts = server.get(path_of(uid) + "/counts");
  if (!counts) return tl::unexpected(counts.error());
  return FolderCounts{.dashboards = number_of(*counts, "dashboard"),
                      .folders = number_of(*counts, "folder"),
                      .alert_rules = number_of(*counts, "alertrule"),
                      .library_panels = number_of(*counts, "librarypanel")};
}

Result<FolderChange> create_folder(Server& server, const std::string& title, const std::string& uid,
                                   const std::string& parent_uid) {
  if (!parent_uid.empty())
    if (auto parent = read_folder(server, parent_uid); !parent) return tl::unexpected(parent.error());
  Json body{{"title", title}};
  if (!uid.empty()) body["uid"] = uid;
  if (!parent_uid.empty()) body["parentUid"] = parent_uid;
  return changed(server, {.method = "POST", .path = "/api/folders", .body = std::move(body)});
}

Result<FolderChange> update_folder(Server& server, const Folder& present,
                                   const std::optional<std::string>& title,
                                   const std::optional<std::string>& parent_uid, bool force) {
  FolderChange change{.folder = present};
  if (title && *title != present.title) {
    Json body{{"title", *title}, {"version", present.version}};
    if (force) body["overwrite"] = true;
    auto done = changed(server, {.method = "PUT", .path = path_of(present.uid), .body = std::move(body)});
    if (!done || done->conflict) return done;
    change = std::move(*done);
  }
  if (parent_uid && *parent_uid != present.parent_uid)
    return changed(
        server,
        {.method = "POST", .path = path_of(present.uid) + "/move", .body = {{"parentUid", *parent_uid}}});
  return change;
}

Result<void> delete_folder(Server& server, const std::string& uid, bool with_rules) {
  const Call call{.method = "DELETE", .path = path_of(uid) + (with_rules ? "?forceDeleteRules=true" : "")};
  auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
  return {};
}

}  // namespace tunnelctl::grafana
