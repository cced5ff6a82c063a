#include "tunnelctl/grafana/folders.h"

#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct FolderList {
  std::string parent;
  std::size_t limit = 100;
};

struct FolderSearch {
  grafana::Search search;
};

struct FolderGet {
  std::string uid;
};

struct FolderCreate {
  std::string title, uid, parent;
};

struct FolderUpdate {
  std::string uid;
  std::optional<std::string> title, parent;
  bool force = false;
};

struct FolderDelete {
  std::string uid;
  bool yes = false, recursive = false, with_rules = false;
};

Json described(const grafana::Folder& folder, grafana::Server& server) {
  return {{"uid", folder.uid},
          {"title", folder.title},
          {"parent_uid", folder.parent_uid},
          {"url", server.public_url() +
                      (folder.url.empty() ? "/dashboards/f/" + grafana::escape(folder.uid) : folder.url)}};
}

Result<ExitStatus> run(const FolderList& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto folders = grafana::list_folders(*server, options.parent, options.limit);
  if (!folders) return tl::unexpected(folders.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : folders->items) list.push_back(described(one, *server));
    session.out << pretty({{"folders", std::move(list)}, {"more", folders->more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : folders->items) rows.push_back({one.uid, terminal::harmless(one.title)});
    if (!rows.empty()) terminal::print_table(session.out, {"UID", "TITLE"}, rows);
  }
  say_shown(session, folders->items.size(), folders->more, "folder");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const FolderSearch& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto search = options.search;
  search.folders = true;
  const auto found = grafana::search_dashboards(*server, search);
  if (!found) return tl::unexpected(found.error());
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : found->items)
      list.push_back({{"uid", one.uid},
                      {"title", one.title},
                      {"parent_uid", one.folder_uid},
                      {"url", server->public_url() + one.url}});
    session.out << pretty({{"folders", std::move(list)}, {"more", found->more}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : found->items)
      rows.push_back({one.uid, terminal::harmless(one.title), terminal::harmless(one.folder_title)});
    if (!rows.empty()) terminal::print_table(session.out, {"UID", "TITLE", "IN"}, rows);
  }
  say_shown(session, found->items.size(), found->more, "folder");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const FolderGet& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto folder = grafana::read_folder(*server, options.uid);
  if (!folder) return tl::unexpected(folder.error());
  const auto counts = grafana::count_folder(*server, options.uid);
  if (!counts) return tl::unexpected(counts.error());
  if (session.json()) {
    auto json = described(*folder, *server);
    json["version"] = folder->version;
    json["path"] = folder->path;
    json["contents"] = {{"dashboards", counts->dashboards},
                        {"folders", counts->folders},
                        {"alert_rules", counts->alert_rules},
                        {"library_panels", counts->library_panels}};
    session.out << pretty(json);
    return ExitStatus::ok;
  }
  std::string path;
  for (const auto& title : folder->path) path += (path.empty() ? "" : " / ") + terminal::harmless(title);
  session.out << path << "\n  uid          " << folder->uid << "\n  dashboards   " << counts->dashboards
              << "\n  folders      " << counts->folders << "\n  alert rules  " << counts->alert_rules << '\n';
  return ExitStatus::ok;
}

Result<ExitStatus> report(const Result<grafana::FolderChange>& change, const char* what,
                          const std::string& conflict, Session& session, grafana::Server& server) {
  if (!change) return tl::unexpected(change.error());
  if (change->conflict)
    return refuse(session, ExitStatus::conflict, conflict + " (" + *change->conflict + ")");
  const auto json = described(change->folder, server);
  if (session.json())
    session.out << pretty(json);
  else
    session.out << change->folder.uid << '\n';
  session.say("folder " + change->folder.uid + " \"" + terminal::harmless(change->folder.title) + "\" " +
              what);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const FolderCreate& options, Session& session) {
  if (!options.uid.empty())
    if (const auto wrong = grafana::wrong_uid(options.uid); !wrong.empty())
      return fail(Error::Kind::bad_input, "--uid: \"" + options.uid + "\" " + wrong);
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  return report(grafana::create_folder(*server, options.title, options.uid, options.parent), "made",
                "folder " + options.uid + " exists already", session, *server);
}

Result<ExitStatus> run(const FolderUpdate& options, Session& session) {
  if (!options.title && !options.parent)
    return refuse(session, ExitStatus::usage, "nothing to do: say --title or --parent");
  if (options.title && options.title->empty())
    return fail(Error::Kind::bad_input, "--title: a folder needs a title");
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto present = grafana::read_folder(*server, options.uid);
  if (!present) return tl::unexpected(present.error());
  const auto change = grafana::update_folder(*server, *present, options.title, options.parent, options.force);
  // What was inherited from the old parent is gone at the new place.
  if (change && !change->conflict && options.parent)
    if (const auto again = grafana::read_folder(*server, options.uid);
        !again && again.error().kind == Error::Kind::denied)
      session.warn("these credentials may not see the folder at its new place; an admin must grant them");
  return report(change, "updated",
                "folder " + options.uid + " was changed meanwhile; run it again, or overwrite with --force",
                session, *server);
}

