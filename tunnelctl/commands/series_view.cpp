#include "tunnelctl/commands/series_view.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <ostream>
#include <set>
#include <span>
#include <vector>

#include "tunnelctl/commands/csv.h"
#include "tunnelctl/terminal/chart.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

using prometheus::Data;
using prometheus::Series;

constexpr std::size_t kRows = 100;   // of a table that a person reads
constexpr std::size_t kLines = 8;    // that can be told apart in one chart
constexpr std::size_t kSpark = 40;   // columns
constexpr std::size_t kWidth = 100;  // where there is no terminal to ask
constexpr std::size_t kHeight = 14;
constexpr std::array<terminal::Colour, 4> kColours = {terminal::Colour::green, terminal::Colour::yellow,
                                                      terminal::Colour::red, terminal::Colour::none};

std::size_t columns(const Session& session) {
  if (const auto* told = session.variable("COLUMNS")) {
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(told->data(), told->data() + told->size(), value);
    if (error == std::errc() && value >= 20 && value <= 1'000) return value;
  }
  winsize size{};
  if (session.out_is_terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
    return size.ws_col;
  return kWidth;
}

terminal::Glyphs glyphs(const Session& session) {
  const auto of = [&](std::string_view name) {
    const auto* value = session.variable(name);
    return value == nullptr ? std::string_view() : std::string_view(*value);
  };
  return terminal::glyphs_of(of("LC_ALL"), of("LC_CTYPE"), of("LANG"));
}

std::size_t shown_of(const Data& data, const SeriesView& view, const Session& session) {
  const bool read_by_programs = view.csv || session.json();
  const std::size_t limit = view.limit.value_or(read_by_programs ? 0 : view.graph ? kLines : kRows);
  return limit == 0 ? data.series.size() : std::min(limit, data.series.size());
}

/// One line for each sample; the labels are columns, those of all series together.
void print_csv(const Data& data, std::size_t shown, const Session& session) {
  std::ostream& out = session.out;
  std::set<std::string> labels;
  for (std::size_t i = 0; i < shown; ++i)
    for (const auto& [name, value] : data.series[i].labels) labels.insert(name);
  out << "time";
  for (const auto& name : labels) {
    std::string column = name;
    while (column == "time" || column == "value" || (column != name && labels.contains(column)))
      column.insert(0, "label_");
    out << ',' << csv_field(column, session);
  }
  out << ",value" << kCsvEnd;
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& series = data.series[i];
    std::string between;
    for (const auto& name : labels) {
      const auto found = series.labels.find(name);
      between += "," + (found == series.labels.end() ? "" : csv_field(found->second, session));
    }
    for (const auto& sample : series.samples)
      out << times::text(sample.at) << between << ',' << value_text(sample.value) << kCsvEnd;
    for (const auto& line : series.lines)
      out << times::text(std::chrono::floor<std::chrono::milliseconds>(line.at)) << between << ','
          << csv_field(line.text, session) << kCsvEnd;
  }
  std::size_t histograms = 0;
  for (std::size_t i = 0; i < shown; ++i) histograms += data.series[i].histograms;
  if (histograms > 0)
    session.say(
        "left out: " + std::to_string(histograms) +
        (histograms == 1 ? " sample that is a native histogram" : " samples that are native histograms") +
        "; tunnelctl metrics histogram, or histogram_quantile(), makes numbers of them");
}

/// One value for each step, NaN where there is none.
std::vector<double> values_of(const Series& series, const prometheus::Range& range) {
  const auto slots = static_cast<std::size_t>((range.to - range.from) / range.step) + 1;
  std::vector<double> values(slots, std::numeric_limits<double>::quiet_NaN());
  for (const auto& sample : series.samples) {
    const auto from_start = sample.at - range.from;
    if (from_start.count() < 0) continue;
    const auto at = static_cast<std::size_t>((from_start + range.step / 2) / range.step);
    if (at < slots) values[at] = sample.value;
  }
  return values;
}

struct Summary {
  double low = 0, high = 0, sum = 0;
  std::size_t count = 0;
};

Summary summary_of(const std::vector<double>& values) {
  Summary result;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    result.low = result.count == 0 ? value : std::min(result.low, value);
    result.high = result.count == 0 ? value : std::max(result.high, value);
    result.sum += value;
    ++result.count;
  }
  return result;
}

/// Whether the series ended before the last point of that time.
bool ended(const Series& series, const prometheus::Range& range) {
  const auto last = range.from + (range.to - range.from) / range.step * range.step;
  return !series.samples.empty() && series.histograms == 0 &&
         series.samples.back().at + range.step / 2 < last;
}

std::string last_of(const Series& series) {
  if (!series.samples.empty()) return value_text(series.samples.back().value);
  return series.histograms > 0 ? "histogram" : "-";
}

std::string last_in_short(const Series& series) {
  if (series.samples.empty() || !std::isfinite(series.samples.back().value)) return last_of(series);
  return terminal::compact(series.samples.back().value);
}

