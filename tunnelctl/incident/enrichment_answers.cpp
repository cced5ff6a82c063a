#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "common/json_text.h"
#include "tunnelctl/incident/enrichment_parts.h"
#include "tunnelctl/patterns/miner.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl::incident {
namespace {

using markdown::Section;

/// More is never shown of one line, so a longer one is not looked at.
constexpr std::size_t kLookedAt = 16 * 1024;
constexpr std::size_t kLineCharacters = 300;
constexpr std::size_t kCellCharacters = 80;
constexpr std::size_t kPoints = 30;
/// Longer lines are shown as they are: reading them as JSON could take memory many times their length.
constexpr std::size_t kMaxJson = 64 * 1024;

std::string shown(double value, const std::string& unit) {
  if (std::isinf(value)) return value > 0 ? "infinite" : "-infinite";
  if (unit == "percent") return terminal::percent(value);
  if (unit == "bytes") return terminal::bytes(value);
  if (unit == "seconds")
    return value < 1    ? terminal::number(value * 1'000) + " ms"
           : value < 60 ? terminal::number(value) + " s"
                        : terminal::duration(value);
  return terminal::number(value) + (unit == "per second" ? "/s" : "");
}

/// "▁▁▂▇": from 0 (or the lowest below) to the highest; a gap where there is no number.
std::string sparkline(const std::vector<prometheus::Sample>& samples) {
  constexpr std::array<const char*, 8> kLevels{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  double low = 0, high = 0;
  for (const auto& sample : samples)
    if (std::isfinite(sample.value)) {
      low = std::min(low, sample.value);
      high = std::max(high, sample.value);
    }
  if (!(high > low)) return "";
  std::string text;
  // A server that gives more points than it was asked for does not lengthen the line.
  const std::size_t every = samples.size() / (2 * kPoints) + 1;
  for (std::size_t i = 0; i < samples.size(); i += every) {
    const double value = samples[i].value;
    if (!std::isfinite(value)) {
      text += " ";
      continue;
    }
    text += kLevels.at(static_cast<std::size_t>(std::lround((value - low) / (high - low) * 7)));
  }
  return text;
}

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// What the series says of now and of before it began. Its points are `step` apart, to `end`.
std::string told(const prometheus::Series& series, const std::string& unit, Time began, Time end,
                 std::chrono::milliseconds step) {
  std::optional<double> now;
  std::vector<double> before;
  for (const auto& sample : series.samples) {
    if (std::isnan(sample.value)) continue;
    now = sample.value;
    if (sample.at < began) before.push_back(sample.value);
  }
  // A number of long ago is not the one of now: Prometheus leaves out what was not there any more.
  if (!series.samples.empty() &&
      (std::isnan(series.samples.back().value) || series.samples.back().at + 3 * step / 2 < end))
    now = std::nullopt;
  const auto usual = median(std::move(before));
  if (!now && !usual) return "";
  std::string text = now ? "**" + shown(*now, unit) + "**" : "no data now";
  if (usual) text += ", before " + shown(*usual, unit);
  if (const auto line = sparkline(series.samples); !line.empty()) text += " `" + line + "`";
  return text;
}

Answer failed(const Error& error) {
  Answer answer;
  answer.problem = error.message;
  return answer;
}

std::string labels_text(const prometheus::Texts& labels, const patterns::Redaction& redaction) {
  std::string text;
  for (const auto& [name, value] : labels)
    if (name != "__name__") text += (text.empty() ? "" : ", ") + name + "=" + value;
  return clean(text, kCellCharacters, redaction);
}

Answer metric(const Question& question, const std::string& expr, const Subject& subject,
              const Sources& sources, times::Range range) {
  const auto step = std::max<std::chrono::milliseconds>(
      std::chrono::seconds(15), (range.to - range.from) / static_cast<std::int64_t>(kPoints));
  const auto data = sources.metrics->query_range(expr, {.from = range.from, .to = range.to, .step = step});
  if (!data) return failed(data.error());
  Answer answer;
  const auto value = data->series.empty()
                         ? std::string()
                         : told(data->series.front(), question.unit, subject.at, range.to, step);
  answer.item = markdown::plain(question.name) + ": " + (value.empty() ? "no data" : value);
  if (data->series.size() > 1)
    answer.item += " (the first of " + std::to_string(data->series.size()) + " series)";
  return answer;
}

Answer table(const Question& question, const std::string& expr, const EnrichmentOptions& options,
             const Sources& sources, times::Range range) {
  auto data = sources.metrics->query(expr, range.to);
  if (!data) return failed(data.error());
  const patterns::Redaction redaction({.addresses = options.redact_addresses});
  struct Row {
    const prometheus::Series* series;
    double value;
  };
  std::vector<Row> rows;
  for (const auto& series : data->series)
    if (!series.samples.empty() && !std::isnan(series.samples.back().value))
      rows.push_back({&series, series.samples.back().value});
  Answer answer;
  if (rows.empty()) return answer;
  const auto kept = std::min(rows.size(), options.max_rows);
  std::partial_sort(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(kept), rows.end(),
                    [](const Row& a, const Row& b) {
                      return a.value != b.value ? a.value > b.value : a.series->labels < b.series->labels;
                    });
  Section section{.heading = markdown::plain(question.name), .lead = {}, .form = Section::Form::list};
  section.more = rows.size() - kept;
  for (std::size_t i = 0; i < kept; ++i) {
    const auto labels = markdown::code(labels_text(rows[i].series->labels, redaction), kCellCharacters);
    section.items.push_back((labels.empty() ? "all" : labels) + ": " + shown(rows[i].value, question.unit));
  }
  answer.sections.push_back(std::move(section));
  return answer;
}

struct LogLine {
  std::chrono::sys_time<std::chrono::nanoseconds> at{};
  std::string_view text{};
};

/// Of all streams, oldest first; the newest `limit`.
std::vector<LogLine> newest(const prometheus::Data& data, std::size_t limit) {
  std::vector<LogLine> lines;
  for (const auto& stream : data.series)
    for (const auto& line : stream.lines) lines.push_back({line.at, line.text});
  std::stable_sort(lines.begin(), lines.end(), [](const LogLine& a, const LogLine& b) {
    return a.at != b.at ? a.at < b.at : a.text < b.text;
  });
  if (lines.size() > limit) lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(limit));
  return lines;
}

/// The lines' beginnings, redacted together: what begins in one and ends in another, such as a private key,
/// is found too. There may be fewer then.
std::vector<std::string> redacted(const std::vector<std::string_view>& lines, std::size_t bytes,
                                  const patterns::Redaction& redaction) {
  std::string joined;
  for (const auto line : lines) {
    auto head = line.substr(0, bytes);
    // The last word may be half a secret, which nothing recognises.
    if (line.size() > bytes)
      if (const auto space = head.find_last_of(' '); space != std::string_view::npos)
        head = head.substr(0, space);
    for (const char c : head) joined += c == '\n' ? ' ' : c;
    joined += '\n';
  }
  const auto text = redaction.apply(joined);
  std::vector<std::string> result;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    result.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return result;
}

Answer lines(const Question& question, const prometheus::Data& data, const EnrichmentOptions& options) {
  const patterns::Redaction redaction({.addresses = options.redact_addresses});
  std::vector<std::string> texts, times;
  for (const auto& line : newest(data, options.max_lines)) {
    times.push_back(markdown::clock(std::chrono::floor<std::chrono::milliseconds>(line.at)));
    texts.push_back(readable(line.text));
  }
  Answer answer;
  if (texts.empty()) return answer;
  Section section{.heading = markdown::plain(question.name), .lead = {}, .form = Section::Form::code};
  auto shown_lines = clean(texts, kLineCharacters, redaction);
  if (shown_lines.size() == times.size())
    for (std::size_t i = 0; i < times.size(); ++i) shown_lines[i].insert(0, times[i] + " ");
  // Newest first, so that shortening the note takes old ones.
  std::reverse(shown_lines.begin(), shown_lines.end());
  section.items = std::move(shown_lines);
  answer.sections.push_back(std::move(section));
  return answer;
}

Json object_of(std::string_view line) {
  if (line.size() > kMaxJson || !line.starts_with('{')) return {};
  auto json = parse_json(line);
  if (!json.is_object()) return {};
  return json;
}

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string value_text(const Json& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (!text.empty() && text.find_first_of(" =\"\\\n") == std::string::npos) return text;
  }
  // Writing what is nested deeply would exhaust the stack.
  for (const auto& child : value)
    if (value.is_structured() && child.is_structured()) return "...";
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Answer mined(const Question& question, const prometheus::Data& data, const EnrichmentOptions& options) {
  patterns::MinerOptions parameters;
  parameters.redact_addresses = options.redact_addresses;
  parameters.samples = 0;
  patterns::Miner miner(parameters);
  Answer answer;
  const patterns::Redaction redaction({.addresses = options.redact_addresses});
  std::vector<std::string_view> texts;
  const auto all = newest(data, options.max_mined);
  for (const auto& line : all) texts.push_back(line.text);
  for (const auto& line : redacted(texts, parameters.max_line_bytes, redaction)) miner.add({{}, line});
  for (const auto& line : all) {
    const auto json = object_of(line.text);
    if (auto who = text_of(json, "principal"); !who.empty()) answer.principals.insert(std::move(who));
    if (auto what = text_of(json, "service"); !what.empty()) answer.services.insert(std::move(what));
  }
  const auto result = miner.result();
  if (result.patterns.empty()) return answer;
  Section section{.heading = markdown::plain(question.name), .lead = {}, .form = Section::Form::list};
  section.lead = "Of " + std::to_string(result.lines) + " lines" +
                 (result.lines >= options.max_mined ? ", the newest" : "") + ":";
  for (const auto& pattern : result.patterns) {
    if (section.items.size() == options.max_patterns) break;
    section.items.push_back(std::to_string(pattern.count) + " × " +
                            markdown::code(clean(pattern.text, kLineCharacters, redaction), kLineCharacters) +
                            " (" + terminal::percent(pattern.share) + ")");
  }
  section.more = result.patterns.size() - section.items.size();
  answer.sections.push_back(std::move(section));
  return answer;
}

}  // namespace

std::string clean(std::string_view text, std::size_t characters, const patterns::Redaction& redaction) {
  std::string head(text.substr(0, kLookedAt));
  // The last word may be half a secret, which nothing recognises.
  if (text.size() > kLookedAt)
    if (const auto space = head.find_last_of(' '); space != std::string::npos) head.resize(space);
  return terminal::shortened(terminal::harmless(redaction.apply(head)), characters);
}

std::vector<std::string> clean(const std::vector<std::string>& lines, std::size_t characters,
                               const patterns::Redaction& redaction) {
  auto result = redacted({lines.begin(), lines.end()}, kLookedAt, redaction);
  for (auto& line : result) line = terminal::shortened(terminal::harmless(line), characters);
  return result;
}

std::string readable(std::string_view line) {
  const auto json = object_of(line);
  if (!json.is_object()) return std::string(line.substr(0, kMaxJson));
  const auto message = text_of(json, "message");
  if (message.empty()) return std::string(line);
  std::string text = text_of(json, "level");
  if (!text.empty()) text += ' ';
  if (const auto component = text_of(json, "component"); !component.empty()) text += component + ": ";
  text += message;
  // What says most comes first: long lines are cut.
  constexpr std::array kFirst{"code", "why", "error", "service", "upstream", "principal"};
  constexpr std::array kSaid{"timestamp", "level", "message", "component", "instanceId"};
  const auto is_in = [](const auto& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const auto* name : kFirst)
    if (const auto found = json.find(name); found != json.end())
      text += " " + std::string(name) + "=" + value_text(*found);
  for (const auto& [name, value] : json.items())
    if (!is_in(kFirst, name) && !is_in(kSaid, name)) text += " " + name + "=" + value_text(value);
  return text;
}

Answer answer_to(const Question& question, const std::string& expr, const Subject& subject,
                 const EnrichmentOptions& options, const Sources& sources, times::Range range) {
  switch (question.kind) {
    case Question::Kind::metric: return metric(question, expr, subject, sources, range);
    case Question::Kind::table: return table(question, expr, options, sources, range);
    case Question::Kind::logs:
    case Question::Kind::patterns: break;
  }
  const bool patterns = question.kind == Question::Kind::patterns;
  const auto data =
      sources.logs->query_range(expr, {.from = range.from, .to = range.to, .step = std::chrono::minutes(1)},
                                patterns ? options.max_mined : options.max_lines);
  if (!data) return failed(data.error());
  return patterns ? mined(question, *data, options) : lines(question, *data, options);
}

}  // namespace tunnelctl::incident
