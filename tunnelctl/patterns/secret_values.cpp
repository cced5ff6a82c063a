#include "tunnelctl/patterns/secret_values.h"

#include <algorithm>
#include <array>

#include "tunnelctl/patterns/characters.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::size_t kMostBlanks = 64, kMostBackslashes = 8, kLongestName = 48;

/// What programs say of a secret behind its name and a colon.
constexpr std::array kStates = std::to_array<std::string_view>(
    {"expired", "invalid",      "missing",   "not",         "is",         "was",        "has",
     "unknown", "required",     "revoked",   "failed",      "failure",    "no",         "mismatch",
     "denied",  "malformed",    "rejected",  "ok",          "valid",      "empty",      "bad",
     "wrong",   "incorrect",    "cannot",    "unable",      "error",      "unexpected", "illegal",
     "refused", "unauthorized", "forbidden", "unsupported", "permission", "expected",   "timeout"});
/// And of what is no password: a password may well be a word.
constexpr std::array kWords = std::to_array<std::string_view>(
    {"could", "can",  "signature", "token", "tokens",  "secrets", "post",        "get", "put",
     "open",  "read", "write",     "dial",  "context", "json",    "eof",         "rpc", "crypto",
     "x509",  "tls",  "http",      "net",   "lookup",  "the",     "connection",  "a",   "an",
     "for",   "user", "square",    "key",   "cookie",  "parsing", "verification"});
constexpr std::array kSchemes = std::to_array<std::string_view>(
    {"bearer",    "basic",         "token",   "digest", "negotiate", "ntlm",
     "apikey",    "geniekey",      "hawk",    "splunk", "key",       "oauth",
     "sharedkey", "api-token",     "sso-key", "bot",    "jwt",       "apitoken",
     "signature", "sharedkeylite", "dpop",    "mac",    "snowflake", "aws4-hmac-sha256"});

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
  for (; at < begin + kLongestName; ++at) {
    // What was taken out alone was in no value.
    if (mark_at(text, at) != 0) return true;
    const char c = byte_at(text, at);
    if (!is(c, kLetter | kDigit) && c != '_' && c != '-' && c != '.') break;
  }
  if (at == begin || !(is(text[begin], kLetter) || text[begin] == '_')) return false;
  at = behind_quote(text, at);
  return byte_at(text, at) == '=' || byte_at(text, at) == ':';
}

/// The end of a line as JSON has it.
bool escaped_end(std::string_view text, std::size_t at) {
  for (std::size_t i = 0; i < kMostBackslashes && byte_at(text, at) == '\\'; ++i) ++at;
  return byte_at(text, at) == 'n' || (byte_at(text, at) == 'r' && byte_at(text, at + 1) == '\\');
}

