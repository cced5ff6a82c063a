#include <ostream>

#include "common/http_access.h"
#include "tunnelctl/commands/datasource_verbs.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/datasources.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct Settings {
  std::string name, url;
  std::vector<std::string> set, secrets;
  bool is_default = false;
};

struct DatasourceCreate : Settings {
  std::string type, uid;
};

struct DatasourceUpdate : Settings {
  std::string source;
};

struct DatasourceDelete {
  std::string source;
  bool yes = false;
};

/// "jsonData.timeInterval=15s": the value is JSON where it is some, else a text.
Result<void> set(Json& json, const std::string& assignment) {
  const auto sign = assignment.find('=');
  const auto path = assignment.substr(0, sign);
  if (sign == std::string::npos || path.empty() || path.front() == '.' || path.back() == '.' ||
      path.find("..") != std::string::npos)
    return fail(Error::Kind::bad_input,
                "--set " + assignment + ": must read NAME=VALUE, e.g. jsonData.timeInterval=15s");
  if (path.starts_with("secureJsonData") || path == "password" || path == "basicAuthPassword")
    return fail(Error::Kind::bad_input, "--set " + path +
                                            ": secrets do not go into the command line; say --secret "
                                            "NAME=FILE");
  Json* at = &json;
  std::size_t begin = 0;
  for (auto dot = path.find('.'); dot != std::string::npos; dot = path.find('.', begin)) {
    at = &(*at)[path.substr(begin, dot - begin)];
    if (!at->is_object() && !at->is_null())
      return fail(Error::Kind::bad_input, "--set " + path + ": " + path.substr(0, dot) + " holds no members");
    begin = dot + 1;
  }
  const auto text = assignment.substr(sign + 1);
  auto value = Json::parse(text, nullptr, false);
  (*at)[path.substr(begin)] = value.is_discarded() ? Json(text) : std::move(value);
  return {};
}

Result<void> lay_over(Json& json, const Settings& settings) {
  if (!settings.name.empty()) json["name"] = settings.name;
  if (!settings.url.empty()) json["url"] = settings.url;
  if (settings.is_default) json["isDefault"] = true;
  for (const auto& one : settings.set)
    if (auto done = set(json, one); !done) return done;
  for (const auto& one : settings.secrets) {
    const auto sign = one.find('=');
    if (sign == std::string::npos || sign == 0)
      return fail(Error::Kind::bad_input, "--secret " + one.substr(0, sign) +
                                              ": must read NAME=FILE, e.g. basicAuthPassword=password.txt");
    auto secret = http::read_token(one.substr(sign + 1), "--secret " + one.substr(0, sign));
    if (!secret) return tl::unexpected(secret.error());
    json["secureJsonData"][one.substr(0, sign)] = std::string(secret->reveal());
  }
  return {};
}

/// What was saved, and whether it answers: a wrong address is taken without a word.
Result<ExitStatus> report(grafana::Server& server, const grafana::Datasource& saved, const char* what,
                          Session& session) {
  const auto checks = grafana::check_datasources(server, {saved});
  const auto& check = checks.front();
  const char* state = check.state == grafana::Check::State::ok       ? "ok"
                      : check.state == grafana::Check::State::failed ? "failed"
                                                                     : "unknown";
  if (session.json())
    session.out << pretty(
        {{"datasource", saved.json}, {"health", {{"state", state}, {"message", check.message}}}});
  else
    session.out << saved.uid << '\n';
  session.say("data source " + saved.uid + " \"" + terminal::harmless(saved.name) + "\" " + what +
              "; health: " + state + (check.message.empty() ? "" : ": " + terminal::harmless(check.message)));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const DatasourceCreate& options, Session& session) {
  Json json{{"type", options.type}, {"access", "proxy"}};
  if (!options.uid.empty()) json["uid"] = options.uid;
  if (auto done = lay_over(json, options); !done) return tl::unexpected(done.error());
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto made = grafana::create_datasource(*server, json);
  if (!made) return tl::unexpected(made.error());
  if (made->conflict)
    return refuse(session, ExitStatus::conflict,
                  "data source \"" + options.name + "\" was not made: " + *made->conflict +
                      "; change the one that is there with: tunnelctl datasource update");
  return report(*server, made->datasource, "made", session);
}

