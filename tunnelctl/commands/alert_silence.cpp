#include <algorithm>
#include <ostream>

#include "tunnelctl/commands/alert_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/alert_rules.h"
#include "tunnelctl/grafana/silences.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl {
namespace {

using grafana::Alertmanager;
using grafana::Silence;

/// Which Alertmanager: Grafana's, unless one is named.
struct Where {
  std::string url{};
  std::filesystem::path token_file{};
};

struct SilenceCreate : Where {
  std::vector<std::string> matchers;
  std::string rule, start, until, comment = "silenced with tunnelctl", by;
  std::string length = "2h";
};

struct SilenceList : Where {
  std::string state, rule;
  std::vector<std::string> matchers;
  std::size_t limit = 0;
};

struct SilenceShow : Where {
  std::string id;
};

struct SilenceExtend : Where {
  std::string id, length, until;
};

struct SilenceExpire : Where {
  std::vector<std::string> ids;
};

/// Credentials come from where the address comes from, so that a token never goes to another server.
Result<grafana::Connection> straight_to(const Where& where, const std::optional<Context>& context,
                                        Session& session) {
  grafana::Connection connection;
  const auto* url = session.variable("ALERTMANAGER_URL");
  connection.url = where.url.empty() ? *url : where.url;
  connection.token_file = where.token_file;
  if (const auto* file = session.variable("ALERTMANAGER_TOKEN_FILE");
      file != nullptr && where.token_file.empty() && session.globals.context.empty())
    connection.token_file = *file;
  if (context) {
    connection.read_only = context->read_only;
    connection.allow_plain = context->allow_plain_http;
  }
  session.use_flags(connection.tls, connection.timeout, connection.allow_plain);
  return connection;
}

/// An address on the command line says what is meant; else Grafana is asked, if one is named. `grafana` keeps
/// hers.
Result<Alertmanager> open(const Where& where, Session& session, std::optional<grafana::Server>& grafana) {
  const auto context = session.context();
  if (!context) return tl::unexpected(context.error());
  const bool by_variable = session.globals.context.empty() &&
                           session.variable("ALERTMANAGER_URL") != nullptr && !session.names_grafana();
  if (!where.url.empty() || by_variable) {
    auto connection = straight_to(where, *context, session);
    if (!connection) return tl::unexpected(connection.error());
    auto made = Alertmanager::straight(std::move(*connection), session.stop);
    if (!made) session.configuration_is_wrong = true;
    return made;
  }
  auto server = session.grafana();
  if (!server)
    return fail(server.error().kind, server.error().message +
                                         "; or ask an Alertmanager directly (--alertmanager-url, "
                                         "ALERTMANAGER_URL)");
  grafana.emplace(std::move(*server));
  return Alertmanager::of(*grafana);
}

Result<std::vector<grafana::Matcher>> matchers_of(const std::vector<std::string>& texts,
                                                  const std::string& rule) {
  std::vector<grafana::Matcher> result;
  for (const auto& text : texts) {
    auto read = grafana::matcher(text);
    if (!read) return tl::unexpected(Error{read.error().kind, "--matcher: " + read.error().message});
    result.push_back(std::move(*read));
  }
  if (!rule.empty()) result.push_back({.name = grafana::kRuleLabel, .value = rule});
  return result;
}

std::string shown(const std::vector<grafana::Matcher>& matchers) {
  std::string result;
  for (const auto& one : matchers) result += (result.empty() ? "" : ", ") + grafana::text(one);
  return terminal::harmless(result);
}

Json described(const Silence& silence) {
  Json matchers = Json::array();
  for (const auto& one : silence.matchers)
    matchers.push_back({{"name", one.name},
                        {"value", one.value},
                        {"is_equal", one.is_equal},
                        {"is_regex", one.is_regex},
                        {"text", grafana::text(one)}});
  Json json{{"id", silence.id},
            {"state", silence.state},
            {"matchers", std::move(matchers)},
            {"starts_at", times::text(silence.starts)},
            {"ends_at", times::text(silence.ends)},
            {"created_by", silence.created_by},
            {"comment", silence.comment}};
  if (silence.updated != times::Time{}) json["updated_at"] = times::text(silence.updated);
  if (const auto rule = silence.rule_uid(); !rule.empty()) json["rule_uid"] = rule;
  return json;
}

std::string labels_text(const Json& labels) {
  std::string result;
  for (const auto& [name, value] : labels.items())
    if (!name.starts_with("__"))
      result += (result.empty() ? "" : ", ") + name + "=" +
                (value.is_string() ? value.get<std::string>() : value.dump());
  return terminal::harmless(result);
}

Json described(const grafana::Alert& alert) {
  return {{"labels", alert.labels}, {"state", alert.state}, {"starts_at", times::text(alert.starts)}};
}

/// "1 alert", "3 alerts".
std::string counted(std::size_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

double seconds_between(times::Time from, times::Time to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Of --for and --until: what the end is, counted from `from`.
Result<times::Time> end_of(const std::string& length, const std::string& until, times::Time from,
                           times::Time at) {
  if (until.empty()) {
    const auto read = times::duration(length);
    if (!read) return tl::unexpected(Error{read.error().kind, "--for: " + read.error().message});
    return from + *read;
  }
  const auto read = times::moment(until, at, times::Edge::end);
  if (!read) return tl::unexpected(Error{read.error().kind, "--until: " + read.error().message});
  if (*read <= at)
    return fail(Error::Kind::bad_input, "--until: " + to_the_second(*read) + " is past (now is " +
                                            to_the_second(at) +
                                            "); for a length of time say --for, e.g. --for " + until);
  if (*read <= from)
    return fail(Error::Kind::bad_input,
                "--until: " + to_the_second(*read) + " is not after the start, " + to_the_second(from));
  return *read;
}

/// Silences for rules that do not exist are taken without a word and silence nothing.
Result<void> rule_exists(grafana::Server& server, const std::string& uid, Session& session) {
  const auto rule = grafana::read_rule(server, uid);
  if (rule) return {};
  if (rule.error().kind != Error::Kind::denied) return tl::unexpected(rule.error());
  session.warn("these credentials may not read alert rules, so nobody knows whether rule " + uid + " exists");
  return {};
}

Result<ExitStatus> run(const SilenceCreate& options, Session& session) {
  const auto at = now();
  Silence silence{.created_by = options.by, .comment = options.comment};
  auto matchers = matchers_of(options.matchers, options.rule);
  if (!matchers) return tl::unexpected(matchers.error());
  if (matchers->empty())
    return fail(Error::Kind::bad_input,
                "nothing says which alerts to silence: name labels with --matcher (e.g. --matcher "
                "severity=critical), or a rule with --rule");
  if (options.comment.empty())
    return fail(Error::Kind::bad_input, "--comment: is empty, but a silence must say why it is there");
  silence.matchers = std::move(*matchers);
  silence.starts = at;
  if (!options.start.empty()) {
    const auto start = times::moment(options.start, at);
    if (!start) return tl::unexpected(Error{start.error().kind, "--start: " + start.error().message});
    if (*start < at)
      return fail(Error::Kind::bad_input, "--start: " + to_the_second(*start) + " is past (now is " +
                                              to_the_second(at) + "); leave it out to begin now");
    silence.starts = *start;
  }
  const auto end = end_of(options.length, options.until, silence.starts, at);
  if (!end) return tl::unexpected(end.error());
  silence.ends = *end;
  if (silence.created_by.empty()) {
    const auto* user = session.variable("USER");
    silence.created_by = user != nullptr ? *user : "tunnelctl";
  }
  std::optional<grafana::Server> grafana;
  const auto alertmanager = open(options, session, grafana);
  if (!alertmanager) return tl::unexpected(alertmanager.error());
  if (!options.rule.empty()) {
    if (!alertmanager->is_grafana())
      return fail(Error::Kind::bad_input,
                  "--rule: only Grafana knows its rules by uid; with --alertmanager-url say --matcher "
                  "alertname=NAME");
    if (auto there = rule_exists(*grafana, options.rule, session); !there)
      return tl::unexpected(there.error());
  }
  auto id = alertmanager->save(silence);
  if (!id) return tl::unexpected(id.error());
  silence.id = *id;
  silence.state = silence.starts > at ? "pending" : "active";
  // It is there, whatever becomes of the question what it does.
  const auto alerts = alertmanager->alerts(silence.matchers);
  if (session.json()) {
    auto json = described(silence);
    json["matching_alerts"] = alerts ? Json(alerts->size()) : Json(nullptr);
    session.out << pretty(json);
  } else {
    session.out << silence.id << '\n';
  }
  session.say("silence " + silence.id + ": " + shown(silence.matchers) + ", from " +
              to_the_second(silence.starts) + " to " + to_the_second(silence.ends) +
              (alerts ? "; fits " + (alerts->empty() ? "no alert at the moment"
                                                     : counted(alerts->size(), "alert") + " now")
                      : ""));
  return ExitStatus::ok;
}

/// What is on now first, by its end; then what will be, then what was, the latest first.
void sort(std::vector<Silence>& silences) {
  const auto place = [](const Silence& one) {
    return one.state == "active" ? 0 : one.state == "pending" ? 1 : 2;
  };
  std::sort(silences.begin(), silences.end(), [&](const Silence& a, const Silence& b) {
    if (place(a) != place(b)) return place(a) < place(b);
    if (a.ends != b.ends) return place(a) == 2 ? a.ends > b.ends : a.ends < b.ends;
    return a.id < b.id;
  });
}

Result<ExitStatus> run(const SilenceList& options, Session& session) {
  const auto filter = matchers_of(options.matchers, options.rule);
  if (!filter) return tl::unexpected(filter.error());
  std::optional<grafana::Server> grafana;
  const auto alertmanager = open(options, session, grafana);
  if (!alertmanager) return tl::unexpected(alertmanager.error());
  auto silences = alertmanager->silences();
  if (!silences) return tl::unexpected(silences.error());
  const auto fits = [&](const Silence& one) {
    const bool state = options.state == "all" ||
                       (options.state.empty() ? one.state != "expired" : one.state == options.state);
    return state && std::all_of(filter->begin(), filter->end(), [&](const auto& wanted) {
             return std::find(one.matchers.begin(), one.matchers.end(), wanted) != one.matchers.end();
           });
  };
  std::erase_if(*silences, [&](const auto& one) { return !fits(one); });
  sort(*silences);
  const bool more = options.limit > 0 && silences->size() > options.limit;
  if (more) silences->resize(options.limit);
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : *silences) list.push_back(described(one));
    session.out << pretty({{"silences", std::move(list)}, {"more", more}});
  } else {
    const auto at = now();
    std::vector<std::vector<std::string>> rows;
    for (const auto& one : *silences) {
      const auto left = seconds_between(at, one.ends);
      rows.push_back({one.id, one.state, to_the_second(one.ends), left > 0 ? terminal::duration(left) : "",
                      shown(one.matchers), terminal::harmless(one.created_by),
                      terminal::harmless(one.comment)});
    }
    if (!rows.empty())
      terminal::print_table(session.out, {"ID", "STATE", "ENDS", "IN", "MATCHERS", "BY", "COMMENT"}, rows);
  }
  say_shown(session, silences->size(), more, "silence");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const SilenceShow& options, Session& session) {
  std::optional<grafana::Server> grafana;
  const auto alertmanager = open(options, session, grafana);
  if (!alertmanager) return tl::unexpected(alertmanager.error());
  const auto silence = alertmanager->silence(options.id);
  if (!silence) return tl::unexpected(silence.error());
  Result<std::vector<grafana::Alert>> alerts;
  if (silence->state == "active") alerts = alertmanager->alerts(silence->matchers);
  if (!alerts)
    session.warn("which alerts it silences is not known: " + terminal::harmless(alerts.error().message));
  if (session.json()) {
    auto json = described(*silence);
    json["alerts"] = alerts ? Json::array() : Json(nullptr);
    if (alerts)
      for (const auto& one : *alerts) json["alerts"].push_back(described(one));
    session.out << pretty(json);
    return ExitStatus::ok;
  }
  const auto at = now();
  const auto left = seconds_between(at, silence->ends);
  session.out << "id        " << terminal::harmless(silence->id) << "\nstate     "
              << terminal::harmless(silence->state) << "\nmatchers  " << shown(silence->matchers)
              << "\nfrom      " << to_the_second(silence->starts) << "\nto        "
              << to_the_second(silence->ends)
              << (left > 0 ? " (in " + terminal::duration(left) + ")" : std::string()) << "\nby        "
              << terminal::harmless(silence->created_by) << "\ncomment   "
              << terminal::harmless(silence->comment) << '\n';
  if (!alerts) return ExitStatus::ok;
  for (const auto& one : *alerts) session.out << "silences  " << labels_text(one.labels) << '\n';
  if (silence->state == "active") session.say("silences " + counted(alerts->size(), "alert") + " now");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const SilenceExtend& options, Session& session) {
  if (options.length.empty() == options.until.empty())
    return fail(Error::Kind::bad_input, "say by how much (--for 1h), or to when (--until TIME)");
  std::optional<grafana::Server> grafana;
  const auto alertmanager = open(options, session, grafana);
  if (!alertmanager) return tl::unexpected(alertmanager.error());
  auto silence = alertmanager->silence(options.id);
  if (!silence) return tl::unexpected(silence.error());
  if (silence->state == "expired")
    return refuse(session, ExitStatus::conflict,
                  "silence " + options.id + " ended at " + to_the_second(silence->ends) +
                      "; make a new one: tunnelctl alert silence create");
  const auto from = options.until.empty() ? silence->ends : silence->starts;
  const auto end = end_of(options.length, options.until, from, now());
  if (!end) return tl::unexpected(end.error());
  silence->ends = *end;
  auto id = alertmanager->save(*silence);
  if (!id) return tl::unexpected(id.error());
  silence->id = *id;
  if (session.json())
    session.out << pretty(described(*silence));
  else
    session.out << silence->id << '\n';
  session.say("silence " + silence->id + " now ends at " + to_the_second(silence->ends));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const SilenceExpire& options, Session& session) {
  std::optional<grafana::Server> grafana;
  const auto alertmanager = open(options, session, grafana);
  if (!alertmanager) return tl::unexpected(alertmanager.error());
  // All must be known before one is ended.
  std::vector<Silence> silences;
  for (const auto& id : options.ids) {
    auto one = alertmanager->silence(id);
    if (!one) return tl::unexpected(one.error());
    silences.push_back(std::move(*one));
  }
  Json list = Json::array();
  for (const auto& one : silences) {
    const bool over = one.state == "expired";
    if (!over)
      if (auto done = alertmanager->expire(one.id); !done) return tl::unexpected(done.error());
    list.push_back({{"id", one.id}, {"expired", !over}});
    session.say("silence " + one.id +
                (over ? " had ended already, at " + to_the_second(one.ends)
                      : " ended; its alerts notify again: " + shown(one.matchers)));
  }
  if (session.json()) session.out << pretty({{"silences", std::move(list)}});
  return ExitStatus::ok;
}

void add_where(CLI::App& verb, Where& where) {
  verb.add_option("--alertmanager-url", where.url,
                  "an Alertmanager, asked directly instead of Grafana's own (ALERTMANAGER_URL)")
      ->type_name("URL");
  verb.add_option("--alertmanager-token-file", where.token_file,
                  "file with a token for it (ALERTMANAGER_TOKEN_FILE)")
      ->type_name("FILE");
}

CLI::Option* add_matchers(CLI::App& verb, std::vector<std::string>& matchers, const char* help) {
  return verb.add_option("--matcher", matchers, help)->allow_extra_args(false)->type_name("NAME=VALUE");
}

void add_create(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<SilenceCreate>();
  auto& verb =
      add_verb(group, chosen, "create", "Silences alerts for a while",
               "  tunnelctl alert silence create --matcher alertname=TunnelErrorRateHigh --for 1h --comment "
               "\"known\"\n"
               "  tunnelctl alert silence create --rule tunnel-high-error-rate --until 2026-01-31T10:00:00Z\n"
               "  tunnelctl alert silence create --matcher 'instance=~edge-.*' --alertmanager-url "
               "http://127.0.0.1:9093",
               options);
  add_matchers(verb, options->matchers,
               "which alerts: NAME=VALUE, NAME!=VALUE, NAME=~EXPRESSION, NAME!~EXPRESSION; several: all must "
               "fit");
  verb.add_option("--rule", options->rule, "the alerts of this rule of Grafana")->type_name("UID");
  auto* length = verb.add_option("--for", options->length, "how long")->type_name("DURATION");
  length->capture_default_str();
  verb.add_option("--until", options->until, "or until when")->type_name("TIME")->excludes(length);
  verb.add_option("--start", options->start, "from when; default: now")->type_name("TIME");
  verb.add_option("--comment", options->comment, "why")->type_name("TEXT")->capture_default_str();
  verb.add_option("--by", options->by, "who; default: $USER")->type_name("NAME");
  add_where(verb, *options);
}

void add_list(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<SilenceList>();
  auto& verb = add_verb(group, chosen, "list", "Lists silences",
                        "  tunnelctl alert silence list\n"
                        "  tunnelctl alert silence list --state expired --limit 10 --output json",
                        options);
  verb.add_option("--state", options->state, "only those in this state; default: active and pending")
      ->check(CLI::IsMember({"active", "pending", "expired", "all"}))
      ->type_name("STATE");
  add_matchers(verb, options->matchers, "only those with this matcher; several: with all of them");
  verb.add_option("--rule", options->rule, "only those of this rule of Grafana")->type_name("UID");
  add_limit(verb, options->limit);
  add_where(verb, *options);
}

}  // namespace

