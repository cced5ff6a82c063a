#include "tunnelctl/commands/incident_context.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <ostream>
#include <utility>

#include "tunnelctl/commands/incident_settings.h"
#include "tunnelctl/commands/incident_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/sources.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/grafana/annotations.h"
#include "tunnelctl/grafana/dashboards.h"
#include "tunnelctl/grafana/datasources.h"
#include "tunnelctl/incident/detect.h"
#include "tunnelctl/incident/timeline.h"
#include "tunnelctl/prometheus/direct.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

using Changes = std::vector<incident::Sources::Change>;

struct IncidentEnrich {
  IncidentFlags flags{};
  std::string id{};
  bool dry_run = false;
};
struct IncidentTimeline {
  IncidentFlags flags{};
  std::string id{};
  std::filesystem::path file{};
};

constexpr std::uint64_t kEvents = 500;  // the newest that are looked at for changes

/// The only one of that type, or its default; "" when neither is there.
std::string uid_of(const std::vector<grafana::Datasource>& all, std::string_view type) {
  std::string only;
  std::size_t count = 0;
  for (const auto& one : all) {
    if (one.type != type) continue;
    if (one.is_default) return one.uid;
    only = one.uid;
    ++count;
  }
  return count == 1 ? only : std::string();
}

Result<Changes> annotated(grafana::Server& server, const std::vector<std::string>& tags, times::Range range) {
  auto found = grafana::list_annotations(
      server, {.range = range, .tags = tags, .any_tag = true, .type = "annotation", .limit = 100});
  if (!found) return tl::unexpected(found.error());
  Changes changes;
  for (const auto& one : found->items) {
    std::string text = one.text;
    for (const auto& tag : one.tags) text += " #" + tag;
    changes.push_back({.at = one.time, .text = std::move(text)});
  }
  return changes;
}

/// What an operator or a start changed, as tunneld itself has it.
Result<Changes> told_by(const daemon::Admin& admin, times::Range range) {
  const auto ends = admin.events(0, 1);
  if (!ends) return tl::unexpected(ends.error());
  const auto page = admin.events(ends->last > kEvents ? ends->last - kEvents : 0, kEvents);
  if (!page) return tl::unexpected(page.error());
  Changes changes;
  for (const auto& event : page->events) {
    constexpr std::array kKinds{"config.changed", "started", "draining", "stopped"};
    if (std::find(kKinds.begin(), kKinds.end(), event.kind) == kKinds.end()) continue;
    const auto at = times::moment(event.time, range.to);
    if (!at || *at < range.from || *at > range.to) continue;
    std::string text = "tunneld: " + event.kind;
    for (const auto& [name, value] : event.data.items())
      text += " " + name + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
    changes.push_back({.at = *at, .text = std::move(text)});
  }
  return changes;
}

}  // namespace

Result<incident::EnrichmentOptions> enrichment_options(Session& session) {
  const auto settings = incident_settings(session);
  if (!settings) return tl::unexpected(settings.error());
  const auto context = session.context();
  if (!context) return tl::unexpected(context.error());
  const auto& said = settings->enrichment;
  incident::EnrichmentOptions options;
  options.deadline = said.deadline;
  options.window = said.window;
  options.max_bytes = said.max_bytes;
  options.redact_addresses = said.redact_addresses;
  options.streams = said.streams;
  if (*context) options.runbook_url = (*context)->runbook_url;
  if (settings->questions.empty()) return options;
  options.questions.clear();
  using Kind = incident::Question::Kind;
  for (const auto& one : settings->questions)
    options.questions.push_back({.kind = one.kind == "table"      ? Kind::table
                                         : one.kind == "logs"     ? Kind::logs
                                         : one.kind == "patterns" ? Kind::patterns
                                                                  : Kind::metric,
                                 .name = one.name,
                                 .expr = one.expr,
                                 .unit = one.unit,
                                 .kinds = one.kinds});
  if (auto good = incident::check_questions(options.questions); !good) {
    session.configuration_is_wrong = true;
    return fail(good.error().kind, session.configuration_path().string() + ": " + good.error().message);
  }
  return options;
}

/// A stop that comes at `end`, unless what it is for is found by then, and with that of everything.
class EnrichmentSources::LookUp {
 public:
  LookUp(std::stop_token all, std::chrono::steady_clock::time_point end)
      : all_(std::move(all), [this] { stop_.request_stop(); }),
        clock_([this, end](const std::stop_token& done) {
          std::mutex mutex;
          std::condition_variable_any changed;
          std::unique_lock lock(mutex);
          changed.wait_until(lock, done, end, [] { return false; });
          if (!done.stop_requested()) stop_.request_stop();
        }) {}

  std::stop_token token() const { return stop_.get_token(); }
  /// False when it was too late.
  bool found() {
    clock_.request_stop();
    clock_.join();
    return !stop_.stop_requested();
  }

