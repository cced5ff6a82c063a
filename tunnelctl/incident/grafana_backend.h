#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/incident/backend.h"

namespace tunnelctl::incident {

inline constexpr const char* kIrmPlugin = "grafana-irm-app";
inline constexpr const char* kOldIncidentPlugin = "grafana-incident-app";

/// Grafana IRM, by the API of its plugin: POST .../resources/api/v1/{Service}.{Method}.
///
/// The service knows no key of its caller's, so the key is a label ("dedup") that is looked for among the
/// active incidents before one is made and again after it: of several that were made at once the oldest
/// stays, and opening that key resolves the others. Notes carry their key as a mark. What changes several
/// things is several calls; an error says which were done.
///
/// All errors of IRM's own handlers are 500, passing ones too. A note that it refuses five times is
/// bad_input; resolving does without it then.
class GrafanaBackend final : public Backend {
 public:
  GrafanaBackend(grafana::Server server, std::string plugin)
      : server_(std::move(server)), plugin_(std::move(plugin)) {}

  std::string name() const override { return "grafana"; }
  std::string place() const override { return server_.url() + " (" + plugin_ + ")"; }
  Result<Opened> open(const Opening& opening) override;
  Result<Listed> list(const Filter& filter) override;
  Result<Incident> read(const std::string& id) override;
  Result<void> note(const std::string& id, const Note& note) override;
  Result<Incident> change(const std::string& id, const Changes& changes) override;
  Result<Incident> resolve(const std::string& id, const Note& note) override;

 private:
  Result<Json> ask(const std::string& method, Json body, bool asks = false);
  Result<Incident> incident(const std::string& method, Json body, bool asks = false);
  Result<Incident> make(const Opening& opening);
  /// Those of that key, oldest first.
  Result<std::vector<Incident>> open_ones(const std::string& dedup_key);
  Result<std::vector<Note>> activity(const std::string& id);
  Incident read_incident(const Json& json);

  grafana::Server server_;
  std::string plugin_;
  std::map<std::string, unsigned> refused_{};  // how often, by the hash of what was asked
};

}  // namespace tunnelctl::incident
