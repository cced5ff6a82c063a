#include "tunnelctl/promql/parser.h"

#include <algorithm>
#include <cmath>

#include "tunnelctl/promql/check.h"
#include "tunnelctl/promql/functions.h"
#include "tunnelctl/promql/lexer.h"
#include "tunnelctl/promql/parser_state.h"

namespace tunnelctl::promql {

using Kind = Token::Kind;

namespace {

struct Operator {
  Op op;
  int precedence;  // as in generated_parser.y: or 1, and/unless 2, comparisons 3, + - 4, * / % atan2 5, ^ 6
};
constexpr int kUnaryBinds = 6;  // -2^2 is -(2^2), -2*2 is (-2)*2

std::optional<Operator> operator_of(const Token& token) {
  if (token.kind != Kind::op) return std::nullopt;
  const std::string word = lower(token.text);
  constexpr Op kAll[] = {
      Op::logical_or,    Op::logical_and, Op::unless,           Op::equal,      Op::not_equal,  Op::less,
      Op::less_or_equal, Op::greater,     Op::greater_or_equal, Op::trim_upper, Op::trim_lower, Op::add,
      Op::subtract,      Op::multiply,    Op::divide,           Op::modulo,     Op::atan2,      Op::power};
  for (const Op op : kAll) {
    if (word != spelling(op)) continue;
    switch (op) {
      case Op::logical_or: return Operator{op, 1};
      case Op::logical_and:
      case Op::unless: return Operator{op, 2};
      case Op::add:
      case Op::subtract: return Operator{op, 4};
      case Op::multiply:
      case Op::divide:
      case Op::modulo:
      case Op::atan2: return Operator{op, 5};
      case Op::power: return Operator{op, 6};
      default: return Operator{op, 3};
    }
  }
  return std::nullopt;
}

/// Words that are also good names of metrics where an expression begins.
bool names_a_metric(const Token& token) {
  switch (token.kind) {
    case Kind::identifier:
    case Kind::metric_identifier:
    case Kind::aggregator:
    case Kind::preprocessor: return true;
    case Kind::op: return token.is_word("and") || token.is_word("or") || token.is_word("unless");
    case Kind::keyword:
      return !(token.is_word("on") || token.is_word("ignoring") || token.is_word("bool") ||
               token.is_word("group_left") || token.is_word("group_right"));
    default: return false;
  }
}

}  // namespace

NodePtr Parser::make(Span span, ValueType type, decltype(Node::as) value) {
  auto node = std::make_unique<Node>();
  node->span = span;
  node->type = type;
  node->as = std::move(value);
  for (const Node* child : children(*node)) node->height = std::max(node->height, child->height + 1);
  if (node->height > kMaxHeight) {
    error(span.begin,
          "expression is too long: more than " + std::to_string(kMaxHeight) + " levels of operators");
    return nullptr;
  }
  return node;
}

void Parser::error(std::size_t at, std::string message) {
  if (!problem_) problem_ = Problem{at, std::move(message)};
}

void Parser::unexpected(std::string_view context, std::string_view expected) {
  const Token& token = peek();
  if (token.kind == Kind::error) return error(token.span.begin, token.message);
  std::string message = "unexpected " + describe(token);
  if (!context.empty()) message += " in " + std::string(context);
  if (!expected.empty()) message += ", expected " + std::string(expected);
  error(token.span.begin, std::move(message));
}

NodePtr Parser::query() {
  if (peek().kind == Kind::end) {
    error(0, "no expression found in input");
    return nullptr;
  }
  auto root = binary(0);
  if (root && peek().kind != Kind::end) {
    unexpected();
    return nullptr;
  }
  return root;
}

NodePtr Parser::binary(int least) {
  if (++nesting_ > kMaxNesting) {
    error(peek().span.begin, "expression nests too deeply");
    return nullptr;
  }
  auto left = unary();
  while (left) {
    const auto op = operator_of(peek());
    if (!op || op->precedence < least) break;
    Binary value;
    value.op = op->op;
    value.op_span = take().span;
    if (!binary_modifiers(value)) return nullptr;
    auto right = binary(op->op == Op::power ? op->precedence : op->precedence + 1);
    if (!right) return nullptr;
    const Span span{left->span.begin, right->span.end};
    if (!options_.experimental && (value.matching.fill_left || value.matching.fill_right)) {
      error(span.begin, "binop fill modifiers are experimental and not enabled");
      return nullptr;
    }
    const bool scalar = left->type == ValueType::scalar && right->type == ValueType::scalar;
    value.left = std::move(left);
    value.right = std::move(right);
    left = make(span, scalar ? ValueType::scalar : ValueType::vector, std::move(value));
  }
  --nesting_;
  return left;
}

bool Parser::binary_modifiers(Binary& value) {
  auto& matching = value.matching;
  if (accept_word("bool")) value.return_bool = true;
  const bool on = peek().is_word("on");
  if (on || peek().is_word("ignoring")) {
    take();
    matching.kind = on ? Matching::Labels::on : Matching::Labels::ignoring;
    if (!grouping_labels(matching.labels)) return false;
    const bool left = peek().is_word("group_left");
    if (left || peek().is_word("group_right")) {
      take();
      matching.group = left ? Matching::Group::left : Matching::Group::right;
      if (peek().is("(") && !grouping_labels(matching.include)) return false;
    }
  }
  if (accept_word("fill")) {
    if (!fill_value(matching.fill_left)) return false;
    matching.fill_right = matching.fill_left;
    return true;
  }
  while (peek().is_word("fill_left") || peek().is_word("fill_right")) {
    auto& fill = peek().is_word("fill_left") ? matching.fill_left : matching.fill_right;
    if (fill) break;
    take();
    if (!fill_value(fill)) return false;
  }
  return true;
}

bool Parser::fill_value(std::optional<double>& value) {
  if (!expect_punctuation("(")) return false;
  const bool minus = peek().is("-");
  if (minus || peek().is("+")) take();
  const auto number = literal();
  if (!number) {
    unexpected();
    return false;
  }
  value = minus ? -number->value : number->value;
  return expect_punctuation(")");
}

NodePtr Parser::unary() {
  const bool minus = peek().is("-");
  if (!minus && !peek().is("+")) return postfix();
  const Span op = take().span;
  auto inner = binary(kUnaryBinds);
  if (!inner) return nullptr;
  const Span span{op.begin, inner->span.end};
  if (auto* number = std::get_if<Number>(&inner->as)) {
    if (minus) number->value = -number->value;
    inner->span = span;
    return inner;
  }
  const auto type = inner->type;
  return make(span, type, Unary{minus, std::move(inner)});
}

NodePtr Parser::primary() {
  const Token& token = peek();
  const Token& next = peek(1);
  if (token.kind == Kind::number || token.kind == Kind::duration) {
    const auto number = literal();
    return number ? make(token.span, ValueType::scalar, *number) : nullptr;
  }
  if (token.kind == Kind::string) {
    take();
    return make(token.span, ValueType::string, String{unquote(token.text)});
  }
  if (token.is("(")) {
    take();
    auto inner = binary(0);
    if (!inner) return nullptr;
    const auto end = peek().span.end;
    if (!expect_punctuation(")")) return nullptr;
    const auto type = inner->type;
    return make({token.span.begin, end}, type, Paren{std::move(inner)});
  }
  if (token.kind == Kind::aggregator && (next.is("(") || next.is_word("by") || next.is_word("without")))
    return aggregate();
  if ((token.kind == Kind::identifier || token.kind == Kind::preprocessor) && next.is("(")) return call();
  if (token.is("{") || names_a_metric(token)) return selector();
  unexpected();
  return nullptr;
}

NodePtr Parser::aggregate() {
  const Token& op = take();
  Aggregate value;
  value.op = lower(op.text);
  const auto modifier = [&] {
    const bool by = peek().is_word("by");
    if (!by && !peek().is_word("without")) return true;
    take();
    value.grouping = by ? Aggregate::Grouping::by : Aggregate::Grouping::without;
    return grouping_labels(value.labels);
  };
  if (!modifier()) return nullptr;
  if (!peek().is("(")) {
    unexpected("aggregation");
    return nullptr;
  }
  std::vector<NodePtr> arguments;
  if (!call_arguments(arguments)) return nullptr;
  if (value.grouping == Aggregate::Grouping::none && !modifier()) return nullptr;

  const auto refuse = [&](std::string message) -> NodePtr {
    error(op.span.begin, std::move(message));
    return nullptr;
  };
  if (arguments.empty()) return refuse("no arguments for aggregate expression provided");
  const bool limits = value.op == "limitk" || value.op == "limit_ratio";
  const bool parameter = limits || value.op == "topk" || value.op == "bottomk" || value.op == "quantile" ||
                         value.op == "count_values";
  if (limits && !options_.experimental) {
    return refuse(
        value.op +
        "() is experimental and must be enabled with --enable-feature=promql-experimental-functions");
  }
  const std::size_t wanted = parameter ? 2 : 1;
  if (arguments.size() != wanted) {
    return refuse("wrong number of arguments for aggregate expression provided, expected " +
                  std::to_string(wanted) + ", got " + std::to_string(arguments.size()));
  }
  if (parameter) value.parameter = std::move(arguments[0]);
  value.inner = std::move(arguments.back());
  return make({op.span.begin, last_end_}, ValueType::vector, std::move(value));
}

NodePtr Parser::call() {
  const Token& name = take();
  Call value;
  if (!call_arguments(value.arguments)) return nullptr;
  value.function = find_function(name.text);
  if (value.function == nullptr) {
    error(name.span.begin, "unknown function with name " + quote(name.text));
    return nullptr;
  }
  if (value.function->experimental && !options_.experimental) {
    error(name.span.begin, "function " + quote(name.text) + " is not enabled");
    return nullptr;
  }
  const auto type = value.function->returns;
  return make({name.span.begin, last_end_}, type, std::move(value));
}

bool Parser::call_arguments(std::vector<NodePtr>& arguments) {
  take();  // the parenthesis
  if (accept(")")) return true;
  for (;;) {
    auto argument = binary(0);
    if (!argument) return false;
    arguments.push_back(std::move(argument));
    if (!peek().is(",")) return expect_punctuation(")");
    const auto comma = take().span.begin;
    if (peek().is(")")) {
      error(comma, "trailing commas not allowed in function call args");
      return false;
    }
  }
}

bool Parser::grouping_labels(std::vector<std::string>& labels) {
  if (!peek().is("(")) {
    unexpected("grouping opts", "\"(\"");
    return false;
  }
  take();
  while (!accept(")")) {
    const Token& token = peek();
    const bool word = !token.text.empty() && (is_alpha(token.text[0]) || token.text[0] == ':');
    const bool label =
        word && token.kind != Kind::number && token.kind != Kind::string && !token.is_word("without");
    if (!label && token.kind != Kind::string) {
      unexpected("grouping opts", "label");
      return false;
    }
    take();
    std::string name = label ? std::string(token.text) : unquote(token.text);
    if (name.empty() || !is_utf8(name)) {
      error(token.span.begin, "invalid label name for grouping: " + quote(name));
      return false;
    }
    labels.push_back(std::move(name));
    if (peek().is(")")) continue;
    if (!peek().is(",")) {
      unexpected("grouping opts", "\",\" or \")\"");
      return false;
    }
    take();
  }
  return true;
}

Result<Ast> parse(std::string_view text, const ParseOptions& options) {
  Ast ast;
  ast.text = text;
  Parser parser(ast.text, options);
  ast.root = parser.query();
  auto problem = parser.problem();
  if (!problem) problem = check(*ast.root);
  if (problem) return tl::unexpected(parse_error(text, problem->at, problem->message));
  return ast;
}

}  // namespace tunnelctl::promql
