#include <algorithm>
#include <charconv>
#include <set>

#include "tunnelctl/prometheus/answer.h"
#include "tunnelctl/prometheus/loki.h"

namespace tunnelctl::prometheus {

struct Loki::Page {
  std::vector<LogLine> lines{};  // in order
  std::vector<std::string> warnings{};
};

namespace {

/// max_entries_limit_per_query, unless the operator set another.
constexpr std::size_t kUsualLimit = 5'000;
constexpr std::chrono::nanoseconds kTick{1};

std::string nanoseconds(Instant instant) {
  return std::to_string(instant.time_since_epoch().count());
}

/// "max entries limit per query exceeded, limit > max_entries_limit_per_query (6000 > 5000)": the last
/// number.
std::optional<std::size_t> limit_said(const Error& error) {
  if (error.kind != Error::Kind::bad_input) return std::nullopt;
  const auto begin = error.message.find("max entries limit");
  if (begin == std::string::npos) return std::nullopt;
  const auto sign = error.message.rfind("> ");
  if (sign == std::string::npos || sign < begin) return std::nullopt;
  std::size_t limit = 0;
  const char* first = error.message.data() + sign + 2;
  const auto [end, wrong] = std::from_chars(first, error.message.data() + error.message.size(), limit);
  return wrong == std::errc() && end != first && limit > 0 ? std::optional(limit) : std::nullopt;
}

/// Where reading stands: the window that is left, and the lines at its edge that were given already.
class Progress {
 public:
  explicit Progress(const LogQuery& query) : left_(query), wanted_(query.limit) {}

  const LogQuery& left() const { return left_; }

  /// How many lines to ask for: one more than wanted says whether there are more.
  std::size_t ask() const {
    return wanted_ == 0 ? most_ : std::clamp(wanted_ - given_ + 1 + seen_.size(), least_, most_);
  }
  /// The server allows less. False: it is no less.
  bool lower(std::size_t limit) {
    if (limit >= ask()) return false;
    most_ = limit;
    least_ = std::min(least_, limit);
    return true;
  }
  /// An answer of that many lines was too large. False: it cannot be made smaller.
  bool shrink() {
    const auto asked = ask();
    if (asked < 2) return false;
    most_ = std::max<std::size_t>(asked / 4, 1);
    least_ = std::min(least_, most_);
    return true;
  }

  /// Leaves in `page` what was not given before.
  void keep_new(std::vector<LogLine>& page) const {
    std::erase_if(page,
                  [&](const LogLine& line) { return line.at == edge_ && seen_.contains(line.identity()); });
  }
  /// Keeps as many as are wanted. True: some had to go.
  bool cut(std::vector<LogLine>& page) {
    const bool more = wanted_ != 0 && page.size() > wanted_ - given_;
    if (more) page.resize(wanted_ - given_);
    given_ += page.size();
    return more;
  }
  /// `new_lines` of a full page go to the caller: what is left begins at its last moment, `last`.
  void advance(const std::vector<LogLine>& new_lines, Instant last) {
    if (edge_ != last) seen_.clear();
    edge_ = last;
    for (const auto& line : new_lines)
      if (line.at == last) seen_.insert(line.identity());
    narrow(std::chrono::nanoseconds(0));
  }
  /// A full page of one moment brought nothing new: asks for more at once. False: that is not allowed.
  bool widen() {
    if (ask() >= most_) return false;
    least_ = std::min(most_, ask() * 2);
    return true;
  }
  /// Gives that moment up.
  void step_over() {
    seen_.clear();
    narrow(kTick);
  }
  bool over() const { return left_.window.from >= left_.window.to; }
  std::size_t given() const { return given_; }

 private:
  void narrow(std::chrono::nanoseconds beyond) {
    if (left_.order == Order::newest_first)
      left_.window.to = std::min(left_.window.to, edge_ + kTick - beyond);
    else
      left_.window.from = std::max(left_.window.from, edge_ + beyond);
  }

  LogQuery left_;
  std::size_t wanted_ = 0;  // 0: all
  std::size_t given_ = 0;
  std::size_t most_ = kUsualLimit;
  std::size_t least_ = 1;
  Instant edge_{};
  std::set<std::string> seen_{};
};

}  // namespace

std::string LogLine::identity() const {
  std::string result;
  for (const Texts* texts : {stream.get(), &metadata})
    for (const auto& [name, value] : *texts) result += name + '\0' + value + '\0';
  return result + '\0' + text;
}

Result<Loki::Page> Loki::page(const LogQuery& query, std::size_t limit) const {
  auto answer =
      way_->get({.path = "/loki/api/v1/query_range",
                 .parameters = {{"query", query.expr},
                                {"start", nanoseconds(query.window.from)},
                                {"end", nanoseconds(query.window.to)},
                                {"limit", std::to_string(limit)},
                                {"direction", query.order == Order::newest_first ? "backward" : "forward"}},
                 .form = true,
                 .headers = {{"X-Loki-Response-Encoding-Flags", "categorize-labels"}}});
  if (!answer) return tl::unexpected(answer.error());
  auto data = read_data(*answer);
  if (!data) return tl::unexpected(data.error());
  if (data->type != "streams")
    return fail(Error::Kind::bad_input, "the query gives numbers (" + data->type + "), not lines");
  Page page{.warnings = std::move(data->warnings)};
  for (auto& series : data->series) {
    const auto stream = std::make_shared<const Texts>(std::move(series.labels));
    for (auto& line : series.lines)
      page.lines.push_back({.at = line.at,
                            .text = std::move(line.text),
                            .stream = stream,
                            .metadata = std::move(line.metadata),
                            .parsed = std::move(line.parsed)});
  }
  std::stable_sort(page.lines.begin(), page.lines.end(), [&](const LogLine& a, const LogLine& b) {
    return query.order == Order::newest_first ? a.at > b.at : a.at < b.at;
  });
  return page;
}

Result<LinesRead> Loki::lines(const LogQuery& query,
                              const std::function<bool(std::vector<LogLine> page)>& take) const {
  LinesRead result;
  Progress progress(query);
  while (!progress.over()) {
    const std::size_t asked = progress.ask();
    auto page = this->page(progress.left(), asked);
    if (!page) {
      const auto limit = limit_said(page.error());
      if (limit && progress.lower(*limit)) continue;
      const bool too_large = page.error().kind == Error::Kind::bad_input &&
                             page.error().message.find(kTooLarge) != std::string::npos;
      if (too_large && progress.shrink()) continue;
      return tl::unexpected(page.error());
    }
    for (auto& warning : page->warnings)
      if (std::find(result.warnings.begin(), result.warnings.end(), warning) == result.warnings.end())
        result.warnings.push_back(std::move(warning));
    auto& lines = page->lines;
    const bool full = lines.size() >= asked;
    const Instant last = lines.empty() ? Instant() : lines.back().at;
    progress.keep_new(lines);
    if (full && lines.empty()) {
      if (progress.widen()) continue;
      result.warnings.push_back("more than " + std::to_string(asked) + " lines have the time " +
                                nanoseconds(last) + " ns: Loki gives no more of them; narrow the query");
      progress.step_over();
      continue;
    }
    result.more = progress.cut(lines);
    if (full) progress.advance(lines, last);
    if (!lines.empty() && !take(std::move(lines))) {
      result.more = result.more || full;
      break;
    }
    if (result.more || !full) break;
  }
  result.lines = progress.given();
  return result;
}

}  // namespace tunnelctl::prometheus
