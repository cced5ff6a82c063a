#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/secret.h"

namespace links {

/// The frames of the resume layer (docs/api/links.md), without I/O.

using SessionId = std::array<std::byte, 16>;  // zero: none
std::string to_hex(const SessionId& id);
/// Nullopt when it is not 32 lower-case hexadecimal digits.
std::optional<SessionId> session_id_from_hex(std::string_view text);

inline constexpr std::uint8_t kVersion = 1;
inline constexpr std::size_t kMaxDataBytes = 64 * 1024;
inline constexpr std::size_t kMaxReasonBytes = 100;
inline constexpr std::size_t kSecretBytes = 32;

enum class FrameType : std::uint8_t { challenge = 0, hello = 1, welcome = 2, data = 3, ack = 4, gone = 5 };

using Nonce = std::array<std::byte, 16>;
using Proof = std::array<std::byte, 32>;

struct Challenge {
  std::uint8_t version = kVersion;
  Nonce nonce{};
};
struct Hello {
  std::uint8_t version = kVersion;
  SessionId session{};
  std::uint64_t wanted = 0;  // offset of the next byte
  Proof proof{};
};
struct Welcome {
  SessionId session{};
  std::uint64_t wanted = 0;
  Secret secret;  // kSecretBytes of any value
  std::uint32_t window_ms = 0;
};
struct Data {
  std::uint64_t offset = 0;
  std::size_t bytes = 0;  // that follow, kMaxDataBytes at most
};
struct Ack {
  std::uint64_t wanted = 0;
};

std::array<std::byte, 21> encode(const Challenge& challenge);
std::array<std::byte, 61> encode(const Hello& hello);
/// Holds the secret: to be wiped.
std::array<std::byte, 64> encode(const Welcome& welcome);
/// The frame's beginning; its bytes come behind it.
std::array<std::byte, 12> encode(const Data& data);
std::array<std::byte, 12> encode(const Ack& ack);
/// `why` is cut to kMaxReasonBytes, between characters. Empty: in good order.
std::string encode_gone(std::string_view why);

/// HMAC-SHA256 under `secret` of what a HELLO that resumes says, for this connection's nonce.
Proof prove(const Secret& secret, const Nonce& nonce, const SessionId& session, std::uint64_t wanted);
/// Takes the same time wherever they differ.
bool same(const Proof& one, const Proof& other);

/// Takes frames apart, as they come and in whatever pieces. Lengths are checked; what offsets and versions
/// mean is the owner's business. After `failed` it must not be used.
class FrameDecoder {
 public:
  enum class Event {
    none,     // all input is used
    data,     // the beginning of DATA has been read, its bytes follow: data()
    control,  // any other frame is complete: type() and the function of that name
    failed,   // error()
  };
  struct Step {
    std::size_t consumed = 0;
    std::size_t payload = 0;  // bytes of DATA stored; they belong to the frame before `event`
    Event event = Event::none;
  };
  ~FrameDecoder() { forget(); }

  /// Takes input up to the next event. Bytes of DATA go to `to`, which may be the beginning of `input` or lie
  /// before it, so that frames can be taken apart in the buffer they were read into.
  Step decode(std::span<const std::byte> input, std::byte* to);

  /// How many bytes can be read without reading behind the frame that is expected or has begun. Of DATA only
  /// the beginning counts.
  std::size_t missing() const { return rest_ != 0 ? rest_ : need_ - have_; }

  FrameType type() const { return type_; }
  const Data& data() const { return data_; }
  Challenge challenge() const;
  Hello hello() const;
  Welcome welcome() const;
  Ack ack() const;
  /// With what could hurt a terminal or a log replaced.
  std::string gone() const;
  std::string_view error() const { return error_; }
  /// Wipes the frame that was read last.
  void forget();

 private:
  Event on_header();
  Event on_frame();
  Event fail(std::string_view why);
  std::span<const std::byte> payload() const { return std::span(frame_).subspan(kHeaderBytes); }

  static constexpr std::size_t kHeaderBytes = 4;
  std::array<std::byte, kHeaderBytes + kMaxReasonBytes> frame_{};  // the longest but DATA
  std::size_t have_ = 0;
  std::size_t need_ = kHeaderBytes;
  std::size_t rest_ = 0;  // of DATA
  FrameType type_ = FrameType::challenge;
  Data data_;
  std::string_view error_;
};

}  // namespace links
