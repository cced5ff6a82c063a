#include "tunnelctl/logql/parser.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tunnelctl/logql/parser_state.h"
#include "tunnelctl/promql/regexp.h"

namespace tunnelctl::logql {

using Kind = Token::Kind;

namespace {

constexpr auto kRangeFunctions = std::to_array<std::string_view>(
    {"rate", "rate_counter", "count_over_time", "bytes_rate", "bytes_over_time", "avg_over_time",
     "sum_over_time", "min_over_time", "max_over_time", "stdvar_over_time", "stddev_over_time",
     "quantile_over_time", "first_over_time", "last_over_time", "absent_over_time"});
constexpr auto kVectorFunctions =
    std::to_array<std::string_view>({"sum", "avg", "max", "min", "count", "stddev", "stdvar", "bottomk",
                                     "topk", "sort", "sort_desc", "approx_topk"});

template <class List>
bool contains(const List& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

/// As in syntax.y: or 1, and/unless 2, comparisons 3, + - 4, * / % 5, ^ 6; 0 for everything else.
int precedence(const Token& token) {
  if (token.kind != Kind::symbol) return 0;
  const std::string_view op = token.value;
  if (op == "or") return 1;
  if (op == "and" || op == "unless") return 2;
  if (op == "==" || op == "!=" || op == "<" || op == "<=" || op == ">" || op == ">=") return 3;
  if (op == "+" || op == "-") return 4;
  if (op == "*" || op == "/" || op == "%") return 5;
  return op == "^" ? 6 : 0;
}

}  // namespace

std::optional<double> number(const Token& token) {
  if (token.text.size() > 1 && promql::is_alpha(token.text[1]) && token.text[1] != 'e' &&
      token.text[1] != 'E')
    return std::nullopt;
  std::string_view text = token.text;
  while (text.size() > 1 && text[0] == '0' && promql::is_digit(text[1]))
    text.remove_prefix(1);  // not octal here
  return promql::parse_number(text);
}

std::string no_number(const Token& token) {
  return "unable to parse literal as a float: strconv.ParseFloat: parsing " + promql::quote(token.text) +
         ": invalid syntax";
}

bool Parser::refuse(std::size_t at, std::string message) {
  if (!meaning_) meaning_ = Problem{at, std::move(message)};
  return true;  // reading goes on: a mistake in the grammar is told first
}

bool Parser::unexpected(std::string_view expecting) {
  const Token& token = peek();
  std::string message =
      token.kind == Kind::error ? token.value : "syntax error: unexpected " + describe(token);
  if (token.kind != Kind::error && !expecting.empty()) message += ", expecting " + std::string(expecting);
  if (!syntax_) syntax_ = Problem{token.span.begin, std::move(message)};
  return false;
}

bool Parser::expect(std::string_view symbol) {
  return accept(symbol) || unexpected(symbol);
}

const Token* Parser::expect(Kind kind, std::string_view name) {
  if (peek().kind == kind) return &take();
  unexpected(name);
  return nullptr;
}

bool Parser::deeper(std::size_t at) {
  if (++nesting_ <= kMaxNesting) return true;
  if (!syntax_) syntax_ = Problem{at, "query nests too deeply"};
  return false;
}

bool Parser::query() {
  const auto kind = expression(1);
  if (!kind) return false;
  if (peek().kind != Kind::end) return unexpected();
  result_.kind = *kind == Operand::log ? LogQuery::Kind::log : LogQuery::Kind::metric;
  for (const auto& selector : result_.selectors) {
    if (std::any_of(selector.matchers.begin(), selector.matchers.end(),
                    [](const Matcher& m) { return !matches_empty(m); }))
      continue;
    refuse(selector.span.begin,
           "queries require at least one regexp or equality matcher that does not have an empty-compatible "
           "value. For instance, "
           "app=~\".*\" does not meet this requirement, but app=~\".+\" will");
  }
  return !meaning_;
}

std::optional<Parser::Operand> Parser::expression(int least) {
  const auto begin = peek().span.begin;
  if (!deeper(begin)) return std::nullopt;
  auto left = primary();
  while (left) {
    const int binds = precedence(peek());
    if (binds == 0 || binds < least) break;
    left = operation(take(), *left, begin);
  }
  --nesting_;
  return left;
}

std::optional<Parser::Operand> Parser::operation(const Token& op, Operand left, std::size_t left_begin) {
  const double left_value = literal_;
  if (!matching()) return std::nullopt;
  const auto right_begin = peek().span.begin;
  const int binds = precedence(op);
  const auto right = expression(op.value == "^" ? binds : binds + 1);
  if (!right) return std::nullopt;
  const double right_value = literal_;
  const std::string named = " binary operation (" + op.value + "): ";
  const bool set = binds <= 2;
  if (left == Operand::log) refuse(left_begin, "unexpected type for left leg of" + named + "a log query");
  if (*right == Operand::log) refuse(right_begin, "unexpected type for right leg of" + named + "a log query");
  if (set && left == Operand::literal) {
    refuse(left_begin,
           "unexpected literal for left leg of logical/set" + named + promql::print_number(left_value));
  }
  if (set && *right == Operand::literal) {
    refuse(right_begin,
           "unexpected literal for right leg of logical/set" + named + promql::print_number(right_value));
  }
  return left == Operand::literal && *right == Operand::literal ? Operand::literal : Operand::metric;
}

std::optional<Parser::Operand> Parser::primary() {
  const Token& token = peek();
  const auto metric = [](bool good) { return good ? std::optional(Operand::metric) : std::nullopt; };
  if (token.is("(")) {
    take();
    const auto inner = expression(1);
    if (!inner || !expect(")")) return std::nullopt;
    return inner;
  }
  if (token.is("{")) {
    bool some = false;
    if (!selector() || !pipeline(nullptr, some)) return std::nullopt;
    return Operand::log;
  }
  if (token.kind == Kind::number || token.is("+") || token.is("-")) {
    const bool minus = token.is("-");
    if (token.kind != Kind::number) take();
    const Token* text = expect(Kind::number, "NUMBER");
    if (text == nullptr) return std::nullopt;
    const auto value = number(*text);
    if (!value) refuse(text->span.begin, no_number(*text));
    literal_ = minus ? -value.value_or(0) : value.value_or(0);
    return Operand::literal;
  }
  if (token.kind == Kind::function) {
    if (contains(kRangeFunctions, token.value)) return metric(range_aggregation());
    if (contains(kVectorFunctions, token.value)) return metric(vector_aggregation());
    if (token.is("label_replace")) return metric(label_replace());
    if (token.is("vector")) {
      take();
      if (!expect("(")) return std::nullopt;
      const Token* value = expect(Kind::number, "NUMBER");
      if (value == nullptr) return std::nullopt;
      if (!number(*value)) refuse(value->span.begin, no_number(*value));
      return metric(expect(")"));
    }
  }
  unexpected();
  return std::nullopt;
}

bool Parser::metric_argument() {
  const auto begin = peek().span.begin;
  const auto kind = expression(1);
  if (!kind) return false;
  if (*kind == Operand::log && !syntax_)
    syntax_ = Problem{begin, "syntax error: unexpected log query, expecting a metric query"};
  return *kind != Operand::log;
}

/// bool, on(…), ignoring(…), group_left(…), group_right(…).
bool Parser::matching() {
  accept("bool");
  for (const std::string_view word : {"on", "ignoring"}) {
    if (!accept(word)) continue;
    if (!labels(word)) return false;
    for (const std::string_view side : {"group_left", "group_right"}) {
      if (accept(side)) return !peek().is("(") || labels(side);
    }
    return true;
  }
  return true;
}

bool Parser::labels(std::string_view where) {
  if (!expect("(")) return false;
  if (accept(")")) return true;
  for (;;) {
    const Token* label = expect(Kind::identifier, "IDENTIFIER");
    if (label == nullptr) return false;
    used(*label, where);
    if (accept(")")) return true;
    if (!accept(",")) return unexpected(", or )");
  }
}

bool Parser::grouping(std::optional<Grouping>& grouping) {
  const bool by = peek().is("by");
  if (!by && !peek().is("without")) return true;
  const auto begin = take().span.begin;
  const auto before = result_.labels_used.size();
  if (!labels(by ? "by" : "without")) return false;
  grouping = Grouping{!by, result_.labels_used.size() == before, begin};
  return true;
}

bool Parser::range_aggregation() {
  const Token& function = take();
  if (!expect("(")) return false;
  const Token* parameter = nullptr;
  if (peek().kind == Kind::number) {
    parameter = &take();
    if (!expect(",")) return false;
  }
  const auto first = result_.selectors.size();
  LogRange found;
  if (!log_range(found)) return false;
  if (!found.range) return unexpected("RANGE");
  result_.selectors[first].function = function.value;
  if (!expect(")")) return false;
  std::optional<Grouping> by;
  if (!grouping(by)) return false;
  return check_range_function(function, parameter, by.has_value(), found.unwrap);
}

bool Parser::check_range_function(const Token& function, const Token* parameter, bool grouped,
                                  bool unwrapped) {
  const std::string& name = function.value;
  const auto at = function.span.begin;
  const bool quantile = name == "quantile_over_time";
  if (parameter != nullptr && !quantile) {
    refuse(parameter->span.begin,
           "parameter " + std::string(parameter->text) + " not supported for operation " + name);
  }
  if (parameter != nullptr && quantile && !number(*parameter)) {
    refuse(parameter->span.begin, "invalid parameter for operation " + name + ": " + no_number(*parameter));
  }
  if (parameter == nullptr && quantile) refuse(at, "parameter required for operation " + name);

  constexpr auto kCounts =
      std::to_array<std::string_view>({"bytes_over_time", "bytes_rate", "count_over_time"});
  constexpr auto kEither = std::to_array<std::string_view>({"rate", "absent_over_time"});
  constexpr auto kUngrouped = std::to_array<std::string_view>({"rate_counter", "sum_over_time"});
  const bool counts = contains(kCounts, name);
  const bool either = contains(kEither, name);
  if (grouped && (counts || either || contains(kUngrouped, name)))
    refuse(at, "grouping not allowed for " + name + " aggregation");
  if (unwrapped && counts) refuse(at, "invalid aggregation " + name + " with unwrap");
  if (!unwrapped && !counts && !either) refuse(at, "invalid aggregation " + name + " without unwrap");
  return true;
}

/// A selector with stages, unwrap and one range between or behind them; parentheses around all or around the
/// part before the range.
bool Parser::log_range(LogRange& found) {
  if (!deeper(peek().span.begin)) return false;
  const auto first = result_.selectors.size();
  if (accept("(")) {
    if (!log_range(found) || !expect(")")) return false;
    if (!found.range) {
      const bool bare = found.bare;
      if (!range(found, first)) return false;
      bool some = false;
      // `(selector)[5m] | unwrap x` is in the grammar, `(selector)[5m] |= "x"` is not.
      if (bare && peek().is("|") && peek(1).is("unwrap") && !pipeline(&found.unwrap, some)) return false;
    }
    --nesting_;
    return true;
  }
  if (!selector()) return false;
  bool some = false;
  if (peek().kind == Kind::range) {
    if (!range(found, first) || !pipeline(&found.unwrap, some)) return false;
  } else {
    if (!pipeline(&found.unwrap, some)) return false;
    found.bare = !some;
    if (peek().kind == Kind::range && !range(found, first)) return false;
  }
  --nesting_;
  return true;
}

bool Parser::range(LogRange& found, std::size_t selector) {
  const Token* range = expect(Kind::range, "RANGE");
  if (range == nullptr) return false;
  result_.selectors[selector].range = range->duration;
  found.range = true;
  return !accept("offset") || expect(Kind::duration, "DURATION") != nullptr;
}

bool Parser::vector_aggregation() {
  const Token& function = take();
  std::optional<Grouping> by;
  if (!grouping(by) || !expect("(")) return false;
  const Token* parameter = nullptr;
  if (peek().kind == Kind::number && peek(1).is(",")) {
    parameter = &take();
    take();
  }
  if (!metric_argument() || !expect(")")) return false;
  if (!by && !grouping(by)) return false;
  return check_vector_function(function, parameter, by);
}

bool Parser::check_vector_function(const Token& function, const Token* parameter,
                                   const std::optional<Grouping>& grouping) {
  const std::string& name = function.value;
  const auto at = function.span.begin;
  const bool top = name == "topk" || name == "bottomk" || name == "approx_topk";
  if (top && parameter == nullptr) return refuse(at, "parameter required for operation " + name);
  if (parameter != nullptr) {
    const std::string text(parameter->text);
    if (!top)
      return refuse(parameter->span.begin, "unsupported parameter for operation " + name + "(" + text + ",");
    if (!std::all_of(text.begin(), text.end(), promql::is_digit)) {
      return refuse(parameter->span.begin, "invalid parameter " + name + "(" + text + ",");
    }
    if (text.find_first_not_of('0') == std::string::npos) {
      return refuse(parameter->span.begin, "invalid parameter (must be greater than 0) " + name + "(" + text);
    }
  }
  if (name == "approx_topk" && grouping)
    return refuse(grouping->at, "grouping not allowed for approx_topk aggregation");
  if (name.starts_with("sort") && grouping && !grouping->empty) {
    return refuse(grouping->at, "sort and sort_desc doesn't allow grouping by ");
  }
  return true;
}

bool Parser::label_replace() {
  take();
  if (!expect("(") || !metric_argument()) return false;
  std::array<const Token*, 4> arguments{};
  for (auto& argument : arguments) {
    if (!expect(",")) return false;
    argument = expect(Kind::string, "STRING");
    if (argument == nullptr) return false;
  }
  result_.labels_made.push_back(arguments[0]->value);
  result_.labels_used.push_back({arguments[2]->value, "label_replace", arguments[2]->span});
  if (const auto pattern = promql::parse_regexp(arguments[3]->value); !pattern) {
    refuse(arguments[3]->span.begin, "invalid regex in label_replace: " + pattern.error().message);
  }
  return expect(")");
}

Result<LogQuery> parse(std::string_view text) {
  if (text.size() > kMaxLength) {
    return fail(Error::Kind::bad_input, "1:1: parse error: input size too long (" +
                                            std::to_string(text.size()) + " > " +
                                            std::to_string(kMaxLength + 1) + ")");
  }
  Parser parser(text);
  if (parser.query()) return parser.take_result();
  const auto problem = parser.problem().value_or(Parser::Problem{0, "no query"});
  return tl::unexpected(promql::parse_error(text, problem.at, problem.message));
}

}  // namespace tunnelctl::logql
