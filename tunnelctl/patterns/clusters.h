#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "tunnelctl/patterns/levels.h"
#include "tunnelctl/patterns/miner.h"
#include "tunnelctl/patterns/tokens.h"

namespace tunnelctl::patterns {

/// Lines that are taken for printed by one statement.
struct Cluster {
  std::vector<Slot> slots{};
  std::uint64_t count = 0;
  Instant first{}, last{};
  std::array<std::uint64_t, 6> levels{};       // by Level
  std::vector<std::string> samples{};          // redacted
  std::vector<std::uint64_t> sample_hashes{};  // of the lines before redaction
  std::uint32_t leaf = 0;
  std::uint32_t life = 0;  // odd: in use; differs after each use, so that who remembers the place finds out
  std::uint32_t newer = 0, older = 0;  // in the order of use
};

/// The tree of Drain: lines -> number of words -> level and status -> first words behind the header ->
/// similar ones. Holds at most max_patterns clusters, the least recently used gives way. All work for a line
/// is linear in its words times the clusters of a leaf, of which there are at most max_children.
class Clusters {
 public:
  explicit Clusters(const MinerOptions& options);

  /// The cluster of a line, an old one that may have become more general, or a new one.
  std::uint32_t place(const std::vector<Token>& tokens);
  Cluster& operator[](std::uint32_t index) { return clusters_[index]; }
  /// Marks it as used just now.
  void use(std::uint32_t index);
  bool alive(std::uint32_t index, std::uint32_t life) const { return clusters_[index].life == life; }
  std::uint64_t given_up() const { return given_up_; }

  template <class Visit>
  void each(Visit visit) const {
    for (const auto& cluster : clusters_)
      if ((cluster.life & 1U) != 0) visit(cluster);
  }

 private:
  struct Node {
    std::uint32_t parent = 0;
    std::uint64_t key = 0;
    std::uint32_t children = 0;
    std::vector<std::uint32_t> clusters{};
  };
  struct Step {
    std::uint32_t parent;
    std::uint64_t key;
    bool operator==(const Step&) const = default;
  };
  struct StepHash {
    std::size_t operator()(const Step& step) const {
      return static_cast<std::size_t>((step.key ^ step.parent) * 0x9E3779B97F4A7C15U);
    }
  };

  std::uint32_t child(std::uint32_t parent, std::uint64_t key);
  std::uint32_t word_child(std::uint32_t parent, const Token& token);
  std::uint32_t leaf_of(const std::vector<Token>& tokens, std::size_t header);
  std::uint32_t similar(const Node& leaf, const std::vector<Token>& tokens, std::size_t header) const;
  std::uint32_t fresh(std::uint32_t leaf, const std::vector<Token>& tokens);
  void unlink(std::uint32_t index);
  void give_up_oldest();
  /// Takes a branch away that leads to nothing any more.
  void prune(std::uint32_t node);

  const MinerOptions& options_;
  std::vector<Cluster> clusters_{1};  // 0: both ends of the order of use
  std::vector<std::uint32_t> free_clusters_{};
  std::size_t live_ = 0;
  std::uint64_t given_up_ = 0;
  std::vector<Node> nodes_{1};  // 0: the root
  std::vector<std::uint32_t> free_nodes_{};
  std::unordered_map<Step, std::uint32_t, StepHash> steps_{};
};

}  // namespace tunnelctl::patterns
