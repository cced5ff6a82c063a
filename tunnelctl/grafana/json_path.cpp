#include "tunnelctl/grafana/json_path.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

namespace tunnelctl::grafana {
namespace {

constexpr int kDeepest = 64;  // nested filters and brackets: a path is written by a person

bool word_begins(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool in_word(char c) {
  return word_begins(c) || std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '-';
}

}  // namespace

// The path as it was read --------------------------------------------------------------------------

namespace {
struct Condition;
}

struct JsonPath::Segment {
  struct Slice {
    std::optional<std::int64_t> from{}, to{};
    std::int64_t step = 1;
  };
  struct Wildcard {};
  struct Filter {
    std::shared_ptr<const Condition> condition;
  };
  using Selector = std::variant<std::string, std::int64_t, Slice, Wildcard, Filter>;

  bool descend = false;  // ".."
  std::vector<Selector> selectors{};
};

namespace {

using Segment = JsonPath::Segment;
using Segments = std::vector<std::shared_ptr<const Segment>>;

struct Operand {
  bool is_path = false;
  bool from_root = false;  // $ instead of @
  Segments path{};
  Json literal{};
};

struct Condition {
  enum class Kind { all, any, negated, exists, compare };
  Kind kind = Kind::exists;
  std::vector<std::shared_ptr<const Condition>> parts{};
  Operand left{}, right{};
  std::string operation{};
};

// Reading ------------------------------------------------------------------------------------------

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Segments path() {
    Segments result;
    spaces();
    if (take('$')) {
      segments(result);
    } else {
      // "title", "panels[0]", "['title']", ".title": the root may be left out.
      if (!ended() && word_begins(peek())) result.push_back(named(word(), false));
      segments(result);
    }
    spaces();
    if (!wrong() && !ended())
      complain("there is something behind the path: \"" + std::string(text_.substr(at_, 20)) + "\"");
    if (!wrong() && result.empty() && text_.find('$') == std::string_view::npos)
      complain("the path is empty");
    return result;
  }

  bool wrong() const { return !complaint_.empty(); }
  std::string message() const { return "JSONPath, column " + std::to_string(column_) + ": " + complaint_; }

