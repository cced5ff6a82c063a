#include "tunnelctl/times/text_walk.h"

#include <charconv>

#include "common/http_access.h"

namespace tunnelctl::times {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

std::string quoted(std::string_view text) {
  constexpr std::size_t kLongest = 60;
  // one_line() takes the spaces at the ends away, which are of no interest here.
  return "\"" + http::one_line(text, kLongest) + "\"";
}

bool Walk::take(std::string_view what) {
  if (!rest().starts_with(what)) return false;
  at_ += what.size();
  return true;
}

bool Walk::expect(std::string_view what) {
  return take(what) || stop("\"" + std::string(what) + "\" should come here");
}

std::size_t Walk::digits_ahead() const {
  const auto left = rest();
  std::size_t count = 0;
  while (count < left.size() && is_digit(left[count])) ++count;
  return count;
}

std::optional<std::int64_t> Walk::number(const char* what) {
  const std::size_t count = digits_ahead();
  std::int64_t value = 0;
  const auto left = rest();
  const auto [end, error] = std::from_chars(left.data(), left.data() + count, value);
  if (count == 0 || error != std::errc()) {
    stop(count == 0 ? std::string(what) + " should come here" : "that number is too large");
    return std::nullopt;
  }
  at_ += count;
  return value;
}

std::optional<std::int64_t> Walk::digits(std::size_t count, std::int64_t most, const char* what) {
  std::int64_t value = 0;
  const auto left = rest();
  if (digits_ahead() == count) std::from_chars(left.data(), left.data() + count, value);
  if (digits_ahead() != count || value > most) {
    stop(std::string(what) + " should come here" +
         (digits_ahead() == count ? ", at most " + std::to_string(most) : ""));
    return std::nullopt;
  }
  at_ += count;
  return value;
}

std::optional<std::int64_t> Walk::fraction() {
  const std::size_t count = digits_ahead();
  if (count == 0) {
    stop("digits should follow the point");
    return std::nullopt;
  }
  std::int64_t value = 0;
  for (std::size_t i = 0; i < 3; ++i) value = value * 10 + (i < count ? rest()[i] - '0' : 0);
  at_ += count;
  return value;
}

bool Walk::stop(std::string why) {
  if (why_.empty()) why_ = std::move(why);
  return false;
}

std::string Walk::error(std::string_view kind, std::string_view would) const {
  std::string text = quoted(text_) + " is no " + std::string(kind) + ": ";
  if (at_ > 0) text += "understood up to " + quoted(text_.substr(0, at_)) + ", then ";
  if (at_ > 0) text += at_end() ? "" : quoted(rest()) + ": ";
  text += why_;
  text += "; ";
  text += would;
  return text;
}

}  // namespace tunnelctl::times
