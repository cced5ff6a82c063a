#include "tunnelctl/monitor/compile.h"

#include <algorithm>
#include <set>

#include "tunnelctl/monitor/normalise.h"

namespace tunnelctl::monitor {
namespace {

void compile_rules(const pack::Pack& pack, const CompileOptions& options, Compiled& out) {
  for (const auto& file : pack.rule_files) {
    for (const auto& group : file.groups) {
      Json rules = Json::array();
      for (const auto& rule : group.rules) {
        if (!rule.record.empty() && !options.record_in_grafana) continue;
        rules.push_back(grafana_rule(pack, group, rule, options, out.notes));
      }
      if (rules.empty()) continue;
      // The path of the request says folder and name, too; inside the rules they only make noise.
      Object object{.key = {Kind::rule_group, pack.folder_uid + "/" + group.name},
                    .pack = pack.name,
                    .title = group.name,
                    .place = group.place};
      object.content = normalise(Kind::rule_group, {{"title", group.name},
                                                    {"folderUid", pack.folder_uid},
                                                    {"interval", interval_seconds(group)},
                                                    {"rules", std::move(rules)}});
      out.objects.push_back(std::move(object));
    }
  }
}

void compile_dashboards(const pack::Pack& pack, const CompileOptions& options, Compiled& out) {
  const auto add = [&](const pack::Dashboard& dashboard) {
    out.objects.push_back({.key = {Kind::dashboard, dashboard.uid},
                           .pack = pack.name,
                           .title = dashboard.title,
                           .folder = pack.folder_uid,
                           .content = normalise(Kind::dashboard, grafana_dashboard(pack, dashboard, options)),
                           .place = dashboard.place});
  };
  for (const auto& dashboard : pack.dashboards) add(dashboard);
  // Links have somewhere to lead without a web server for the runbooks.
  if (options.runbook_url.empty())
    if (const auto dashboard = runbook_dashboard(pack)) add(*dashboard);
}

}  // namespace

Compiled compile(const pack::Pack& pack, const CompileOptions& options) {
  Compiled out;
  out.objects.push_back({.key = {Kind::folder, pack.folder_uid},
                         .pack = pack.name,
                         .title = pack.folder_title,
                         .content = {{"uid", pack.folder_uid}, {"title", pack.folder_title}},
                         .place = {pack.manifest.string()}});
  if (options.target != Target::grafana && !pack.rule_files.empty())
    out.notes.push_back("Prometheus reads its rules from files: tunnelctl monitor render " + pack.name +
                        " --format prometheus writes them; monitor verify --target " +
                        (options.target == Target::all ? "all" : "prometheus") + " says whether it has them");
  if (options.target != Target::prometheus) {
    if (options.notifications != Notifications::none) compile_notifications(pack, options, out);
    compile_rules(pack, options, out);
  }
  compile_dashboards(pack, options, out);
  std::stable_sort(out.objects.begin(), out.objects.end(),
                   [](const Object& a, const Object& b) { return a.key < b.key; });
  return out;
}

}  // namespace tunnelctl::monitor
