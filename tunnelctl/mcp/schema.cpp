#include "tunnelctl/mcp/schema.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string_view>

#include "common/strict_json.h"

namespace tunnelctl::mcp {
namespace {

constexpr std::size_t kMostNested = 4 * 1024 * 1024;  // as much as a whole message
constexpr std::size_t kMostQuoted = 80;

using Problems = std::vector<std::string>;

std::string small(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

const Json& part(const Json& schema, const char* name) {
  static const Json none;
  const auto found = schema.find(name);
  return found == schema.end() ? none : *found;
}

/// Never empty; "" is any.
std::vector<std::string> types_of(const Json& schema) {
  const auto& type = part(schema, "type");
  if (type.is_array() && !type.empty()) return type.get<std::vector<std::string>>();
  return {type.is_string() ? type.get<std::string>() : ""};
}

std::string joined(const Json& values) {
  std::string result;
  for (const auto& one : values)
    result += (result.empty() ? "" : ", ") + (one.is_string() ? one.get<std::string>() : one.dump());
  return result;
}

/// Long ones are cut: an error goes back into the conversation.
std::string shown(const Json& value) {
  auto text = value.dump(-1, ' ', true);  // pure ASCII, so that it can be cut anywhere
  if (text.size() > kMostQuoted) text = text.substr(0, kMostQuoted) + "...";
  return text;
}

std::optional<Json> number_in(const std::string& text, bool whole) {
  const char* const end = text.data() + text.size();
  std::int64_t integer = 0;
  if (const auto read = std::from_chars(text.data(), end, integer); read.ec == std::errc() && read.ptr == end)
    return Json(integer);
  if (whole) return std::nullopt;
  double real = 0;
  if (const auto read = std::from_chars(text.data(), end, real); read.ec == std::errc() && read.ptr == end)
    return Json(real);
  return std::nullopt;
}

/// What it must mean for that type; itself when it fits, or when it cannot be meant.
Json meant(const std::string& type, const Json& value) {
  const bool text = value.is_string();
  if ((type == "integer" || type == "number") && text)
    return number_in(value.get<std::string>(), type == "integer").value_or(value);
  if (type == "integer" && value.is_number_float()) {
    const auto real = value.get<double>();
    constexpr double kExact = 9007199254740992.0;  // 2^53: a double counts no further
    const bool whole =
        real > -kExact && real < kExact && real == static_cast<double>(static_cast<std::int64_t>(real));
    return whole ? Json(static_cast<std::int64_t>(real)) : value;
  }
  if (type == "boolean" && text) {
    const auto word = small(value.get<std::string>());
    if (word == "true" || word == "false") return word == "true";
  }
  if (type == "string" && (value.is_number() || value.is_boolean())) return value.dump();
  if ((type == "object" || type == "array") && text) {
    auto inside = parse_strict_json(value.get_ref<const std::string&>(), kMostNested, 64);
    if (inside && (type == "object" ? inside->is_object() : inside->is_array())) return std::move(*inside);
  }
  if (type == "array" && !value.is_array()) return Json::array({value});
  return value;
}

bool is_of(const std::string& type, const Json& value) {
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  return true;
}

std::string with_article(const std::string& type) {
  if (type == "string") return "text";
  if (type == "boolean") return "true or false";
  if (type == "array") return "a list";
  return (type == "integer" || type == "object" ? "an " : "a ") + type;
}

Json checked(const Json& schema, const Json& given, const std::string& name, Problems& problems);

void check_size(const Json& schema, const Json& value, const std::string& name, Problems& problems) {
  const auto& least = part(schema, "minimum");
  const auto& most = part(schema, "maximum");
  if (value.is_number() && ((least.is_number() && value < least) || (most.is_number() && value > most)))
    problems.push_back(name + " is " + shown(value) + " but must be " +
                       (!most.is_number()    ? "at least " + least.dump()
                        : !least.is_number() ? "at most " + most.dump()
                                             : "from " + least.dump() + " to " + most.dump()));
  if (const auto& shortest = part(schema, "minLength");
      value.is_string() && shortest.is_number() && value.get_ref<const std::string&>().size() < shortest)
    problems.push_back(name + " must not be empty");
  if (const auto& fewest = part(schema, "minItems");
      value.is_array() && fewest.is_number() && value.size() < fewest)
    problems.push_back(name + " must have at least " + fewest.dump() + (fewest == 1 ? " item" : " items"));
}

/// The name as the schema writes it; empty when it has none like that.
std::string known_name(const Json& properties, const std::string& name) {
  if (properties.contains(name)) return name;
  std::string found;
  for (const auto& one : properties.items())
    if (small(one.key()) == small(name)) found = one.key();
  return found;
}

Json checked_object(const Json& schema, const Json& given, const std::string& name, Problems& problems) {
  const auto& properties = part(schema, "properties");
  const auto& more = part(schema, "additionalProperties");
  const std::string before = name.empty() ? "" : name + ".";
  Json result = Json::object();
  for (const auto& [key, value] : given.items()) {
    const auto known = properties.is_object() ? known_name(properties, key) : std::string();
    if (!known.empty()) {
      if (value.is_null()) continue;
      if (result.contains(known))
        problems.push_back(before + known + " is given twice");
      else
        result[known] = checked(properties[known], value, before + known, problems);
    } else if (more == false) {
      Json names = Json::array();
      for (const auto& one : properties.items()) names.push_back(one.key());
      problems.push_back("unknown argument " + shown(before + key) +
                         "; valid: " + (names.empty() ? "none" : joined(names)));
    } else {
      result[key] = more.is_object() ? checked(more, value, before + key, problems) : value;
    }
  }
  for (const auto& one : part(schema, "required"))
    if (!result.contains(one.get<std::string>()) &&
        std::none_of(problems.begin(), problems.end(), [&](const auto& problem) {
          return problem.starts_with(before + one.get<std::string>() + " ");
        }))
      problems.push_back(before + one.get<std::string>() + " is required");
  return result;
}

/// The word of the enum that it can only be; itself when it is none.
Json word_of(const Json& words, const Json& value) {
  if (!value.is_string() || std::find(words.begin(), words.end(), value) != words.end()) return value;
  const auto found = std::find_if(words.begin(), words.end(), [&](const Json& one) {
    return one.is_string() && small(one.get<std::string>()) == small(value.get<std::string>());
  });
  return found == words.end() ? value : *found;
}

Json checked(const Json& schema, const Json& given, const std::string& name, Problems& problems) {
  const auto types = types_of(schema);
  Json value = given;
  std::string wanted;
  bool fits = false;
  for (const auto& type : types) {
    value = meant(type, given);
    fits = is_of(type, value);
    if (fits) break;
    wanted += (wanted.empty() ? "" : " or ") + with_article(type);
  }
  if (!fits) {
    problems.push_back(name + " must be " + wanted + ", not " + shown(given));
    return value;
  }
  if (const auto& words = part(schema, "enum"); words.is_array()) {
    value = word_of(words, value);
    if (std::find(words.begin(), words.end(), value) == words.end())
      problems.push_back(name + " is " + shown(value) + " but must be one of: " + joined(words));
  }
  check_size(schema, value, name, problems);
  if (value.is_object()) return checked_object(schema, value, name, problems);
  if (const auto& items = part(schema, "items"); value.is_array() && items.is_object()) {
    Json list = Json::array();
    for (std::size_t i = 0; i < value.size(); ++i)
      list.push_back(checked(items, value[i], name + "[" + std::to_string(i) + "]", problems));
    return list;
  }
  return value;
}

}  // namespace

Result<Json> checked_arguments(const Json& schema, const Json& arguments) {
  Problems problems;
  Json result = arguments.is_null() ? checked_object(schema, Json::object(), "", problems)
                                    : checked(schema, arguments, "", problems);
  if (problems.empty()) return result;
  std::string line;
  constexpr std::size_t kMostProblems = 10;
  for (std::size_t i = 0; i < std::min(problems.size(), kMostProblems); ++i)
    line += (i == 0 ? "" : "; ") + problems[i];
  if (problems.size() > kMostProblems)
    line += "; and " + std::to_string(problems.size() - kMostProblems) + " more";
  return fail(Error::Kind::bad_input, line);
}

}  // namespace tunnelctl::mcp
