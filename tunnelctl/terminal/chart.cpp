#include "tunnelctl/terminal/chart.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace tunnelctl::terminal {
namespace {

constexpr std::array<const char*, 8> kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::string_view kSteps = "_.-=+*#@";

struct Bounds {
  double low = 0, high = 0;
  bool any = false;

  void add(double value) {
    if (!std::isfinite(value)) return;
    low = any ? std::min(low, value) : value;
    high = any ? std::max(high, value) : value;
    any = true;
  }
  /// Nothing is drawn above or below anything else.
  bool level() const { return !(high / 2 - low / 2 > 0); }
  /// 0 at the smallest value, 1 at the largest; halved first, as the difference of two may be too large. It
  /// may be too small to be halved, too: then they are as good as equal.
  double share(double value) const {
    const double span = high / 2 - low / 2;
    return span > 0 ? std::clamp((value / 2 - low / 2) / span, 0.0, 1.0) : 0.5;
  }
};

std::size_t rounded(double value) {
  return static_cast<std::size_t>(std::lround(value));
}

/// A grid of dots that remembers who set each of its cells, each cell being `across` by `down` dots.
class Dots {
 public:
  Dots(std::size_t columns, std::size_t rows, std::size_t across, std::size_t down)
      : columns_(columns),
        across_(across),
        down_(down),
        bits_(columns * rows, 0),
        owners_(columns * rows, ChartCell::kNone) {}

  void set(std::size_t x, std::size_t y, std::size_t line) {
    // Bits of braille's dots, column by column. Source: Unicode, block U+2800.
    static constexpr std::array<std::array<std::uint8_t, 4>, 2> kBits = {
        {{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}}};
    const std::size_t cell = y / down_ * columns_ + x / across_;
    bits_[cell] = static_cast<std::uint8_t>(bits_[cell] | kBits.at(x % across_).at(y % down_));
    owners_[cell] = line;
  }

  void join(std::size_t x0, std::size_t y0, std::size_t x1, std::size_t y1, std::size_t line) {
    const auto distance = [](std::size_t a, std::size_t b) { return a > b ? a - b : b - a; };
    const std::size_t steps = std::max<std::size_t>({distance(x0, x1), distance(y0, y1), 1});
    for (std::size_t i = 0; i <= steps; ++i) {
      const double share = static_cast<double>(i) / static_cast<double>(steps);
      const auto between = [&](std::size_t a, std::size_t b) {
        return rounded(static_cast<double>(a) + (static_cast<double>(b) - static_cast<double>(a)) * share);
      };
      set(between(x0, x1), between(y0, y1), line);
    }
  }

  std::uint8_t bits(std::size_t column, std::size_t row) const { return bits_[row * columns_ + column]; }
  std::size_t owner(std::size_t column, std::size_t row) const { return owners_[row * columns_ + column]; }

 private:
  std::size_t columns_, across_, down_;
  std::vector<std::uint8_t> bits_;
  std::vector<std::size_t> owners_;
};

void draw(Dots& dots, const std::vector<double>& values, std::size_t line, const Bounds& bounds,
          std::size_t wide, std::size_t high) {
  bool joined = false;
  std::size_t before_x = 0, before_y = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      joined = false;
      continue;
    }
    const double along =
        values.size() > 1 ? static_cast<double>(i) / static_cast<double>(values.size() - 1) : 0;
    const std::size_t x = rounded(along * static_cast<double>(wide - 1));
    const std::size_t y = rounded((1 - bounds.share(values[i])) * static_cast<double>(high - 1));
    if (joined)
      dots.join(before_x, before_y, x, y, line);
    else
      dots.set(x, y, line);
    joined = true;
    before_x = x;
    before_y = y;
  }
}

/// U+2800 with those dots, in UTF-8.
std::string braille(std::uint8_t bits) {
  return {static_cast<char>(0xE2), static_cast<char>(0xA0 | (bits >> 6)),
          static_cast<char>(0x80 | (bits & 0x3F))};
}

/// So many digits that count, without zeros at the end.
std::string with_digits(int digits, double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.*g", digits, value);
  return text.data();
}

/// Labels of the top and the bottom, and of the middle where there is room; different ones if the values are.
std::array<std::string, 3> labels_of(const Bounds& bounds) {
  const double middle = bounds.low / 2 + bounds.high / 2;
  std::array<std::string, 3> labels = {compact(bounds.high), compact(middle), compact(bounds.low)};
  if (bounds.high > bounds.low && labels[0] == labels[2])
    labels = {with_digits(9, bounds.high), with_digits(9, middle), with_digits(9, bounds.low)};
  return labels;
}

