#include "edge/message_compression.h"

#include <algorithm>
#include <charconv>
#include <new>
#include <utility>

#include <zlib.h>

#include "tunnel/http1.h"

namespace edge {

namespace {

constexpr int kBetweenBlocks = 128;  // in z_stream::data_type after inflate()

/// Every deflate block sequence we send or receive ends with this, which is left out on the wire
/// (RFC 7692 7.2.1).
constexpr std::string_view kTail{"\0\0\xff\xff", 4};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Takes what lies before `separator` off the front. A separator in quotes would only occur in extensions
/// that are passed over anyway.
std::string_view next_item(std::string_view& rest, char separator) {
  const auto end = rest.find(separator);
  const auto item = trimmed(rest.substr(0, end));
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return item;
}

/// 8 to 15 without leading zeros (RFC 7692 7.1.2.1); nullopt for anything else.
std::optional<int> window_bits(std::string_view value) {
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
    value = value.substr(1, value.size() - 2);
  int bits = 0;
  const auto [end, failed] = std::from_chars(value.data(), value.data() + value.size(), bits);
  const bool whole = failed == std::errc() && end == value.data() + value.size();
  if (!whole || value.front() == '0' || bits < 8 || bits > 15) return std::nullopt;
  return bits;
}

struct Offer {
  bool server_no_context_takeover = false;
  bool client_no_context_takeover = false;
  std::optional<int> server_max_window_bits;
  bool client_max_window_bits = false;
  int client_bits = kOurWindowBits;
};

/// One parameter of an offer; false when the offer cannot be met because of it.
bool take_parameter(Offer& offer, std::string_view parameter) {
  const auto equals = parameter.find('=');
  const bool has_value = equals != std::string_view::npos;
  const auto name = trimmed(parameter.substr(0, equals));
  const auto value = has_value ? trimmed(parameter.substr(equals + 1)) : std::string_view();
  if (name == "server_no_context_takeover")
    return !has_value && !std::exchange(offer.server_no_context_takeover, true);
  if (name == "client_no_context_takeover")
    return !has_value && !std::exchange(offer.client_no_context_takeover, true);
  if (name == "server_max_window_bits") {
    if (offer.server_max_window_bits || !has_value) return false;
    offer.server_max_window_bits = window_bits(value);
    return offer.server_max_window_bits && *offer.server_max_window_bits >= kOurWindowBits;
  }
  if (name == "client_max_window_bits") {
    if (std::exchange(offer.client_max_window_bits, true)) return false;
    if (!has_value) return true;
    const auto bits = window_bits(value);
    if (bits) offer.client_bits = std::min(*bits, kOurWindowBits);
    return bits.has_value();
  }
  return false;
}

/// A raw inflate that is reset for each message. Takes any window a peer may use.
class Inflater {
 public:
  Inflater() {
    if (inflateInit2(&stream_, -15) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  tl::expected<std::string, InflateFault> run(std::string_view packed, std::size_t max_bytes) {
    inflateReset(&stream_);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    std::string whole;
    // Text shrinks to a fourth or so; one more byte than allowed shows what is too large.
    std::size_t room = std::min(max_bytes + 1, std::max<std::size_t>(packed.size() * 4, 512));
    std::size_t size = 0;
    bool between_blocks = false;
    for (;;) {
      if (size == room) room = std::min(max_bytes + 1, room * 2);
      whole.resize(room);
      stream_.next_out = reinterpret_cast<Bytef*>(whole.data() + size);
      stream_.avail_out = static_cast<uInt>(room - size);
      const int done = inflate(&stream_, Z_SYNC_FLUSH);
      size = room - stream_.avail_out;
      if (size > max_bytes) return tl::unexpected(InflateFault::too_large);
      if (done == Z_STREAM_END) {
        // A block may say that it is the last and be followed by an empty one all the same (RFC 7692
        // 7.2.3.4), whose end is our tail; some leave that out.
        between_blocks = true;
        if (stream_.avail_in <= kTail.size()) break;
        inflateReset(&stream_);
        continue;
      }
      if (done != Z_OK && done != Z_BUF_ERROR) return tl::unexpected(InflateFault::broken);
      // A call that could do nothing does not tell.
      if (done == Z_OK) between_blocks = (stream_.data_type & kBetweenBlocks) != 0;
      if (stream_.avail_out > 0) break;
    }
    // All was used up. Not between two blocks means that the message was cut short.
    if (!between_blocks) return tl::unexpected(InflateFault::broken);
    whole.resize(size);
    return whole;
  }

 private:
  z_stream stream_{};
};

class Deflater {
 public:
  explicit Deflater(int level) : level_(level) {
    // 16 KiB of hash heads fit the small window.
    if (deflateInit2(&stream_, level, Z_DEFLATED, -kOurWindowBits, 5, Z_DEFAULT_STRATEGY) != Z_OK)
      throw std::bad_alloc();
  }
  ~Deflater() { deflateEnd(&stream_); }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  int level() const { return level_; }

  std::optional<std::string> run(std::span<const std::byte> payload) {
    deflateReset(&stream_);
    // Only as much as would save something.
    std::string packed(payload.size() + kTail.size() - 1, '\0');
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(payload.data()));
    stream_.avail_in = static_cast<uInt>(payload.size());
    stream_.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream_.avail_out = static_cast<uInt>(packed.size());
    const int done = deflate(&stream_, Z_SYNC_FLUSH);
    if (done != Z_OK || stream_.avail_in > 0 || stream_.avail_out == 0) return std::nullopt;
    packed.resize(packed.size() - stream_.avail_out - kTail.size());
    return packed;
  }

 private:
  z_stream stream_{};
  int level_;
};

bool is_word(std::string_view text, std::string_view lower_case) {
  return std::equal(lower_case.begin(), lower_case.end(), text.begin(),
                    [](char word, char c) { return word == (c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c); });
}

}  // namespace

std::optional<std::string> agree_on_compression(std::string_view offers) {
  while (!offers.empty()) {
    auto rest = next_item(offers, ',');
    if (!tunnel::same_name(next_item(rest, ';'), "permessage-deflate")) continue;
    Offer offer;
    bool met = true;
    while (met && !rest.empty()) met = take_parameter(offer, next_item(rest, ';'));
    if (!met) continue;
    // Both sides begin anew with each message even where the peer did not ask for it (7.1.1 allows that).
    std::string answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    answer += "; server_max_window_bits=" + std::to_string(kOurWindowBits);
    // Only to those who said that they understand it (7.1.2.2).
    if (offer.client_max_window_bits)
      answer += "; client_max_window_bits=" + std::to_string(offer.client_bits);
    return answer;
  }
  return std::nullopt;
}

bool agrees_to_our_offer(std::string_view answer) {
  auto rest = next_item(answer, ',');
  if (!answer.empty() || !tunnel::same_name(next_item(rest, ';'), "permessage-deflate")) return false;
  bool server_forgets = false, client_forgets = false, window_named = false;
  while (!rest.empty()) {
    const auto parameter = next_item(rest, ';');
    const auto equals = parameter.find('=');
    const auto name = trimmed(parameter.substr(0, equals));
    if (name == "server_max_window_bits" && equals != std::string_view::npos) {
      if (std::exchange(window_named, true) || !window_bits(trimmed(parameter.substr(equals + 1))))
        return false;
      continue;
    }
    // client_max_window_bits was not offered (RFC 7692 7.1.2.2).
    const bool known = name == "server_no_context_takeover" || name == "client_no_context_takeover";
    if (!known || equals != std::string_view::npos) return false;
    if (std::exchange(name.starts_with('s') ? server_forgets : client_forgets, true)) return false;
  }
  return server_forgets;
}

tl::expected<std::string, InflateFault> inflate_message(std::string& packed, std::size_t max_bytes) {
  if (packed.empty()) return std::string();  // rather a byte 0, but nothing else can be meant
  thread_local Inflater inflater;
  const auto sent = packed.size();
  const auto most = std::min(max_bytes, std::max(kInflateRatioFloorBytes, sent * kMaxInflateRatio));
  packed.append(kTail);
  auto whole = inflater.run(packed, most);
  packed.resize(sent);
  return whole;
}

std::optional<std::string> deflate_message(std::span<const std::byte> payload, int level) {
  thread_local std::optional<Deflater> deflater;
  if (!deflater || deflater->level() != level) deflater.emplace(level);
  return deflater->run(payload);
}

bool may_hold_secrets(std::span<const std::byte> payload) {
  const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
  // "Authorization" (and Proxy-), "Cookie" (and Set-), "auth.refresh".
  for (std::size_t i = 0; i + 5 <= text.size(); ++i) {
    const char c = text[i];
    if (c != 'a' && c != 'A' && c != 'c' && c != 'C') continue;
    const auto rest = text.substr(i);
    if (is_word(rest, "auth.") || (rest.size() >= 6 && is_word(rest, "cookie")) ||
        (rest.size() >= 13 && is_word(rest, "authorization")))
      return true;
  }
  return false;
}

}  // namespace edge
