#include "tunnelctl/logql/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

namespace tunnelctl::logql {
namespace {

using Kind = Token::Kind;
using promql::is_alpha;
using promql::is_digit;
using promql::is_space;

constexpr auto kFunctions = std::to_array<std::string_view>({"rate",
                                                             "rate_counter",
                                                             "count_over_time",
                                                             "bytes_rate",
                                                             "bytes_over_time",
                                                             "avg_over_time",
                                                             "sum_over_time",
                                                             "min_over_time",
                                                             "max_over_time",
                                                             "stdvar_over_time",
                                                             "stddev_over_time",
                                                             "quantile_over_time",
                                                             "first_over_time",
                                                             "last_over_time",
                                                             "absent_over_time",
                                                             "vector",
                                                             "sum",
                                                             "avg",
                                                             "max",
                                                             "min",
                                                             "count",
                                                             "stddev",
                                                             "stdvar",
                                                             "bottomk",
                                                             "topk",
                                                             "sort",
                                                             "sort_desc",
                                                             "label_replace",
                                                             "approx_topk",
                                                             "bytes",
                                                             "duration",
                                                             "duration_seconds",
                                                             "ip"});
/// Words that are keywords everywhere, so that no label can have their name.
constexpr auto kKeywords = std::to_array<std::string_view>(
    {"by",          "without",      "bool",        "unwrap",     "offset", "on",     "ignoring", "group_left",
     "group_right", "or",           "and",         "unless",     "json",   "regexp", "logfmt",   "unpack",
     "pattern",     "label_format", "line_format", "decolorize", "drop",   "keep"});
constexpr auto kSymbols = std::to_array<std::string_view>(
    {"!=", "=~", "!~", "!>", "|=", "|~", "|>", "==", ">=", "<=", ",", ".", "{", "}",
     "=",  "|",  "(",  ")",  "[",  "]",  "+",  "-",  "*",  "/",  "%", "^", ">", "<"});

template <class List>
bool contains(const List& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

/// Go's time.ParseDuration, as far as validity goes: 1.5h30m, 100us, -5s.
bool is_go_duration(std::string_view text) {
  if (text.starts_with("-")) text.remove_prefix(1);
  if (text.empty()) return false;
  while (!text.empty()) {
    std::size_t at = 0;
    bool digits = false;
    while (at < text.size() && (is_digit(text[at]) || text[at] == '.'))
      digits = is_digit(text[at++]) || digits;
    if (!digits || std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '.') > 1)
      return false;
    text.remove_prefix(at);
    constexpr std::string_view kUnits[] = {"ns", "us", "\u00B5s", "\u03BCs", "ms", "s", "m", "h"};
    const auto* unit = std::find_if(std::begin(kUnits), std::end(kUnits),
                                    [&](std::string_view u) { return text.starts_with(u); });
    if (unit == std::end(kUnits)) return false;
    text.remove_prefix(unit->size());
  }
  return true;
}

/// A size as github.com/dustin/go-humanize reads it; exabytes and more are not for Loki.
bool is_bytes(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && (is_digit(text[at]) || text[at] == '.')) ++at;
  const auto number = text.substr(0, at);
  if (std::count(number.begin(), number.end(), '.') > 1 || number == ".") return false;
  const auto unit = promql::lower(text.substr(at));
  if (unit == "b") return true;
  if (unit.empty() || std::string_view("kmgtp").find(unit[0]) == std::string_view::npos) return false;
  const auto rest = unit.substr(1);
  return rest.empty() || rest == "b" || rest == "i" || rest == "ib";
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    if (!promql::is_utf8(text_)) {
      std::size_t at = 0;
      while (const auto length = promql::character_length(text_, at)) at += length;
      begin_ = at;
      error("invalid UTF-8 encoding");
    }
    while (!done_) token();
    return std::move(tokens_);
  }

 private:
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool at_end() const { return at_ >= text_.size(); }

  Token& emit(Kind kind) {
    tokens_.push_back({kind, {begin_, at_}, text_.substr(begin_, at_ - begin_), {}, {}});
    return tokens_.back();
  }
  void error(std::string message) {
    emit(Kind::error).value = std::move(message);
    done_ = true;
  }

  void skip_line() {
    while (!at_end() && peek() != '\n') ++at_;
  }

  void token() {
    while (!at_end() && is_space(peek())) ++at_;
    begin_ = at_;
    if (at_end()) {
      emit(Kind::end);
      done_ = true;
      return;
    }
    const char c = peek();
    if (c == '#' || (c == '/' && peek(1) == '/')) return skip_line();
    if (c == '/' && peek(1) == '*') {
      const auto end = text_.find("*/", at_ + 2);
      if (end == std::string_view::npos) return error("comment not terminated");
      at_ = end + 2;
      return;
    }
    if (c == '"' || c == '`') return string();
    if (c == '\'') return character();
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number();
    if (is_alpha(c) || static_cast<unsigned char>(c) >= 0x80) return word();
    if (c == '[') return range();
    if (c == '-' && dash()) return;
    for (const auto symbol : kSymbols) {
      if (!text_.substr(at_).starts_with(symbol)) continue;
      at_ += symbol.size();
      emit(Kind::symbol).value = symbol;
      return;
    }
    at_ += promql::character_length(text_, at_);
    emit(Kind::identifier);  // whatever it is, no rule of the grammar wants it there
    tokens_.back().kind = Kind::error;
    tokens_.back().value = "syntax error: unexpected " + promql::quote_character(text_, begin_);
    done_ = true;
  }