std::string padded(const std::string& text, std::size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

std::string repeated(const char* text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

}  // namespace

Glyphs glyphs_of(std::string_view lc_all, std::string_view lc_ctype, std::string_view lang) {
  std::string locale(!lc_all.empty() ? lc_all : !lc_ctype.empty() ? lc_ctype : lang);
  std::transform(locale.begin(), locale.end(), locale.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool utf8 = locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
  return utf8 ? Glyphs::utf8 : Glyphs::ascii;
}

std::string compact(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  const double size = std::fabs(value);
  if (size != 0 && (size < 0.001 || size >= 999.95e12)) return with_digits(2, value);
  constexpr std::array<const char*, 5> kUnits{"", "k", "M", "G", "T"};
  std::size_t unit = 0;
  while (std::fabs(value) >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return with_digits(4, value) + kUnits.at(unit);
}

std::string sparkline(std::span<const double> values, std::size_t width, Glyphs glyphs) {
  Bounds bounds;
  for (const double value : values) bounds.add(value);
  const std::size_t count = std::min(width, values.size());
  std::string line;
  for (std::size_t i = 0; i < count; ++i) {
    Bounds share;
    for (std::size_t at = i * values.size() / count; at < (i + 1) * values.size() / count; ++at)
      share.add(values[at]);
    if (!share.any) {
      line += ' ';
      continue;
    }
    const auto step =
        bounds.level() ? 3 : std::min<std::size_t>(7, static_cast<std::size_t>(bounds.share(share.high) * 8));
    if (glyphs == Glyphs::utf8)
      line += kBlocks.at(step);
    else
      line += kSteps[step];
  }
  return line;
}

char mark_of(std::size_t line) {
  return line < 26 ? static_cast<char>('a' + line) : '?';
}

Chart line_chart(std::span<const std::vector<double>> lines, const ChartOptions& options) {
  Bounds bounds;
  for (const auto& line : lines)
    for (const double value : line) bounds.add(value);
  Chart chart;
  if (!bounds.any) return chart;
  const bool utf8 = options.glyphs == Glyphs::utf8;
  const std::size_t height = std::max<std::size_t>(options.height, 1);
  const bool flat = bounds.level();
  auto labels = labels_of(bounds);
  // The middle has one where it is a row of its own.
  if (!flat && (height < 5 || height % 2 == 0)) labels[1].clear();
  const std::size_t room =
      std::max({labels[0].size(), labels[1].size(), labels[2].size()}) + 2;  // a space and the axis
  const std::size_t width = options.width > room + 1 ? options.width - room : 2;
  const std::size_t across = utf8 ? 2 : 1, down = utf8 ? 4 : 1;
  Dots dots(width, height, across, down);
  for (std::size_t i = lines.size(); i-- > 0;) draw(dots, lines[i], i, bounds, width * across, height * down);
  for (std::size_t row = 0; row < height; ++row) {
    Chart::Row out;
    std::string label;
    if (row == height / 2) label = labels[1];
    if (!flat && row == 0) label = labels[0];
    if (!flat && row > 0 && row + 1 == height) label = labels[2];
    out.label =
        padded(label, room - 2) + (utf8 ? (label.empty() ? " │" : " ┤") : (label.empty() ? " |" : " +"));
    for (std::size_t column = 0; column < width; ++column) {
      ChartCell cell{.text = " ", .line = dots.owner(column, row)};
      if (cell.line != ChartCell::kNone)
        cell.text = utf8                ? braille(dots.bits(column, row))
                    : lines.size() == 1 ? std::string(1, '*')
                                        : std::string(1, mark_of(cell.line));
      out.cells.push_back(std::move(cell));
    }
    chart.rows.push_back(std::move(out));
  }
  chart.axis = std::string(room - 1, ' ') + (utf8 ? "└" : "+") + repeated(utf8 ? "─" : "-", width);
  const std::size_t taken = options.from.size() + options.to.size();
  chart.labels = std::string(room, ' ') + options.from +
                 (taken < width ? std::string(width - taken, ' ') + options.to : "");
  return chart;
}

}  // namespace tunnelctl::terminal
