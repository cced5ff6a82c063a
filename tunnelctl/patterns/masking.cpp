#include "tunnelctl/patterns/masking.h"

#include <algorithm>
#include <array>

#include "common/utf8.h"
#include "tunnelctl/patterns/characters.h"
#include "tunnelctl/patterns/secret_values.h"
#include "tunnelctl/patterns/shapes.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::array<std::string_view, 9> kMethods = {"GET ",     "POST ",  "PUT ",     "DELETE ", "HEAD ",
                                                      "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "};

class Masker {
 public:
  Masker(std::string_view line, std::size_t max_bytes, std::string& out)
      : line_(line), max_bytes_(max_bytes), out_(out) {}

  void run() {
    out_.clear();
    if (java_frame()) return;
    klog();
    while (at_ < line_.size() && out_.size() < max_bytes_) {
      const char c = line_[at_];
      if (is(c, kWord)) {
        word();
      } else if (is(c, kSpace)) {
        space(c);
      } else {
        mark(c);
      }
    }
    while (!out_.empty() && out_.back() == ' ') out_.pop_back();
  }

 private:
  char next(std::size_t ahead) const { return byte_at(line_, at_ + ahead); }
  char before() const { return at_ == 0 ? '\0' : line_[at_ - 1]; }

  void masked(std::string_view kind, std::size_t length) {
    out_ += kind;
    at_ += length;
  }

  /// "\tat com.example.Pool.take(Pool.java:12) ~[pool.jar:1.2]".
  bool java_frame() {
    std::size_t begin = 0;
    while (begin < line_.size() && is(line_[begin], kSpace)) ++begin;
    if (begin == 0 || line_.substr(begin, 3) != "at ") return false;
    const auto bracket = line_.find_first_of(" (", begin + 3);
    if (bracket == kNone || line_[bracket] != '(') return false;
    out_ = "at <frame>";
    return true;
  }

  /// "E0102 15:04:05.000000   12345 server.go:12] message": the letter is the level.
  void klog() {
    constexpr std::string_view kLevels = "IWEF";
    if (line_.size() < 20 || kLevels.find(line_[0]) == kNone || line_[5] != ' ') return;
    for (std::size_t i = 1; i < 5; ++i)
      if (!is(line_[i], kDigit)) return;
    const std::size_t length = time_at(line_, 6);
    if (length == 0) return;
    out_ += line_[0];
    masked("<time>", 6 + length);
    klog_ = true;
  }

  void space(char c) {
    if (c == '\x1b' && next(1) == '[') {  // a colour
      at_ += 2;
      while (at_ < line_.size() && (is(line_[at_], kDigit) || line_[at_] == ';')) ++at_;
      if (at_ < line_.size() && is(line_[at_], kLetter)) ++at_;
      return;
    }
    if (!out_.empty() && out_.back() != ' ') out_ += ' ';
    local_ = out_.size();
    ++at_;
  }

  void word() {
    std::size_t digits = 0, length = 0;
    unsigned all = kHex, any = 0;
    for (; at_ + length < line_.size(); ++length) {
      const unsigned classes = class_of(line_[at_ + length]);
      if ((classes & kWord) == 0) break;
      digits += classes & kDigit;  // kDigit is 1
      all &= classes;
      any |= classes;
      if (static_cast<unsigned char>(line_[at_ + length]) >= 0x80) foreign_ = true;
    }
    const char behind = next(length);
    const bool hex = (all & kHex) != 0;
    if (digits == 0) {
      if (hex && length <= 8 && (behind == ':' || behind == '-') && address(length)) return;
      if (length == 3 && (any & kUpper) != 0 && (behind == ' ' || behind == ',')) {
        if (const auto time = time_at(line_, at_); time != 0) return masked("<time>", time);
      }
      return plain(length);
    }
    const bool number = digits == length;
    if (is(line_[at_], kDigit)) {
      if (behind == '-' || behind == '/' || behind == ':' || behind == '.' || behind == ' ') {
        if (const auto time = time_at(line_, at_); time != 0) return masked("<time>", time);
      }
      if (behind == '.' && length <= 3) {
        if (const auto address = ipv4_at(line_, at_); address != 0) return ip(address);
      }
    }
    if (hex && (behind == '-' || behind == ':') && address(length)) return;
    if (number && length == 3 && keeps_code()) return plain(length);
    if (hex && length >= 8 && !number) return masked("<hex>", length);
    if (is(line_[at_], kDigit)) {
      if (const auto size = number_at(line_, at_); size != 0) {
        sign();
        return masked("<num>", size);
      }
    }
    if (number) return masked("<num>", length);
    if (length > 2 && line_[at_] == '0' && line_[at_ + 1] == 'x') return masked("<hex>", length);
    if (length >= 16 && digits >= 4) return masked("<id>", length);
    plain(length);
  }

