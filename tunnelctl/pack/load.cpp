#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "common/config_file.h"
#include "common/metric_names.h"
#include "tunnelctl/pack/load_parts.h"
#include "tunnelctl/pack/yaml_reader.h"

namespace tunnelctl::pack {
namespace {

namespace fs = std::filesystem;

/// Short enough that uids made from it keep it, and no name with "--" is the beginning of another's marks.
bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 24 && text.front() != '-' && text.back() != '-' &&
         text.find("--") == std::string_view::npos && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
         });
}

std::vector<fs::path> shipped_places() {
  std::vector<fs::path> places;
  if (const char* set = std::getenv("TUNNELCTL_PACKS"); set != nullptr && *set != '\0') {
    std::istringstream list(set);
    for (std::string one; std::getline(list, one, ':');)
      if (!one.empty()) places.emplace_back(one);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return places;
  const fs::path folder = program.parent_path();
  places.push_back(folder.parent_path() / "share" / "tunnelctl" / "packs");
  // A program of a build tree stands in <tree>/build/<preset>/bin.
  fs::path above = folder;
  for (int levels = 0; levels < 4 && above.has_relative_path(); ++levels) {
    above = above.parent_path();
    if (fs::is_directory(above / "packs", error) && fs::is_directory(above / "dashboards", error))
      places.push_back(above / "packs");
  }
  return places;
}

/// Paths of the manifest as they are written in rules: "../../runbooks/tunnel" is "runbooks/tunnel/" there.
std::string prefix_of(const fs::path& path) {
  std::string result;
  for (const auto& part : path.lexically_normal())
    if (part != ".." && part != "." && !part.empty()) result += part.string() + "/";
  return result;
}

std::vector<Exception> exceptions(MapReader& section, std::string_view key, bool lint,
                                  const std::string& file, Problems& problems) {
  std::vector<Exception> result;
  for (const Node& item : section.list(key)) {
    MapReader reader(item, file, section.object() + "." + std::string(key), problems);
    Exception one{.place = reader.place()};
    if (lint) one.check = reader.text("check", true);
    one.object = reader.text(lint ? "object" : "query", true);
    one.reason = reader.text("reason", true);
    reader.finish();
    result.push_back(std::move(one));
  }
  return result;
}

void read_datasources(MapReader& manifest, const std::string& file, Pack& pack, Problems& problems) {
  for (const Node& item : manifest.list("datasources")) {
    MapReader reader(item, file, "datasources", problems);
    Datasource one{.place = reader.place()};
    one.variable = reader.text("variable", true);
    one.type = reader.text("type", true);
    one.uid = reader.text("uid");
    one.name = reader.text("name");
    one.optional = reader.flag("optional");
    reader.finish();
    if (one.type != "prometheus" && one.type != "loki")
      reader.problem("type \"" + one.type + "\": allowed are prometheus and loki");
    if (std::any_of(pack.datasources.begin(), pack.datasources.end(),
                    [&](const Datasource& other) { return other.variable == one.variable; }))
      reader.problem("variable \"" + one.variable + "\" is there twice");
    pack.datasources.push_back(std::move(one));
  }
}

void read_secrets(MapReader& manifest, const std::string& file, Pack& pack, Problems& problems) {
  for (const Node& item : manifest.list("secrets")) {
    MapReader reader(item, file, "secrets", problems);
    SecretSource one{.place = reader.place()};
    one.file = reader.text("file", true);
    one.environment = reader.text("environment", true);
    reader.finish();
    pack.secrets.push_back(std::move(one));
  }
}

}  // namespace

std::string text(const Place& place) {
  std::string result = place.file;
  if (place.line > 0) result += ":" + std::to_string(place.line);
  if (place.line > 0 && place.column > 0) result += ":" + std::to_string(place.column);
  return result;
}

std::string text(const Problem& problem) {
  std::string result = text(problem.place);
  if (!problem.object.empty()) result += (result.empty() ? "" : ": ") + problem.object;
  return result + (result.empty() ? "" : ": ") + problem.message;
}

std::optional<std::string> read(const fs::path& path, Problems& problems) {
  auto content = config::read_file(path, kYamlLimits.bytes);
  if (content) return std::move(*content);
  problems.push_back({{}, "", content.error().message});
  return std::nullopt;
}

