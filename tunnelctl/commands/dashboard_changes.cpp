#include <ostream>

#include "tunnelctl/commands/dashboard_verbs.h"
#include "tunnelctl/commands/links.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/json_patch.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct DashboardCreate {
  std::string file;
  std::string uid, folder, message;
  bool force = false;
};

struct DashboardPatch {
  std::string uid;
  std::vector<std::vector<std::string>> operations;  // op, path, perhaps value
  std::string operations_file;
  std::string message;
  grafana::Selector selector;
  bool force = false, dry_run = false;
};

struct DashboardDelete {
  std::string uid;
  bool yes = false;
};

struct DashboardOpen {
  std::string uid;
  LinkFlags link;
  bool browser = false;
};

ExitStatus report(const grafana::Saved& saved, const char* what, Session& session, grafana::Server& server) {
  const auto url = server.public_url() + saved.url;
  if (session.json())
    session.out << pretty({{"uid", saved.uid}, {"version", saved.version}, {"url", url}, {"changed", true}});
  else
    session.out << url << '\n';
  session.say(std::string("dashboard ") + saved.uid + " " + what + ", version " +
              std::to_string(saved.version));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const DashboardCreate& options, Session& session) {
  auto content = read_json(options.file, session);
  if (!content) return tl::unexpected(content.error());
  // What GET answers, and `get --meta` prints.
  if (content->is_object() && content->contains("dashboard") && (*content)["dashboard"].is_object())
    *content = Json((*content)["dashboard"]);
  const auto wrong = [&](const std::string& what) {
    return fail(Error::Kind::bad_input, name_of_input(options.file) + ": " + what);
  };
  if (!content->is_object()) return wrong("a dashboard must be a JSON object");
  const bool object = content->contains("spec") && content->contains("metadata");
  auto& named = object ? (*content)["metadata"] : *content;
  const char* key = object ? "name" : "uid";
  if (!options.uid.empty()) named[key] = options.uid;
  const auto uid = grafana::text_of(named, key);
  if (uid.empty())
    return wrong(
        "the dashboard has no uid, so that each run would make another one; add \"uid\" or say --uid");
  if (const auto bad = grafana::wrong_uid(uid); !bad.empty()) return wrong("the uid \"" + uid + "\" " + bad);
  if (grafana::text_of(object ? (*content)["spec"] : *content, "title").empty())
    return wrong("the dashboard has no title");
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto saved = grafana::create_dashboard(*server, *content, options.folder,
                                               {.message = options.message, .force = options.force});
  if (!saved) return tl::unexpected(saved.error());
  if (saved->conflict)
    return refuse(session, ExitStatus::conflict,
                  "dashboard " + uid + " exists already (" + *saved->conflict +
                      "); change it with patch, or replace it with --force");
  return report(*saved, "saved", session, *server);
}

Result<std::vector<grafana::Operation>> operations_of(const DashboardPatch& options, Session& session) {
  std::vector<grafana::Operation> result;
  if (!options.operations_file.empty()) {
    const auto list = read_json(options.operations_file, session);
    if (!list) return tl::unexpected(list.error());
    auto read = grafana::operations_of(*list);
    if (!read) return fail(Error::Kind::bad_input, options.operations_file + ": " + read.error().message);
    result = std::move(*read);
  }
  for (const auto& words : options.operations) {
    grafana::Operation operation{.op = words[0], .path = words[1], .value = std::nullopt};
    if (words.size() > 2) {
      const bool from_file = words[2].size() > 1 && words[2].starts_with('@');
      auto value = from_file ? read_json(words[2].substr(1), session) : grafana::typed_value(words[2]);
      if (!value)
        return fail(Error::Kind::bad_input,
                    "--op " + words[0] + " " + words[1] + ": " + value.error().message);
      operation.value = std::move(*value);
    }
    result.push_back(std::move(operation));
  }
  return result;
}

