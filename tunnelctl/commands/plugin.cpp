#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/grafana/plugins.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct PluginList {
  std::string type;
  bool core = false;
};

struct PluginGet {
  std::string id;
};

struct PluginInstall {
  std::string id, version;
};

Result<ExitStatus> run(const PluginList& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto plugins = grafana::list_plugins(*server, options.type, options.core);
  if (!plugins) return tl::unexpected(plugins.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : *plugins)
      list.push_back({{"id", one.id},
                      {"name", one.name},
                      {"type", one.type},
                      {"version", one.version},
                      {"enabled", one.enabled}});
    session.out << pretty({{"plugins", std::move(list)}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : *plugins)
      rows.push_back({terminal::harmless(one.id), one.type, terminal::harmless(one.version),
                      terminal::harmless(one.name)});
    if (!rows.empty()) terminal::print_table(session.out, {"ID", "TYPE", "VERSION", "NAME"}, rows);
  }
  say_shown(session, plugins->size(), false, "plugin");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const PluginGet& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto plugin = grafana::read_plugin(*server, options.id);
  if (!plugin) return tl::unexpected(plugin.error());
  if (!*plugin)
    return fail(Error::Kind::not_found,
                "no plugin \"" + options.id + "\" is installed; see: tunnelctl plugin list --core");
  session.out << pretty(**plugin);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const PluginInstall& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  if (auto done = grafana::install_plugin(*server, options.id, options.version); !done)
    return tl::unexpected(done.error());
  if (session.json()) session.out << pretty({{"id", options.id}, {"installed", true}});
  session.say("plugin " + options.id + " installed");
  return ExitStatus::ok;
}

}  // namespace

void add_plugin(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("plugin", "Grafana's plugins");
  group.require_subcommand(1);
  {
    auto options = std::make_shared<PluginList>();
    auto& verb = add_verb(group, chosen, "list", "Lists the plugins that are installed",
                          "  tunnelctl plugin list\n"
                          "  tunnelctl plugin list --core --type datasource --output json",
                          options);
    verb.add_option("--type", options->type, "only those of this type")
        ->check(CLI::IsMember({"datasource", "panel", "app", "renderer"}))
        ->type_name("TYPE");
    verb.add_flag("--core", options->core, "also those that come with Grafana");
  }
  {
    auto options = std::make_shared<PluginGet>();
    add_verb(group, chosen, "get", "Prints a plugin's settings; exit status 1 if it is not installed",
             "  tunnelctl plugin get grafana-irm-app\n"
             "  tunnelctl plugin get prometheus | jq .info.version",
             options)
        .add_option("id", options->id, "the plugin's id")
        ->required()
        ->type_name("ID");
  }
  {
    auto options = std::make_shared<PluginInstall>();
    auto& verb = add_verb(group, chosen, "install",
                          "Lets the server install a plugin from its catalogue, which is on the internet",
                          "  tunnelctl plugin install grafana-clickhouse-datasource\n"
                          "  tunnelctl plugin install grafana-clickhouse-datasource --plugin-version 4.8.2",
                          options);
    verb.add_option("id", options->id, "the plugin's id")->required()->type_name("ID");
    verb.add_option("--plugin-version", options->version, "this version; default: the newest that fits")
        ->type_name("VERSION");
  }
}

}  // namespace tunnelctl
