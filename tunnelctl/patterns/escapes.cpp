#include "tunnelctl/patterns/escapes.h"

#include <algorithm>
#include <cstddef>

#include "tunnelctl/patterns/characters.h"

namespace tunnelctl::patterns {

namespace {

constexpr char kEscape = '\x1b';
constexpr std::size_t kLongestCode = 32, kMostBackslashes = 7;

unsigned hex_value(char c) {
  return is(c, kDigit) ? static_cast<unsigned>(c - '0') : static_cast<unsigned>(lower(c) - 'a') + 10;
}

/// What the output ends with is looked at behind each byte, so that no escape is left or made by taking
/// another one out.
class Plain {
 public:
  explicit Plain(std::string_view text) : text_(text) { out_.reserve(text.size()); }

  std::string take() {
    while (at_ < text_.size()) push(text_[at_++]);
    return std::move(out_);
  }

 private:
  void push(char c) {
    out_ += c;
    if (c == kEscape) {
      out_.pop_back();
      skip_code();
    } else if (c == '/') {
      if (out_.size() < 2 || out_[out_.size() - 2] != '\\') return;
      out_.pop_back();
      take_backslashes();
      out_ += c;
    } else if (is(c, kHex)) {
      if (ends_with_number('u', 4))
        decode(4);
      else if (ends_with_number('x', 2))
        decode(2);
    }
  }

  /// "\u003d": the letter behind a backslash, and so many digits.
  bool ends_with_number(char letter, std::size_t digits) const {
    if (out_.size() < digits + 2) return false;
    const auto begin = out_.end() - static_cast<std::ptrdiff_t>(digits);
    return *(begin - 1) == letter && *(begin - 2) == '\\' &&
           std::all_of(begin, out_.end(), [](char each) { return is(each, kHex); });
  }

  void decode(std::size_t digits) {
    unsigned code = 0;
    for (std::size_t i = digits; i > 0; --i) code = code * 16 + hex_value(out_[out_.size() - i]);
    if (code >= 0x7F) return;
    out_.resize(out_.size() - digits - 1);
    const auto backslashes = std::min(take_backslashes(), kMostBackslashes);
    const char c = static_cast<char>(code);
    if (c == kEscape) {
      skip_code();
    } else if (c == '"') {
      out_.append(std::min(backslashes * 2 - 1, kMostBackslashes), '\\') += c;
    } else if (c == '\\') {
      out_ += "\\\\";
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out_.append(backslashes, '\\') += c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
    } else {
      push(is(c, kSpace) ? ' ' : c);
    }
  }

  std::size_t take_backslashes() {
    const auto size = out_.size();
    while (!out_.empty() && out_.back() == '\\') out_.pop_back();
    return size - out_.size();
  }

  /// Behind ESC: "[36m".
  void skip_code() {
    if (byte_at(text_, at_) != '[') return;
    std::size_t end = at_ + 1;
    const std::size_t limit = end + kLongestCode;
    while (end < limit && byte_at(text_, end) >= 0x20 && byte_at(text_, end) <= 0x3F) ++end;
    if (byte_at(text_, end) >= 0x40 && byte_at(text_, end) <= 0x7E) at_ = end + 1;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

bool has_escapes(std::string_view text) {
  if (text.find(kEscape) != std::string_view::npos) return true;
  for (auto at = text.find('\\'); at != std::string_view::npos; at = text.find('\\', at + 1)) {
    const char next = byte_at(text, at + 1);
    if (next == 'u' || next == 'x' || next == '/') return true;
  }
  return false;
}

std::string without_escapes(std::string_view text) {
  return Plain(text).take();
}

}  // namespace tunnelctl::patterns
