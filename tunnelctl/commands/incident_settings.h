#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "common/result.h"

namespace config {
class Schema;
}
namespace CLI {
class App;
}
namespace tunnelctl::incident {
struct Choice;
}  // namespace tunnelctl::incident

namespace tunnelctl {

class Session;

/// Section `incident` of the configuration file: where incidents are kept. Each key has a variable
/// (incident.github.url: TUNNELCTL_INCIDENT_GITHUB_URL), which wins over the file.
struct IncidentSettings {
  std::string backend = "auto";
  std::filesystem::path database{};
  struct {
    std::filesystem::path routing_key_file{}, api_token_file{};
    std::string from{};
    std::string url = "https://events.pagerduty.com";
    std::string api_url = "https://api.pagerduty.com";
  } pagerduty{};
  struct {
    std::string repository{};
    std::filesystem::path token_file{};
    std::string url = "https://api.github.com";
  } github{};
  struct {
    std::string url{};
    std::filesystem::path secret_file{};
  } webhook{};
  struct {
    std::filesystem::path state_dir{};
    std::string listen{};
    std::filesystem::path listen_token_file{}, grafana_secret_file{}, certificate_file{}, key_file{};
    std::chrono::milliseconds quiet{0};
    std::chrono::milliseconds flap_window{std::chrono::minutes(10)};
    std::chrono::milliseconds agent_grace{std::chrono::seconds(60)};
    std::chrono::milliseconds daemon_grace{std::chrono::seconds(15)};
    std::chrono::milliseconds overload_grace{std::chrono::seconds(30)};
    std::chrono::milliseconds look_again{std::chrono::minutes(2)};
    std::vector<std::string> labels{};
  } watch{};
  /// What an incident is explained with; see docs/enrichment.md.
  struct Question {
    std::string name{}, expr{}, kind = "metric", unit{};
    std::vector<std::string> kinds{};
  };
  std::vector<Question> questions{};  // none: those that the program has
  struct {
    std::chrono::milliseconds deadline{8'000};
    std::chrono::milliseconds window{std::chrono::minutes(30)};
    std::size_t max_bytes = 16 * 1024;
    bool redact_addresses = false;
    std::string streams = "{job=\"tunneld\"}";
    std::string dashboard = "tunnel-health";
    std::vector<std::string> change_tags{"deploy", "deployment", "release", "config"};
  } enrichment{};
};

void bind_incident(config::Schema& schema, IncidentSettings& settings);
/// Of the file, then the environment. Fails with bad_input.
Result<IncidentSettings> incident_settings(Session& session);

/// --backend and --database, on every command of incidents.
struct IncidentFlags {
  std::string backend{};
  std::filesystem::path database{};
};
void add_backend_options(CLI::App& verb, IncidentFlags& flags);

/// --database, else incident.database, else tunnelctl/incidents.db below $XDG_STATE_HOME or ~/.local/state;
/// empty when there is no home.
std::filesystem::path incident_database(const IncidentFlags& flags, const IncidentSettings& settings,
                                        const Session& session);

enum class Access { read, write };
/// Where these incidents are kept, as flags, environment, file and context say. A context that is read-only
/// refuses to write (denied). Secrets are read from their files now.
Result<incident::Choice> incident_backend(const IncidentFlags& flags, Session& session, Access access);

}  // namespace tunnelctl
