#include <optional>
#include <ostream>

#include "tunnelctl/commands/csv.h"
#include "tunnelctl/commands/datasource_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/grafana/json_text.h"
#include "tunnelctl/grafana/queries.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct DatasourceQuery {
  std::string source, from = "now-1h", to = "now";
  std::vector<std::string> queries;
  std::optional<std::size_t> limit;
  bool csv = false, executed = false;
};

/// JSON as it stands, or the name of a file with some; a list stands for its members.
Result<std::vector<Json>> read_queries(const std::vector<std::string>& texts, Session& session) {
  std::vector<Json> queries;
  for (const auto& text : texts) {
    const auto first = text.find_first_not_of(" \t\n");
    const bool here = first != std::string::npos && (text[first] == '{' || text[first] == '[');
    auto json = here ? grafana::parse_json(text, "--query") : read_json(text, session);
    if (!json) return tl::unexpected(json.error());
    if (json->is_array())
      for (auto& one : *json) queries.push_back(std::move(one));
    else
      queries.push_back(std::move(*json));
  }
  return queries;
}

std::string cell(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::size_t shown_rows(const grafana::Frame& frame, std::size_t limit) {
  return limit == 0 ? frame.rows() : std::min(limit, frame.rows());
}

Json described(const grafana::Frame& frame, std::size_t limit) {
  const auto rows = shown_rows(frame, limit);
  Json columns = Json::array();
  for (const auto& one : frame.columns) {
    Json values = Json::array();
    for (std::size_t i = 0; i < one.values.size() && i < rows; ++i) values.push_back(one.values[i]);
    columns.push_back(
        {{"name", one.name}, {"type", one.type}, {"labels", one.labels}, {"values", std::move(values)}});
  }
  return {{"ref_id", frame.ref_id},        {"name", frame.name},      {"rows", frame.rows()}, {"shown", rows},
          {"columns", std::move(columns)}, {"notices", frame.notices}};
}

void print_csv(const grafana::Frame& frame, std::size_t limit, const Session& session) {
  std::string line;
  for (std::size_t i = 0; i < frame.columns.size(); ++i)
    line += (i == 0 ? "" : ",") + csv_field(frame.columns[i].heading(), session);
  session.out << line << kCsvEnd;
  for (std::size_t row = 0; row < shown_rows(frame, limit); ++row) {
    line.clear();
    for (std::size_t i = 0; i < frame.columns.size(); ++i) {
      const auto& values = frame.columns[i].values;
      line += (i == 0 ? "" : ",") + (row < values.size() ? csv_field(cell(values[row]), session) : "");
    }
    session.out << line << kCsvEnd;
  }
}

void print_text(const grafana::Frame& frame, std::size_t limit, std::ostream& out) {
  std::vector<std::string> heading;
  for (const auto& one : frame.columns) heading.push_back(terminal::harmless(one.heading()));
  std::vector<std::vector<std::string>> rows;
  for (std::size_t row = 0; row < shown_rows(frame, limit); ++row) {
    std::vector<std::string> line;
    for (const auto& one : frame.columns)
      line.push_back(row < one.values.size() ? terminal::harmless(cell(one.values[row])) : "");
    rows.push_back(std::move(line));
  }
  if (!heading.empty()) terminal::print_table(out, heading, rows);
}

Result<ExitStatus> run(const DatasourceQuery& options, Session& session) {
  const auto queries = read_queries(options.queries, session);
  if (!queries) return tl::unexpected(queries.error());
  const auto range = times::range(options.from, options.to, now());
  if (!range) return tl::unexpected(range.error());
  if (options.csv && session.json())
    return fail(Error::Kind::bad_input, "--csv and --output json are two forms; say one");
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  const auto source = grafana::find_datasource(*server, options.source);
  if (!source) return tl::unexpected(source.error());
  const auto result = grafana::query(*server, *source, *queries, *range);
  if (!result) return tl::unexpected(result.error());
  const std::size_t limit = options.limit.value_or(options.csv ? 0 : 100);
  std::size_t rows = 0, shown = 0;
  Json frames = Json::array();
  bool first = true;
  for (const auto& frame : result->frames) {
    rows += frame.rows();
    shown += shown_rows(frame, limit);
    if (session.json()) {
      frames.push_back(described(frame, limit));
      continue;
    }
    if (frame.columns.empty()) continue;
    if (!first) session.out << '\n';
    first = false;
    if (options.csv)
      print_csv(frame, limit, session);
    else
      print_text(frame, limit, session.out);
    for (const auto& notice : frame.notices) session.warn(frame.ref_id + ": " + terminal::harmless(notice));
  }
  if (session.json()) {
    Json json{{"datasource", {{"uid", source->uid}, {"type", source->type}}},
              {"from", times::text(range->from)},
              {"to", times::text(range->to)},
              {"frames", std::move(frames)},
              {"errors", result->errors}};
    if (options.executed) json["executed"] = result->executed;
    session.out << pretty(json);
  } else if (options.executed) {
    for (const auto& one : result->executed) session.say("asked " + terminal::harmless(one));
  }
  for (const auto& error : result->errors)
    session.err << "tunnelctl: query " << terminal::harmless(error) << '\n';
  session.say(
      std::to_string(result->frames.size()) + (result->frames.size() == 1 ? " frame, " : " frames, ") +
      (shown < rows
           ? "shown " + std::to_string(shown) + " of " + std::to_string(rows) + " rows (--limit 0 shows all)"
           : std::to_string(rows) + (rows == 1 ? " row" : " rows")));
  return result->errors.empty() ? ExitStatus::ok : ExitStatus::failure;
}

}  // namespace

void add_datasource_query(CLI::App& datasource, Chosen& chosen) {
  auto options = std::make_shared<DatasourceQuery>();
  auto& verb = add_verb(
      datasource, chosen, "query", "Runs queries of any data source, in the words of its plugin",
      "  tunnelctl datasource query clickhouse-1 --query '{\"rawSql\": \"select 1\", \"format\": 1}'\n"
      "  tunnelctl datasource query prom-1 --query '{\"expr\": \"up\", \"instant\": true}' --output json\n"
      "  tunnelctl datasource query cloudwatch-1 --query queries.json --from now-6h --csv",
      options);
  verb.add_option("source", options->source, "its uid or its name")->required()->type_name("UID|NAME");
  verb.add_option(
          "--query", options->queries,
          "the query's JSON, or a file with it (- for standard input), as a panel's target has it; an "
          "object or a list")
      ->required()
      ->allow_extra_args(false)
      ->type_name("JSON|FILE");
  verb.add_option("--from", options->from, "from when")->type_name("TIME")->capture_default_str();
  verb.add_option("--to", options->to, "until when")->type_name("TIME")->capture_default_str();
  verb.add_option("--limit", options->limit,
                  "how many rows of each frame to show at most; 0: all; without it 100, all as CSV")
      ->type_name("NUMBER");
  verb.add_flag("--csv", options->csv, "as comma-separated values, the frames one after another");
  verb.add_flag("--executed", options->executed, "also what the data source was asked, where it says so");
}

}  // namespace tunnelctl
