#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "endpoint.h"

namespace bench {

/// The client's half of RFC 6455, as far as a tunnel needs it: binary messages, masked going out, of
/// any fragmentation coming in; control frames; no extensions.

/// A frame with its longest header fills four TLS records of 16 KiB exactly.
inline constexpr std::size_t kFrameHeaderMax = 14;
inline constexpr std::size_t kFramePayload = 64 * 1024 - kFrameHeaderMax;

enum class Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

/// Bytes that a masked frame of this payload takes.
std::size_t frame_size(std::size_t payload);
/// Writes a whole masked frame to `to`, which has room for frame_size(payload.size()) bytes.
void write_frame(Opcode opcode, std::span<const std::byte> payload, std::byte* to);

/// The request of the opening handshake, and the Sec-WebSocket-Accept its answer must carry.
struct Upgrade {
  std::string request;
  std::string accept;
};
Upgrade make_upgrade(const Endpoint& to, const std::string& token);
/// Throws std::runtime_error with the status line unless `head` (through the empty line) accepts.
void check_upgrade(std::string_view head, const std::string& accept);

/// Splits what a server sends into payload and control frames, whatever the cuts.
class FrameReader {
 public:
  struct Sink {
    virtual void payload(std::span<const std::byte> bytes) = 0;
    /// `bytes` is the whole body of the control frame.
    virtual void control(Opcode opcode, std::span<const std::byte> bytes) = 0;

   protected:
    ~Sink() = default;
  };
  /// Throws std::runtime_error on a frame no server may send (masked, reserved bits, long control).
  void feed(std::span<const std::byte> bytes, Sink& sink);

 private:
  std::size_t parse_header();

  std::array<std::byte, 10> header_{};
  std::size_t header_have_ = 0;
  bool in_body_ = false;
  Opcode opcode_ = Opcode::binary;
  std::uint64_t left_ = 0;
  std::array<std::byte, 125> control_{};
  std::size_t control_have_ = 0;
};

}  // namespace bench