/// The operations on the selected part, put back into the whole.
Result<grafana::Patched> patched(const grafana::Dashboard& dashboard,
                                 const std::vector<grafana::Operation>& operations,
                                 const grafana::Selector& selector) {
  if (selector.empty())
    return grafana::patch(
        dashboard.content, operations,
        {.kept = {"uid", "id", "version"},
         .root_is_kept =
             "the whole dashboard is not replaced by a patch; use: tunnelctl dashboard create FILE --force"});
  const auto place = grafana::find(dashboard.content, selector);
  if (!place) return tl::unexpected(place.error());
  grafana::Patched result{.document = dashboard.content};
  const bool takes_it_away = operations.size() == 1 && operations[0].op == "remove" &&
                             (operations[0].path == "$" || operations[0].path.empty());
  if (takes_it_away) {
    if (!std::holds_alternative<std::size_t>(place->back()))
      return fail(Error::Kind::bad_input,
                  "in a schema v2 dashboard other parts refer to this one (its layout to a panel): remove "
                  "all by their paths");
    return grafana::patch(dashboard.content,
                          {{.op = "remove", .path = grafana::written(*place), .value = std::nullopt}});
  }
  auto part =
      grafana::patch(*grafana::at(dashboard.content, *place), operations, {.root_may_be_replaced = true});
  if (!part) return part;
  *grafana::at(result.document, *place) = std::move(part->document);
  for (const auto& done : part->done)
    result.done.push_back(done + " (from " + grafana::written(*place) + ")");
  return result;
}

Result<ExitStatus> run(const DashboardPatch& options, Session& session) {
  const auto operations = operations_of(options, session);
  if (!operations) return tl::unexpected(operations.error());
  if (operations->empty())
    return refuse(session, ExitStatus::usage, "nothing to do: say --op, or --ops FILE");
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto dashboard = grafana::read_dashboard(*server, options.uid);
  if (!dashboard) return tl::unexpected(dashboard.error());
  auto result = patched(*dashboard, *operations, options.selector);
  if (!result)
    return fail(result.error().kind,
                "dashboard " + options.uid + ": " + result.error().message + "; nothing was changed");
  for (const auto& done : result->done) session.say(terminal::harmless(done));
  const bool same = result->document == dashboard->content;
  if (options.dry_run) {
    if (session.json()) session.out << pretty(result->document);
    session.say(same ? "nothing would change" : "not saved (--dry-run)");
    return ExitStatus::ok;
  }
  if (same) {
    if (session.json())
      session.out << pretty({{"uid", dashboard->uid},
                             {"version", dashboard->version},
                             {"url", server->public_url() + dashboard->url},
                             {"changed", false}});
    session.say("dashboard " + dashboard->uid + " is so already; nothing was saved");
    return ExitStatus::ok;
  }
  dashboard->content = std::move(result->document);
  const auto saved =
      grafana::save_dashboard(*server, *dashboard, {.message = options.message, .force = options.force});
  if (!saved) return tl::unexpected(saved.error());
  if (saved->conflict)
    return refuse(
        session, ExitStatus::conflict,
        "dashboard " + options.uid + " was not saved: " + *saved->conflict +
            (dashboard->provisioned ? "" : "; run it again, or overwrite the other change with --force"));
  return report(*saved, "saved", session, *server);
}

Result<ExitStatus> run(const DashboardDelete& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto dashboard = grafana::read_dashboard(*server, options.uid);
  if (!dashboard) return tl::unexpected(dashboard.error());
  if (dashboard->provisioned)
    return refuse(session, ExitStatus::conflict,
                  "dashboard " + options.uid + " is provisioned from a file on the server; remove it there");
  if (auto status = unless_confirmed(session, options.yes,
                                     "delete dashboard " + options.uid + " \"" + dashboard->title + "\""))
    return *status;
  if (auto done = grafana::delete_dashboard(*server, options.uid); !done) return tl::unexpected(done.error());
  if (session.json())
    session.out << pretty({{"uid", options.uid}, {"title", dashboard->title}, {"deleted", true}});
  session.say("dashboard " + options.uid + " \"" + terminal::harmless(dashboard->title) + "\" deleted");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const DashboardOpen& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  // A link to nowhere opens too: the web page itself says then that there is nothing.
  const auto dashboard = grafana::read_dashboard(*server, options.uid);
  if (!dashboard) return tl::unexpected(dashboard.error());
  const auto link = page_link(*server, options.uid, dashboard->content, options.link, session);
  if (!link) return tl::unexpected(link.error());
  if (session.json())
    session.out << pretty({{"url", *link}});
  else
    session.out << *link << '\n';
  if (options.browser) return open_browser(*link, session);
  return ExitStatus::ok;
}

