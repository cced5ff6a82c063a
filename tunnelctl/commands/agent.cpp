#include <charconv>
#include <ostream>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "common/log_format.h"
#include "tunnelctl/client/agent.h"
#include "tunnelctl/client/agent_metrics.h"
#include "tunnelctl/client/agent_state.h"
#include "tunnelctl/client/agent_world.h"
#include "tunnelctl/client/server.h"
#include "tunnelctl/client/sshd.h"
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

/// nullopt: for ever.
Result<std::optional<unsigned>> attempts_of(const std::string& text, bool unattended) {
  if (text.empty()) return unattended ? std::optional<unsigned>() : std::optional<unsigned>(10);
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

/// Until it is over for good; SIGTERM and Ctrl-C end it in good order.
client::AgentOutcome serve(asio::io_context& io, client::Agent& agent, const std::stop_token& stop) {
  client::AgentOutcome outcome;
  std::exception_ptr bug;
  asio::co_spawn(io, agent.run(), [&](std::exception_ptr error, client::AgentOutcome how) {
    bug = std::move(error);
    outcome = std::move(how);
    io.stop();
  });
  const std::stop_callback ends(stop, [&] { asio::post(io, [&agent] { agent.stop(); }); });
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
                                          const Session& session) {
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
  settings.unattended =
      session.variable("NOTIFY_SOCKET") != nullptr || session.variable("INVOCATION_ID") != nullptr;
  const auto attempts = attempts_of(options.retry, settings.unattended);
  if (!attempts) return tl::unexpected(attempts.error());
  settings.backoff.max_attempts = *attempts;
  // Machines that start together must not all call in the same instant.
  if (settings.unattended) settings.first = client::Backoff::First::spread;
  return settings;
}

Result<ExitStatus> run(const Agent& options, Session& session) {
  const auto login = client::login_of_this_process();
  if (!login) return refuse(session, ExitStatus::config, login.error().message);
  auto settings = settings_of(options, *login, session);
  if (!settings) return refuse(session, ExitStatus::usage, settings.error().message);
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
  const auto say = [&session](logging::Level level, std::string_view message, logging::Fields fields) {
    tell(session, level, message, fields);
  };
  if (login->root)
    say(logging::Level::warn, "run the agent as an ordinary user: its sshd runs as root now", {});

  std::unique_ptr<client::AgentMetrics> metrics;
  asio::io_context io(1);
  const StopMetrics stop_metrics{metrics};
  client::Agent agent(io, std::move(*settings),
                      client::agent_world(io, std::move(*server), *sshd, *folder, session.stop, say));
  if (!options.metrics.empty()) {
    auto started = client::AgentMetrics::start(io, options.metrics, [&agent] { return agent.counts(); });
    if (!started) return refuse(session, ExitStatus::config, started.error().message);
    metrics = std::move(*started);
    say(logging::Level::info, "metrics", {{"port", metrics->port()}});
  }
  const auto outcome = serve(io, agent, session.stop);
  if (outcome.end == client::AgentOutcome::End::stopped) {
    say(logging::Level::info, "stopped", {});
    return ExitStatus::ok;
  }
  const auto* gave_up = outcome.end == client::AgentOutcome::End::gave_up ? "gave up: " : "";
  return refuse(session, status_of(outcome), gave_up + outcome.error.message);
}

}  // namespace

void add_agent(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Agent>();
  auto& verb = add_verb(
      app, chosen, "agent",
      "Makes services of this machine and its network reachable through tunneld, without an open port",
      "  tunnelctl agent --server wss://tunnel.example.org --id laptop --service ollama=127.0.0.1:11434\n"
      "  tunnelctl agent --id nas --service ssh=127.0.0.1:22 --service web=192.168.1.4:80 --retry forever\n"
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
  verb.add_option("--retry", options->retry,
                  "attempts in a row before it gives up, or forever; default 10, under systemd forever")
      ->type_name("NUMBER|forever");
  verb.add_option("--connections", options->connections, "connections to hold; one is used as yet")
      ->type_name("1..4")
      ->check(CLI::Range(1, 4));
  verb.add_option("--metrics", options->metrics, "serve Prometheus metrics at this loopback address")
      ->type_name("HOST:PORT");
  verb.add_option("--state-dir", options->state_dir,
                  "folder for the agent's keys; default ~/.local/state/tunnelctl/agents/NAME")
      ->type_name("FOLDER");
  verb.add_option("--sshd", options->sshd, "OpenSSH's server, where it is not found by itself")
      ->type_name("FILE");
}

}  // namespace tunnelctl
