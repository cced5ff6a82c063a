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
  std::string result(text);
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
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
