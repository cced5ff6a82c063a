#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Log lines -> the few templates they were printed from (Drain with masking).
namespace tunnelctl::patterns {

/// Parameters as Drain3 has them. Source: He et al., "Drain: An Online Log Parsing Approach with Fixed Depth
/// Tree" (ICWS 2017); Drain3; Loki pkg/pattern/drain.
struct MinerOptions {
  std::size_t depth = 4;
  double similarity = 0.4;
  std::size_t max_children = 100;
  std::size_t max_patterns = 1000;    // least recently seen ones are given up; their lines stay counted
  std::size_t max_line_bytes = 8192;  // what is behind is not looked at
  std::size_t max_tokens = 128;
  std::size_t samples = 3;  // kept of each pattern, redacted
  bool redact_addresses = false;
};

using Instant = std::chrono::sys_time<std::chrono::nanoseconds>;

struct Entry {
  Instant at{};  // 0: not known
  std::string_view line{};
};

struct Pattern {
  std::string text{};  // "connection to <*> refused", redacted
  std::uint64_t count = 0;
  double share = 0;         // of all lines that were taken
  Instant first{}, last{};  // 0 when no line had a time
  std::string level{};  // error, warn, info, debug, trace; "" when none was seen: that of most of its lines
  std::vector<std::string> samples{};  // redacted, the first ones
};

struct Mined {
  std::vector<Pattern> patterns{};  // most lines first, then by text
  std::uint64_t lines = 0;          // all that were added, empty ones too
  std::uint64_t empty = 0;
  std::uint64_t given_up = 0;  // lines of patterns that max_patterns pushed out; in no pattern
};

/// JSON objects and logfmt lines are read for their message (message, msg, log, content, with error, err or
/// why behind it) and level; other lines are taken whole (record.h). What differs is masked by its kind,
/// <num>, <ip>, <time> ... (masking.h), or by place, <*>. Deterministic: the same lines in the same order
/// give the same result. counts: sum of pattern counts + empty + given_up == lines. Not for several threads
/// at once.
class Miner {
 public:
  explicit Miner(MinerOptions options = MinerOptions());
  Miner(Miner&&) noexcept;
  Miner& operator=(Miner&&) noexcept;
  ~Miner();
  void add(const Entry& entry);
  Mined result() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// How a pattern stands against a baseline window.
struct Change {
  enum class Kind { fresh, grown, shrunk, gone, same, unknown };
  Kind kind = Kind::same;
  Pattern now{};             // of kind gone: the pattern of the baseline with count 0
  std::uint64_t before = 0;  // lines in the baseline
  double times = 0;          // rate now / rate before; 0 when there was none
};

/// Fresh and grown ones first, by how sure it is. `now_span` and `before_span` make rates of counts. A
/// pattern counts as grown or shrunk when a two-sided Poisson test rejects equal rates at 0.1 % and the rate
/// is at least doubled or halved; as gone when it has no line now and the same test says that this is no
/// chance (otherwise it is the same, with count 0). Any that the baseline does not have is fresh. Where one
/// side gave patterns up, what it lacks may be among them: then a pattern is fresh or gone only if it would
/// have grown or shrunk even with all lines that were given up, and otherwise unknown. A pattern whose text
/// is a special case of another one's is counted with that one. When a span is not above 0, counts are
/// compared.
std::vector<Change> compare(const Mined& before, std::chrono::nanoseconds before_span, const Mined& now,
                            std::chrono::nanoseconds now_span);

}  // namespace tunnelctl::patterns
