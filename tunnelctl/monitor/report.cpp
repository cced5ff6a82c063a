#include "tunnelctl/monitor/report.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "common/utf8.h"

namespace tunnelctl::monitor {
namespace {

constexpr std::size_t kWidestTitle = 40;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

/// Bytes of UTF-8 as they are, others as U+FFFD; control characters, and the two that XML knows nothing of,
/// as \x1B: no escape of XML can hold them.
std::string harmless(std::string_view text) {
  constexpr const char* kHex = "0123456789ABCDEF";
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8::character_at(text, at);
    const auto byte = static_cast<unsigned char>(text[at]);
    const std::string_view character = text.substr(at, std::max<std::size_t>(length, 1));
    if (length == 0) {
      result += kReplacement;
    } else if (byte == '\n' || byte == '\t' || byte == '\r') {
      result += ' ';
    } else if (byte < 0x20 || byte == 0x7F) {
      result += {'\\', 'x', kHex[byte >> 4U], kHex[byte & 15U]};
    } else if (length == 2 && byte == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0) {
      // C1 controls: terminals obey some of them.
      const auto low = static_cast<unsigned char>(character[1]);
      result += {'\\', 'x', kHex[low >> 4U], kHex[low & 15U]};
    } else if (character == "\xEF\xBF\xBE" || character == "\xEF\xBF\xBF") {
      result += kReplacement;
    } else {
      result += character;
    }
    at += std::max<std::size_t>(length, 1);
  }
  return result;
}

std::string xml(std::string_view text) {
  std::string result;
  for (const char c : harmless(text)) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  }
  return result;
}

std::string in_seconds(std::chrono::milliseconds time) {
  std::string part = std::to_string(time.count() % 1000);
  part.insert(0, 3 - part.size(), '0');
  return std::to_string(time.count() / 1000) + "." + part;
}

/// Message, and the reason of what is allowed.
std::string remarks(const Check& check) {
  std::string result = check.message;
  if (!check.reason.empty()) result += (result.empty() ? "" : "; ") + ("allowed: " + check.reason);
  return result;
}

bool is_failure(Status status) {
  return status == Status::empty || status == Status::pending || status == Status::missing;
}
bool is_error(Status status) {
  return status == Status::error || status == Status::cancelled;
}

constexpr std::array kKinds{Check::Kind::datasource, Check::Kind::query, Check::Kind::rule,
                            Check::Kind::contact_point, Check::Kind::link};

void add_case(std::string& out, const Check& check) {
  out += "    <testcase classname=\"" + xml(name(check.kind)) + "\" name=\"" + xml(check.id) + "\" time=\"" +
         in_seconds(check.took) + "\"";
  std::string body;
  const std::string attributes =
      " type=\"" + xml(name(check.status)) + "\" message=\"" + xml(remarks(check)) + "\"";
  std::string details = check.title;
  if (!check.expr.empty()) details += (details.empty() ? "" : ": ") + check.expr;
  if (is_failure(check.status))
    body = "<failure" + attributes + ">" + xml(details) + "</failure>";
  else if (is_error(check.status))
    body = "<error" + attributes + ">" + xml(details) + "</error>";
  else if (check.status == Status::skipped)
    body = "<skipped message=\"" + xml(remarks(check)) + "\"/>";
  else if (check.status == Status::slow || check.status == Status::warning)
    body = "<system-out>" + xml(std::string(name(check.status)) + ": " + remarks(check)) + "</system-out>";
  else if (!remarks(check).empty())
    body = "<system-out>" + xml(remarks(check)) + "</system-out>";
  out += body.empty() ? "/>\n" : ">" + body + "</testcase>\n";
}

/// Columns on a terminal, near enough: one for each character.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string cut(const std::string& text, std::size_t most) {
  if (width(text) <= most) return text;
  std::string result;
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size() && count + 3 < most; ++count) {
    const std::size_t length = std::max<std::size_t>(utf8::character_at(text, at), 1);
    result += text.substr(at, length);
    at += length;
  }
  return result + "...";
}

}  // namespace

Json to_json(const Verified& verified) {
  Json checks = Json::array();
  for (const Check& check : verified.checks) {
    Json one{{"kind", name(check.kind)}, {"id", harmless(check.id)}, {"status", name(check.status)}};
    const auto put = [&](const char* key, const std::string& value) {
      if (!value.empty()) one[key] = harmless(value);
    };
    put("title", check.title);
    put("datasource", check.datasource);
    put("expr", check.expr);
    put("message", check.message);
    put("reason", check.reason);
    if (check.kind == Check::Kind::query) {
      one["series"] = check.series;
      one["milliseconds"] = check.took.count();
    }
    checks.push_back(std::move(one));
  }
  Json counts = Json::object();
  for (const auto& [status, count] : verified.counts) counts[std::string(name(status))] = count;
  return {{"good", verified.good}, {"counts", std::move(counts)}, {"checks", std::move(checks)}};
}

std::string to_junit(const Verified& verified) {
  struct Sums {
    std::size_t tests = 0, failures = 0, errors = 0, skipped = 0;
    std::chrono::milliseconds took{0};
    std::string text() const {
      return " tests=\"" + std::to_string(tests) + "\" failures=\"" + std::to_string(failures) +
             "\" errors=\"" + std::to_string(errors) + "\" skipped=\"" + std::to_string(skipped) +
             "\" time=\"" + in_seconds(took) + "\"";
    }
  };
  Sums all;
  std::string suites;
  for (const auto kind : kKinds) {
    Sums sums;
    std::string cases;
    for (const Check& check : verified.checks) {
      if (check.kind != kind) continue;
      for (Sums* one : {&all, &sums}) {
        ++one->tests;
        one->failures += is_failure(check.status) ? 1 : 0;
        one->errors += is_error(check.status) ? 1 : 0;
        one->skipped += check.status == Status::skipped ? 1 : 0;
        one->took += check.took;
      }
      add_case(cases, check);
    }
    if (sums.tests == 0) continue;
    suites += "  <testsuite name=\"" + std::string(name(kind)) + "\"" + sums.text() + ">\n" + cases +
              "  </testsuite>\n";
  }
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"tunnelctl monitor verify\"" +
         all.text() + ">\n" + suites + "</testsuites>\n";
}

std::string to_text(const Verified& verified) {
  using Row = std::array<std::string, 7>;
  std::vector<Row> rows{{"STATUS", "KIND", "ID", "TITLE", "SERIES", "MS", "REMARKS"}};
  for (const Check& check : verified.checks) {
    const bool query = check.kind == Check::Kind::query;
    rows.push_back({std::string(name(check.status)), std::string(name(check.kind)), harmless(check.id),
                    cut(harmless(check.title), kWidestTitle), query ? std::to_string(check.series) : "",
                    query ? std::to_string(check.took.count()) : "", harmless(remarks(check))});
  }
  std::array<std::size_t, 7> widths{};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string out;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width(row[i]), ' ');
      const bool number = i == 4 || i == 5;
      if (i != 0) line += "  ";
      line += number ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  out += std::to_string(verified.checks.size()) + (verified.checks.size() == 1 ? " check: " : " checks: ");
  bool first = true;
  for (const auto& [status, count] : verified.counts) {
    out += (first ? "" : ", ") + std::to_string(count) + " " + std::string(name(status));
    first = false;
  }
  return out + "\n";
}

}  // namespace tunnelctl::monitor
