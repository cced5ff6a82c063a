#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/logql/lexer.h"
#include "tunnelctl/logql/parser.h"

namespace tunnelctl::logql {

/// Go's ParseFloat: no 0x without exponent, no 0b; a leading zero means nothing.
std::optional<double> number(const Token& token);
/// That it is none, in Loki's words.
std::string no_number(const Token& token);

/// Recursive descent, inner to the room; builds no tree, only the facts. A function that gives false or
/// nullopt has set problem(). Expressions are in parser.cpp, what stands behind a pipe in stages.cpp.
class Parser {
 public:
  explicit Parser(std::string_view text) : tokens_(scan(text)) {}

  struct Problem {
    std::size_t at = 0;
    std::string message;
  };

  bool query();
  std::optional<Problem> problem() const { return syntax_ ? syntax_ : meaning_; }
  LogQuery take_result() { return std::move(result_); }

 private:
  enum class Operand { log, literal, metric };
  struct Grouping {
    bool without = false;
    bool empty = true;
    std::size_t at = 0;
  };

  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& take() {
    const Token& token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool accept(std::string_view symbol) {
    if (!peek().is(symbol)) return false;
    take();
    return true;
  }
  bool expect(std::string_view symbol);
  /// The next token, taken, if it is of that kind; else sets the problem and gives null.
  const Token* expect(Token::Kind kind, std::string_view name);
  bool unexpected(std::string_view expecting = {});
  bool refuse(std::size_t at, std::string message);  // what the grammar cannot say; syntax goes before it
  bool deeper(std::size_t at);
  void used(const Token& label, std::string_view where) {
    result_.labels_used.push_back({std::string(label.text), std::string(where), label.span});
  }

  std::optional<Operand> expression(int least);
  std::optional<Operand> primary();
  std::optional<Operand> operation(const Token& op, Operand left, std::size_t left_begin);
  bool metric_argument();
  bool matching();
  bool labels(std::string_view where);
  bool grouping(std::optional<Grouping>& grouping);
  bool range_aggregation();
  bool vector_aggregation();
  bool label_replace();
  bool check_range_function(const Token& function, const Token* parameter, bool grouped, bool unwrapped);
  bool check_vector_function(const Token& function, const Token* parameter,
                             const std::optional<Grouping>& grouping);

  struct LogRange {
    bool range = false;
    bool unwrap = false;
    bool bare = true;  // nothing but the selector so far
  };
  bool log_range(LogRange& found);
  bool range(LogRange& found, std::size_t selector);

  bool selector();
  bool matcher(std::string_view context, std::vector<Matcher>& out);
  /// Stages as long as they come. Where `unwrap` is null, unwrap may not stand.
  bool pipeline(bool* unwrap, bool& some);
  bool line_filter();
  bool line_filter_text(const std::string& op);
  bool stage(bool* unwrap);
  bool unwrap_stage();
  bool extractions();
  bool label_formats();
  bool named_matchers(std::string_view where);
  bool label_filter();
  bool label_comparison();
  bool captures(Result<std::vector<std::string>> names, const Token& text, std::string_view parser);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t nesting_ = 0;
  double literal_ = 0;  // of the operand just read, where it is one
  LogQuery result_;
  std::optional<Problem> syntax_;
  std::optional<Problem> meaning_;
};

}  // namespace tunnelctl::logql
