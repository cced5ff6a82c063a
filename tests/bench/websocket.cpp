#include "websocket.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <stdexcept>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

namespace bench {
namespace {

// Masks must be unpredictable to protect proxies from hostile scripts (RFC 6455, 10.3). No script
// chooses these bytes, so a fast generator with a random seed does.
std::uint32_t next_mask() {
  thread_local std::uint64_t state = [] {
    std::uint64_t seed = 0;
    ::RAND_bytes(reinterpret_cast<unsigned char*>(&seed), sizeof seed);
    return seed | 1;
  }();
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<std::uint32_t>(state >> 16);
}

// Eight bytes a step over restrict pointers: the compiler makes vector code of it in release builds.
// Bytewise masking would cost more than TLS.
void mask_copy(const std::byte* __restrict from, std::byte* __restrict to, std::size_t size,
               std::uint32_t key) {
  const std::uint64_t wide = key | (std::uint64_t{key} << 32);
  std::size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, from + i, 8);
    word ^= wide;
    std::memcpy(to + i, &word, 8);
  }
  for (; i < size; ++i) to[i] = from[i] ^ static_cast<std::byte>(wide >> (8 * (i % 8)));
}

std::string base64(std::span<const unsigned char> bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

}  // namespace

std::size_t frame_size(std::size_t payload) {
  return payload + 6 + (payload < 126 ? 0 : payload < 65536 ? 2 : 8);
}

void write_frame(Opcode opcode, std::span<const std::byte> payload, std::byte* to) {
  const std::uint64_t size = payload.size();
  *to++ = std::byte{0x80} | static_cast<std::byte>(opcode);
  int length_bytes = 0;
  if (size < 126) {
    *to++ = std::byte{0x80} | static_cast<std::byte>(size);
  } else {
    length_bytes = size < 65536 ? 2 : 8;
    *to++ = std::byte{0x80} | static_cast<std::byte>(length_bytes == 2 ? 126 : 127);
  }
  for (int shift = 8 * (length_bytes - 1); shift >= 0; shift -= 8)
    *to++ = static_cast<std::byte>(size >> shift);
  const std::uint32_t key = next_mask();
  std::memcpy(to, &key, 4);
  mask_copy(payload.data(), to + 4, payload.size(), key);
}

Upgrade make_upgrade(const Endpoint& to, const std::string& token) {
  unsigned char nonce[16];
  ::RAND_bytes(nonce, sizeof nonce);
  const std::string key = base64(nonce);
  const std::string proof = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  unsigned char digest[SHA_DIGEST_LENGTH];
  ::SHA1(reinterpret_cast<const unsigned char*>(proof.data()), proof.size(), digest);
  std::string request = "GET " + to.path + " HTTP/1.1\r\nHost: " + to.host + ":" + std::to_string(to.port) +
                        "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
                        "Sec-WebSocket-Key: " + key + "\r\n";
  if (!token.empty()) request += "Authorization: Bearer " + token + "\r\n";
  return {request + "\r\n", base64(digest)};
}

void check_upgrade(std::string_view head, const std::string& accept) {
  if (!head.starts_with("HTTP/1.1 101"))
    throw std::runtime_error("upgrade refused: " + std::string(head.substr(0, head.find('\r'))));
  std::string lower(head);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::string_view name = "\r\nsec-websocket-accept:";
  const auto at = lower.find(name);
  if (at == std::string::npos || head.substr(at + name.size()).find(accept) > 1)
    throw std::runtime_error("upgrade answered with a wrong Sec-WebSocket-Accept");
}

// How long the header is as far as it is known.
std::size_t FrameReader::parse_header() {
  if (header_have_ < 2) return 2;
  const auto first = std::to_integer<unsigned>(header_[0]);
  const auto second = std::to_integer<unsigned>(header_[1]);
  if ((first & 0x70) != 0) throw std::runtime_error("WebSocket frame with reserved bits");
  if ((second & 0x80) != 0) throw std::runtime_error("masked WebSocket frame from a server");
  opcode_ = static_cast<Opcode>(first & 0x0f);
  const std::size_t length_bytes = second == 126 ? 2 : second == 127 ? 8 : 0;
  if (header_have_ < 2 + length_bytes) return 2 + length_bytes;
  left_ = length_bytes == 0 ? second : 0;
  for (std::size_t i = 0; i < length_bytes; ++i)
    left_ = left_ << 8 | std::to_integer<std::uint64_t>(header_[2 + i]);
  if (opcode_ >= Opcode::close && left_ > control_.size())
    throw std::runtime_error("oversized WebSocket control frame");
  return header_have_;
}

void FrameReader::feed(std::span<const std::byte> bytes, Sink& sink) {
  while (!bytes.empty()) {
    if (!in_body_) {
      const std::size_t take = std::min(parse_header() - header_have_, bytes.size());
      std::copy_n(bytes.begin(), take, header_.begin() + static_cast<std::ptrdiff_t>(header_have_));
      header_have_ += take;
      bytes = bytes.subspan(take);
      if (parse_header() > header_have_) continue;
      in_body_ = true;
      control_have_ = 0;
    }
    const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
    const auto part = bytes.first(take);
    bytes = bytes.subspan(take);
    left_ -= take;
    if (left_ == 0) {  // before the calls out: they may end us
      in_body_ = false;
      header_have_ = 0;
    }
    if (opcode_ < Opcode::close) {
      if (take > 0) sink.payload(part);
      continue;
    }
    std::copy(part.begin(), part.end(), control_.begin() + static_cast<std::ptrdiff_t>(control_have_));
    control_have_ += take;
    if (left_ == 0) sink.control(opcode_, std::span(control_).first(control_have_));
  }
}

}  // namespace bench
