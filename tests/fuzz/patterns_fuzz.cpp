// Lines of any log, mined with small bounds, so that each of them is met. The first two bytes choose them.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "common/utf8.h"
#include "tunnelctl/patterns/miner.h"
#include "tunnelctl/patterns/redaction.h"

using namespace tunnelctl::patterns;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

Mined mine(const MinerOptions& options, const std::vector<std::string_view>& lines) {
  Miner miner(options);
  std::int64_t second = 0;
  for (const auto line : lines) miner.add({.at = Instant(std::chrono::seconds(second++)), .line = line});
  return miner.result();
}

void check(const Mined& mined, const MinerOptions& options, std::size_t lines) {
  const Redaction redaction({.addresses = options.redact_addresses});
  std::uint64_t counted = mined.empty + mined.given_up;
  require(mined.lines == lines && mined.patterns.size() <= std::max<std::size_t>(options.max_patterns, 1));
  for (const auto& pattern : mined.patterns) {
    counted += pattern.count;
    require(pattern.count > 0 && pattern.first <= pattern.last && pattern.share > 0 && pattern.share <= 1);
    require(!pattern.text.empty() && utf8::valid(pattern.text) && !redaction.finds(pattern.text));
    require(pattern.samples.size() <= options.samples);
    for (const auto& sample : pattern.samples) require(utf8::valid(sample));
  }
  require(counted == mined.lines);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const MinerOptions options{.depth = 3 + (data[0] & 3U),
                             .similarity = 0.2 * (data[0] >> 2U & 3U),
                             .max_children = 2 + (data[0] >> 4U & 3U),
                             .max_patterns = std::size_t{1} + data[1] % 32U,
                             .max_line_bytes = (data[0] & 64U) != 0 ? 64U : 8192U,
                             .max_tokens = (data[0] & 128U) != 0 ? 4U : 128U,
                             .samples = std::size_t{data[1]} >> 6U,
                             .redact_addresses = (data[1] & 32U) != 0};
  std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  std::vector<std::string_view> lines;
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size());
    lines.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const auto first = mine(options, lines);
  check(first, options, lines.size());
  const auto second = mine(options, lines);
  require(first.patterns.size() == second.patterns.size());
  for (std::size_t i = 0; i < first.patterns.size(); ++i)
    require(first.patterns[i].text == second.patterns[i].text &&
            first.patterns[i].count == second.patterns[i].count);

  lines.resize(lines.size() / 2);
  const auto half = mine(options, lines);
  for (const auto& change : compare(half, std::chrono::seconds(60), first, std::chrono::seconds(60)))
    require(change.before > 0 || change.now.count > 0);
  return 0;
}
