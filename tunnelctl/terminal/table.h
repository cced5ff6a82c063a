#pragma once

#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

/// What a person reads: aligned columns, colour where there is a terminal.
namespace tunnelctl::terminal {

/// Rows with as many cells as the heading; columns are as wide as their widest cell, the last is never
/// padded. Widths count characters of UTF-8, not bytes.
void print_table(std::ostream& out, const std::vector<std::string>& heading,
                 const std::vector<std::vector<std::string>>& rows);

enum class Colour { none, red, green, yellow, grey, bold };
/// The text in that colour if `coloured`; else as it is.
std::string paint(std::string_view text, Colour colour, bool coloured);

/// One harmless line: what a server or file sends must not steer the terminal. Control characters (C0, C1),
/// line separators and marks that turn the direction of text become spaces, bytes that are no UTF-8 U+FFFD.
std::string harmless(std::string_view text);

/// At most `width` characters, "..." at the end of what was cut.
std::string shortened(std::string_view text, std::size_t width);

}  // namespace tunnelctl::terminal