void print_summaries(const Data& data, const std::vector<std::vector<double>>& values,
                     const prometheus::Range& range, const std::vector<std::string>& marks,
                     Session& session) {
  std::vector<std::vector<std::string>> rows;
  bool any_ended = false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto about = summary_of(values[i]);
    const bool over = ended(data.series[i], range);
    any_ended = any_ended || over;
    const auto number = [&](double value) { return about.count == 0 ? "-" : terminal::compact(value); };
    std::vector<std::string> row;
    if (!marks.empty()) row.push_back(marks[i]);
    row.insert(row.end(), {terminal::sparkline(values[i], kSpark, glyphs(session)), number(about.low),
                           number(about.sum / static_cast<double>(std::max<std::size_t>(about.count, 1))),
                           number(about.high), last_in_short(data.series[i]) + (over ? "*" : ""),
                           series_name(data.series[i].labels)});
    rows.push_back(std::move(row));
  }
  std::vector<std::string> heading = {"GRAPH", "MIN", "MEAN", "MAX", "LAST", "SERIES"};
  if (!marks.empty()) heading.insert(heading.begin(), "");
  terminal::print_table(session.out, heading, rows);
  if (any_ended) session.say("* the series has nothing at the end of that time: its LAST is older");
}

void print_chart(const Data& data, const std::vector<std::vector<double>>& values,
                 const prometheus::Range& range, Session& session) {
  const auto short_text = [](prometheus::Time time) {
    auto text = times::text(time);
    return text.substr(0, 10) + " " + text.substr(11, 8) + "Z";
  };
  // Lines of one colour, or too many for the colours there are, are told apart by letters.
  const bool letters = values.size() > 1 && (!session.coloured() || values.size() > kColours.size());
  const auto chart =
      terminal::line_chart(values, {.width = columns(session),
                                    .height = kHeight,
                                    .from = short_text(range.from),
                                    .to = short_text(range.to),
                                    .glyphs = letters ? terminal::Glyphs::ascii : glyphs(session)});
  const auto colour = [&](std::size_t line) {
    return values.size() == 1 || line == terminal::ChartCell::kNone ? terminal::Colour::none
                                                                    : kColours.at(line % kColours.size());
  };
  for (const auto& row : chart.rows) {
    session.out << row.label;
    for (const auto& cell : row.cells)
      session.out << terminal::paint(cell.text, colour(cell.line), session.coloured());
    session.out << '\n';
  }
  if (!chart.rows.empty()) session.out << chart.axis << '\n' << chart.labels << "\n\n";
  std::vector<std::string> marks;
  for (std::size_t i = 0; i < values.size() && values.size() > 1; ++i)
    marks.push_back(
        terminal::paint(letters ? std::string(1, terminal::mark_of(i)) : "■", colour(i), session.coloured()));
  print_summaries(data, values, range, marks, session);
}

void say_rest(const Data& data, std::size_t shown, std::string_view hint, const Session& session) {
  say_warnings(session, data.warnings);
  if (data.series.empty())
    session.say(std::string("no series: ") + std::string(hint));
  else if (data.type == "vector" || data.type == "matrix")
    say_shown_of(session, shown, data.series.size(), "series");
}

/// `json` as pretty() writes it, indented; in its empty list `key`, if it has one, what `item` prints,
/// `count` times.
template <class Item>
void print_filled(const Json& json, const std::string& key, std::size_t count, const std::string& indent,
                  const Item& item, std::ostream& out) {
  std::string text;
  for (const char c : json.dump(2, ' ', false, Json::error_handler_t::replace))
    text += c == '\n' ? "\n" + indent : std::string(1, c);
  // No text inside holds a line break as it is, so that there is one such place.
  const std::string begins = "\n" + indent + "  \"" + key + "\": [";
  const auto found = text.find(begins);
  const auto here = found == std::string::npos ? text.size() : found + begins.size();
  out << std::string_view(text).substr(0, here);
  for (std::size_t i = 0; i < count; ++i) {
    out << (i == 0 ? "\n" : ",\n") << indent << "    ";
    item(i);
  }
  if (count > 0) out << '\n' << indent << "  ";
  out << std::string_view(text).substr(here);
}

void print_series(const Series& series, const std::string& type, std::ostream& out) {
  const std::string indent = "    ", inside = "\n" + indent + "      ";
  Json json{{"labels", series.labels}};
  if (series.histograms > 0) json["histograms"] = series.histograms;
  if (type == "string")
    json["text"] = series.lines.empty() ? "" : series.lines.front().text;
  else
    json["samples"] = Json::array();
  print_filled(
      json, "samples", type == "string" ? 0 : series.samples.size(), indent,
      [&](std::size_t i) {
        const auto& sample = series.samples[i];
        out << '{' << inside << "\"time\": \"" << times::text(sample.at) << "\"," << inside
            << "\"value\": " << value_json(sample.value) << '\n'
            << indent << "    }";
      },
      out);
}

