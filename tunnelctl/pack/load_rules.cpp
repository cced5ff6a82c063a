#include <algorithm>

#include "tunnelctl/pack/load_parts.h"
#include "tunnelctl/pack/yaml_reader.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::pack {
namespace {

Rule read_rule(const Node& node, const std::string& file, const std::string& group, Problems& problems) {
  MapReader reader(node, file, group, problems);
  Rule rule{.place = reader.place()};
  rule.alert = reader.text("alert");
  rule.record = reader.text("record");
  if (rule.alert.empty() == rule.record.empty()) reader.problem("a rule has either \"alert\" or \"record\"");
  rule.expr = reader.text("expr", true);
  rule.hold = reader.duration("for").value_or(std::chrono::milliseconds(0));
  rule.keep_firing = reader.duration("keep_firing_for").value_or(std::chrono::milliseconds(0));
  rule.labels = reader.text_map("labels");
  rule.annotations = reader.text_map("annotations");
  reader.finish();
  if (!rule.expr.empty()) {
    if (const auto parsed = promql::parse(rule.expr); !parsed)
      problems.push_back({rule.place, rule.name() + ": expr", parsed.error().message});
  }
  if (!rule.record.empty() &&
      (rule.hold.count() > 0 || rule.keep_firing.count() > 0 || !rule.annotations.empty()))
    reader.problem(rule.record + ": a recording rule has neither for, keep_firing_for nor annotations");
  return rule;
}

}  // namespace

void load_rules(const std::filesystem::path& path, Pack& pack, Problems& problems) {
  const auto content = read(path, problems);
  if (!content) return;
  const auto root = config::yaml::parse(*content, path.string(), kYamlLimits);
  if (!root) {
    problems.push_back({{}, "", root.error().message});
    return;
  }
  RuleFile result{.path = path};
  MapReader file(*root, path.string(), "", problems);
  for (const Node& item : file.list("groups")) {
    MapReader reader(item, path.string(), "groups", problems);
    RuleGroup group{.place = reader.place()};
    group.name = reader.text("name", true);
    group.interval = reader.duration("interval");
    group.labels = reader.text_map("labels");
    for (const char* key : {"limit", "query_offset", "partial_response_strategy"})
      if (const Node* value = reader.take(key)) group.more[key] = to_json(*value);
    for (const Node& rule : reader.list("rules"))
      group.rules.push_back(read_rule(rule, path.string(), group.name, problems));
    reader.finish();
    if (group.interval && group.interval->count() <= 0)
      reader.problem(group.name + ": interval must be more than 0");
    if (group.interval && group.interval->count() % 10'000 != 0)
      reader.problem(group.name + ": interval " + duration_text(*group.interval) +
                     " is no multiple of 10s, which is how often Grafana looks at its rules");
    if (group.rules.empty()) reader.problem(group.name + ": has no rules");
    result.groups.push_back(std::move(group));
  }
  file.finish();
  pack.rule_files.push_back(std::move(result));
}

}  // namespace tunnelctl::pack
