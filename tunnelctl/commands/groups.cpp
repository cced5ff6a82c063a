#include "tunnelctl/commands/groups.h"

#include <CLI/CLI.hpp>

#include "build_info.h"

namespace tunnelctl {
namespace {

constexpr const char* kFooter =
    "Exit status:\n"
    "  0    done; for a plan: nothing to do; for status: tunneld serves\n"
    "  1    failed; the line on stderr says why; for status: tunneld is not ready, or degraded\n"
    "  2    monitor plan: something would change\n"
    "  64   the command line makes no sense\n"
    "  65   a file or an argument is wrong, or an audit log was tampered with; nothing was changed\n"
    "  69   the other side is unavailable\n"
    "  73   the thing is somebody else's, or was changed meanwhile; nothing was changed\n"
    "  75   gave up waiting; later may work\n"
    "  77   not signed in, or not allowed\n"
    "  78   the configuration is wrong\n"
    "  130  stopped by Ctrl-C; what was begun was put back";

void add_globals(CLI::App& app, Globals& globals) {
  const std::string connection = "Server";
  app.add_option("-o,--output", globals.output, "how results are printed")
      ->check(CLI::IsMember({"text", "json"}))
      ->type_name("text|json");
  app.add_flag("-q,--quiet", globals.quiet, "no talk on stderr but errors");
  app.add_option("--colour,--color", globals.colour, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  app.add_option("--config", globals.config, "configuration file with contexts")->type_name("FILE");
  app.add_option("--context", globals.context, "which of its servers; the environment is not asked then")
      ->type_name("NAME");
  app.add_option("--grafana-url", globals.grafana_url, "Grafana (GRAFANA_URL)")
      ->type_name("URL")
      ->group(connection);
  app.add_option("--token-file", globals.token_file,
                 "file with a token: Grafana's service account (GRAFANA_SERVICE_ACCOUNT_TOKEN[_FILE]), or "
                 "tunneld's scope tunnel:admin (TUNNEL_TOKEN[_FILE])")
      ->type_name("FILE")
      ->group(connection);
  app.add_option("--user", globals.username, "basic authentication; password in GRAFANA_PASSWORD")
      ->type_name("NAME")
      ->group(connection);
  app.add_option("--org", globals.org, "organisation (GRAFANA_ORG_ID)")
      ->type_name("NUMBER")
      ->check(CLI::PositiveNumber)
      ->group(connection);
  app.add_option("--ca-file", globals.ca_file, "certificates to trust instead of the system's")
      ->type_name("FILE")
      ->group(connection);
  app.add_option("--cert-file", globals.certificate_file, "client certificate")
      ->type_name("FILE")
      ->group(connection);
  app.add_option("--key-file", globals.key_file, "its key")->type_name("FILE")->group(connection);
  app.add_flag("--insecure", globals.insecure,
               "do not verify the server; anybody on the way can read the token")
      ->group(connection);
  app.add_flag("--allow-plain-http", globals.allow_plain, "send the token over http:// to another machine")
      ->group(connection);
  app.add_option("--prometheus-url", globals.prometheus_url, "Prometheus, asked directly (PROMETHEUS_URL)")
      ->type_name("URL")
      ->group(connection);
  app.add_option("--loki-url", globals.loki_url, "Loki, asked directly (LOKI_URL)")
      ->type_name("URL")
      ->group(connection);
  app.add_option("--admin-url", globals.admin_url,
                 "tunneld's admin listener (TUNNEL_ADMIN_URL; default http://127.0.0.1:9090)")
      ->type_name("URL")
      ->group(connection);
  app.add_option("--timeout", globals.timeout_seconds, "seconds for one request; default 30, of tunneld 10")
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber)
      ->group(connection);
  app.add_option("--parallel", globals.parallel, "requests in flight; default 8")
      ->type_name("NUMBER")
      ->check(CLI::Range(1, 64))
      ->group(connection);
}

}  // namespace

void build(CLI::App& app, Globals& globals, Chosen& chosen) {
  app.set_version_flag("--version", std::string("tunnelctl ") + TUNNEL_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();  // the options of all commands may stand behind the command
  add_globals(app, globals);
  add_connect(app, chosen);
  add_agent(app, chosen);
  add_agents(app, chosen);
  add_diagnose(app, chosen);
  add_status(app, chosen);
  add_top(app, chosen);
  add_events(app, chosen);
  add_breakers(app, chosen);
  add_settings(app, chosen);
  add_steering(app, chosen);
  add_audit(app, chosen);
  add_monitor(app, chosen);
  add_dashboard(app, chosen);
  add_folder(app, chosen);
  add_datasource(app, chosen);
  add_alert(app, chosen);
  add_contact_point(app, chosen);
  add_metrics(app, chosen);
  add_logs(app, chosen);
  add_annotation(app, chosen);
  add_incident(app, chosen);
  add_oncall(app, chosen);
  add_snapshot(app, chosen);
  add_plugin(app, chosen);
  add_grafana_admin(app, chosen);
  add_api(app, chosen);
  add_link(app, chosen);
  add_org(app, chosen);
  add_explain(app, chosen);
  add_config(app, chosen);
  add_mcp(app, chosen);
  add_reference(app, chosen);
}

}  // namespace tunnelctl
