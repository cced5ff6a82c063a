#include "common/keyed_hash.h"

#include <array>
#include <random>

namespace {

using Lanes = std::array<std::uint64_t, 4>;

Lanes draw_key() {
  std::random_device random;  // getrandom(2)
  Lanes key;
  for (auto& lane : key) lane = std::uint64_t{random()} << 32U | random();
  return key;
}

constexpr std::uint64_t rotate(std::uint64_t value, unsigned by) {
  return value << by | value >> (64U - by);
}

void round(Lanes& v) {
  v[0] += v[1];
  v[2] += v[3];
  v[1] = rotate(v[1], 13) ^ v[0];
  v[3] = rotate(v[3], 16) ^ v[2];
  v[0] = rotate(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = rotate(v[1], 17) ^ v[2];
  v[3] = rotate(v[3], 21) ^ v[0];
  v[2] = rotate(v[2], 32);
}

}  // namespace

/// SipHash-1-3 (Aumasson, Bernstein; the variant Rust's and Ruby's tables use) over two words, with all
/// four lanes drawn at random instead of spread from 128 bits.
std::uint64_t keyed_hash(std::uint64_t low, std::uint64_t high) {
  static const Lanes key = draw_key();
  Lanes v = key;
  for (const std::uint64_t word : {low, high}) {
    v[3] ^= word;
    round(v);
    v[0] ^= word;
  }
  v[2] ^= 0xff;
  for (int i = 0; i < 3; ++i) round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}
