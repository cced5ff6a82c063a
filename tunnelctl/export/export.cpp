#include "tunnelctl/export/export.h"

#include <algorithm>
#include <cctype>

#include "tunnelctl/export/parts.h"
#include "tunnelctl/render/yaml.h"

namespace tunnelctl::exporting {
namespace {

using grafana::escape;

Result<Json> list(grafana::Server& server, const std::string& path) {
  auto answer = server.get(path);
  if (!answer || answer->is_array()) return answer;
  if (answer->is_null()) return Json::array();
  return fail(Error::Kind::unavailable, "GET " + path + ": the answer is no list");
}

/// The answers to all of them, in their order.
Result<Json> each(grafana::Server& server, const std::vector<std::string>& paths) {
  std::vector<grafana::Call> calls;
  for (const auto& path : paths) calls.push_back({.path = path});
  Json answers = Json::array();
  for (std::size_t i = 0; i < paths.size(); ++i) answers.push_back(nullptr);
  std::optional<Error> failed;
  server.calls(calls, [&](std::size_t i, Result<grafana::Answer> answer) {
    if (failed) return;
    if (!answer)
      failed = answer.error();
    else if (!answer->ok() || !answer->json.is_object())
      failed = server.error(calls[i], *answer);
    else
      answers[i] = std::move(answer->json);
  });
  if (failed) return tl::unexpected(*failed);
  return answers;
}

bool is_pack_name(const std::string& name) {
  return !name.empty() && name.size() <= 40 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

bool has_file(const Export& work, const std::string& prefix) {
  return std::any_of(work.out.files.begin(), work.out.files.end(),
                     [&](const render::File& file) { return file.path.starts_with(prefix); });
}

void write_manifest(Export& work) {
  const auto& options = work.options;
  const Json folder = work.seen.folders.empty() ? Json::object() : work.seen.folders.front();
  const std::string folder_title = text_of(folder, "title").empty() ? options.name : text_of(folder, "title");
  Json manifest{{"apiVersion", "tunnelctl/v1"},
                {"kind", "Pack"},
                {"name", options.name},
                {"title", options.title.empty() ? folder_title : options.title},
                {"folder", {{"uid", options.folders.front()}, {"title", folder_title}}}};
  Json& files = manifest["files"] = Json::object();
  if (has_file(work, "dashboards/")) files["dashboards"] = Json::array({"dashboards/*.json"});
  if (has_file(work, "rules/")) files["rules"] = Json::array({"rules/*.rules.yaml"});
  if (work.alertmanager) files["alertmanager"] = "alertmanager.yaml";
  if (has_file(work, "runbooks/")) files["runbooks"] = "runbooks";
  for (const auto& source : work.sources) {
    Json one{{"variable", source.variable}, {"type", source.type}};
    if (!source.name.empty()) one["name"] = source.name;
    if (source.type == "loki") one["optional"] = true;
    manifest["datasources"].push_back(std::move(one));
  }
  for (const auto& secret : work.secrets)
    manifest["secrets"].push_back({{"file", secret.file}, {"environment", secret.environment}});
  work.file("pack.yaml",
            render::yaml_file("Exported from Grafana by tunnelctl monitor export. Paths are relative to "
                              "this file.",
                              {manifest}));
}

}  // namespace

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string text_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::string file_name(const std::string& title) {
  std::string result;
  for (const char c : title) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
    if (plain)
      result += c;
    else if (!result.empty() && result.back() != '-')
      result += '-';
  }
  while (result.ends_with('-')) result.pop_back();
  return result.empty() ? "x" : result;
}

Result<Snapshot> fetch(grafana::Server& server, const ExportOptions& options) {
  Snapshot seen;
  auto sources = list(server, "/api/datasources");
  if (!sources) return tl::unexpected(sources.error());
  seen.datasources = std::move(*sources);
  std::vector<std::string> folders, dashboards, groups;
  for (const auto& uid : options.folders) {
    folders.push_back("/api/folders/" + escape(uid));
    if (!options.dashboards) continue;
    constexpr std::size_t kPage = 1000;
    for (int page = 1;; ++page) {
      auto found = list(server, "/api/search?type=dash-db&limit=" + std::to_string(kPage) +
                                    "&page=" + std::to_string(page) + "&folderUIDs=" + escape(uid));
      if (!found) return tl::unexpected(found.error());
      for (const Json& one : *found)
        dashboards.push_back("/api/dashboards/uid/" + escape(text_of(one, "uid")));
      if (found->size() < kPage) break;
    }
  }
  std::sort(dashboards.begin(), dashboards.end());
  if (options.rules) {
    auto rules = list(server, "/api/v1/provisioning/alert-rules");
    if (!rules) return tl::unexpected(rules.error());
    std::set<std::string> paths;
    for (const Json& rule : *rules) {
      const std::string folder = text_of(rule, "folderUID");
      if (std::find(options.folders.begin(), options.folders.end(), folder) != options.folders.end())
        paths.insert("/api/v1/provisioning/folder/" + escape(folder) + "/rule-groups/" +
                     escape(text_of(rule, "ruleGroup")));
    }
    groups.assign(paths.begin(), paths.end());
  }
  for (const auto& [paths, into] :
       {std::pair{&folders, &seen.folders}, {&dashboards, &seen.dashboards}, {&groups, &seen.rule_groups}}) {
    auto answers = each(server, *paths);
    if (!answers) return tl::unexpected(answers.error());
    *into = std::move(*answers);
  }
  if (!options.notifications) return seen;
  for (const auto& [path, into] : {std::pair{"/api/v1/provisioning/contact-points", &seen.contact_points},
                                   {"/api/v1/provisioning/templates", &seen.templates},
                                   {"/api/v1/provisioning/mute-timings", &seen.mute_timings}}) {
    auto answer = list(server, path);
    if (!answer) return tl::unexpected(answer.error());
    *into = std::move(*answer);
  }
  auto policies = server.get("/api/v1/provisioning/policies");
  if (!policies) return tl::unexpected(policies.error());
  seen.policies = std::move(*policies);
  return seen;
}

Result<Exported> pack_files(const Snapshot& seen, const ExportOptions& options) {
  if (!is_pack_name(options.name))
    return fail(Error::Kind::bad_input,
                "a pack's name is 1 to 40 of a-z, 0-9, - and _; \"" + options.name + "\" is none");
  if (options.folders.empty()) return fail(Error::Kind::bad_input, "name the folder to export");
  Export work{.seen = seen, .options = options};
  if (options.folders.size() > 1)
    work.note("a pack has one folder: everything comes into " + options.folders.front());
  export_runbooks(work);
  if (options.dashboards) export_dashboards(work);
  if (options.rules) export_rules(work);
  if (options.notifications) export_notifications(work);
  write_manifest(work);
  std::sort(work.out.files.begin(), work.out.files.end(),
            [](const render::File& a, const render::File& b) { return a.path < b.path; });
  return std::move(work.out);
}

Result<Exported> export_pack(grafana::Server& server, const ExportOptions& options) {
  auto seen = fetch(server, options);
  if (!seen) return tl::unexpected(seen.error());
  return pack_files(*seen, options);
}

}  // namespace tunnelctl::exporting
