#include "common/config_file.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace config {
namespace {

using Json = nlohmann::ordered_json;

std::string env_name_of(const std::string& prefix, const std::string& key) {
  std::string name = prefix + "_";
  for (const char c : key)
    name.push_back(c == '.' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c));
  return name;
}

bool well_formed(std::string_view key) {
  const bool characters = std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  });
  return characters && !key.empty() && key.front() != '.' && key.back() != '.' &&
         key.find("..") == std::string_view::npos;
}

std::string describe(Range range, const std::function<std::string(std::int64_t)>& write) {
  const bool low = range.min != Range{}.min;
  const bool high = range.max != Range{}.max;
  if (low && high) return write(range.min) + " to " + write(range.max);
  if (low) return write(range.min) + " or more";
  if (high) return write(range.max) + " or less";
  return "";
}

Range overlap(Range a, Range b) {
  return {std::max(a.min, b.min), std::min(a.max, b.max)};
}

/// Text that could end a C string or garble a terminal is no value; lines and tabs are kept for
/// the few values that are blocks of text.
std::string refuse_controls(std::string_view text) {
  const bool bad = std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
  });
  return bad ? "contains a control character" : "";
}

std::string digest(std::string_view secret) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
  std::size_t length = 0;
  if (EVP_Q_digest(nullptr, "SHA256", nullptr, secret.data(), secret.size(), sum.data(), &length) != 1) {
    throw std::runtime_error("SHA-256 is not available in this OpenSSL");
  }
  std::string hex;
  for (std::size_t i = 0; i < length; ++i) {
    constexpr std::string_view kHex = "0123456789abcdef";
    hex.append({kHex[sum[i] >> 4U], kHex[sum[i] & 15U]});
  }
  return hex;
}

std::string markdown(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string as_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    std::string out;
    for (const auto& item : value) out += (out.empty() ? "" : ", ") + as_text(item);
    return out;
  }
  return value.dump();
}

}  // namespace

void Schema::insert(Entry entry) {
  if (!well_formed(entry.key)) throw std::logic_error("malformed configuration key " + entry.key);
  for (const Entry& other : entries_) {
    const bool inside = other.key.starts_with(entry.key + ".") || entry.key.starts_with(other.key + ".");
    if (other.key == entry.key || inside)
      throw std::logic_error("configuration key taken twice: " + entry.key);
    if (!env_prefix_.empty() && env_name_of(env_prefix_, other.key) == env_name_of(env_prefix_, entry.key)) {
      throw std::logic_error("two configuration keys share an environment name: " + entry.key);
    }
  }
  if (!env_prefix_.empty() && entry.shape != Shape::items)
    entry.env_name = env_name_of(env_prefix_, entry.key);
  if (entry.value) entry.default_text = entry.docs.secret ? "" : as_text(entry.value());
  entries_.push_back(std::move(entry));
}

const Schema::Entry* Schema::find(std::string_view key) const {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  return found == entries_.end() ? nullptr : &*found;
}

void Schema::add(std::string key, bool* field, Docs docs) {
  Entry entry{.key = std::move(key), .docs = std::move(docs), .type = "switch", .allowed = "true or false"};
  entry.parse = [field](const std::vector<std::string>& texts) -> Parsed<Commit> {
    const auto value = parse_bool(texts.front());
    if (!value) return tl::unexpected(value.error());
    return [field, on = *value] { *field = on; };
  };
  entry.value = [field] { return Json(*field); };
  entry.get = [field] { return std::any(*field); };
  entry.set = [field](const std::any& value) { *field = std::any_cast<bool>(value); };
  insert(std::move(entry));
}