  void string() {
    const auto end = promql::scan_string(text_, at_);
    if (!end) {
      const bool open = end.error().message.starts_with("unterminated") ||
                        end.error().message == "escape sequence not terminated";
      return error(open ? "literal not terminated" : "invalid syntax: " + end.error().message);
    }
    at_ = *end;
    Token& token = emit(Kind::string);
    token.value = promql::unquote(token.text);
  }

  /// 'x' is a character in Go, and stands nowhere in LogQL.
  void character() { error("syntax error: unexpected ', strings stand in \" or `"); }

  void number() {
    if (peek() == '0' && (peek(1) == 'x' || peek(1) == 'X' || peek(1) == 'b' || peek(1) == 'o')) {
      at_ += 2;
      while (!at_end() && (is_alpha(peek()) || is_digit(peek()))) ++at_;
    } else {
      digits();
      if (peek() == '.') {
        ++at_;
        digits();
      }
      if ((peek() == 'e' || peek() == 'E') &&
          (is_digit(peek(1)) || ((peek(1) == '+' || peek(1) == '-') && is_digit(peek(2))))) {
        at_ += 2;
        digits();
      }
    }
    if (unit("nu\xC2\xB5\xCE\xBCmshdwy", Kind::duration) || unit("BikKMGTP", Kind::bytes)) return;
    emit(Kind::number);
  }
  void digits() {
    while (is_digit(peek()) || (peek() == '_' && is_digit(peek(1)))) ++at_;
  }

  /// Takes what follows a number as its unit, if the whole is one.
  bool unit(std::string_view characters, Kind kind) {
    auto end = at_;
    while (end < text_.size() && (is_digit(text_[end]) || text_[end] == '.' ||
                                  characters.find(text_[end]) != std::string_view::npos))
      ++end;
    if (end == at_) return false;
    const auto whole = text_.substr(begin_, end - begin_);
    const bool fits =
        kind == Kind::bytes ? is_bytes(whole) : promql::parse_duration(whole) || is_go_duration(whole);
    if (!fits) return false;
    at_ = end;
    emit(kind);
    return true;
  }

  /// --strict, --keep-empty, or a negative duration.
  bool dash() {
    for (const std::string_view flag : {"--strict", "--keep-empty"}) {
      const auto rest = text_.substr(at_);
      if (!rest.starts_with(flag)) continue;
      const char next = peek(flag.size());
      if (next == '-' || (is_alpha(next) && next != '_')) continue;
      at_ += flag.size();
      emit(Kind::flag);
      return true;
    }
    ++at_;
    if (unit("nu\xC2\xB5\xCE\xBCmshdwy", Kind::duration)) return true;
    at_ = begin_;
    return false;
  }

  void range() {
    const auto end = text_.find(']', at_);
    if (end == std::string_view::npos) return error("missing closing ']' in duration");
    const auto duration = promql::parse_duration(text_.substr(at_ + 1, end - at_ - 1));
    if (!duration) return error(duration.error().message);
    at_ = end + 1;
    emit(Kind::range).duration = *duration;
  }

  void word() {
    while (!at_end() && (is_alpha(peek()) || is_digit(peek()) || static_cast<unsigned char>(peek()) >= 0x80))
      ++at_;
    auto low = promql::lower(text_.substr(begin_, at_ - begin_));
    if (contains(kFunctions, low)) {
      Token& token = emit(call_follows() ? Kind::function : Kind::identifier);
      token.value = std::move(low);
      return;
    }
    Token& token = emit(contains(kKeywords, low) ? Kind::symbol : Kind::identifier);
    token.value = std::move(low);
  }

  std::size_t after_space(std::size_t at) const {
    while (at < text_.size() && is_space(text_[at])) ++at;
    return at;
  }
  /// `(`, `by (` or `without (`.
  bool call_follows() const {
    auto at = after_space(at_);
    if (at < text_.size() && text_[at] == '(') return true;
    for (const std::string_view modifier : {"by", "without"}) {
      if (promql::lower(text_.substr(at, modifier.size())) != modifier) continue;
      at = after_space(at + modifier.size());
      return at < text_.size() && text_[at] == '(';
    }
    return false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t begin_ = 0;
  bool done_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> scan(std::string_view text) {
  return Scanner(text).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case Kind::end: return "$end";
    case Kind::error: return "error";
    case Kind::identifier: return "IDENTIFIER " + promql::quote(token.text);
    case Kind::string: return "STRING " + std::string(token.text);
    case Kind::number: return "NUMBER " + std::string(token.text);
    case Kind::duration: return "DURATION " + std::string(token.text);
    case Kind::bytes: return "BYTES " + std::string(token.text);
    case Kind::range: return "RANGE " + std::string(token.text);
    case Kind::flag:
    case Kind::function:
    case Kind::symbol: return std::string(token.text);
  }
  return {};
}

}  // namespace tunnelctl::logql
