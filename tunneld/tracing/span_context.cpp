#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include "tunneld/tracing/tracer.h"

namespace tunneld::tracing {
namespace {

// "vv-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff"
constexpr std::size_t kTraceAt = 3;
constexpr std::size_t kParentAt = 36;
constexpr std::size_t kFlagsAt = 53;
constexpr std::size_t kSize = 55;
static_assert(kSize == std::tuple_size_v<TraceparentText>);
constexpr std::uint8_t kSampled = 0x01;

constexpr char kDigits[] = "0123456789abcdef";

char* write_hex(std::span<const std::uint8_t> bytes, char* to) {
  for (const std::uint8_t byte : bytes) {
    *to++ = kDigits[byte >> 4U];
    *to++ = kDigits[byte & 0xFU];
  }
  return to;
}

/// Lower case only: the standard wants a traceparent with capitals thrown away.
int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool read_hex(std::string_view text, std::span<std::uint8_t> bytes) {
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    const int high = digit(text[2 * at]);
    const int low = digit(text[2 * at + 1]);
    if (high < 0 || low < 0) return false;
    bytes[at] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

bool all_zero(std::span<const std::uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

TraceparentText SpanContext::traceparent_text() const {
  TraceparentText text;
  char* to = text.data();
  *to++ = '0';
  *to++ = '0';
  *to++ = '-';
  to = write_hex(trace_id, to);
  *to++ = '-';
  to = write_hex(span_id, to);
  *to++ = '-';
  *to++ = '0';
  *to = sampled ? '1' : '0';
  return text;
}

std::string SpanContext::traceparent() const {
  const auto text = traceparent_text();
  return {text.data(), text.size()};
}

std::string SpanContext::trace_id_text() const {
  std::string text(2 * trace_id.size(), '\0');
  write_hex(trace_id, text.data());
  return text;
}

std::optional<SpanContext> parse_traceparent(std::string_view text) {
  if (text.size() < kSize) return std::nullopt;
  std::uint8_t version = 0;
  std::uint8_t flags = 0;
  if (!read_hex(text, {&version, 1}) || version == 0xFF) return std::nullopt;
  // A later version may have more to say, behind a dash.
  if (text.size() > kSize && (version == 0 || text[kSize] != '-')) return std::nullopt;
  SpanContext context;
  const bool well_formed = text[kTraceAt - 1] == '-' && text[kParentAt - 1] == '-' &&
                           text[kFlagsAt - 1] == '-' && read_hex(text.substr(kTraceAt), context.trace_id) &&
                           read_hex(text.substr(kParentAt), context.span_id) &&
                           read_hex(text.substr(kFlagsAt), {&flags, 1});
  if (!well_formed || all_zero(context.trace_id) || all_zero(context.span_id)) return std::nullopt;
  context.sampled = (flags & kSampled) != 0;
  return context;
}

}  // namespace tunneld::tracing
