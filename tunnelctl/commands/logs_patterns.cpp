#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <istream>
#include <ostream>
#include <sstream>

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
constexpr std::size_t kBlock = 64 * 1024;

struct LogsPatterns {
  std::string query{};
  std::vector<std::string> files{}, baseline_files{};
  std::string from = "now-1h", to = "now", baseline{};
  std::string server_patterns = "auto";
  std::size_t lines = 100'000, top = 20, min_count = 1;
  bool samples = false, redact_addresses = false;
  SourceFlags source{};
};

/// What was found, where, and in how long a time (for rates).
struct Found {
  Mined mined{};
  std::chrono::nanoseconds span{1};
  bool by_server = false;
  bool more = false;  // only the newest lines were read
};

patterns::MinerOptions miner_options(const LogsPatterns& options) {
  patterns::MinerOptions result;
  result.redact_addresses = options.redact_addresses;
  return result;
}

// Files ------------------------------------------------------------------------------------------

/// Gives its lines to the miner, in memory that does not grow with the file or its longest line.
Result<void> mine(std::istream& in, const std::string& name, std::size_t longest, const Session& session,
                  patterns::Miner& miner) {
  std::string block(kBlock, '\0'), line;
  const auto end_line = [&] {
    if (line.ends_with('\r')) line.pop_back();
    miner.add({.at = {}, .line = line});
    line.clear();
  };
  const auto grow = [&](std::string_view part) {
    line += part.substr(0, longest - std::min(longest, line.size()));
  };
  bool open = false;  // a line without its end yet
  while (in) {
    if (session.stop.stop_requested()) return fail(Error::Kind::cancelled, "interrupted");
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    std::string_view rest(block.data(), static_cast<std::size_t>(in.gcount()));
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      grow(rest.substr(0, end));
      end_line();
      open = false;
      rest.remove_prefix(end + 1);
    }
    if (rest.empty()) continue;
    grow(rest);
    open = true;
  }
  if (open) end_line();
  if (in.bad()) return fail(Error::Kind::bad_input, name + ": cannot be read to its end");
  return {};
}

Result<Found> from_files(const std::vector<std::string>& paths, const LogsPatterns& options,
                         Session& session) {
  const auto settings = miner_options(options);
  patterns::Miner miner(settings);
  for (const auto& path : paths) {
    Result<void> done{};
    if (path == "-") {
      done = mine(*session.in, name_of_input(path), settings.max_line_bytes, session, miner);
    } else {
      std::error_code none;
      std::ifstream file(path, std::ios::binary);
      if (!file || std::filesystem::is_directory(path, none))
        return fail(Error::Kind::bad_input, path + ": cannot be read; is it a file that you may open?");
      done = mine(file, path, settings.max_line_bytes, session, miner);
    }
    if (!done) return tl::unexpected(done.error());
  }
  Found found{.mined = miner.result()};
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
                                .limit = options.lines},
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

Result<Both> from_loki(const LogsPatterns& options, Session& session) {
  const auto range = times::range(options.from, options.to, now());
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
  const bool only = options.server_patterns == "only";
  if (only && !is_selector(options.query))
    return fail(
        Error::Kind::bad_input,
        "--server-patterns only: Loki's own patterns are of a stream selector, without filters behind it");
  const auto loki = log_source(session, options.source);
  if (!loki) return tl::unexpected(loki.error());
  const bool kept = (before ? before->from : range->from) >= now() - kServerKeeps;
  if (only || (options.server_patterns == "auto" && kept && is_selector(options.query))) {
    auto found = by_server(*loki, options, *range);
    if (!found) return tl::unexpected(found.error());
    if (!*found && only)
      return fail(Error::Kind::not_found,
                  loki->name() +
                      ": this Loki does not look for patterns (pattern_ingester.enabled); "
                      "without --server-patterns only its lines are read instead");
    if (*found && (only || !(*found)->mined.patterns.empty())) {
      Both both{.now = std::move(**found)};
      if (!before) return both;
      auto then = by_server(*loki, options, *before);
      if (!then) return tl::unexpected(then.error());
      both.before = then->value_or(Found{.span = before->to - before->from});
      return both;
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
    session.out << pretty({{"source", both.now.by_server ? "loki" : "lines"},
                           {"lines", both.now.mined.lines},
                           {"empty", both.now.mined.empty},
                           {"given_up", both.now.mined.given_up},
                           {"more_lines", both.now.more},
                           {"patterns", std::move(list)},
                           {"more", changes.size() < all}});
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
  verb.add_option("--from", options->from, "since when")->type_name("TIME")->capture_default_str();
  verb.add_option("--to", options->to, "until when")->type_name("TIME")->capture_default_str();
  verb.add_option("--baseline", options->baseline,
                  "say what is new or grown against that long a time before --from, as in 1h")
      ->type_name("TIME");
  verb.add_option("--baseline-file", options->baseline_files, "the same, against this file")
      ->type_name("PATH");
  verb.add_option("--server-patterns", options->server_patterns,
                  "whether to use the patterns that Loki itself may keep of the last hours")
      ->check(CLI::IsMember({"auto", "never", "only"}))
      ->capture_default_str();
  verb.add_option("--lines", options->lines, "how many lines to read from Loki at most, the newest; 0: all")
      ->type_name("NUMBER")
      ->capture_default_str();
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
