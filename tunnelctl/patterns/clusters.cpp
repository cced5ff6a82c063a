#include "tunnelctl/patterns/clusters.h"

#include <algorithm>

namespace tunnelctl::patterns {

namespace {

constexpr std::uint32_t kNobody = 0;

}  // namespace

Clusters::Clusters(const MinerOptions& options) : options_(options) {}

std::uint32_t Clusters::child(std::uint32_t parent, std::uint64_t key) {
  const auto [found, added] = steps_.try_emplace({parent, key}, 0U);
  if (!added) return found->second;
  std::uint32_t index;
  if (free_nodes_.empty()) {
    index = static_cast<std::uint32_t>(nodes_.size());
    nodes_.emplace_back();
  } else {
    index = free_nodes_.back();
    free_nodes_.pop_back();
  }
  nodes_[index].parent = parent;
  nodes_[index].key = key;
  ++nodes_[parent].children;
  found->second = index;
  return index;
}

std::uint32_t Clusters::word_child(std::uint32_t parent, const Token& token) {
  static const std::uint64_t kAny = hash_of(kWildcard);
  // Of a pair it is the name that tells statements apart.
  const auto equals = token.text.find('=');
  const bool pair = equals != std::string_view::npos && equals > 0;
  if (!pair && changes(token.text)) return child(parent, kAny);
  const std::uint64_t key = pair ? hash_of(token.text.substr(0, equals + 1)) : token.hash;
  if (const auto known = steps_.find({parent, key}); known != steps_.end()) return known->second;
  return child(parent, nodes_[parent].children + 1 >= options_.max_children ? kAny : key);
}

std::uint32_t Clusters::leaf_of(const std::vector<Token>& tokens, std::size_t header) {
  std::uint32_t node = child(0, tokens.size());
  const auto level = level_in_header(tokens, header);
  std::uint64_t gravity = level < tokens.size() ? tokens[level].hash : 0;
  for (const auto& token : tokens)
    if (is_code(token.text)) gravity = gravity * 31 + token.hash;
  node = child(node, gravity);
  const std::size_t end = std::min(tokens.size(), header + options_.depth - 2);
  for (std::size_t i = header; i < end; ++i) node = word_child(node, tokens[i]);
  return node;
}

std::uint32_t Clusters::similar(const Node& leaf, const std::vector<Token>& tokens,
                                std::size_t header) const {
  const std::size_t routed = std::min(tokens.size(), header + options_.depth - 2);
  const bool full = leaf.clusters.size() >= options_.max_children;
  std::uint32_t best = kNobody;
  std::size_t best_equal = 0, best_open = 0;
  for (const std::uint32_t index : leaf.clusters) {
    const auto& slots = clusters_[index].slots;
    std::size_t equal = 0, open = 0, different = 0, equal_behind = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto& slot = slots[i];
      if (slot.open) {
        slot.covers(tokens[i].text) ? ++open : ++different;
      } else if (slot.hash != tokens[i].hash) {
        ++different;
      } else if (i >= header) {
        ++equal;
        if (i >= routed) ++equal_behind;
      }
    }
    // Two lines that only share what led to this leaf are not alike for that: "failed to start service",
    // "failed to load config". One word that differs may be a parameter.
    const auto alike = [this](std::size_t same, std::size_t of) {
      return static_cast<double>(same) >= options_.similarity * static_cast<double>(of);
    };
    const bool joins = different == 0 || full ||
                       (alike(equal, tokens.size() - header) &&
                        (different == 1 || alike(equal_behind, equal_behind + different)));
    if (!joins) continue;
    if (best == kNobody || equal > best_equal || (equal == best_equal && open > best_open)) {
      best = index;
      best_equal = equal;
      best_open = open;
    }
  }
  return best;
}

std::uint32_t Clusters::place(const std::vector<Token>& tokens) {
  const std::size_t header = header_length(tokens);
  std::uint32_t leaf = leaf_of(tokens, header);
  if (const auto found = similar(nodes_[leaf], tokens, header); found != kNobody) {
    auto& slots = clusters_[found].slots;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (slots[i].open ? !slots[i].covers(tokens[i].text) : slots[i].hash != tokens[i].hash)
        slots[i].widen(tokens[i].text);
    return found;
  }
  if (live_ >= options_.max_patterns) {
    give_up_oldest();
    prune(leaf);
    leaf = leaf_of(tokens, header);  // the oldest may have been in the way, or the last on it
  }
  return fresh(leaf, tokens);
}

std::uint32_t Clusters::fresh(std::uint32_t leaf, const std::vector<Token>& tokens) {
  std::uint32_t index;
  if (free_clusters_.empty()) {
    index = static_cast<std::uint32_t>(clusters_.size());
    clusters_.emplace_back();
  } else {
    index = free_clusters_.back();
    free_clusters_.pop_back();
  }
  auto& cluster = clusters_[index];
  const auto life = cluster.life;
  cluster = Cluster{};
  cluster.life = life + 1;
  cluster.leaf = leaf;
  cluster.slots.reserve(tokens.size());
  for (const auto& token : tokens)
    cluster.slots.push_back({.hash = token.hash, .text = std::string(token.text), .open = false});
  cluster.newer = cluster.older = index;
  nodes_[leaf].clusters.push_back(index);
  ++live_;
  return index;
}

void Clusters::unlink(std::uint32_t index) {
  auto& cluster = clusters_[index];
  clusters_[cluster.newer].older = cluster.older;
  clusters_[cluster.older].newer = cluster.newer;
}

void Clusters::use(std::uint32_t index) {
  auto& ends = clusters_[0];
  if (ends.older == index) return;
  auto& cluster = clusters_[index];
  if (cluster.newer != index) unlink(index);
  cluster.older = ends.older;  // the newest so far
  cluster.newer = 0;
  clusters_[ends.older].newer = index;
  ends.older = index;
}

void Clusters::give_up_oldest() {
  const std::uint32_t index = clusters_[0].newer;
  auto& cluster = clusters_[index];
  unlink(index);
  given_up_ += cluster.count;
  ++cluster.life;
  cluster.slots = {};
  cluster.samples = {};
  cluster.sample_hashes = {};
  free_clusters_.push_back(index);
  --live_;
  auto& siblings = nodes_[cluster.leaf].clusters;
  siblings.erase(std::find(siblings.begin(), siblings.end(), index));
  prune(cluster.leaf);
}

void Clusters::prune(std::uint32_t node) {
  while (node != 0 && nodes_[node].clusters.empty() && nodes_[node].children == 0) {
    const auto parent = nodes_[node].parent;
    if (steps_.erase({parent, nodes_[node].key}) == 0) return;  // gone already
    nodes_[node] = {};
    free_nodes_.push_back(node);
    --nodes_[parent].children;
    node = parent;
  }
}

}  // namespace tunnelctl::patterns
