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

/// The whole answer: results to session.out, counts, warnings of the server, hints and what a form leaves out
/// to session.err. The JSON holds the members of `about` ("query", "source") and
/// {"type","series":[{"labels","samples":[{"time","value"}]}],"shown","total","warnings"}; the series of a
/// text result have "text" in place of samples; "histograms" counts samples that are native histograms. It is
/// written series by series: all of them at once take many times the memory. CSV has a line for each sample,
/// with the labels of all series as columns; those called time or value are label_time and label_value.
void show_instant(const prometheus::Data& data, const SeriesView& view, const Json& about, Session& session);
void show_range(const prometheus::Data& data, const prometheus::Range& range, const SeriesView& view,
                const Json& about, Session& session);

/// "shown 100 of 1532 labels (--limit 0 shows all)", or "1 label": always said. `noun` is of one.
void say_shown_of(const Session& session, std::size_t shown, std::size_t total, std::string_view noun);
void say_warnings(const Session& session, const std::vector<std::string>& warnings);

}  // namespace tunnelctl
