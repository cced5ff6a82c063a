#include "tunnelctl/terminal/table.h"

#include <algorithm>
#include <ostream>

namespace tunnelctl::terminal {
namespace {

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
}

std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

/// How many bytes the character at the front has; 0 when they are no UTF-8 (surrogates and overlong forms are
/// left to the terminal: they steer nothing).
std::size_t character_bytes(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t length = first < 0x80U                     ? 1
                             : first >= 0xC2U && first < 0xE0U ? 2
                             : first >= 0xE0U && first < 0xF0U ? 3
                             : first >= 0xF0U && first < 0xF5U ? 4
                                                               : 0;
  if (length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if (begins_character(text[i])) return 0;
  return length;
}

/// C0 and C1 controls, line and paragraph separators, and what turns the direction of text around.
bool steers(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return byte(0) < 0x20U || byte(0) == 0x7FU;
  if (character.size() == 2) return byte(0) == 0xC2U && byte(1) < 0xA0U;
  if (character.size() != 3 || byte(0) != 0xE2U) return false;
  return (byte(1) == 0x80U && byte(2) >= 0xA8U && byte(2) <= 0xAEU) ||
         (byte(1) == 0x81U && byte(2) >= 0xA6U && byte(2) <= 0xA9U);
}

}  // namespace

void print_table(std::ostream& out, const std::vector<std::string>& heading,
                 const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& cell : heading) widths.push_back(width(cell));
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
      widths[i] = std::max(widths[i], width(row[i]));
  const auto line = [&](const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      out << cells[i];
      if (i + 1 < cells.size()) out << std::string(widths[i] - width(cells[i]) + 2, ' ');
    }
    out << '\n';
  };
  line(heading);
  for (const auto& row : rows) line(row);
}

std::string paint(std::string_view text, Colour colour, bool coloured) {
  if (!coloured || colour == Colour::none) return std::string(text);
  const char* code = colour == Colour::red      ? "31"
                     : colour == Colour::green  ? "32"
                     : colour == Colour::yellow ? "33"
                     : colour == Colour::grey   ? "90"
                                                : "1";
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

std::string harmless(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = character_bytes(text);
    const auto character = text.substr(0, length == 0 ? 1 : length);
    if (length == 0)
      result += kReplacement;
    else
      result += steers(character) ? std::string_view(" ") : character;
    text.remove_prefix(character.size());
  }
  return result;
}

std::string shortened(std::string_view text, std::size_t longest) {
  if (width(text) <= longest) return std::string(text);
  std::size_t seen = 0;
  std::size_t at = 0;
  while (at < text.size() && (seen < longest - 3 || !begins_character(text[at]))) {
    if (begins_character(text[at])) ++seen;
    ++at;
  }
  return std::string(text.substr(0, at)) + "...";
}

}  // namespace tunnelctl::terminal
