#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tunnelctl/monitor/objects.h"
#include "tunnelctl/pack/pack.h"

/// From a pack to the objects it wants on a Grafana. Pure: what the server and the environment say comes in
/// as arguments, the same input gives the same output.
namespace tunnelctl::monitor {

/// Where alert rules live.
enum class Target { grafana, prometheus, all };
/// `all`: a contact point whose secret is missing is an error; `available`: it is left out, and said;
/// `none`: no contact points, templates, mute timings or routes.
enum class Notifications { all, available, none };

struct ServerDatasource {
  std::string uid{}, name{}, type{};
};

struct CompileOptions {
  Target target = Target::grafana;
  Notifications notifications = Notifications::all;
  /// Recording rules become Grafana's; otherwise Prometheus has them, and alerts that use one get its
  /// expression instead of its name.
  bool record_in_grafana = false;
  /// By the dashboards' variable.
  std::map<std::string, ServerDatasource> datasources{};
  /// Base of links, without slash at the end; empty where no server is known.
  std::string grafana_url{};
  /// Base of the runbooks' addresses; empty: the pack's own runbook dashboard.
  std::string runbook_url{};
  /// Uids of contact points that the server has: with `available`, those need no secret here.
  std::set<std::string> contact_points{};
  /// The value of a secret; nullopt when neither the environment nor the file has it.
  std::function<std::optional<Secret>(const pack::SecretSource&)> secret{};
};

struct Compiled {
  std::vector<Object> objects{};
  /// What the person should know: durations that were rounded, settings Grafana has no place for.
  std::vector<std::string> notes{};
  pack::Problems problems{};
};

Compiled compile(const pack::Pack& pack, const CompileOptions& options);

/// The pieces, which render and verify use too.

/// One Prometheus alert as Grafana's rule (without group and folder). `datasource_uid` is the server's, or
/// any text that stands for it. Notes say what was changed.
Json grafana_rule(const pack::Pack& pack, const pack::RuleGroup& group, const pack::Rule& rule,
                  const CompileOptions& options, std::vector<std::string>& notes);
/// Seconds; groups without one get Grafana's default of 60.
std::int64_t interval_seconds(const pack::RuleGroup& group);
/// The alert's expression with names of the pack's own recording rules replaced by their expressions.
std::string without_recorded(const pack::Pack& pack, const std::string& expr,
                             std::vector<std::string>& notes);
std::string rule_uid(const pack::Pack& pack, const pack::Rule& rule);

/// The dashboard as it is sent: marked as ours, variables pointed to the data sources, links made whole.
Json grafana_dashboard(const pack::Pack& pack, const pack::Dashboard& dashboard,
                       const CompileOptions& options);
/// All runbooks as one dashboard of text panels, so that every link leads somewhere; nullopt without
/// runbooks.
std::optional<pack::Dashboard> runbook_dashboard(const pack::Pack& pack);
/// "runbooks/tunnel/X.md#y" -> "https://base/X.md#y", or the panel of the runbook dashboard; other text as
/// is.
std::string runbook_link(const pack::Pack& pack, const std::string& link, const CompileOptions& options);
/// Annotations as both engines get them: links made whole, places of panels as each wants them.
Texts annotations(const pack::Pack& pack, const pack::Rule& rule, const CompileOptions& options);

/// Contact points, templates, mute timings and the subtree of routes.
void compile_notifications(const pack::Pack& pack, const CompileOptions& options, Compiled& out);

}  // namespace tunnelctl::monitor
