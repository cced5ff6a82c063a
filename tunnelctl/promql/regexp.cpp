#include "tunnelctl/promql/regexp.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "tunnelctl/promql/text.h"

namespace tunnelctl::promql {
namespace {

constexpr std::string_view kMetacharacters = "\\.+*?()|[]{}^$";
constexpr std::size_t kMostRepeats = 1000;  // Go's limit, for the product of nested counts too
constexpr std::size_t kMostGroups = 1000;   // Go's limit of nesting

/// What can be repeated: a character, class, anchor or group.
struct Atom {
  bool empty = false;       // may match nothing
  std::size_t repeats = 1;  // the product of the counts inside
};

/// One open parenthesis, or the whole pattern.
struct Level {
  std::size_t begin = 0;
  bool some_branch_empty = false;
  bool branch_empty = true;
  std::size_t repeats = 1;
  std::optional<Atom> last;
};

bool is_letter_or_digit(char c) {
  return c != '_' && (is_alpha(c) || is_digit(c));
}

class Reader {
 public:
  explicit Reader(std::string_view pattern) : text_(pattern) {}

  Result<Regexp> read() {
    if (!is_utf8(text_)) return no("invalid UTF-8", text_);
    levels_.push_back({});
    while (at_ < text_.size()) {
      if (auto problem = step()) return tl::unexpected(*problem);
    }
    if (levels_.size() > 1) return no("missing closing )", text_);
    close_branch();
    found_.matches_empty = levels_.back().some_branch_empty;
    found_.literal = text_.find_first_of(kMetacharacters) == std::string_view::npos;
    return found_;
  }

 private:
  using Problem = std::optional<Error>;

  static tl::unexpected<Error> no(std::string_view what, std::string_view where) {
    return fail(Error::Kind::bad_input,
                "error parsing regexp: " + std::string(what) + ": `" + std::string(where) + "`");
  }
  static Problem problem(std::string_view what, std::string_view where) { return no(what, where).value(); }

  bool next_is(std::string_view expected) const { return text_.substr(at_).starts_with(expected); }

  void atom(Atom atom) {
    settle();
    levels_.back().last = atom;
    repeated_ = std::string_view::npos;
  }
  /// What stands last can no longer be repeated.
  void settle() {
    auto& level = levels_.back();
    if (!level.last) return;
    level.branch_empty = level.branch_empty && level.last->empty;
    level.repeats = std::max(level.repeats, level.last->repeats);
    level.last.reset();
  }
  void close_branch() {
    settle();
    auto& level = levels_.back();
    level.some_branch_empty = level.some_branch_empty || level.branch_empty;
    level.branch_empty = true;
  }

  Problem step() {
    switch (text_[at_]) {
      case '(': return open();
      case ')': return close();
      case '|':
        close_branch();
        ++at_;
        repeated_ = std::string_view::npos;
        return {};
      case '^':
      case '$':
        ++at_;
        atom({.empty = true});
        return {};
      case '[': return char_class();
      case '*':
      case '+':
      case '?': {
        const char op = text_[at_];
        const auto begin = at_++;
        return repeat(begin, op == '+' ? 1 : 0, 1);
      }
      case '{': {
        const auto begin = at_;
        std::size_t least = 0;
        std::size_t most = 0;
        if (!counts(least, most)) {
          at_ = begin + 1;  // not a count: a plain brace
          atom({});
          return {};
        }
        if (least > kMostRepeats || most > kMostRepeats || least > most) {
          return problem("invalid repeat count", text_.substr(begin, at_ - begin));
        }
        return repeat(begin, least, most);
      }
      case '\\': return escape();
      default:
        at_ += character_length(text_, at_);
        atom({});
        return {};
    }
  }

  /// {n}, {n,} or {n,m}; without an upper bound, `most` is `least`, as Go counts it.
  bool counts(std::size_t& least, std::size_t& most) {
    ++at_;
    if (!count(least)) return false;
    most = least;
    if (next_is(",")) {
      ++at_;
      if (!next_is("}") && !count(most)) return false;
    }
    if (!next_is("}")) return false;
    ++at_;
    return true;
  }
  bool count(std::size_t& number) {
    const auto begin = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    if (begin == at_ || (at_ - begin > 1 && text_[begin] == '0')) return false;
    const auto [end, wrong] = std::from_chars(text_.data() + begin, text_.data() + at_, number);
    (void)end;
    if (wrong != std::errc()) number = kMostRepeats + 1;
    return true;
  }

