#include "tunnelctl/promql/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

namespace tunnelctl::promql {
namespace {

using Kind = Token::Kind;

struct Word {
  std::string_view word;
  Kind kind;
};
constexpr auto kWords = std::to_array<Word>({
    {"and", Kind::op},
    {"or", Kind::op},
    {"unless", Kind::op},
    {"atan2", Kind::op},
    {"sum", Kind::aggregator},
    {"avg", Kind::aggregator},
    {"count", Kind::aggregator},
    {"min", Kind::aggregator},
    {"max", Kind::aggregator},
    {"group", Kind::aggregator},
    {"stddev", Kind::aggregator},
    {"stdvar", Kind::aggregator},
    {"topk", Kind::aggregator},
    {"bottomk", Kind::aggregator},
    {"count_values", Kind::aggregator},
    {"quantile", Kind::aggregator},
    {"limitk", Kind::aggregator},
    {"limit_ratio", Kind::aggregator},
    {"offset", Kind::keyword},
    {"smoothed", Kind::keyword},
    {"anchored", Kind::keyword},
    {"by", Kind::keyword},
    {"without", Kind::keyword},
    {"on", Kind::keyword},
    {"ignoring", Kind::keyword},
    {"group_left", Kind::keyword},
    {"group_right", Kind::keyword},
    {"fill", Kind::keyword},
    {"fill_left", Kind::keyword},
    {"fill_right", Kind::keyword},
    {"bool", Kind::keyword},
    {"start", Kind::preprocessor},
    {"end", Kind::preprocessor},
    {"step", Kind::preprocessor},
    {"range", Kind::preprocessor},
    {"max_of", Kind::preprocessor},
    {"min_of", Kind::preprocessor},
    {"inf", Kind::number},
    {"nan", Kind::number},
});

bool starts_duration_word(char c) {
  return std::string_view("srmSRM").find(c) != std::string_view::npos;
}
bool is_duration_word(std::string_view word) {
  return word == "step" || word == "range" || word == "max_of" || word == "min_of";
}

/// Follows Prometheus' lex.go state by state, so that even its complaints come out alike.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    while (!done_) {
      begin_ = at_;
      if (braces_) {
        in_braces();
      } else if (bracket_begins_) {
        bracket_begins_ = false;
        in_duration();
      } else {
        statement();
      }
    }
    return std::move(tokens_);
  }

 private:
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool at_end() const { return at_ >= text_.size(); }
  /// The character at `at`, as messages show it; Prometheus shows the end of the text as U+FFFF... -1 in
  /// quotes.
  std::string shown(std::size_t at) const {
    return at < text_.size() ? quote_character(text_, at) : std::string("'\xEF\xBF\xBD'");
  }

  void emit(Kind kind) {
    tokens_.push_back({kind, {begin_, at_}, text_.substr(begin_, at_ - begin_), {}});
    begin_ = at_;
  }
  void emit(Kind kind, std::size_t length) {
    at_ += length;
    emit(kind);
  }
  void error(std::string message) {
    tokens_.push_back({Kind::error, {begin_, text_.size()}, {}, std::move(message)});
    done_ = true;
  }

  bool skip_space_or_comment() {
    if (is_space(peek()) && !at_end()) {
      while (!at_end() && is_space(peek())) ++at_;
      return true;
    }
    if (peek() != '#') return false;
    while (!at_end() && peek() != '\n' && peek() != '\r') ++at_;
    return true;
  }

  void string() {
    const auto end = scan_string(text_, at_);
    if (!end) return error(end.error().message);
    at_ = *end;
    emit(Kind::string);
  }

  bool common_operator() {
    switch (peek()) {
      case '+':
      case '-':
      case '*':
      case '/':
      case '%':
      case '^': emit(Kind::op, 1); return true;
      case ',': emit(Kind::punctuation, 1); return true;
      case '(':
        emit(Kind::punctuation, 1);
        ++parens_;
        return true;
      case ')':
        ++at_;
        if (parens_ == 0) {
          begin_ = at_;
          error("unexpected right parenthesis ')'");
          return true;
        }
        emit(Kind::punctuation);
        --parens_;
        return true;
      case ']':
        if (!brackets_) return false;
        emit(Kind::punctuation, 1);
        brackets_ = false;
        return true;
      default: return false;
    }
  }

  void statement() {
    if (at_end()) {
      if (parens_ != 0) return error("unclosed left parenthesis");
      if (brackets_) return error("unclosed left bracket");
      emit(Kind::end);
      done_ = true;
      return;
    }
    if (skip_space_or_comment() || common_operator()) return;
    const char c = peek();
    const char next = peek(1);
    if (is_digit(c) || (c == '.' && is_digit(next))) return number_or_duration();
    if (is_alpha(c) || c == ':') return brackets_ ? word_in_brackets() : word();
    switch (c) {
      case '=':
        if (next == '~') return error("unexpected character after '=': '~'");
        if (next == '=') return emit(Kind::op, 2);
        return emit(Kind::punctuation, 1);
      case '!':
        if (next != '=') return error("unexpected character after '!': " + shown(at_ + 1));
        return emit(Kind::op, 2);
      case '<':
      case '>': return emit(Kind::op, next == '=' || next == '/' ? 2 : 1);
      case '@': return emit(Kind::op, 1);
      case '"':
      case '\'':
      case '`': return string();
      case '{': braces_ = true; return emit(Kind::punctuation, 1);
      case '[':
        if (brackets_) {
          ++at_;
          return error("unexpected left bracket '['");
        }
        emit(Kind::punctuation, 1);
        while (!at_end() && is_space(peek())) ++at_;
        brackets_ = bracket_begins_ = true;
        colon_ = false;
        return;
      case ']': return error("unexpected right bracket ']'");
      default: return error("unexpected character: " + shown(at_));
    }
  }

  void word() {
    while (!at_end() && (is_alpha(peek()) || is_digit(peek()) || peek() == ':')) ++at_;
    const auto text = text_.substr(begin_, at_ - begin_);
    const std::string low = lower(text);
    const auto* known =
        std::find_if(kWords.begin(), kWords.end(), [&](const Word& w) { return w.word == low; });
    if (known != kWords.end()) {
      // Young keywords stay usable as names where no parenthesis follows.
      if (low.starts_with("fill") && !parenthesis_follows()) return emit(Kind::identifier);
      return emit(known->kind);
    }
    emit(text.find(':') == std::string_view::npos ? Kind::identifier : Kind::metric_identifier);
  }
  bool parenthesis_follows() const {
    auto at = at_;
    while (at < text_.size() && is_space(text_[at])) ++at;
    return at < text_.size() && text_[at] == '(';
  }

  void word_in_brackets() {
    const char first = peek();
    if (first == ':') {
      ++at_;
      if (colon_) return error("unexpected colon ':'");
      colon_ = true;
      return emit(Kind::punctuation);
    }
    if (starts_duration_word(first) && duration_word()) return;
    error("unexpected character: " + shown(begin_) + ", expected ':'");
  }
  bool duration_word() {
    auto end = at_;
    while (end < text_.size() && is_alpha(text_[end])) ++end;
    if (!is_duration_word(lower(text_.substr(at_, end - at_)))) return false;
    at_ = end;
    emit(Kind::preprocessor);
    return true;
  }

  /// Right behind the left bracket.
  void in_duration() {
    if (at_end()) return error("unexpected end of input in duration expression");
    const char c = peek();
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number_or_duration();
    if (common_operator()) {
      bracket_begins_ = brackets_;
      return;
    }
    if (starts_duration_word(c) && duration_word()) {
      bracket_begins_ = true;
      return;
    }
    if (is_space(c)) {
      skip_space_or_comment();
      bracket_begins_ = true;
      return;
    }
    if (c == ':') return error("unexpected colon before duration in duration expression");
    error("unexpected character in duration expression: " + shown(at_));
  }

  void in_braces() {
    if (at_end()) return error("unexpected end of input inside braces");
    if (skip_space_or_comment()) return;
    const char c = peek();
    const char next = peek(1);
    if (is_alpha(c)) {
      while (!at_end() && (is_alpha(peek()) || is_digit(peek()))) ++at_;
      return emit(Kind::identifier);
    }
    switch (c) {
      case ',': return emit(Kind::punctuation, 1);
      case '"':
      case '\'':
      case '`': return string();
      case '=':
        if (next == '~') return emit(Kind::op, 2);
        return emit(Kind::punctuation, 1);
      case '!':
        if (next == '~' || next == '=') return emit(Kind::op, 2);
        return error("unexpected character after '!' inside braces: " + shown(at_ + 1));
      case '{': ++at_; return error("unexpected left brace '{'");
      case '}': braces_ = false; return emit(Kind::punctuation, 1);
      default: return error("unexpected character inside braces: " + shown(at_));
    }
  }

  void number_or_duration() {
    if (number()) return emit(Kind::number);
    if (rest_of_duration()) return emit(Kind::duration);
    error("bad number or duration syntax: " + quote(text_.substr(begin_, at_ - begin_)));
  }

  bool accept(std::string_view set) {
    if (at_end() || set.find(peek()) == std::string_view::npos) return false;
    ++at_;
    return true;
  }
  bool next_in(std::string_view set) const { return !at_end() && set.find(peek()) != std::string_view::npos; }

  bool number() {
    std::string_view digits = "0123456789";
    bool hex = false;
    if (accept("0") && accept("xX")) {
      accept("_");
      digits = "0123456789abcdefABCDEF";
      hex = true;
    }
    accept(".");
    accept(digits);
    bool point = false;
    bool exponent = false;
    while (next_in(digits) || next_in("._eE")) {
      if (next_in(".") && point) {
        ++at_;
        return false;
      }
      if (next_in("eE") && exponent && !hex) {
        ++at_;
        return false;
      }
      if (accept(".")) {
        point = true;
        if (accept("_.") || hex) return false;
      } else if (!hex && accept("eE")) {
        exponent = true;
        accept("+-");
        if (accept("._eE") || at_end()) return false;
      } else if (accept("_")) {
        if (accept("._eE") || at_end()) return false;
      } else {
        while (accept(digits)) {
        }
      }
    }
    return at_end() || !(is_alpha(peek()) || is_digit(peek()));
  }

  /// The number has been read; what follows must be units and numbers.
  bool rest_of_duration() {
    constexpr std::string_view kDigits = "0123456789";
    if (!accept("smhdwy")) return false;
    accept("s");
    while (accept(kDigits)) {
      while (accept(kDigits)) {
      }
      if (!accept("smhdw")) return false;
      accept("s");
    }
    if (at_end() || !(is_alpha(peek()) || is_digit(peek()))) return true;
    ++at_;  // shown in the message
    return false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t begin_ = 0;
  std::size_t parens_ = 0;
  bool braces_ = false;
  bool brackets_ = false;
  bool bracket_begins_ = false;
  bool colon_ = false;
  bool done_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

bool Token::is_word(std::string_view word) const {
  return (kind == Kind::keyword || kind == Kind::aggregator || kind == Kind::op ||
          kind == Kind::preprocessor) &&
         text.size() == word.size() && lower(text) == word;
}

std::vector<Token> scan(std::string_view text) {
  return Scanner(text).run();
}

std::string describe(const Token& token) {
  const std::string_view text = token.text;
  std::string shown = quote(text);
  if (text.size() > 10) {
    std::size_t end = 0;  // ten characters, not bytes
    for (int i = 0; i < 10 && end < text.size(); ++i)
      end += std::max<std::size_t>(1, character_length(text, end));
    shown = quote(text.substr(0, end)) + "...";
  }
  switch (token.kind) {
    case Kind::end: return "end of input";
    case Kind::error: return "error";
    case Kind::identifier: return "identifier " + quote(text);
    case Kind::metric_identifier: return "metric identifier " + quote(text);
    case Kind::number: return "number " + shown;
    case Kind::duration: return "duration " + shown;
    case Kind::string: return "string " + shown;
    case Kind::keyword: return "<" + std::string(text) + ">";
    case Kind::aggregator: return "<aggr:" + std::string(text) + ">";
    case Kind::op: return "<op:" + std::string(text) + ">";
    case Kind::preprocessor:
    case Kind::punctuation: return shown;
  }
  return shown;
}

}  // namespace tunnelctl::promql
