#include <charconv>
#include <ostream>
#include <sstream>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "common/http_url.h"
#include "common/log_format.h"
#include "common/sd_notify.h"
#include "tunnelctl/client/agent.h"
#include "tunnelctl/client/agent_metrics.h"
#include "tunnelctl/client/agent_pins.h"
#include "tunnelctl/client/agent_state.h"
#include "tunnelctl/client/agent_world.h"
#include "tunnelctl/client/client_state_report.h"
#include "tunnelctl/client/server.h"
#include "tunnelctl/client/sshd.h"
#include "tunnelctl/commands/config_values.h"
#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/verbs.h"

namespace tunnelctl {
namespace {

namespace asio = boost::asio;

struct Agent {
  std::string server{};
  std::string id{};
  std::vector<std::string> services{};
  std::string retry{};
  unsigned connections = 1;
  std::string metrics{};
  std::filesystem::path state_dir{};
  std::filesystem::path sshd{};
  std::vector<std::string> server_keys{};
  std::shared_ptr<client::Values> client = std::make_shared<client::Values>();
};

/// Every change of state is one line on stderr.
void tell(Session& session, logging::Level level, std::string_view message, logging::Fields fields) {
  if (session.globals.quiet && level > logging::Level::warn) return;
  const logging::Record record{.time = std::chrono::system_clock::now(),
                               .level = level,
                               .component = "agent",
                               .message = message,
                               .instance_id = {},
                               .fields = fields};
  std::string line;
  if (session.json())
    logging::render_json(line, record);
  else
    logging::render_text(line, record, false);
  session.err << line << std::endl;
}

/// nullopt: for ever. What a profile says is for a person who waits.
Result<std::optional<unsigned>> attempts_of(const std::string& text, bool unattended,
                                            const client::Resolved& client) {
  const bool by_default = text.empty() && !client.chosen("retry");
  if (text.empty()) return by_default && unattended ? std::optional<unsigned>() : client.settings.retry;
  if (text == "forever") return std::optional<unsigned>();
  unsigned count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count == 0)
    return fail(Error::Kind::bad_input,
                "--retry: \"" + text + "\" is neither \"forever\" nor a number from 1");
  return std::optional<unsigned>(count);
}

std::string value_of(const Session& session, std::string_view name) {
  const auto* found = session.variable(name);
  return found == nullptr ? std::string() : *found;
}

Result<std::filesystem::path> folder_of(const Agent& options, const Session& session) {
  if (!options.state_dir.empty()) return std::filesystem::absolute(options.state_dir);
  return client::agent_folder(value_of(session, "XDG_STATE_HOME"), value_of(session, "HOME"), options.id);
}

Result<client::Sshd> prepare_sshd(const Agent& options, const client::AgentSettings& settings,
                                  const client::Login& login, const std::filesystem::path& folder,
                                  const Session& session) {
  auto program = client::find_sshd(options.sshd, value_of(session, "PATH"));
  if (!program) return tl::unexpected(program.error());
  client::Sshd::Setup setup{std::move(*program), folder, login, {}};
  for (const auto& service : settings.services) setup.targets.push_back(service.target);
  return client::Sshd::prepare(std::move(setup));
}

ExitStatus status_of(const client::AgentOutcome& outcome) {
  switch (outcome.end) {
    case client::AgentOutcome::End::stopped: return ExitStatus::ok;
    case client::AgentOutcome::End::superseded: return ExitStatus::conflict;
    case client::AgentOutcome::End::gave_up: return ExitStatus::gave_up;
    case client::AgentOutcome::End::refused: break;
  }
  return outcome.error.kind == Error::Kind::bad_input ? ExitStatus::config : exit_status(outcome.error.kind);
}

client::ClientReport::Parts report_parts(const client::AgentSettings& settings, const Session& session,
                                         const client::ServerSettings& server) {
  client::ClientReport::Parts parts;
  parts.state.kind = "agent";
  parts.state.id = settings.id;
  parts.state.server = http::shown_url(server.url);
  for (const auto& service : settings.services)
    parts.state.serves.push_back(service.name + "=" + service.target);
  parts.folder = client::client_state_folder(value_of(session, "XDG_RUNTIME_DIR"));
  parts.manager = systemd::ServiceManager::from_environment();
  return parts;
}

client::ClientFigures figures_of(const client::Agent& agent, client::PingHistory& pings) {
  pings.look(agent.vitals());
  const auto& counts = agent.counts();
  client::ClientFigures now{.streams = counts.sessions_now};
  now.bytes_in = counts.bytes_in;
  now.bytes_out = counts.bytes_out;
  now.quality = pings.quality();
  return now;
}

/// Until it is over for good; SIGTERM and Ctrl-C end it in good order.
client::AgentOutcome serve(asio::io_context& io, client::Agent& agent, client::ClientReport& report,
                           const std::stop_token& stop) {
  client::AgentOutcome outcome;
  std::exception_ptr bug;
  asio::co_spawn(io, agent.run(), [&](std::exception_ptr error, client::AgentOutcome how) {
    bug = std::move(error);
    outcome = std::move(how);
    io.stop();
  });
  const std::stop_callback ends(stop, [&] {
    asio::post(io, [&] {
      report.stopping("stopping");
      agent.stop();
    });
  });
  io.run();
  if (bug) std::rethrow_exception(bug);
  return outcome;
}

struct StopMetrics {
  std::unique_ptr<client::AgentMetrics>& metrics;
  ~StopMetrics() {
    if (metrics) metrics->stop();
  }
};

/// What is wrong with the command line or this machine, before anything connects.
Result<client::AgentSettings> settings_of(const Agent& options, const client::Login& login,
                                          const client::Resolved& client, const Session& session) {
  client::AgentSettings settings;
  settings.id = options.id;
  if (!client::is_agent_id(options.id))
    return fail(
        Error::Kind::bad_input,
        "--id: an agent's name has 1 to 63 small letters, digits and hyphens, as in laptop or room-4");
  auto services = client::parse_agent_services(options.services);
  if (!services) return tl::unexpected(services.error());
  settings.services = std::move(*services);
  settings.user = login.user;
  settings.connections = options.connections;
  settings.unattended =
      session.variable("NOTIFY_SOCKET") != nullptr || session.variable("INVOCATION_ID") != nullptr;
  const auto attempts = attempts_of(options.retry, settings.unattended, client);
  if (!attempts) return tl::unexpected(attempts.error());
  settings.backoff = client::backoff_of(client.settings);
  settings.backoff.max_attempts = *attempts;
  // Machines that start together must not all call in the same instant.
  if (settings.unattended) settings.first = client::Backoff::First::spread;
  return settings;
}

/// Of --server-key, else TUNNEL_SERVER_KEY, which may name several with spaces between them.
Result<std::vector<std::string>> server_keys_of(const Agent& options, const Session& session) {
  auto keys = options.server_keys;
  if (keys.empty()) {
    std::istringstream words(value_of(session, "TUNNEL_SERVER_KEY"));
    for (std::string word; words >> word;) keys.push_back(word);
  }
  for (const auto& key : keys)
    if (!client::is_fingerprint(key))
      return fail(Error::Kind::bad_input,
                  "--server-key: \"" + key.substr(0, 100) +
                      "\" is no fingerprint; it is SHA256: and 43 characters, as tunneld ssh-key | "
                      "ssh-keygen -lf - prints it");
  return keys;
}

Result<ExitStatus> run(const Agent& options, Session& session) {
  const auto login = client::login_of_this_process();
  if (!login) return refuse(session, ExitStatus::config, login.error().message);
  const auto client = client_settings(session, *options.client);
  if (!client) return tl::unexpected(client.error());
  auto settings = settings_of(options, *login, *client, session);
  if (!settings) return refuse(session, ExitStatus::usage, settings.error().message);
  const auto server_keys = server_keys_of(options, session);
  if (!server_keys) return refuse(session, ExitStatus::usage, server_keys.error().message);
  auto server = session.server(options.server);
  if (!server) return tl::unexpected(server.error());
  const auto folder = folder_of(options, session);
  if (!folder) return refuse(session, ExitStatus::config, folder.error().message);
  const auto sshd = prepare_sshd(options, *settings, *login, *folder, session);
  if (!sshd) {
    const bool missing = sshd.error().kind == Error::Kind::unavailable;
    return refuse(session, missing ? ExitStatus::unavailable : ExitStatus::config, sshd.error().message);
  }
  settings->host_key = sshd->host_key();
  const auto most = client->settings.log_level;
  const auto say = [&session, most](logging::Level level, std::string_view message, logging::Fields fields) {
    if (level <= most) tell(session, level, message, fields);
  };
  say(logging::Level::debug, "settings",
      {{"profile", client->value("profile").text},
       {"retry",
        settings->backoff.max_attempts ? std::to_string(*settings->backoff.max_attempts) : "forever"},
       {"base_delay", client->value("base_delay").text}});
  if (login->root)
    say(logging::Level::warn, "run the agent as an ordinary user: its sshd runs as root now", {});

  std::unique_ptr<client::AgentMetrics> metrics;
  asio::io_context io(1);
  const StopMetrics stop_metrics{metrics};
  auto parts = report_parts(*settings, session, *server);
  auto world = client::agent_world(io, std::move(*server), *sshd, *folder, session.stop, say, *server_keys);
  std::optional<client::ClientReport> report;
  world.on_state = [&report](const client::StateChange& change) { report->on_state(change); };
  world.on_attempt = [&report](const client::Attempt& attempt) { report->on_attempt(attempt); };
  client::Agent agent(io, std::move(*settings), std::move(world));
  client::PingHistory pings;
  parts.figures = [&agent, &pings] { return figures_of(agent, pings); };
  report.emplace(io, std::move(parts));
  if (const auto started = report->start(); !started)
    say(logging::Level::warn, "no state for tunnelctl status", {{"why", started.error().message}});
  if (!options.metrics.empty()) {
    auto started = client::AgentMetrics::start(io, options.metrics, [&agent] { return agent.counts(); });
    if (!started) return refuse(session, ExitStatus::config, started.error().message);
    metrics = std::move(*started);
    say(logging::Level::info, "metrics", {{"port", metrics->port()}});
  }
  const auto outcome = serve(io, agent, *report, session.stop);
  if (outcome.end == client::AgentOutcome::End::stopped) {
    say(logging::Level::info, "stopped", {});
    return ExitStatus::ok;
  }
  return refuse(session, status_of(outcome), outcome.error.message);
}

}  // namespace

