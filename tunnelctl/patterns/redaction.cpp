#include "tunnelctl/patterns/redaction.h"

#include <algorithm>
#include <array>

#include "tunnelctl/patterns/characters.h"
#include "tunnelctl/patterns/secret_names.h"
#include "tunnelctl/patterns/secret_shapes.h"
#include "tunnelctl/patterns/secret_values.h"
#include "tunnelctl/patterns/shapes.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;

/// Addresses whose path is the secret.
constexpr std::array<std::string_view, 5> kSecretPaths = {
    "hooks.slack.com/services/", "hooks.slack.com/triggers/", "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/", "api.telegram.org/bot"};

/// One walk over a text, from the left to the right, that never looks back.
class Walk {
 public:
  Walk(std::string_view text, const RedactionOptions& options, std::string* out)
      : text_(text), options_(options), out_(out) {}

  /// Whether something was taken out. Without an output it ends with the first.
  bool run() {
    while (at_ < text_.size() && (out_ != nullptr || !found_)) step();
    if (out_ != nullptr) out_->append(text_.substr(copied_));
    return found_;
  }

 private:
  char byte(std::size_t at) const { return byte_at(text_, at); }
  /// Behind what was cut it is the end of the mark, so that a second walk sees the same.
  char before() const { return at_ == 0 ? '\0' : at_ == copied_ ? ']' : text_[at_ - 1]; }

  void step() {
    const char c = text_[at_];
    if (is(c, kWord)) return word();
    if (c == '[') {
      if (const auto mark = mark_at(text_, at_); mark != 0) return go_to(at_ + mark);
    } else if (c == '-') {
      if (const auto key = private_key_at(text_, at_); key != 0) return cut(at_, at_ + key, "private key");
    } else if (c == '@') {
      if (options_.emails && email()) return;
    } else if (c == ':') {
      if (byte(at_ + 1) == '/' && byte(at_ + 2) == '/' && is(before(), kWord)) return url();
      if (options_.addresses && byte(at_ + 1) == ':' && before() != ':' && !is(before(), kWord) && address())
        return;
    } else if (c == '+' || c == '/') {
      if (key_line()) return;
    }
    ++at_;
    if (c != '.' && c != '-') name_ = at_;
    if (c != '.' && c != '-' && c != '+' && c != '%') local_ = at_;
  }

  void go_to(std::size_t at) { at_ = name_ = local_ = at; }

  void cut(std::size_t begin, std::size_t end, std::string_view kind) {
    found_ = true;
    if (out_ != nullptr) {
      out_->append(text_.substr(copied_, begin - copied_));
      out_->append(kMarkBegin);
      out_->append(kind);
      *out_ += ']';
    }
    copied_ = end;
    go_to(end);
  }

  bool key_line() {
    const auto key = before() == ']' ? 0 : key_line_at(text_, at_);
    if (key != 0) cut(at_, at_ + key, "private key");
    return key != 0;
  }

  void word() {
    std::size_t end = at_;
    while (end < text_.size() && is(text_[end], kWord)) ++end;
    const std::size_t length = end - at_;
    const char behind = byte(end);
    if (length >= 16 || behind == '-' || behind == '.' || behind == ':' || behind == '+' || behind == '/') {
      if (key_line()) return;
      if (const auto token = token_at(text_, at_, hopeless_); token != 0)
        return cut(at_, at_ + token, "token");
    }
    if (options_.addresses && length <= 4 && is(text_[at_], kHex) && (behind == '.' || behind == ':') &&
        address())
      return;
    const auto here = text_.substr(at_, length);
    if (behind == ' ' && length == 6 && same_word(here, "bearer")) {
      if (const auto token = bearer_at(text_, end + 1); token != 0)
        return cut(end + 1, end + 1 + token, "token");
    } else if (behind == ' ' && length == 5 && same_word(here, "basic")) {
      if (const auto pair = basic_at(text_, end + 1); pair != 0)
        return cut(end + 1, end + 1 + pair, "credentials");
    }
    if (!is(behind, kBase64) || behind == '=') {
      const auto value = value_of(text_, name_, end);
      if (value.secret != Secret::none) {
        if (value.end > value.begin) return cut(value.begin, value.end, to_string(value.secret));
        return go_to(value.end);
      }
    }
    at_ = end;
  }

  bool address() {
    if (before() == '.' || before() == '@' || at_ < no_address_before_) return false;
    auto length = is(text_[at_], kDigit) ? ipv4_at(text_, at_) : 0;
    if (length == 0) length = ipv6_at(text_, at_);
    if (length != 0) {
      cut(at_, at_ + length, "address");
      return true;
    }
    // The end of a chain that is none must not be taken for one.
    no_address_before_ = at_;
    while (is(byte(no_address_before_), kHex) || byte(no_address_before_) == ':') ++no_address_before_;
    return false;
  }

  bool email() {
    std::size_t begin = local_;
    while (begin < at_ && !is(text_[begin], kWord)) ++begin;
    if (begin == at_) return false;
    const std::size_t host = mail_host_at(text_, at_ + 1);
    if (host == 0) return false;
    cut(begin, at_ + 1 + host, "email");
    return true;
  }

  /// At "://": what stands before @ in the host part, or a path that is a secret.
  void url() {
    const std::size_t begin = at_ + 3;
    for (const auto path : kSecretPaths) {
      if (text_.substr(begin, path.size()) != path) continue;
      std::size_t end = begin + path.size();
      while (end < text_.size() && (is(text_[end], kBase64) || text_[end] == ':')) ++end;
      if (end > begin + path.size()) return cut(begin + path.size(), end, "token");
    }
    if (begin < no_user_before_) return go_to(begin);
    std::size_t end = begin, at = kNone, colon = kNone;
    bool path = false, plain_port = true;
    if (byte(begin) == '[') return go_to(begin);  // an IPv6 host, or a mark
    for (; end < text_.size(); ++end) {
      const char c = text_[end];
      if (is(c, kSpace) || c == '"' || c == '<' || c == '>') break;
      // A password may hold / ? # although it should not: then the colon before it has no port behind it.
      if (c == '/' || c == '?' || c == '#') {
        if (at != kNone || colon == kNone || plain_port) break;
        path = true;
      } else if (c == '@') {
        at = end;
        if (path) break;
      } else if (c == ':' && colon == kNone) {
        colon = end;
        if (byte(end + 1) == '/') break;
      } else if (colon != kNone && !path && !is(c, kDigit)) {
        plain_port = false;
      }
    }
    if (at == kNone) no_user_before_ = end;
    if (at == kNone || at == begin) return go_to(begin);
    const auto user = text_.substr(begin, at - begin);
    const bool harmless = colon == kNone && user.size() < 12 &&
                          std::none_of(user.begin(), user.end(), [](char c) { return is(c, kDigit); });
    if (harmless) return go_to(begin);
    cut(begin, at, "credentials");
  }

  std::string_view text_;
  const RedactionOptions& options_;
  std::string* out_;
  std::size_t at_ = 0;
  std::size_t copied_ = 0;
  std::size_t name_ = 0;   // where the name, if a name ends here, began
  std::size_t local_ = 0;  // where the local part of an e-mail address, if one ends here, began
  std::size_t hopeless_ = 0;
  std::size_t no_user_before_ = 0;
  std::size_t no_address_before_ = 0;
  bool found_ = false;
};

}  // namespace

std::string Redaction::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size() + 32);
  Walk(text, options_, &out).run();
  return out;
}

bool Redaction::finds(std::string_view text) const {
  return Walk(text, options_, nullptr).run();
}

}  // namespace tunnelctl::patterns