std::size_t unquoted_end(std::string_view text, std::size_t at) {
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (is(c, kSpace) || c == '"' || c == '<') return at;
    if (c == '\\' && (quote(byte_at(text, at + 1)) || escaped_end(text, at))) return at;
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

bool one_of(std::string_view word, const auto& words) {
  return std::any_of(words.begin(), words.end(), [word](auto known) { return same_word(word, known); });
}

/// Whether a word follows that says something about a secret, and is none.
bool prose(std::string_view text, std::size_t at, Secret secret) {
  std::size_t end = at;
  while (end < at + 16 && is(byte_at(text, end), kLetter | kDigit)) ++end;
  const char behind = byte_at(text, end), next = byte_at(text, end + 1);
  if (behind == ',' || behind == ':' || behind == ';' || behind == '.' || behind == ')' || quote(behind)) {
    if (next != '\0' && !is(next, kSpace) && !quote(next) && next != '\\' && next != ')' && next != ',' &&
        next != '}' && mark_at(text, end + 1) == 0)
      return false;
  } else if (behind != '\0' && behind != '\\' && !is(behind, kSpace)) {
    return false;
  }
  const auto word = text.substr(at, end - at);
  return one_of(word, kStates) ||
         (secret != Secret::password && secret != Secret::secret && one_of(word, kWords));
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

/// name=value, name="value", ...: behind the last one; `at` when there is none.
std::size_t parameters_end(std::string_view text, std::size_t at) {
  std::size_t end = at;
  for (std::size_t begin = at;; begin = skip_blanks(text, end + 1)) {
    std::size_t here = begin;
    while (here < begin + kLongestName && (is(byte_at(text, here), kLetter | kDigit) ||
                                           byte_at(text, here) == '_' || byte_at(text, here) == '-'))
      ++here;
    if (here == begin || byte_at(text, here) != '=') return end;
    ++here;
    const std::size_t inside = behind_quote(text, here);
    end = inside == here ? word_end(text, here)
                         : behind_quote(text, quoted_end(text, inside, text[inside - 1], inside - here - 1));
    if (byte_at(text, end) != ',') return end;
  }
}

bool scheme_at(std::string_view text, std::size_t at) {
  const std::size_t end = word_end(text, at);
  return blank(byte_at(text, end)) && one_of(text.substr(at, end - at), kSchemes);
}

/// A scheme and a credential, or the credential alone. `around`: the quote before the header's name, if any.
std::size_t authorization_end(std::string_view text, std::size_t at, char around) {
  const std::size_t first = word_end(text, at);
  const auto scheme = text.substr(at, first - at);
  const bool known = scheme_at(text, at);
  const bool alike = known || (blank(byte_at(text, first)) && !scheme.empty() && scheme.size() <= 20 &&
                               std::all_of(scheme.begin(), scheme.end(),
                                           [](char c) { return is(c, kLetter) || c == '-' || c == '_'; }));
  if (!alike) return unquoted_end(text, at);
  const std::size_t second = skip_blanks(text, first);
  if (const std::size_t inside = behind_quote(text, second); inside != second) {
    if (inside == second + 1 && text[second] == around) return first;
    return behind_quote(text, quoted_end(text, inside, text[inside - 1], inside - second - 1));
  }
  if (known)
    if (const std::size_t end = parameters_end(text, second); end != second) return end;
  const std::size_t end = word_end(text, second);
  if (known) return end;
  // "SECRET for bob", "SECRET status=200": the first word is the credential.
  const auto word = text.substr(second, end - second);
  const bool other =
      word.empty() || pair_at(text, second) ||
      std::all_of(word.begin() + 1, word.end(), [](char c) { return !is(c, kUpper | kDigit); });
  return other ? unquoted_end(text, at) : end;
}

/// a=b; c="d": to the end of the line, or of the quotes that it stands in.
std::size_t cookies_end(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const char c = text[at];
    if (c == '\n' || c == '\r' || quote(c)) return at;
    if (c == '\\' && (quote(byte_at(text, at + 1)) || escaped_end(text, at))) return at;
    ++at;
    if (c != '=') continue;
    if (const std::size_t inside = behind_quote(text, at); inside != at)
      at = behind_quote(text, quoted_end(text, inside, text[inside - 1], inside - at - 1));
  }
  return at;
}

/// Cookie=a=1; b=2 other=3
std::size_t cookie_pairs_end(std::string_view text, std::size_t at) {
  for (;;) {
    const std::size_t end = unquoted_end(text, at);
    if (byte_at(text, end) != ';') return end;
    const std::size_t next = skip_blanks(text, end + 1);
    if (!pair_at(text, next) || quote(byte_at(text, next)) || byte_at(text, next) == '\\') return end;
    at = next;
  }
}

/// ["a","b]c"]: before its end.
std::size_t list_end(std::string_view text, std::size_t at) {
  while (at < text.size() && text[at] != ']' && text[at] != '\n') {
    const std::size_t inside = behind_quote(text, at);
    if (inside == at) {
      ++at;
      continue;
    }
    const char before = byte_at(text, at - 1);
    // An apostrophe is none that opens.
    at = before == '[' || before == ',' || blank(before)
             ? behind_quote(text, quoted_end(text, inside, text[inside - 1], inside - at - 1))
             : inside;
  }
  return at;
}

std::size_t skip_space(std::string_view text, std::size_t at) {
  const std::size_t limit = at + kMostBlanks;
  while (at < limit && at < text.size() && is(text[at], kSpace)) ++at;
  return at;
}

/// {"name":"PASSWORD","value": and {Name:PASSWORD Value: and the same in two lines of YAML: where the value's
/// colon is, from what stands behind the name on; kNone when it is no such thing.
std::size_t value_member(std::string_view text, std::size_t at) {
  const char first = byte_at(text, at);
  if (first == 'V' ? text.substr(at, 6) != "Value:" : first != ',' && first != '\n' && first != '\r')
    return kNone;
  at = skip_space(text, first == ',' ? at + 1 : at);
  at = behind_quote(text, at);
  if (!same_word(text.substr(at, 5), "value")) return kNone;
  at = skip_blanks(text, behind_quote(text, at + 5));
  return byte_at(text, at) == ':' ? at : kNone;
}

/// "default/db not found": the name of a Secret of Kubernetes, and what is with it.
bool object_name(std::string_view text, std::size_t at) {
  std::size_t end = at, slashes = 0;
  while (end < at + kLongestName) {
    const char c = byte_at(text, end);
    if (c == '/')
      ++slashes;
    else if (!(is(c, kLetter | kDigit) && !is(c, kUpper)) && c != '-')
      break;
    ++end;
  }
  return slashes == 1 && text[at] != '/' && byte_at(text, end) == ' ' && prose(text, end + 1, Secret::secret);
}

/// Names that are also words of another meaning.
bool other_meaning(std::string_view name, std::string_view value, char kind, bool in_quotes) {
  const auto ends = [name](std::string_view word) {
    return name.size() >= word.size() && same_word(name.substr(name.size() - word.size()), word);
  };
  if (same_word(name, "pass"))  // of tests: "pass: 12, fail: 3"
    return value.size() < 4 && std::all_of(value.begin(), value.end(), [](char c) { return is(c, kDigit); });
  if (ends("sig")) {  // sig=SIGTERM
    std::size_t end = 0;
    while (end < 16 && (is(byte_at(value, end), kBase64) || byte_at(value, end) == '%')) ++end;
    return end < 16;
  }
  return ends("assertion") && kind == ':' && !in_quotes;
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

SecretValue value_of(std::string_view text, std::size_t begin, std::size_t end, std::size_t from) {
  begin = std::max(begin, end - std::min(end, kLongestName));
  // The separator first: most words have none, and their names need not be looked at.
  std::size_t at = behind_quote(text, end);
  const bool named_in_quotes = at != end;
  if (byte_at(text, at) == ']') ++at;
  const std::size_t separator = skip_blanks(text, at);
  char kind = byte_at(text, separator);
  const std::size_t dashes = text.substr(begin, 2) == "--" ? 2 : text[begin] == '-' ? 1 : 0;
  const bool option = dashes != 0 && is(byte_at(text, begin + dashes), kLetter);
  if (kind == ':') {
    at = separator;
    if (byte_at(text, at + 1) == ':') return {};
    at += byte_at(text, at + 1) == '=' ? 2 : 1;
  } else if (kind == '=') {
    at = separator + (byte_at(text, separator + 1) == '>' || byte_at(text, separator + 1) == '=' ? 2 : 1);
  } else if (kind == '>' && separator == end && begin > from && text[begin - 1] == '<') {
    at = separator + 1;
  } else if (option && !named_in_quotes && separator != end && kind != '-' && kind != '\0') {
    at = separator;
    kind = '-';
  } else if (option && named_in_quotes && (kind == ',' || separator != at)) {  // ["--password", "x"]
    at = skip_space(text, kind == ',' ? separator + 1 : separator);
    if (behind_quote(text, at) == at) return {};
    kind = '-';
  } else if (const std::size_t colon = value_member(text, separator); colon != kNone) {
    at = colon + 1;
    kind = ':';
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
  if (const auto mark = mark_at(text, value); mark != 0) return {secret, value + mark, value + mark};
  // "token= user=x": the value is empty.
  if (kind == '=' && apart && separator == end && pair_at(text, value)) return {};

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
    const std::size_t close = list_end(text, value + 1);
    if (close == value + 1 || placeholder(text.substr(value + 1, close - value - 1), secret))
      return {secret, close, close};
    return {secret, value + 1, close};
  }
  if ((kind == ':' && apart && !named_in_quotes) || kind == '-') {
    const bool scheme = secret == Secret::authorization && scheme_at(text, value) &&
                        !prose(text, skip_blanks(text, word_end(text, value)), secret);
    if (!scheme && prose(text, value, secret)) return {};
    if (secret == Secret::secret && object_name(text, value)) return {};
    if (begin >= from + 11 && same_word(text.substr(begin - 11, 11), "unexpected ")) return {};
  }
  std::size_t close;
  if (secret == Secret::authorization) {
    const char before = begin > from && quote(text[begin - 1]) ? text[begin - 1] : '\0';
    close = authorization_end(text, value, before);
    const auto credential = skip_blanks(text, word_end(text, value));
    if (const auto mark = mark_at(text, credential); mark != 0 && credential < close)
      return {secret, credential + mark, credential + mark};
  } else if (secret == Secret::cookie && (kind == ':' || kind == '=')) {
    const bool pairs = text.substr(value, word_end(text, value) - value).find('=') != kNone;
    close = !pairs        ? unquoted_end(text, value)
            : kind == ':' ? cookies_end(text, value)
                          : cookie_pairs_end(text, value);
  } else {
    close = unquoted_end(text, value);
  }
  if (other_meaning(text.substr(begin, end - begin), text.substr(value, close - value), kind,
                    named_in_quotes))
    return {};
  if (placeholder(text.substr(value, close - value), secret)) return {secret, close, close};
  return {secret, value, close};
}

}  // namespace tunnelctl::patterns
