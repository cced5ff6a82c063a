#include <ostream>
#include <utility>
#include <vector>

#include "tunnelctl/commands/groups.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/query_span.h"
#include "tunnelctl/commands/series_view.h"
#include "tunnelctl/commands/sources.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/prometheus/names.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

struct MetricsQuery : SourceFlags {
  std::string expr{};
  std::string at{};
  SeriesView view{};
};

struct MetricsRange : SourceFlags {
  std::string expr{};
  QuerySpan span{};
  SeriesView view{};
};

struct MetricsHistogram : SourceFlags {
  std::string metric{};
  double percentile = 95;
  std::string labels{};
  std::vector<std::string> by{};
  std::string rate = "5m";
  QuerySpan span{};
  SeriesView view{};
};

/// What the listings have in common: of which series they are.
struct Listing : SourceFlags {
  std::vector<std::string> match{};
  std::string from{}, to{};
  std::size_t limit = 0;
};

struct MetricsNames : Listing {
  std::string regexp{};
};
struct MetricsLabels : Listing {};
struct MetricsValues : Listing {
  std::string label{};
};
struct MetricsMetadata : SourceFlags {
  std::string metric{};
  std::size_t limit = 0;
};

Json about(const prometheus::Server& server, const std::string& expr) {
  return {{"source", server.name()}, {"query", expr}};
}

Result<ExitStatus> show(const prometheus::Server& server, const std::string& expr,
                        const prometheus::Range& range, const SeriesView& view, Session& session) {
  const auto data = server.query_range(expr, range);
  if (!data) return tl::unexpected(data.error());
  Json told = about(server, expr);
  told["from"] = times::text(range.from);
  told["to"] = times::text(range.to);
  told["step_seconds"] = static_cast<double>(range.step.count()) / 1000;
  show_range(*data, range, view, told, session);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const MetricsQuery& options, Session& session) {
  if (auto fits = check(options.view, session); !fits) return tl::unexpected(fits.error());
  std::optional<times::Time> at;
  if (!options.at.empty()) {
    const auto time = times::moment(options.at, now());
    if (!time) return fail(time.error().kind, "--at: " + time.error().message);
    at = *time;
  }
  const auto server = metric_source(session, options);
  if (!server) return tl::unexpected(server.error());
  const auto data = server->query(options.expr, at);
  if (!data) return tl::unexpected(data.error());
  show_instant(*data, options.view, about(*server, options.expr), session);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const MetricsRange& options, Session& session) {
  if (auto fits = check(options.view, session); !fits) return tl::unexpected(fits.error());
  const auto range = range_of(options.span, "Prometheus");
  if (!range) return tl::unexpected(range.error());
  const auto server = metric_source(session, options);
  if (!server) return tl::unexpected(server.error());
  return show(*server, options.expr, *range, options.view, session);
}

Result<ExitStatus> run(const MetricsHistogram& options, Session& session) {
  if (auto fits = check(options.view, session); !fits) return tl::unexpected(fits.error());
  const auto range = range_of(options.span, "Prometheus");
  if (!range) return tl::unexpected(range.error());
  const auto rate = times::duration(options.rate);
  if (!rate) return fail(rate.error().kind, "--rate: " + rate.error().message);
  const auto expr = prometheus::histogram_query({.metric = options.metric,
                                                 .percentile = options.percentile,
                                                 .matchers = options.labels,
                                                 .by = options.by,
                                                 .rate = times::duration_text(*rate)});
  if (!expr) return tl::unexpected(expr.error());
  const auto server = metric_source(session, options);
  if (!server) return tl::unexpected(server.error());
  session.say(terminal::harmless(*expr));
  return show(*server, *expr, *range, options.view, session);
}

Result<prometheus::Scope> scope_of(const Listing& options) {
  prometheus::Scope scope{.selectors = options.match};
  if (options.from.empty() && options.to.empty()) return scope;
  const auto range =
      times::range(options.from.empty() ? "0" : options.from, options.to.empty() ? "now" : options.to, now());
  if (!range) return tl::unexpected(range.error());
  scope.range = prometheus::Range{.from = range->from, .to = range->to};
  return scope;
}

/// One name a line. `member` is their place in the JSON.
ExitStatus show(prometheus::Names names, std::size_t limit, const char* member, std::string_view noun,
                std::string_view hint, Json about, Session& session) {
  const std::size_t total = names.items.size();
  if (limit > 0 && total > limit) names.items.resize(limit);
  const std::size_t shown = names.items.size();
  if (session.json()) {
    about[member] = std::move(names.items);
    about.update({{"shown", shown}, {"total", total}, {"warnings", names.warnings}});
    session.out << pretty(about);
  } else {
    for (const auto& one : names.items) session.out << terminal::harmless(one) << '\n';
  }
  say_warnings(session, names.warnings);
  if (total == 0)
    session.say("no " + std::string(noun) + "s: " + std::string(hint));
  else
    say_shown_of(session, shown, total, noun);
  return ExitStatus::ok;
}

