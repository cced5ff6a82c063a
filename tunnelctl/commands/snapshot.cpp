#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/grafana/snapshots.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

struct SnapshotList {
  std::string part;
  std::size_t limit = 100;
};

struct SnapshotGet {
  std::string key;
  std::filesystem::path file;
};

struct SnapshotCreate {
  std::string file, name, length;
};

struct SnapshotDelete {
  std::string key;
  bool yes = false;
};

Result<ExitStatus> run(const SnapshotList& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto found = grafana::list_snapshots(*server, options.part, options.limit);
  if (!found) return tl::unexpected(found.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : found->items)
      list.push_back({{"key", one.key},
                      {"name", one.name},
                      {"created", one.created},
                      {"expires", one.expires},
                      {"external", one.external}});
    session.out << pretty({{"snapshots", std::move(list)}, {"more", found->more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : found->items)
      rows.push_back({one.key, one.created, one.expires, terminal::harmless(one.name)});
    if (!rows.empty()) terminal::print_table(session.out, {"KEY", "CREATED", "EXPIRES", "NAME"}, rows);
  }
  say_shown(session, found->items.size(), found->more, "snapshot");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const SnapshotGet& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto snapshot = grafana::read_snapshot(*server, options.key);
  if (!snapshot) return tl::unexpected(snapshot.error());
  if (options.file.empty()) {
    session.out << pretty(*snapshot);
    return ExitStatus::ok;
  }
  if (auto done = write_file(options.file, pretty(*snapshot)); !done) return tl::unexpected(done.error());
  if (session.json()) session.out << pretty({{"key", options.key}, {"file", options.file.string()}});
  session.say("snapshot " + options.key + ": written to " + options.file.string());
  return ExitStatus::ok;
}

Result<ExitStatus> run(const SnapshotCreate& options, Session& session) {
  std::chrono::seconds expires{};
  if (!options.length.empty()) {
    const auto read = times::duration(options.length);
    if (!read) return tl::unexpected(Error{read.error().kind, "--for: " + read.error().message});
    expires = std::chrono::ceil<std::chrono::seconds>(*read);
  }
  auto dashboard = read_json(options.file, session);
  if (!dashboard) return tl::unexpected(dashboard.error());
  // Also as `dashboard get` and `snapshot get` print it, with what is around it.
  if (grafana::member(*dashboard, "dashboard").is_object()) dashboard = Json((*dashboard)["dashboard"]);
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto made = grafana::create_snapshot(*server, *dashboard, options.name, expires);
  if (!made) return fail(made.error().kind, name_of_input(options.file) + ": " + made.error().message);
  if (session.json())
    session.out << pretty({{"key", made->key}, {"url", made->url}, {"delete_url", made->delete_url}});
  else
    session.out << terminal::harmless(made->url) << '\n';
  session.say("snapshot " + made->key + " made; whoever has its address may read it" +
              (expires.count() > 0 ? ", for " + times::duration_text(expires) : ", for good"));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const SnapshotDelete& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto present = grafana::read_snapshot(*server, options.key);
  if (!present) return tl::unexpected(present.error());
  const auto title = grafana::text_of(grafana::member(*present, "dashboard"), "title");
  if (auto status =
          unless_confirmed(session, options.yes, "delete snapshot " + options.key + " \"" + title + "\""))
    return *status;
  if (auto done = grafana::delete_snapshot(*server, options.key); !done) return tl::unexpected(done.error());
  if (session.json()) session.out << pretty({{"key", options.key}, {"deleted", true}});
  session.say("snapshot " + options.key + " deleted");
  return ExitStatus::ok;
}

}  // namespace

void add_snapshot(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("snapshot", "Snapshots: dashboards with the data that they showed");
  group.require_subcommand(1);
  {
    auto options = std::make_shared<SnapshotList>();
    auto& verb = add_verb(group, chosen, "list", "Lists snapshots",
                          "  tunnelctl snapshot list\n"
                          "  tunnelctl snapshot list --name incident --output json",
                          options);
    verb.add_option("--name", options->part, "only those with this in their name")->type_name("TEXT");
    add_limit(verb, options->limit);
  }
  {
    auto options = std::make_shared<SnapshotGet>();
    auto& verb = add_verb(group, chosen, "get", "Prints a snapshot's JSON",
                          "  tunnelctl snapshot get 4VQruz5GEPCAuFqlugmxIQsYYvQhaRPa | jq .dashboard\n"
                          "  tunnelctl snapshot get 4VQruz5GEPCAuFqlugmxIQsYYvQhaRPa --file incident.json",
                          options);
    verb.add_option("key", options->key, "its key")->required()->type_name("KEY");
    verb.add_option("--file", options->file, "write it there, and nothing to standard output")
        ->type_name("FILE");
  }
  {
    auto options = std::make_shared<SnapshotCreate>();
    auto& verb = add_verb(group, chosen, "create",
                          "Makes a snapshot of a dashboard's JSON, which must hold the data already",
                          "  tunnelctl snapshot create board-with-data.json --name \"incident 42\" --for 7d\n"
                          "  tunnelctl snapshot create - --output json < board-with-data.json",
                          options);
    verb.add_option("file", options->file, "the dashboard's JSON; - reads standard input")
        ->required()
        ->type_name("FILE");
    verb.add_option("--name", options->name, "the snapshot's name")->type_name("NAME");
    verb.add_option("--for", options->length, "delete it after that long; default: never")
        ->type_name("DURATION");
  }
  {
    auto options = std::make_shared<SnapshotDelete>();
    auto& verb = add_verb(group, chosen, "delete", "Deletes a snapshot",
                          "  tunnelctl snapshot delete 4VQruz5GEPCAuFqlugmxIQsYYvQhaRPa\n"
                          "  tunnelctl snapshot delete 4VQruz5GEPCAuFqlugmxIQsYYvQhaRPa --yes",
                          options);
    verb.add_option("key", options->key, "its key")->required()->type_name("KEY");
    verb.add_flag("-y,--yes", options->yes, "do not ask");
  }
}

}  // namespace tunnelctl