  Problem repeat(std::size_t begin, std::size_t least, std::size_t most) {
    if (next_is("?")) ++at_;  // the lazy form
    const auto operation = text_.substr(begin, at_ - begin);
    if (repeated_ == begin) {
      return problem("invalid nested repetition operator", text_.substr(repeat_begin_, at_ - repeat_begin_));
    }
    auto& last = levels_.back().last;
    if (!last) return problem("missing argument to repetition operator", operation);
    if (most >= 2) last->repeats *= most;
    if (last->repeats > kMostRepeats) return problem("invalid repeat count", operation);
    if (least == 0) last->empty = true;
    repeated_ = at_;
    repeat_begin_ = begin;
    return {};
  }

  Problem open() {
    const auto begin = at_++;
    if (levels_.size() > kMostGroups) return problem("expression nests too deeply", text_);
    if (next_is("?")) {
      ++at_;
      if (next_is("P<") || next_is("<")) {
        if (auto wrong = capture_name(begin)) return wrong;
      } else {
        bool only_flags = false;
        if (auto wrong = flags(begin, only_flags)) return wrong;
        if (only_flags) return {};
      }
    }
    settle();
    levels_.push_back({.begin = begin, .last = {}});
    repeated_ = std::string_view::npos;
    return {};
  }

  Problem capture_name(std::size_t begin) {
    at_ = text_.find('<', at_) + 1;
    const auto end = text_.find('>', at_);
    if (end == std::string_view::npos) return problem("invalid named capture", text_.substr(begin));
    const auto name = text_.substr(at_, end - at_);
    at_ = end + 1;
    const bool good = !name.empty() && std::all_of(name.begin(), name.end(),
                                                   [](char c) { return is_alpha(c) || is_digit(c); });
    const bool known = std::find(found_.capture_names.begin(), found_.capture_names.end(), name) !=
                       found_.capture_names.end();
    if (!good || known) {
      return problem(known ? "duplicate capture name" : "invalid named capture",
                     text_.substr(begin, at_ - begin));
    }
    found_.capture_names.emplace_back(name);
    return {};
  }

  /// (?i) or (?i-s:…
  Problem flags(std::size_t begin, bool& only_flags) {
    bool minus = false;
    bool flag = false;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (std::string_view("imsU").find(c) != std::string_view::npos) {
        flag = true;
      } else if (c == '-' && !minus) {
        minus = true;
        flag = false;
      } else if ((c == ':' || c == ')') && (flag || !minus)) {
        only_flags = c == ')';
        if (only_flags && !flag) break;
        ++at_;
        return {};
      } else {
        ++at_;
        return problem("invalid or unsupported Perl syntax", text_.substr(begin, at_ - begin));
      }
    }
    return problem("missing closing )", text_);
  }

  Problem close() {
    if (levels_.size() == 1) return problem("unexpected )", text_);
    ++at_;
    close_branch();
    const Level done = levels_.back();
    levels_.pop_back();
    atom({.empty = done.some_branch_empty, .repeats = done.repeats});
    return {};
  }

  Problem escape() {
    const auto begin = at_++;
    if (at_ == text_.size()) return problem("trailing backslash at end of expression", "");
    const char c = text_[at_];
    switch (c) {
      case 'A':
      case 'B':
      case 'z':
        ++at_;
        atom({.empty = true});
        return {};
      case 'b':
        ++at_;
        atom({});
        return {};
      case 'Q': {
        ++at_;
        const auto end = std::min(text_.find("\\E", at_), text_.size());
        const bool some = end > at_;
        at_ = std::min(end + 2, text_.size());
        if (some) atom({});
        return {};
      }
      default: break;
    }
    bool is_class = false;
    if (auto wrong = class_escape(begin, is_class)) return wrong;
    if (!is_class) {
      if (auto wrong = character_escape(begin)) return wrong;
    }
    atom({});
    return {};
  }