void add_agent(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Agent>();
  auto& verb = add_verb(
      app, chosen, "agent",
      "Makes services of this machine and its network reachable through tunneld, without an open port",
      "  tunnelctl agent --server wss://tunnel.example.org --id laptop --service ollama=127.0.0.1:11434\n"
      "  tunnelctl agent --id nas --service ssh=127.0.0.1:22 --service web=192.168.1.4:80 --retry forever\n"
      "  tunnelctl agent --id nas --service web=192.168.1.4:80 --connections 2\n"
      "  systemctl --user enable --now tunnelctl-agent   # see deploy/systemd",
      options);
  verb.add_option("--server", options->server,
                  "tunneld's address (TUNNEL_SERVER, or the context's server_url)")
      ->type_name("URL");
  verb.add_option("--id", options->id, "what this agent is called; tunneld binds its host key to the name")
      ->type_name("NAME")
      ->required();
  verb.add_option("--service", options->services,
                  "a service by name, and where it is from here; may be repeated")
      ->type_name("NAME=HOST:PORT")
      ->allow_extra_args(false)
      ->required();
  verb.add_option(
          "--retry", options->retry,
          "attempts in a row before it gives up, or forever; default 10 or the profile's, under systemd "
          "forever (TUNNEL_RETRY)")
      ->type_name("NUMBER|forever");
  add_client_options(verb, options->client, {"profile", "base_delay", "log_level"});
  verb.add_option("--connections", options->connections,
                  "control connections to hold, so that one which leads nowhere is no matter")
      ->type_name("1..4")
      ->check(CLI::Range(1, 4));
  verb.add_option("--metrics", options->metrics, "serve Prometheus metrics at this loopback address")
      ->type_name("HOST:PORT");
  verb.add_option("--state-dir", options->state_dir,
                  "folder for the agent's keys; default ~/.local/state/tunnelctl/agents/NAME")
      ->type_name("FOLDER");
  verb.add_option("--server-key", options->server_keys,
                  "fingerprint of tunneld's SSH key, in place of the one that this agent saw first; may be "
                  "repeated (TUNNEL_SERVER_KEY)")
      ->type_name("SHA256:...")
      ->allow_extra_args(false);
  verb.add_option("--sshd", options->sshd, "OpenSSH's server, where it is not found by itself")
      ->type_name("FILE");
}

}  // namespace tunnelctl