void add_alert_silence(CLI::App& alert, Chosen& chosen) {
  CLI::App& group = *alert.add_subcommand("silence", "Silences: alerts that notify nobody for a while");
  group.require_subcommand(1);
  add_create(group, chosen);
  add_list(group, chosen);
  {
    auto options = std::make_shared<SilenceShow>();
    auto& verb = add_verb(
        group, chosen, "show", "Shows a silence and the alerts that it silences",
        "  tunnelctl alert silence show 46aaa4e7-d0f1-4a77-b7af-24c612f53a51\n"
        "  tunnelctl alert silence show 46aaa4e7-d0f1-4a77-b7af-24c612f53a51 --output json | jq .alerts",
        options);
    verb.add_option("id", options->id, "the silence's id")->required()->type_name("ID");
    add_where(verb, *options);
  }
  {
    auto options = std::make_shared<SilenceExtend>();
    auto& verb =
        add_verb(group, chosen, "extend", "Moves the end of a silence",
                 "  tunnelctl alert silence extend 46aaa4e7-d0f1-4a77-b7af-24c612f53a51 --for 1h\n"
                 "  tunnelctl alert silence extend 46aaa4e7-d0f1-4a77-b7af-24c612f53a51 --until 2026-01-31",
                 options);
    verb.add_option("id", options->id, "the silence's id")->required()->type_name("ID");
    auto* length = verb.add_option("--for", options->length, "this much longer")->type_name("DURATION");
    verb.add_option("--until", options->until, "or until then")->type_name("TIME")->excludes(length);
    add_where(verb, *options);
  }
  {
    auto options = std::make_shared<SilenceExpire>();
    auto& verb = add_verb(group, chosen, "expire", "Ends silences now, so that their alerts notify again",
                          "  tunnelctl alert silence expire 46aaa4e7-d0f1-4a77-b7af-24c612f53a51\n"
                          "  tunnelctl alert silence expire $(tunnelctl alert silence list -q -o json | jq "
                          "-r '.silences[].id')",
                          options);
    verb.add_option("ids", options->ids, "their ids")->required()->type_name("ID...");
    add_where(verb, *options);
  }
}

}  // namespace tunnelctl
