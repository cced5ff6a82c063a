#include <deque>
#include <ostream>
#include <set>

#include "tunnelctl/commands/log_lines.h"
#include "tunnelctl/commands/log_verbs.h"
#include "tunnelctl/commands/refresh.h"
#include "tunnelctl/commands/sources.h"
#include "tunnelctl/commands/verbs.h"
#include "tunnelctl/prometheus/log_tail.h"
#include "tunnelctl/terminal/screen.h"
#include "tunnelctl/terminal/table.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl {
namespace {

using prometheus::LogLine;
using prometheus::Order;

constexpr std::chrono::milliseconds kLongestPause{10'000};
/// How far back the first lines are looked for.
constexpr std::chrono::hours kBefore{1};

struct LogsTail {
  std::string query{};
  std::size_t lines = 10;
  std::string every = "1s", late = "30s";
  LineOptions shown{};
  SourceFlags source{};
};

class Tail {
 public:
  Tail(const prometheus::Loki& loki, const LogsTail& options, std::chrono::nanoseconds late, Session& session)
      : loki_(loki),
        options_(options),
        session_(session),
        printer_(options.shown, session.coloured()),
        began_(now()),
        late_(late),
        tail_(began_, {.late = late}) {}

  /// The newest lines that are there already, and everything after them is new.
  Result<void> begin() {
    std::deque<LogLine> newest;
    const auto read = poll(began_, [&](LogLine line) {
      newest.push_back(std::move(line));
      if (newest.size() > options_.lines) newest.pop_front();
    });
    if (!read) return read;
    if (newest.size() < options_.lines) {
      const auto before = loki_.lines({.expr = options_.query,
                                       .window = {.from = began_ - kBefore, .to = began_ - late_},
                                       .order = Order::newest_first,
                                       .limit = options_.lines - newest.size()},
                                      [&](std::vector<LogLine> page) {
                                        for (auto& line : page) newest.push_front(std::move(line));
                                        return true;
                                      });
      if (!before) return tl::unexpected(before.error());
    }
    for (const auto& line : newest) print(line);
    session_.out.flush();
    return {};
  }

  /// Until the person has enough, or Loki refuses. Survives that Loki cannot be reached.
  Result<void> follow(std::chrono::milliseconds every) {
    auto pause = every;
    while (session_.out && terminal::pause(pause, session_.stop)) {
      const auto read = poll(now(), [&](const LogLine& line) { print(line); });
      session_.out.flush();
      pause = every;
      if (read) {
        failures_ = 0;
        continue;
      }
      if (session_.stop.stop_requested()) break;
      if (read.error().kind != Error::Kind::unavailable && read.error().kind != Error::Kind::timed_out)
        return read;
      tail_.lost();
      pause = std::min(kLongestPause, std::chrono::milliseconds(500) * (1U << std::min(failures_++, 5U)));
      session_.say("tunnelctl: " + terminal::harmless(read.error().message) + "; again in " +
                   times::duration_text(pause));
    }
    return {};
  }

 private:
  static prometheus::Instant now() { return std::chrono::system_clock::now(); }

  template <class Take>
  Result<void> poll(prometheus::Instant now, const Take& take) {
    const auto read = loki_.lines(
        {.expr = options_.query, .window = tail_.window(now), .order = Order::oldest_first, .limit = 0},
        [&](std::vector<LogLine> page) {
          tail_.keep_new(page);
          for (auto& line : page) take(std::move(line));
          return static_cast<bool>(session_.out) && !session_.stop.stop_requested();
        });
    if (!read) return tl::unexpected(read.error());
    for (const auto& warning : read->warnings)
      if (warned_.insert(warning).second) session_.warn(warning);
    if (!read->more) tail_.reached(now);
    return {};
  }

  void print(const LogLine& line) {
    if (session_.json())
      session_.out << printer_.json(line).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
    else
      session_.out << printer_.text(line) << '\n';
  }

  const prometheus::Loki& loki_;
  const LogsTail& options_;
  Session& session_;
  LinePrinter printer_;
  prometheus::Instant began_;
  std::chrono::nanoseconds late_;
  prometheus::LogTail tail_;
  std::set<std::string> warned_{};
  unsigned failures_ = 0;
};

Result<ExitStatus> run(const LogsTail& options, Session& session) {
  const auto every = times::duration(options.every);
  if (!every) return fail(Error::Kind::bad_input, "--every: " + every.error().message);
  const auto late = times::duration(options.late);
  if (!late) return fail(Error::Kind::bad_input, "--late: " + late.error().message);
  if (!prometheus::asks_for_lines(options.query))
    return fail(
        Error::Kind::bad_input,
        "the query must give lines and begin with a stream selector, as in '{app=\"api\"} |= \"error\"'");
  const auto loki = log_source(session, options.source);
  if (!loki) return tl::unexpected(loki.error());
  Tail tail(*loki, options, *late, session);
  if (const auto begun = tail.begin(); !begun) return tl::unexpected(begun.error());
  if (const auto followed = tail.follow(*every); !followed) return tl::unexpected(followed.error());
  return ended_by_person(session);
}

}  // namespace

void add_logs_tail(CLI::App& group, Chosen& chosen) {
  auto options = std::make_shared<LogsTail>();
  auto& verb =
      add_verb(group, chosen, "tail", "Shows lines as they come, until Ctrl-C; survives a restart of Loki",
               "  tunnelctl logs tail '{app=\"api\"}'\n"
               "  tunnelctl logs tail '{app=~\"api|web\"} |= \"error\"' --lines 50 --labels\n"
               "  tunnelctl logs tail '{app=\"api\"}' --output json | jq -r .line",
               options);
  verb.add_option("LOGQL", options->query, "which lines")->required();
  verb.add_option("--lines", options->lines, "how many of the newest lines to begin with")
      ->type_name("NUMBER")
      ->capture_default_str();
  verb.add_option("--every", options->every, "how often to look")->type_name("TIME")->capture_default_str();
  verb.add_option("--late", options->late, "by how much a line may reach Loki later than its own time")
      ->type_name("TIME")
      ->capture_default_str();
  add_line_options(verb, options->shown);
  add_source(verb, options->source);
}

}  // namespace tunnelctl
