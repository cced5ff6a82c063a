#include <algorithm>
#include <ostream>

#include "tunnelctl/commands/alert_verbs.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/alert_rules.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct AlertList {
  grafana::RuleFilter filter;
  std::size_t limit = 100;
};

struct AlertGet {
  std::string uid;
  std::filesystem::path file;
};

struct AlertCreate {
  std::string file, folder, group;
  bool locked = false;
};

struct AlertUpdate {
  std::string uid, file;
};

struct AlertDelete {
  std::string uid;
  bool yes = false;
};

struct AlertState {
  grafana::RuleFilter filter;
};

Json described(const grafana::RuleState& rule) {
  Json json{{"uid", rule.uid},
            {"title", rule.title},
            {"folder", {{"uid", rule.folder_uid}, {"title", rule.folder}}},
            {"group", rule.group},
            {"state", rule.state},
            {"health", rule.health},
            {"paused", rule.paused},
            {"labels", rule.labels},
            {"last_evaluation", rule.last_evaluation}};
  json["type"] = rule.recording ? "recording" : "alerting";
  if (!rule.last_error.empty()) json["last_error"] = rule.last_error;
  if (!rule.since.empty()) json["since"] = rule.since;
  return json;
}

/// What the person should look at first.
terminal::Colour colour(const grafana::RuleState& rule) {
  if (rule.state == "firing" || rule.health == "error") return terminal::Colour::red;
  if (rule.state == "pending" || rule.health == "nodata") return terminal::Colour::yellow;
  return terminal::Colour::none;
}

/// The state alone hides rules that have no data or an error: those are "inactive".
std::string shown_state(const grafana::RuleState& rule) {
  if (rule.paused) return "paused";
  if (rule.recording) return "recording";
  return rule.state;
}

Result<ExitStatus> run(const AlertList& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto rules = grafana::rule_states(*server, options.filter);
  if (!rules) return tl::unexpected(rules.error());
  if (rules->empty())
    if (auto there = folder_exists(*server, options.filter.folder_uid); !there)
      return tl::unexpected(there.error());
  const bool more = options.limit > 0 && rules->size() > options.limit;
  const auto total = rules->size();
  if (more) rules->resize(options.limit);
  if (session.json()) {
    Json list = Json::array();
    for (const auto& rule : *rules) list.push_back(described(rule));
    session.out << pretty({{"rules", std::move(list)}, {"more", more}, {"total", total}});
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& rule : *rules)
      rows.push_back({rule.uid, terminal::harmless(rule.title),
                      terminal::harmless(rule.folder.empty() ? rule.folder_uid : rule.folder),
                      terminal::harmless(rule.group), shown_state(rule), rule.health});
    if (!rows.empty())
      terminal::print_table(session.out, {"UID", "TITLE", "FOLDER", "GROUP", "STATE", "HEALTH"}, rows);
  }
  say_shown(session, rules->size(), more, "rule");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AlertGet& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto rule = grafana::read_rule(*server, options.uid);
  if (!rule) return tl::unexpected(rule.error());
  if (options.file.empty()) {
    session.out << pretty(*rule);
    return ExitStatus::ok;
  }
  if (auto done = write_file(options.file, pretty(*rule)); !done) return tl::unexpected(done.error());
  if (session.json()) session.out << pretty({{"uid", options.uid}, {"file", options.file.string()}});
  session.say("alert rule " + options.uid + ": written to " + options.file.string());
  return ExitStatus::ok;
}

/// All problems at once, before anything is sent.
std::optional<ExitStatus> obstacles(const std::string& file, const std::vector<std::string>& problems,
                                    Session& session) {
  for (const auto& problem : problems)
    session.err << "tunnelctl: " << terminal::harmless(file + ": " + problem) << '\n';
  if (problems.empty()) return std::nullopt;
  return ExitStatus::bad_input;
}

Result<ExitStatus> report(const Result<grafana::RuleWritten>& written, const char* what,
                          const std::string& conflict, Session& session) {
  if (!written) return tl::unexpected(written.error());
  if (written->conflict) return refuse(session, ExitStatus::conflict, conflict + ": " + *written->conflict);
  const auto uid = grafana::text_of(written->rule, "uid");
  if (session.json())
    session.out << pretty(written->rule);
  else
    session.out << uid << '\n';
  session.say("alert rule " + uid + " \"" + terminal::harmless(grafana::text_of(written->rule, "title")) +
              "\" " + what);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AlertCreate& options, Session& session) {
  auto rule = read_json(options.file, session);
  if (!rule) return tl::unexpected(rule.error());
  if (rule->is_object()) {
    if (!options.folder.empty()) (*rule)["folderUID"] = options.folder;
    if (!options.group.empty()) (*rule)["ruleGroup"] = options.group;
  }
  if (auto status = obstacles(name_of_input(options.file), grafana::check_rule(*rule), session))
    return *status;
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  return report(grafana::create_rule(*server, *rule, options.locked), "made",
                "alert rule " + grafana::text_of(*rule, "uid") +
                    " exists already; change it with: tunnelctl alert update",
                session);
}

