#include <cmath>
#include <cstdio>

#include "tunnelctl/promql/parser_state.h"
#include "tunnelctl/promql/regexp.h"

namespace tunnelctl::promql {

using Kind = Token::Kind;

namespace {

constexpr std::string_view kNoDurationArithmetic = "experimental duration expression is not enabled";

bool is_arithmetic(const Token& token) {
  return token.is("+") || token.is("-") || token.is("*") || token.is("/") || token.is("%") || token.is("^");
}

}  // namespace

std::optional<Number> Parser::literal() {
  const Token& token = peek();
  if (token.kind == Kind::number) {
    take();
    if (const auto value = parse_number(token.text)) return Number{*value, false};
    const bool syntax = token.text.find('_') != std::string_view::npos || token.text.size() < 300;
    error(token.span.begin, "error parsing number: strconv.ParseFloat: parsing " + quote(token.text) +
                                (syntax ? ": invalid syntax" : ": value out of range"));
    return std::nullopt;
  }
  if (token.kind != Kind::duration) return std::nullopt;
  take();
  const auto duration = parse_duration(token.text);
  if (duration) return Number{std::chrono::duration<double>(*duration).count(), true};
  error(token.span.begin, duration.error().message);
  return std::nullopt;
}

NodePtr Parser::postfix() {
  auto node = primary();
  while (node) {
    const auto height = node->height;
    if (peek().is("[")) {
      node = brackets(std::move(node));
      continue;
    }
    bool good = true;
    if (accept_word("offset")) {
      good = offset(*node);
    } else if (accept("@")) {
      good = at_modifier(*node);
    } else if (peek().is_word("anchored") || peek().is_word("smoothed")) {
      good = extended(*node);
    } else {
      return node;
    }
    if (!good) return nullptr;
    node->height = height;
    node->span.end = last_end_;
  }
  return node;
}

std::optional<std::chrono::nanoseconds> Parser::nanoseconds(double seconds, std::size_t at) {
  constexpr double kMost = 9223372036.0;  // 2^63 ns
  if (!(std::abs(seconds) < kMost)) {
    error(at, "duration out of range");
    return std::nullopt;
  }
  return std::chrono::nanoseconds{std::llround(seconds * 1e9)};
}

std::optional<std::chrono::nanoseconds> Parser::bracket_duration(std::string_view context,
                                                                 std::string_view expected) {
  const auto begin = peek().span.begin;
  const bool minus = peek().is("-");
  if (minus || peek().is("+")) take();
  if (peek().is("(") || peek().kind == Kind::preprocessor) {
    error(begin, std::string(kNoDurationArithmetic));
    return std::nullopt;
  }
  const auto number = literal();
  if (!number) {
    unexpected(context, expected);
    return std::nullopt;
  }
  if (is_arithmetic(peek())) {
    error(begin, std::string(kNoDurationArithmetic));
    return std::nullopt;
  }
  const auto duration = nanoseconds(minus ? -number->value : number->value, begin);
  if (!duration) return std::nullopt;
  if ((minus ? -number->value : number->value) <= 0 || duration->count() == 0) {
    error(begin, "duration must be greater than 0");
    return std::nullopt;
  }
  return duration;
}

NodePtr Parser::brackets(NodePtr inner) {
  const auto bracket = take().span.begin;
  const auto range = bracket_duration("subquery or range selector", "number, duration, step(), or range()");
  if (!range) return nullptr;

  if (accept(":")) {
    std::chrono::nanoseconds step{0};
    if (!peek().is("]")) {
      const auto given = bracket_duration("subquery selector", "number, duration, step(), range(), or \"]\"");
      if (!given) return nullptr;
      step = *given;
    }
    if (!accept("]")) {
      unexpected("subquery selector", "\"]\"");
      return nullptr;
    }
    const Span span{inner->span.begin, last_end_};
    return make(span, ValueType::matrix, Subquery{std::move(inner), *range, step, {}});
  }

  if (!accept("]")) {
    unexpected("subquery or range", "\":\" or \"]\"");
    return nullptr;
  }
  auto* selector = std::get_if<Selector>(&inner->as);
  const char* refusal = nullptr;
  if (selector == nullptr) {
    refusal = "ranges only allowed for vector selectors";
  } else if (selector->modifiers.offset.count() != 0) {
    refusal = "no offset modifiers allowed before range";
  } else if (selector->modifiers.at_ms || selector->modifiers.at_edge != Modifiers::Edge::none) {
    refusal = "no @ modifiers allowed before range";
  }
  if (refusal != nullptr) {
    error(bracket, refusal);
    return nullptr;
  }
  const Span span{inner->span.begin, last_end_};
  Matrix matrix{std::move(*selector), inner->span, *range, {}};
  matrix.modifiers.extended = matrix.selector.modifiers.extended;
  matrix.selector.modifiers = {};
  return make(span, ValueType::matrix, std::move(matrix));
}

Modifiers* Parser::modifiers_of(Node& node, std::string_view what) {
  if (auto* selector = std::get_if<Selector>(&node.as)) return &selector->modifiers;
  if (auto* matrix = std::get_if<Matrix>(&node.as)) return &matrix->modifiers;
  if (auto* subquery = std::get_if<Subquery>(&node.as)) return &subquery->modifiers;
  error(
      node.span.begin,
      std::string(what) +
          " modifier must be preceded by an instant vector selector or range vector selector or a subquery");
  return nullptr;
}

bool Parser::offset(Node& node) {
  const auto begin = peek().span.begin;
  const bool minus = peek().is("-");
  if (minus || peek().is("+")) take();
  if (peek().is("(") || (peek().kind == Kind::preprocessor && peek(1).is("("))) {
    error(begin, std::string(kNoDurationArithmetic));
    return false;
  }
  const auto number = literal();
  if (!number) {
    unexpected("offset", "number, duration, step(), or range()");
    return false;
  }
  const auto duration = nanoseconds(minus ? -number->value : number->value, begin);
  if (!duration) return false;
  auto* modifiers = modifiers_of(node, "offset");
  if (modifiers == nullptr) return false;
  if (modifiers->offset.count() != 0) {
    error(node.span.begin, "offset may not be set multiple times");
    return false;
  }
  modifiers->offset = *duration;
  return true;
}

bool Parser::at_modifier(Node& node) {
  std::optional<std::int64_t> time;
  auto edge = Modifiers::Edge::none;
  if (peek().is_word("start") || peek().is_word("end")) {
    edge = take().is_word("start") ? Modifiers::Edge::start : Modifiers::Edge::end;
    if (!accept("(") || !accept(")")) {
      unexpected("@", "timestamp");
      return false;
    }
  } else {
    const bool minus = peek().is("-");
    if (minus || peek().is("+")) take();
    const auto number = literal();
    if (!number) {
      unexpected("@", "timestamp");
      return false;
    }
    const double seconds = minus ? -number->value : number->value;
    // Milliseconds of a 64-bit number.
    if (!(std::abs(seconds) < 9223372036854775.0)) {
      char shown[400];
      std::snprintf(shown, sizeof shown, "%f", seconds);
      const std::string text = std::isfinite(seconds) ? std::string(shown) : print_number(seconds);
      error(node.span.begin, "timestamp out of bounds for @ modifier: " + text);
      return false;
    }
    time = std::llround(seconds * 1000);
  }
  auto* modifiers = modifiers_of(node, "@");
  if (modifiers == nullptr) return false;
  if (modifiers->at_ms || modifiers->at_edge != Modifiers::Edge::none) {
    error(node.span.begin, "@ <timestamp> may not be set multiple times");
    return false;
  }
  modifiers->at_ms = time;
  modifiers->at_edge = edge;
  return true;
}

bool Parser::extended(Node& node) {
  const bool anchored = take().is_word("anchored");
  const std::string name = anchored ? "anchored" : "smoothed";
  if (!options_.experimental) {
    error(node.span.begin, name + " modifier is experimental and not enabled");
    return false;
  }
  if (node.get_if<Selector>() == nullptr && node.get_if<Matrix>() == nullptr) {
    error(node.span.begin,
          name + (node.get_if<Subquery>() != nullptr ? " modifier is not supported for subqueries"
                                                     : " modifier not implemented"));
    return false;
  }
  auto* modifiers = modifiers_of(node, name);
  const auto wanted = anchored ? Modifiers::Extended::anchored : Modifiers::Extended::smoothed;
  if (modifiers->extended != Modifiers::Extended::none && modifiers->extended != wanted) {
    error(node.span.begin, "anchored and smoothed modifiers cannot be used together");
    return false;
  }
  modifiers->extended = wanted;
  return true;
}

NodePtr Parser::selector() {
  Selector value;
  const auto begin = peek().span.begin;
  if (!peek().is("{")) value.name = take().text;
  if (peek().is("{") && !matchers(value.matchers)) return nullptr;
  return make({begin, last_end_}, ValueType::vector, std::move(value));
}

bool Parser::matchers(std::vector<Matcher>& matchers) {
  take();  // the brace
  while (!accept("}")) {
    const Token& label = peek();
    if (label.kind != Kind::identifier && label.kind != Kind::string) {
      unexpected("label matching", "identifier or \"}\"");
      return false;
    }
    take();
    const bool quoted = label.kind == Kind::string;
    Matcher matcher{quoted ? unquote(label.text) : std::string(label.text), MatchOp::equal, {}, label.span};
    const Token& op = peek();
    const bool has_op = op.is("=") || op.is("!=") || op.is("=~") || op.is("!~");
    if (!has_op && quoted) {
      // {"name"}: the metric's name in quotes.
      matcher.value = std::move(matcher.label);
      matcher.label = "__name__";
    } else if (!has_op) {
      unexpected("label matching", "label matching operator");
      return false;
    } else {
      take();
      if (op.is("!=")) matcher.op = MatchOp::not_equal;
      if (op.is("=~")) matcher.op = MatchOp::regexp;
      if (op.is("!~")) matcher.op = MatchOp::not_regexp;
      const Token& value = peek();
      if (value.kind != Kind::string) {
        unexpected("label matching", "string");
        return false;
      }
      take();
      matcher.value = unquote(value.text);
      matcher.span.end = value.span.end;
      if (op.is("=~") || op.is("!~")) {
        if (const auto pattern = parse_regexp(matcher.value); !pattern) {
          error(label.span.begin, pattern.error().message);
          return false;
        }
      }
    }
    matchers.push_back(std::move(matcher));
    if (peek().is("}")) continue;
    if (!peek().is(",")) {
      unexpected("label matching", "\",\" or \"}\"");
      return false;
    }
    take();
  }
  return true;
}

}  // namespace tunnelctl::promql
