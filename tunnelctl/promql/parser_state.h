#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/promql/ast.h"
#include "tunnelctl/promql/check.h"
#include "tunnelctl/promql/lexer.h"
#include "tunnelctl/promql/parser.h"

namespace tunnelctl::promql {

/// Recursive descent, inner to the room. A function that gives null or false has set problem().
/// Operators and calls are in parser.cpp, selectors and what follows them in selectors.cpp.
class Parser {
 public:
  Parser(std::string_view text, const ParseOptions& options) : options_(options), tokens_(scan(text)) {}

  NodePtr query();
  std::optional<Problem> problem() const { return problem_; }

 private:
  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& take() {
    const Token& token = peek();
    last_end_ = token.span.end;
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool accept(std::string_view punctuation) {
    if (!peek().is(punctuation)) return false;
    take();
    return true;
  }
  bool accept_word(std::string_view word) {
    if (!peek().is_word(word)) return false;
    take();
    return true;
  }
  bool expect_punctuation(std::string_view punctuation) {
    if (accept(punctuation)) return true;
    unexpected();
    return false;
  }
  void error(std::size_t at, std::string message);
  /// The next token is not what may stand here.
  void unexpected(std::string_view context = {}, std::string_view expected = {});

  NodePtr make(Span span, ValueType type, decltype(Node::as) value);

  NodePtr binary(int least);
  bool binary_modifiers(Binary& value);
  bool fill_value(std::optional<double>& value);
  NodePtr unary();
  NodePtr primary();
  NodePtr aggregate();
  NodePtr call();
  bool call_arguments(std::vector<NodePtr>& arguments);
  bool grouping_labels(std::vector<std::string>& labels);

  /// A number or duration, taken; nullopt with or without a problem.
  std::optional<Number> literal();
  NodePtr postfix();
  NodePtr brackets(NodePtr inner);
  bool offset(Node& node);
  bool at_modifier(Node& node);
  bool extended(Node& node);
  Modifiers* modifiers_of(Node& node, std::string_view what);
  NodePtr selector();
  bool matchers(std::vector<Matcher>& matchers);
  std::optional<std::chrono::nanoseconds> bracket_duration(std::string_view context,
                                                           std::string_view expected);
  std::optional<std::chrono::nanoseconds> nanoseconds(double seconds, std::size_t at);

  ParseOptions options_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t last_end_ = 0;
  std::size_t nesting_ = 0;
  std::optional<Problem> problem_;
};

}  // namespace tunnelctl::promql