Result<ExitStatus> run(const DatasourceUpdate& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto present = grafana::find_datasource(*server, options.source);
  if (!present) return tl::unexpected(present.error());
  Json change = Json::object();
  // Members of what is there stay unless they are named.
  if (present->json.contains("jsonData")) change["jsonData"] = present->json["jsonData"];
  const Json untouched = change;
  if (auto done = lay_over(change, options); !done) return tl::unexpected(done.error());
  if (change == untouched)
    return fail(Error::Kind::bad_input,
                "nothing says what to change: --name, --url, --set, --secret, --default");
  auto saved = grafana::update_datasource(*server, present->uid, change);
  if (!saved) return tl::unexpected(saved.error());
  if (saved->conflict)
    return refuse(session, ExitStatus::conflict,
                  "data source " + present->uid + " was not saved: " + *saved->conflict);
  return report(*server, saved->datasource, "updated", session);
}

Result<ExitStatus> run(const DatasourceDelete& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto present = grafana::find_datasource(*server, options.source);
  if (!present) return tl::unexpected(present.error());
  if (present->read_only)
    return refuse(
        session, ExitStatus::conflict,
        "data source " + present->uid + " is provisioned from a file on the server; remove it there");
  if (auto status = unless_confirmed(session, options.yes,
                                     "delete data source " + present->uid + " \"" + present->name + "\""))
    return *status;
  if (auto done = grafana::delete_datasource(*server, present->uid); !done)
    return tl::unexpected(done.error());
  if (session.json())
    session.out << pretty({{"uid", present->uid}, {"name", present->name}, {"deleted", true}});
  session.say("data source " + present->uid + " \"" + terminal::harmless(present->name) + "\" deleted");
  return ExitStatus::ok;
}

void add_settings_of(CLI::App& verb, Settings& settings) {
  verb.add_option("--url", settings.url, "where it is, as Grafana reaches it")->type_name("URL");
  verb.add_option("--set", settings.set,
                  "any member of its JSON, e.g. jsonData.timeInterval=15s; the value is JSON or text")
      ->allow_extra_args(false)
      ->type_name("NAME=VALUE");
  verb.add_option("--secret", settings.secrets,
                  "a secret from a file, e.g. basicAuthPassword=password.txt or httpHeaderValue1=token.txt")
      ->allow_extra_args(false)
      ->type_name("NAME=FILE");
  verb.add_flag("--default", settings.is_default, "make it the default one");
}

}  // namespace

void add_datasource_changes(CLI::App& datasource, Chosen& chosen) {
  {
    auto options = std::make_shared<DatasourceCreate>();
    auto& verb = add_verb(
        datasource, chosen, "create", "Makes a data source, and asks it for its health",
        "  tunnelctl datasource create --type prometheus --name Prometheus --url http://127.0.0.1:9090\n"
        "  tunnelctl datasource create --type loki --name Loki --url https://loki.example "
        "--set basicAuth=true --set basicAuthUser=ann --secret basicAuthPassword=loki.password",
        options);
    verb.add_option("--type", options->type, "its plugin, e.g. prometheus or loki")
        ->required()
        ->type_name("TYPE");
    verb.add_option("--name", options->name, "its name")->required()->type_name("NAME");
    verb.add_option("--uid", options->uid, "its uid; default: one that the server makes")->type_name("UID");
    add_settings_of(verb, *options);
  }
  {
    auto options = std::make_shared<DatasourceUpdate>();
    auto& verb =
        add_verb(datasource, chosen, "update", "Changes what is named of a data source, and keeps the rest",
                 "  tunnelctl datasource update prom-1 --url http://prometheus:9090\n"
                 "  tunnelctl datasource update prom-1 --set jsonData.timeInterval=15s --default",
                 options);
    verb.add_option("source", options->source, "its uid or its name")->required()->type_name("UID|NAME");
    verb.add_option("--name", options->name, "another name")->type_name("NAME");
    add_settings_of(verb, *options);
  }
  {
    auto options = std::make_shared<DatasourceDelete>();
    auto& verb = add_verb(datasource, chosen, "delete", "Deletes a data source",
                          "  tunnelctl datasource delete old-prometheus\n"
                          "  tunnelctl datasource delete old-prometheus --yes --output json",
                          options);
    verb.add_option("source", options->source, "its uid or its name")->required()->type_name("UID|NAME");
    verb.add_flag("-y,--yes", options->yes, "do not ask");
  }
}

}  // namespace tunnelctl
