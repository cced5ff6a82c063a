#pragma once

#include "tunnelctl/commands/session.h"

/// The command table: each adds its commands, whose callbacks set `chosen`.
namespace tunnelctl {

/// The whole command line: the options that every command has, and all groups in the order of --help.
void build(CLI::App& app, Globals& globals, Chosen& chosen);

void add_connect(CLI::App& app, Chosen& chosen);
void add_agent(CLI::App& app, Chosen& chosen);
void add_agents(CLI::App& app, Chosen& chosen);
void add_diagnose(CLI::App& app, Chosen& chosen);
void add_status(CLI::App& app, Chosen& chosen);
void add_top(CLI::App& app, Chosen& chosen);
void add_events(CLI::App& app, Chosen& chosen);
void add_breakers(CLI::App& app, Chosen& chosen);
void add_settings(CLI::App& app, Chosen& chosen);
/// log-level, connections, drain and revoke: what an operator changes in a running tunneld.
void add_steering(CLI::App& app, Chosen& chosen);
void add_audit(CLI::App& app, Chosen& chosen);
void add_monitor(CLI::App& app, Chosen& chosen);
void add_dashboard(CLI::App& app, Chosen& chosen);
void add_folder(CLI::App& app, Chosen& chosen);
void add_datasource(CLI::App& app, Chosen& chosen);
void add_alert(CLI::App& app, Chosen& chosen);
void add_contact_point(CLI::App& app, Chosen& chosen);
void add_metrics(CLI::App& app, Chosen& chosen);
void add_logs(CLI::App& app, Chosen& chosen);
void add_annotation(CLI::App& app, Chosen& chosen);
void add_incident(CLI::App& app, Chosen& chosen);
void add_oncall(CLI::App& app, Chosen& chosen);
void add_snapshot(CLI::App& app, Chosen& chosen);
void add_plugin(CLI::App& app, Chosen& chosen);
/// admin: who is there and may do what.
void add_grafana_admin(CLI::App& app, Chosen& chosen);
/// api: any request.
void add_api(CLI::App& app, Chosen& chosen);
void add_link(CLI::App& app, Chosen& chosen);
void add_org(CLI::App& app, Chosen& chosen);
void add_explain(CLI::App& app, Chosen& chosen);
void add_config(CLI::App& app, Chosen& chosen);
void add_mcp(CLI::App& app, Chosen& chosen);
/// completion, man and reference: made from the command table itself.
void add_reference(CLI::App& app, Chosen& chosen);

}  // namespace tunnelctl
