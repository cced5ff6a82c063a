#include <chrono>
#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/refresh.h"
#include "tunnelctl/commands/top_view.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kUsers = 10;

struct Top {
  double interval = 1;
  std::size_t iterations = 0;
  bool once = false;
};

/// Asks again and again, and remembers what rates need.
class Looker {
 public:
  explicit Looker(const daemon::Admin& admin) : admin_(admin) {}

  Result<TopView> look() {
    auto now = daemon::read_overview(admin_);
    if (!now) return tl::unexpected(now.error());
    const auto at = Clock::now();
    TopView view{.url = admin_.url(), .now = std::move(*now)};
    if (before_) view.rates = daemon::rates_between(*before_, view.now, at - at_);
    if (view.now.with_token)
      if (auto done = add_lists(view, at); !done) return tl::unexpected(done.error());
    before_ = view.now;
    at_ = at;
    return view;
  }
  void forget() {
    before_.reset();
    connections_.clear();
  }

 private:
  Result<void> add_lists(TopView& view, Clock::time_point at) {
    const auto connections = admin_.connections();
    if (!connections) return tl::unexpected(connections.error());
    view.connections = daemon::connections_of(*connections);
    if (before_) daemon::add_rates(view.connections, connections_, at - at_);
    connections_ = view.connections;
    sort_busiest_first(view.connections);
    auto breakers = admin_.breakers();
    if (breakers) {
      for (auto& one : *breakers)
        if (one.state != "closed") view.breakers.push_back(std::move(one));
    } else if (!is_page_of_later(breakers.error())) {
      return tl::unexpected(breakers.error());
    }
    const auto users = admin_.users(kUsers);
    if (users)
      view.users = daemon::users_of(*users);
    else if (!is_page_of_later(users.error()))
      return tl::unexpected(users.error());
    return {};
  }

  /// A daemon that is older than this program lacks pages.
  static bool is_page_of_later(const Error& error) { return error.kind == Error::Kind::not_found; }

  const daemon::Admin& admin_;
  std::optional<daemon::Overview> before_{};
  std::vector<daemon::Connected> connections_{};
  Clock::time_point at_{};
};

std::vector<std::string> shown(const TopView& view, const Refresh& refresh, const Session& session) {
  if (!session.json()) return top_lines(view, refresh.rows(), session.coloured());
  const int indent = -1;
  return {top_json(view).dump(indent, ' ', false, daemon::Json::error_handler_t::replace)};
}

Result<ExitStatus> run(const Top& options, Session& session) {
  const auto admin = session.tunnel();
  if (!admin) return tl::unexpected(admin.error());
  Looker looker(*admin);
  // What would end at once should not flash a screen.
  auto view = looker.look();
  if (!view) return tl::unexpected(view.error());
  const std::size_t most = options.once ? 1 : options.iterations;
  const std::chrono::milliseconds interval(static_cast<std::int64_t>(options.interval * 1000));
  Refresh refresh(session);
  for (std::size_t count = 1;; ++count) {
    if (view) {
      refresh.show(shown(*view, refresh, session));
    } else {
      looker.forget();
      const auto why = terminal::harmless(view.error().message);
      if (session.json())
        refresh.show({daemon::Json{{"url", admin->url()}, {"serving", false}, {"error", why}}.dump()});
      else
        refresh.show({why});
    }
    if (count == most) return ExitStatus::ok;
    if (!refresh.wait(interval)) return ended_by_person(session);
    view = looker.look();
    if (session.stop.stop_requested()) return ended_by_person(session);
    if (!view && view.error().kind == Error::Kind::denied) return tl::unexpected(view.error());
  }
}

}  // namespace

void add_top(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<Top>();
  auto& verb = add_verb(app, chosen, "top", "Watches connections, rates, latency, queue and breakers live",
                        "  tunnelctl top                     # q quits\n"
                        "  tunnelctl top --iterations 5 --output json | jq .requests.perSecond",
                        options);
  verb.add_option("--interval", options->interval, "between two refreshes")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3'600.0))
      ->capture_default_str();
  auto* iterations = verb.add_option("--iterations", options->iterations, "end after so many refreshes")
                         ->type_name("NUMBER")
                         ->check(CLI::PositiveNumber);
  verb.add_flag("--once", options->once, "one refresh, without rates")->excludes(iterations);
}

}  // namespace tunnelctl
