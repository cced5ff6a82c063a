#include <ostream>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/log_lines.h"
#include "tunnelctl/commands/log_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/query_span.h"
#include "tunnelctl/commands/series_view.h"
#include "tunnelctl/commands/sources.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

using prometheus::Order;

struct LogsQuery {
  std::string query{};
  QuerySpan span{};
  std::size_t limit = 100;
  bool forward = false;
  LineOptions shown{};
  SourceFlags source{};
};

struct LogsRange {
  std::string query{};
  QuerySpan span{};
  SeriesView view{};
  SourceFlags source{};
};

struct Listing {
  std::string selector{};
  QuerySpan span{};
  SourceFlags source{};
};
struct LogsLabels : Listing {};
struct LogsValues : Listing {
  std::string label{};
};
struct LogsStats : Listing {};

Json about(const prometheus::Loki& loki, const std::string& query, const prometheus::Range& range) {
  return {{"source", loki.name()},
          {"query", query},
          {"from", times::text(range.from)},
          {"to", times::text(range.to)}};
}

// Lines ------------------------------------------------------------------------------------------

/// One JSON object however many lines there are: its head when the first come, its end when all are there.
class LinesAsJson {
 public:
  LinesAsJson(const LinePrinter& printer, const Json& about, std::ostream& out)
      : printer_(printer), about_(about), out_(out) {}

  void add(const prometheus::LogLine& line) {
    out_ << (begun_ ? ",\n    " : head() + "\n    ") << text(printer_.json(line));
    begun_ = true;
  }
  void end(const prometheus::LinesRead& read) {
    out_ << (begun_ ? "\n  ]" : head() + "]");
    out_ << ",\n  \"shown\": " << read.lines << ",\n  \"more\": " << text(Json(read.more))
         << ",\n  \"warnings\": " << text(Json(read.warnings)) << "\n}\n";
  }