void Schema::add_text(std::string key, std::string type, std::function<std::string()> get,
                      std::function<void(std::string)> set, Docs docs) {
  Entry entry{.key = std::move(key), .docs = std::move(docs), .type = std::move(type)};
  entry.parse = [set, check = entry.docs.check,
                 secret = entry.docs.secret](const std::vector<std::string>& texts) -> Parsed<Commit> {
    const std::string& text = texts.front();
    std::string wrong = refuse_controls(text);
    if (wrong.empty() && check) wrong = check(text);
    if (!wrong.empty()) return tl::unexpected(secret ? wrong : quote(text) + " " + wrong);
    return [set, text] { set(text); };
  };
  entry.value = [get] { return Json(get()); };
  entry.get = [get] { return std::any(get()); };
  entry.set = [set](const std::any& value) { set(std::any_cast<std::string>(value)); };
  insert(std::move(entry));
}

void Schema::add(std::string key, std::string* field, Docs docs) {
  add_text(
      std::move(key), "text", [field] { return *field; },
      [field](std::string text) { *field = std::move(text); }, std::move(docs));
}

void Schema::add(std::string key, Secret* field, Docs docs) {
  docs.secret = true;
  add_text(
      std::move(key), "secret", [field] { return std::string(field->reveal()); },
      [field](std::string text) { *field = Secret(std::move(text)); }, std::move(docs));
}

void Schema::add(std::string key, std::filesystem::path* field, Docs docs) {
  add_text(
      std::move(key), "path", [field] { return field->string(); },
      [field](std::string text) { *field = std::move(text); }, std::move(docs));
}

void Schema::add(std::string key, std::optional<std::filesystem::path>* field, Docs docs) {
  add_text(
      std::move(key), "path", [field] { return field->value_or("").string(); },
      [field](std::string text) {
        if (text.empty()) {
          field->reset();
        } else {
          *field = std::move(text);
        }
      },
      std::move(docs));
}

void Schema::add(std::string key, std::vector<std::string>* field, Docs docs) {
  Entry entry{.key = std::move(key), .docs = std::move(docs), .type = "list of texts", .shape = Shape::texts};
  entry.parse = [field, check = entry.docs.check,
                 secret = entry.docs.secret](const std::vector<std::string>& texts) -> Parsed<Commit> {
    constexpr std::size_t kMostTexts = 1000;
    if (texts.size() > kMostTexts) return tl::unexpected(std::string("has more than 1000 entries"));
    for (const std::string& text : texts) {
      std::string wrong = text.empty() ? "is an empty entry" : refuse_controls(text);
      if (wrong.empty() && check) wrong = check(text);
      if (!wrong.empty()) return tl::unexpected(secret ? "an entry " + wrong : quote(text) + " " + wrong);
    }
    return [field, texts] { *field = texts; };
  };
  entry.value = [field] { return Json(*field); };
  entry.get = [field] { return std::any(*field); };
  entry.set = [field](const std::any& value) { *field = std::any_cast<std::vector<std::string>>(value); };
  insert(std::move(entry));
}

void Schema::carry(Entry& entry, const Number& number) {
  entry.get = [get = number.get] { return std::any(get()); };
  entry.set = [set = number.set](const std::any& value) { set(std::any_cast<std::int64_t>(value)); };
}

void Schema::add_number(std::string key, Numeric kind, Number number, Range limits, Docs docs) {
  const Range range = overlap(docs.range, limits);
  const bool bytes = kind == Numeric::bytes;
  Entry entry{.key = std::move(key), .docs = std::move(docs), .type = bytes ? "bytes" : "integer"};
  entry.allowed = describe(
      range, [bytes](std::int64_t value) { return bytes ? write_bytes(value) : std::to_string(value); });
  entry.parse = [set = number.set, bytes, range](const std::vector<std::string>& texts) -> Parsed<Commit> {
    const auto value = bytes ? parse_bytes(texts.front(), range) : parse_integer(texts.front(), range);
    if (!value) return tl::unexpected(value.error());
    return [set, read = *value] { set(read); };
  };
  entry.value = [get = number.get, bytes] { return bytes ? Json(write_bytes(get())) : Json(get()); };
  carry(entry, number);
  insert(std::move(entry));
}

