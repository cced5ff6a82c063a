#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include <zlib.h>

namespace tunneld::test {

/// One message's payload as a peer with permessage-deflate sends it (RFC 7692 7.2.1).
inline std::string deflated(std::string_view payload, int level = 9) {
  z_stream stream{};
  if (deflateInit2(&stream, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
  std::string packed(deflateBound(&stream, payload.size()) + 16, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(payload.data()));
  stream.avail_in = static_cast<uInt>(payload.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_SYNC_FLUSH);
  packed.resize(packed.size() - stream.avail_out - 4);
  deflateEnd(&stream);
  return packed;
}

/// The same of that many zero bytes, without ever holding them: about a thousandth of that.
inline std::string deflated_zeros(std::size_t bytes) {
  z_stream stream{};
  if (deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
  const std::string zeros(64 * 1024, '\0');
  std::string packed;
  std::string room(64 * 1024, '\0');
  while (bytes > 0 || stream.avail_out == 0) {
    if (stream.avail_in == 0 && bytes > 0) {
      const auto part = bytes < zeros.size() ? bytes : zeros.size();
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(zeros.data()));
      stream.avail_in = static_cast<uInt>(part);
      bytes -= part;
    }
    stream.next_out = reinterpret_cast<Bytef*>(room.data());
    stream.avail_out = static_cast<uInt>(room.size());
    deflate(&stream, bytes == 0 ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    packed.append(room, 0, room.size() - stream.avail_out);
  }
  packed.resize(packed.size() - 4);
  deflateEnd(&stream);
  return packed;
}

/// A message that inflates to exactly `ratio` times its size, and `more` bytes: some that do not shrink, and
/// zeros. For ratios around 100; zeros alone have about 1000.
inline std::string deflated_to_ratio(std::size_t ratio, std::size_t more) {
  for (std::size_t n = 8000;; ++n) {
    std::string stored(1, '\0');  // a stored block that is not the last
    for (const auto length : {n, ~n}) {
      stored.push_back(static_cast<char>(length & 0xFFU));
      stored.push_back(static_cast<char>(length >> 8U & 0xFFU));
    }
    stored.append(n, 's');
    // n + zeros = ratio * (stored + shrunk) + more, where what zeros shrink to depends on them.
    std::size_t shrunk = 0;
    for (int round = 0; round < 40; ++round) {
      const auto zeros = deflated_zeros(ratio * (stored.size() + shrunk) + more - n);
      if (zeros.size() == shrunk) return stored + zeros;
      shrunk = zeros.size();
    }
  }
}

inline std::string inflated(std::string_view packed, int window_bits = 15) {
  z_stream stream{};
  if (inflateInit2(&stream, -window_bits) != Z_OK) throw std::bad_alloc();
  std::string input = std::string(packed).append("\0\0\xff\xff", 4);
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  std::string whole;
  std::string room(64 * 1024, '\0');
  int done = Z_OK;
  do {
    stream.next_out = reinterpret_cast<Bytef*>(room.data());
    stream.avail_out = static_cast<uInt>(room.size());
    done = inflate(&stream, Z_SYNC_FLUSH);
    whole.append(room, 0, room.size() - stream.avail_out);
  } while (done == Z_OK && stream.avail_out == 0);
  inflateEnd(&stream);
  return done == Z_OK || done == Z_BUF_ERROR || done == Z_STREAM_END ? whole : "not deflate data";
}

}  // namespace tunneld::test