Result<ExitStatus> run(const MetricsNames& options, Session& session) {
  const auto scope = scope_of(options);
  if (!scope) return tl::unexpected(scope.error());
  const auto server = metric_source(session, options);
  if (!server) return tl::unexpected(server.error());
  auto names = server->metric_names(options.regexp, *scope);
  if (!names) return tl::unexpected(names.error());
  return show(std::move(*names), options.limit, "names", "metric",
              options.regexp.empty() ? "the server has none in that time"
                                     : "none has that in its name; capital letters count, (?i) ignores them",
              {{"source", server->name()}}, session);
}

Result<ExitStatus> run(const MetricsLabels& options, Session& session) {
  const auto scope = scope_of(options);
  if (!scope) return tl::unexpected(scope.error());
  const auto server = metric_source(session, options);
  if (!server) return tl::unexpected(server.error());
  auto names = server->label_names(*scope);
  if (!names) return tl::unexpected(names.error());
  return show(std::move(*names), options.limit, "labels", "label", "no series matches in that time",
              {{"source", server->name()}}, session);
}

Result<ExitStatus> run(const MetricsValues& options, Session& session) {
  const auto scope = scope_of(options);
  if (!scope) return tl::unexpected(scope.error());
  const auto server = metric_source(session, options);
  if (!server) return tl::unexpected(server.error());
  auto names = server->label_values(options.label, *scope);
  if (!names) return tl::unexpected(names.error());
  return show(std::move(*names), options.limit, "values", "value",
              "no series has that label in that time; tunnelctl metrics labels lists them",
              {{"source", server->name()}, {"label", options.label}}, session);
}

Result<ExitStatus> run(const MetricsMetadata& options, Session& session) {
  const auto server = metric_source(session, options);
  if (!server) return tl::unexpected(server.error());
  const auto found = server->metadata(options.metric);
  if (!found) return tl::unexpected(found.error());
  const std::size_t total = found->size();
  std::size_t shown = 0;
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& [metric, all] : *found) {
    if (options.limit > 0 && shown == options.limit) break;
    ++shown;
    for (const auto& one : all) {
      list.push_back({{"metric", metric}, {"type", one.type}, {"unit", one.unit}, {"help", one.help}});
      rows.push_back({terminal::harmless(metric), terminal::harmless(one.type),
                      one.unit.empty() ? "-" : terminal::harmless(one.unit), terminal::harmless(one.help)});
    }
  }
  if (session.json())
    session.out << pretty(
        {{"source", server->name()}, {"metrics", std::move(list)}, {"shown", shown}, {"total", total}});
  else if (!rows.empty())
    terminal::print_table(session.out, {"METRIC", "TYPE", "UNIT", "HELP"}, rows);
  if (total == 0)
    session.say(
        "no metadata: no target that is scraped now says anything of it; recorded metrics have none, and "
        "those "
        "of a histogram are known without _bucket, _sum and _count");
  else
    say_shown_of(session, shown, total, "metric");
  return ExitStatus::ok;
}

void add_span(CLI::App& verb, QuerySpan& span) {
  add_query_span(verb, span);
  add_query_step(verb, span);
}

void add_listing(CLI::App& verb, Listing& options) {
  verb.add_option("--from", options.from, "only of series with samples since then")->type_name("TIME");
  verb.add_option("--to", options.to, "and until then")->type_name("TIME");
  add_limit(verb, options.limit);
  add_source(verb, options);
}

void add_match(CLI::App& verb, Listing& options) {
  verb.add_option("--match", options.match,
                  "only of series that fit, e.g. 'up{job=\"api\"}'; may be repeated")
      ->type_name("SELECTOR")
      ->allow_extra_args(false);
}

