#include <unistd.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/log.h"
#include "common/sd_notify.h"
#include "common/secret_file.h"
#include "tunnelctl/commands/incident_context.h"
#include "tunnelctl/commands/incident_settings.h"
#include "tunnelctl/commands/incident_verbs.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/incident/detect.h"
#include "tunnelctl/incident/watch.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

constexpr std::size_t kMaxSecret = 4096;

struct IncidentWatch {
  IncidentFlags flags{};
  bool no_events = false;
  bool no_context = false;
  std::string listen{};
  std::filesystem::path token_file{}, grafana_secret_file{}, certificate{}, key{}, state_dir{};
  std::string quiet{}, flap_window{}, agent_grace{}, daemon_grace{}, overload_grace{}, look_again{};
  std::string name{};
  std::string room_prefix{"incident"};
  std::vector<std::string> labels{};
  bool drill = false;
};

/// The writer of the log, for as long as the watch runs.
struct Log {
  Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log() { logging::stop(); }
};

incident::Time now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "localhost";
}

/// Which tunneld: a name that other machines would understand too, and that outlives restarts.
std::string source_of(const std::string& url) {
  const auto parsed = http::parse_url(url);
  if (!parsed) return url;
  const auto host = http::is_loopback(parsed->host) ? host_name() : parsed->host;
  return host + ":" + std::to_string(parsed->port);
}

/// An option, else what the configuration says.
Result<std::chrono::milliseconds> time_of(const std::string& text, const char* name,
                                          std::chrono::milliseconds otherwise) {
  if (text.empty()) return otherwise;
  if (text == "0" || text == "0s") return std::chrono::milliseconds(0);
  const auto read = times::duration(text);
  if (!read) return fail(Error::Kind::bad_input, std::string(name) + ": " + read.error().message);
  return *read;
}

std::filesystem::path first_of(const std::filesystem::path& flag, const std::filesystem::path& setting) {
  return flag.empty() ? setting : flag;
}

Result<std::filesystem::path> state_folder(const IncidentWatch& options, const IncidentSettings& settings,
                                           const Session& session) {
  if (const auto named = first_of(options.state_dir, settings.watch.state_dir); !named.empty())
    return std::filesystem::absolute(named);
  const auto variable = [&](const char* name) {
    const auto* found = session.variable(name);
    return found == nullptr ? std::filesystem::path() : std::filesystem::path(*found);
  };
  // Of a service; systemd makes it.
  if (const auto folder = variable("STATE_DIRECTORY"); folder.is_absolute()) return folder;
  if (const auto folder = variable("XDG_STATE_HOME"); folder.is_absolute())
    return folder / "tunnelctl" / "incident-watch";
  if (const auto home = variable("HOME"); home.is_absolute())
    return home / ".local" / "state" / "tunnelctl" / "incident-watch";
  return fail(Error::Kind::bad_input,
              "there is no place for what is not delivered yet: name a folder with --state-dir");
}

Result<Secret> secret_of(const std::filesystem::path& file, const char* setting) {
  if (file.empty()) return Secret();
  const auto text = read_secret_file(file.string(), kMaxSecret);
  if (!text) return fail(Error::Kind::bad_input, std::string(setting) + ": " + text.error().message);
  const auto line = text->reveal().substr(0, text->reveal().find_first_of("\r\n"));
  if (line.empty())
    return fail(Error::Kind::bad_input, std::string(setting) + ": " + file.string() + " is empty");
  return Secret(std::string(line));
}

Result<incident::DeskOptions> desk_options(const IncidentWatch& options, const IncidentSettings& settings,
                                           const std::string& source) {
  incident::DeskOptions desk;
  desk.source = terminal::harmless(source);
  desk.room_prefix = options.room_prefix;
  desk.drill = options.drill;
  struct Row {
    const std::string& text;
    const char* name;
    std::chrono::milliseconds otherwise;
    std::chrono::milliseconds& to;
  };
  const Row rows[] = {
      {options.quiet, "--quiet-for", settings.watch.quiet, desk.quiet},
      {options.flap_window, "--flap-window", settings.watch.flap_window, desk.flap_window},
      {options.agent_grace, "--agent-grace", settings.watch.agent_grace, desk.agent_grace},
      {options.daemon_grace, "--daemon-grace", settings.watch.daemon_grace, desk.daemon_grace},
      {options.overload_grace, "--overload-grace", settings.watch.overload_grace, desk.overload_grace}};
  for (const auto& row : rows) {
    const auto read = time_of(row.text, row.name, row.otherwise);
    if (!read) return tl::unexpected(read.error());
    row.to = *read;
  }
  for (const auto& text : options.labels.empty() ? settings.watch.labels : options.labels) {
    auto label = incident::label_of(text);
    if (!label) return tl::unexpected(label.error());
    desk.labels.push_back(std::move(*label));
  }
  return desk;
}

