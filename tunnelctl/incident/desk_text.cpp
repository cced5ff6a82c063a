#include "tunnelctl/incident/desk_text.h"

#include "common/http_access.h"
#include "common/sha256.h"
#include "tunnelctl/incident/markdown.h"
#include "tunnelctl/patterns/redaction.h"

namespace tunnelctl::incident {
namespace {

constexpr std::size_t kMost = 16 * 1024;
constexpr std::size_t kHashDigits = 16;

}  // namespace

std::string plain(std::string_view text, std::size_t longest) {
  // Redacted before it is cut: half a token is no token that anybody knows.
  return http::one_line(patterns::Redaction().apply(text.substr(0, kMost)), longest);
}

std::string code(std::string_view text, std::size_t characters) {
  const auto span = markdown::code(patterns::Redaction().apply(text.substr(0, kMost)), characters);
  return span.empty() ? "(nothing)" : span;
}

std::string short_hash(std::string_view text) {
  return to_hex(sha256(text)).substr(0, kHashDigits);
}

}  // namespace tunnelctl::incident
