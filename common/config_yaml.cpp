#include "common/config_yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>

#include "common/utf8.h"

namespace config::yaml {
namespace {

/// Leaves yaml-cpp's callbacks, whose only way to stop is an exception; never leaves this file.
struct Refused {
  int line;
  int column;
  std::string what;
};

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(Node& root, const Limits& limits) : root_(root), limits_(limits) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    line_ = mark.line + 1;
    if (++documents_ > 1) throw Refused{line_, 1, "a second document starts here; allowed: one"};
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(Node::Kind::null, mark, anchor, "");
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused{mark.line + 1, mark.column + 1, "aliases (*name) are not supported; write the value out"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node& node = add(Node::Kind::scalar, mark, anchor, tag);
    node.text = value;
    node.quoted = tag == "!";
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::list, mark, anchor, tag);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::map, mark, anchor, tag);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  struct Level {
    Node* node;
    bool key_next;  // maps alternate key, value
  };

  void open(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor, const std::string& tag) {
    if (static_cast<int>(open_.size()) >= limits_.depth) {
      throw Refused{mark.line + 1, mark.column + 1,
                    "nested deeper than " + std::to_string(limits_.depth) + " levels"};
    }
    Node& node = add(kind, mark, anchor, tag);
    open_.push_back({&node, kind == Node::Kind::map});
  }

  /// Places a new node where the document is being written. The reference stays good until a
  /// sibling is added, which happens only after the node is closed.
  Node& add(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor, const std::string& tag) {
    // A missing value has no place of its own; it belongs to the line before it.
    if (!mark.is_null()) {
      line_ = mark.line + 1;
      column_ = mark.column + 1;
    }
    if (anchor != YAML::NullAnchor) {
      throw Refused{line_, column_, "anchors (&name) are not supported; write the value out"};
    }
    // "?" is a plain scalar, "!" a quoted one: neither was written by hand.
    if (!tag.empty() && tag != "?" && tag != "!")
      throw Refused{line_, column_, "tags (!name) are not supported"};
    if (++nodes_ > limits_.nodes) {
      throw Refused{line_, column_, "has more than " + std::to_string(limits_.nodes) + " values"};
    }
    if (open_.empty()) return place(root_, kind);
    Level& level = open_.back();
    if (level.node->kind == Node::Kind::list) return place(level.node->items.emplace_back(), kind);
    if (level.key_next) {
      if (kind != Node::Kind::scalar) throw Refused{line_, column_, "a key must be plain text"};
      level.key_next = false;
      level.node->members.push_back({"", line_, column_, {}});
      key_ = Node{};
      return place(key_, kind);
    }
    if (key_.kind == Node::Kind::scalar) level.node->members.back().key = std::move(key_.text);
    level.key_next = true;
    return place(level.node->members.back().value, kind);
  }

  Node& place(Node& node, Node::Kind kind) const {
    node.kind = kind;
    node.line = line_;
    node.column = column_;
    return node;
  }

  Node& root_;
  const Limits& limits_;
  std::vector<Level> open_;
  Node key_;  // the text arrives after add() returns, so a key waits here for its value
  std::size_t nodes_ = 0;
  int documents_ = 0;
  int line_ = 1;
  int column_ = 1;
};

int line_of(std::string_view text, std::size_t offset) {
  return 1 +
         static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
}

int column_of(std::string_view text, std::size_t offset) {
  const auto start = text.substr(0, offset).rfind('\n');
  return 1 + static_cast<int>(offset - (start == std::string_view::npos ? 0 : start + 1));
}

/// yaml-cpp's messages repeat bytes of the file.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(),
      [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte >= 0x7F;
      },
      '?');
  return text;
}

/// Whether white space at the start of the line (from 0) holds a tab: yaml-cpp's own words for
/// this common mistake do not name it.
bool indented_with_tab(std::string_view text, int line) {
  for (; line > 0; --line) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  return text.substr(0, std::min(text.find_first_not_of(" \t"), text.size())).find('\t') !=
         std::string_view::npos;
}

}  // namespace

Result<Node> parse(std::string_view text, std::string_view name, const Limits& limits) {
  auto refuse = [&](int line, int column, const std::string& what) {
    std::string place = std::string(name) + ":" + std::to_string(std::max(line, 1));
    if (limits.columns) place += ":" + std::to_string(std::max(column, 1));
    return fail(Error::Kind::bad_input, place + ": " + what);
  };
  if (text.size() > limits.bytes)
    return refuse(1, 1, "is larger than " + std::to_string(limits.bytes / (1024 * 1024)) + " MiB");
  // Checked first: yaml-cpp guesses UTF-16 and UTF-32 from NUL bytes and replaces what is broken.
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8::character_at(text, at);
    if (length == 0) return refuse(line_of(text, at), column_of(text, at), "is not UTF-8 text");
    const auto byte = static_cast<unsigned char>(text[at]);
    if ((byte < 0x20 && byte != '\n' && byte != '\t' && byte != '\r') || byte == 0x7F) {
      return refuse(line_of(text, at), column_of(text, at), "contains a control character");
    }
    at += length;
  }
  Node root;
  try {
    std::istringstream input{std::string(text)};
    YAML::Parser parser(input);
    TreeBuilder builder(root, limits);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refused& refused) {
    return refuse(refused.line, refused.column, refused.what);
  } catch (const YAML::Exception& error) {
    const bool tab = indented_with_tab(text, error.mark.line);
    return refuse(error.mark.line + 1, error.mark.column + 1,
                  tab ? "is indented with a tab; use spaces" : "is not valid YAML: " + printable(error.msg));
  } catch (const std::exception& error) {
    return refuse(1, 1, std::string("is not valid YAML: ") + error.what());
  }
  return root;
}

}  // namespace config::yaml