Result<std::optional<incident::ReceiverOptions>> receiver_options(const IncidentWatch& options,
                                                                  const IncidentSettings& settings,
                                                                  const Session& session) {
  incident::ReceiverOptions receiver;
  receiver.listen = options.listen.empty() ? settings.watch.listen : options.listen;
  if (receiver.listen.empty()) return std::optional<incident::ReceiverOptions>();
  auto token =
      secret_of(first_of(options.token_file, settings.watch.listen_token_file), "--listen-token-file");
  if (!token) return tl::unexpected(token.error());
  receiver.token = std::move(*token);
  auto grafana = secret_of(first_of(options.grafana_secret_file, settings.watch.grafana_secret_file),
                           "--grafana-secret-file");
  if (!grafana) return tl::unexpected(grafana.error());
  receiver.grafana_secret = std::move(*grafana);
  receiver.certificate = first_of(options.certificate, settings.watch.certificate_file);
  receiver.key = first_of(options.key, settings.watch.key_file);
  receiver.allow_plain = session.globals.allow_plain;
  return std::optional(std::move(receiver));
}

/// The backend, made when it is first needed and answers: a Grafana that is away at the start is no reason
/// not to watch.
class LateBackend final : public incident::Backend {
 public:
  using Make = std::function<Result<incident::Choice>()>;
  explicit LateBackend(Make make) : make_(std::move(make)) {}

  /// Fails for settings that make no sense. Why a backend that is away or refuses could not be made else, or
  /// "": a later call tries again.
  Result<std::string> begin() {
    if (choice_) return std::string();
    auto made = make_();
    if (made) {
      choice_ = std::move(*made);
      return std::string();
    }
    const auto kind = made.error().kind;
    if (kind != Error::Kind::unavailable && kind != Error::Kind::timed_out && kind != Error::Kind::denied)
      return tl::unexpected(made.error());
    return made.error().message;
  }
  std::string why() const { return choice_ ? choice_->why : std::string(); }

  std::string name() const override { return choice_ ? choice_->backend->name() : std::string(); }
  std::string place() const override { return choice_ ? choice_->backend->place() : std::string(); }
  Result<incident::Opened> open(const incident::Opening& opening) override {
    return call<incident::Opened>([&](Backend& backend) { return backend.open(opening); });
  }
  Result<incident::Listed> list(const incident::Filter& filter) override {
    return call<incident::Listed>([&](Backend& backend) { return backend.list(filter); });
  }
  Result<incident::Incident> read(const std::string& id) override {
    return call<incident::Incident>([&](Backend& backend) { return backend.read(id); });
  }
  void knows(const std::string& id, const incident::Opening& opening) override {
    if (const auto backend = real()) (*backend)->knows(id, opening);
  }
  Result<void> note(const std::string& id, const incident::Note& note) override {
    return call<void>([&](Backend& backend) { return backend.note(id, note); });
  }
  Result<incident::Incident> change(const std::string& id, const incident::Changes& changes) override {
    return call<incident::Incident>([&](Backend& backend) { return backend.change(id, changes); });
  }
  Result<incident::Incident> resolve(const std::string& id, const incident::Note& note) override {
    return call<incident::Incident>([&](Backend& backend) { return backend.resolve(id, note); });
  }

 private:
  Result<Backend*> real() {
    if (!choice_) {
      auto made = make_();
      if (!made) {
        auto why = made.error();
        // A secret's file that is gone keeps the call waiting; it says nothing of the call itself.
        if (why.kind != Error::Kind::unavailable && why.kind != Error::Kind::timed_out &&
            why.kind != Error::Kind::cancelled)
          why.kind = Error::Kind::denied;
        return tl::unexpected(std::move(why));
      }
      choice_ = std::move(*made);
    }
    return choice_->backend.get();
  }
  template <class T>
  Result<T> call(const std::function<Result<T>(Backend&)>& what) {
    const auto backend = real();
    if (!backend) return tl::unexpected(backend.error());
    auto answer = what(**backend);
    // With the next call the secrets are read anew: somebody may have renewed them.
    if (!answer && answer.error().kind == Error::Kind::denied) choice_.reset();
    return answer;
  }