Result<ExitStatus> run(const AlertUpdate& options, Session& session) {
  const auto change = read_json(options.file, session);
  if (!change) return tl::unexpected(change.error());
  if (auto status = obstacles(name_of_input(options.file), grafana::check_rule_change(*change), session))
    return *status;
  if (const auto uid = grafana::text_of(*change, "uid"); !uid.empty() && uid != options.uid)
    return fail(Error::Kind::bad_input,
                options.file + ": uid: is \"" + uid + "\", but the rule to update is " + options.uid);
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto present = grafana::read_rule(*server, options.uid);
  if (!present) return tl::unexpected(present.error());
  const auto wanted = grafana::merged(*present, *change);
  if (auto status = obstacles(name_of_input(options.file) + ", laid over the rule",
                              grafana::check_rule(wanted), session))
    return *status;
  if (wanted == *present) {
    if (session.json()) session.out << pretty(*present);
    session.say("alert rule " + options.uid + " is so already; nothing was saved");
    return ExitStatus::ok;
  }
  return report(grafana::replace_rule(*server, *present, wanted), "updated",
                "alert rule " + options.uid + " was not saved", session);
}

Result<ExitStatus> run(const AlertDelete& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  // Deleting what is not there is a success for the server.
  const auto rule = grafana::read_rule(*server, options.uid);
  if (!rule) return tl::unexpected(rule.error());
  if (grafana::text_of(*rule, "provenance") == "file")
    return refuse(session, ExitStatus::conflict,
                  "alert rule " + options.uid + " is provisioned from a file on the server; remove it there");
  const auto title = grafana::text_of(*rule, "title");
  if (auto status =
          unless_confirmed(session, options.yes, "delete alert rule " + options.uid + " \"" + title + "\""))
    return *status;
  if (auto done = grafana::delete_rule(*server, options.uid); !done) return tl::unexpected(done.error());
  if (session.json()) session.out << pretty({{"uid", options.uid}, {"title", title}, {"deleted", true}});
  session.say("alert rule " + options.uid + " \"" + terminal::harmless(title) + "\" deleted");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const AlertState& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto filter = options.filter;
  filter.with_alerts = true;
  const auto rules = grafana::rule_states(*server, filter);
  if (!rules) return tl::unexpected(rules.error());
  if (rules->empty())
    if (auto there = folder_exists(*server, options.filter.folder_uid); !there)
      return tl::unexpected(there.error());
  if (rules->empty() && !filter.uid.empty())
    return fail(Error::Kind::not_found,
                "no alert rule has the uid \"" + filter.uid + "\"; see: tunnelctl alert list");
  if (session.json()) {
    Json list = Json::array();
    for (const auto& rule : *rules) {
      list.push_back(described(rule));
      list.back()["alerts"] = rule.alerts;
    }
    session.out << pretty({{"rules", std::move(list)}});
    return ExitStatus::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& rule : *rules) {
    const auto state = shown_state(rule);
    rows.push_back({rule.uid, terminal::harmless(rule.title), state, rule.health,
                    std::to_string(rule.alerts.size()),
                    rule.last_evaluation.empty() ? "never" : rule.last_evaluation,
                    terminal::paint(terminal::harmless(rule.last_error), colour(rule), session.coloured())});
  }
  if (!rows.empty())
    terminal::print_table(session.out,
                          {"UID", "TITLE", "STATE", "HEALTH", "ALERTS", "EVALUATED", "LAST ERROR"}, rows);
  if (!filter.uid.empty()) {
    std::vector<std::vector<std::string>> instances;
    for (const auto& alert : rules->front().alerts) {
      std::string labels;
      for (const auto& [name, value] : grafana::member(alert, "labels").items())
        labels += (labels.empty() ? "" : ", ") + name + "=" +
                  (value.is_string() ? value.get<std::string>() : value.dump());
      instances.push_back({grafana::text_of(alert, "state"), grafana::text_of(alert, "activeAt"),
                           terminal::harmless(grafana::text_of(alert, "value")), terminal::harmless(labels)});
    }
    if (!instances.empty()) {
      session.out << '\n';
      terminal::print_table(session.out, {"ALERT", "SINCE", "VALUE", "LABELS"}, instances);
    }
  }
  const auto count = [&](const auto& is) {
    return std::to_string(std::count_if(rules->begin(), rules->end(), is));
  };
  session.say(count([](const auto& r) { return r.state == "firing"; }) + " firing, " +
              count([](const auto& r) { return r.state == "pending"; }) + " pending, " +
              count([](const auto& r) { return r.health == "error"; }) + " with errors, " +
              count([](const auto& r) { return r.health == "nodata"; }) + " without data, of " +
              std::to_string(rules->size()));
  return ExitStatus::ok;
}

