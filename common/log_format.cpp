#include "common/log_format.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "common/utf8.h"

namespace logging {
namespace {

/// The part of a timestamp that changes once a second costs more than the rest of a record; a
/// thread keeps the last one.
void append_time(std::string& line, std::chrono::system_clock::time_point time) {
  using std::chrono::floor;
  const auto second = floor<std::chrono::seconds>(time);
  thread_local std::chrono::system_clock::time_point kept_for = std::chrono::system_clock::time_point::min();
  thread_local std::array<char, 24> kept{};
  if (kept_for != second) {
    const std::time_t seconds = std::chrono::system_clock::to_time_t(second);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    std::strftime(kept.data(), kept.size(), "%Y-%m-%dT%H:%M:%S.", &parts);
    kept_for = second;
  }
  const auto milliseconds = static_cast<int>(floor<std::chrono::milliseconds>(time - second).count());
  line.append(kept.data());
  line.push_back(static_cast<char>('0' + milliseconds / 100));
  line.push_back(static_cast<char>('0' + milliseconds / 10 % 10));
  line.push_back(static_cast<char>('0' + milliseconds % 10));
  line.push_back('Z');
}

template <class Number>
void append_number(std::string& line, Number number) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  line.append(digits.data(), end);
}

bool plain(unsigned char byte) {
  return byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\';
}

/// The text between quotes, by RFC 8259 section 7. Broken UTF-8 becomes U+FFFD, a byte at a time;
/// DEL and the C1 controls, legal in JSON, are escaped because terminals obey them.
void append_escaped(std::string& line, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  const auto escape = [&](unsigned code) {
    line.append("\\u00").append({kHex[code >> 4U], kHex[code & 15U]});
  };
  for (std::size_t at = 0; at < text.size();) {
    if (at >= kMaxValueBytes) {
      line.append("...");
      return;
    }
    std::size_t run = at;
    while (run < text.size() && run < kMaxValueBytes && plain(static_cast<unsigned char>(text[run]))) ++run;
    line.append(text.substr(at, run - at));
    at = run;
    if (at >= text.size() || at >= kMaxValueBytes) continue;
    const auto byte = static_cast<unsigned char>(text[at]);
    const std::size_t length = utf8::character_at(text, at);
    switch (byte) {
      case '"': line.append("\\\""); break;
      case '\\': line.append("\\\\"); break;
      case '\n': line.append("\\n"); break;
      case '\r': line.append("\\r"); break;
      case '\t': line.append("\\t"); break;
      default:
        if (length == 0) {
          line.append("\xEF\xBF\xBD");
        } else if (byte < 0x20 || byte == 0x7F) {
          escape(byte);
        } else if (byte == 0xC2 && static_cast<unsigned char>(text[at + 1]) < 0xA0) {
          escape(static_cast<unsigned char>(text[at + 1]));
        } else {
          line.append(text.substr(at, length));
        }
    }
    at += length == 0 ? 1 : length;
  }
}

void append_quoted(std::string& line, std::string_view text) {
  line.push_back('"');
  append_escaped(line, text);
  line.push_back('"');
}

template <class Text>
void append_value(std::string& line, const Field::Value& value, Text text) {
  if (const auto* view = std::get_if<std::string_view>(&value)) {
    text(*view);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    line.append(*flag ? "true" : "false");
  } else if (const auto* real = std::get_if<double>(&value)) {
    if (std::isfinite(*real)) {
      append_number(line, *real);
    } else {
      line.append("null");  // JSON has no NaN
    }
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    append_number(line, *integer);
  } else {
    append_number(line, std::get<std::uint64_t>(value));
  }
}

constexpr std::string_view kTruncated = ",\"truncated\":true}";

}  // namespace

const char* to_string(Level level) {
  switch (level) {
    case Level::error: return "ERROR";
    case Level::warn: return "WARN";
    case Level::info: return "INFO";
    case Level::debug: return "DEBUG";
    case Level::trace: break;
  }
  return "TRACE";
}

void append_json_time(std::string& line, std::chrono::system_clock::time_point time) {
  append_time(line, time);
}

void append_json_text(std::string& line, std::string_view text) {
  append_quoted(line, text);
}

void append_json_field(std::string& line, std::string_view key, const Field::Value& value) {
  line.push_back(',');
  append_quoted(line, key);
  line.push_back(':');
  append_value(line, value, [&](std::string_view text) { append_quoted(line, text); });
}

void render_json(std::string& line, const Record& record) {
  line.assign("{\"timestamp\":\"");
  append_time(line, record.time);
  line.append("\",\"level\":\"").append(to_string(record.level));
  line.append("\",\"message\":");
  append_quoted(line, record.message);
  line.append(",\"component\":");
  append_quoted(line, record.component);
  line.append(",\"instanceId\":");
  append_quoted(line, record.instance_id);
  for (const Field& field : record.fields) {
    const std::size_t before = line.size();
    append_json_field(line, field.key(), field.value());
    if (line.size() + kTruncated.size() > kMaxLineBytes) {
      line.resize(before);
      line.append(kTruncated);
      return;
    }
  }
  line.push_back('}');
}

void render_text(std::string& line, const Record& record, bool colour) {
  constexpr std::array kColours{"\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[36m", "\x1b[90m"};
  line.clear();
  append_time(line, record.time);
  line.push_back(' ');
  const std::string_view level = to_string(record.level);
  if (colour) line.append(kColours[static_cast<std::size_t>(record.level)]);
  line.append(level);
  if (colour) line.append("\x1b[0m");
  line.append(6 - level.size(), ' ');
  append_escaped(line, record.component);
  line.append(": ");
  append_escaped(line, record.message);
  for (const Field& field : record.fields) {
    const std::size_t before = line.size();
    line.push_back(' ');
    append_escaped(line, field.key());
    line.push_back('=');
    append_value(line, field.value(), [&](std::string_view text) {
      const bool bare = !text.empty() && text.find_first_of(" =\"\\") == std::string_view::npos;
      if (bare) {
        append_escaped(line, text);
      } else {
        append_quoted(line, text);
      }
    });
    if (line.size() + 4 > kMaxLineBytes) {
      line.resize(before);
      line.append(" ...");
      return;
    }
  }
}

}  // namespace logging
