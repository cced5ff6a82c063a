#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace edge {

/// RFC 6455 frames without I/O.

/// Checks text that arrives in pieces (RFC 3629), failing at the first byte that cannot be right.
class Utf8Check {
 public:
  bool take(std::span<const std::byte> bytes);
  bool complete() const { return left_ == 0; }
  void reset() { left_ = 0; }

 private:
  unsigned left_ = 0;  // continuation bytes still due
  unsigned char low_ = 0x80;
  unsigned char high_ = 0xBF;
};

struct FrameLimits {
  std::uint64_t max_message_bytes = 1024 * 1024;  // frames too; judged from their headers
  std::size_t max_fragments = 1024;
  std::uint64_t max_text_bytes = UINT64_MAX;  // of text messages, where less than max_message_bytes
  /// permessage-deflate was agreed on: the first frame of a message may say that it is compressed.
  bool compression = false;
  /// A client's frames are masked, a server's are not (RFC 6455 5.1); the other kind is refused.
  bool masked = true;
};

/// Why the WebSocket must be failed.
struct FrameError {
  std::uint16_t close_code = 1002;
  std::string_view reason;  // a metric label: protocol, oversize, utf8, fragments
};

/// Takes frames apart as their bytes arrive, whatever the pieces.
class FrameDecoder {
 public:
  enum class Event { none, message_end, ping, pong, close, failed };
  struct Step {
    std::size_t consumed = 0;  // bytes of the input used up
    std::size_t payload = 0;   // message bytes written to `to`
    Event event = Event::none;
  };
  explicit FrameDecoder(const FrameLimits& limits = {}) : limits_(limits) {}

  /// Decodes up to the next event or the input's end. `to` may overlap `input` where it does not lie
  /// behind its start: the payload moves to the front of the buffer it arrived in. Not after `failed`.
  Step decode(std::span<const std::byte> input, std::byte* to);

  /// Of the message whose bytes came last.
  bool is_text() const { return text_; }
  /// The same message is compressed; its text is then not checked here.
  bool is_compressed() const { return compressed_; }
  bool message_was_empty() const { return message_bytes_ == 0; }
  /// Of the same message, the frames announced so far.
  std::uint64_t message_bytes() const { return message_bytes_; }
  /// The payload of the control frame just reported.
  std::string_view control() const { return {control_.data(), control_size_}; }
  /// Of the Close just reported: 1005 when it carried none.
  std::uint16_t close_code() const { return close_code_; }
  /// Of the same Close: valid UTF-8 of at most 123 bytes.
  std::string_view close_reason() const {
    return control_size_ > 2 ? control().substr(2) : std::string_view();
  }
  const FrameError& error() const { return error_; }
  /// Between the first byte of a frame and its last.
  bool within_frame() const { return have_ > 0 || left_ > 0; }

 private:
  Step header(std::span<const std::byte> input);
  std::optional<FrameError> accept_header();
  std::optional<FrameError> check_close();
  Event finish_frame();
  Event fail(FrameError error);

  FrameLimits limits_;
  std::array<unsigned char, 14> raw_{};  // the header so far
  std::size_t have_ = 0;
  std::uint64_t left_ = 0;  // payload still to come
  bool in_payload_ = false;
  std::uint64_t mask_ = 0;  // none for frames without
  unsigned char opcode_ = 0;
  bool fin_ = false;

  bool in_message_ = false;
  bool text_ = false;
  bool compressed_ = false;
  std::uint64_t message_bytes_ = 0;
  std::size_t fragments_ = 0;
  Utf8Check utf8_;

  std::array<char, 125> control_{};
  std::size_t control_size_ = 0;
  std::uint16_t close_code_ = 1005;
  FrameError error_;
};

enum class Opcode : unsigned char { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

/// A whole message compressed, or not.
enum class Packed { no, yes };

struct FrameHeader {
  std::array<std::byte, 14> bytes{};
  std::size_t size = 0;
  std::span<const std::byte> span() const { return std::span(bytes).first(size); }
};
/// Of an unmasked frame.
FrameHeader frame_header(Opcode opcode, bool fin, std::uint64_t payload_bytes, Packed packed = Packed::no);

/// A masking key, repeated to a word and turned to the next payload byte.
using Mask = std::uint64_t;
/// Makes the header that of a masked frame; returns the mask for its payload.
Mask mask_header(FrameHeader& header, std::uint32_t key);
/// Masks or unmasks from `from` to `to`, which may overlap it from below. Returns the mask turned on, for
/// the payload's next piece.
Mask apply_mask(const std::byte* from, std::byte* to, std::size_t size, Mask mask);

/// A whole unmasked control frame; the payload is cut to 125 bytes.
std::string control_frame(Opcode opcode, std::string_view payload);
/// The same for Close. `reason` is cut to 123 bytes at a character's edge; code 1005 sends none.
std::string close_frame(std::uint16_t code, std::string_view reason);

}  // namespace edge