  /// \d, \pL and the like; at_ stands behind the backslash.
  Problem class_escape(std::size_t begin, bool& is_class) {
    const char c = text_[at_];
    is_class = true;
    if (std::string_view("dDsSwW").find(c) != std::string_view::npos) {
      ++at_;
      return {};
    }
    is_class = c == 'p' || c == 'P';
    if (!is_class) return {};
    ++at_;
    const auto rest = text_.substr(at_);
    std::string_view name;
    if (rest.starts_with("{")) {
      const auto end = rest.find('}');
      if (end == std::string_view::npos) return problem("invalid character class range", text_.substr(begin));
      name = rest.substr(1, end - 1);
      at_ += end + 1;
    } else if (!rest.empty()) {
      name = rest.substr(0, 1);
      at_ += character_length(text_, at_);
    }
    if (name.starts_with("^")) name.remove_prefix(1);
    constexpr std::array<std::string_view, 37> kCategories = {
        "Any", "C",  "Cc", "Cf", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",
        "Mc",  "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi",
        "Po",  "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};
    const bool script = name.size() > 2 && name[0] >= 'A' && name[0] <= 'Z' && is_label_name(name);
    if (name.empty() ||
        (!script && std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end())) {
      return problem("invalid character class range", text_.substr(begin, at_ - begin));
    }
    return {};
  }

  /// \n, \x41, \.; at_ stands behind the backslash. Gives the byte for ranges, where it is one.
  Problem character_escape(std::size_t begin, unsigned* code = nullptr) {
    const char c = text_[at_];
    const auto invalid = [&] {
      return problem("invalid escape sequence", text_.substr(begin, std::min(at_ + 1, text_.size()) - begin));
    };
    unsigned value = 0;
    if (c == '0' ||
        (c >= '1' && c <= '7' && at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '7')) {
      for (int digits = 0; digits < 3 && at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '7';
           ++digits) {
        value = value * 8 + static_cast<unsigned>(text_[at_++] - '0');
      }
    } else if (c == 'x') {
      ++at_;
      const bool braces = next_is("{");
      const auto end = braces ? text_.find('}', at_) : at_ + 2;
      const auto first = braces ? at_ + 1 : at_;
      if (end == std::string_view::npos || end > text_.size() || end == first) return invalid();
      const auto [stop, wrong] = std::from_chars(text_.data() + first, text_.data() + end, value, 16);
      if (stop != text_.data() + end || wrong != std::errc() || value > 0x10FFFF) return invalid();
      at_ = braces ? end + 1 : end;
    } else if (const auto letter = std::string_view("afnrtv").find(c); letter != std::string_view::npos) {
      value = static_cast<unsigned char>(std::string_view("\a\f\n\r\t\v")[letter]);
      ++at_;
    } else if (static_cast<unsigned char>(c) < 0x80 && !is_letter_or_digit(c)) {
      value = static_cast<unsigned char>(c);
      ++at_;
    } else {
      at_ += character_length(text_, at_) - 1;
      return invalid();
    }
    if (code != nullptr) *code = value;
    return {};
  }

  Problem char_class() {
    const auto begin = at_++;
    if (next_is("^")) ++at_;
    bool first = true;
    for (;; first = false) {
      if (at_ >= text_.size()) return problem("missing closing ]", text_.substr(begin));
      if (text_[at_] == ']' && !first) break;
      if (next_is("[:")) {
        if (const auto end = text_.find(":]", at_ + 2); end != std::string_view::npos) {
          if (auto wrong = named_class(end)) return wrong;
          continue;
        }
      }
      if (auto wrong = class_item()) return wrong;
    }
    ++at_;
    atom({});
    return {};
  }

  Problem named_class(std::size_t end) {
    constexpr std::array<std::string_view, 14> kNames = {"alnum", "alpha", "ascii", "blank", "cntrl",
                                                         "digit", "graph", "lower", "print", "punct",
                                                         "space", "upper", "word",  "xdigit"};
    auto name = text_.substr(at_ + 2, end - at_ - 2);
    if (name.starts_with("^")) name.remove_prefix(1);
    const auto whole = text_.substr(at_, end + 2 - at_);
    at_ = end + 2;
    if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
      return problem("invalid character class range", whole);
    }
    return {};
  }

  /// A character, a range or an escape between [ and ].
  Problem class_item() {
    const auto begin = at_;
    if (text_[at_] == '\\' && at_ + 1 < text_.size()) {
      ++at_;
      bool is_class = false;
      if (auto wrong = class_escape(begin, is_class)) return wrong;
      if (is_class) return {};
      at_ = begin;
    }
    unsigned low = 0;
    if (auto wrong = class_character(low)) return wrong;
    if (!next_is("-") || at_ + 1 >= text_.size() || text_[at_ + 1] == ']') return {};
    ++at_;
    unsigned high = 0;
    if (auto wrong = class_character(high)) return wrong;
    if (high < low) return problem("invalid character class range", text_.substr(begin, at_ - begin));
    return {};
  }

  Problem class_character(unsigned& code) {
    if (text_[at_] == '\\') {
      const auto begin = at_++;
      if (at_ == text_.size()) return problem("trailing backslash at end of expression", "");
      return character_escape(begin, &code);
    }
    const auto length = character_length(text_, at_);
    code = static_cast<unsigned char>(text_[at_]);
    if (length > 1) code &= 0xFFU >> (length + 1);
    for (std::size_t i = 1; i < length; ++i)
      code = (code << 6U) | (static_cast<unsigned char>(text_[at_ + i]) & 0x3FU);
    at_ += length;
    return {};
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::vector<Level> levels_;
  std::size_t repeated_ = std::string_view::npos;  // where the last repetition ended
  std::size_t repeat_begin_ = 0;
  Regexp found_;
};

}  // namespace

Result<Regexp> parse_regexp(std::string_view pattern) {
  return Reader(pattern).read();
}

std::string escape_regexp(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (kMetacharacters.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace tunnelctl::promql
