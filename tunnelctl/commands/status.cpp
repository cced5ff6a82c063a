#include <algorithm>
#include <chrono>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/refresh.h"
#include "tunnelctl/commands/status_clients.h"
#include "tunnelctl/commands/status_view.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/screen.h"

namespace tunnelctl {
namespace {

using Clock = std::chrono::steady_clock;

struct Status {
  bool clients = false;
  bool watch = false;
  double interval = 1;
};

std::chrono::milliseconds in_ms(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

/// Of a folder that cannot be read nobody wants to hear who asks for tunneld.
ClientStates own_clients(const Session& session) {
  return running_clients(session).value_or(ClientStates());
}

daemon::Json json_of(const Session& session, const std::string& url, const daemon::Overview& now,
                     const std::optional<daemon::Rates>& rates) {
  auto json = status_json(url, now, rates);
  json.update(clients_json(own_clients(session)));
  return json;
}

std::vector<std::string> shown(const Session& session, const std::string& url, const daemon::Overview& now,
                               const std::optional<daemon::Rates>& rates) {
  if (session.json())
    return {json_of(session, url, now, rates).dump(-1, ' ', false, daemon::Json::error_handler_t::replace)};
  auto lines = status_lines(url, now, rates, session.coloured());
  const auto clients = client_lines(own_clients(session), session.coloured());
  lines.insert(lines.end(), clients.begin(), clients.end());
  return lines;
}

/// Whether the person said which tunneld; else it is the one of this machine, which need not be there where
/// only clients run.
bool names_tunneld(Session& session) {
  if (!session.globals.admin_url.empty() || session.variable("TUNNEL_ADMIN_URL") != nullptr) return true;
  const auto context = session.context();
  return context && *context && !(*context)->admin_url.empty();
}

ExitStatus status_of(const daemon::Overview& now) {
  return now.serving ? ExitStatus::ok : ExitStatus::failure;
}

Result<ExitStatus> watch(const Status& options, const daemon::Admin& admin, Session& session) {
  Refresh refresh(session);
  std::optional<daemon::Overview> before;
  auto at = Clock::now();
  do {
    const auto now = daemon::read_overview(admin);
    const auto then = Clock::now();
    if (now) {
      const auto rates = before ? daemon::rates_between(*before, *now, then - at) : std::nullopt;
      refresh.show(shown(session, admin.url(), *now, rates));
      before = *now;
      at = then;
      continue;
    }
    // Refused now is refused a second later, too; what is away may come back.
    if (now.error().kind == Error::Kind::denied) return tl::unexpected(now.error());
    if (session.stop.stop_requested()) break;
    before.reset();
    const auto why = terminal::harmless(now.error().message);
    if (session.json())
      refresh.show({daemon::Json{{"url", admin.url()}, {"serving", false}, {"error", why}}.dump()});
    else
      refresh.show({why});
  } while (refresh.wait(std::max(in_ms(options.interval), std::chrono::milliseconds(100))));
  return ended_by_person(session);
}

Result<ExitStatus> run(const Status& options, Session& session) {
  if (options.clients) return options.watch ? watch_clients(session) : show_clients(session);
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  if (options.watch) return watch(options, *admin, session);
  auto now = daemon::read_overview(*admin);
  if (!now && now.error().kind == Error::Kind::unavailable && !names_tunneld(session) &&
      !own_clients(session).empty())
    return show_clients(session);
  if (!now) return tl::unexpected(now.error());
  std::optional<daemon::Rates> rates;
  if (options.interval > 0) {
    const auto at = Clock::now();
    if (!terminal::pause(in_ms(options.interval), session.stop))
      return fail(Error::Kind::cancelled, "stopped");
    auto later = daemon::read_overview(*admin);
    if (!later) return tl::unexpected(later.error());
    rates = daemon::rates_between(*now, *later, Clock::now() - at);
    now = std::move(later);
  }
  if (session.json())
    session.out << json_of(session, admin->url(), *now, rates)
                       .dump(2, ' ', false, daemon::Json::error_handler_t::replace)
                << '\n';
  else
    for (const auto& line : shown(session, admin->url(), *now, rates)) session.out << line << '\n';
  if (!now->with_token) session.say(kWithoutToken);
  return status_of(*now);
}

}  // namespace

void add_status(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Status>();
  auto& verb = add_verb(app, chosen, "status",
                        "Shows whether tunneld serves, and how well; and the own connect and agent processes",
                        "  tunnelctl status\n"
                        "  TUNNEL_TOKEN_FILE=~/.config/tunnelctl/admin.token tunnelctl status --watch\n"
                        "  tunnelctl status --interval 0 --output json | jq .requests\n"
                        "  tunnelctl status --clients\n"
                        "  tunnelctl status --clients --watch --output json | jq -c '.clients[].state'",
                        options);
  verb.add_flag(
      "--clients", options->clients,
      "only this user's connect and agent processes on this machine; asks no tunneld. With --watch a "
      "line for each change");
  verb.add_flag("--watch", options->watch, "again and again, until q or Ctrl-C");
  verb.add_option("--interval", options->interval,
                  "over how long rates are measured, and with --watch between two looks; 0: no rates")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 3'600.0))
      ->capture_default_str();
}

}  // namespace tunnelctl
