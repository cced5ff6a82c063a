#include "tunneld/access/bearer.h"

#include <algorithm>
#include <optional>
#include <string>

namespace tunneld::access {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_letters(std::string_view left, std::string_view right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](char a, char b) { return lower(a) == lower(b); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool token_characters(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

enum class Found { nothing, token, broken };

/// "Bearer", one run of spaces, the token, and nothing after it.
Found parse_authorization(std::string_view value, std::string_view& token) {
  constexpr std::string_view scheme = "bearer";
  const auto end = std::min(value.find_first_of(" \t"), value.size());
  if (!same_letters(value.substr(0, end), scheme)) return Found::nothing;
  const auto start = value.find_first_not_of(' ', end);
  if (start == std::string_view::npos || !token_characters(value.substr(start))) return Found::broken;
  token = value.substr(start);
  return Found::token;
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char letter = lower(c);
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/// Characters of a query part with percent-encoding undone, one at a time.
std::optional<char> next_decoded(std::string_view& text) {
  if (text.empty()) return std::nullopt;
  if (text.size() >= 3 && text[0] == '%' && hex(text[1]) >= 0 && hex(text[2]) >= 0) {
    const char c = static_cast<char>(hex(text[1]) * 16 + hex(text[2]));
    text.remove_prefix(3);
    return c;
  }
  const char c = text.front();
  text.remove_prefix(1);
  return c;
}

bool decodes_to(std::string_view encoded, std::string_view expected) {
  for (const char wanted : expected) {
    const auto got = next_decoded(encoded);
    if (!got || lower(*got) != wanted) return false;
  }
  return encoded.empty();
}

/// Two dots among base64url characters, at least a little on each side of the first.
bool shaped_like_jwt(std::string_view encoded) {
  std::size_t dots = 0;
  std::size_t characters = 0;
  while (const auto c = next_decoded(encoded)) {
    if (!token_characters({&*c, 1})) return false;
    *c == '.' ? ++dots : ++characters;
  }
  return dots == 2 && characters >= 8;
}

enum class QueryToken { none, opaque, jwt };

QueryToken token_in_query(std::string_view target) {
  const auto mark = target.find('?');
  if (mark == std::string_view::npos) return QueryToken::none;
  auto worst = QueryToken::none;
  for (std::string_view rest = target.substr(mark + 1); !rest.empty();) {
    const auto end = std::min(rest.find_first_of("&;"), rest.size());
    const std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const auto equals = std::min(pair.find('='), pair.size());
    const std::string_view name = pair.substr(0, equals);
    if (!decodes_to(name, "token") && !decodes_to(name, "access_token")) continue;
    if (shaped_like_jwt(pair.substr(std::min(equals + 1, pair.size())))) return QueryToken::jwt;
    worst = QueryToken::opaque;
  }
  return worst;
}

tl::unexpected<Rejection> rejected(Reason reason) {
  return tl::unexpected(Rejection{.reason = reason});
}

}  // namespace

void BearerFinder::see(std::string_view field_name, std::string_view field_value) {
  if (same_letters(field_name, "authorization")) {
    ++authorizations_;
    authorization_ = trimmed(field_value);
    return;
  }
  if (!same_letters(field_name, "sec-websocket-protocol")) return;
  constexpr std::string_view prefix = "bearer.";
  for (std::string_view rest = field_value; !rest.empty();) {
    const auto end = std::min(rest.find(','), rest.size());
    const std::string_view item = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!item.starts_with(prefix)) continue;
    ++offers_;
    offered_ = item.substr(prefix.size());
  }
}

tl::expected<BearerToken, Rejection> BearerFinder::token(std::string_view target) const {
  const QueryToken in_query = token_in_query(target);
  if (in_query == QueryToken::jwt) return rejected(Reason::query);
  if (authorizations_ > 1 || offers_ > 1) return rejected(Reason::conflict);

  std::string_view from_header;
  const Found header =
      authorizations_ == 1 ? parse_authorization(authorization_, from_header) : Found::nothing;
  if (header == Found::broken) return rejected(Reason::malformed);
  if (offers_ == 1 && !token_characters(offered_)) return rejected(Reason::malformed);

  if (header == Found::token) {
    if (offers_ == 1 && offered_ != from_header) return rejected(Reason::conflict);
    return BearerToken{from_header, BearerToken::Source::authorization};
  }
  if (offers_ == 1) return BearerToken{offered_, BearerToken::Source::subprotocol};
  return rejected(in_query == QueryToken::opaque ? Reason::query : Reason::missing);
}

}  // namespace tunneld::access
