#include <chrono>
#include <memory>
#include <ostream>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/packs.h"
#include "tunnelctl/monitor/apply.h"
#include "tunnelctl/monitor/diff.h"
#include "tunnelctl/monitor/observe.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct Plan : PackOptions {
  bool full = false;
  bool prune = true;
  bool force = false;
  bool rotate_secrets = false;
};
struct Setup : Plan {
  bool editable = false;
  bool skip_verify = false;
  bool yes = false;
  std::string wait = "0s";
};

/// A plan, and what it was made from.
struct Planned {
  std::vector<pack::Pack> packs{};
  std::vector<monitor::CompileOptions> compiled_with{};
  monitor::Plan plan{};
  std::optional<ExitStatus> failed{};
};

Result<Planned> make_plan(const Plan& options, bool destroy, Session& session, grafana::Server& server,
                          std::vector<pack::Pack> packs) {
  Planned result;
  result.packs = std::move(packs);
  std::vector<monitor::Object> wanted;
  std::vector<std::string> notes;
  pack::Problems problems;
  for (const auto& pack : result.packs) {
    if (destroy) {
      // Only who and where: to take away, nothing needs to be known of data sources and secrets.
      wanted.push_back(
          {.key = {monitor::Kind::folder, pack.folder_uid}, .pack = pack.name, .title = pack.folder_title});
      wanted.push_back({.key = {monitor::Kind::routes, pack.name}, .pack = pack.name});
      continue;
    }
    auto compile = compile_options(pack, options, session, server);
    if (!compile) return tl::unexpected(compile.error());
    auto compiled = monitor::compile(pack, *compile);
    for (auto& object : compiled.objects) wanted.push_back(std::move(object));
    notes.insert(notes.end(), compiled.notes.begin(), compiled.notes.end());
    problems.insert(problems.end(), compiled.problems.begin(), compiled.problems.end());
    result.compiled_with.push_back(std::move(*compile));
  }
  for (const auto& problem : problems)
    session.err << "tunnelctl: " << terminal::harmless(pack::text(problem)) << '\n';
  if (!problems.empty()) {
    result.failed = ExitStatus::bad_input;
    return result;
  }
  std::stable_sort(wanted.begin(), wanted.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  session.progress("reading " + server.url());
  auto observed = monitor::observe(server, wanted, names_of(result.packs));
  session.progress("");
  if (!observed) return tl::unexpected(observed.error());
  result.plan = monitor::plan(wanted, *observed, names_of(result.packs),
                              {.prune = options.prune,
                               .force = options.force,
                               .rotate_secrets = options.rotate_secrets,
                               .destroy = destroy});
  result.plan.notes.insert(result.plan.notes.begin(), notes.begin(), notes.end());
  return result;
}

/// What must be put right before anything is written; tells all of it.
std::optional<ExitStatus> obstacles(const Planned& planned, bool force, Session& session) {
  std::optional<ExitStatus> worst;
  for (const auto& permission : planned.plan.missing_permissions) {
    session.err << "tunnelctl: the credentials lack the permission " << permission
                << "; give the service account the role Editor\n";
    worst = ExitStatus::denied;
  }
  for (const auto& secret : planned.plan.missing_secrets) {
    session.err << "tunnelctl: a secret is missing: " << secret
                << " (or leave the integration out: --notifications available, none)\n";
    worst = worst.value_or(ExitStatus::config);
  }
  if (planned.plan.conflicts() == 0) return worst;
  for (const auto& change : planned.plan.changes)
    if (!change.conflict.empty())
      session.err << "tunnelctl: " << (force ? "overwriting although in conflict: " : "conflict: ")
                  << name(change.wanted.key.kind) << " " << change.wanted.key.id << ": "
                  << terminal::harmless(change.conflict) << '\n';
  if (force) return worst;
  session.err
      << "tunnelctl: objects of others are not touched; rename yours, or take them over with --force\n";
  return worst.value_or(ExitStatus::conflict);
}

void show(const monitor::Plan& plan, bool full, Session& session) {
  for (const auto& note : plan.notes) session.say("note: " + terminal::harmless(note));
  if (session.json())
    session.out << monitor::to_json(plan).dump(2) << '\n';
  else
    session.out << monitor::text(plan, {.full = full, .coloured = session.coloured()});
}

Result<ExitStatus> run_plan(const Plan& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto planned = make_plan(options, false, session, *server, std::move(loaded.packs));
  if (!planned) return tl::unexpected(planned.error());
  if (planned->failed) return *planned->failed;
  show(planned->plan, options.full, session);
  if (planned->plan.empty()) return ExitStatus::ok;
  if (const auto worst = obstacles(*planned, options.force, session)) return *worst;
  return ExitStatus::changes;
}

void tell_failure(const monitor::Failure& failure, Session& session) {
  session.err << "tunnelctl: " << failure.cause.message << '\n';
  if (!failure.restored.empty())
    session.err << "tunnelctl: put back as before: " << failure.restored.size()
                << (failure.restored.size() == 1 ? " object" : " objects") << '\n';
  for (const auto& one : failure.restored) session.say("  " + terminal::harmless(one));
  if (failure.left.empty()) {
    session.err << "tunnelctl: the server is as it was before this run\n";
    return;
  }
  session.err << "tunnelctl: NOT put back:\n";
  for (const auto& one : failure.left) session.err << "  " << terminal::harmless(one) << '\n';
}

Result<ExitStatus> carry_out(const Setup& options, const Planned& planned, const char* message,
                             Session& session, grafana::Server& server) {
  std::size_t done = 0;
  monitor::ApplyOptions apply{.editable = options.editable, .message = message};
  if (session.globals.parallel > 0) apply.parallel = session.globals.parallel;
  apply.done = [&](const monitor::Change&) {
    session.progress(std::to_string(++done) + "/" + std::to_string(planned.plan.changes.size()) + " written");
  };
  const auto applied = monitor::apply(server, planned.plan, apply, session.stop);
  session.progress("");
  if (applied) return ExitStatus::ok;
  tell_failure(applied.error(), session);
  const bool locked = applied.error().cause.message.find("changed by someone else") != std::string::npos;
  return locked ? ExitStatus::conflict : exit_status(applied.error().cause.kind);
}

void print_links(const Planned& planned, const std::string& base, Session& session) {
  for (const auto& pack : planned.packs)
    for (const auto& dashboard : pack.dashboards)
      session.out << "  " << dashboard.title << ": " << base << "/d/" << dashboard.uid << '\n';
}

Result<ExitStatus> run_setup(const Setup& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto packs = loaded.packs;
  auto planned = make_plan(options, false, session, *server, std::move(loaded.packs));
  if (!planned) return tl::unexpected(planned.error());
  if (planned->failed) return *planned->failed;
  if (!session.json() || planned->plan.empty()) show(planned->plan, options.full, session);
  if (const auto worst = obstacles(*planned, options.force, session)) return *worst;
  if (!planned->plan.empty()) {
    const auto done = carry_out(options, *planned, "tunnelctl monitor setup", session, *server);
    if (!done || *done != ExitStatus::ok) return done;
    // What the server made of it must be what was wanted; anything else would come up again at the next run.
    Plan again = options;
    again.rotate_secrets = false;
    auto after = make_plan(again, false, session, *server, packs);
    if (!after) return tl::unexpected(after.error());
    if (!after->plan.empty()) {
      session.err << "tunnelctl: the server did not keep everything as it was sent:\n"
                  << monitor::text(after->plan, {});
      return ExitStatus::failure;
    }
    session.say("Applied.");
    if (session.json()) show(planned->plan, options.full, session);
  }
  if (!session.json()) print_links(*planned, server->public_url(), session);
  return ExitStatus::ok;
}

Result<ExitStatus> run_destroy(const Setup& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto planned = make_plan(options, true, session, *server, std::move(loaded.packs));
  if (!planned) return tl::unexpected(planned.error());
  show(planned->plan, options.full, session);
  if (planned->plan.empty()) return ExitStatus::ok;
  if (const auto worst = obstacles(*planned, options.force, session)) return *worst;
  if (!options.yes) {
    session.err << "tunnelctl: nothing was deleted; run it with --yes to delete the objects above\n";
    return ExitStatus::usage;
  }
  return carry_out(options, *planned, "tunnelctl monitor destroy", session, *server);
}

void add_pack_options(CLI::App& command, PackOptions& options) {
  command.add_option("PACK", options.packs, "names of shipped packs, or folders with pack.yaml")
      ->capture_default_str();
  command
      .add_option("--datasource", options.datasources,
                  "VARIABLE=UID: which data source a pack's variable stands for")
      ->type_name("VARIABLE=UID");
  command
      .add_option("--runbook-url", options.runbook_url,
                  "where the runbooks are served; default: a dashboard of their own")
      ->type_name("URL");
  command.add_option("--target", options.target, "where alert rules live")
      ->check(CLI::IsMember({"grafana", "prometheus", "all"}))
      ->capture_default_str();
  command
      .add_option("--notifications", options.notifications,
                  "contact points and routes: all, those whose secrets are available, none")
      ->check(CLI::IsMember({"all", "available", "none"}))
      ->capture_default_str();
  command.add_flag("--record-in-grafana", options.record_in_grafana, "make recording rules Grafana's, too");
}

void add_plan_options(CLI::App& command, Plan& options) {
  add_pack_options(command, options);
  command.add_flag("--full", options.full, "show every difference");
  command.add_flag("!--no-prune", options.prune, "keep objects that the packs no longer want");
  command.add_flag("--force", options.force, "take over what belongs to others");
  command.add_flag("--rotate-secrets", options.rotate_secrets,
                   "send the secrets of contact points again; Grafana does not show whether they differ");
}

template <class Options>
void add(CLI::App& group, Chosen& chosen, const char* name, const char* help, const char* examples,
         void (*bind)(CLI::App&, Options&), Result<ExitStatus> (*run)(const Options&, Session&)) {
  auto options = std::make_shared<Options>();
  auto* command = group.add_subcommand(name, help);
  command->footer(std::string("Examples:\n") + examples);
  bind(*command, *options);
  command->callback([options, run, &chosen] {
    chosen.run = [options, run](Session& session) { return run(*options, session); };
  });
}

}  // namespace