 private:
  bool ended() const { return at_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool take(char c) {
    if (peek() != c || ended()) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view text) {
    if (text_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  void spaces() {
    while (!ended() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++at_;
  }
  void complain(std::string what) {
    if (wrong()) return;
    complaint_ = std::move(what);
    column_ = at_ + 1;
  }

  static std::shared_ptr<const Segment> named(std::string name, bool descend) {
    auto segment = std::make_shared<Segment>();
    segment->descend = descend;
    segment->selectors.emplace_back(std::move(name));
    return segment;
  }

  std::string word() {
    const std::size_t start = at_;
    while (!ended() && in_word(peek())) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }

  void segments(Segments& result) {
    while (!wrong() && !ended()) {
      if (peek() == '[') {
        result.push_back(bracketed(false));
      } else if (take("..")) {
        if (peek() == '[') {
          result.push_back(bracketed(true));
        } else {
          result.push_back(after_dot(true));
        }
      } else if (take('.')) {
        // "$.['a']" and "$.[0]" are written by people too.
        result.push_back(peek() == '[' ? bracketed(false) : after_dot(false));
      } else {
        return;
      }
    }
  }

  std::shared_ptr<const Segment> after_dot(bool descend) {
    if (take('*')) {
      auto segment = std::make_shared<Segment>();
      segment->descend = descend;
      segment->selectors.emplace_back(Segment::Wildcard{});
      return segment;
    }
    if (ended())
      complain("a name is missing behind the dot");
    else if (!in_word(peek()))
      complain("here must stand a name; others than plain words are written ['so']");
    auto name = word();
    if (!wrong() && peek() == '(') complain("there are no functions such as ." + name + "()");
    return named(std::move(name), descend);
  }

  std::shared_ptr<const Segment> bracketed(bool descend) {
    auto segment = std::make_shared<Segment>();
    segment->descend = descend;
    if (++depth_ > kDeepest) complain("too deep");
    ++at_;  // [
    do {
      spaces();
      selector(*segment);
      spaces();
    } while (!wrong() && take(','));
    if (!wrong() && !take(']')) complain(ended() ? "the ] is missing" : "here must stand a comma or ]");
    --depth_;
    return segment;
  }

  void selector(Segment& segment) {
    const char c = peek();
    if (c == '\'' || c == '"') {
      segment.selectors.emplace_back(quoted());
    } else if (take('*')) {
      segment.selectors.emplace_back(Segment::Wildcard{});
    } else if (take('?')) {
      spaces();
      segment.selectors.emplace_back(Segment::Filter{any()});
    } else if (c == '(') {
      complain("there are no scripts such as [(@.length-1)]; the last item is [-1]");
    } else if (c == '-' || c == ':' || std::isdigit(static_cast<unsigned char>(c)) != 0) {
      number_or_slice(segment);
    } else {
      complain("in brackets stand 'names' in quotes, numbers, [1:3], * or ?(filters)");
    }
  }

  std::optional<std::int64_t> integer() {
    const std::size_t start = at_;
    if (peek() == '-') ++at_;
    while (std::isdigit(static_cast<unsigned char>(peek())) != 0) ++at_;
    if (at_ == start) return std::nullopt;
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + start, text_.data() + at_, value);
    if (error != std::errc() || end != text_.data() + at_) complain("no number that an index can be");
    return value;
  }

  void number_or_slice(Segment& segment) {
    const auto first = integer();
    spaces();
    if (!take(':')) {
      segment.selectors.emplace_back(*first);
      return;
    }
    Segment::Slice slice{.from = first};
    spaces();
    slice.to = integer();
    spaces();
    if (take(':')) {
      spaces();
      if (const auto step = integer()) slice.step = *step;
      if (slice.step < 1) complain("the step of [from:to:step] must be 1 or more");
    }
    segment.selectors.emplace_back(slice);
  }

  std::string quoted() {
    const char quote = text_[at_++];
    std::string result;
    while (!ended() && peek() != quote) {
      char c = text_[at_++];
      if (c == '\\' && !ended()) {
        c = text_[at_++];
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
      }
      result += c;
    }
    if (!take(quote)) complain("the closing quote is missing");
    return result;
  }

  // Filters: any := all ('||' all)*, all := one ('&&' one)*, one := '!' one | '(' any ')' | compare

  std::shared_ptr<const Condition> joined(Condition::Kind kind, std::string_view sign) {
    auto first = kind == Condition::Kind::any ? joined(Condition::Kind::all, "&&") : one();
    spaces();
    if (wrong() || text_.substr(at_, 2) != sign) return first;
    auto result = std::make_shared<Condition>();
    result->kind = kind;
    result->parts.push_back(std::move(first));
    while (!wrong() && take(sign)) {
      result->parts.push_back(kind == Condition::Kind::any ? joined(Condition::Kind::all, "&&") : one());
      spaces();
    }
    return result;
  }
  std::shared_ptr<const Condition> any() { return joined(Condition::Kind::any, "||"); }

  std::shared_ptr<const Condition> one() {
    auto result = std::make_shared<Condition>();
    if (++depth_ > kDeepest) complain("too deep");
    spaces();
    if (wrong()) {
    } else if (peek() == '!' && peek(1) != '=') {
      ++at_;
      result->kind = Condition::Kind::negated;
      result->parts.push_back(one());
    } else if (take('(')) {
      result->kind = Condition::Kind::all;
      result->parts.push_back(any());
      spaces();
      if (!wrong() && !take(')')) complain("the ) is missing");
    } else {
      compare(*result);
    }
    --depth_;
    return result;
  }

  void compare(Condition& condition) {
    condition.left = operand();
    spaces();
    for (const char* sign : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (!take(sign)) continue;
      condition.kind = Condition::Kind::compare;
      condition.operation = sign;
      spaces();
      condition.right = operand();
      return;
    }
    if (wrong()) return;
    if (peek() == '=') return complain("equality is written ==; there is no =~");
    if (!condition.left.is_path) complain("here must stand a comparison such as @.id == 4");
  }

  Operand operand() {
    Operand result;
    if (peek() == '@' || peek() == '$') {
      result.is_path = true;
      result.from_root = peek() == '$';
      ++at_;
      segments(result.path);
      return result;
    }
    if (peek() == '\'' || peek() == '"') {
      result.literal = quoted();
      return result;
    }
    if (word_begins(peek())) {
      const auto name = word();
      if (name == "true" || name == "false")
        result.literal = name == "true";
      else if (name != "null")
        complain("\"" + name + "\" is unknown here; text stands in quotes, members are written @." + name);
      return result;
    }
    const std::size_t start = at_;
    while (!ended() && (std::isdigit(static_cast<unsigned char>(peek())) != 0 ||
                        std::string_view("+-.eE").find(peek()) != std::string_view::npos))
      ++at_;
    result.literal = Json::parse(text_.substr(start, at_ - start), nullptr, false);
    if (!result.literal.is_number()) {
      at_ = start;
      complain(ended() ? "the filter breaks off"
                       : "here must stand @, a number, 'text', true, false or null");
    }
    return result;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::string complaint_{};
  std::size_t column_ = 0;
};

// Selecting ----------------------------------------------------------------------------------------

using Matches = std::vector<JsonPath::Match>;

struct Selection {
  const Json& root;

  JsonPath::Match child(const JsonPath::Match& parent, Step step, const Json& value) const {
    auto location = parent.location;
    location.push_back(std::move(step));
    return {std::move(location), &value};
  }

  void each_child(const JsonPath::Match& parent, const auto& visit) const {
    if (parent.value->is_object()) {
      for (const auto& [name, value] : parent.value->items()) visit(child(parent, name, value));
    } else if (parent.value->is_array()) {
      std::size_t index = 0;
      for (const auto& value : *parent.value) visit(child(parent, index++, value));
    }
  }

  static std::optional<std::size_t> index_in(const Json& list, std::int64_t index) {
    const auto size = static_cast<std::int64_t>(list.size());
    if (index < 0) index += size;
    if (index < 0 || index >= size) return std::nullopt;
    return static_cast<std::size_t>(index);
  }

  void apply(const Segment::Selector& selector, const JsonPath::Match& to, Matches& out) const {
    if (const auto* name = std::get_if<std::string>(&selector)) {
      if (!to.value->is_object()) return;
      if (const auto found = to.value->find(*name); found != to.value->end())
        out.push_back(child(to, *name, *found));
    } else if (const auto* number = std::get_if<std::int64_t>(&selector)) {
      if (!to.value->is_array()) return;
      if (const auto index = index_in(*to.value, *number))
        out.push_back(child(to, *index, (*to.value)[*index]));
    } else if (const auto* slice = std::get_if<Segment::Slice>(&selector)) {
      if (!to.value->is_array()) return;
      const auto size = static_cast<std::int64_t>(to.value->size());
      const auto bound = [&](std::optional<std::int64_t> given, std::int64_t otherwise) {
        const auto place = given ? (*given < 0 ? *given + size : *given) : otherwise;
        return std::clamp<std::int64_t>(place, 0, size);
      };
      // The step may be as large as an integer gets: never add it past the end.
      const auto end = bound(slice->to, size);
      for (auto i = bound(slice->from, 0); i < end; i += std::min(slice->step, size))
        out.push_back(child(to, static_cast<std::size_t>(i), (*to.value)[static_cast<std::size_t>(i)]));
    } else if (std::holds_alternative<Segment::Wildcard>(selector)) {
      each_child(to, [&](JsonPath::Match one) { out.push_back(std::move(one)); });
    } else if (const auto* filter = std::get_if<Segment::Filter>(&selector)) {
      each_child(to, [&](JsonPath::Match one) {
        if (holds(*filter->condition, *one.value)) out.push_back(std::move(one));
      });
    }
  }

  void descend(const Segment& segment, const JsonPath::Match& from, Matches& out) const {
    for (const auto& selector : segment.selectors) apply(selector, from, out);
    each_child(from, [&](const JsonPath::Match& one) { descend(segment, one, out); });
  }

  Matches select(const Segments& segments, const Json& from) const {
    Matches found{{{}, &from}};
    for (const auto& segment : segments) {
      Matches next;
      for (const auto& match : found) {
        if (segment->descend) {
          descend(*segment, match, next);
        } else {
          for (const auto& selector : segment->selectors) apply(selector, match, next);
        }
      }
      found = std::move(next);
    }
    return found;
  }

  /// What a side of a comparison is; nullptr where it is not there.
  const Json* value(const Operand& operand, const Json& current) const {
    if (!operand.is_path) return &operand.literal;
    const auto found = select(operand.path, operand.from_root ? root : current);
    return found.empty() ? nullptr : found.front().value;
  }

  bool holds(const Condition& condition, const Json& current) const {
    const auto part = [&](const auto& one) { return holds(*one, current); };
    switch (condition.kind) {
      case Condition::Kind::all: return std::all_of(condition.parts.begin(), condition.parts.end(), part);
      case Condition::Kind::any: return std::any_of(condition.parts.begin(), condition.parts.end(), part);
      case Condition::Kind::negated: return !part(condition.parts.front());
      case Condition::Kind::exists: return value(condition.left, current) != nullptr;
      case Condition::Kind::compare: break;
    }
    const Json* left = value(condition.left, current);
    const Json* right = value(condition.right, current);
    const auto& sign = condition.operation;
    if (sign == "==" || sign == "!=") {
      const bool same = left == nullptr || right == nullptr ? left == right : *left == *right;
      return same == (sign == "==");
    }
    // Only numbers with numbers and text with text have an order.
    if (left == nullptr || right == nullptr) return false;
    if (!(left->is_number() && right->is_number()) && !(left->is_string() && right->is_string()))
      return false;
    if (sign == "<") return *left < *right;
    if (sign == "<=") return *left <= *right;
    if (sign == ">") return *left > *right;
    return *left >= *right;
  }
};

}  // namespace

// The interface ------------------------------------------------------------------------------------

JsonPath::JsonPath(std::vector<std::shared_ptr<const Segment>> segments) : segments_(std::move(segments)) {}
JsonPath::JsonPath(JsonPath&&) noexcept = default;
JsonPath& JsonPath::operator=(JsonPath&&) noexcept = default;
JsonPath::~JsonPath() = default;

Result<JsonPath> JsonPath::parse(std::string_view text) {
  Reader reader(text);
  auto segments = reader.path();
  if (reader.wrong()) return fail(Error::Kind::bad_input, reader.message());
  return JsonPath(std::move(segments));
}

JsonPath JsonPath::of_pointer(std::string_view text) {
  std::vector<std::shared_ptr<const Segment>> segments;
  while (!text.empty()) {
    const auto slash = text.find('/');
    std::string part(text.substr(0, slash));
    text = slash == std::string_view::npos ? std::string_view() : text.substr(slash + 1);
    std::string plain;
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (part[i] == '~' && i + 1 < part.size() && (part[i + 1] == '0' || part[i + 1] == '1'))
        plain += part[++i] == '0' ? '~' : '/';
      else
        plain += part[i];
    }
    auto segment = std::make_shared<Segment>();
    // A number is an item of a list or a member of that name: whichever is there.
    if (!plain.empty() && plain.size() < 10 && plain.find_first_not_of("0123456789") == std::string::npos)
      segment->selectors.emplace_back(static_cast<std::int64_t>(std::stoll(plain)));
    segment->selectors.emplace_back(std::move(plain));
    segments.push_back(std::move(segment));
  }
  return JsonPath(std::move(segments));
}

std::vector<JsonPath::Match> JsonPath::select(const Json& document) const {
  return Selection{document}.select(segments_, document);
}

bool JsonPath::definite() const {
  return std::all_of(segments_.begin(), segments_.end(), [](const auto& segment) {
    if (segment->descend || segment->selectors.empty()) return false;
    const auto is_step = [](const auto& one) {
      return std::holds_alternative<std::string>(one) || std::holds_alternative<std::int64_t>(one);
    };
    if (!std::all_of(segment->selectors.begin(), segment->selectors.end(), is_step)) return false;
    // Two: a part of a pointer that may be either.
    return segment->selectors.size() == 1 ||
           (segment->selectors.size() == 2 && std::holds_alternative<std::int64_t>(segment->selectors[0]) &&
            std::holds_alternative<std::string>(segment->selectors[1]));
  });
}

std::optional<std::variant<std::string, std::int64_t>> JsonPath::last() const {
  if (segments_.empty() || segments_.back()->descend) return std::nullopt;
  const auto& selectors = segments_.back()->selectors;
  if (const auto* number = std::get_if<std::int64_t>(&selectors.front())) {
    if (selectors.size() <= 2) return *number;
  } else if (const auto* name = std::get_if<std::string>(&selectors.front());
             name != nullptr && selectors.size() == 1) {
    return *name;
  }
  return std::nullopt;
}

JsonPath JsonPath::parent() const {
  auto segments = segments_;
  if (!segments.empty()) segments.pop_back();
  return JsonPath(std::move(segments));
}

std::string JsonPath::why_nothing(const Json& document) const {
  Matches found{{{}, &document}};
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    auto next = Selection{document}.select(
        {segments_.begin(), segments_.begin() + static_cast<std::ptrdiff_t>(i) + 1}, document);
    if (!next.empty()) {
      found = std::move(next);
      continue;
    }
    const auto& holder = found.front();
    const auto& first = segments_[i]->selectors.front();
    const auto where = written(holder.location);
    if (const auto* number = std::get_if<std::int64_t>(&first); number != nullptr && !segments_[i]->descend) {
      if (!holder.value->is_array())
        return where + " is no list, so there is no [" + std::to_string(*number) + "]";
      return where + " has " + std::to_string(holder.value->size()) + " items, there is no [" +
             std::to_string(*number) + "]";
    }
    if (const auto* name = std::get_if<std::string>(&first); name != nullptr && !segments_[i]->descend)
      return where + (holder.value->is_object() ? " has no member \"" + *name + "\""
                                                : " is no object, so it has no member \"" + *name + "\"");
    return "nothing below " + where + " fits";
  }
  return "";
}

std::string written(const Location& location) {
  std::string result = "$";
  for (const auto& step : location) {
    if (const auto* index = std::get_if<std::size_t>(&step)) {
      result += "[" + std::to_string(*index) + "]";
      continue;
    }
    const auto& name = std::get<std::string>(step);
    if (!name.empty() && word_begins(name.front()) && std::all_of(name.begin(), name.end(), in_word)) {
      result += "." + name;
      continue;
    }
    result += "['";
    for (const char c : name) {
      if (c == '\'' || c == '\\') result += '\\';
      result += c;
    }
    result += "']";
  }
  return result;
}

const Json* at(const Json& document, const Location& location) {
  const Json* here = &document;
  for (const auto& step : location) {
    if (const auto* name = std::get_if<std::string>(&step)) {
      if (!here->is_object()) return nullptr;
      const auto found = here->find(*name);
      if (found == here->end()) return nullptr;
      here = &*found;
    } else {
      const auto index = std::get<std::size_t>(step);
      if (!here->is_array() || index >= here->size()) return nullptr;
      here = &(*here)[index];
    }
  }
  return here;
}

Json* at(Json& document, const Location& location) {
  return const_cast<Json*>(at(std::as_const(document), location));
}

}  // namespace tunnelctl::grafana
