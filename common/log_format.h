#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "common/log.h"

/// How a record becomes a line. Pure, for hostile bytes: whatever the values hold, a line is one
/// line of valid UTF-8, and a JSON line is one valid object.
namespace logging {

inline constexpr std::size_t kMaxValueBytes = 2 * 1024;  // longer texts are cut and end in "..."
inline constexpr std::size_t kMaxLineBytes = 16 * 1024;  // fields that do not fit are left out

struct Record {
  std::chrono::system_clock::time_point time;
  Level level = Level::info;
  std::string_view component;
  std::string_view message;
  std::string_view instance_id;
  Fields fields;
};

/// Replaces `line`; no line end. A record too long for its line ends in `"truncated":true`.
void render_json(std::string& line, const Record& record);
/// The pieces of such an object, for other records that are lines of JSON. They append.
void append_json_time(std::string& line, std::chrono::system_clock::time_point time);        // without quotes
void append_json_text(std::string& line, std::string_view text);                             // with quotes
void append_json_field(std::string& line, std::string_view key, const Field::Value& value);  // `,"key":value`
/// "2026-01-02T03:04:05.678Z INFO  ssh: session opened upstream=home took_ms=12".
void render_text(std::string& line, const Record& record, bool colour);

}  // namespace logging
