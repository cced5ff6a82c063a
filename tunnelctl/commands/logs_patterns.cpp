#include <algorithm>
#include <cctype>
#include <optional>
#include <ostream>
#include <sstream>

#include "tunnelctl/commands/log_files.h"
#include "tunnelctl/commands/log_lines.h"
#include "tunnelctl/commands/log_verbs.h"
#include "tunnelctl/commands/moments.h"
#include "tunnelctl/commands/sources.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/patterns/miner.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/terminal/units.h"

namespace tunnelctl {
namespace {

using patterns::Change;
using patterns::Mined;

/// How long Loki's own patterns are kept, roughly: in the memory of its ingesters.
constexpr std::chrono::hours kServerKeeps{3};
constexpr const char* kFrom = "now-1h";
constexpr const char* kTo = "now";
constexpr std::size_t kLines = 100'000;

struct LogsPatterns {
  std::string query{};
  std::vector<std::string> files{}, baseline_files{};
  std::string baseline{};
  // Of Loki only. Unset: kFrom, kTo, "auto", kLines.
  std::optional<std::string> from{}, to{}, server_patterns{};
  std::optional<std::size_t> lines{};
  std::size_t top = 20, min_count = 1;
  bool samples = false, redact_addresses = false;
  SourceFlags source{};
};

/// What was found, where, and in how long a time (for rates).
struct Found {
  Mined mined{};
  std::chrono::nanoseconds span{1};
  bool timed = true;  // the span is a time
  bool by_server = false;
  bool more = false;  // only the newest lines were read
};

patterns::MinerOptions miner_options(const LogsPatterns& options) {
  patterns::MinerOptions result;
  result.redact_addresses = options.redact_addresses;
  return result;
}

// Files ------------------------------------------------------------------------------------------

Result<Found> from_files(const std::vector<std::string>& paths, const LogsPatterns& options,
                         Session& session) {
  const auto settings = miner_options(options);
  patterns::Miner miner(settings);
  // One byte more tells the miner that a line goes on.
  for (const auto& path : paths) {
    const auto done = read_log(path, settings.max_line_bytes + 1, session,
                               [&](std::string_view line) { miner.add({.at = {}, .line = line}); });
    if (!done) return tl::unexpected(done.error());
  }
  Found found{.mined = miner.result(), .timed = false};
  // Files do not say how long they took: rates are shares of their lines.
  found.span = std::chrono::nanoseconds(std::max<std::uint64_t>(found.mined.lines, 1));
  return found;
}

// Loki -------------------------------------------------------------------------------------------

/// A stream selector and nothing else, which is all that Loki's own patterns can be asked for.
bool is_selector(std::string_view logql) {
  char quote = 0;
  for (std::size_t i = 0; i < logql.size(); ++i) {
    const char letter = logql[i];
    if (quote != 0) {
      if (letter == '\\' && quote == '"') ++i;
      if (letter == quote) quote = 0;
    } else if (letter == '"' || letter == '`') {
      quote = letter;
    } else if (letter == '}') {
      return std::all_of(logql.begin() + static_cast<std::ptrdiff_t>(i) + 1, logql.end(),
                         [](unsigned char rest) { return std::isspace(rest) != 0; });
    }
  }
  return false;
}

/// As the own miner would have given them: one of each text, redacted, most lines first.
Mined mined_by_server(const std::vector<prometheus::ServerPattern>& given, const LogsPatterns& options) {
  struct Sum {
    patterns::Pattern pattern{};
    std::map<std::string, std::uint64_t> levels{};
  };
  const patterns::Redaction redaction({.addresses = options.redact_addresses});
  std::map<std::string, Sum> sums;
  Mined mined;
  for (const auto& one : given) {
    auto& sum = sums[redaction.apply(one.text)];
    for (const auto& count : one.counts) {
      if (count.lines == 0) continue;
      auto& pattern = sum.pattern;
      if (pattern.count == 0 || count.at < pattern.first) pattern.first = count.at;
      pattern.last = std::max<patterns::Instant>(pattern.last, count.at);
      pattern.count += count.lines;
      sum.levels[one.level == "unknown" ? "" : one.level] += count.lines;
      mined.lines += count.lines;
    }
  }
  for (auto& [text, sum] : sums) {
    if (sum.pattern.count == 0) continue;
    sum.pattern.text = text;
    sum.pattern.share = static_cast<double>(sum.pattern.count) / static_cast<double>(mined.lines);
    sum.pattern.level =
        std::max_element(sum.levels.begin(), sum.levels.end(), [](const auto& a, const auto& b) {
          return a.second < b.second;
        })->first;
    mined.patterns.push_back(std::move(sum.pattern));
  }
  std::stable_sort(mined.patterns.begin(), mined.patterns.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  return mined;
}

Result<std::optional<Found>> by_server(const prometheus::Loki& loki, const LogsPatterns& options,
                                       const times::Range& range) {
  const auto given = loki.patterns(options.query, {.from = range.from, .to = range.to});
  if (!given) return tl::unexpected(given.error());
  if (!*given) return std::optional<Found>();
  return std::optional(
      Found{.mined = mined_by_server(**given, options), .span = range.to - range.from, .by_server = true});
}

Result<Found> by_miner(const prometheus::Loki& loki, const LogsPatterns& options, const times::Range& range,
                       Session& session) {
  patterns::Miner miner(miner_options(options));
  std::size_t lines = 0;
  const auto read = loki.lines({.expr = options.query,
                                .window = {.from = range.from, .to = range.to},
                                .order = prometheus::Order::newest_first,
                                .limit = options.lines.value_or(kLines)},
                               [&](const std::vector<prometheus::LogLine>& page) {
                                 for (const auto& line : page) miner.add({.at = line.at, .line = line.text});
                                 lines += page.size();
                                 session.progress(std::to_string(lines) + " lines");
                                 return !session.stop.stop_requested();
                               });
  session.progress("");
  if (!read) return tl::unexpected(read.error());
  if (session.stop.stop_requested()) return fail(Error::Kind::cancelled, "interrupted");
  for (const auto& warning : read->warnings) session.warn(warning);
  Found found{.mined = miner.result(), .span = range.to - range.from, .more = read->more};
  if (!read->more) return found;
  // Rates are of the time that was really read.
  auto oldest = prometheus::Instant(range.to);
  for (const auto& pattern : found.mined.patterns) oldest = std::min(oldest, pattern.first);
  found.span =
      std::max<std::chrono::nanoseconds>(prometheus::Instant(range.to) - oldest, std::chrono::nanoseconds(1));
  return found;
}

/// Of the range, and of the one before it if a baseline is wanted: both by the same way.
struct Both {
  Found now{};
  std::optional<Found> before{};
};

/// nullopt: Loki has none, or, unless `only` it may be asked, none of one of the two times: its ingesters
/// forget them when they restart, and all of now would be new then.
Result<std::optional<Both>> both_by_server(const prometheus::Loki& loki, const LogsPatterns& options,
                                           const times::Range& range,
                                           const std::optional<times::Range>& before, bool only) {
  auto found = by_server(loki, options, range);
  if (!found) return tl::unexpected(found.error());
  if (!*found || (!only && (*found)->mined.patterns.empty())) return std::optional<Both>();
  Both both{.now = std::move(**found)};
  if (!before) return std::optional(std::move(both));
  auto then = by_server(loki, options, *before);
  if (!then) return tl::unexpected(then.error());
  both.before = then->value_or(Found{.span = before->to - before->from});
  if (!only && both.before->mined.patterns.empty()) return std::optional<Both>();
  return std::optional(std::move(both));
}

Result<Both> from_loki(const LogsPatterns& options, Session& session) {
  const auto range = times::range(options.from.value_or(kFrom), options.to.value_or(kTo), now(), "--from",
                                  "--to", times::Edge::behind);
  if (!range) return tl::unexpected(range.error());
  std::optional<times::Range> before;
  if (!options.baseline.empty()) {
    const auto length = times::duration(options.baseline);
    if (!length) return fail(Error::Kind::bad_input, "--baseline: " + length.error().message);
    before = times::Range{.from = range->from - *length, .to = range->from};
  }
  if (!prometheus::asks_for_lines(options.query))
    return fail(Error::Kind::bad_input,
                "the query must give lines and begin with a stream selector, as in '{app=\"api\"}'");
  const auto how = options.server_patterns.value_or("auto");
  const bool only = how == "only";
  if (only && !is_selector(options.query))
    return fail(
        Error::Kind::bad_input,
        "--server-patterns only: Loki's own patterns are of a stream selector, without filters behind it");
  if (only && options.samples)
    return fail(Error::Kind::bad_input,
                "--server-patterns only: Loki keeps no lines with its patterns, so there are no --samples");
  const auto loki = log_source(session, options.source);
  if (!loki) return tl::unexpected(loki.error());
  const bool kept = (before ? before->from : range->from) >= now() - kServerKeeps;
  if (only || (how == "auto" && kept && is_selector(options.query) && !options.samples)) {
    auto found = both_by_server(*loki, options, *range, before, only);
    if (!found) {
      const auto& error = found.error();
      if (only || error.kind == Error::Kind::cancelled || error.kind == Error::Kind::bad_input)
        return tl::unexpected(error);
      session.warn("Loki's own patterns cannot be had, so lines are read instead: " + error.message);
    } else if (*found) {
      if (only && before && (*found)->before->mined.patterns.empty())
        session.warn("Loki has no patterns of the baseline: it forgets them when it restarts");
      return std::move(**found);
    } else if (only) {
      return fail(Error::Kind::not_found,
                  loki->name() +
                      ": this Loki does not look for patterns (pattern_ingester.enabled); "
                      "without --server-patterns only its lines are read instead");
    }
  }
  auto found = by_miner(*loki, options, *range, session);
  if (!found) return tl::unexpected(found.error());
  Both both{.now = std::move(*found)};
  if (!before) return both;
  auto then = by_miner(*loki, options, *before, session);
  if (!then) return tl::unexpected(then.error());
  both.before = std::move(*then);
  return both;
}

// Showing ----------------------------------------------------------------------------------------

const char* word(Change::Kind kind) {
  switch (kind) {
    case Change::Kind::fresh: return "new";
    case Change::Kind::grown: return "grown";
    case Change::Kind::shrunk: return "shrunk";
    case Change::Kind::gone: return "gone";
    case Change::Kind::same: return "same";
    case Change::Kind::unknown: return "unknown";
  }
  return "same";
}

terminal::Colour colour(Change::Kind kind) {
  if (kind == Change::Kind::fresh) return terminal::Colour::red;
  return kind == Change::Kind::grown ? terminal::Colour::yellow : terminal::Colour::none;
}

std::string times_text(const Change& change) {
  return change.times > 0 ? " x" + terminal::number(change.times) : std::string();
}

Json time_or_null(patterns::Instant at) {
  return at == patterns::Instant() ? Json(nullptr) : Json(exact_time(at));
}

Json described(const Change& change, bool compared) {
  const auto& pattern = change.now;
  Json json{{"pattern", pattern.text},
            {"count", pattern.count},
            {"share", pattern.share},
            {"level", pattern.level},
            {"first", time_or_null(pattern.first)},
            {"last", time_or_null(pattern.last)},
            {"samples", pattern.samples}};
  if (compared)
    json.update({{"change", word(change.kind)}, {"before", change.before}, {"times", change.times}});
  return json;
}

void print(const std::vector<Change>& changes, bool compared, const LogsPatterns& options, Session& session) {
  std::vector<std::string> heading{"LINES", "SHARE", "LEVEL", "PATTERN"};
  if (compared) heading.insert(heading.begin() + 2, {"BEFORE", "CHANGE"});
  std::vector<std::vector<std::string>> rows;
  for (const auto& one : changes) {
    std::vector<std::string> row{std::to_string(one.now.count), terminal::percent(one.now.share),
                                 terminal::harmless(one.now.level), terminal::harmless(one.now.text)};
    if (compared) row.insert(row.begin() + 2, {std::to_string(one.before), word(one.kind) + times_text(one)});
    rows.push_back(std::move(row));
  }
  if (!options.samples && !session.coloured()) {
    terminal::print_table(session.out, heading, rows);
    return;
  }
  // Colours and samples stand outside the columns.
  std::ostringstream table;
  terminal::print_table(table, heading, rows);
  std::istringstream lines(table.str());
  std::string line;
  std::getline(lines, line);
  session.out << terminal::paint(line, terminal::Colour::bold, session.coloured()) << '\n';
  for (const auto& one : changes) {
    std::getline(lines, line);
    session.out << (compared ? terminal::paint(line, colour(one.kind), session.coloured()) : line) << '\n';
    if (!options.samples) continue;
    for (const auto& sample : one.now.samples) session.out << "    " << terminal::harmless(sample) << '\n';
  }
}

void tell(const Both& both, std::size_t shown, std::size_t all, const Session& session) {
  const auto& now = both.now;
  auto text = std::to_string(all) + (all == 1 ? " pattern of " : " patterns of ") +
              std::to_string(now.mined.lines) + (now.mined.lines == 1 ? " line" : " lines") +
              (now.by_server ? ", as Loki found them" : "");
  if (shown < all) text = "shown " + std::to_string(shown) + " of " + text + " (--top 0 shows all)";
  session.say(text);
  if (now.more) session.say("only the newest lines were read, more exist (--lines 0 reads all)");
  if (both.before && both.before->more)
    session.say("of the baseline only the newest lines were read, more exist (--lines 0 reads all)");
  if (now.mined.given_up > 0)
    session.say(std::to_string(now.mined.given_up) +
                " lines are in no pattern: there are too many different ones");
  if (both.before && both.before->mined.given_up > 0)
    session.say("in the baseline " + std::to_string(both.before->mined.given_up) +
                " lines are in no pattern: what it seems to lack may be among them (unknown)");
}

Json counts(const Found& found) {
  return {{"lines", found.mined.lines},
          {"empty", found.mined.empty},
          {"given_up", found.mined.given_up},
          {"more_lines", found.more}};
}

Result<ExitStatus> run(const LogsPatterns& options, Session& session) {
  const bool files = !options.files.empty() || options.query == "-";
  if (files == (!options.query.empty() && options.query != "-"))
    return fail(Error::Kind::bad_input,
                files ? "either a query or --file, not both"
                      : "name a query, as in '{app=\"api\"}', or --file PATH ('-' reads "
                        "standard input)");
  if (files && !options.baseline.empty())
    return fail(Error::Kind::bad_input,
                "--baseline is a time before the query's; files have --baseline-file");
  if (!files && !options.baseline_files.empty())
    return fail(Error::Kind::bad_input, "--baseline-file goes with --file; queries have --baseline");
  if (files && (options.from || options.to || options.lines || options.server_patterns))
    return fail(
        Error::Kind::bad_input,
        "--from, --to, --lines and --server-patterns are for queries to Loki: of a file every line is "
        "read, whatever its time");
  Both both;
  if (files) {
    auto now =
        from_files(options.files.empty() ? std::vector<std::string>{"-"} : options.files, options, session);
    if (!now) return tl::unexpected(now.error());
    both.now = std::move(*now);
    if (!options.baseline_files.empty()) {
      auto before = from_files(options.baseline_files, options, session);
      if (!before) return tl::unexpected(before.error());
      both.before = std::move(*before);
    }
  } else {
    auto found = from_loki(options, session);
    if (!found) return tl::unexpected(found.error());
    both = std::move(*found);
  }
  std::vector<Change> changes;
  if (both.before)
    changes = patterns::compare(both.before->mined, both.before->span, both.now.mined, both.now.span);
  else
    for (const auto& pattern : both.now.mined.patterns) changes.push_back({.now = pattern});
  std::erase_if(changes,
                [&](const Change& one) { return std::max(one.now.count, one.before) < options.min_count; });
  const std::size_t all = changes.size();
  if (options.top > 0 && changes.size() > options.top) changes.resize(options.top);
  if (session.json()) {
    Json list = Json::array();
    for (const auto& one : changes) list.push_back(described(one, both.before.has_value()));
    Json told{{"source", both.now.by_server ? "loki" : "lines"},
              {"patterns", std::move(list)},
              {"more", changes.size() < all}};
    told.update(counts(both.now));
    if (both.before) {
      told["baseline"] = counts(*both.before);
      told["baseline"]["span_seconds"] =
          both.before->timed ? Json(std::chrono::duration<double>(both.before->span).count()) : Json(nullptr);
    }
    session.out << pretty(told);
    return ExitStatus::ok;
  }
  if (!changes.empty()) print(changes, both.before.has_value(), options, session);
  tell(both, changes.size(), all, session);
  return ExitStatus::ok;
}

}  // namespace

void add_logs_patterns(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<LogsPatterns>();
  auto& verb = add_verb(group, chosen, "patterns", "Finds the few patterns that many lines were printed from",
                        "  tunnelctl logs patterns '{app=\"api\"}' --from now-30m --baseline 1h\n"
                        "  tunnelctl logs patterns --file app.log --file app.log.1 --top 10\n"
                        "  journalctl -u tunneld -o cat | tunnelctl logs patterns - --output json",
                        options);
  verb.add_option("LOGQL", options->query, "of which lines; - reads standard input");
  verb.add_option("--file", options->files, "read this file instead; - is standard input")
      ->type_name("PATH")
      ->take_all();
  verb.add_option("--from", options->from, "since when")->type_name("TIME")->default_str(kFrom);
  verb.add_option("--to", options->to, "until when")->type_name("TIME")->default_str(kTo);
  verb.add_option("--baseline", options->baseline,
                  "say what is new or grown against that long a time before --from, as in 1h")
      ->type_name("TIME");
  verb.add_option("--baseline-file", options->baseline_files, "the same, against this file")
      ->type_name("PATH");
  verb.add_option("--server-patterns", options->server_patterns,
                  "whether to use the patterns that Loki itself may keep of the last hours")
      ->check(CLI::IsMember({"auto", "never", "only"}))
      ->default_str("auto");
  verb.add_option("--lines", options->lines, "how many lines to read from Loki at most, the newest; 0: all")
      ->type_name("NUMBER")
      ->default_str(std::to_string(kLines));
  verb.add_option("--top", options->top, "how many patterns to show at most; 0: all")
      ->type_name("NUMBER")
      ->capture_default_str();
  verb.add_option("--min-count", options->min_count, "only those with that many lines")
      ->type_name("NUMBER")
      ->capture_default_str();
  verb.add_flag("--samples", options->samples, "show some lines of each");
  verb.add_flag("--redact-addresses", options->redact_addresses, "hide IP addresses too");
  add_source(verb, options->source);
}

}  // namespace tunnelctl
