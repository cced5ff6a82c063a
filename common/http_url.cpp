#include "common/http_url.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace http {
namespace {

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Result<std::uint16_t> parse_port(std::string_view text) {
  unsigned number = 0;
  const auto [last, wrong] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (wrong != std::errc() || last != text.data() + text.size() || number == 0 || number > 65535)
    return fail(Error::Kind::bad_input, "the URL's port is malformed; allowed: 1 to 65535");
  return static_cast<std::uint16_t>(number);
}

}  // namespace

Result<Url> parse_url(std::string_view text) {
  const auto refuse = [](const char* what) { return fail(Error::Kind::bad_input, what); };
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  if (!visible) return refuse("the URL contains spaces or other characters that must be percent-encoded");
  Url url;
  if (text.starts_with("https://")) {
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    url.tls = false;
    url.port = 80;
    text.remove_prefix(7);
  } else {
    return refuse("the URL must start with https:// or http://");
  }
  if (text.find('#') != std::string_view::npos) return refuse("the URL must not have a #fragment");
  std::string_view host = text.substr(0, text.find_first_of("/?"));
  if (host.find('@') != std::string_view::npos) {
    return refuse(
        "the URL must not contain a user or password; give them by environment variable or file instead");
  }
  std::string_view port;
  if (host.starts_with('[')) {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos) return refuse("the URL's IPv6 address lacks its ]");
    port = host.substr(close + 1);
    host = host.substr(1, close - 1);
    in6_addr address;
    if (::inet_pton(AF_INET6, std::string(host).c_str(), &address) != 1)
      return refuse("the URL's IPv6 address is malformed");
  } else {
    const std::size_t colon = std::min(host.find(':'), host.size());
    port = host.substr(colon);
    host = host.substr(0, colon);
    const bool good = std::all_of(host.begin(), host.end(), [](char c) {
      return is_letter_or_digit(c) || c == '-' || c == '.' || c == '_';
    });
    if (host.empty() || host.size() > 253 || !good) return refuse("the URL's host name is malformed");
  }
  url.host = host;
  if (!port.empty()) {
    const auto number = parse_port(port.front() == ':' ? port.substr(1) : std::string_view("?"));
    if (!number) return tl::unexpected(number.error());
    url.port = *number;
  }
  return url;
}

std::string shown_url(std::string_view url) {
  std::string out(url.substr(0, url.find_first_of("?#")));
  const std::size_t start = out.find("://") == std::string::npos ? 0 : out.find("://") + 3;
  const std::size_t at = out.substr(0, out.find('/', start)).rfind('@');
  if (at != std::string::npos && at >= start) out.replace(start, at - start, "***");
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c <= 0x20 || c >= 0x7F; }, '?');
  constexpr std::size_t kShown = 256;
  if (out.size() > kShown) out = out.substr(0, kShown) + "...";
  return out;
}

bool is_loopback(std::string_view host) {
  std::string name(host);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (name == "localhost" || name.ends_with(".localhost")) return true;
  std::array<unsigned char, 16> bytes{};
  if (::inet_pton(AF_INET, name.c_str(), bytes.data()) == 1) return bytes[0] == 127;
  if (::inet_pton(AF_INET6, name.c_str(), bytes.data()) != 1) return false;
  return std::all_of(bytes.begin(), bytes.end() - 1, [](unsigned char byte) { return byte == 0; }) &&
         bytes[15] == 1;
}

std::string percent_encode(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (is_letter_or_digit(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return out;
}

}  // namespace http
