#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tunnelctl::times {

/// In quotation marks, cut, harmless for a terminal.
std::string quoted(std::string_view text);

/// A text that is read from left to right, and why reading stopped.
class Walk {
 public:
  explicit Walk(std::string_view text) : text_(text) {}

  std::string_view rest() const { return text_.substr(at_); }
  bool at_end() const { return at_ == text_.size(); }
  void skip(std::size_t count) { at_ += count; }
  bool take(std::string_view what);
  /// Stops when it does not come.
  bool expect(std::string_view what);

  /// How many digits come now.
  std::size_t digits_ahead() const;
  /// All digits that come now. Stops, naming `what` should come, without any or with too many.
  std::optional<std::int64_t> number(const char* what);
  /// Exactly so many digits, of a number up to `most`.
  std::optional<std::int64_t> digits(std::size_t count, std::int64_t most, const char* what);
  /// Thousandths, of the digits behind a point; what is finer is cut.
  std::optional<std::int64_t> fraction();

  /// Remembers why, and gives false.
  bool stop(std::string why);
  bool stopped() const { return !why_.empty(); }
  /// `"now-1x" is no time: understood up to "now-1", then "x": <why>; <would>`
  std::string error(std::string_view kind, std::string_view would) const;

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  std::string why_;
};

}  // namespace tunnelctl::times
