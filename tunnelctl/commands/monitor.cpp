#include <chrono>
#include <memory>
#include <ostream>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/monitor.h"
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
};
struct Destroy : Setup {
  bool yes = false;
};

constexpr const char* kReadOnly = "this context is read-only (read_only: true); nothing was changed";

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
  result.plan =
      monitor::plan(std::move(wanted), std::move(*observed), names_of(result.packs),
                    {.prune = options.prune, .rotate_secrets = options.rotate_secrets, .destroy = destroy});
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

Result<ExitStatus> run(const Plan& options, Session& session) {
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

/// Every query once: what does not work is told now, not by a person looking at an empty panel.
ExitStatus verify_shortly(const Planned& planned, Session& session, grafana::Server& server) {
  bool broken = false;
  for (std::size_t i = 0; i < planned.packs.size(); ++i) {
    monitor::VerifyOptions options{.links = false, .compile = planned.compiled_with[i]};
    if (session.globals.parallel > 0) options.parallel = session.globals.parallel;
    options.progress = [&session](std::size_t done, std::size_t all) {
      session.progress(std::to_string(done) + "/" + std::to_string(all) + " queries");
    };
    const auto verified = monitor::verify(server, std::span(&planned.packs[i], 1), options, session.stop);
    session.progress("");
    std::string counts;
    for (const auto& [status, count] : verified.counts)
      counts +=
          (counts.empty() ? "" : ", ") + std::to_string(count) + " " + std::string(monitor::name(status));
    session.say("Verified " + planned.packs[i].name + ": " + counts + ".");
    constexpr std::size_t kShown = 10;
    std::size_t seen = 0;
    for (const auto& check : verified.checks) {
      if (monitor::is_good(check.status) || check.status == monitor::Status::pending) continue;
      broken = broken || check.status == monitor::Status::error || check.status == monitor::Status::missing;
      if (++seen > kShown) continue;
      session.say("  " + std::string(monitor::name(check.status)) + ": " + check.id +
                  (check.message.empty() ? "" : ": " + terminal::harmless(check.message)));
    }
    if (seen > kShown)
      session.say("  and " + std::to_string(seen - kShown) + " more: tunnelctl monitor verify");
  }
  if (broken)
    session.err << "tunnelctl: it is set up, but not everything works; see tunnelctl monitor verify\n";
  return broken ? ExitStatus::failure : ExitStatus::ok;
}

void print_links(const Planned& planned, const std::string& base, Session& session) {
  for (const auto& pack : planned.packs)
    for (const auto& dashboard : pack.dashboards)
      session.out << "  " << dashboard.title << ": " << base << "/d/" << dashboard.uid << '\n';
}

Result<ExitStatus> run(const Setup& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  if (server->read_only()) return refuse(session, ExitStatus::denied, kReadOnly);
  auto planned = make_plan(options, false, session, *server, std::move(loaded.packs));
  if (!planned) return tl::unexpected(planned.error());
  if (planned->failed) return *planned->failed;
  if (!session.json() || planned->plan.empty()) show(planned->plan, options.full, session);
  if (const auto worst = obstacles(*planned, options.force, session)) return *worst;
  if (!planned->plan.empty()) {
    const std::string shown = session.json() ? pretty(monitor::to_json(planned->plan)) : std::string();
    const auto done = carry_out(options, *planned, "tunnelctl monitor setup", session, *server);
    if (!done || *done != ExitStatus::ok) return done;
    // What the server made of it must be what was wanted; anything else would come up again at the next run.
    Plan again = options;
    again.rotate_secrets = false;
    planned->plan.changes.clear();
    auto after = make_plan(again, false, session, *server, std::move(planned->packs));
    if (!after) return tl::unexpected(after.error());
    if (!after->plan.empty()) {
      session.err << "tunnelctl: the server did not keep everything as it was sent:\n"
                  << monitor::text(after->plan, {});
      return ExitStatus::failure;
    }
    session.say("Applied.");
    session.out << shown;
    planned = std::move(after);
  }
  if (!session.json()) print_links(*planned, server->public_url(), session);
  return options.skip_verify ? ExitStatus::ok : verify_shortly(*planned, session, *server);
}

Result<ExitStatus> run(const Destroy& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  if (server->read_only() && options.yes) return refuse(session, ExitStatus::denied, kReadOnly);
  auto planned = make_plan(options, true, session, *server, std::move(loaded.packs));
  if (!planned) return tl::unexpected(planned.error());
  if (planned->plan.empty() && !session.json()) {
    for (const auto& note : planned->plan.notes) session.say("note: " + terminal::harmless(note));
    session.out << "Nothing of these packs is there.\n";
    return ExitStatus::ok;
  }
  show(planned->plan, options.full, session);
  if (planned->plan.empty()) return ExitStatus::ok;
  if (const auto worst = obstacles(*planned, options.force, session)) return *worst;
  if (!options.yes) {
    session.err << "tunnelctl: nothing was deleted; run it with --yes to delete the objects above\n";
    return ExitStatus::usage;
  }
  return carry_out(options, *planned, "tunnelctl monitor destroy", session, *server);
}

void add_plan_options(CLI::App& command, Plan& options) {
  add_pack_options(command, options);
  command.add_flag("--full", options.full, "show every difference");
  command.add_flag("!--no-prune", options.prune, "keep objects that the packs no longer want");
  command.add_flag("--force", options.force, "take over what belongs to others");
  command.add_flag("--rotate-secrets", options.rotate_secrets,
                   "send the secrets of contact points again; Grafana does not show whether they differ");
}

}  // namespace

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

void add_monitor(CLI::App& app, Chosen& chosen) {
  auto* group = app.add_subcommand("monitor", "Dashboards, alerts and runbooks from packs");
  group->require_subcommand(1);
  auto plan = std::make_shared<Plan>();
  auto& look =
      add_verb(*group, chosen, "plan", "Shows what setup would change; only reads",
               "  tunnelctl monitor plan\n  tunnelctl monitor plan tunnel ./my-pack --output json", plan);
  add_plan_options(look, *plan);

  auto setup = std::make_shared<Setup>();
  auto& make =
      add_verb(*group, chosen, "setup", "Makes a Grafana hold what the packs say, and nothing else of theirs",
               "  GRAFANA_URL=https://grafana.example.org tunnelctl monitor setup\n"
               "  tunnelctl monitor setup --context prod --notifications available",
               setup);
  add_plan_options(make, *setup);
  make.add_flag("--editable", setup->editable, "let people change it in Grafana's pages, too");
  make.add_flag("--skip-verify", setup->skip_verify, "do not run the queries afterwards");

  add_monitor_checks(*group, chosen);

  auto destroy = std::make_shared<Destroy>();
  auto& take = add_verb(*group, chosen, "destroy", "Deletes what setup made, and only that",
                        "  tunnelctl monitor destroy tunnel          # shows it\n"
                        "  tunnelctl monitor destroy tunnel --yes",
                        destroy);
  take.add_option("PACK", destroy->packs, "names of shipped packs, or folders with pack.yaml")->required();
  take.add_flag("--yes", destroy->yes, "really delete");
  take.add_flag("--full", destroy->full, "show every difference");

  add_monitor_files(*group, chosen);
}

}  // namespace tunnelctl
