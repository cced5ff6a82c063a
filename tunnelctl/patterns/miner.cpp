#include "tunnelctl/patterns/miner.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>

#include "common/utf8.h"
#include "tunnelctl/patterns/characters.h"
#include "tunnelctl/patterns/clusters.h"
#include "tunnelctl/patterns/masking.h"
#include "tunnelctl/patterns/record.h"
#include "tunnelctl/patterns/redaction.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::size_t kMaxSampleBytes = 1024;

MinerOptions within_bounds(MinerOptions options) {
  options.depth = std::clamp<std::size_t>(options.depth, 3, 32);
  options.similarity = options.similarity >= 0 ? std::min(options.similarity, 1.0) : 0;  // NaN too
  options.max_children = std::clamp<std::size_t>(options.max_children, 2, 10'000);
  options.max_patterns = std::clamp<std::size_t>(options.max_patterns, 1, 1'000'000);
  options.max_line_bytes = std::clamp<std::size_t>(options.max_line_bytes, 16, 1 << 20);
  options.max_tokens = std::clamp<std::size_t>(options.max_tokens, 1, 4096);
  options.samples = std::min<std::size_t>(options.samples, 100);
  return options;
}

/// One line of valid UTF-8, cut to kMaxSampleBytes.
std::string presentable(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (out.size() >= kMaxSampleBytes) {
      out += "...";
      break;
    }
    const auto size = utf8::character_at(text, at);
    if (size == 0) {
      out += "\xEF\xBF\xBD";
    } else if (is(text[at], kSpace)) {
      out += ' ';
    } else {
      out.append(text.substr(at, size));
    }
    at += std::max<std::size_t>(size, 1);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

/// Remembers which cluster a masked line went to. Four places for each hash, the oldest of them gives way.
class Memory {
 public:
  /// For so many clusters a good deal of the lines they stand for; 24 bytes a place.
  explicit Memory(std::size_t clusters)
      : sets_(std::bit_ceil(std::clamp<std::size_t>(clusters * 8, 64, 8192))), mask_(sets_.size() - 1) {}
  struct Place {
    std::uint64_t hash = 0;
    std::uint32_t cluster = 0;
    std::uint32_t life = 0;
    Level level = Level::none;
  };
  const Place* find(std::uint64_t hash) const {
    const auto& set = sets_[hash & mask_];
    for (const auto& place : set)
      if (place.hash == hash && place.cluster != 0) return &place;
    return nullptr;
  }
  void put(const Place& place) {
    auto& set = sets_[place.hash & mask_];
    auto* taken = &set.front();
    for (auto& other : set)
      if (other.hash == place.hash) taken = &other;
    for (auto* each = taken; each != &set.back(); ++each) *each = *(each + 1);
    set.back() = place;
  }

 private:
  std::vector<std::array<Place, 4>> sets_;
  std::size_t mask_;
};

}  // namespace

struct Miner::Impl {
  explicit Impl(MinerOptions given)
      : options(within_bounds(given)),
        hiding({.addresses = options.redact_addresses, .emails = true}),
        hiding_before_masks({.addresses = false, .emails = false}),
        clusters(options),
        memory(options.max_patterns) {}

  void add(const Entry& entry) {
    ++lines;
    const bool cut = entry.line.size() > options.max_line_bytes;
    auto line = entry.line.substr(0, options.max_line_bytes);
    // Half a word could be half a secret, which nobody would recognise.
    if (const auto blank = cut ? line.find_last_of(" \t\n") : kNone; blank != kNone)
      line = line.substr(0, blank);
    const Record record = reader.read(line, cut);
    mask(record.text, options.max_line_bytes, masked);
    if (masked.empty()) {
      ++empty;
      return;
    }
    const std::uint64_t hash = hash_of(masked);
    const auto* known = memory.find(hash);
    if (known == nullptr || !clusters.alive(known->cluster, known->life))
      known = find_place(record.text, hash);
    auto& cluster = clusters[known->cluster];
    clusters.use(known->cluster);
    ++cluster.count;
    ++cluster.levels[static_cast<std::size_t>(record.level != Level::none ? record.level : known->level)];
    if (entry.at != Instant{}) {
      if (cluster.first == Instant{} || entry.at < cluster.first) cluster.first = entry.at;
      if (cluster.last == Instant{} || entry.at > cluster.last) cluster.last = entry.at;
    }
    if (cluster.samples.size() < options.samples) sample(cluster, line);
  }

  /// The slow way, once for each masked line. What is kept of it is redacted first.
  const Memory::Place* find_place(std::string_view text, std::uint64_t hash) {
    const Level level = level_in_text(masked);
    if (hiding_before_masks.finds(text))
      mask(hiding_before_masks.apply(text), options.max_line_bytes, masked);
    split(masked, options.max_tokens, tokens);
    const auto cluster = clusters.place(tokens);
    memory.put({.hash = hash, .cluster = cluster, .life = clusters[cluster].life, .level = level});
    return memory.find(hash);
  }

  void sample(Cluster& cluster, std::string_view line) {
    const auto hash = hash_of(line);
    auto& seen = cluster.sample_hashes;
    if (std::find(seen.begin(), seen.end(), hash) != seen.end()) return;
    seen.push_back(hash);
    cluster.samples.push_back(presentable(hiding.apply(line)));
  }

  const MinerOptions options;
  const Redaction hiding, hiding_before_masks;
  Clusters clusters;
  Memory memory;
  RecordReader reader{};
  std::string masked{};
  std::vector<Token> tokens{};
  std::uint64_t lines = 0, empty = 0;
};

Miner::Miner(MinerOptions options) : impl_(std::make_unique<Impl>(options)) {}
Miner::Miner(Miner&&) noexcept = default;
Miner& Miner::operator=(Miner&&) noexcept = default;
Miner::~Miner() = default;

void Miner::add(const Entry& entry) {
  impl_->add(entry);
}

Mined Miner::result() const {
  // Clusters that came to the same text are one pattern.
  struct Gathered {
    Pattern pattern{};
    std::array<std::uint64_t, 6> levels{};
  };
  std::map<std::string, Gathered> by_text;
  impl_->clusters.each([&](const Cluster& cluster) {
    std::string text;
    for (const auto& slot : cluster.slots) {
      if (!text.empty()) text += ' ';
      text += slot.text;
    }
    text = impl_->hiding.apply(text);
    auto& [pattern, levels] = by_text[text];
    pattern.text = std::move(text);
    pattern.count += cluster.count;
    if (cluster.first != Instant{} && (pattern.first == Instant{} || cluster.first < pattern.first))
      pattern.first = cluster.first;
    if (cluster.last > pattern.last || pattern.last == Instant{}) pattern.last = cluster.last;
    for (std::size_t i = 0; i < levels.size(); ++i) levels[i] += cluster.levels[i];
    for (const auto& sample : cluster.samples)
      if (pattern.samples.size() < impl_->options.samples) pattern.samples.push_back(sample);
  });
  Mined mined{.lines = impl_->lines, .empty = impl_->empty, .given_up = impl_->clusters.given_up()};
  const auto taken = mined.lines - mined.empty;
  for (auto& [text, gathered] : by_text) {
    auto& [pattern, levels] = gathered;
    pattern.share = static_cast<double>(pattern.count) / static_cast<double>(taken);
    // Lines without a level do not outvote those with one; of equals the graver.
    std::size_t most = 0;
    for (std::size_t i = 1; i < levels.size(); ++i)
      if (levels[i] > 0 && (most == 0 || levels[i] >= levels[most])) most = i;
    pattern.level = to_string(static_cast<Level>(most));
    mined.patterns.push_back(std::move(pattern));
  }
  std::stable_sort(mined.patterns.begin(), mined.patterns.end(),
                   [](const Pattern& a, const Pattern& b) { return a.count > b.count; });
  return mined;
}

}  // namespace tunnelctl::patterns
