#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/config_yaml.h"
#include "tunnelctl/pack/pack.h"

/// How the loader walks YAML: every key is asked for by name, whatever nobody asked for is unknown.
namespace tunnelctl::pack {

/// Large enough for generated rule files of thousands of rules.
inline constexpr config::yaml::Limits kYamlLimits{
    .bytes = 64 * 1024 * 1024, .depth = 40, .nodes = 4'000'000, .columns = true};

using Node = config::yaml::Node;

/// The value as JSON: plain scalars become null, booleans and numbers by YAML's core schema.
Json to_json(const Node& node);

class MapReader {
 public:
  /// `object` is what messages call this map. A node that is no map is a problem, and then it has no keys.
  MapReader(const Node& node, std::string file, std::string object, Problems& problems);

  Place place() const { return at(node_); }
  Place at(const Node& node) const { return {file_, node.line, node.column}; }
  const std::string& object() const { return object_; }

  /// The value of `key`, or null. A null value counts as absent.
  const Node* take(std::string_view key);
  std::string text(std::string_view key, bool required = false);
  bool flag(std::string_view key, bool otherwise = false);
  std::optional<std::chrono::milliseconds> duration(std::string_view key);
  /// A duration kept as written.
  std::string duration_text(std::string_view key);
  std::vector<std::string> texts(std::string_view key);
  Texts text_map(std::string_view key);
  /// The items of a list; a single value is a problem.
  const std::vector<Node>& list(std::string_view key);

  /// Keys that are understood elsewhere and not looked at here.
  void ignore(std::initializer_list<std::string_view> keys);
  void problem(const Node& node, std::string message);
  void problem(std::string message) { problem(node_, std::move(message)); }
  /// Reports every key that nobody took.
  void finish();

 private:
  const Node& node_;
  std::string file_;
  std::string object_;
  Problems& problems_;
  std::set<std::string, std::less<>> taken_;
};

}  // namespace tunnelctl::pack
