#include "tunnel/request_path.h"

#include <algorithm>
#include <optional>

namespace tunnel {
namespace {

constexpr std::size_t kMaxTarget = 8 * 1024;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// The byte a complete escape at `at` stands for.
std::optional<unsigned char> escape_at(std::string_view text, std::size_t at) {
  if (at + 2 >= text.size() || text[at] != '%') return std::nullopt;
  const int high = hex_digit(text[at + 1]);
  const int low = hex_digit(text[at + 2]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

std::optional<std::string> decode_once(std::string_view path) {
  std::string decoded;
  decoded.reserve(path.size());
  for (std::size_t at = 0; at < path.size(); ++at) {
    if (path[at] != '%') {
      decoded.push_back(path[at]);
      continue;
    }
    const auto byte = escape_at(path, at);
    if (!byte) return std::nullopt;
    decoded.push_back(static_cast<char>(*byte));
    at += 2;
  }
  return decoded;
}

bool control(unsigned char byte) {
  return byte < 0x20 || byte == 0x7f;
}

bool dot_segment(std::string_view segment) {
  segment = segment.substr(0, segment.find(';'));
  return segment == "." || segment == "..";
}

bool has_dot_segment(std::string_view path) {
  for (;;) {
    const auto slash = path.find('/');
    if (dot_segment(path.substr(0, slash))) return true;
    if (slash == path.npos) return false;
    path.remove_prefix(slash + 1);
  }
}

bool overlong(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  const unsigned next = at + 1 < text.size() ? static_cast<unsigned char>(text[at + 1]) : 0;
  if (byte == 0xe0) return next >= 0x80 && next < 0xa0;
  if (byte == 0xf0) return next >= 0x80 && next < 0x90;
  return byte == 0xc0 || byte == 0xc1 || byte >= 0xf5;
}

/// Why no service may be sent this path, or nullopt. `path` is what follows the service's name.
std::optional<std::string_view> fault(std::string_view path) {
  if (std::all_of(path.begin(), path.end(),
                  [](char c) { return c > 0x20 && c < 0x7f && c != '\\' && c != '#'; })) {
    if (path.find('%') == path.npos)
      return has_dot_segment(path) ? std::optional<std::string_view>("a dot segment") : std::nullopt;
  } else {
    return "a character that must be percent-encoded";
  }
  const auto decoded = decode_once(path);
  if (!decoded) return "an incomplete percent-encoding";
  if (has_dot_segment(*decoded)) return "a dot segment";
  for (std::size_t at = 0; at < decoded->size(); ++at) {
    const auto byte = static_cast<unsigned char>((*decoded)[at]);
    if (control(byte) || byte == '\\') return "an encoded control character or backslash";
    if (overlong(*decoded, at)) return "a byte that no UTF-8 text has";
    if (byte != '%') continue;
    const auto twice = escape_at(*decoded, at);
    if (twice && (control(*twice) || *twice == '.' || *twice == '/' || *twice == '\\' || *twice == '%'))
      return "a double percent-encoding";
  }
  return std::nullopt;
}

/// What follows `prefix`, split into the name and the rest that begins with "/", "?" or nothing.
struct Split {
  std::string_view name;
  std::string_view path;
  std::string_view query;  // with its "?"
};
std::optional<Split> split(std::string_view target, std::string_view prefix) {
  if (!target.starts_with(prefix)) return std::nullopt;
  target.remove_prefix(prefix.size());
  const auto question = std::min(target.find('?'), target.size());
  const auto path = target.substr(0, question);
  const auto slash = std::min(path.find('/'), path.size());
  return Split{path.substr(0, slash), path.substr(slash), target.substr(question)};
}

tl::unexpected<Refusal> too_long() {
  return tl::unexpected<Refusal>(
      Refusal{Code::bad_request, "the request target is longer than 8 KiB", {}, 414U});
}

tl::unexpected<Refusal> no_such_service() {
  return refuse(Code::service_denied, "the path does not name a service");
}

}  // namespace

bool valid_service_name(std::string_view name) {
  if (name.empty() || name.size() > 63 || name.front() == '-') return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

Served<Route> route_http(std::string_view target) {
  const auto parts = split(target, "/t/");
  if (!parts) return NotOurs{};
  if (target.size() > kMaxTarget) return too_long();
  if (!valid_service_name(parts->name)) return no_such_service();
  // http1 lets none of these through; a target that came another way must not split a request line.
  if (std::any_of(target.begin(), target.end(),
                  [](char c) { return control(static_cast<unsigned char>(c)) || c == ' '; }))
    return refuse(Code::bad_request, "the request target has a space or control character");
  if (parts->path.empty())
    return AddSlash{std::string("/t/").append(parts->name).append("/").append(parts->query)};
  if (const auto wrong = fault(parts->path))
    return refuse(Code::bad_request, std::string("the path has ").append(*wrong));
  return ServiceTarget{std::string(parts->name), std::string(parts->path).append(parts->query)};
}

Served<Route> route_websocket(std::string_view target) {
  const auto parts = split(target, "/ws/");
  if (!parts || !parts->path.empty()) return NotOurs{};
  if (target.size() > kMaxTarget) return too_long();
  if (!valid_service_name(parts->name)) return no_such_service();
  return ServiceTarget{std::string(parts->name), {}};
}

}  // namespace tunnel
