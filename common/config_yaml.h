#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

/// The one place that knows yaml-cpp. Reads untrusted YAML into a plain tree that keeps line
/// numbers and duplicate keys (yaml-cpp's own tree keeps neither).
namespace config::yaml {

struct Node {
  enum class Kind { null, scalar, list, map };
  struct Member;

  Kind kind = Kind::null;
  int line = 0;  // from 1
  int column = 0;
  std::string text;
  bool quoted = false;  // a scalar in quotes or a block: text whatever it looks like
  std::vector<Node> items;
  std::vector<Member> members;  // in the order of the file, duplicates kept
};

struct Node::Member {
  std::string key;
  int line = 0;
  int column = 0;
  Node value;
};

/// Bounds that hold whatever the text says. Anchors, aliases and tags are refused, so nothing
/// can expand ("billion laughs"); a configuration has no use for them.
struct Limits {
  std::size_t bytes = 1024 * 1024;
  int depth = 16;
  std::size_t nodes = 100'000;
  /// Whether errors name the column too, as "<name>:<line>:<column>: <what>".
  bool columns = false;
};

/// One document, or none (a null node). Fails with bad_input and "<name>:<line>: <what>".
Result<Node> parse(std::string_view text, std::string_view name, const Limits& limits = {});

}  // namespace config::yaml