  void plain(std::size_t length) {
    if (!foreign_) {
      out_.append(line_.substr(at_, length));
    } else {
      for (std::size_t i = at_; i < at_ + length;) {
        const std::size_t size = utf8::character_at(line_, i);
        out_ += size == 0 ? std::string_view("\xEF\xBF\xBD") : line_.substr(i, size);
        i += size == 0 ? 1 : size;
      }
      foreign_ = false;
    }
    at_ += length;
  }

  /// What begins with a word of hexadecimal digits and goes on with - or :.
  bool address(std::size_t length) {
    if (length == 8) {
      const auto uuid = uuid_at(line_, at_);
      if (uuid != 0) masked("<uuid>", uuid);
      return uuid != 0;
    }
    if (length == 2) {
      if (const auto mac = mac_at(line_, at_); mac != 0) {
        masked("<mac>", mac);
        return true;
      }
    }
    if (length > 4 || next(length) != ':') return false;
    const auto six = ipv6_at(line_, at_);
    const auto text = line_.substr(at_, six);
    // "a::b" of C++ is one by its form.
    if (std::none_of(text.begin(), text.end(), [](char c) { return is(c, kDigit); })) return false;
    ip(six);
    return true;
  }

  void ip(std::size_t length) {
    const bool bracket = before() == '[' && next(length) == ']';
    std::size_t end = at_ + length + (bracket ? 1 : 0);
    if (byte_at(line_, end) == ':' && is(byte_at(line_, end + 1), kDigit)) {
      std::size_t port = end + 1;
      while (port < end + 6 && is(byte_at(line_, port), kDigit)) ++port;
      if (!is(byte_at(line_, port), kWord)) {
        if (bracket) out_.pop_back();
        return masked("<ip>", port - at_);
      }
    }
    masked("<ip>", length);
  }

  /// The minus of "-5" belongs to the number, that of "worker-5" does not.
  void sign() {
    if (out_.empty() || out_.back() != '-' || before() != '-') return;
    const char earlier = at_ < 2 ? ' ' : line_[at_ - 2];
    if (is(earlier, kSpace) || std::string_view("=:(,[").find(earlier) != kNone) out_.pop_back();
  }

  /// "HTTP/1.1" 404, status=404, "code": 404: there are few, and they say much.
  bool keeps_code() const {
    if (line_[at_] < '1' || line_[at_] > '5') return false;
    if (request_ != kNone && at_ == request_) return true;
    std::size_t end = at_;
    if (end > 0 && line_[end - 1] == ' ') --end;
    if (end == 0 || (line_[end - 1] != '=' && line_[end - 1] != ':')) return false;
    --end;
    if (end > 0 && line_[end - 1] == '"') --end;
    return (end >= 6 && same_word(line_.substr(end - 6, 6), "status")) ||
           (end >= 4 && same_word(line_.substr(end - 4, 4), "code"));
  }

  void mark(char c) {
    switch (c) {
      case '"':
      case '\'':
      case '`':
        if (quoted(c)) return;
        break;
      case '@':
        if (email()) return;
        break;
      case '?':
        if (query()) return;
        break;
      case ':':
        if (next(1) == ':' && before() != ':' && !is(before(), kWord)) {
          if (const auto six = ipv6_at(line_, at_); six != 0) return ip(six);
        }
        break;
      case '/':
        if (version()) return;
        break;
      default: break;
    }
    out_ += c;
    ++at_;
    if (c != '.' && c != '-' && c != '+' && c != '%') local_ = out_.size();
  }

