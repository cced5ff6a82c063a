#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "tunnelctl/pack/yaml_reader.h"
#include "tunnelctl/render/render.h"

/// The small pack of these tests, rendered.
namespace tunnelctl::render::lab {

using pack::Json;

inline std::filesystem::path here() {
  return std::filesystem::path(__FILE__).parent_path();
}

inline const pack::Pack& demo() {
  static const pack::Pack loaded = [] {
    pack::Problems problems;
    auto result = pack::load(here() / "pack", problems);
    for (const auto& problem : problems) ADD_FAILURE() << pack::text(problem);
    return result.value_or(pack::Pack{});
  }();
  return loaded;
}

inline RenderOptions options() {
  RenderOptions result;
  result.compile.grafana_url = "https://grafana.example.com";
  return result;
}

inline std::vector<File> files(const RenderOptions& chosen = options(), const pack::Pack& pack = demo()) {
  auto result = render(pack, chosen);
  if (!result) ADD_FAILURE() << result.error().message;
  return result.value_or(std::vector<File>{});
}

inline std::string text_of(const std::vector<File>& files, const std::string& path) {
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const File& file) { return file.path == path; });
  if (found != files.end()) return found->text;
  ADD_FAILURE() << path << " was not rendered";
  return {};
}

/// The only document of the text, read by the parser that the program itself uses.
inline Json parsed(const std::string& yaml) {
  const auto root = config::yaml::parse(yaml, "rendered", pack::kYamlLimits);
  if (!root) ADD_FAILURE() << root.error().message << "\n" << yaml;
  return root ? pack::to_json(*root) : Json();
}

/// All documents of a file, its comments left out.
inline std::vector<Json> documents(const std::string& yaml) {
  std::vector<Json> result;
  for (std::size_t at = 0; at < yaml.size();) {
    const auto end = std::min(yaml.find("\n---\n", at), yaml.size());
    result.push_back(parsed(yaml.substr(at, end - at) + "\n"));
    at = end + 5;
  }
  return result;
}

/// What the server would get: the pack compiled with the datasources that render assumes.
inline monitor::Compiled compiled(monitor::CompileOptions chosen = options().compile) {
  chosen.datasources = {{"datasource", {"prometheus", "prometheus", "prometheus"}},
                        {"loki", {"loki", "loki", "loki"}}};
  chosen.secret = [](const pack::SecretSource&) { return Secret("x"); };
  return monitor::compile(demo(), chosen);
}

inline std::vector<monitor::Object> objects(monitor::Kind kind,
                                            const monitor::CompileOptions& chosen = options().compile) {
  std::vector<monitor::Object> result;
  for (auto& object : compiled(chosen).objects)
    if (object.key.kind == kind) result.push_back(std::move(object));
  return result;
}

}  // namespace tunnelctl::render::lab