void print_json(const Json& about, const Data& data, std::size_t shown, std::ostream& out) {
  Json json = about.is_object() ? about : Json::object();
  json.update({{"type", data.type},
               {"series", Json::array()},
               {"shown", shown},
               {"total", data.series.size()},
               {"warnings", data.warnings}});
  print_filled(
      json, "series", shown, "", [&](std::size_t i) { print_series(data.series[i], data.type, out); }, out);
  out << '\n';
}

}  // namespace

void add_series_view(CLI::App& verb, SeriesView& view, Over over) {
  verb.add_option("--limit", view.limit,
                  "how many series to show at most; 0: all; without it 100, 8 in a graph, all as JSON or CSV")
      ->type_name("NUMBER");
  verb.add_flag("--csv", view.csv, "every sample as CSV");
  if (over == Over::range) verb.add_flag("--graph", view.graph, "draw a chart");
}

Result<void> check(const SeriesView& view, const Session& session) {
  if (view.csv && session.json()) return fail(Error::Kind::bad_input, "say either --csv or --output json");
  if (view.graph && (view.csv || session.json()))
    return fail(Error::Kind::bad_input, "--graph is for people: it goes neither with --csv nor with JSON");
  return {};
}

std::string series_name(const prometheus::Texts& labels) {
  std::string name;
  std::string rest;
  for (const auto& [label, value] : labels) {
    if (label == "__name__") {
      name = value;
      continue;
    }
    rest += (rest.empty() ? "" : ", ") + label + "=\"";
    for (const char c : value) {
      if (c == '\n') {
        rest += "\\n";
        continue;
      }
      if (c == '"' || c == '\\') rest += '\\';
      rest += c;
    }
    rest += '"';
  }
  return terminal::harmless(rest.empty() && !name.empty() ? name : name + "{" + rest + "}");
}

std::string value_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  const double size = std::fabs(value);
  std::array<char, 64> text{};
  const bool plain = size == 0 || (size >= 1e-6 && size < 1e21);
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value,
                                          plain ? std::chars_format::fixed : std::chars_format::scientific);
  return error == std::errc() ? std::string(text.data(), end) : std::string("?");
}

Json value_json(double value) {
  return std::isfinite(value) ? Json(value) : Json(value_text(value));
}

void show_instant(const Data& data, const SeriesView& view, const Json& about, Session& session) {
  const std::size_t shown = shown_of(data, view, session);
  if (session.json()) {
    print_json(about, data, shown, session.out);
  } else if (view.csv) {
    print_csv(data, shown, session);
  } else if (data.type == "scalar" && !data.series.empty()) {
    session.out << last_of(data.series.front()) << '\n';
  } else if (data.type == "string" && !data.series.empty()) {
    for (const auto& line : data.series.front().lines) session.out << terminal::harmless(line.text) << '\n';
  } else if (shown > 0) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& series : std::span(data.series).first(shown))
      rows.push_back({last_of(series), series_name(series.labels)});
    terminal::print_table(session.out, {"VALUE", "SERIES"}, rows);
    if (data.type == "matrix")
      session.say("VALUE is the last sample of each series; --csv and --output json have all of them");
  }
  say_rest(
      data, shown,
      "nothing matches at that time; look for the name (tunnelctl metrics names --match up) and its labels "
      "(tunnelctl metrics labels --match up), or ask for a range (tunnelctl metrics range)",
      session);
}

void show_range(const Data& data, const prometheus::Range& range, const SeriesView& view, const Json& about,
                Session& session) {
  const std::size_t shown = shown_of(data, view, session);
  if (session.json()) {
    print_json(about, data, shown, session.out);
  } else if (view.csv) {
    print_csv(data, shown, session);
  } else if (shown > 0) {
    std::vector<std::vector<double>> values;
    for (const auto& series : std::span(data.series).first(shown)) values.push_back(values_of(series, range));
    if (view.graph)
      print_chart(data, values, range, session);
    else
      print_summaries(data, values, range, {}, session);
  }
  say_rest(
      data, shown,
      "nothing matches in that time; look for the name (tunnelctl metrics names --match up) and its labels "
      "(tunnelctl metrics labels --match up), or further back (--from now-1d)",
      session);
}

void say_shown_of(const Session& session, std::size_t shown, std::size_t total, std::string_view noun) {
  const bool one_form = total == 1 || noun.ends_with('s');
  const auto all = std::to_string(total) + " " + std::string(noun) + (one_form ? "" : "s");
  session.say(shown < total ? "shown " + std::to_string(shown) + " of " + all + " (--limit 0 shows all)"
                            : all);
}

void say_warnings(const Session& session, const std::vector<std::string>& warnings) {
  for (const auto& warning : warnings) session.warn("the server says: " + terminal::harmless(warning));
}

}  // namespace tunnelctl