void Schema::add_duration(std::string key, Number number, std::chrono::nanoseconds unit, Docs docs) {
  const Range range = docs.range;
  Entry entry{.key = std::move(key), .docs = std::move(docs), .type = "duration"};
  const auto write = [](std::int64_t value) { return write_duration(std::chrono::nanoseconds(value)); };
  entry.allowed = describe(range, write);
  entry.parse = [set = number.set, range, unit](const std::vector<std::string>& texts) -> Parsed<Commit> {
    const auto value = parse_duration(texts.front(), range, unit);
    if (!value) return tl::unexpected(value.error());
    return [set, read = value->count()] { set(read); };
  };
  entry.value = [get = number.get, write] { return Json(write(get())); };
  carry(entry, number);
  insert(std::move(entry));
}

void Schema::add_choice(std::string key, std::vector<std::string> names, Number index, Docs docs) {
  Entry entry{.key = std::move(key), .docs = std::move(docs), .type = "choice"};
  for (const std::string& name : names) entry.allowed += (entry.allowed.empty() ? "" : ", ") + name;
  entry.parse = [names, set = index.set,
                 allowed = entry.allowed](const std::vector<std::string>& texts) -> Parsed<Commit> {
    const auto found = std::find(names.begin(), names.end(), texts.front());
    if (found == names.end()) {
      return tl::unexpected((texts.front().empty() ? "is empty" : quote(texts.front()) + " is not a choice") +
                            "; allowed: " + allowed);
    }
    return [set, at = found - names.begin()] { set(at); };
  };
  entry.value = [names, get = index.get] { return Json(names.at(static_cast<std::size_t>(get()))); };
  carry(entry, index);
  insert(std::move(entry));
}

void Schema::add_items(std::string key, Items items, ListDocs docs) {
  Entry entry{.key = std::move(key), .type = "list of sections", .shape = Shape::items};
  entry.docs.help = docs.help;
  entry.docs.hot = docs.hot;
  entry.docs.required = docs.required;
  entry.items = std::move(items);
  entry.items.docs = std::move(docs);
  insert(std::move(entry));
}

void Schema::write_reference(std::string& out, const std::string& path, bool hot) const {
  std::vector<const Entry*> lists;
  out += "| Key | Type | Default | Allowed | Reload | Environment | Meaning | Example |\n";
  out += "|---|---|---|---|---|---|---|---|\n";
  const auto code = [](const std::string& text) { return text.empty() ? "–" : "`" + markdown(text) + "`"; };
  for (const Entry& entry : entries_) {
    if (entry.shape == Shape::items) lists.push_back(&entry);
    std::string names = code(entry.env_name);
    if (entry.docs.secret && !entry.env_name.empty()) names += ", " + code(entry.env_name + "_FILE");
    for (const OldName& old : entry.docs.old_names) names += ", old: " + code(old.name);
    out += "| `" + path + entry.key + "` | " + entry.type + " | " +
           (entry.docs.required ? "required" : code(entry.default_text)) + " | " +
           (entry.allowed.empty() ? "–" : markdown(entry.allowed)) + " | " +
           (hot || entry.docs.hot ? "hot" : "restart") + " | " + names + " | " + markdown(entry.docs.help) +
           " | " + code(entry.docs.example) + " |\n";
  }
  for (const Entry* list : lists) {
    const std::string inner = path + list->key + "[].";
    out += "\n### Each item of `" + path + list->key + "`\n\n";
    if (!list->items.docs.unique.empty())
      out += "`" + list->items.docs.unique + "` differs between items.\n\n";
    list->items.sample(
        [&](std::size_t, Schema& item) { item.write_reference(out, inner, hot || list->docs.hot); });
  }
}

std::string Schema::reference() const {
  std::string out;
  write_reference(out, "", false);
  return out;
}