std::vector<fs::path> files_of(const fs::path& base, const std::string& pattern) {
  const fs::path full = (base / pattern).lexically_normal();
  const std::string name = full.filename().string();
  const auto star = name.find('*');
  if (star == std::string::npos) return {full};
  const std::string before = name.substr(0, star), after = name.substr(star + 1);
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(full.parent_path(), error)) {
    const std::string candidate = entry.path().filename().string();
    if (candidate.size() >= before.size() + after.size() && candidate.starts_with(before) &&
        candidate.ends_with(after) && !candidate.starts_with('.'))
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

void load_contract(const std::string& named, const fs::path& base, Pack& pack, Problems& problems) {
  if (named.empty()) return;
  if (named == "tunneld") {
    for (const auto& metric : metric_names::kAll) {
      if (metric.since == metric_names::Since::compat) continue;
      Metric row{.name = metric.name};
      row.type = metric.type == metric_names::Type::counter ? "counter"
                 : metric.type == metric_names::Type::gauge ? "gauge"
                                                            : "histogram";
      for (const auto label : metric.labels)
        if (!label.empty()) row.labels.emplace_back(label);
      pack.contract.push_back(std::move(row));
    }
    return;
  }
  const fs::path path = (base / named).lexically_normal();
  const auto content = read(path, problems);
  if (!content) return;
  const auto root = config::yaml::parse(*content, path.string(), kYamlLimits);
  if (!root) {
    problems.push_back({{}, "", root.error().message});
    return;
  }
  MapReader reader(*root, path.string(), "contract", problems);
  for (const Node& item : reader.list("metrics")) {
    MapReader row(item, path.string(), "metrics", problems);
    Metric metric{
        .name = row.text("name", true), .type = row.text("type", true), .labels = row.texts("labels")};
    row.ignore({"help", "unit"});
    row.finish();
    if (metric.type != "counter" && metric.type != "gauge" && metric.type != "histogram")
      row.problem("type \"" + metric.type + "\": allowed are counter, gauge and histogram");
    pack.contract.push_back(std::move(metric));
  }
  reader.finish();
}

namespace {

/// `looked`: where it was looked for before.
Result<fs::path> shipped(std::string_view name, std::string looked) {
  std::error_code error;
  std::string known;
  if (name.find('/') == std::string_view::npos && name != "." && name != "..") {
    for (const auto& place : shipped_places()) {
      const fs::path folder = place / name;
      if (fs::is_regular_file(folder / "pack.yaml", error)) return folder;
      looked += (looked.empty() ? "" : ", ") + (folder / "pack.yaml").string();
      for (const auto& entry : fs::directory_iterator(place, error))
        if (fs::is_regular_file(entry.path() / "pack.yaml", error))
          known += (known.empty() ? "" : ", ") + entry.path().filename().string();
    }
  }
  return fail(Error::Kind::not_found, "there is no pack \"" + std::string(name) + "\"" +
                                          (looked.empty() ? "" : " (looked for " + looked + ")") +
                                          (known.empty() ? "" : "; shipped: " + known));
}

}  // namespace

Result<fs::path> find(std::string_view name_or_folder) {
  std::error_code error;
  const fs::path given(name_or_folder);
  if (fs::is_regular_file(given / "pack.yaml", error)) return given;
  if (given.filename() == "pack.yaml" && fs::is_regular_file(given, error))
    return given.has_parent_path() ? given.parent_path() : fs::path(".");
  return shipped(name_or_folder, (given / "pack.yaml").string());
}

Result<fs::path> find_shipped(std::string_view name) {
  return shipped(name, "");
}

Result<Pack> load(const fs::path& folder, Problems& problems) {
  Pack pack;
  pack.manifest = folder / "pack.yaml";
  const std::string file = pack.manifest.string();
  Problems reading;
  const auto content = read(pack.manifest, reading);
  if (!content) return fail(Error::Kind::not_found, text(reading.front()));
  const auto root = config::yaml::parse(*content, file, kYamlLimits);
  if (!root) return fail(Error::Kind::bad_input, root.error().message);

  MapReader manifest(*root, file, "", problems);
  if (manifest.text("apiVersion", true) != "tunnelctl/v1")
    manifest.problem("apiVersion must be tunnelctl/v1");
  if (manifest.text("kind", true) != "Pack") manifest.problem("kind must be Pack");
  pack.name = manifest.text("name", true);
  if (!is_name(pack.name))
    manifest.problem("name \"" + pack.name + "\" must be 1 to 24 of a-z, 0-9, _ and single - inside");
  pack.title = manifest.text("title");
  if (pack.title.empty()) pack.title = pack.name;
  if (const Node* node = manifest.take("folder")) {
    MapReader reader(*node, file, "folder", problems);
    pack.folder_uid = reader.text("uid", true);
    pack.folder_title = reader.text("title", true);
    reader.finish();
  } else {
    manifest.problem("key \"folder\" is missing");
  }
  read_datasources(manifest, file, pack, problems);
  read_secrets(manifest, file, pack, problems);
  if (const Node* node = manifest.take("scrape")) {
    MapReader reader(*node, file, "scrape", problems);
    Scrape scrape;
    scrape.job = reader.text("job", true);
    scrape.port = reader.text("port", true);
    if (const auto path = reader.text("path"); !path.empty()) scrape.path = path;
    if (const auto interval = reader.duration_text("interval"); !interval.empty()) scrape.interval = interval;
    reader.finish();
    pack.scrape = scrape;
  }
  if (const Node* node = manifest.take("verify")) {
    MapReader reader(*node, file, "verify", problems);
    pack.allow_empty = exceptions(reader, "allow_empty", false, file, problems);
    reader.finish();
  }
  if (const Node* node = manifest.take("lint")) {
    MapReader reader(*node, file, "lint", problems);
    pack.lint_ignore = exceptions(reader, "ignore", true, file, problems);
    reader.finish();
  }
  load_contract(manifest.text("contract"), folder, pack, problems);

  if (const Node* node = manifest.take("files")) {
    MapReader files(*node, file, "files", problems);
    const auto each = [&](std::string_view key, auto load_one) {
      for (const auto& pattern : files.texts(key)) {
        const auto found = files_of(folder, pattern);
        if (found.empty()) files.problem(std::string(key) + ": no file is called " + pattern);
        for (const auto& path : found) load_one(path, pack, problems);
      }
    };
    // Runbooks first: rules and panels link to them.
    if (const auto path = files.text("runbooks"); !path.empty()) {
      if (fs::path(path).is_absolute())
        files.problem("runbooks: must be a path relative to this file, as rules and panels name it");
      pack.runbook_folder = (folder / path).lexically_normal();
      pack.runbook_prefix = prefix_of(path);
      load_runbooks(pack.runbook_folder, pack, problems);
    }
    each("dashboards", load_dashboard);
    each("rules", load_rules);
    if (const auto path = files.text("alertmanager"); !path.empty())
      load_alertmanager((folder / path).lexically_normal(), pack, problems);
    files.finish();
  } else {
    manifest.problem("key \"files\" is missing");
  }
  manifest.finish();
  check(pack, problems);
  return pack;
}

}  // namespace tunnelctl::pack