 private:
  static std::string text(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  std::string head() const {
    std::string result = "{";
    for (const auto& [name, value] : about_.items())
      result += "\n  " + text(Json(name)) + ": " + text(value) + ",";
    return result + "\n  \"lines\": [";
  }

  const LinePrinter& printer_;
  const Json& about_;
  std::ostream& out_;
  bool begun_ = false;
};

Result<ExitStatus> show_lines(const prometheus::Loki& loki, const LogsQuery& options,
                              const times::Range& range, Session& session) {
  const LinePrinter printer(options.shown, session.coloured());
  const Json told = about(loki, options.query, {.from = range.from, .to = range.to});
  LinesAsJson json(printer, told, session.out);
  const auto read = loki.lines({.expr = options.query,
                                .window = {.from = range.from, .to = range.to},
                                .order = options.forward ? Order::oldest_first : Order::newest_first,
                                .limit = options.limit},
                               [&](const std::vector<prometheus::LogLine>& page) {
                                 for (const auto& line : page) {
                                   if (session.json())
                                     json.add(line);
                                   else
                                     session.out << printer.text(line) << '\n';
                                 }
                                 return static_cast<bool>(session.out) && !session.stop.stop_requested();
                               });
  if (!read) return tl::unexpected(read.error());
  if (session.stop.stop_requested()) return fail(Error::Kind::cancelled, "interrupted");
  if (session.json()) json.end(*read);
  say_warnings(session, read->warnings);
  if (read->lines == 0)
    session.say("no lines in that time; tunnelctl logs labels lists what there is");
  else
    say_shown(session, read->lines, read->more, "line");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const LogsQuery& options, Session& session) {
  // Loki gives no line of the end itself.
  const bool lines = prometheus::asks_for_lines(options.query);
  const auto range = times::range(options.span.from, options.span.to, now(), "--from", "--to",
                                  lines ? times::Edge::behind : times::Edge::end);
  if (!range) return tl::unexpected(range.error());
  const auto loki = log_source(session, options.source);
  if (!loki) return tl::unexpected(loki.error());
  if (lines) return show_lines(*loki, options, *range, session);
  const auto data = loki->query(options.query, range->to);
  if (!data) return tl::unexpected(data.error());
  const Json told{{"source", loki->name()}, {"query", options.query}, {"at", times::text(range->to)}};
  show_instant(*data, {.limit = options.limit}, told, session);
  return ExitStatus::ok;
}

// Numbers ----------------------------------------------------------------------------------------

Result<ExitStatus> run(const LogsRange& options, Session& session) {
  if (auto fits = check(options.view, session); !fits) return tl::unexpected(fits.error());
  const auto range = range_of(options.span, "Loki");
  if (!range) return tl::unexpected(range.error());
  if (prometheus::asks_for_lines(options.query))
    return fail(
        Error::Kind::bad_input,
        "the query gives lines, not numbers: show them with tunnelctl logs query, or count them, as in "
        "'sum(count_over_time({app=\"api\"}[5m]))'");
  const auto loki = log_source(session, options.source);
  if (!loki) return tl::unexpected(loki.error());
  const auto data = loki->query_range(options.query, *range);
  if (!data) return tl::unexpected(data.error());
  Json told = about(*loki, options.query, *range);
  told["step_seconds"] = static_cast<double>(range->step.count()) / 1000;
  show_range(*data, *range, options.view, told, session);
  return ExitStatus::ok;
}

// What there is ----------------------------------------------------------------------------------

struct Place {
  prometheus::Loki loki;
  prometheus::Range range{};
};

Result<Place> place_of(const Listing& options, Session& session) {
  const auto range = range_of(options.span, "Loki");
  if (!range) return tl::unexpected(range.error());
  auto loki = log_source(session, options.source);
  if (!loki) return tl::unexpected(loki.error());
  return Place{.loki = std::move(*loki), .range = *range};
}

ExitStatus show_names(const std::vector<std::string>& names, const char* member, const Place& place,
                      const std::string& selector, Session& session) {
  if (session.json()) {
    Json told = about(place.loki, selector, place.range);
    told[member] = names;
    session.out << pretty(told);
  } else {
    for (const auto& name : names) session.out << terminal::harmless(name) << '\n';
  }
  session.say(names.empty() ? "none in that time; a longer one may have some (--from)"
                            : std::to_string(names.size()) + " " + member);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const LogsLabels& options, Session& session) {
  const auto place = place_of(options, session);
  if (!place) return tl::unexpected(place.error());
  const auto names = place->loki.labels(options.selector, place->range);
  if (!names) return tl::unexpected(names.error());
  return show_names(*names, "labels", *place, options.selector, session);
}

Result<ExitStatus> run(const LogsValues& options, Session& session) {
  const auto place = place_of(options, session);
  if (!place) return tl::unexpected(place.error());
  const auto names = place->loki.label_values(options.label, options.selector, place->range);
  if (!names) return tl::unexpected(names.error());
  return show_names(*names, "values", *place, options.selector, session);
}

Result<ExitStatus> run(const LogsStats& options, Session& session) {
  const auto place = place_of(options, session);
  if (!place) return tl::unexpected(place.error());
  const auto stats = place->loki.stats(options.selector, place->range);
  if (!stats) return tl::unexpected(stats.error());
  if (session.json()) {
    Json told = about(place->loki, options.selector, place->range);
    told.update({{"streams", stats->streams},
                 {"chunks", stats->chunks},
                 {"entries", stats->entries},
                 {"bytes", stats->bytes}});
    session.out << pretty(told);
    return ExitStatus::ok;
  }
  terminal::print_table(
      session.out, {"STREAMS", "CHUNKS", "LINES", "BYTES"},
      {{std::to_string(stats->streams), std::to_string(stats->chunks), std::to_string(stats->entries),
        terminal::bytes(static_cast<double>(stats->bytes))}});
  return ExitStatus::ok;
}

void add_queries(CLI::App& group, Chosen& chosen) {
  auto query = std::make_shared<LogsQuery>();
  auto& query_verb =
      add_verb(group, chosen, "query", "Shows lines, newest first; or numbers at one moment",
               "  tunnelctl logs query '{app=\"api\"} |= \"error\"' --from 15m\n"
               "  tunnelctl logs query '{app=\"api\"} | json' --forward --limit 0 --output json\n"
               "  tunnelctl logs query 'sum by (app) (count_over_time({app=~\".+\"}[1h]))'",
               query);
  query_verb.add_option("LOGQL", query->query, "a log query, or a metric query, whose moment is --to")
      ->required();
  add_query_span(query_verb, query->span);
  add_limit(query_verb, query->limit);
  query_verb.add_flag("--forward", query->forward, "oldest first");
  add_line_options(query_verb, query->shown);
  add_source(query_verb, query->source);

  auto range = std::make_shared<LogsRange>();
  auto& range_verb = add_verb(
      group, chosen, "range", "Runs a metric query over a time: a line for each series, a chart, or CSV",
      "  tunnelctl logs range 'sum(rate({app=\"api\"} |= \"error\" [5m]))' --from 6h --graph\n"
      "  tunnelctl logs range 'sum by (app) (count_over_time({app=~\".+\"}[5m]))' --step 5m --csv",
      range);
  range_verb.add_option("LOGQL", range->query, "a metric query")->required();
  add_query_span(range_verb, range->span);
  add_query_step(range_verb, range->span);
  add_series_view(range_verb, range->view, Over::range);
  add_source(range_verb, range->source);
}

void add_listing(CLI::App& verb, Listing& options) {
  verb.add_option("--match", options.selector, "only of streams that fit, e.g. '{app=\"api\"}'")
      ->type_name("SELECTOR");
  add_query_span(verb, options.span);
  add_source(verb, options.source);
}

void add_listings(CLI::App& group, Chosen& chosen) {
  auto labels = std::make_shared<LogsLabels>();
  auto& labels_verb = add_verb(group, chosen, "labels", "Lists the names of labels",
                               "  tunnelctl logs labels\n"
                               "  tunnelctl logs labels --match '{app=\"api\"}' --from 6h",
                               labels);
  add_listing(labels_verb, *labels);

  auto values = std::make_shared<LogsValues>();
  auto& values_verb = add_verb(group, chosen, "values", "Lists the values of a label",
                               "  tunnelctl logs values app\n"
                               "  tunnelctl logs values pod --match '{app=\"api\"}' --from now-1d",
                               values);
  values_verb.add_option("LABEL", values->label, "its name")->required();
  add_listing(values_verb, *values);

  auto stats = std::make_shared<LogsStats>();
  auto& stats_verb = add_verb(group, chosen, "stats", "Tells how much a selector would read, from the index",
                              "  tunnelctl logs stats '{app=\"api\"}'\n"
                              "  tunnelctl logs stats '{app=~\".+\"}' --from now-1d --output json",
                              stats);
  stats_verb.add_option("SELECTOR", stats->selector, "streams, without filters")->required();
  add_query_span(stats_verb, stats->span);
  add_source(stats_verb, stats->source);
}

}  // namespace

void add_logs(CLI::App& app, Chosen& chosen) {
  CLI::App& group = *app.add_subcommand("logs", "Logs: LogQL, straight from Loki or through Grafana");
  group.require_subcommand(1);
  add_queries(group, chosen);
  add_logs_tail(group, chosen);
  add_listings(group, chosen);
  add_logs_patterns(group, chosen);
}

}  // namespace tunnelctl