  Make make_;
  std::optional<incident::Choice> choice_{};
};

/// "github, https://api.github.com/repos/o/r": what incidents' ids belong to, without asking anybody.
std::string home_of(const std::string& backend, const IncidentFlags& flags, const IncidentSettings& settings,
                    Session& session) {
  if (backend == "github") return backend + ", " + settings.github.url + " " + settings.github.repository;
  if (backend == "webhook") return backend + ", " + http::shown_url(settings.webhook.url);
  if (backend == "local") return backend + ", " + incident_database(flags, settings, session).string();
  if (backend == "pagerduty") return backend + ", " + settings.pagerduty.url;
  const auto connection = session.connection();
  return backend + ", " + (connection ? http::shown_url(connection->url) : std::string());
}

Result<void> start_log(const Session& session) {
  logging::Options log;
  log.output = session.json() ? "stdout" : "stderr";
  log.format = session.json() ? logging::Format::json : logging::Format::text;
  if (session.globals.quiet) log.level = logging::Level::warn;
  return logging::start(log);
}

Result<ExitStatus> run(const IncidentWatch& options, Session& session) {
  const auto settings = incident_settings(session);
  if (!settings) return tl::unexpected(settings.error());
  auto receiver = receiver_options(options, *settings, session);
  if (!receiver) return tl::unexpected(receiver.error());
  if (options.no_events && !*receiver)
    return refuse(session, ExitStatus::usage, "--no-events leaves nothing to watch without --listen");
  auto connection = session.tunnel_connection();
  if (!connection) return tl::unexpected(connection.error());
  if (!options.no_events) {
    const auto admin = daemon::Admin::make(*connection, session.stop);
    if (!admin) return tl::unexpected(admin.error());
    if (!admin->has_token())
      return refuse(
          session, ExitStatus::config,
          "tunneld's events need a token of scope tunnel:admin: set TUNNEL_TOKEN_FILE, or a context's "
          "admin_token_file; --no-events takes alerts alone");
  }
  auto desk =
      desk_options(options, *settings, options.name.empty() ? source_of(connection->url) : options.name);
  if (!desk) return tl::unexpected(desk.error());
  auto folder = state_folder(options, *settings, session);
  if (!folder) return tl::unexpected(folder.error());

  const auto questions = enrichment_options(session);
  if (!questions) return tl::unexpected(questions.error());

  auto flags = options.flags;
  if (flags.backend.empty()) flags.backend = settings->backend;
  // What was chosen once stays chosen: the incidents are there.
  if (flags.backend == "auto") {
    const auto kept = incident::WatchCore::kept_backend(*folder);
    if (!kept) return tl::unexpected(kept.error());
    if (!kept->empty()) flags.backend = *kept;
  }
  std::mutex sharing;  // a Session is for one thread at a time
  LateBackend backend([&] {
    const std::lock_guard lock(sharing);
    auto made = incident_backend(flags, session, Access::write);
    if (made) flags.backend = made->backend->name();  // and no other one later
    return made;
  });
  const auto context = session.context();
  if (!context) return tl::unexpected(context.error());
  const auto begun = backend.begin();
  if (!begun) return tl::unexpected(begun.error());
  if (!begun->empty() && *context && (*context)->read_only) return fail(Error::Kind::denied, *begun);
  const std::string chosen = flags.backend, chosen_why = backend.why();
  desk->reopens = chosen != "pagerduty";
  // There a note is another trigger, which pages when the incident was resolved by hand meanwhile.
  const bool notes_page = chosen == "pagerduty" &&
                          session.variable("TUNNELCTL_INCIDENT_PAGERDUTY_API_TOKEN") == nullptr &&
                          settings->pagerduty.api_token_file.empty();
  desk->tells_settings = !notes_page;
  const auto look_again = time_of(options.look_again, "--look-again", settings->watch.look_again);
  if (!look_again) return tl::unexpected(look_again.error());

  if (auto log = start_log(session); !log) return tl::unexpected(log.error());
  const Log log_end;
  if (!begun->empty())
    logging::error("incident", "the backend cannot be used yet, and is tried again", {{"why", *begun}});
  auto core = incident::WatchCore::open({.state_dir = *folder,
                                         .desk = *desk,
                                         .backend = home_of(chosen, flags, *settings, session),
                                         .backend_name = chosen,
                                         .now = now});
  if (!core) return tl::unexpected(core.error());
  incident::WatchOptions how;
  how.follow = !options.no_events;
  how.receiver = std::move(*receiver);
  how.look_again_after = notes_page ? std::chrono::milliseconds(0) : *look_again;
  how.probe_every =
      std::min(how.probe_every, std::max(desk->daemon_grace / 3, std::chrono::milliseconds(200)));
  const auto manager = systemd::ServiceManager::from_environment();
  incident::WatchParts parts;
  parts.backend = &backend;
  parts.now = now;
  parts.manager = &manager;
  parts.admin = [&](std::stop_token stop) { return daemon::Admin::make(*connection, std::move(stop)); };
  if (!options.no_context)
    parts.enrich = [&](const incident::Subject& subject, bool again, std::stop_token stop) {
      const auto own = [&] {
        const std::lock_guard lock(sharing);
        return std::make_unique<Session>(session);
      }();
      auto asked = *questions;
      asked.runbook = !again;  // it has not changed
      return enriched(subject, asked, *own, std::move(stop));
    };
  parts.started = [&](unsigned short port) {
    logging::info("incident", "watching",
                  {{"tunneld", options.no_events ? std::string("no") : connection->url},
                   {"source", desk->source},
                   {"backend", chosen_why.empty() ? chosen : chosen_why},
                   {"state", folder->string()},
                   {"port", port}});
  };
  const auto ended = incident::watch(**core, how, parts, session.stop);
  if (!ended) return tl::unexpected(ended.error());
  logging::info("incident", "stopped; what is not delivered stays in the outbox");
  return ExitStatus::ok;
}

}  // namespace

