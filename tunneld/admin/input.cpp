#include "tunneld/admin/input.h"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>

#include "common/config_values.h"
#include "common/utf8.h"

namespace tunneld::admin {
namespace {

bool contains(std::span<const std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string list_of(std::span<const std::string_view> words) {
  std::string text;
  for (const auto word : words) text.append(text.empty() ? "" : ", ").append(word);
  return text;
}

bool printable(std::string_view text) {
  return utf8::valid(text) && std::none_of(text.begin(), text.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return byte < 0x20 || byte == 0x7F;
         });
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Query::Query(std::string_view target, std::span<const std::string_view> known, Problems& problems)
    : problems_(problems) {
  const auto mark = target.find('?');
  if (mark == std::string_view::npos) return;
  auto rest = target.substr(mark + 1);
  while (!rest.empty()) {
    const auto end = std::min(rest.find('&'), rest.size());
    const auto part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const auto equals = part.find('=');
    if (equals == std::string_view::npos) {
      problems_.push_back("query: " + config::quote(part) + " is not name=value");
      continue;
    }
    const auto name = part.substr(0, equals);
    if (!contains(known, name))
      problems_.push_back("query: " + config::quote(name) + " is unknown" +
                          (known.empty() ? "" : "; known: " + list_of(known)));
    else if (find(name))
      problems_.push_back("query: " + std::string(name) + " is given twice");
    else
      parameters_.emplace_back(name, part.substr(equals + 1));
  }
}

std::optional<std::string_view> Query::find(std::string_view name) const {
  for (const auto& [key, value] : parameters_)
    if (key == name) return value;
  return std::nullopt;
}

std::uint64_t Query::number(std::string_view name, std::uint64_t otherwise, std::uint64_t min,
                            std::uint64_t max) {
  const auto text = find(name);
  if (!text) return otherwise;
  std::uint64_t value = 0;
  const auto* const end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  if (error == std::errc{} && stop == end && value >= min && value <= max) return value;
  problems_.push_back(std::string(name) + ": a whole number from " + std::to_string(min) + " to " +
                      std::to_string(max) + " is wanted");
  return otherwise;
}

std::string_view Query::word(std::string_view name, std::string_view otherwise,
                             std::span<const std::string_view> words) {
  const auto text = find(name);
  if (!text) return otherwise;
  if (contains(words, *text)) return *text;
  problems_.push_back(std::string(name) + ": one of " + list_of(words) + " is wanted");
  return otherwise;
}

std::chrono::seconds Query::duration(std::string_view name, std::chrono::seconds otherwise,
                                     std::chrono::seconds min, std::chrono::seconds max) {
  const auto text = find(name);
  if (!text) return otherwise;
  const auto value = config::parse_duration(*text, {min, max}, std::chrono::seconds(1));
  if (value) return std::chrono::duration_cast<std::chrono::seconds>(*value);
  problems_.push_back(std::string(name) + ": " + value.error());
  return otherwise;
}

Fields::Fields(const nlohmann::json& body, std::span<const std::string_view> known, Problems& problems)
    : body_(body), problems_(problems) {
  if (!body.is_object()) {
    problems_.emplace_back("body: an object is wanted");
    return;
  }
  for (const auto& [name, value] : body.items())
    if (!contains(known, name)) problems_.push_back(config::quote(name) + ": unknown field");
}

bool Fields::has(std::string_view name) const {
  return body_.is_object() && body_.contains(name);
}

std::optional<std::string> Fields::text(std::string_view name, std::size_t max_bytes) {
  if (!has(name)) return std::nullopt;
  const auto& value = body_.at(std::string(name));
  const auto* text = value.get_ptr<const std::string*>();
  if (text != nullptr && !text->empty() && text->size() <= max_bytes && printable(*text)) return *text;
  problems_.push_back(std::string(name) + ": text of 1 to " + std::to_string(max_bytes) +
                      " bytes without control characters is wanted");
  return std::nullopt;
}

std::optional<std::int64_t> Fields::whole(std::string_view name, std::int64_t min, std::int64_t max,
                                          std::string_view of_what) {
  if (!has(name)) return std::nullopt;
  const auto& value = body_.at(std::string(name));
  if (value.is_number_integer() && value >= min && value <= max) return value.get<std::int64_t>();
  problems_.push_back(std::string(name) + ": a whole number of " + std::string(of_what) + " from " +
                      std::to_string(min) + " to " + std::to_string(max) + " is wanted");
  return std::nullopt;
}

std::vector<std::string> Fields::texts(std::string_view name, std::size_t max_items, std::size_t max_bytes) {
  if (!has(name)) return {};
  const auto& value = body_.at(std::string(name));
  std::vector<std::string> found;
  bool good = value.is_array() && value.size() <= max_items;
  if (good)
    for (const auto& item : value) {
      const auto* text = item.get_ptr<const std::string*>();
      good = good && text != nullptr && !text->empty() && text->size() <= max_bytes && printable(*text);
      if (good) found.push_back(*text);
    }
  if (good) return found;
  problems_.push_back(std::string(name) + ": a list of at most " + std::to_string(max_items) +
                      " texts is wanted");
  return {};
}

std::optional<std::string> unescaped(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (c == '%') {
      const int high = at + 2 < text.size() ? hex_value(text[at + 1]) : -1;
      const int low = at + 2 < text.size() ? hex_value(text[at + 2]) : -1;
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      at += 2;
    }
    if (c <= ' ' || c >= 0x7f) return std::nullopt;
    out += c;
  }
  return out;
}

}  // namespace tunneld::admin
