#include "tunnelctl/commands/incident_settings.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>

#include <CLI/CLI.hpp>

#include "common/config_file.h"
#include "common/http_access.h"
#include "tunnelctl/commands/session.h"
#include "tunnelctl/incident/detect.h"

namespace tunnelctl {
namespace {

constexpr std::string_view kBackends = "auto, grafana, pagerduty, github, webhook, local";

std::string variable_of(std::string_view key) {
  std::string name = "TUNNELCTL_";
  for (const char c : key)
    name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::filesystem::path at_home(const std::filesystem::path& path, const Session& session) {
  const auto* home = session.variable("HOME");
  return home != nullptr && path.string().starts_with("~/")
             ? std::filesystem::path(*home) / path.string().substr(2)
             : path;
}

/// The variable itself, else the first line of the file.
Result<Secret> secret(const Session& session, std::string_view key, const std::filesystem::path& file) {
  if (const auto* value = session.variable(variable_of(key))) return Secret(*value);
  if (file.empty()) return Secret();
  return http::read_token(at_home(file, session), std::string(key) + "_file");
}

/// A token must not go to another server than the one it was set for: who says the address by a variable says
/// the secret by one too.
void forget_file_of_other_address(const Session& session, std::string_view url_key, std::string_view file_key,
                                  std::filesystem::path& file) {
  if (session.variable(variable_of(url_key)) != nullptr && session.variable(variable_of(file_key)) == nullptr)
    file.clear();
}

http::TlsFiles tls_of(const Session& session) {
  http::TlsFiles tls;
  if (!session.globals.ca_file.empty()) tls.ca = session.globals.ca_file;
  tls.ca_setting = "--ca-file";
  tls.insecure = session.globals.insecure;
  return tls;
}

Result<void> add_services(const IncidentSettings& settings, Session& session, incident::Places& places,
                          bool allow_plain) {
  incident::RemoteOptions remote{.tls = tls_of(session), .allow_plain = allow_plain, .stop = session.stop};
  if (session.globals.timeout_seconds > 0)
    remote.timeout =
        std::chrono::milliseconds(static_cast<std::int64_t>(session.globals.timeout_seconds * 1000));
  // A secret of another service that cannot be read must not keep an incident from being written down.
  const auto wanted = [&](std::string_view name) {
    return places.backend.empty() || places.backend == "auto" || places.backend == name;
  };
  if (wanted("pagerduty")) {
    auto routing = secret(session, "incident.pagerduty.routing_key", settings.pagerduty.routing_key_file);
    auto api = secret(session, "incident.pagerduty.api_token", settings.pagerduty.api_token_file);
    for (const auto* one : {&routing, &api})
      if (!*one) return tl::unexpected(one->error());
    if (!routing->empty()) {
      places.pagerduty = incident::PagerdutyOptions{.routing_key = std::move(*routing),
                                                    .api_token = std::move(*api),
                                                    .from = settings.pagerduty.from,
                                                    .url = settings.pagerduty.url,
                                                    .api_url = settings.pagerduty.api_url,
                                                    .remote = remote};
      std::array<char, 256> host{};
      if (::gethostname(host.data(), host.size() - 1) == 0) places.pagerduty->source = host.data();
      if (places.pagerduty->source.empty()) places.pagerduty->source = "tunnelctl";
    }
  }
  if (wanted("github") && !settings.github.repository.empty()) {
    auto token = secret(session, "incident.github.token", settings.github.token_file);
    if (!token) return tl::unexpected(token.error());
    places.github = incident::GithubOptions{.repository = settings.github.repository,
                                            .url = settings.github.url,
                                            .token = std::move(*token),
                                            .remote = remote};
  }
  if (wanted("webhook") && !settings.webhook.url.empty()) {
    auto signing = secret(session, "incident.webhook.secret", settings.webhook.secret_file);
    if (!signing) return tl::unexpected(signing.error());
    places.webhook = incident::WebhookOptions{
        .url = settings.webhook.url, .secret = std::move(*signing), .remote = remote};
  }
  return {};
}

/// The Grafana that keeps incidents, or where those of local are drawn; the other backends need none.
Result<void> add_grafana(Session& session, incident::Places& places) {
  const auto& name = places.backend;
  const bool is_local = name == "local";
  if ((!name.empty() && name != "auto" && name != "grafana" && !is_local) || !session.names_grafana())
    return {};
  const bool was_wrong = session.configuration_is_wrong;
  auto connection = session.connection();
  if (connection) {
    places.grafana = std::move(*connection);
    return {};
  }
  if (!is_local) return tl::unexpected(connection.error());
  session.configuration_is_wrong = was_wrong;
  session.warn("incidents are not drawn in Grafana: " + connection.error().message);
  return {};
}

void bind_question(config::Schema& schema, IncidentSettings::Question& question) {
  schema.add("name", &question.name,
             {.help = "What the note calls it.", .example = "Error rate", .required = true});
  schema.add(
      "expr", &question.expr,
      {.help = "PromQL, or LogQL for logs and patterns. \"${label}\" is the incident's label of that name, "
               "${window} the time looked back, ${streams} incident.enrichment.streams.",
       .example = "sum(rate(tunnel_requests_total[2m]))",
       .required = true});
  schema.add("kind", &question.kind,
             {.help = "metric (one number over the time), table (series), logs (lines), patterns (of lines).",
              .check = [](std::string_view text) {
                for (const std::string_view one : {"metric", "table", "logs", "patterns"})
                  if (text == one) return std::string();
                return std::string("must be one of: metric, table, logs, patterns");
              }});
  schema.add(
      "unit", &question.unit,
      {.help = "Of the numbers: percent (of a ratio), seconds, bytes, per second.", .example = "percent"});
  schema.add(
      "kinds", &question.kinds,
      {.help = "Incidents it is asked for: breaker, upstream, agent, daemon, audit, overload, alert, manual; "
               "none: all.",
       .example = "[breaker, upstream]"});
}

void bind_enrichment(config::Schema& schema, IncidentSettings& settings) {
  auto& enrichment = settings.enrichment;
  schema.add_list(
      "incident.questions", &settings.questions, bind_question,
      {.help = "What is asked about an incident, in the order of its note; instead of what the program "
               "asks by itself.",
       .unique = "name",
       .max_items = 100});
  schema.add("incident.enrichment.deadline", &enrichment.deadline,
             {.help = "How long all questions together may take.",
              .example = "5s",
              .range = {std::chrono::milliseconds(100), std::chrono::minutes(5)}});
  schema.add("incident.enrichment.window", &enrichment.window,
             {.help = "How long before its beginning is looked at.",
              .example = "1h",
              .range = {std::chrono::minutes(1), std::chrono::hours(24)}});
  schema.add_bytes("incident.enrichment.max_bytes", &enrichment.max_bytes,
                   {.help = "The longest note; what does not fit is left out, and the note says so.",
                    .range = {1024, 60 * 1024}});
  schema.add("incident.enrichment.redact_addresses", &enrichment.redact_addresses,
             {.help = "Take IP addresses out of notes too."});
  schema.add("incident.enrichment.streams", &enrichment.streams,
             {.help = "Which of Loki's streams are tunneld's.", .example = "{service=\"tunneld\"}"});
  schema.add("incident.enrichment.dashboard", &enrichment.dashboard,
             {.help = "The uid of the dashboard to link to, if the Grafana has it."});
  schema.add("incident.enrichment.change_tags", &enrichment.change_tags,
             {.help = "Annotations with one of these tags are told as changes."});
}

}  // namespace

void bind_incident(config::Schema& schema, IncidentSettings& settings) {
  const auto url = [](std::string_view text) {
    return text.empty() || text.starts_with("http://") || text.starts_with("https://")
               ? std::string()
               : std::string("must start with https:// or http://");
  };
  schema.add(
      "incident.backend", &settings.backend,
      {.help = "Where incidents are kept: " + std::string(kBackends) + ".",
       .example = "github",
       .check = [](std::string_view text) {
         for (const std::string_view one : {"auto", "grafana", "pagerduty", "github", "webhook", "local"})
           if (text == one) return std::string();
         return "must be one of: " + std::string(kBackends);
       }});
  schema.add("incident.database", &settings.database,
             {.help = "File of the local backend; unset: tunnelctl/incidents.db in the state folder.",
              .example = "/var/lib/tunnelctl/incidents.db"});
  auto& pagerduty = settings.pagerduty;
  schema.add("incident.pagerduty.routing_key_file", &pagerduty.routing_key_file,
             {.help = "File with the routing key of an Events API v2 integration."});
  schema.add("incident.pagerduty.api_token_file", &pagerduty.api_token_file,
             {.help = "File with a token of the REST API, for notes, list and show."});
  schema.add(
      "incident.pagerduty.from", &pagerduty.from,
      {.help = "E-mail address of the user that the REST API acts as.", .example = "oncall@example.org"});
  schema.add("incident.pagerduty.url", &pagerduty.url, {.help = "The Events API.", .check = url});
  schema.add("incident.pagerduty.api_url", &pagerduty.api_url, {.help = "The REST API.", .check = url});
  auto& github = settings.github;
  schema.add("incident.github.repository", &github.repository,
             {.help = "Where its issues go.", .example = "example/oncall"});
  schema.add("incident.github.token_file", &github.token_file,
             {.help = "File with a token that may write issues and set labels."});
  schema.add("incident.github.url", &github.url,
             {.help = "The API; of an Enterprise server https://host/api/v3.", .check = url});
  auto& webhook = settings.webhook;
  schema.add("incident.webhook.url", &webhook.url, {.help = "Who is told of incidents.", .check = url});
  schema.add("incident.webhook.secret_file", &webhook.secret_file,
             {.help = "File with the secret that signs what is sent."});
  auto& watch = settings.watch;
  schema.add("incident.watch.state_dir", &watch.state_dir,
             {.help = "Where `incident watch` keeps what is not delivered yet; unset: in the state folder.",
              .example = "/var/lib/tunnelctl-incident-watch"});
  schema.add(
      "incident.watch.listen", &watch.listen,
      {.help = "Where it takes alerts and serves its metrics; unset: nowhere.", .example = "127.0.0.1:9465"});
  schema.add("incident.watch.listen_token_file", &watch.listen_token_file,
             {.help = "File with the bearer token that senders of alerts show."});
  schema.add("incident.watch.grafana_secret_file", &watch.grafana_secret_file,
             {.help = "File with the secret of the HMAC signature of Grafana's contact point."});
  schema.add("incident.watch.certificate_file", &watch.certificate_file,
             {.help = "Its certificate with the chain, PEM."});
  schema.add("incident.watch.key_file", &watch.key_file, {.help = "The key of that certificate, PEM."});
  const config::Range any_time{std::chrono::milliseconds(0), std::chrono::hours(24)};
  schema.add("incident.watch.quiet", &watch.quiet,
             {.help = "How long a thing must have been well before its incident is resolved.",
              .example = "30s",
              .range = any_time});
  schema.add("incident.watch.flap_window", &watch.flap_window,
             {.help = "What breaks again within this time goes on in the same incident.",
              .example = "15m",
              .range = any_time});
  schema.add("incident.watch.agent_grace", &watch.agent_grace,
             {.help = "An agent may be away that long.", .example = "2m", .range = any_time});
  schema.add("incident.watch.daemon_grace", &watch.daemon_grace,
             {.help = "tunneld may be away, or not ready, that long.", .example = "30s", .range = any_time});
  schema.add("incident.watch.overload_grace", &watch.overload_grace,
             {.help = "Overload may last that long.", .example = "1m", .range = any_time});
  schema.add("incident.watch.look_again", &watch.look_again,
             {.help = "After that long the context of what still lasts is told once more; 0: never.",
              .example = "5m",
              .range = any_time});
  schema.add("incident.watch.labels", &watch.labels,
             {.help = "Labels of every incident that it opens.", .example = "[env=prod]"});
  bind_enrichment(schema, settings);
}

Result<IncidentSettings> incident_settings(Session& session) {
  const auto configuration = session.configuration();
  if (!configuration) return tl::unexpected(configuration.error());
  auto settings = configuration->incident;
  config::Schema schema("TUNNELCTL");
  bind_incident(schema, settings);
  config::Sources sources;
  for (const auto& key : schema.keys())
    if (const auto* value = session.variable(variable_of(key)))
      sources.environment.emplace_back(variable_of(key), *value);
  if (const auto loaded = schema.load(sources); !loaded) {
    session.configuration_is_wrong = true;
    return tl::unexpected(loaded.error());
  }
  forget_file_of_other_address(session, "incident.pagerduty.url", "incident.pagerduty.routing_key_file",
                               settings.pagerduty.routing_key_file);
  forget_file_of_other_address(session, "incident.pagerduty.api_url", "incident.pagerduty.api_token_file",
                               settings.pagerduty.api_token_file);
  forget_file_of_other_address(session, "incident.github.url", "incident.github.token_file",
                               settings.github.token_file);
  forget_file_of_other_address(session, "incident.webhook.url", "incident.webhook.secret_file",
                               settings.webhook.secret_file);
  return settings;
}

void add_backend_options(CLI::App& verb, IncidentFlags& flags) {
  verb.add_option("--backend", flags.backend,
                  "where incidents are kept: " + std::string(kBackends) + " (TUNNELCTL_INCIDENT_BACKEND)")
      ->check(CLI::IsMember({"auto", "grafana", "pagerduty", "github", "webhook", "local"}))
      ->type_name("NAME");
  verb.add_option("--database", flags.database, "the file of local (TUNNELCTL_INCIDENT_DATABASE)")
      ->type_name("FILE");
}

std::filesystem::path incident_database(const IncidentFlags& flags, const IncidentSettings& settings,
                                        const Session& session) {
  if (!flags.database.empty()) return flags.database;
  if (!settings.database.empty()) return at_home(settings.database, session);
  std::filesystem::path folder;
  if (const auto* state = session.variable("XDG_STATE_HOME"))
    folder = *state;
  else if (const auto* home = session.variable("HOME"))
    folder = std::filesystem::path(*home) / ".local" / "state";
  return folder.is_absolute() ? folder / "tunnelctl" / "incidents.db" : std::filesystem::path();
}

Result<incident::Choice> incident_backend(const IncidentFlags& flags, Session& session, Access access) {
  const auto settings = incident_settings(session);
  if (!settings) return tl::unexpected(settings.error());
  const auto context = session.context();
  if (!context) return tl::unexpected(context.error());
  if (access == Access::write && *context && (*context)->read_only)
    return fail(Error::Kind::denied, "refused, because the context \"" + (*context)->name +
                                         "\" is read-only (read_only: true); nothing was changed");
  incident::Places places;
  places.backend = flags.backend.empty() ? settings->backend : flags.backend;
  places.database = incident_database(flags, *settings, session);
  if (const auto* user = session.variable("USER")) places.author = *user;
  places.warn = [&session](std::string_view text) { session.warn(text); };
  places.stop = session.stop;
  if (auto added = add_grafana(session, places); !added) return tl::unexpected(added.error());
  const bool allow_plain = session.globals.allow_plain || (*context && (*context)->allow_plain_http);
  if (auto added = add_services(*settings, session, places, allow_plain); !added)
    return tl::unexpected(added.error());
  return incident::choose(std::move(places));
}

}  // namespace tunnelctl