void add_uid(CLI::App& verb, std::string& uid) {
  verb.add_option("uid", uid, "the rule's uid")->required()->type_name("UID");
}

void add_filter(CLI::App& verb, grafana::RuleFilter& filter) {
  verb.add_option("--folder", filter.folder_uid, "only those in this folder")->type_name("UID");
  verb.add_option("--group", filter.group, "only those of this group")->type_name("NAME");
  verb.add_option("--state", filter.state, "only those in this state")
      ->check(CLI::IsMember({"firing", "pending", "inactive", "recovering"}))
      ->type_name("STATE");
  verb.add_option("--health", filter.health, "only those: ok, nodata or error")
      ->check(CLI::IsMember({"ok", "nodata", "error"}))
      ->type_name("HEALTH");
  verb.add_option("--label", filter.labels, "only those with this label; several: with all of them")
      ->allow_extra_args(false)
      ->check(CLI::Validator(
          [](std::string& text) { return text.find('=') == std::string::npos ? "must read NAME=VALUE" : ""; },
          "", "label"))
      ->type_name("NAME=VALUE");
}

}  // namespace

void add_alert(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("alert", "Alert rules that Grafana evaluates, and silences");
  group.require_subcommand(1);
  {
    auto options = std::make_shared<AlertList>();
    auto& verb = add_verb(group, chosen, "list", "Lists alert rules",
                          "  tunnelctl alert list --folder tunnel-monitoring\n"
                          "  tunnelctl alert list --health error --label severity=critical --output json",
                          options);
    add_filter(verb, options->filter);
    add_limit(verb, options->limit);
  }
  {
    auto options = std::make_shared<AlertGet>();
    auto& verb = add_verb(group, chosen, "get", "Prints an alert rule's JSON",
                          "  tunnelctl alert get tunnel-high-error-rate\n"
                          "  tunnelctl alert get tunnel-high-error-rate --file rule.json",
                          options);
    add_uid(verb, options->uid);
    verb.add_option("--file", options->file, "write it there, and nothing to standard output")
        ->type_name("FILE");
  }
  {
    auto options = std::make_shared<AlertCreate>();
    auto& verb = add_verb(
        group, chosen, "create", "Makes an alert rule from its JSON, after checking that it can work",
        "  tunnelctl alert create rule.json --folder tunnel-monitoring --group tunnel\n"
        "  tunnelctl alert get a --output json | jq '.uid = \"b\"' | tunnelctl alert create -",
        options);
    verb.add_option("file", options->file, "its JSON, as the API has it; - reads standard input")
        ->required()
        ->type_name("FILE");
    verb.add_option("--folder", options->folder, "instead of folderUID in the file")->type_name("UID");
    verb.add_option("--group", options->group, "instead of ruleGroup in the file")->type_name("NAME");
    verb.add_flag("--lock", options->locked, "only the API may change it from then on, not the web page");
  }
  {
    auto options = std::make_shared<AlertUpdate>();
    auto& verb =
        add_verb(group, chosen, "update", "Changes what the file names of an alert rule, and keeps the rest",
                 "  echo '{\"for\": \"10m\"}' | tunnelctl alert update tunnel-high-error-rate -\n"
                 "  tunnelctl alert update tunnel-high-error-rate rule.json",
                 options);
    add_uid(verb, options->uid);
    verb.add_option("file", options->file,
                    "members to set; null removes one, lists are replaced; - reads standard input")
        ->required()
        ->type_name("FILE");
  }
  {
    auto options = std::make_shared<AlertDelete>();
    auto& verb =
        add_verb(group, chosen, "delete", "Deletes an alert rule",
                 "  tunnelctl alert delete old-rule --yes\n"
                 "  tunnelctl alert get old-rule --file old.json && tunnelctl alert delete old-rule --yes",
                 options);
    add_uid(verb, options->uid);
    verb.add_flag("-y,--yes", options->yes, "do not ask");
  }
  {
    auto options = std::make_shared<AlertState>();
    auto& verb =
        add_verb(group, chosen, "state", "Shows what rules do now: state, health, the last error",
                 "  tunnelctl alert state --folder tunnel-monitoring\n"
                 "  tunnelctl alert state tunnel-high-error-rate --output json | jq '.rules[0].alerts'",
                 options);
    verb.add_option("uid", options->filter.uid, "this rule, with its alerts; none: all that fit")
        ->type_name("UID");
    add_filter(verb, options->filter);
  }
  add_alert_history(group, chosen);
  add_alert_silence(group, chosen);
  add_alert_ack(group, chosen);
}

}  // namespace tunnelctl
