#include <algorithm>
#include <cctype>
#include <ostream>

#include "tunnelctl/commands/datasource_verbs.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/datasources.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

/// By type exactly, by name in part; capitals do not matter.
struct DatasourceFilter {
  std::string type, name;
};

struct DatasourceList : DatasourceFilter {
  std::size_t limit = 0;
};

struct DatasourceGet {
  std::string name;
};

struct DatasourceCheck : DatasourceFilter {
  std::vector<std::string> names;
};

std::string small(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

Result<std::vector<grafana::Datasource>> fitting(grafana::Server& server, const DatasourceFilter& filter,
                                                 Session& session) {
  auto all = grafana::list_datasources(server);
  if (!all) return tl::unexpected(all.error());
  if (all->from_settings)
    session.warn("these credentials may not list data sources; shown are those of the web page's settings");
  std::erase_if(all->items, [&](const auto& one) {
    return (!filter.type.empty() && small(one.type) != small(filter.type)) ||
           small(one.name).find(small(filter.name)) == std::string::npos;
  });
  return std::move(all->items);
}

Result<ExitStatus> run(const DatasourceList& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto found = fitting(*server, options, session);
  if (!found) return tl::unexpected(found.error());
  const bool more = options.limit > 0 && found->size() > options.limit;
  if (more) found->resize(options.limit);
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : *found)
      list.push_back({{"uid", one.uid},
                      {"name", one.name},
                      {"type", one.type},
                      {"url", one.url},
                      {"default", one.is_default},
                      {"read_only", one.read_only}});
    session.out << pretty({{"datasources", std::move(list)}, {"more", more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : *found)
      rows.push_back({one.uid, terminal::harmless(one.name), one.type, one.is_default ? "default" : "",
                      terminal::harmless(one.url)});
    if (!rows.empty()) terminal::print_table(session.out, {"UID", "NAME", "TYPE", "", "URL"}, rows);
  }
  say_shown(session, found->size(), more, "data source");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const DatasourceGet& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto found = grafana::find_datasource(*server, options.name);
  if (!found) return tl::unexpected(found.error());
  session.out << pretty(found->json);
  return ExitStatus::ok;
}

const char* word(grafana::Check::State state) {
  switch (state) {
    case grafana::Check::State::ok: return "ok";
    case grafana::Check::State::failed: return "failed";
    case grafana::Check::State::unknown: return "unknown";
  }
  return "";
}

Result<ExitStatus> run(const DatasourceCheck& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  std::vector<grafana::Datasource> wanted;
  if (options.names.empty()) {
    auto found = fitting(*server, options, session);
    if (!found) return tl::unexpected(found.error());
    wanted = std::move(*found);
  }
  for (const auto& name : options.names) {
    auto found = grafana::find_datasource(*server, name);
    if (!found) return tl::unexpected(found.error());
    wanted.push_back(std::move(*found));
  }
  const auto checks = grafana::check_datasources(*server, wanted, [&](std::size_t done) {
    session.progress(std::to_string(done) + "/" + std::to_string(wanted.size()) + " data sources");
  });
  session.progress("");
  std::size_t failed = 0;
  for (const auto& check : checks) failed += check.state == grafana::Check::State::failed ? 1U : 0U;
  if (session.json()) {
    Json list = Json::array();
    for (const auto& check : checks) {
      Json tried = Json::array();
      for (const auto& route : check.tried)
        tried.push_back({{"route", route.name}, {"status", route.status}, {"message", route.said}});
      list.push_back({{"uid", check.datasource.uid},
                      {"name", check.datasource.name},
                      {"type", check.datasource.type},
                      {"state", word(check.state)},
                      {"message", check.message},
                      {"tried", std::move(tried)}});
    }
    session.out << pretty({{"datasources", std::move(list)}, {"failed", failed}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& check : checks)
      rows.push_back({check.datasource.uid, terminal::harmless(check.datasource.name), check.datasource.type,
                      word(check.state), terminal::harmless(check.message)});
    if (!rows.empty()) terminal::print_table(session.out, {"UID", "NAME", "TYPE", "STATE", "MESSAGE"}, rows);
  }
  if (checks.empty())
    session.say("no data source fits");
  else
    session.say(std::to_string(checks.size() - failed) + " of " + std::to_string(checks.size()) +
                " without failure");
  return failed > 0 ? ExitStatus::failure : ExitStatus::ok;
}

void add_filter(CLI::App& verb, DatasourceFilter& filter) {
  verb.add_option("--type", filter.type, "only those of this type, e.g. prometheus")->type_name("TYPE");
  verb.add_option("--name", filter.name, "only those with this in their name")->type_name("TEXT");
}

}  // namespace

void add_datasource(CLI::App& app, Chosen& chosen) {
  CLI::App& group =
      *app.add_subcommand("datasource", "Data sources: find them, ask them, see whether they answer");
  group.require_subcommand(1);
  {
    auto options = std::make_shared<DatasourceList>();
    auto& verb =
        add_verb(group, chosen, "list", "Lists data sources",
                 "  tunnelctl datasource list --type prometheus\n"
                 "  tunnelctl datasource list --output json | jq -r '.datasources[] | select(.default).uid'",
                 options);
    add_filter(verb, *options);
    add_limit(verb, options->limit);
  }
  {
    auto options = std::make_shared<DatasourceGet>();
    add_verb(group, chosen, "get", "Prints a data source's settings, without secrets",
             "  tunnelctl datasource get prom-1\n"
             "  tunnelctl datasource get \"Prometheus (prod)\" | jq .jsonData",
             options)
        .add_option("name", options->name, "its uid or its name")
        ->required()
        ->type_name("UID|NAME");
  }
  {
    auto options = std::make_shared<DatasourceCheck>();
    auto& verb = add_verb(group, chosen, "check",
                          "Asks data sources whether they answer; exit status 1 if one does not",
                          "  tunnelctl datasource check\n"
                          "  tunnelctl datasource check prom-1 loki-1 --output json",
                          options);
    verb.add_option("names", options->names, "uids or names; none: all that fit")->type_name("UID|NAME");
    add_filter(verb, *options);
  }
  add_datasource_query(group, chosen);
  add_datasource_changes(group, chosen);
}

}  // namespace tunnelctl
