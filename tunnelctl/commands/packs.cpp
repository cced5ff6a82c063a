#include "tunnelctl/commands/packs.h"

#include <ostream>

#include "common/config_file.h"
#include "tunnelctl/commands/monitor.h"
#include "tunnelctl/monitor/datasources.h"
#include "tunnelctl/monitor/observe.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
Result<std::map<std::string, std::string>> assignments(const std::vector<std::string>& lines,
                                                       const char* option) {
  std::map<std::string, std::string> result;
  for (const auto& line : lines) {
    const auto equals = line.find('=');
    if (equals == 0 || equals == std::string::npos)
      return fail(Error::Kind::bad_input, std::string(option) + " " + line + ": must read NAME=VALUE");
    result[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return result;
}

std::set<std::string> names_of(const std::vector<pack::Pack>& packs) {
  std::set<std::string> names;
  for (const auto& pack : packs) names.insert(pack.name);
  return names;
}

Loaded load_packs(const std::vector<std::string>& names, Session& session) {
  Loaded result;
  pack::Problems problems;
  for (const auto& name : names) {
    const auto folder = pack::find(name);
    if (!folder) {
      problems.push_back({{}, "", folder.error().message});
      continue;
    }
    auto loaded = pack::load(*folder, problems);
    if (!loaded)
      problems.push_back({{}, "", loaded.error().message});
    else
      result.packs.push_back(std::move(*loaded));
  }
  pack::check_together(result.packs, problems);
  if (problems.empty()) return result;
  for (const auto& problem : problems)
    session.err << "tunnelctl: " << terminal::harmless(pack::text(problem)) << '\n';
  session.err << "tunnelctl: " << problems.size() << (problems.size() == 1 ? " problem" : " problems")
              << "; nothing was changed\n";
  result.failed = ExitStatus::bad_input;
  return result;
}

std::optional<Secret> secret_of(const pack::SecretSource& source, const Session& session) {
  if (!source.environment.empty())
    if (const auto* value = session.variable(source.environment)) return Secret(*value);
  constexpr std::size_t kLongestSecret = 64 * 1024;
  auto text = config::read_file(source.file, kLongestSecret);
  if (!text) return std::nullopt;
  while (text->ends_with('\n') || text->ends_with('\r')) text->pop_back();
  if (text->empty()) return std::nullopt;
  return Secret(*text);
}

Result<monitor::CompileOptions> compile_options(const pack::Pack& pack, const PackOptions& options,
                                                Session& session, grafana::Server& server) {
  monitor::CompileOptions result;
  result.target = options.target == "prometheus" ? monitor::Target::prometheus
                  : options.target == "all"      ? monitor::Target::all
                                                 : monitor::Target::grafana;
  result.notifications = options.notifications == "none"        ? monitor::Notifications::none
                         : options.notifications == "available" ? monitor::Notifications::available
                                                                : monitor::Notifications::all;
  result.record_in_grafana = options.record_in_grafana;
  result.secret = [&session](const pack::SecretSource& source) { return secret_of(source, session); };
  const auto context = session.context();
  if (!context) return tl::unexpected(context.error());
  auto lines = *context ? (*context)->datasources : std::vector<std::string>();
  lines.insert(lines.end(), options.datasources.begin(), options.datasources.end());
  auto chosen = assignments(lines, "--datasource");
  if (!chosen) return tl::unexpected(chosen.error());
  result.runbook_url = !options.runbook_url.empty() ? options.runbook_url
                       : *context                   ? (*context)->runbook_url
                                                    : "";
  while (result.runbook_url.ends_with('/')) result.runbook_url.pop_back();
  if (result.notifications == monitor::Notifications::available) {
    auto points = server.get("/api/v1/provisioning/contact-points");
    if (!points) return tl::unexpected(points.error());
    for (const auto& one : *points)
      if (one.is_object()) result.contact_points.insert(one.value("uid", ""));
  }
  auto found = monitor::datasources(server);
  if (!found) return tl::unexpected(found.error());
  auto datasources = monitor::choose_datasources(pack, *found, *chosen);
  if (!datasources) return tl::unexpected(datasources.error());
  result.datasources = std::move(*datasources);
  result.grafana_url = server.public_url();
  return result;
}

}  // namespace tunnelctl
