#include "tunnelctl/commands/mcp_tools.h"
#include "tunnelctl/prometheus/loki.h"

namespace tunnelctl {
namespace {

using Kind = ToolArgument::Kind;

std::string text(const Json& arguments, const char* name) {
  const auto found = arguments.find(name);
  return found != arguments.end() && found->is_string() ? found->get<std::string>() : "";
}

const ToolArgument kDatasource{
    .name = "datasourceUid", .help = "default: the only or default one", .to = "--datasource"};
const ToolArgument kStep{.name = "stepSeconds", .kind = Kind::integer, .to = "--step", .least = 1};
const ToolArgument kStart{.name = "startRfc3339", .to = "--from"};
const ToolArgument kEnd{.name = "endRfc3339", .to = "--to"};
const ToolArgument kProject{.name = "projectName", .unused = true};

ToolArgument limit(const char* fallback) {
  return {.name = "limit", .kind = Kind::integer, .to = "--limit", .least = 1, .fallback = fallback};
}

/// Instant, unless a range is meant.
Result<void> instant_or_range(const Json& arguments, CommandLine& line) {
  const auto kind = text(arguments, "queryType");
  const auto start = text(arguments, "startTime");
  const auto end = text(arguments, "endTime");
  const bool range = kind.empty() ? !start.empty() || arguments.contains("stepSeconds") : kind == "range";
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) line.words.push_back(std::string(option) + "=" + value);
  };
  if (!range) {
    if (!start.empty() || arguments.contains("stepSeconds"))
      return fail(Error::Kind::bad_input, "startTime and stepSeconds go with queryType range");
    add("--at", end);
    return {};
  }
  line.words[1] = "range";
  add("--from", start);
  add("--to", end);
  if (arguments.contains("stepSeconds")) add("--step", arguments["stepSeconds"].dump());
  return {};
}

/// Lines, or numbers of a metric query: at one moment or, when a step or a range is asked for, over time.
Result<void> lines_or_numbers(const Json& arguments, CommandLine& line) {
  const auto kind = text(arguments, "queryType");
  const bool lines = prometheus::asks_for_lines(text(arguments, "logql"));
  if (!lines && kind != "instant") {
    line.words[1] = "range";
    if (arguments.contains("stepSeconds")) line.words.push_back("--step=" + arguments["stepSeconds"].dump());
  } else if (arguments.contains("stepSeconds")) {
    return fail(Error::Kind::bad_input, "stepSeconds goes with a metric query over a range");
  }
  if (!lines && arguments.contains("direction"))
    return fail(Error::Kind::bad_input, "direction goes with a query that gives lines");
  if (text(arguments, "direction") == "forward") line.words.emplace_back("--forward");
  return {};
}

/// The lines that look like errors of the streams with these labels, or those of a query.
Result<void> error_lines(const Json& arguments, CommandLine& line) {
  auto query = text(arguments, "logql");
  const auto labels = arguments.value("labels", Json::object());
  if (query.empty() == labels.empty())
    return fail(Error::Kind::bad_input, "say either labels, as {\"app\": \"api\"}, or logql");
  if (query.empty()) {
    std::string selector;
    for (const auto& [name, value] : labels.items()) {
      if (!is_label_name(name))
        return fail(Error::Kind::bad_input, "labels: a name is made of a-z, 0-9 and _");
      selector += (selector.empty() ? "" : ", ") + name + "=" +
                  quoted(value.is_string() ? value.get<std::string>() : value.dump());
    }
    query = "{" + selector + R"(} |~ "(?i)error|fatal|panic|exception|fail|critical")";
  }
  // "-" would be standard input, whose lines nobody sent.
  if (!prometheus::asks_for_lines(query) || query == "-")
    return fail(Error::Kind::bad_input, "logql must give lines, as {app=\"api\"} |= \"error\"");
  line.positional = {query};
  return {};
}

Result<void> streams_only(const Json& arguments, CommandLine&) {
  if (text(arguments, "logql").starts_with("{")) return {};
  return fail(Error::Kind::bad_input, "logql must be a stream selector, as {app=\"api\"}");
}

}  // namespace

