#include "tunnelctl/mcp/content.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "common/strict_json.h"
#include "common/utf8.h"

namespace tunnelctl::mcp {
namespace {

constexpr std::size_t kDeepestAnswer = 200;  // printing recurses
constexpr std::size_t kMostNotes = 4096;
constexpr std::size_t kRoomForMembers = 256;  // for what is said of an answer that was cut

std::string compact(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json text_content(std::string_view text) {
  return {{"type", "text"}, {"text", text}};
}

/// As much as fits, without half a character at the end.
std::string_view beginning(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end);
}

/// Foreign bytes would make the whole message no JSON.
std::string valid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto length = utf8::character_at(text, at);
    result += length == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(at, length);
    at += std::max<std::size_t>(length, 1);
  }
  return result;
}

/// A list somewhere in the answer: not inside another list.
struct List {
  Json* items = nullptr;
  std::string name{};
  std::vector<std::size_t> sizes{};  // of each item's text
  std::size_t bytes = 0;
};

void find_longest(Json& json, const std::string& name, List& longest, int levels) {
  if (json.is_object() && levels > 0)
    for (const auto& one : json.items())
      find_longest(one.value(), name.empty() ? one.key() : name + "." + one.key(), longest, levels - 1);
  if (!json.is_array()) return;
  List list{.items = &json, .name = name};
  for (const auto& one : json) {
    list.sizes.push_back(compact(one).size() + 1);
    list.bytes += list.sizes.back();
  }
  if (list.bytes > longest.bytes) longest = std::move(list);
}

/// Takes items from the end of the longest list until all fits; says what is left. nullopt when that is not
/// enough.
std::optional<std::string> shortened(Json& json, std::size_t size, std::size_t most) {
  List list;
  find_longest(json, "", list, 4);
  if (list.items == nullptr || size - list.bytes > most) return std::nullopt;
  std::size_t kept = list.sizes.size();
  const auto total = kept;
  while (kept > 0 && size > most) size -= list.sizes[--kept];
  if (kept == 0 || size > most) return std::nullopt;
  list.items->erase(list.items->begin() + static_cast<std::ptrdiff_t>(kept), list.items->end());
  return "the first " + std::to_string(kept) + " of " + std::to_string(total) + " items" +
         (list.name.empty() ? "" : " of " + list.name) + " are shown";
}

std::string kibibytes(std::size_t bytes) {
  return std::to_string((bytes + 1023) / 1024) + " KiB";
}

}  // namespace

Json call_result(const Outcome& outcome, std::size_t most_bytes, std::string_view narrow,
                 Structured structured) {
  Json content = Json::array();
  Json result = Json::object();
  std::string cut;
  const auto notes = valid_utf8(beginning(outcome.notes, kMostNotes));
  auto json = parse_strict_json(outcome.text, outcome.text.size(), kDeepestAnswer);
  const bool is_json = json && (json->is_object() || json->is_array());
  std::string text = is_json ? compact(*json) : valid_utf8(outcome.text);
  const auto size = text.size();
  // Some programs read the structure alone, and shall not take a part for the whole.
  const bool within = is_json && json->is_object() && !outcome.failed && structured != Structured::unknown;
  bool still_json = is_json;
  if (size > most_bytes) {
    const auto room = most_bytes - std::min(most_bytes / 2, within ? kRoomForMembers + narrow.size() : 0);
    const auto rest = is_json ? shortened(*json, size, room) : std::nullopt;
    still_json = rest.has_value();
    text = rest ? compact(*json) : std::string(beginning(text, most_bytes));
    cut = "truncated: the answer has " + kibibytes(size) + ", " +
          (rest ? *rest : "the first " + kibibytes(text.size()) + " are shown");
    if (!narrow.empty()) cut.append("; to get less: ").append(narrow);
  }
  if (within && still_json) {
    if (!cut.empty()) (*json)["_truncated"] = cut;
    if (!notes.empty()) (*json)["_warnings"] = notes;
    if (!cut.empty() || !notes.empty()) text = compact(*json);
    content.push_back(text_content(text));
    result["structuredContent"] = std::move(*json);
  } else {
    content.push_back(text_content(text));
    // A list has no place for what is to be said of it.
    if (still_json && !outcome.failed && structured == Structured::anything && cut.empty() && notes.empty())
      result["structuredContent"] = std::move(*json);
    if (!cut.empty()) content.push_back(text_content(cut));
    if (!notes.empty()) content.push_back(text_content(notes));
  }
  result["content"] = std::move(content);
  if (outcome.failed) result["isError"] = true;
  return result;
}

}  // namespace tunnelctl::mcp
