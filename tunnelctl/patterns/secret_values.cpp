#include "tunnelctl/patterns/secret_values.h"

#include <algorithm>
#include <array>

#include "tunnelctl/patterns/characters.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::size_t kMostBlanks = 16, kMostBackslashes = 8, kLongestName = 48;

/// What programs say of a secret behind its name and a colon.
constexpr std::array<std::string_view, 66> kProse = {
    "expired",  "invalid", "missing", "not",        "is",      "was",          "has",       "unknown",
    "required", "revoked", "failed",  "failure",    "no",      "mismatch",     "malformed", "rejected",
    "denied",   "ok",      "valid",   "empty",      "bad",     "wrong",        "incorrect", "could",
    "cannot",   "can",     "unable",  "signature",  "error",   "unexpected",   "illegal",   "token",
    "tokens",   "secrets", "post",    "get",        "put",     "open",         "read",      "write",
    "dial",     "context", "json",    "eof",        "rpc",     "crypto",       "x509",      "tls",
    "http",     "net",     "lookup",  "connection", "timeout", "unauthorized", "forbidden", "unsupported",
    "refused",  "the",     "a",       "an",         "for",     "verification", "parsing",   "square",
    "key",      "cookie"};
constexpr std::array<std::string_view, 12> kSchemes = {"bearer",    "basic",  "token",  "digest",
                                                       "negotiate", "ntlm",   "apikey", "geniekey",
                                                       "hawk",      "splunk", "key",    "aws4-hmac-sha256"};

bool blank(char c) {
  return c == ' ' || c == '\t';
}
bool quote(char c) {
  return c == '"' || c == '\'' || c == '`';
}

std::size_t skip_blanks(std::string_view text, std::size_t at) {
  const std::size_t limit = at + kMostBlanks;
  while (at < limit && blank(byte_at(text, at))) ++at;
  return at;
}

/// Behind backslashes and a quote; `at` when there is no quote.
std::size_t behind_quote(std::string_view text, std::size_t at) {
  std::size_t here = at;
  while (here < at + kMostBackslashes && byte_at(text, here) == '\\') ++here;
  return quote(byte_at(text, here)) ? here + 1 : at;
}

/// Whether a name and its = or : begin there, or the text ends: what stands before was a separator.
bool pair_at(std::string_view text, std::size_t at) {
  at = behind_quote(text, skip_blanks(text, at));
  const std::size_t begin = at;
  while (at < begin + kLongestName && (is(byte_at(text, at), kLetter | kDigit) || byte_at(text, at) == '_' ||
                                       byte_at(text, at) == '-' || byte_at(text, at) == '.'))
    ++at;
  if (at == begin || !(is(text[begin], kLetter) || text[begin] == '_')) return false;
  at = behind_quote(text, at);
  return byte_at(text, at) == '=' || byte_at(text, at) == ':';
}

std::size_t unquoted_end(std::string_view text, std::size_t at) {
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (is(c, kSpace) || c == '"' || c == '<') return at;
    if (c == '\\' && (quote(byte_at(text, at + 1)) || byte_at(text, at + 1) == 'n')) return at;
    if (c == '\'' || c == '`' || c == ')' || c == ']' || c == '}' || c == '>') {
      const char next = byte_at(text, at + 1);
      if (!is(next, kWord) || next == '\0') return at;
    }
    if (c == ',' || c == ';' || c == '&') {
      const char next = byte_at(text, at + 1);
      if (next == '\0' || is(next, kSpace) || quote(next) || pair_at(text, at + 1)) return at;
    }
    if (c == '.' || c == ':') {  // the end of a sentence
      const char next = byte_at(text, at + 1);
      if (next == '\0' || is(next, kSpace)) return at;
    }
  }
  return at;
}

std::size_t line_end(std::string_view text, std::size_t at) {
  return std::min(text.find_first_of("\n\r\"'\\", at), text.size());
}

std::size_t word_end(std::string_view text, std::size_t at) {
  while (at < text.size() && !is(text[at], kSpace) && !quote(text[at]) && text[at] != '\\' &&
         text[at] != ',' && text[at] != ']')
    ++at;
  return at;
}

bool same_for_all(std::string_view value, char c) {
  return value.find_first_not_of(c) == kNone;
}

/// Nothing that would have to be hidden.
bool placeholder(std::string_view value, Secret secret) {
  if (value.empty() || value == "-" || mark_at(value, 0) == value.size()) return true;
  if (value.front() == '<' && value.back() == '>' && value.size() <= 24 &&
      value.find('>') == value.size() - 1)
    return true;
  if (value.size() > 3 && value.substr(0, 2) == "${" && value.find('}') == value.size() - 1) return true;
  if (same_for_all(value, '*') ||
      (value.size() > 2 && (same_for_all(value, 'x') || same_for_all(value, '.'))))
    return true;
  for (const std::string_view word :
       {"null", "nil", "none", "true", "false", "undefined", "redacted", "[redacted]", "<nil>", "(null)"})
    if (same_word(value, word)) return true;
  return secret == Secret::token && value.size() < 4 &&
         std::all_of(value.begin(), value.end(), [](char c) { return is(c, kDigit); });
}

bool prose(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < at + 16 && is(byte_at(text, end), kLetter | kDigit)) ++end;
  const char behind = byte_at(text, end);
  if (behind != '\0' && !is(behind, kSpace) && behind != ',' && behind != ':' && behind != ';' &&
      behind != '.' && behind != ')')
    return false;
  const auto word = text.substr(at, end - at);
  return std::any_of(kProse.begin(), kProse.end(), [word](auto known) { return same_word(word, known); });
}