std::vector<CommandTool> metric_tools() {
  const ToolArgument matches{.name = "matches",
                             .help = "only of series that fit, e.g. up{job=\"api\"}",
                             .kind = Kind::selectors,
                             .to = "--match"};
  return {
      {.name = "query_prometheus",
       .description = "Runs PromQL at one moment, or over a range.",
       .command = "metrics query",
       .arguments =
           {kDatasource,
            {.name = "expr", .required = true},
            {.name = "queryType", .to = nullptr, .words = {"instant", "range"}},
            {.name = "startTime", .help = "of a range; default: now-1h", .to = nullptr},
            {.name = "endTime", .help = "or the moment; default: now", .to = nullptr},
            {.name = "stepSeconds", .help = "of a range", .kind = Kind::integer, .to = nullptr, .least = 1},
            limit("50"),
            kProject},
       .narrow = "aggregate in expr, a shorter range, a longer step, limit",
       .compose = instant_or_range,
       .sample = R"({"datasourceUid": "p", "expr": "-up", "queryType": "range", "startTime": "now-1h",
                     "endTime": "now", "stepSeconds": 60, "limit": 3})"},
      {.name = "query_prometheus_histogram",
       .description = "A percentile of a histogram over time.",
       .command = "metrics histogram",
       .arguments = {kDatasource,
                     {.name = "metric", .required = true},
                     {.name = "percentile",
                      .kind = Kind::number,
                      .to = "--percentile",
                      .required = true,
                      .least = 0,
                      .most = 100},
                     {.name = "labels", .help = "matchers, e.g. job=\"api\"", .to = "--labels"},
                     {.name = "rateInterval", .to = "--rate"},
                     {.name = "startTime", .to = "--from"},
                     {.name = "endTime", .to = "--to"},
                     kStep,
                     kProject},
       .narrow = "a shorter range, a longer step",
       .sample = R"({"datasourceUid": "p", "metric": "m", "percentile": 99.9, "labels": "job=\"a\"",
                     "rateInterval": "5m", "startTime": "now-1h", "endTime": "now", "stepSeconds": 60})"},
      {.name = "list_prometheus_metric_names",
       .description = "Names of metrics.",
       .command = "metrics names",
       .arguments = {kDatasource,
                     {.name = "regex", .help = "somewhere in the name", .to = "--match"},
                     limit("100"),
                     kStart,
                     kEnd,
                     first_page(),
                     kProject},
       .narrow = "regex, limit",
       .sample =
           R"({"datasourceUid": "p", "regex": "tunnel_.*", "limit": 5, "startRfc3339": "now-1h", "endRfc3339": "now"})"},
      {.name = "list_prometheus_label_names",
       .description = "Names of labels.",
       .command = "metrics labels",
       .arguments = {kDatasource, matches, limit("100"), kStart, kEnd, kProject},
       .narrow = "matches, limit",
       .sample = R"({"matches": ["up", "{job=\"a\"}"], "limit": 5})"},
      {.name = "list_prometheus_label_values",
       .description = "Values of a label.",
       .command = "metrics values",
       .arguments = {kDatasource,
                     {.name = "labelName", .required = true},
                     matches,
                     limit("100"),
                     kStart,
                     kEnd,
                     kProject},
       .narrow = "matches, limit",
       .sample = R"({"labelName": "job", "matches": "up"})"},
      {.name = "list_prometheus_metric_metadata",
       .description = "Type, unit and meaning of metrics.",
       .command = "metrics metadata",
       .arguments = {kDatasource,
                     {.name = "metric", .help = "default: all"},
                     limit("50"),
                     {.name = "limitPerMetric", .kind = Kind::integer, .unused = true},
                     kProject},
       .narrow = "metric, limit",
       .sample = R"({"metric": "up"})"},
  };
}

std::vector<CommandTool> log_tools() {
  const ToolArgument logql{.name = "logql", .required = true};
  return {
      {.name = "query_loki_logs",
       .description = "Runs LogQL: lines, with secrets hidden, or a metric query's numbers.",
       .command = "logs query",
       .arguments =
           {kDatasource,
            logql,
            {.name = "startRfc3339", .help = "default: now-1h", .to = "--from"},
            kEnd,
            limit("20"),
            {.name = "direction", .to = nullptr, .words = {"backward", "forward"}},
            {.name = "queryType", .help = "of a metric query", .to = nullptr, .words = {"range", "instant"}},
            {.name = "stepSeconds", .kind = Kind::integer, .to = nullptr, .least = 1},
            {.name = "format", .unused = true}},
       .narrow = "limit, a shorter range, a filter in logql",
       .compose = lines_or_numbers,
       .sample =
           R"({"datasourceUid": "l", "logql": "{app=\"a\"}", "startRfc3339": "now-1h", "endRfc3339": "now",
                     "limit": 3, "direction": "forward"})"},
      {.name = "query_loki_stats",
       .description = "How much a stream selector would read: streams, chunks, lines, bytes.",
       .command = "logs stats",
       .arguments = {kDatasource, logql, kStart, kEnd},
       .compose = streams_only,
       .sample = R"({"logql": "{app=\"a\"}"})"},
      {.name = "query_loki_patterns",
       .description = "Log patterns that Loki itself found.",
       .command = "logs patterns",
       .arguments = {kDatasource,
                     logql,
                     kStart,
                     kEnd,
                     {.name = "top", .kind = Kind::integer, .to = "--top", .least = 1, .fallback = "20"},
                     {.name = "step", .unused = true}},
       .always = {"--server-patterns=only"},
       .narrow = "top, a shorter range",
       .compose = streams_only,
       .sample = R"({"logql": "{app=\"a\"}", "top": 5})"},
      {.name = "find_error_pattern_logs",
       .description = "Groups error lines into patterns; with baseline says which are new or grown.",
       .command = "logs patterns",
       .arguments =
           {kDatasource,
            {.name = "labels", .help = "of the streams; or logql", .kind = Kind::object, .to = nullptr},
            {.name = "logql", .to = nullptr},
            {.name = "start", .help = "default: now-1h", .to = "--from"},
            {.name = "end", .to = "--to"},
            {.name = "baseline", .help = "how long before start, e.g. 1h", .to = "--baseline"},
            {.name = "top", .kind = Kind::integer, .to = "--top", .least = 1, .fallback = "20"},
            {.name = "name", .unused = true}},
       .always = {"--server-patterns=never", "--samples"},
       .narrow = "top, a shorter range",
       .compose = error_lines,
       .sample = R"({"labels": {"app": "a\"b"}, "start": "now-30m", "end": "now", "baseline": "1h"})"},
      {.name = "list_loki_label_names",
       .description = "Names of log labels.",
       .command = "logs labels",
       .arguments = {kDatasource,
                     {.name = "matcher", .help = "of streams that fit, e.g. {app=\"api\"}", .to = "--match"},
                     kStart,
                     kEnd},
       .sample = R"({"matcher": "{app=\"a\"}"})"},
      {.name = "list_loki_label_values",
       .description = "Values of a log label.",
       .command = "logs values",
       .arguments = {kDatasource,
                     {.name = "labelName", .required = true},
                     {.name = "matcher", .to = "--match"},
                     kStart,
                     kEnd},
       .narrow = "matcher",
       .sample = R"({"labelName": "app", "matcher": "{app=\"a\"}"})"},
  };
}

}  // namespace tunnelctl
