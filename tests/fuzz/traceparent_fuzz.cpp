// Any text as a traceparent: what is taken is well formed and says the same when it is written again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tunneld/tracing/tracer.h"

using namespace tunneld::tracing;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

template <class Id>
bool is_set(const Id& id) {
  return std::any_of(id.begin(), id.end(), [](std::uint8_t byte) { return byte != 0; });
}

bool is_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto context = parse_traceparent(text);
  if (!context) return 0;
  require(size >= 55 && is_digit(text[0]) && is_digit(text[1]) && text.substr(0, 2) != "ff");
  require(size == 55 || (text.substr(0, 2) != "00" && text[55] == '-'));
  require(is_set(context->trace_id) && is_set(context->span_id));
  const std::string written = context->traceparent();
  require(written.substr(0, 3) == "00-" && written.substr(2, 51) == text.substr(2, 51));
  require(written.ends_with(context->sampled ? "-01" : "-00"));
  require(written.substr(3, 32) == context->trace_id_text());
  const auto again = parse_traceparent(written);
  require(again && again->trace_id == context->trace_id && again->span_id == context->span_id &&
          again->sampled == context->sampled);
  const auto child = Tracer::child_of(*context);
  require(child.trace_id == context->trace_id && is_set(child.span_id));
  return 0;
}