Result<ExitStatus> run(const FolderDelete& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto folder = grafana::read_folder(*server, options.uid);
  if (!folder) return tl::unexpected(folder.error());
  // The server deletes what is inside without a word.
  const auto counts = grafana::count_folder(*server, options.uid);
  if (!counts) return tl::unexpected(counts.error());
  const auto contents = std::to_string(counts->dashboards) + " dashboards, " +
                        std::to_string(counts->folders) + " folders, " + std::to_string(counts->alert_rules) +
                        " alert rules";
  if (counts->alert_rules > 0 && !options.with_rules)
    return refuse(session, ExitStatus::conflict,
                  "folder " + options.uid + " holds " + contents + "; --with-rules deletes those rules too");
  if (!counts->empty() && !options.recursive && !options.with_rules)
    return refuse(session, ExitStatus::conflict,
                  "folder " + options.uid + " holds " + contents + "; --recursive deletes them too");
  if (auto status = unless_confirmed(session, options.yes,
                                     "delete folder " + options.uid + " \"" + folder->title + "\"" +
                                         (counts->empty() ? "" : " with " + contents)))
    return *status;
  if (auto done = grafana::delete_folder(*server, options.uid, options.with_rules); !done)
    return tl::unexpected(done.error());
  if (session.json())
    session.out << pretty({{"uid", options.uid}, {"title", folder->title}, {"deleted", true}});
  session.say("folder " + options.uid + " \"" + terminal::harmless(folder->title) + "\" deleted" +
              (counts->empty() ? "" : ", with " + contents));
  return ExitStatus::ok;
}

void add_uid(CLI::App& verb, std::string& uid) {
  verb.add_option("uid", uid, "the folder's uid")->required()->type_name("UID");
}

}  // namespace

void add_folder(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("folder", "Folders of dashboards and alert rules");
  group.require_subcommand(1);
  {
    auto options = std::make_shared<FolderList>();
    auto& verb = add_verb(group, chosen, "list", "Lists the folders of one level",
                          "  tunnelctl folder list\n"
                          "  tunnelctl folder list --parent tunnel-monitoring --output json",
                          options);
    verb.add_option("--parent", options->parent, "those inside this folder; none: the root")
        ->type_name("UID");
    add_limit(verb, options->limit);
  }
  {
    auto options = std::make_shared<FolderSearch>();
    auto& verb = add_verb(group, chosen, "search", "Finds folders of any level by words of their title",
                          "  tunnelctl folder search tunnel\n"
                          "  tunnelctl folder search monitoring --output json | jq -r '.folders[].uid'",
                          options);
    verb.add_option("text", options->search.text, "words of the title")->required()->type_name("TEXT");
    add_limit(verb, options->search.limit);
  }
  {
    auto options = std::make_shared<FolderGet>();
    add_uid(add_verb(group, chosen, "get", "Shows a folder and how much is in it",
                     "  tunnelctl folder get tunnel-monitoring\n"
                     "  tunnelctl folder get tunnel-monitoring --output json | jq .contents",
                     options),
            options->uid);
  }
  {
    auto options = std::make_shared<FolderCreate>();
    auto& verb = add_verb(group, chosen, "create", "Makes a folder",
                          "  tunnelctl folder create \"Tunnel Monitoring\" --uid tunnel-monitoring\n"
                          "  tunnelctl folder create Archive --parent tunnel-monitoring",
                          options);
    verb.add_option("title", options->title, "its title")->required()->type_name("TITLE");
    verb.add_option("--uid", options->uid, "its uid; none: the server makes one, and each run another folder")
        ->type_name("UID");
    verb.add_option("--parent", options->parent, "the folder it goes into")->type_name("UID");
  }
  {
    auto options = std::make_shared<FolderUpdate>();
    auto& verb = add_verb(group, chosen, "update", "Renames or moves a folder",
                          "  tunnelctl folder update tunnel-monitoring --title \"Tunnels\"\n"
                          "  tunnelctl folder update archive --parent tunnel-monitoring",
                          options);
    add_uid(verb, options->uid);
    verb.add_option("--title", options->title, "its new title")->type_name("TITLE");
    verb.add_option("--parent", options->parent, "the folder it moves into; \"\": the root")
        ->type_name("UID");
    verb.add_flag("--force", options->force, "even if somebody changed it meanwhile");
  }
  {
    auto options = std::make_shared<FolderDelete>();
    auto& verb = add_verb(group, chosen, "delete", "Deletes a folder",
                          "  tunnelctl folder delete archive --yes\n"
                          "  tunnelctl folder delete archive --recursive --with-rules --yes",
                          options);
    add_uid(verb, options->uid);
    verb.add_flag("--recursive", options->recursive, "with the dashboards and folders in it");
    verb.add_flag("--with-rules", options->with_rules, "with everything in it, alert rules too");
    verb.add_flag("-y,--yes", options->yes, "do not ask");
  }
}

}  // namespace tunnelctl