void add_incident_watch(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<IncidentWatch>();
  auto& verb = add_verb(
      group, chosen, "watch",
      "Opens and resolves incidents from tunneld's events and from alerts, as a service",
      "  tunnelctl incident watch --backend local\n"
      "  tunnelctl incident watch --backend grafana --listen 127.0.0.1:9465 --listen-token-file hook.token\n"
      "  tunnelctl incident watch --no-events --listen 127.0.0.1:9465 --output json",
      options);
  add_backend_options(verb, options->flags);
  verb.add_flag("--no-events", options->no_events, "do not follow tunneld; take alerts alone");
  verb.add_flag("--no-context", options->no_context, "incidents get no note with their context");
  verb.add_option(
          "--listen", options->listen,
          "take alerts at POST /alertmanager and /grafana there; serve /metrics, /healthz and /readyz")
      ->type_name("ADDR:PORT");
  verb.add_option("--listen-token-file", options->token_file, "the bearer token that senders of alerts show")
      ->type_name("FILE");
  verb.add_option("--grafana-secret-file", options->grafana_secret_file,
                  "the secret of the HMAC signature of Grafana's contact point, in place of the token")
      ->type_name("FILE");
  verb.add_option("--listen-certificate", options->certificate, "its certificate with the chain, PEM")
      ->type_name("FILE");
  verb.add_option("--listen-key", options->key, "the key of that certificate, PEM")->type_name("FILE");
  verb.add_option("--state-dir", options->state_dir,
                  "where what is not delivered yet is kept; default: incident-watch in the state folder")
      ->type_name("DIR");
  verb.add_option("--quiet-for", options->quiet,
                  "resolve only what has been well for that long; default: at once")
      ->type_name("TIME");
  verb.add_option("--flap-window", options->flap_window,
                  "what breaks again within that time goes on in the same incident; default: 10m")
      ->type_name("TIME");
  verb.add_option("--agent-grace", options->agent_grace, "an agent may be away that long; default: 60s")
      ->type_name("TIME");
  verb.add_option("--daemon-grace", options->daemon_grace, "tunneld may be away that long; default: 15s")
      ->type_name("TIME");
  verb.add_option("--overload-grace", options->overload_grace, "overload may last that long; default: 30s")
      ->type_name("TIME");
  verb.add_option("--look-again", options->look_again,
                  "tell the context of what still lasts once more after that long, 0: never; default: 2m")
      ->type_name("TIME");
  verb.add_option("--name", options->name,
                  "what this tunneld is called in incidents; default: its host and port")
      ->type_name("TEXT");
  verb.add_option("--label", options->labels, "a label of every incident: key=value; repeatable")
      ->type_name("LABEL")
      ->allow_extra_args(false);
  verb.add_option("--room-prefix", options->room_prefix, "prefix of the incidents' rooms")->type_name("TEXT");
  verb.add_flag("--drill", options->drill, "they are drills");
}

}  // namespace tunnelctl