 private:
  std::stop_source stop_{};
  std::stop_callback<std::function<void()>> all_;
  std::jthread clock_;
};

EnrichmentSources::EnrichmentSources(Session& session, std::chrono::milliseconds deadline,
                                     std::stop_token stop)
    : outer_(std::move(stop), [this] { stop_.request_stop(); }),
      begin_(std::chrono::steady_clock::now()),
      end_(begin_ + deadline),
      looked_(begin_ + deadline / 3),
      watchdog_([this](const std::stop_token& done) {
        std::mutex mutex;
        std::condition_variable_any changed;
        std::unique_lock lock(mutex);
        changed.wait_until(lock, done, end_, [] { return false; });
        if (!done.stop_requested()) stop_.request_stop();
      }) {
  sources_.give_up = [this] { stop_.request_stop(); };
  const auto was_stop = session.stop;
  const auto was_globals = session.globals;
  const bool was_wrong = session.configuration_is_wrong;
  session.stop = stop_.get_token();
  const auto seconds = std::chrono::duration<double>(deadline).count();
  if (session.globals.timeout_seconds <= 0 || session.globals.timeout_seconds > seconds)
    session.globals.timeout_seconds = seconds;
  find(session);
  session.stop = was_stop;
  session.globals = was_globals;
  session.configuration_is_wrong = was_wrong;
}

EnrichmentSources::~EnrichmentSources() = default;

std::chrono::milliseconds EnrichmentSources::left() const {
  const auto left = std::chrono::floor<std::chrono::milliseconds>(end_ - std::chrono::steady_clock::now());
  return std::max(left, std::chrono::milliseconds(1));
}

template <class Found, class Ask>
Result<Found> EnrichmentSources::look_up(Session& session, const Ask& ask) {
  auto& look = *look_ups_.emplace_back(std::make_unique<LookUp>(stop_.get_token(), looked_));
  session.stop = look.token();
  Result<Found> found = ask(session);
  session.stop = stop_.get_token();
  if (look.found()) return found;
  if (!found && found.error().kind != Error::Kind::cancelled) return found;
  const auto connection = session.connection();
  return fail(Error::Kind::unavailable,
              (connection ? connection->url : std::string("Grafana")) + ": no answer within " +
                  times::duration_text(std::chrono::floor<std::chrono::milliseconds>(looked_ - begin_)));
}

void EnrichmentSources::find(Session& session) {
  // Nobody is asked for these now.
  add_events(session);
  find_metrics(session);
  find_logs(session);
  const auto settings = incident_settings(session);
  if (session.names_grafana() && settings)
    add_grafana(session, settings->enrichment.dashboard, settings->enrichment.change_tags);
}

void EnrichmentSources::find_metrics(Session& session) {
  auto found = look_up<prometheus::Server>(session, [](Session& it) { return metric_source(it); });
  if (!found)
    if (auto straight = straight_to_prometheus(session); straight && *straight) {
      (*straight)->server = "Prometheus";
      if (auto way = prometheus::Direct::make(std::move(**straight), stop_.get_token()))
        found = prometheus::Server(std::move(*way));
    }
  if (found)
    sources_.metrics = &metrics_.emplace(std::move(*found));
  else
    sources_.metrics_missing = found.error().message;
}

void EnrichmentSources::find_logs(Session& session) {
  auto found = look_up<prometheus::Loki>(session, [](Session& it) { return log_source(it); });
  if (!found)
    if (auto straight = straight_to_loki(session); straight && *straight) {
      (*straight)->server = "Loki";
      if (auto way = prometheus::Direct::make(std::move(**straight), stop_.get_token()))
        found = prometheus::Loki(std::move(*way));
    }
  if (found)
    sources_.logs = &logs_.emplace(std::move(*found));
  else
    sources_.logs_missing = found.error().message;
}

void EnrichmentSources::add_grafana(Session& session, const std::string& dashboard,
                                    const std::vector<std::string>& tags) {
  auto made = session.grafana();
  if (!made) return;  // the sources that go through it say why
  if (!tags.empty())
    sources_.changes.push_back({.name = "Grafana's annotations",
                                .ask = [server = std::make_shared<grafana::Server>(std::move(*made)), tags](
                                           times::Range range) { return annotated(*server, tags, range); }});
  const auto linked = look_up<bool>(session, [&](Session& it) -> Result<bool> {
    auto server = it.grafana();
    if (!server) return tl::unexpected(server.error());
    const auto all = grafana::list_datasources(*server);
    if (!all) return tl::unexpected(all.error());
    sources_.grafana_url = server->public_url();
    sources_.metrics_uid = uid_of(all->items, "prometheus");
    sources_.logs_uid = uid_of(all->items, "loki");
    // A link to a dashboard that is not there helps nobody.
    if (!dashboard.empty() && grafana::read_dashboard(*server, dashboard)) sources_.dashboard_uid = dashboard;
    return true;
  });
  (void)linked;  // there are fewer links then
}

