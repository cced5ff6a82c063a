#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "tunnelctl/client/preferences.h"
#include "tunnelctl/commands/exit_status.h"
#include "tunnelctl/commands/incident_settings.h"
#include "tunnelctl/grafana/server.h"

namespace CLI {
class App;
}

namespace tunnelctl::daemon {
class Admin;
struct Connection;
}  // namespace tunnelctl::daemon

namespace tunnelctl::client {
struct ServerSettings;
}  // namespace tunnelctl::client

namespace tunnelctl {

using Environment = std::vector<std::pair<std::string, std::string>>;

/// The options that every command has. Unset ones come from the environment, then from the context.
struct Globals {
  std::string output = "text";  // or json
  bool quiet = false;           // no talk on stderr but errors
  std::string colour = "auto";  // always, never
  std::filesystem::path config{};
  std::string context{};
  std::string grafana_url{};
  std::filesystem::path token_file{};
  std::string username{};  // the password only by environment
  std::optional<std::int64_t> org{};
  std::filesystem::path ca_file{}, certificate_file{}, key_file{};
  bool insecure = false;
  bool allow_plain = false;
  std::string prometheus_url{}, loki_url{};
  std::string admin_url{};  // tunneld's
  double timeout_seconds = 0;
  std::size_t parallel = 0;
};

/// One named server of the configuration file.
struct Context {
  std::string name{};
  std::string grafana_url{};
  std::filesystem::path token_file{};
  std::string username{};
  std::filesystem::path password_file{};
  std::int64_t org = 0;
  std::vector<std::string> headers{};  // "Name: value"
  std::filesystem::path ca_file{}, certificate_file{}, key_file{};
  bool read_only = false;
  bool allow_plain_http = false;
  std::string prometheus_url{}, loki_url{}, runbook_url{};
  std::filesystem::path prometheus_token_file{}, loki_token_file{};
  std::vector<std::string> datasources{};  // "variable=uid"
  std::string admin_url{};
  std::filesystem::path admin_token_file{};
  std::string server_url{};
  std::filesystem::path server_token_file{};

  bool operator==(const Context&) const = default;
};

struct Configuration {
  std::filesystem::path path{};
  bool exists = false;
  std::string current{};
  std::vector<Context> contexts{};
  IncidentSettings incident{};
  client::Values client{};         // what its section `client` sets
  client::Values client_places{};  // "config.yaml:3", by the same keys
};

/// Whose file it may be: anybody's, or only one that nobody but its owner can have written.
enum class Writers { any, owner };

/// --config, else $TUNNELCTL_CONFIG, else $XDG_CONFIG_HOME/tunnelctl/config.yaml or ~/.config/...; empty when
/// there is no home.
std::filesystem::path configuration_path(const Globals& globals, const Environment& environment);
/// The file there. One that nobody named need not exist.
Result<Configuration> load_configuration(const Globals& globals, const Environment& environment,
                                         Writers writers = Writers::any);
/// What that text of the file at `path` says.
Result<Configuration> parse_configuration(const std::filesystem::path& path, std::string text);
/// Markdown of the file's keys.
std::string configuration_reference();

/// What a command has to work with.
class Session {
 public:
  Session(std::ostream& out, std::ostream& err, Environment environment, std::stop_token stop);

  std::ostream& out;  // results
  std::ostream& err;  // talk
  std::istream* in;   // what the file "-" means; std::cin
  Globals globals{};
  std::stop_token stop;
  /// Set when the configuration or the environment could not be understood, for the exit status.
  bool configuration_is_wrong = false;
  bool out_is_terminal = false;
  bool err_is_terminal = false;

  bool json() const { return globals.output == "json"; }
  bool coloured() const;
  /// A line for the person, unless --quiet.
  void say(std::string_view line) const;
  void warn(std::string_view line) const;
  /// "12/60 dashboards" on a terminal, nothing elsewhere. An empty text clears it.
  void progress(std::string_view text) const;

  const std::string* variable(std::string_view name) const;
  const Environment& environment() const { return environment_; }
  /// The configuration file, read once.
  Result<Configuration> configuration();
  /// The same for commands that go by its section `client`: refuses a file that others may write.
  Result<Configuration> own_configuration();
  /// Where it is, or would be; empty when there is no home.
  std::filesystem::path configuration_path() const;
  /// The context that --context or the file's `current` names; nullopt when there is none.
  Result<std::optional<Context>> context();
  /// Which Grafana, and as whom. Credentials come from where the address comes from, so that a token never
  /// goes to another server than the one it was set for: where --grafana-url leads elsewhere than the context
  /// that --context names, that context's headers stay at home, too. Fails with bad_input when no Grafana is
  /// named.
  Result<grafana::Connection> connection();
  Result<grafana::Server> grafana();
  /// Which tunneld, and as whom: by the same rules, but without any source it is the one on this machine.
  Result<daemon::Connection> tunnel_connection();
  Result<daemon::Admin> tunnel();
  /// Which tunneld to connect to as a caller or an agent, and as whom: `flag` is --server, then come
  /// TUNNEL_SERVER and the context's server_url, by the same rules. Fails with bad_input when none is named.
  Result<client::ServerSettings> server(const std::string& flag);
  /// Whether a source that connection() asks names a Grafana.
  bool names_grafana();
  /// "~/x" of the configuration file, in the home that the environment names.
  std::filesystem::path at_home(const std::filesystem::path& path) const;
  /// The TLS files that the context names.
  void use_files(const Context& context, http::TlsFiles& tls) const;
  /// What the command line says of reaching a server, whichever it is.
  void use_flags(http::TlsFiles& tls, std::chrono::milliseconds& timeout, bool& allow_plain) const;

 private:
  Environment environment_;
  std::optional<Configuration> configuration_;
  bool is_own_ = false;  // configuration_ came from a file that only its owner may write
};

/// What the command line chose. Set by the callback of the subcommand that was named.
struct Chosen {
  std::function<Result<ExitStatus>(Session&)> run{};
};

}  // namespace tunnelctl
