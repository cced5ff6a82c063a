#include "tunnelctl/patterns/redaction.h"

#include <algorithm>
#include <array>

#include "tunnelctl/patterns/characters.h"
#include "tunnelctl/patterns/escapes.h"
#include "tunnelctl/patterns/secret_names.h"
#include "tunnelctl/patterns/secret_shapes.h"
#include "tunnelctl/patterns/secret_values.h"
#include "tunnelctl/patterns/shapes.h"

namespace tunnelctl::patterns {

namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::size_t kKeyLine = 60;  // characters of a line of a key, but for its last one
constexpr std::size_t kMostIndent = 64;

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
    if (is(c, kSpace) || c == '"' || c == '\'' || c == '`') {
      pair_ = at_ + 1;
      colon_ = kNone;
    }
    if (c == '[') {
      if (const auto mark = mark_at(text_, at_); mark != 0) return go_to(at_ + mark);
    } else if (c == '-') {
      if (const auto key = private_key_at(text_, at_); key != 0) return cut(at_, at_ + key, "private key");
    } else if (c == '@') {
      if (data_source() || (options_.emails && email())) return;
    } else if (c == ':') {
      if (colon_ == kNone && at_ > pair_) colon_ = at_;
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

  void go_to(std::size_t at) {
    at_ = name_ = local_ = pair_ = at;
    colon_ = kNone;
  }

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

  /// A line of a key, or behind one its last, shorter one.
  bool key_line() {
    if (at_ != key_tail_ && !begins_line()) return false;
    const auto key = key_line_at(text_, at_, at_ == key_tail_ ? 4 : kKeyLine);
    if (key == 0) return false;
    const bool whole = key >= kKeyLine;
    cut(at_, at_ + key, "private key");
    std::size_t next = at_;
    if (byte(next) == '\r') ++next;
    next += byte(next) == '\\' && byte(next + 1) == 'n' ? 2 : 1;
    while (next < at_ + kMostIndent && (byte(next) == ' ' || byte(next) == '\t')) ++next;
    key_tail_ = whole ? next : kNone;
    return true;
  }

  /// Nothing stands before it but blanks, a quote, or a time and such as agents write before lines.
  bool begins_line() const {
    if (at_ == 0) return true;
    if (at_ == copied_) return false;
    const char c = text_[at_ - 1];
    if (c == '\n' || c == '"' || c == '\'') return true;
    if ((c == 'n' || c == 'r') && at_ > 1 && text_[at_ - 2] == '\\') return true;
    if (c != ' ' && c != '\t') return false;
    std::size_t end = at_ - 1;
    while (end > 0 && at_ - end < kMostIndent && (text_[end - 1] == ' ' || text_[end - 1] == '\t')) --end;
    if (end == 0) return true;
    if (end == copied_) return false;
    const char last = text_[end - 1], earlier = end > 1 ? text_[end - 2] : '\0';
    // "]" of a time, not of a mark; F and P are container runtimes' "full" and "part".
    return last == '\n' || last == 'Z' || last == '|' || is(last, kDigit) ||
           (last == ']' && (is(earlier, kDigit) || earlier == 'Z')) ||
           ((last == 'F' || last == 'P') && earlier == ' ');
  }

  void word() {
    std::size_t end = at_;
    while (end < text_.size() && is(text_[end], kWord)) ++end;
    if (word_to(end)) return;
    // "\nghp_...", as JSON has it; the letter may be the word's own, too.
    constexpr std::string_view kLetters = "nrtbf";
    if (before() == '\\' && kLetters.find(text_[at_]) != kNone) {
      name_ = local_ = ++at_;
      if (at_ < end && word_to(end)) return;
    }
    at_ = end;
  }

  /// True: something was taken out, or is known to be none.
  bool word_to(std::size_t end) {
    const std::size_t length = end - at_;
    const char behind = byte(end);
    if (length >= 16 || at_ == key_tail_ || behind == '-' || behind == '.' || behind == ':' ||
        behind == '+' || behind == '/') {
      if (key_line()) return true;
      if (const auto token = token_at(text_, at_, hopeless_); token != 0) {
        cut(at_, at_ + token, "token");
        return true;
      }
    }
    if (options_.addresses && length <= 4 && is(text_[at_], kHex) && (behind == '.' || behind == ':') &&
        address())
      return true;
    if (length == 6 || length == 5) {
      const auto here = text_.substr(at_, length);
      const std::size_t credential = behind_blanks(end);
      const bool bearer = same_word(here, "bearer");
      if (credential != end && (bearer || same_word(here, "basic"))) {
        if (const auto mark = mark_at(text_, credential); mark != 0) {
          go_to(credential + mark);
          return true;
        }
        const auto secret = bearer ? bearer_at(text_, credential) : basic_at(text_, credential);
        if (secret != 0) {
          cut(credential, credential + secret, bearer ? "token" : "credentials");
          return true;
        }
      }
    }
    if (is(behind, kBase64) && behind != '=') return false;
    const auto value = value_of(text_, name_, end, copied_);
    if (value.secret == Secret::none) return false;
    if (value.end > value.begin)
      cut(value.begin, value.end, to_string(value.secret));
    else
      go_to(value.end);
    return true;
  }

  /// Also as URLs have them.
  std::size_t behind_blanks(std::size_t at) const {
    const std::size_t limit = at + 16;
    while (at < limit && (byte(at) == ' ' || byte(at) == '\t')) ++at;
    return text_.substr(at, 3) == "%20" ? at + 3 : at;
  }

  /// At the @ of "user:password@tcp(host)/name", as Go's programs name a MySQL.
  bool data_source() {
    if (colon_ == kNone || colon_ + 1 == at_) return false;
    const auto network = text_.substr(at_ + 1, 5);
    if (network.substr(0, 4) != "tcp(" && network != "unix(") return false;
    cut(colon_ + 1, at_, "password");
    return true;
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
    // "x.example-[redacted address]" was no host before that was taken out.
    std::size_t next = at_ + 1 + host;
    while (next < text_.size() && (text_[next] == '-' || text_[next] == '.')) ++next;
    if (next != at_ + 1 + host && mark_at(text_, next) != 0) return false;
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
  std::size_t name_ = 0;          // where the name, if a name ends here, began
  std::size_t local_ = 0;         // where the local part of an e-mail address, if one ends here, began
  std::size_t pair_ = 0;          // where the blanks or quotes before this ended,
  std::size_t colon_ = kNone;     // and the first colon since then
  std::size_t key_tail_ = kNone;  // where the last line of a key may begin
  std::size_t hopeless_ = 0;
  std::size_t no_user_before_ = 0;
  std::size_t no_address_before_ = 0;
  bool found_ = false;
};

}  // namespace

std::string Redaction::apply(std::string_view text) const {
  const bool escapes = has_escapes(text);
  const auto plain = escapes ? without_escapes(text) : std::string();
  std::string out;
  out.reserve(text.size() + 32);
  const bool found = Walk(escapes ? std::string_view(plain) : text, options_, &out).run();
  return found || !escapes ? out : std::string(text);
}

bool Redaction::finds(std::string_view text) const {
  if (!has_escapes(text)) return Walk(text, options_, nullptr).run();
  const auto plain = without_escapes(text);
  return Walk(plain, options_, nullptr).run();
}

}  // namespace tunnelctl::patterns