/// What is in quotes, from behind the opening one (with `backslashes` before it) on.
std::size_t quoted_end(std::string_view text, std::size_t at, char mark, std::size_t backslashes) {
  for (std::size_t run = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') return at;
    if (c == mark && (backslashes == 0 ? run % 2 == 0 : run <= backslashes))
      return at - run + (backslashes == 0 ? run : 0);
    run = c == '\\' ? run + 1 : 0;
  }
  return at;
}

std::size_t authorization_end(std::string_view text, std::size_t at) {
  const std::size_t first = word_end(text, at);
  const auto scheme = text.substr(at, first - at);
  const bool known =
      std::any_of(kSchemes.begin(), kSchemes.end(), [scheme](auto name) { return same_word(scheme, name); });
  if (!known || !blank(byte_at(text, first))) return unquoted_end(text, at);
  if (same_word(scheme, "digest") || same_word(scheme, "hawk") || scheme.size() > 12)
    return line_end(text, first);
  return word_end(text, skip_blanks(text, first));
}

}  // namespace

std::size_t mark_at(std::string_view text, std::size_t at) {
  if (text.substr(at, kMarkBegin.size()) != kMarkBegin) return 0;
  std::size_t end = at + kMarkBegin.size();
  const std::size_t limit = end + 16;
  while (end < limit &&
         (byte_at(text, end) == ' ' || (is(byte_at(text, end), kLetter) && !is(text[end], kUpper))))
    ++end;
  return byte_at(text, end) == ']' && end > at + kMarkBegin.size() ? end + 1 - at : 0;
}

SecretValue value_of(std::string_view text, std::size_t begin, std::size_t end) {
  begin = std::max(begin, end - std::min(end, kLongestName));
  // The separator first: most words have none, and their names need not be looked at.
  std::size_t at = behind_quote(text, end);
  const bool named_in_quotes = at != end;
  if (byte_at(text, at) == ']') ++at;
  const std::size_t separator = skip_blanks(text, at);
  char kind = byte_at(text, separator);
  at = separator;
  const bool option = text.substr(begin, 2) == "--" && separator == end + 1 && !named_in_quotes;
  if (kind == ':') {
    if (byte_at(text, at + 1) == ':') return {};
    at += byte_at(text, at + 1) == '=' ? 2 : 1;
  } else if (kind == '=') {
    at += byte_at(text, at + 1) == '>' || byte_at(text, at + 1) == '=' ? 2 : 1;
  } else if (kind == '>' && separator == end && begin > 0 && text[begin - 1] == '<') {
    ++at;
  } else if (option && kind != '-' && kind != '\0') {
    kind = '-';
  } else {
    return {};
  }
  const Secret secret = secret_named(text.substr(begin, end - begin));
  if (secret == Secret::none) return {};

  const std::size_t value = skip_blanks(text, at);
  const bool apart = value != at;
  const char first = byte_at(text, value);
  if (first == '\0' || first == '\n' || first == '\r') return {};
  // PWD is the working directory, too.
  if (first == '/' && end - begin >= 3 && same_word(text.substr(end - 3, 3), "pwd")) return {};
  // "token= user=x": the value is empty.
  if (kind == '=' && apart && separator == end && pair_at(text, value)) return {};
  if (const auto mark = mark_at(text, value); mark != 0) return {secret, value + mark, value + mark};

  if (const std::size_t inside = behind_quote(text, value); inside != value) {
    const std::size_t close = quoted_end(text, inside, text[inside - 1], inside - value - 1);
    if (placeholder(text.substr(inside, close - inside), secret)) return {secret, close, close};
    return {secret, inside, close};
  }
  if (kind == '>') {
    const std::size_t close = std::min(text.find_first_of("<\n", value), text.size());
    if (placeholder(text.substr(value, close - value), secret)) return {secret, close, close};
    return {secret, value, close};
  }
  if (first == '$' && byte_at(text, value + 1) == '{') {  // the name of a variable
    std::size_t close = value + 2;
    while (close < value + kLongestName &&
           (is(byte_at(text, close), kLetter | kDigit) || byte_at(text, close) == '_'))
      ++close;
    if (byte_at(text, close) == '}') return {secret, close + 1, close + 1};
  }
  if (first == '{') return {};  // what is in it has names of its own
  if (first == '[') {
    if (const auto mark = mark_at(text, value + 1); mark != 0)
      return {secret, value + 1 + mark, value + 1 + mark};
    const std::size_t close = std::min(text.find_first_of("]\n", value), text.size());
    if (close == value + 1 || placeholder(text.substr(value + 1, close - value - 1), secret))
      return {secret, close, close};
    return {secret, value + 1, close};
  }
  if (kind == ':' && apart && !named_in_quotes && prose(text, value)) return {};
  std::size_t close;
  if (secret == Secret::authorization) {
    close = authorization_end(text, value);
    const auto credential = skip_blanks(text, word_end(text, value));
    if (const auto mark = mark_at(text, credential); mark != 0 && credential < close)
      return {secret, credential + mark, credential + mark};
  } else if (secret == Secret::cookie && kind == ':') {
    close = text.substr(value, word_end(text, value) - value).find('=') != kNone ? line_end(text, value)
                                                                                 : unquoted_end(text, value);
  } else {
    close = unquoted_end(text, value);
  }
  if (placeholder(text.substr(value, close - value), secret)) return {secret, close, close};
  return {secret, value, close};
}

}  // namespace tunnelctl::patterns
