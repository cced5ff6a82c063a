#include "tunnelctl/grafana/json_text.h"

#include <algorithm>

namespace tunnelctl::grafana {
namespace {

/// "name:3:14" of the byte, counted from 1, that could not be read.
std::string place(const std::string& name, std::string_view text, std::size_t byte) {
  const auto before = text.substr(0, std::min(byte == 0 ? 0 : byte - 1, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto start = before.rfind('\n');
  const auto column = before.size() - (start == std::string_view::npos ? 0 : start + 1) + 1;
  return name + ":" + std::to_string(line) + ":" + std::to_string(column);
}

/// The library's "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ..."
/// has its own name and the place, which stand in front already.
std::string plain(std::string message) {
  if (const auto at = message.find(": "); at != std::string::npos) message.erase(0, at + 2);
  for (char& c : message)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return message.substr(0, 300);
}

}  // namespace

Result<nlohmann::json> parse_json(std::string_view text, const std::string& name) {
  // A byte-order mark, as some editors write, is no part of JSON; the library skips it and counts it.
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    const auto* parse = dynamic_cast<const nlohmann::json::parse_error*>(&error);
    return fail(Error::Kind::bad_input, place(name, text, parse == nullptr ? text.size() : parse->byte) +
                                            ": is not valid JSON: " + plain(error.what()));
  }
}

}  // namespace tunnelctl::grafana
