#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/prometheus/server.h"

namespace tunnelctl::prometheus {

using Instant = std::chrono::sys_time<std::chrono::nanoseconds>;

/// Of the nanosecond `from` up to, but without, `to`: as Loki takes it.
struct Window {
  Instant from{};
  Instant to{};
};

enum class Order { newest_first, oldest_first };

/// One line and where it came from.
struct LogLine {
  Instant at{};
  std::string text{};
  std::shared_ptr<const Texts> stream{};  // its stream's labels, shared with other lines; never null
  Texts metadata{};  // structured metadata; stands in `stream` when Loki is older than 2.9.3
  Texts parsed{};    // labels that the query's parsers made; as above

  /// The value of a label of any kind, of the parsed ones first; nullptr if there is none.
  const std::string* label(const std::string& name) const;
  /// What tells it from other lines of its moment: Loki keeps a line of one stream, time and text once.
  std::string identity() const;
};

/// What lines are wanted.
struct LogQuery {
  std::string expr{};
  Window window{};
  Order order = Order::newest_first;
  std::size_t limit = 100;  // 0: all of them
};

/// How reading lines ended.
struct LinesRead {
  std::size_t lines = 0;
  bool more = false;  // there are more than `limit` or `take` wanted
  std::vector<std::string> warnings{};
};

/// What the index knows about a selector's streams.
struct IndexStats {
  std::uint64_t streams = 0;
  std::uint64_t chunks = 0;
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;
};

/// A pattern that Loki itself found. Its wildcard is "<_>".
struct ServerPattern {
  struct Count {
    Time at{};
    std::uint64_t lines = 0;
  };
  std::string text{};
  std::string level{};  // "" of older versions
  std::vector<Count> counts{};
};

/// Whether the query gives lines; otherwise it gives numbers. Only for queries that are none of either is the
/// answer a guess, and Loki refuses those.
bool asks_for_lines(std::string_view logql);

/// Loki's HTTP API. Threads and errors as with Server; Loki's own words stand in the message.
/// Source: https://grafana.com/docs/loki/latest/reference/loki-http-api/
class Loki {
 public:
  static Result<Loki> make(Connection connection, std::stop_token stop = {});
  explicit Loki(std::shared_ptr<const Transport> way) : way_(std::move(way)) {}

  /// Metric queries only: Loki refuses log queries here.
  Result<Data> query(const std::string& expr, Time at) const;
  /// One answer as Loki gives it, of any kind of query: `limit` lines at most, the newest.
  Result<Data> query_range(const std::string& expr, const Range& range, std::size_t limit = 100) const;
  /// Lines of all streams, in order, page by page: `take` gets each page and returns false when it has
  /// enough. Lines of one moment come in no order of their own, but each exactly once, also where a page ends
  /// between them. A page has at most what the server allows for one query (5000), so memory stays bounded.
  /// The one thing that cannot be had: more lines of one nanosecond than that; a warning says so.
  Result<LinesRead> lines(const LogQuery& query,
                          const std::function<bool(std::vector<LogLine> page)>& take) const;

  /// Names of labels. Of the streams that `selector` matches in that time; all streams if it is empty.
  Result<std::vector<std::string>> labels(const std::string& selector, const Range& range) const;
  Result<std::vector<std::string>> label_values(const std::string& label, const std::string& selector,
                                                const Range& range) const;
  /// Of a stream selector; Loki refuses anything more than that here.
  Result<IndexStats> stats(const std::string& selector, const Range& range) const;
  /// nullopt: this Loki does not look for patterns (its pattern ingester is off, which is the default). Loki
  /// keeps them for some hours only.
  Result<std::optional<std::vector<ServerPattern>>> patterns(const std::string& selector,
                                                             const Range& range) const;
  /// What people know it by; see Transport::name.
  const std::string& name() const { return way_->name(); }

 private:
  struct Page;
  Result<Page> page(const LogQuery& query, std::size_t limit) const;
  std::shared_ptr<const Transport> way_;
};

}  // namespace tunnelctl::prometheus
