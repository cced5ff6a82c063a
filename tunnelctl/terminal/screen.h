#pragma once

#include <chrono>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace tunnelctl::terminal {

/// The whole terminal while it lives: the alternate screen, no cursor, keys that come without Enter and are
/// not shown. Afterwards everything is as it was. One at a time. Ctrl-C stays a signal; Ctrl-Z does nothing.
class Screen {
 public:
  /// Standard output must be a terminal. If standard input is none there are no keys.
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  struct Size {
    std::size_t rows = 24, columns = 80;
  };
  /// As it is now.
  Size size() const;
  /// In place of what is shown: no flicker. What does not fit is cut off.
  void draw(const std::vector<std::string>& lines) const;
  /// The next key, or nullopt after that time or a stop.
  std::optional<char> key(std::chrono::milliseconds within, const std::stop_token& stop) const;

 private:
  bool keys_ = false;
};

/// Puts the terminal back while a Screen lives, for a program that is about to end without its destructors.
/// Any thread, also in a signal handler.
void restore_screen() noexcept;

/// Waits; false after a stop.
bool pause(std::chrono::milliseconds time, const std::stop_token& stop);

/// At most that many characters; colours count nothing, and are ended where they are cut.
std::string cut(std::string_view text, std::size_t columns);

}  // namespace tunnelctl::terminal
