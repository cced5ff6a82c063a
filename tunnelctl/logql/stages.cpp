#include <algorithm>

#include "tunnelctl/logql/parser_state.h"
#include "tunnelctl/logql/patterns.h"
#include "tunnelctl/promql/regexp.h"

namespace tunnelctl::logql {

using Kind = Token::Kind;

namespace {

bool is_line_filter(const Token& token) {
  return token.is("|=") || token.is("!=") || token.is("|~") || token.is("!~") || token.is("|>") ||
         token.is("!>");
}

}  // namespace

bool Parser::selector() {
  Selector value;
  value.span.begin = peek().span.begin;
  if (!expect("{")) return false;
  while (!peek().is("}")) {
    if (!matcher("IDENTIFIER or }", value.matchers)) return false;
    if (peek().is("}")) break;
    if (!accept(",")) return unexpected("} or ,");
    if (peek().is("}")) return unexpected("IDENTIFIER");
  }
  value.span.end = take().span.end;
  result_.selectors.push_back(std::move(value));
  return true;
}

bool Parser::matcher(std::string_view context, std::vector<Matcher>& out) {
  const Token* label = expect(Kind::identifier, context);
  if (label == nullptr) return false;
  Matcher matcher{std::string(label->text), MatchOp::equal, {}, label->span};
  const Token& op = peek();
  if (op.is("!=")) {
    matcher.op = MatchOp::not_equal;
  } else if (op.is("=~")) {
    matcher.op = MatchOp::regexp;
  } else if (op.is("!~")) {
    matcher.op = MatchOp::not_regexp;
  } else if (!op.is("=")) {
    return unexpected("= or != or =~ or !~");
  }
  take();
  const Token* value = expect(Kind::string, "STRING");
  if (value == nullptr) return false;
  matcher.value = value->value;
  matcher.span.end = value->span.end;
  if (matcher.op == MatchOp::regexp || matcher.op == MatchOp::not_regexp) {
    if (const auto pattern = promql::parse_regexp(matcher.value); !pattern)
      refuse(value->span.begin, pattern.error().message);
  }
  out.push_back(std::move(matcher));
  return true;
}

bool Parser::pipeline(bool* unwrap, bool& some) {
  for (;;) {
    if (is_line_filter(peek())) {
      if (unwrap != nullptr && *unwrap) return unexpected();
      if (!line_filter()) return false;
    } else if (peek().is("|")) {
      take();
      if (!stage(unwrap)) return false;
    } else {
      return true;
    }
    some = true;
  }
}

/// |= "a" or "b", != ip("…")
bool Parser::line_filter() {
  const std::string op = take().value;
  if (!line_filter_text(op)) return false;
  while (accept("or")) {
    if (!line_filter_text(op)) return false;
  }
  return true;
}

bool Parser::line_filter_text(const std::string& op) {
  const bool ip = accept("ip");
  if (ip && !expect("(")) return false;
  const Token* text = expect(Kind::string, "STRING or ip");
  if (text == nullptr) return false;
  if (ip) {
    if (op != "|=" && op != "!=") refuse(text->span.begin, "ip() stands only behind |= and !=");
    return expect(")");
  }
  if (op == "|~" || op == "!~") {
    if (const auto pattern = promql::parse_regexp(text->value); !pattern)
      refuse(text->span.begin, pattern.error().message);
  }
  if (op == "|>" || op == "!>") {
    if (const auto good = check_line_pattern(text->value); !good)
      refuse(text->span.begin, good.error().message);
  }
  result_.line_filters.push_back({op, text->value});
  return true;
}

bool Parser::stage(bool* unwrap) {
  const bool unwrapped = unwrap != nullptr && *unwrap;
  if (!unwrapped && unwrap != nullptr && accept("unwrap")) {
    *unwrap = true;
    return unwrap_stage();
  }
  // Behind unwrap only filters of labels may stand.
  if (unwrapped || peek().kind == Kind::identifier || peek().is("(")) return label_filter();

  if (accept("json") || accept("logfmt")) {
    while (peek().kind == Kind::flag) take();
    if (peek().kind == Kind::identifier) return extractions();
    result_.makes_any_label = true;
    return true;
  }
  if (accept("unpack")) {
    result_.makes_any_label = true;
    return true;
  }
  if (accept("decolorize")) return true;
  if (accept("label_format")) return label_formats();
  if (accept("drop")) return named_matchers("drop");
  if (accept("keep")) return named_matchers("keep");

  const bool regexp = peek().is("regexp");
  const bool pattern = peek().is("pattern");
  if (!regexp && !pattern && !peek().is("line_format")) return unexpected();
  take();
  const Token* text = expect(Kind::string, "STRING");
  if (text == nullptr) return false;
  if (regexp) return captures(regexp_captures(text->value), *text, "regexp");
  if (pattern) return captures(pattern_captures(text->value), *text, "pattern");
  if (const auto good = check_template(text->value); !good)
    refuse(text->span.begin, "invalid line template: " + good.error().message);
  return true;
}

bool Parser::captures(Result<std::vector<std::string>> names, const Token& text, std::string_view parser) {
  if (!names)
    return refuse(text.span.begin, "invalid " + std::string(parser) + " parser: " + names.error().message);
  for (auto& name : *names) result_.labels_made.push_back(std::move(name));
  return true;
}

bool Parser::unwrap_stage() {
  const bool conversion = peek().is("bytes") || peek().is("duration") || peek().is("duration_seconds");
  if (conversion) {
    take();
    if (!expect("(")) return false;
  }
  const Token* label = expect(Kind::identifier, "IDENTIFIER");
  if (label == nullptr) return false;
  used(*label, "unwrap");
  return !conversion || expect(")");
}

/// json status="response.status", method
bool Parser::extractions() {
  do {
    const Token* label = expect(Kind::identifier, "IDENTIFIER");
    if (label == nullptr) return false;
    result_.labels_made.emplace_back(label->text);
    if (accept("=") && expect(Kind::string, "STRING") == nullptr) return false;
  } while (accept(","));
  return true;
}

bool Parser::label_formats() {
  std::vector<std::string_view> targets;
  do {
    const Token* label = expect(Kind::identifier, "IDENTIFIER");
    if (label == nullptr || !expect("=")) return false;
    if (label->text == "__error__") refuse(label->span.begin, "__error__ cannot be formatted");
    if (std::find(targets.begin(), targets.end(), label->text) != targets.end()) {
      refuse(label->span.begin, "multiple label name '" + std::string(label->text) +
                                    "' not allowed in a single format operation");
    }
    targets.push_back(label->text);
    result_.labels_made.emplace_back(label->text);
    if (peek().kind == Kind::identifier) {
      used(take(), "label_format");
      continue;
    }
    const Token* text = expect(Kind::string, "IDENTIFIER or STRING");
    if (text == nullptr) return false;
    if (const auto good = check_template(text->value); !good) {
      refuse(text->span.begin,
             "invalid template for label '" + std::string(label->text) + "': " + good.error().message);
    }
  } while (accept(","));
  return true;
}

bool Parser::named_matchers(std::string_view where) {
  do {
    const Token& label = peek();
    const Token& next = peek(1);
    std::vector<Matcher> matchers;
    if (label.kind == Kind::identifier && (next.is("=") || next.is("!=") || next.is("=~") || next.is("!~"))) {
      // `drop level != "x"` could be a filter of lines too; Loki takes it for the matcher.
      if (!matcher("IDENTIFIER", matchers)) return false;
    } else if (expect(Kind::identifier, "IDENTIFIER") == nullptr) {
      return false;
    }
    used(label, where);
  } while (accept(","));
  return true;
}

/// Comparisons joined by and, or, a comma or nothing.
bool Parser::label_filter() {
  if (!deeper(peek().span.begin)) return false;
  for (;;) {
    if (accept("(")) {
      if (!label_filter() || !expect(")")) return false;
    } else if (!label_comparison()) {
      return false;
    }
    const bool joined = accept("and") || accept("or") || accept(",");
    if (!joined && peek().kind != Kind::identifier && !peek().is("(")) break;
  }
  --nesting_;
  return true;
}

bool Parser::label_comparison() {
  const Token& label = peek();
  const Token& op = peek(1);
  const Token& value = peek(2);
  if (label.kind != Kind::identifier) return unexpected("IDENTIFIER or (");
  const bool equality = op.is("=") || op.is("!=");
  const bool pattern = op.is("=~") || op.is("!~");
  const bool order = op.is("==") || op.is(">") || op.is(">=") || op.is("<") || op.is("<=");
  used(label, "filter");
  if (pattern || (equality && value.kind == Kind::string)) {
    std::vector<Matcher> matchers;
    return matcher("IDENTIFIER", matchers);
  }
  take();
  if (!equality && !order) return unexpected("= or != or =~ or !~ or a comparison");
  take();
  if (equality && accept("ip")) {
    return expect("(") && expect(Kind::string, "STRING") != nullptr && expect(")");
  }
  if (peek().kind == Kind::duration || peek().kind == Kind::bytes) {
    take();
    return true;
  }
  if (!accept("-")) accept("+");
  const Token* text =
      expect(Kind::number, equality ? "STRING, NUMBER, DURATION or BYTES" : "NUMBER, DURATION or BYTES");
  if (text == nullptr) return false;
  return number(*text) || refuse(text->span.begin, no_number(*text));
}

}  // namespace tunnelctl::logql
