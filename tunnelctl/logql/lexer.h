#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/promql/text.h"

namespace tunnelctl::logql {

using promql::Span;

struct Token {
  enum class Kind {
    end,
    error,  // `value` says why; nothing follows
    identifier,
    string,  // `value` without quotes
    number,
    duration,  // 5m, 1.5s, -2h
    bytes,     // 5KB, 1.5GiB
    range,     // [5m]; `duration` holds it
    flag,      // --strict
    function,  // rate, sum, ip, … where a parenthesis or by/without follows
    symbol,    // keywords, operators, punctuation
  };
  Kind kind = Kind::end;
  Span span;
  std::string_view text;
  std::string value;  // of functions and symbols: in lower case
  std::chrono::nanoseconds duration{0};

  bool is(std::string_view symbol_or_function) const {
    return (kind == Kind::symbol || kind == Kind::function) && value == symbol_or_function;
  }
};

/// The tokens of a query without comments (#, // and /* */); the last is `end` or `error`. The text must
/// outlive them.
std::vector<Token> scan(std::string_view text);

/// As Loki names it in "unexpected …": IDENTIFIER, STRING, $end, or the word.
std::string describe(const Token& token);

}  // namespace tunnelctl::logql
