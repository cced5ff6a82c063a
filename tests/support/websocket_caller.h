#pragma once

#include <string>
#include <string_view>

#include "tests/support/caller.h"

namespace tunneld::test {

/// A WebSocket client over a Caller that sends any frame, right or wrong.
class WebSocketCaller {
 public:
  struct Frame {
    unsigned first_byte = 0;  // FIN, reserved bits, opcode; 0 when the connection ended
    std::string payload;
    unsigned opcode() const { return first_byte & 0x0FU; }
    /// Of a Close: its code, or 0 when it has none.
    unsigned close_code() const {
      if (payload.size() < 2) return 0;
      return static_cast<unsigned>(static_cast<unsigned char>(payload[0])) << 8U |
             static_cast<unsigned char>(payload[1]);
    }
  };

  explicit WebSocketCaller(Caller& caller) : caller_(caller) {}

  /// Returns the answer's head.
  std::string open(std::string_view path = "/", std::string_view more_fields = {}) {
    caller_.send(std::string("GET ")
                     .append(path)
                     .append(" HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: "
                             "Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
                     .append(more_fields)
                     .append("\r\n"));
    return caller_.read_until("\r\n\r\n");
  }

  static std::string masked(unsigned first_byte, std::string_view payload) {
    std::string made(1, static_cast<char>(first_byte));
    const auto size = payload.size();
    const auto put = [&](int bytes) {
      while (bytes-- > 0) made.push_back(static_cast<char>(size >> (8 * bytes)));
    };
    if (size < 126) {
      made.push_back(static_cast<char>(0x80U | size));
    } else {
      made.push_back(static_cast<char>(size <= 0xFFFF ? 0xFE : 0xFF));
      put(size <= 0xFFFF ? 2 : 8);
    }
    constexpr std::string_view kKey = "\x37\xfa\x21\x3d";
    made.append(kKey);
    for (std::size_t i = 0; i < size; ++i) made.push_back(static_cast<char>(payload[i] ^ kKey[i % 4]));
    return made;
  }
  bool send(unsigned first_byte, std::string_view payload) {
    return caller_.send(masked(first_byte, payload));
  }

  Frame receive() {
    const auto head = caller_.read_exactly(2);
    if (head.size() < 2) return {};
    std::uint64_t size = static_cast<unsigned char>(head[1]);
    if (size >= 126) {
      const auto bytes = caller_.read_exactly(size == 126 ? 2 : 8);
      size = 0;
      for (const char c : bytes) size = size << 8U | static_cast<unsigned char>(c);
    }
    return {static_cast<unsigned char>(head[0]), caller_.read_exactly(size)};
  }

 private:
  Caller& caller_;
};

}  // namespace tunneld::test