void add_queries(CLI::App& group, Chosen& chosen) {
  auto query = std::make_shared<MetricsQuery>();
  auto& now_verb = add_verb(group, chosen, "query", "Runs PromQL at one moment",
                            "  tunnelctl metrics query 'sum by (job) (up)'\n"
                            "  tunnelctl metrics query up --at now-1d --datasource prom-1\n"
                            "  tunnelctl metrics query up --output json | jq '.series[].samples[0].value'",
                            query);
  now_verb.add_option("expr", query->expr, "PromQL")->required()->type_name("EXPR");
  now_verb.add_option("--at", query->at, "the moment; without it the server's now")->type_name("TIME");
  add_series_view(now_verb, query->view, Over::instant);
  add_source(now_verb, *query);

  auto range = std::make_shared<MetricsRange>();
  auto& range_verb =
      add_verb(group, chosen, "range", "Runs PromQL over a time: a line for each series, a chart, or CSV",
               "  tunnelctl metrics range 'rate(tunnel_bytes_sent_total[5m])' --from 6h --graph\n"
               "  tunnelctl metrics range up --from now-1d/d --to now-1d/d --step 5m --csv > up.csv",
               range);
  range_verb.add_option("expr", range->expr, "PromQL")->required()->type_name("EXPR");
  add_span(range_verb, range->span);
  add_series_view(range_verb, range->view, Over::range);
  add_source(range_verb, *range);

  auto histogram = std::make_shared<MetricsHistogram>();
  auto& histogram_verb = add_verb(
      group, chosen, "histogram", "A percentile of a histogram over time; says the query it runs",
      "  tunnelctl metrics histogram tunnel_request_duration_seconds --percentile 99 --graph\n"
      "  tunnelctl metrics histogram http_request_duration_seconds --labels 'job=\"api\"' --by handler",
      histogram);
  histogram_verb.add_option("metric", histogram->metric, "its name, with or without _bucket")
      ->required()
      ->type_name("METRIC");
  histogram_verb.add_option("--percentile", histogram->percentile, "0 to 100")
      ->type_name("NUMBER")
      ->capture_default_str();
  histogram_verb.add_option("--labels", histogram->labels, "only of series that fit, e.g. 'job=\"api\"'")
      ->type_name("MATCHERS");
  histogram_verb.add_option("--by", histogram->by, "one line for each value of that label; may be repeated")
      ->type_name("LABEL")
      ->allow_extra_args(false);
  histogram_verb.add_option("--rate", histogram->rate, "over which time each point looks back")
      ->type_name("DURATION")
      ->capture_default_str();
  add_span(histogram_verb, histogram->span);
  add_series_view(histogram_verb, histogram->view, Over::range);
  add_source(histogram_verb, *histogram);
}

void add_listings(CLI::App& group, Chosen& chosen) {
  auto names = std::make_shared<MetricsNames>();
  auto& names_verb = add_verb(group, chosen, "names", "Lists the names of metrics",
                              "  tunnelctl metrics names --match tunnel_.*_total\n"
                              "  tunnelctl metrics names --match '(?i)latency' --from 1h",
                              names);
  names_verb.add_option("--match", names->regexp, "only those with this in their name (RE2)")
      ->type_name("REGEXP");
  add_listing(names_verb, *names);

  auto labels = std::make_shared<MetricsLabels>();
  auto& labels_verb = add_verb(group, chosen, "labels", "Lists the names of labels",
                               "  tunnelctl metrics labels\n"
                               "  tunnelctl metrics labels --match tunnel_bytes_sent_total",
                               labels);
  add_match(labels_verb, *labels);
  add_listing(labels_verb, *labels);

  auto values = std::make_shared<MetricsValues>();
  auto& values_verb = add_verb(group, chosen, "values", "Lists the values of a label",
                               "  tunnelctl metrics values job\n"
                               "  tunnelctl metrics values instance --match 'up{job=\"tunneld\"}' --from 1h",
                               values);
  values_verb.add_option("label", values->label, "its name")->required()->type_name("LABEL");
  add_match(values_verb, *values);
  add_listing(values_verb, *values);

  auto metadata = std::make_shared<MetricsMetadata>();
  auto& metadata_verb =
      add_verb(group, chosen, "metadata", "Tells what metrics are: type, unit, meaning",
               "  tunnelctl metrics metadata tunnel_bytes_sent_total\n"
               "  tunnelctl metrics metadata --output json | jq '.metrics[] | select(.type==\"gauge\")'",
               metadata);
  metadata_verb.add_option("metric", metadata->metric, "its name; without it all")->type_name("METRIC");
  add_limit(metadata_verb, metadata->limit);
  add_source(metadata_verb, *metadata);
}

}  // namespace

void add_metrics(CLI::App& app, Chosen& chosen) {
  CLI::App& group =
      *app.add_subcommand("metrics", "Metrics: PromQL, straight from Prometheus or through Grafana");
  group.require_subcommand(1);
  add_queries(group, chosen);
  add_listings(group, chosen);
}

}  // namespace tunnelctl