void add_uid(CLI::App& verb, std::string& uid) {
  verb.add_option("uid", uid, "the dashboard's uid")->required()->type_name("UID");
}

}  // namespace

void add_dashboard_changes(CLI::App& group, Chosen& chosen) {
  {
    auto options = std::make_shared<DashboardCreate>();
    auto& verb =
        add_verb(group, chosen, "create", "Makes a dashboard from its JSON",
                 "  tunnelctl dashboard create health.json --folder tunnel-monitoring\n"
                 "  tunnelctl dashboard create health.json --uid my-health --force --message \"From Git\"",
                 options);
    verb.add_option("file", options->file, "its JSON; - reads standard input")->required()->type_name("FILE");
    verb.add_option("--uid", options->uid, "instead of the one in the file")->type_name("UID");
    verb.add_option("--folder", options->folder,
                    "the folder it goes to; none: the root, or with --force where it is")
        ->type_name("UID");
    verb.add_option("--message", options->message, "for the list of versions")->type_name("TEXT");
    verb.add_flag("--force", options->force, "replace an existing one, whoever changed it");
  }
  {
    auto options = std::make_shared<DashboardPatch>();
    auto& verb = add_verb(
        group, chosen, "patch", "Changes parts of a dashboard",
        "  tunnelctl dashboard patch tunnel-health --op replace '$.refresh' 30s --op add '$.tags/-' prod\n"
        "  tunnelctl dashboard patch tunnel-health --panel 4 --query A --op replace expr "
        "'up{job=\"tunneld\"}'\n"
        "  tunnelctl dashboard patch tunnel-health --op add '$.panels/-' @panel.json --dry-run",
        options);
    add_uid(verb, options->uid);
    verb.add_option("--op", options->operations,
                    "replace|add|remove, a path, and for the first two a value: JSON, else text, or @FILE. "
                    "Again for more, in that order")
        ->type_size(2, 3)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->type_name("OP PATH [VALUE|@FILE]");
    verb.add_option("--ops", options->operations_file,
                    "operations from a file, before those of --op: [{\"op\", \"path\", \"value\"}]; - reads "
                    "standard input")
        ->type_name("FILE");
    verb.add_option("--message", options->message, "for the list of versions")->type_name("TEXT");
    verb.add_flag("--force", options->force, "save even if somebody changed it meanwhile");
    verb.add_flag("--dry-run", options->dry_run,
                  "say what would change; with --output json print the result");
    add_selector(verb, options->selector);
  }
  {
    auto options = std::make_shared<DashboardDelete>();
    auto& verb = add_verb(
        group, chosen, "delete", "Deletes a dashboard",
        "  tunnelctl dashboard delete old-board --yes\n"
        "  tunnelctl dashboard get old-board --file old.json && tunnelctl dashboard delete old-board --yes",
        options);
    add_uid(verb, options->uid);
    verb.add_flag("-y,--yes", options->yes, "do not ask");
  }
  {
    auto options = std::make_shared<DashboardOpen>();
    auto& verb = add_verb(group, chosen, "open", "Prints a dashboard's address, and can open it",
                          "  tunnelctl dashboard open tunnel-health --browser\n"
                          "  tunnelctl dashboard open tunnel-health --from now-1h --var user_tier=gold",
                          options);
    add_uid(verb, options->uid);
    verb.add_flag("--browser", options->browser, "open it in the browser of this desktop");
    add_link_flags(verb, options->link);
    add_link_vars(verb, options->link);
    verb.add_option("--panel", options->link.panel, "this panel alone, by id or exact title")
        ->type_name("ID|TITLE");
  }
}

}  // namespace tunnelctl
