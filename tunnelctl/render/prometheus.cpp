#include <algorithm>

#include "tunnelctl/render/parts.h"

namespace tunnelctl::render {

Result<void> prometheus(Work& work) {
  const auto& options = work.compile_options;
  if (options.grafana_url.empty() && options.runbook_url.empty() && !work.pack.rule_files.empty())
    work.notes.push_back(
        "neither Grafana's address nor one for the runbooks is given: runbook_url stays a path, and alerts "
        "of Prometheus do not link to their dashboard");
  for (const auto& file : work.pack.rule_files) {
    Json document{{"groups", Json::array()}};
    for (const auto& group : file.groups) document["groups"].push_back(prometheus_group(work, group));
    work.add(Format::prometheus, work.pack.name + "/" + file.path.filename().string(),
             yaml_file("From pack " + work.pack.name + ". Load it with rule_files: [<folder>/" +
                           work.pack.name + "/*.yaml].",
                       {document}));
  }
  return {};
}

/// As the pack has them: Alertmanager's own files, its paths relative to them.
Result<void> alertmanager(Work& work) {
  if (!work.pack.alertmanager) return {};
  const auto& from = *work.pack.alertmanager;
  const std::string folder = work.pack.name + "/";
  work.add(Format::alertmanager, folder + "alertmanager.yml", from.text);
  for (const auto& one : from.templates) {
    const auto relative =
        one.path.lexically_normal().lexically_relative(from.path.parent_path().lexically_normal());
    if (relative.empty() || *relative.begin() == "..")
      return fail(Error::Kind::bad_input, from.path.string() + ": the template " + one.path.string() +
                                              " lies outside of its folder; move it below");
    work.add(Format::alertmanager, folder + relative.generic_string(), one.text);
  }
  return {};
}

}  // namespace tunnelctl::render