void EnrichmentSources::add_events(Session& session) {
  auto made = session.tunnel();
  if (!made || !made->has_token()) return;
  const auto admin = std::make_shared<const daemon::Admin>(std::move(*made));
  sources_.changes.push_back(
      {.name = "tunneld's events", .ask = [admin](times::Range range) { return told_by(*admin, range); }});
}

incident::Enrichment enriched(const incident::Subject& subject, const incident::EnrichmentOptions& options,
                              Session& session, std::stop_token stop) {
  const EnrichmentSources sources(session, options.deadline, stop);
  auto left = options;
  left.deadline = sources.left();
  return incident::enrich(subject, left, sources.sources(), std::move(stop));
}

namespace {

Result<ExitStatus> run(const IncidentEnrich& options, Session& session) {
  const auto how = enrichment_options(session);
  if (!how) return tl::unexpected(how.error());
  const auto choice =
      incident_backend(options.flags, session, options.dry_run ? Access::read : Access::write);
  if (!choice) return tl::unexpected(choice.error());
  const auto incident = choice->backend->read(options.id);
  if (!incident) return tl::unexpected(incident.error());
  const auto context = enriched(incident::subject_of(*incident), *how, session, session.stop);
  if (session.stop.stop_requested())
    return fail(Error::Kind::cancelled, "stopped; incident " + options.id + " is as it was");
  if (!options.dry_run) {
    const auto at = now();
    const auto noted = choice->backend->note(
        options.id, {.key = "enrich/" + times::text(at), .at = at, .body = context.markdown});
    if (!noted) return tl::unexpected(noted.error());
  }
  if (session.json()) {
    Json links = Json::array();
    for (const auto& one : context.attachments) links.push_back({{"url", one.url}, {"caption", one.caption}});
    session.out << pretty({{"id", options.id},
                           {"noted", !options.dry_run},
                           {"markdown", context.markdown},
                           {"links", std::move(links)},
                           {"problems", context.problems}});
  } else {
    std::string_view rest = context.markdown;
    while (!rest.empty()) {
      const auto end = std::min(rest.find('\n'), rest.size());
      session.out << terminal::harmless(rest.substr(0, end)) << '\n';
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  for (const auto& problem : context.problems) session.warn(terminal::harmless(problem));
  session.say(terminal::harmless("incident " + options.id + ": " +
                                 (options.dry_run ? "nothing was added (--dry-run)" : "noted")));
  return ExitStatus::ok;
}

Result<ExitStatus> run(const IncidentTimeline& options, Session& session) {
  const auto choice = incident_backend(options.flags, session, Access::read);
  if (!choice) return tl::unexpected(choice.error());
  const auto incident = choice->backend->read(options.id);
  if (!incident) return tl::unexpected(incident.error());
  const auto text = incident::timeline(*incident, now());
  if (!options.file.empty()) {
    if (auto written = write_file(options.file, text); !written) return tl::unexpected(written.error());
    if (session.json()) session.out << pretty({{"id", options.id}, {"file", options.file.string()}});
    session.say(terminal::harmless("incident " + options.id + ": written to " + options.file.string()));
  } else if (session.json()) {
    session.out << pretty({{"id", options.id}, {"markdown", text}});
  } else {
    session.out << text;
  }
  return ExitStatus::ok;
}

void add_id(CLI::App& verb, std::string& id, IncidentFlags& flags) {
  verb.add_option("id", id, "as tunnelctl incident list shows it")->required()->type_name("ID");
  add_backend_options(verb, flags);
}

}  // namespace

void add_incident_context(CLI::App& group, Chosen& chosen) {
  {
    auto options = std::make_shared<IncidentEnrich>();
    auto& verb =
        add_verb(group, chosen, "enrich", "Finds out what is known of an incident, and adds that as a note",
                 "  tunnelctl incident enrich inc-7\n"
                 "  tunnelctl incident enrich inc-7 --dry-run --output json | jq '.problems'",
                 options);
    add_id(verb, options->id, options->flags);
    verb.add_flag("--dry-run", options->dry_run, "show the note, and add nothing");
  }
  {
    auto options = std::make_shared<IncidentTimeline>();
    auto& verb =
        add_verb(group, chosen, "timeline",
                 "Prints the beginning of a post-mortem: facts, durations and the timeline filled in",
                 "  tunnelctl incident timeline inc-7 --out inc-7.md\n"
                 "  tunnelctl incident timeline inc-7 | less",
                 options);
    add_id(verb, options->id, options->flags);
    verb.add_option("--out", options->file, "write it there, and nothing to standard output")
        ->type_name("FILE");
  }
}

}  // namespace tunnelctl
