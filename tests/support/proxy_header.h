#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <boost/asio/ip/address_v6.hpp>

namespace tunneld::test {

/// A PROXY protocol v2 header as a proxy sends it, right or wrong.
inline std::string proxy_header(unsigned version_and_command, unsigned family_and_transport,
                                std::string_view rest) {
  std::string made("\r\n\r\n\0\r\nQUIT\n", 12);
  made.push_back(static_cast<char>(version_and_command));
  made.push_back(static_cast<char>(family_and_transport));
  made.push_back(static_cast<char>(rest.size() >> 8U));
  made.push_back(static_cast<char>(rest.size() & 0xFFU));
  return made.append(rest);
}

/// Source and destination addresses, then ports; the destination is 192.0.2.1:443.
inline std::string tcp_over_ipv4(std::array<std::uint8_t, 4> source, std::uint16_t port) {
  std::string made(source.begin(), source.end());
  made.append("\xC0\x00\x02\x01", 4);
  made.push_back(static_cast<char>(port >> 8U));
  made.push_back(static_cast<char>(port & 0xFFU));
  return made.append("\x01\xBB");
}

inline std::string tcp_over_ipv6(const char* source, std::uint16_t port) {
  std::string made;
  for (const char* address : {source, "2001:db8::1"}) {
    const auto bytes = boost::asio::ip::make_address_v6(address).to_bytes();
    made.append(bytes.begin(), bytes.end());
  }
  made.push_back(static_cast<char>(port >> 8U));
  made.push_back(static_cast<char>(port & 0xFFU));
  return made.append("\x01\xBB");
}

}  // namespace tunneld::test
