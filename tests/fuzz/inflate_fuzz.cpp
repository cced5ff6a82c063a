// room: edge
// Compressed messages and offers to compress as a peer may send them. Input: one byte for the limit, then
// the message; the same bytes as text are the offers.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "edge/message_compression.h"

using namespace edge;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

/// Nothing inflates beyond its bounds; what was inflated means the same when we compress it; and the state
/// that all messages of a thread share keeps nothing of one for the next.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string given(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t limit = data[0] < 0x80 ? 1024 * 1024 : std::size_t{data[0] & 0x7FU} * 16;
  auto packed = given;
  const auto whole = inflate_message(packed, limit);
  require(packed == given);
  const auto again = inflate_message(packed, limit);
  require(whole.has_value() == again.has_value());
  if (whole) {
    require(*whole == *again);
    require(whole->size() <= limit);
    require(whole->size() <= std::max(kInflateRatioFloorBytes, given.size() * kMaxInflateRatio));
    const auto ours = deflate_message(std::as_bytes(std::span(*whole)), 1 + data[0] % 6);
    if (ours) {
      require(ours->size() < whole->size());
      auto mine = *ours;
      const auto back = inflate_message(mine, whole->size());
      // Ours may be a bomb by the peer's own message: then it is refused like any other.
      require(back ? *back == *whole : whole->size() > kInflateRatioFloorBytes);
    }
    (void)may_hold_secrets(std::as_bytes(std::span(*whole)));
  } else {
    require(whole.error() == again.error());
  }
  if (const auto agreed = agree_on_compression(given)) {
    require(
        agreed->starts_with("permessage-deflate; server_no_context_takeover; client_no_context_takeover"));
    require(agree_on_compression(*agreed).has_value());
  }
  return 0;
}
