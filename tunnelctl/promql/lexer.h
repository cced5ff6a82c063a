#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/promql/text.h"

namespace tunnelctl::promql {

struct Token {
  enum class Kind {
    end,
    error,              // `message` says why; nothing follows
    identifier,         // of a function, label or metric
    metric_identifier,  // with a colon inside
    number,
    duration,
    string,      // with its quotes
    keyword,     // by, on, offset, …
    aggregator,  // sum, topk, …
    /// start, end, step, range, max_of, min_of: functions, and words of the @ modifier.
    preprocessor,
    op,           // + == =~ and @ …
    punctuation,  // ( ) { } [ ] , = :
  };
  Kind kind = Kind::end;
  Span span;
  std::string_view text;  // as written
  std::string message;

  bool is(std::string_view punctuation_or_op) const {
    return (kind == Kind::op || kind == Kind::punctuation) && text == punctuation_or_op;
  }
  /// Keywords, aggregators and operators of letters; any case.
  bool is_word(std::string_view word) const;
};

/// The tokens of a query without comments; the last is `end` or `error`. The text must outlive them.
std::vector<Token> scan(std::string_view text);

/// How Prometheus names a token in "unexpected …": `identifier "foo"`, `<op:+>`, `end of input`.
std::string describe(const Token& token);

}  // namespace tunnelctl::promql
