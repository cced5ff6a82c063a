#include <ostream>

#include "tunnelctl/commands/dashboard_verbs.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/panels.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {

void add_selector(CLI::App& verb, grafana::Selector& selector) {
  verb.add_option("--panel", selector.panel, "only this panel, by id or exact title")->type_name("ID|TITLE");
  verb.add_option("--query", selector.query, "only this query of the panel, by its refId")
      ->type_name("REFID");
  verb.add_option("--var", selector.variable, "only this template variable")->type_name("NAME");
}

namespace {

/// `dashboard list`, and with a text `dashboard search`
struct DashboardSearch {
  grafana::Search search;
};

struct DashboardGet {
  std::string uid;
  std::filesystem::path file;
  std::int64_t version = 0;
  bool meta = false;
  grafana::Selector selector;
};

struct DashboardSummary {
  std::string uid;
};

struct DashboardProperty {
  std::string uid, path;
  grafana::Selector selector;
};

struct DashboardVersions {
  std::string uid;
  std::size_t limit = 20;
};

Result<ExitStatus> run(const DashboardSearch& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto found = grafana::search_dashboards(*server, options.search);
  if (!found) return tl::unexpected(found.error());
  if (found->items.empty())
    for (const auto& uid : options.search.folder_uids)
      if (auto there = folder_exists(*server, uid); !there) return tl::unexpected(there.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : found->items)
      list.push_back({{"uid", one.uid},
                      {"title", one.title},
                      {"folder", {{"uid", one.folder_uid}, {"title", one.folder_title}}},
                      {"tags", one.tags},
                      {"url", server->public_url() + one.url}});
    session.out << pretty({{"dashboards", std::move(list)}, {"more", found->more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : found->items) {
      std::string tags;
      for (const auto& tag : one.tags) tags += (tags.empty() ? "" : ",") + tag;
      rows.push_back({one.uid, terminal::harmless(one.title), terminal::harmless(one.folder_title),
                      terminal::harmless(tags)});
    }
    if (!rows.empty()) terminal::print_table(session.out, {"UID", "TITLE", "FOLDER", "TAGS"}, rows);
  }
  say_shown(session, found->items.size(), found->more, "dashboard");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const DashboardGet& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto dashboard = grafana::read_dashboard(*server, options.uid);
  if (!dashboard) return tl::unexpected(dashboard.error());
  if (options.version > 0) {
    auto old = grafana::read_dashboard_version(*server, options.uid, options.version);
    if (!old) return tl::unexpected(old.error());
    dashboard->content = std::move(*old);
    dashboard->version = options.version;
    dashboard->object = nullptr;
  }
  Json result = dashboard->content;
  if (!options.selector.empty()) {
    const auto place = grafana::find(dashboard->content, options.selector);
    if (!place) return tl::unexpected(place.error());
    result = *grafana::at(dashboard->content, *place);
  } else if (dashboard->object.is_object()) {
    // Only the whole object can be saved again.
    result = dashboard->object;
    result.erase("status");
  }
  if (options.meta)
    result = {{"dashboard", std::move(result)},
              {"meta",
               {{"uid", dashboard->uid},
                {"version", dashboard->version},
                {"folder_uid", dashboard->folder_uid},
                {"folder_title", dashboard->folder_title},
                {"url", dashboard->url},
                {"updated", dashboard->updated},
                {"updated_by", dashboard->updated_by},
                {"provisioned", dashboard->provisioned},
                {"schema", dashboard->schema.empty() ? "classic" : dashboard->schema}}}};
  const std::string where = "dashboard " + dashboard->uid + ", version " +
                            std::to_string(dashboard->version) +
                            (dashboard->folder_uid.empty() ? "" : ", folder " + dashboard->folder_uid);
  if (options.file.empty()) {
    session.out << pretty(result);
    session.say(where);
    return ExitStatus::ok;
  }
  if (auto done = write_file(options.file, pretty(result)); !done) return tl::unexpected(done.error());
  if (session.json())
    session.out << pretty(
        {{"uid", dashboard->uid}, {"version", dashboard->version}, {"file", options.file.string()}});
  session.say(where + ": written to " + options.file.string());
  return ExitStatus::ok;
}

void print_summary(const Json& summary, Session& session) {
  const auto text = [](const Json& value) {
    return terminal::harmless(value.is_string() ? value.get<std::string>()
                              : value.is_null() ? ""
                                                : value.dump());
  };
  std::string tags;
  for (const auto& tag : summary["tags"]) tags += (tags.empty() ? "" : ", ") + text(tag);
  auto& out = session.out;
  out << text(summary["title"]) << "\n  uid        " << text(summary["uid"]) << "\n  version    "
      << text(summary["version"]) << "\n  folder     "
      << (text(summary["folder"]["uid"]).empty()
              ? "-"
              : text(summary["folder"]["title"]) + " (" + text(summary["folder"]["uid"]) + ")")
      << "\n  tags       " << (tags.empty() ? "-" : tags) << "\n  time       "
      << (text(summary["time"]["from"]).empty()
              ? "-"
              : text(summary["time"]["from"]) + " to " + text(summary["time"]["to"]))
      << "\n  refresh    " << (text(summary["refresh"]).empty() ? "-" : text(summary["refresh"])) << '\n';
  if (summary["schema"] != "classic") out << "  schema     " << text(summary["schema"]) << '\n';
  if (summary["provisioned"] == true) out << "  provisioned from a file on the server\n";
  if (!summary["variables"].empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : summary["variables"])
      rows.push_back({text(one["name"]), text(one["type"]), terminal::shortened(text(one["value"]), 60)});
    out << '\n';
    terminal::print_table(out, {"VARIABLE", "TYPE", "VALUE"}, rows);
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& panel : summary["panels"]) {
    const auto& queries = panel["queries"];
    const std::string query =
        queries.empty() ? ""
                        : text(queries[0]["ref"]) + ": " + terminal::shortened(text(queries[0]["query"]), 70);
    rows.push_back({text(panel["id"]), text(panel["type"]), text(panel["title"]), text(panel["row"]),
                    query + (queries.size() > 1 ? " (+" + std::to_string(queries.size() - 1) + ")" : "")});
  }
  if (!rows.empty()) {
    out << '\n';
    terminal::print_table(out, {"PANEL", "TYPE", "TITLE", "ROW", "QUERIES"}, rows);
  }
}

Result<ExitStatus> run(const DashboardSummary& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto dashboard = grafana::read_dashboard(*server, options.uid);
  if (!dashboard) return tl::unexpected(dashboard.error());
  const auto summary = grafana::summary(*dashboard);
  if (session.json())
    session.out << pretty(summary);
  else
    print_summary(summary, session);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const DashboardProperty& options, Session& session) {
  const auto path = grafana::JsonPath::parse(options.path);
  if (!path) return tl::unexpected(path.error());
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto dashboard = grafana::read_dashboard(*server, options.uid);
  if (!dashboard) return tl::unexpected(dashboard.error());
  const auto place = grafana::find(dashboard->content, options.selector);
  if (!place) return tl::unexpected(place.error());
  const Json& from = *grafana::at(dashboard->content, *place);
  const auto found = path->select(from);
  if (path->definite() && found.empty())
    return fail(Error::Kind::not_found, "dashboard " + options.uid + ": " + path->why_nothing(from));
  if (session.json()) {
    Json list = Json::array();
    for (const auto& match : found) list.push_back(*match.value);
    session.out << pretty(path->definite() ? list[0] : list);
  } else {
    // One line each, text as it is: for a shell's pipes.
    for (const auto& match : found) {
      const Json& value = *match.value;
      if (value.is_string())
        session.out << value.get<std::string>() << '\n';
      else
        session.out << (path->definite() ? pretty(value)
                                         : value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    }
  }
  return ExitStatus::ok;
}

Result<ExitStatus> run(const DashboardVersions& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto versions = grafana::dashboard_versions(*server, options.uid, options.limit);
  if (!versions) return tl::unexpected(versions.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : versions->items) {
      list.push_back({{"version", one.version},
                      {"created", one.created},
                      {"by", one.created_by},
                      {"message", one.message}});
      if (one.restored_from > 0) list.back()["restored_from"] = one.restored_from;
    }
    session.out << pretty({{"versions", std::move(list)}, {"more", versions->more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : versions->items)
      rows.push_back({std::to_string(one.version), one.created, terminal::harmless(one.created_by),
                      terminal::harmless(one.message)});
    terminal::print_table(session.out, {"VERSION", "SAVED", "BY", "MESSAGE"}, rows);
  }
  say_shown(session, versions->items.size(), versions->more, "version");
  return ExitStatus::ok;
}

void add_uid(CLI::App& verb, std::string& uid) {
  verb.add_option("uid", uid, "the dashboard's uid")->required()->type_name("UID");
}

void add_search(CLI::App& group, Chosen& chosen, bool with_text) {
  auto options = std::make_shared<DashboardSearch>();
  auto& verb =
      with_text
          ? add_verb(
                group, chosen, "search", "Finds dashboards by words of their title",
                "  tunnelctl dashboard search tunnel latency\n"
                "  tunnelctl dashboard search health --tag tunnel --output json | jq -r '.dashboards[].uid'",
                options)
          : add_verb(group, chosen, "list", "Lists dashboards",
                     "  tunnelctl dashboard list --folder tunnel-monitoring\n"
                     "  tunnelctl dashboard list --tag tunnel --limit 0 --output json",
                     options);
  if (with_text)
    verb.add_option_function<std::vector<std::string>>(
            "text",
            [options](const std::vector<std::string>& words) {
              for (const auto& word : words)
                options->search.text += (options->search.text.empty() ? "" : " ") + word;
            },
            "words of the title")
        ->required()
        ->type_name("TEXT");
  verb.add_option("--tag", options->search.tags, "only those with this tag; several: with all of them")
      ->type_name("TAG")
      ->allow_extra_args(false);
  verb.add_option("--folder", options->search.folder_uids, "only those in this folder; general: in none")
      ->type_name("UID")
      ->allow_extra_args(false);
  verb.add_flag("--starred", options->search.starred, "only those you starred");
  add_limit(verb, options->search.limit);
}

}  // namespace

void add_dashboard(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("dashboard", "Dashboards: find, read, change");
  group.require_subcommand(1);
  add_search(group, chosen, false);
  add_search(group, chosen, true);
  {
    auto options = std::make_shared<DashboardGet>();
    auto& verb = add_verb(group, chosen, "get", "Prints a dashboard's JSON, or a part of it",
                          "  tunnelctl dashboard get tunnel-health --file health.json\n"
                          "  tunnelctl dashboard get tunnel-health --panel \"Success rate\" --query A",
                          options);
    add_uid(verb, options->uid);
    verb.add_option("--file", options->file, "write it there, and nothing to standard output")
        ->type_name("FILE");
    verb.add_option("--version", options->version, "as it was in that version")
        ->type_name("NUMBER")
        ->check(CLI::PositiveNumber);
    verb.add_flag("--meta", options->meta,
                  "with version, folder and provenance, as {\"dashboard\", \"meta\"}");
    add_selector(verb, options->selector);
  }
  {
    auto options = std::make_shared<DashboardSummary>();
    auto& verb = add_verb(group, chosen, "summary", "Shows panels, queries and variables",
                          "  tunnelctl dashboard summary tunnel-health\n"
                          "  tunnelctl dashboard summary tunnel-health --output json | jq '.panels[].title'",
                          options);
    add_uid(verb, options->uid);
  }
  {
    auto options = std::make_shared<DashboardProperty>();
    auto& verb = add_verb(group, chosen, "property", "Prints what a JSONPath finds in a dashboard",
                          "  tunnelctl dashboard property tunnel-health '$.panels[*].title'\n"
                          "  tunnelctl dashboard property tunnel-health \"$..panels[?(@.type=='stat')].id\"\n"
                          "  tunnelctl dashboard property tunnel-health expr --panel 4 --query A",
                          options);
    add_uid(verb, options->uid);
    verb.add_option("path", options->path,
                    "$.a.b, [0], [-1], [1:3], [*], ..name, [?(@.id==4)]; from the selected part on")
        ->required()
        ->type_name("JSONPATH");
    add_selector(verb, options->selector);
  }
  {
    auto options = std::make_shared<DashboardVersions>();
    auto& verb = add_verb(group, chosen, "versions", "Lists saved versions, newest first",
                          "  tunnelctl dashboard versions tunnel-health\n"
                          "  tunnelctl dashboard versions tunnel-health --limit 1 --output json",
                          options);
    add_uid(verb, options->uid);
    add_limit(verb, options->limit);
  }
  add_dashboard_changes(group, chosen);
}

}  // namespace tunnelctl
