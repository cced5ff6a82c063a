#include "link/link_frames.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/utf8.h"

namespace links {
namespace {

constexpr std::size_t kOffsetBytes = 8;

/// Puts numbers and bytes one behind another.
class Writer {
 public:
  explicit Writer(std::span<std::byte> into) : into_(into) {}
  void number(std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      into_[at_ + i] = static_cast<std::byte>(value >> (8 * (bytes - 1 - i)) & 0xFF);
    at_ += bytes;
  }
  void bytes(std::span<const std::byte> value) {
    std::copy(value.begin(), value.end(), into_.begin() + static_cast<std::ptrdiff_t>(at_));
    at_ += value.size();
  }
  void header(FrameType type, std::size_t payload) {
    number(static_cast<std::uint8_t>(type), 1);
    number(payload, 3);
  }

 private:
  std::span<std::byte> into_;
  std::size_t at_ = 0;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> from) : from_(from) {}
  std::uint64_t number(std::size_t bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value = value << 8 | std::to_integer<std::uint64_t>(from_[at_ + i]);
    at_ += bytes;
    return value;
  }
  template <std::size_t size>
  std::array<std::byte, size> bytes() {
    std::array<std::byte, size> value;
    std::memcpy(value.data(), from_.data() + at_, size);
    at_ += size;
    return value;
  }
  std::string text(std::size_t size) {
    at_ += size;
    return {reinterpret_cast<const char*>(from_.data() + at_ - size), size};
  }

 private:
  std::span<const std::byte> from_;
  std::size_t at_ = 0;
};

/// Frames that have one length have it here.
std::optional<std::size_t> payload_bytes(FrameType type) {
  switch (type) {
    case FrameType::challenge: return 17;
    case FrameType::hello: return 57;
    case FrameType::welcome: return 60;
    case FrameType::ack: return kOffsetBytes;
    default: return std::nullopt;
  }
}

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto length = utf8::character_at(text, at);
    const auto first = static_cast<unsigned char>(text[at]);
    // C1 controls are 0xC2 0x80 to 0xC2 0x9F.
    const bool control = first < 0x20 || first == 0x7F ||
                         (first == 0xC2 && length == 2 && static_cast<unsigned char>(text[at + 1]) < 0xA0);
    if (length == 0 || control)
      out += '?';
    else
      out += text.substr(at, length);
    at += std::max<std::size_t>(length, 1);
  }
  return out;
}

}  // namespace

std::string to_hex(const SessionId& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * id.size());
  for (const auto byte : id) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15U];
  }
  return text;
}

std::optional<SessionId> session_id_from_hex(std::string_view text) {
  SessionId id{};
  if (text.size() != 2 * id.size()) return std::nullopt;
  for (std::size_t i = 0; i < id.size(); ++i) {
    const int high = hex_value(text[2 * i]);
    const int low = hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    id[i] = static_cast<std::byte>(high * 16 + low);
  }
  return id;
}

std::array<std::byte, 21> encode(const Challenge& challenge) {
  std::array<std::byte, 21> frame;
  Writer writer(frame);
  writer.header(FrameType::challenge, 17);
  writer.number(challenge.version, 1);
  writer.bytes(challenge.nonce);
  return frame;
}

std::array<std::byte, 61> encode(const Hello& hello) {
  std::array<std::byte, 61> frame;
  Writer writer(frame);
  writer.header(FrameType::hello, 57);
  writer.number(hello.version, 1);
  writer.bytes(hello.session);
  writer.number(hello.wanted, kOffsetBytes);
  writer.bytes(hello.proof);
  return frame;
}

std::array<std::byte, 64> encode(const Welcome& welcome) {
  std::array<std::byte, 64> frame{};
  Writer writer(frame);
  writer.header(FrameType::welcome, 60);
  writer.bytes(welcome.session);
  writer.number(welcome.wanted, kOffsetBytes);
  writer.bytes(std::as_bytes(std::span(welcome.secret.reveal())).first(kSecretBytes));
  writer.number(welcome.window_ms, 4);
  return frame;
}

std::array<std::byte, 12> encode(const Data& data) {
  std::array<std::byte, 12> frame;
  Writer writer(frame);
  writer.header(FrameType::data, kOffsetBytes + data.bytes);
  writer.number(data.offset, kOffsetBytes);
  return frame;
}

std::array<std::byte, 12> encode(const Ack& ack) {
  std::array<std::byte, 12> frame;
  Writer writer(frame);
  writer.header(FrameType::ack, kOffsetBytes);
  writer.number(ack.wanted, kOffsetBytes);
  return frame;
}

std::string encode_gone(std::string_view why) {
  std::size_t length = 0;
  for (;;) {
    const auto next = utf8::character_at(why, length);
    if (next == 0 || length + next > kMaxReasonBytes) break;
    length += next;
  }
  std::string frame(4 + length, '\0');
  Writer writer(std::as_writable_bytes(std::span(frame)));
  writer.header(FrameType::gone, length);
  writer.bytes(std::as_bytes(std::span(why.substr(0, length))));
  return frame;
}

