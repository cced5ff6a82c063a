#include "tunnelctl/render/yaml.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace tunnelctl::render {
namespace {

/// Lower comes first. What is not named stands between the two lists.
int rank(std::string_view key) {
  static constexpr std::array kFirst{
      std::string_view("apiVersion"), std::string_view("kind"),      std::string_view("metadata"),
      std::string_view("orgId"),      std::string_view("name"),      std::string_view("alert"),
      std::string_view("record"),     std::string_view("uid"),       std::string_view("title"),
      std::string_view("refId"),      std::string_view("namespace"), std::string_view("folder"),
      std::string_view("type"),       std::string_view("receiver"),  std::string_view("matchers"),
      std::string_view("interval"),   std::string_view("expr"),      std::string_view("condition"),
      std::string_view("for"),        std::string_view("group_by")};
  static constexpr std::array kLast{std::string_view("labels"), std::string_view("annotations"),
                                    std::string_view("data"),   std::string_view("rules"),
                                    std::string_view("routes"), std::string_view("stringData"),
                                    std::string_view("json"),   std::string_view("template")};
  constexpr int kMiddle = 100;
  const auto first = std::find(kFirst.begin(), kFirst.end(), key);
  if (first != kFirst.end()) return static_cast<int>(first - kFirst.begin());
  const auto last = std::find(kLast.begin(), kLast.end(), key);
  if (last != kLast.end()) return kMiddle + 1 + static_cast<int>(last - kLast.begin());
  return kMiddle;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

/// Characters outside ASCII that some parsers take for line breaks or refuse.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kOdd{{{"\xC2\x85", "\\u0085"},
                                                                             {"\xE2\x80\xA8", "\\u2028"},
                                                                             {"\xE2\x80\xA9", "\\u2029"},
                                                                             {"\xEF\xBB\xBF", "\\uFEFF"}}};

bool is_odd(std::string_view text) {
  return std::any_of(kOdd.begin(), kOdd.end(),
                     [&](const auto& odd) { return text.find(odd.first) != std::string_view::npos; });
}

/// "30s", "1h30m": begins with a digit and is a number to no parser.
bool is_duration(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto digits = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    const auto unit = at;
    while (at < text.size() && std::string_view("smhdw").find(text[at]) != std::string_view::npos) ++at;
    if (unit == digits || at == unit) return false;
  }
  return !text.empty();
}

/// What a YAML 1.1 parser would take for something else than text.
bool is_word_of_yaml(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  static constexpr std::array kWords{
      std::string_view("null"), std::string_view("true"), std::string_view("false"), std::string_view("yes"),
      std::string_view("no"),   std::string_view("on"),   std::string_view("off"),   std::string_view("y"),
      std::string_view("n"),    std::string_view("nan"),  std::string_view("inf")};
  return std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
}

/// On the careful side: quotes too many harm nobody.
bool is_plain(std::string_view text) {
  if (text.empty() || text.back() == ' ' || text.back() == ':' || is_word_of_yaml(text)) return false;
  if (is_duration(text)) return true;
  if (!is_letter(text.front()) && text.front() != '/' && text.front() != '_' && text.front() != '$')
    return false;
  return text.find(": ") == std::string_view::npos && text.find(" #") == std::string_view::npos;
}

std::string double_quoted(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string result = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const auto odd = std::find_if(kOdd.begin(), kOdd.end(),
                                  [&](const auto& one) { return text.substr(at).starts_with(one.first); });
    if (odd != kOdd.end()) {
      result += odd->second;
      at += odd->first.size();
      continue;
    }
    const char c = text[at++];
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (is_control(c)) {
      const auto byte = static_cast<unsigned char>(c);
      result += "\\x";
      result += kHex[byte >> 4U];
      result += kHex[byte & 15U];
    } else {
      result += c;
    }
  }
  return result + '"';
}

std::string one_line(std::string_view text) {
  if (std::any_of(text.begin(), text.end(), is_control) || is_odd(text)) return double_quoted(text);
  if (is_plain(text)) return std::string(text);
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') result += '\'';
    result += c;
  }
  return result + '\'';
}

bool fits_a_block(std::string_view text) {
  return text.find('\n') != std::string_view::npos &&
         text.find_first_not_of(" \t\n") != std::string_view::npos &&
         std::none_of(text.begin(), text.end(),
                      [](char c) { return is_control(c) && c != '\n' && c != '\t'; }) &&
         !is_odd(text);
}

void write_block(std::string_view text, int indent, std::string& out) {
  out += '|';
  // Without it a parser takes the first line's own spaces for the indentation.
  if (text.front() == ' ' || text.front() == '\n' || text.front() == '\t') out += '2';
  if (text.back() != '\n')
    out += '-';
  else if (text.ends_with("\n\n"))
    out += '+';
  out += '\n';
  if (text.back() == '\n') text.remove_suffix(1);
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    if (end > at) {
      out.append(static_cast<std::size_t>(indent), ' ');
      out += text.substr(at, end - at);
    }
    out += '\n';
    at = end + 1;
  }
}

std::string number(const Json& value) {
  std::string text = value.dump();
  // YAML 1.1 knows no float without a point.
  if (const auto e = text.find('e'); e != std::string::npos && text.find('.') == std::string::npos)
    text.insert(e, ".0");
  return text;
}

void write(const Json& value, int indent, std::string& out);

/// After "key:" or "-": the value on the same line where it fits there, else below.
void write_value(const Json& value, int indent, std::string& out) {
  if (value.is_structured() && !value.empty()) {
    out += '\n';
    write(value, indent, out);
    return;
  }
  out += ' ';
  if (value.is_object()) {
    out += "{}";
  } else if (value.is_array()) {
    out += "[]";
  } else if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (fits_a_block(text)) return write_block(text, indent, out);
    out += one_line(text);
  } else if (value.is_number()) {
    out += number(value);
  } else {
    out += value.dump();
  }
  out += '\n';
}

void write(const Json& value, int indent, std::string& out) {
  const std::string space(static_cast<std::size_t>(indent), ' ');
  if (value.is_array()) {
    for (const Json& item : value) {
      if (item.is_structured() && !item.empty()) {
        // The item's first line stands behind the dash.
        std::string inner;
        write(item, indent + 2, inner);
        inner[static_cast<std::size_t>(indent)] = '-';
        out += inner;
      } else {
        out += space + '-';
        write_value(item, indent + 2, out);
      }
    }
    return;
  }
  std::vector<std::string> keys;
  for (const auto& item : value.items()) keys.push_back(item.key());
  std::stable_sort(keys.begin(), keys.end(),
                   [](const std::string& a, const std::string& b) { return rank(a) < rank(b); });
  for (const auto& key : keys) {
    out += space + one_line(key) + ':';
    write_value(value[key], indent + 2, out);
  }
}

}  // namespace

std::string yaml(const Json& value) {
  std::string result;
  if (value.is_structured() && !value.empty()) {
    write(value, 0, result);
  } else {
    write_value(value, 2, result);
    result.erase(0, 1);
  }
  return result;
}

std::string yaml_file(const std::string& comment, const std::vector<Json>& documents) {
  std::string result;
  for (std::size_t at = 0; at < comment.size();) {
    const auto end = std::min(comment.find('\n', at), comment.size());
    result += end > at ? "# " + comment.substr(at, end - at) + "\n" : "#\n";
    at = end + 1;
  }
  for (std::size_t i = 0; i < documents.size(); ++i) {
    if (i > 0) result += "---\n";
    result += yaml(documents[i]);
  }
  return result;
}

}  // namespace tunnelctl::render
