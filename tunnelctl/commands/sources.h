#pragma once

#include <optional>
#include <string>

#include "common/result.h"
#include "tunnelctl/commands/session.h"
#include "tunnelctl/prometheus/loki.h"
#include "tunnelctl/prometheus/server.h"

/// Which Prometheus and which Loki a command asks.
namespace tunnelctl {

struct SourceFlags {
  std::string datasource{};  // uid or name, of the Grafana
};

/// In this order: --datasource, through the Grafana; --prometheus-url (--loki-url), straight; the Grafana's
/// only data source of that type, else its default one, when a Grafana is named that has any; PROMETHEUS_URL
/// (LOKI_URL) or the context's prometheus_url (loki_url), straight (said, when a Grafana was asked before).
/// Nothing is asked of the server itself yet, but Grafana is asked for its data sources. Fails with bad_input
/// when that does not lead to one server, listing the data sources there are, when the one named is of
/// another type, or when no server is named at all; with not_found for an unknown one. The result holds all
/// that it needs; any number of threads may use it.
Result<prometheus::Server> metric_source(Session& session, const SourceFlags& flags = {});
Result<prometheus::Loki> log_source(Session& session, const SourceFlags& flags = {});

/// The server that is asked straight, by whoever does not ask Grafana: --prometheus-url (--loki-url), else
/// PROMETHEUS_URL (LOKI_URL) unless --context was said, else the context's; nullopt when nobody names one.
/// Its url_setting says which it was. The token comes from where the address comes from: the file that
/// PROMETHEUS_TOKEN_FILE (LOKI_TOKEN_FILE) names, or the context's prometheus_token_file (loki_token_file);
/// so do the context's TLS files.
Result<std::optional<prometheus::Connection>> straight_to_prometheus(Session& session);
Result<std::optional<prometheus::Connection>> straight_to_loki(Session& session);

/// --datasource, the same everywhere.
void add_source(CLI::App& verb, SourceFlags& flags);

}  // namespace tunnelctl
