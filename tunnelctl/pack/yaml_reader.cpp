#include "tunnelctl/pack/yaml_reader.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace tunnelctl::pack {
namespace {

Json scalar(const Node& node) {
  const std::string& text = node.text;
  if (node.quoted) return text;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  if (text == ".inf" || text == ".nan" || text.empty()) return text;
  const char* end = text.data() + text.size();
  std::int64_t integer = 0;
  if (auto [at, error] = std::from_chars(text.data(), end, integer); error == std::errc() && at == end)
    return integer;
  double number = 0;
  if (auto [at, error] = std::from_chars(text.data(), end, number);
      error == std::errc() && at == end && std::isfinite(number) && text.find_first_of("xXnNiI") == text.npos)
    return number;
  return text;
}

const std::vector<Node>& no_nodes() {
  static const std::vector<Node> none;
  return none;
}

}  // namespace

Json to_json(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null: return nullptr;
    case Node::Kind::scalar: return scalar(node);
    case Node::Kind::list: {
      Json list = Json::array();
      for (const Node& item : node.items) list.push_back(to_json(item));
      return list;
    }
    case Node::Kind::map: {
      Json map = Json::object();
      for (const auto& member : node.members) map[member.key] = to_json(member.value);
      return map;
    }
  }
  return nullptr;
}

MapReader::MapReader(const Node& node, std::string file, std::string object, Problems& problems)
    : node_(node), file_(std::move(file)), object_(std::move(object)), problems_(problems) {
  if (node.kind != Node::Kind::map) {
    problem("must be a map of keys and values");
    return;
  }
  std::set<std::string_view> seen;
  for (const auto& member : node.members)
    if (!seen.insert(member.key).second)
      problems_.push_back(
          {{file_, member.line, member.column}, object_, "key \"" + member.key + "\" is there twice"});
}

const Node* MapReader::take(std::string_view key) {
  taken_.emplace(key);
  for (const auto& member : node_.members)
    if (member.key == key) return member.value.kind == Node::Kind::null ? nullptr : &member.value;
  return nullptr;
}

std::string MapReader::text(std::string_view key, bool required) {
  const Node* value = take(key);
  if (value == nullptr || (value->kind == Node::Kind::scalar && value->text.empty())) {
    if (required) problem("key \"" + std::string(key) + "\" is missing");
    return {};
  }
  if (value->kind != Node::Kind::scalar) {
    problem(*value, std::string(key) + " must be text");
    return {};
  }
  return value->text;
}

bool MapReader::flag(std::string_view key, bool otherwise) {
  const Node* value = take(key);
  if (value == nullptr) return otherwise;
  const Json json = to_json(*value);
  if (json.is_boolean()) return json.get<bool>();
  problem(*value, std::string(key) + " must be true or false");
  return otherwise;
}

std::optional<std::chrono::milliseconds> MapReader::duration(std::string_view key) {
  const Node* value = take(key);
  if (value == nullptr) return std::nullopt;
  auto parsed = pack::duration(value->kind == Node::Kind::scalar ? value->text : "");
  if (parsed) return *parsed;
  problem(*value, std::string(key) + ": " + parsed.error().message);
  return std::nullopt;
}

std::string MapReader::duration_text(std::string_view key) {
  const auto value = duration(key);
  return value ? pack::duration_text(*value) : std::string();
}

std::vector<std::string> MapReader::texts(std::string_view key) {
  std::vector<std::string> result;
  for (const Node& item : list(key)) {
    if (item.kind == Node::Kind::scalar)
      result.push_back(item.text);
    else
      problem(item, std::string(key) + ": each entry must be text");
  }
  return result;
}

Texts MapReader::text_map(std::string_view key) {
  Texts result;
  const Node* value = take(key);
  if (value == nullptr) return result;
  if (value->kind != Node::Kind::map) {
    problem(*value, std::string(key) + " must be a map of texts");
    return result;
  }
  for (const auto& member : value->members) {
    if (member.value.kind == Node::Kind::list || member.value.kind == Node::Kind::map)
      problem(member.value, std::string(key) + "." + member.key + " must be text");
    else if (!result.emplace(member.key, member.value.text).second)
      problem(member.value, std::string(key) + "." + member.key + " is there twice");
  }
  return result;
}

const std::vector<Node>& MapReader::list(std::string_view key) {
  const Node* value = take(key);
  if (value == nullptr) return no_nodes();
  if (value->kind == Node::Kind::list) return value->items;
  problem(*value, std::string(key) + " must be a list");
  return no_nodes();
}

void MapReader::ignore(std::initializer_list<std::string_view> keys) {
  for (const auto key : keys) taken_.emplace(key);
}

void MapReader::problem(const Node& node, std::string message) {
  problems_.push_back({at(node), object_, std::move(message)});
}

void MapReader::finish() {
  std::string known;
  for (const auto& key : taken_) known += (known.empty() ? "" : ", ") + key;
  for (const auto& member : node_.members)
    if (!taken_.contains(member.key))
      problems_.push_back({{file_, member.line, member.column},
                           object_,
                           "unknown key \"" + member.key + "\"; known: " + known});
}

}  // namespace tunnelctl::pack
