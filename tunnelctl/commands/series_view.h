#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/prometheus/server.h"

/// Answers to queries as people and programs read them: a table, a chart, CSV, JSON.
namespace tunnelctl {

struct SeriesView {
  /// How many series; 0: all. Unset: as many as a person reads, all for CSV and JSON.
  std::optional<std::size_t> limit{};
  bool csv = false;
  bool graph = false;  // of a range only
};

/// --csv and --limit, and --graph where there is a range.
enum class Over { instant, range };
void add_series_view(CLI::App& verb, SeriesView& view, Over over);

/// Fails with bad_input when two outputs are asked for at once.
Result<void> check(const SeriesView& view, const Session& session);

/// `up{job="api"}`, as PromQL writes it and harmless for a terminal; `{}` without labels.
std::string series_name(const prometheus::Texts& labels);
/// As PromQL writes numbers: "0.25", "100000", "1e+21", "NaN", "+Inf".
std::string value_text(double value);
/// A number, or text where JSON has none: "NaN", "+Inf", "-Inf".
Json value_json(double value);

/// {"type","series":[{"labels","samples":[{"time","value"}]}],"shown","total","warnings"}; the series of a
/// text result have "text" in place of samples; "histograms" counts samples that are native histograms.
Json to_json(const prometheus::Data& data, std::size_t shown);

/// The whole answer: results to session.out, counts, warnings of the server and hints to session.err. `about`
/// is put in front of the JSON's members ("query", "source").
void show_instant(const prometheus::Data& data, const SeriesView& view, const Json& about, Session& session);
void show_range(const prometheus::Data& data, const prometheus::Range& range, const SeriesView& view,
                const Json& about, Session& session);

/// "shown 100 of 1532 labels (--limit 0 shows all)", or "1 label": always said. `noun` is of one.
void say_shown_of(const Session& session, std::size_t shown, std::size_t total, std::string_view noun);
void say_warnings(const Session& session, const std::vector<std::string>& warnings);

/// A field of CSV. Source: RFC 4180.
std::string csv_field(std::string_view text);

}  // namespace tunnelctl
