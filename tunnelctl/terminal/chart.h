#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Numbers over time as lines of text. Pure functions; values that are not finite (NaN, Inf) are gaps.
namespace tunnelctl::terminal {

/// What the terminal shows: blocks and braille, or nothing but ASCII.
enum class Glyphs { utf8, ascii };

/// By what the environment says: LC_ALL, else LC_CTYPE, else LANG; empty ones do not count.
Glyphs glyphs_of(std::string_view lc_all, std::string_view lc_ctype, std::string_view lang);

/// "0.25", "-12.3k", "4.5M", "1.2e-05": four digits at most, for axes.
std::string compact(double value);

/// Eight heights, one character a value, or `width` characters when there are more values: each then stands
/// for the highest of its share, so that a short peak is seen. A gap is a space. Equal values are a line at
/// half the height.
std::string sparkline(std::span<const double> values, std::size_t width, Glyphs glyphs);

struct ChartOptions {
  std::size_t width = 80;   // of all, with the labels
  std::size_t height = 12;  // of the plot; below it come the axis and its labels
  std::string from{};       // what the left and the right end of the axis are
  std::string to{};
  Glyphs glyphs = Glyphs::utf8;
};

/// A character of the plot and whose it is, for colours.
struct ChartCell {
  std::string text = " ";
  std::size_t line = kNone;
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
};

struct Chart {
  /// From above to below: the label of the value ("" on most rows, padded on the left), then the cells.
  struct Row {
    std::string label{};
    std::vector<ChartCell> cells{};
  };
  std::vector<Row> rows{};
  std::string axis{};    // "      └──────"
  std::string labels{};  // "       10:00          11:00"
};

/// All lines in one plot, the first on top of the others; each goes from the left to the right edge, value by
/// value at the same distance. Braille dots are joined where two values follow each other; in ASCII a single
/// line is of "*", several of a, b, c... The scale goes from the smallest to the largest value of all.
/// Without any finite value there are no rows.
Chart line_chart(std::span<const std::vector<double>> lines, const ChartOptions& options);

/// 'a' for the first; '?' beyond 'z'.
char mark_of(std::size_t line);

}  // namespace tunnelctl::terminal