Proof prove(const Secret& secret, const Nonce& nonce, const SessionId& session, std::uint64_t wanted) {
  std::array<std::byte, sizeof(Nonce) + sizeof(SessionId) + kOffsetBytes> said;
  Writer writer(said);
  writer.bytes(nonce);
  writer.bytes(session);
  writer.number(wanted, kOffsetBytes);
  Proof proof{};
  std::size_t size = 0;
  const auto key = secret.reveal();
  const auto* made = EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, key.data(), key.size(),
                               reinterpret_cast<const unsigned char*>(said.data()), said.size(),
                               reinterpret_cast<unsigned char*>(proof.data()), proof.size(), &size);
  // A proof that anybody could guess must not come of it.
  if (made == nullptr || size != proof.size()) throw std::runtime_error("OpenSSL has no HMAC-SHA256");
  return proof;
}

bool same(const Proof& one, const Proof& other) {
  return CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

FrameDecoder::Step FrameDecoder::decode(std::span<const std::byte> input, std::byte* to) {
  Step step;
  if (rest_ != 0) {
    step.payload = step.consumed = std::min(rest_, input.size());
    // Over itself, or to where headers lay before it.
    if (to != input.data()) std::memmove(to, input.data(), step.payload);
    rest_ -= step.payload;
  }
  while (step.consumed < input.size() && step.event == Event::none) {
    const auto part = std::min(need_ - have_, input.size() - step.consumed);
    std::memcpy(frame_.data() + have_, input.data() + step.consumed, part);
    have_ += part;
    step.consumed += part;
    if (have_ < need_) break;
    if (have_ == kHeaderBytes) step.event = on_header();
    // A GONE without a reason is complete with its header.
    if (step.event == Event::none && have_ == need_) step.event = on_frame();
  }
  return step;
}

FrameDecoder::Event FrameDecoder::on_header() {
  Reader reader(frame_);
  const auto type = reader.number(1);
  const auto length = static_cast<std::size_t>(reader.number(3));
  if (type > static_cast<std::uint64_t>(FrameType::gone)) return fail("a frame of an unknown type");
  type_ = static_cast<FrameType>(type);
  if (type_ == FrameType::data) {
    if (length < kOffsetBytes) return fail("a DATA frame without an offset");
    if (length > kOffsetBytes + kMaxDataBytes) return fail("a DATA frame of more than 64 KiB");
    data_.bytes = length - kOffsetBytes;
    need_ = kHeaderBytes + kOffsetBytes;
    return Event::none;
  }
  const auto exact = payload_bytes(type_);
  if (exact ? length != *exact : length > kMaxReasonBytes) return fail("a frame of a wrong length");
  need_ = kHeaderBytes + length;
  return Event::none;
}

FrameDecoder::Event FrameDecoder::on_frame() {
  have_ = 0;
  const auto length = need_ - kHeaderBytes;
  need_ = kHeaderBytes;
  if (type_ != FrameType::data) {
    data_.bytes = length;
    return Event::control;
  }
  data_.offset = Reader(payload()).number(kOffsetBytes);
  rest_ = data_.bytes;
  return Event::data;
}

FrameDecoder::Event FrameDecoder::fail(std::string_view why) {
  error_ = why;
  return Event::failed;
}

Challenge FrameDecoder::challenge() const {
  Reader reader(payload());
  Challenge frame;
  frame.version = static_cast<std::uint8_t>(reader.number(1));
  frame.nonce = reader.bytes<sizeof(Nonce)>();
  return frame;
}

Hello FrameDecoder::hello() const {
  Reader reader(payload());
  Hello frame;
  frame.version = static_cast<std::uint8_t>(reader.number(1));
  frame.session = reader.bytes<sizeof(SessionId)>();
  frame.wanted = reader.number(kOffsetBytes);
  frame.proof = reader.bytes<sizeof(Proof)>();
  return frame;
}

Welcome FrameDecoder::welcome() const {
  Reader reader(payload());
  Welcome frame;
  frame.session = reader.bytes<sizeof(SessionId)>();
  frame.wanted = reader.number(kOffsetBytes);
  frame.secret = Secret(reader.text(kSecretBytes));
  frame.window_ms = static_cast<std::uint32_t>(reader.number(4));
  return frame;
}

Ack FrameDecoder::ack() const {
  return {Reader(payload()).number(kOffsetBytes)};
}

std::string FrameDecoder::gone() const {
  return printable({reinterpret_cast<const char*>(frame_.data()) + kHeaderBytes, data_.bytes});
}

void FrameDecoder::forget() {
  OPENSSL_cleanse(frame_.data(), frame_.size());
}

}  // namespace links
