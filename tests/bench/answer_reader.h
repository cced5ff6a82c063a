#pragma once

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <charconv>

namespace bench {

/// Takes HTTP answers with a Content-Length off one connection on which one request is under way at a time.
class AnswerReader {
 public:
  /// The status once the answer is complete; nullopt until then. Throws std::runtime_error on an answer that
  /// has no length, or is longer than it.
  std::optional<unsigned> take(std::string_view text) {
    if (!status_) {
      head_.append(text);
      const auto end = head_.find("\r\n\r\n");
      if (end == std::string::npos) return std::nullopt;
      text.remove_prefix(end + 4 - (head_.size() - text.size()));
      read_head(std::string_view(head_).substr(0, end + 2));
      head_.clear();
    }
    if (text.size() > body_left_)
      throw std::runtime_error("more bytes than the Content-Length of the answer");
    body_left_ -= text.size();
    if (body_left_ > 0) return std::nullopt;
    const auto done = *status_;
    status_.reset();
    return done;
  }

 private:
  void read_head(std::string_view head) {
    unsigned status = 0;
    if (!head.starts_with("HTTP/1.1 ") || head.size() < 13) throw std::runtime_error("not an HTTP answer");
    std::from_chars(head.data() + 9, head.data() + 12, status);
    for (const std::string_view name : {"\r\nContent-Length: ", "\r\ncontent-length: "}) {
      const auto at = head.find(name);
      if (at == std::string_view::npos) continue;
      const auto value = head.substr(at + name.size());
      std::from_chars(value.data(), value.data() + value.size(), body_left_);
      status_ = status;
      return;
    }
    throw std::runtime_error("an answer without Content-Length: " +
                             std::string(head.substr(0, head.find('\r'))));
  }

  std::string head_;
  std::size_t body_left_ = 0;
  std::optional<unsigned> status_;
};

}  // namespace bench
