#include "tunnel/client_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "common/keyed_hash.h"

namespace tunnel {
namespace {

/// An address as its 16 bytes, IPv4 as ::ffff:a.b.c.d.
using Bytes = std::array<std::uint8_t, 16>;
constexpr Bytes kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};
constexpr unsigned kMappedBits = 96;

bool is_v4(const Bytes& bytes) {
  return std::equal(bytes.begin(), bytes.begin() + kMappedBits / 8, kMapped.begin());
}

std::optional<Bytes> parse_bytes(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> ended{};
  // A NUL within would end what inet_pton sees, not what we were given.
  if (text.size() >= ended.size() || text.find('\0') != std::string_view::npos) return std::nullopt;
  std::copy(text.begin(), text.end(), ended.begin());
  Bytes bytes = kMapped;
  if (::inet_pton(AF_INET, ended.data(), bytes.data() + kMappedBits / 8) == 1) return bytes;
  if (::inet_pton(AF_INET6, ended.data(), bytes.data()) == 1) return bytes;
  return std::nullopt;
}

std::string text_of(const Bytes& bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (is_v4(bytes))
    ::inet_ntop(AF_INET, bytes.data() + kMappedBits / 8, text.data(), text.size());
  else
    ::inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
  return text.data();
}

/// A decimal number of digits only, at most `most`.
std::optional<unsigned> parse_number(std::string_view text, unsigned most) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// One entry of X-Forwarded-For. Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711.
std::optional<Bytes> parse_hop(std::string_view hop) {
  std::string_view address = hop, port;
  bool has_port = false;
  if (hop.starts_with('[')) {
    const auto end = hop.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    address = hop.substr(1, end - 1);
    if (address.find(':') == std::string_view::npos) return std::nullopt;
    port = hop.substr(end + 1);
    has_port = !port.empty();
    if (has_port && !port.starts_with(':')) return std::nullopt;
    if (has_port) port.remove_prefix(1);
  } else if (const auto colon = hop.find(':'); colon != std::string_view::npos && colon == hop.rfind(':')) {
    address = hop.substr(0, colon);
    port = hop.substr(colon + 1);
    has_port = true;
  }
  if (has_port && !parse_number(port, 65535)) return std::nullopt;
  return parse_bytes(address);
}

}  // namespace

std::optional<Address> Address::parse(std::string_view text) {
  const auto bytes = parse_bytes(text);
  if (!bytes) return std::nullopt;
  Address address;
  address.v6_ = !is_v4(*bytes);
  const auto* from = address.v6_ ? bytes->data() : bytes->data() + kMappedBits / 8;
  for (int i = 0; i < (address.v6_ ? 8 : 4); ++i) address.bits_ = address.bits_ << 8U | from[i];
  return address;
}

std::size_t Address::hash() const {
  return keyed_hash(bits_, v6_ ? 1 : 0);
}

std::string Address::text() const {
  Bytes bytes = v6_ ? Bytes{} : kMapped;
  auto* to = v6_ ? bytes.data() : bytes.data() + kMappedBits / 8;
  const int size = v6_ ? 8 : 4;
  for (int i = 0; i < size; ++i) to[i] = static_cast<std::uint8_t>(bits_ >> (8 * (size - 1 - i)));
  return text_of(bytes) + (v6_ ? "/64" : "");
}

Result<TrustedProxies> TrustedProxies::parse(const std::vector<std::string>& networks) {
  TrustedProxies trusted;
  for (const auto& entry : networks) {
    const std::string_view text = entry;
    const auto slash = text.find('/');
    const auto bytes = parse_bytes(text.substr(0, slash));
    const auto bad = [&](const char* why) {
      return fail(Error::Kind::bad_input, "trusted proxy \"" + entry + "\": " + why);
    };
    if (!bytes) return bad("is no IP address or network, such as 10.0.0.0/8 or 2001:db8::/32");
    // "::ffff:10.0.0.0/104" counts its length as IPv6 does.
    const bool dotted = text.find(':') == std::string_view::npos;
    unsigned length = 128;
    if (slash != std::string_view::npos) {
      const auto given = parse_number(text.substr(slash + 1), dotted ? 32 : 128);
      if (!given) return bad(dotted ? "the length must be 0 to 32" : "the length must be 0 to 128");
      length = *given + (dotted ? kMappedBits : 0);
    }
    trusted.networks_.push_back({*bytes, length});
  }
  return trusted;
}

bool TrustedProxies::contains(std::string_view address) const {
  if (networks_.empty()) return false;
  const auto bytes = parse_bytes(address);
  if (!bytes) return false;
  const bool v4 = is_v4(*bytes);
  return std::any_of(networks_.begin(), networks_.end(), [&](const Network& network) {
    // ::/0 is all of IPv6; that our notation puts IPv4 in a corner of it is nothing to trust.
    if (v4 && network.length < kMappedBits) return false;
    const unsigned whole = network.length / 8;
    if (!std::equal(bytes->begin(), bytes->begin() + whole, network.bits.begin())) return false;
    const unsigned rest = network.length % 8;
    return rest == 0 || ((*bytes)[whole] ^ network.bits[whole]) >> (8 - rest) == 0;
  });
}

std::string client_address(std::string_view peer, std::span<const std::string_view> forwarded_for,
                           const TrustedProxies& trusted) {
  if (!trusted.contains(peer)) return std::string(peer);
  for (auto line = forwarded_for.rbegin(); line != forwarded_for.rend(); ++line) {
    std::string_view rest = *line;
    while (!rest.empty()) {
      const auto comma = rest.rfind(',');
      const auto begin = comma == std::string_view::npos ? 0 : comma + 1;
      const std::string_view hop = trimmed(rest.substr(begin));
      rest = rest.substr(0, begin == 0 ? 0 : comma);
      if (hop.empty()) continue;  // RFC 9110 section 5.6.1: empty elements do not count
      const auto bytes = parse_hop(hop);
      // "unknown" or worse: whoever stands left of it was named by somebody we do not know.
      if (!bytes) return std::string(peer);
      std::string address = text_of(*bytes);
      if (!trusted.contains(address)) return address;
    }
  }
  return std::string(peer);
}

}  // namespace tunnel