nlohmann::ordered_json Schema::effective_at(const std::string& path,
                                            const std::map<std::string, std::string>& origins) const {
  Json out = Json::object();
  for (const Entry& entry : entries_) {
    const std::string full = path + entry.key;
    if (entry.shape == Shape::items) {
      Json list = Json::array();
      entry.items.visit([&](std::size_t index, Schema& item) {
        list.push_back(item.effective_at(full + "[" + std::to_string(index) + "].", origins));
      });
      out[entry.key] = std::move(list);
      continue;
    }
    Json value = entry.value();
    if (entry.docs.secret && !value.empty() && value != "") value = "***";
    const auto from = origins.find(full);
    out[entry.key] = {{"value", std::move(value)},
                      {"from", from == origins.end() ? "default" : from->second}};
  }
  return out;
}

nlohmann::ordered_json Schema::effective() const {
  return effective_at("", origins_);
}

nlohmann::ordered_json Schema::plain_value(const Entry& entry) {
  if (entry.shape == Shape::items) {
    Json list = Json::array();
    entry.items.visit([&](std::size_t, Schema& item) { list.push_back(item.plain_values()); });
    return list;
  }
  // A digest tells that a secret changed without a second copy of it.
  return entry.docs.secret ? Json(digest(entry.value().dump())) : entry.value();
}

nlohmann::ordered_json Schema::plain_values() const {
  Json out = Json::object();
  for (const Entry& entry : entries_) out[entry.key] = plain_value(entry);
  return out;
}

Diff diff(const Schema& before, const Schema& after) {
  Diff changed;
  for (const Schema::Entry& entry : after.entries_) {
    const Schema::Entry* old = before.find(entry.key);
    if (old != nullptr && Schema::plain_value(*old) == Schema::plain_value(entry)) continue;
    (entry.docs.hot ? changed.hot : changed.cold).push_back(entry.key);
  }
  return changed;
}

std::optional<KeyFacts> Schema::facts(std::string_view key) const {
  const Entry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  return KeyFacts{entry->docs.hot, entry->shape == Shape::items, entry->docs.secret};
}

std::vector<std::string> Schema::keys() const {
  std::vector<std::string> all;
  for (const Entry& entry : entries_) all.push_back(entry.key);
  return all;
}

std::string Schema::expected(const Entry& entry) {
  std::string out = "; expected " + entry.type;
  if (!entry.allowed.empty()) out += " (" + entry.allowed + ")";
  return out;
}

Parsed<std::vector<std::string>> Schema::texts_of(std::string_view key, const nlohmann::json& value) const {
  const Entry* entry = find(key);
  if (entry == nullptr || entry->shape == Shape::items)
    return tl::unexpected(std::string("cannot be given as a single value"));
  if (value.is_string()) return std::vector{value.get<std::string>()};
  if (value.is_number_integer() || value.is_boolean()) return std::vector{value.dump()};
  if (!value.is_array() || entry->shape != Shape::texts)
    return tl::unexpected("is " +
                          std::string(value.is_object()   ? "an object"
                                      : value.is_array()  ? "a list"
                                      : value.is_number() ? "not a whole number"
                                                          : "nothing") +
                          expected(*entry));
  std::vector<std::string> texts;
  for (const auto& item : value) {
    if (!item.is_string()) return tl::unexpected(std::string("has an entry that is no text"));
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

void Schema::take(const Schema& from, std::string_view key) {
  const Entry* mine = find(key);
  const Entry* theirs = from.find(key);
  if (mine == nullptr || theirs == nullptr || !mine->set || !theirs->get)
    throw std::logic_error("configuration key cannot be taken over: " + std::string(key));
  mine->set(theirs->get());
}

std::string Schema::origin(std::string path) const {
  for (;;) {
    if (const auto exact = origins_.find(path); exact != origins_.end()) return exact->second;
    if (const auto inside = origins_.lower_bound(path);
        inside != origins_.end() && inside->first.starts_with(path + "."))
      return inside->second;
    const auto cut = path.find_last_of(".[");
    if (cut == std::string::npos) return {};
    path.resize(cut);
  }
}

}  // namespace config