void add_monitor(CLI::App& app, Chosen& chosen) {
  auto* group = app.add_subcommand("monitor", "Dashboards, alerts and runbooks from packs");
  group->require_subcommand(1);
  add<Plan>(*group, chosen, "plan", "Shows what setup would change; only reads",
            "  tunnelctl monitor plan\n  tunnelctl monitor plan tunnel ./my-pack --output json",
            add_plan_options, run_plan);
  add<Setup>(
      *group, chosen, "setup", "Makes a Grafana hold what the packs say, and nothing else of theirs",
      "  GRAFANA_URL=https://grafana.example.org tunnelctl monitor setup\n"
      "  tunnelctl monitor setup --context prod --notifications available",
      +[](CLI::App& command, Setup& options) {
        add_plan_options(command, options);
        command.add_flag("--editable", options.editable, "let people change it in Grafana's pages, too");
        command.add_flag("--skip-verify", options.skip_verify, "do not run the queries afterwards");
        command.add_option("--wait", options.wait, "how long queries may take to have data")
            ->capture_default_str();
      },
      run_setup);
  add<Setup>(
      *group, chosen, "destroy", "Deletes what setup made, and only that",
      "  tunnelctl monitor destroy tunnel          # shows it\n  tunnelctl monitor destroy tunnel --yes",
      +[](CLI::App& command, Setup& options) {
        command.add_option("PACK", options.packs, "names of shipped packs, or folders with pack.yaml")
            ->required();
        command.add_flag("--yes", options.yes, "really delete");
        command.add_flag("--full", options.full, "show every difference");
      },
      run_destroy);
}

}  // namespace tunnelctl
