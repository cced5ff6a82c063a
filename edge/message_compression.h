#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace edge {

/// permessage-deflate (RFC 7692) as tunneld speaks it: every message by itself (no context takeover on
/// either side), our window 4 KiB. The zlib state is one per thread, whatever the number of connections.

inline constexpr int kOurWindowBits = 12;
/// Messages that inflate to more than this must not be more than kMaxInflateRatio times what was sent.
inline constexpr std::size_t kInflateRatioFloorBytes = 64 * 1024;
inline constexpr std::size_t kMaxInflateRatio = 100;

/// Our answer to the offers in a request's Sec-WebSocket-Extensions (all lines, joined by ", "): the first
/// that we can meet, or nullopt. Offers with unknown, repeated or ill-formed parameters are passed over, as
/// are those that want a smaller window of us than zlib can keep.
std::optional<std::string> agree_on_compression(std::string_view offers);

/// What we offer as a client.
inline constexpr std::string_view kCompressionOffer =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// Whether a server's Sec-WebSocket-Extensions (all lines, joined by ", ") agrees to that offer and to
/// nothing else. It must forget its context after each message, because our inflater does; its window is its
/// own.
bool agrees_to_our_offer(std::string_view answer);

/// Why a message could not be inflated.
enum class InflateFault {
  broken,     // no deflate data
  too_large,  // more than `max_bytes`, or than the ratio allows: seen before more is allocated
};

/// A message's payload made whole again. Never allocates much more than the smaller of `max_bytes` and what
/// the ratio allows. `packed` is changed while it works and left as it was.
tl::expected<std::string, InflateFault> inflate_message(std::string& packed, std::size_t max_bytes);

/// The payload of one compressed message; nullopt when that would save nothing. `level` from 1 to 9.
std::optional<std::string> deflate_message(std::span<const std::byte> payload, int level);

/// Whether a message looks as if it carried a secret next to text that others may choose (CRIME, BREACH:
/// its length would tell of it): an Authorization or Cookie field, or a control message about tokens.
bool may_hold_secrets(std::span<const std::byte> payload);

}  // namespace edge
