#include <memory>
#include <ostream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tunnelctl/commands/config_values.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

Result<ExitStatus> contexts(Session& session) {
  auto configuration = session.configuration();
  if (!configuration) return tl::unexpected(configuration.error());
  if (session.json()) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& one : configuration->contexts)
      list.push_back({{"name", one.name},
                      {"grafana_url", one.grafana_url},
                      {"current", one.name == configuration->current},
                      {"read_only", one.read_only}});
    session.out << list.dump(2) << '\n';
    return ExitStatus::ok;
  }
  if (!configuration->exists) {
    session.say("There is no configuration file; it would be " + configuration->path.string() +
                " (see tunnelctl config reference).");
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : configuration->contexts)
    rows.push_back({one.name == configuration->current ? "*" : "", one.name, one.grafana_url,
                    one.read_only ? "read-only" : ""});
  terminal::print_table(session.out, {"", "NAME", "GRAFANA", ""}, rows);
  return ExitStatus::ok;
}

Result<ExitStatus> reference(Session& session) {
  session.out << configuration_reference();
  return ExitStatus::ok;
}

void add(CLI::App& group, Chosen& chosen, const char* name, const char* help, const char* examples,
         Result<ExitStatus> (*run)(Session&)) {
  auto* command = group.add_subcommand(name, help);
  command->footer(std::string("Examples:\n") + examples);
  command->callback([run, &chosen] { chosen.run = run; });
}

}  // namespace

void add_config(CLI::App& app, Chosen& chosen) {
  auto* group = app.add_subcommand("config", "Settings of connect and agent, and contexts: servers by name");
  group->require_subcommand(1);
  add_config_values(*group, chosen);
  add(*group, chosen, "contexts", "Lists the contexts of the configuration file",
      "  tunnelctl config contexts\n  tunnelctl config contexts --output json", contexts);
  add(*group, chosen, "reference", "Describes every key of the configuration file",
      "  tunnelctl config reference\n  tunnelctl config reference | less", reference);
}

}  // namespace tunnelctl