  /// "/1.1" behind HTTP; a code that follows is kept, too.
  bool version() {
    if (at_ < 4 || line_.substr(at_ - 4, 4) != "HTTP") return false;
    std::size_t end = at_ + 1;
    while (end < at_ + 4 && (is(byte_at(line_, end), kDigit) || byte_at(line_, end) == '.')) ++end;
    if (end == at_ + 1 || is(byte_at(line_, end), kWord)) return false;
    request_ = end + (byte_at(line_, end) == '"' ? 1 : 0);
    if (byte_at(line_, request_) == ' ') ++request_;
    out_.append(line_.substr(at_, end - at_));
    at_ = end;
    return true;
  }

  bool quoted(char quote) {
    if (before() == '\\') return false;
    if (open_ == quote) {  // the end of a request
      open_ = '\0';
      return false;
    }
    // An apostrophe is none: quotes open where a word could begin.
    if (quote != '"' && is(before(), kWord)) return false;
    bool& unclosed = unclosed_[quote == '"' ? 0 : quote == '\'' ? 1 : 2];
    if (unclosed) return false;
    if (klog_ && at_ > 1 && before() == ' ' && line_[at_ - 2] == ']') {
      klog_ = false;
      open_ = quote;
      return false;
    }
    const std::string_view inside = line_.substr(at_ + 1, 8);
    for (const auto method : kMethods)
      if (inside.substr(0, method.size()) == method) {
        open_ = quote;
        return false;
      }
    std::size_t end = at_ + 1;
    while (end < line_.size() && line_[end] != quote) end += line_[end] == '\\' ? 2 : 1;
    if (end >= line_.size()) {
      unclosed = true;  // so that no later one is looked for: it would make the time quadratic
      return false;
    }
    if (quote != '"' && is(byte_at(line_, end + 1), kWord)) return false;
    if (byte_at(line_, end + 1) == ':' && end - at_ <= 64 && end > at_ + 1) {  // the name of a member
      const std::size_t length = end + 1 - at_;
      for (std::size_t i = at_; i < end; ++i)
        if (is(line_[i], kSpace) || static_cast<unsigned char>(line_[i]) >= 0x80) return value(quote, length);
      out_.append(line_.substr(at_, length));
      at_ += length;
      local_ = out_.size();
      return true;
    }
    return value(quote, end + 1 - at_);
  }

  bool value(char quote, std::size_t length) {
    out_ += quote;
    masked("<*>", length);
    out_ += quote;
    local_ = out_.size();
    return true;
  }

  bool email() {
    if (out_.size() == local_) return false;
    const std::size_t host = mail_host_at(line_, at_ + 1);
    if (host == 0) return false;
    out_.resize(local_);
    masked("<email>", 1 + host);
    return true;
  }

  bool query() {
    if (!is(before(), kWord) && before() != '/') return false;
    std::size_t end = at_ + 1;
    bool pair = false;
    for (; end < line_.size() && !is(line_[end], kSpace); ++end) {
      if (line_[end] == '?' && !pair) return false;
      if (line_[end] == '"' || line_[end] == '\'' || line_[end] == '>') break;
      if (line_[end] == '=') pair = true;
      if (line_[end] == '[' && pair) end += std::max<std::size_t>(mark_at(line_, end), 1) - 1;
    }
    if (!pair) return false;
    masked("?<*>", end - at_);
    local_ = out_.size();
    return true;
  }

  std::string_view line_;
  std::size_t max_bytes_;
  std::string& out_;
  std::size_t at_ = 0;
  std::size_t local_ = 0;           // of `out_`: where the local part of an e-mail address would begin
  std::size_t request_ = kNone;     // of `line_`: where the status of a request would be
  char open_ = '\0';                // the quote whose inside is read like the rest
  bool foreign_ = false;            // the word at hand goes beyond ASCII
  bool klog_ = false;               // until its message was met
  std::array<bool, 3> unclosed_{};  // ", ', `: none of them ends any more
};

}  // namespace

void mask(std::string_view line, std::size_t max_bytes, std::string& out) {
  Masker(line, max_bytes, out).run();
}

}  // namespace tunnelctl::patterns
