// room: tunnel
// Response heads as services send them. The first byte chooses the request's method.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tunnel/forwarded_head.h"
#include "tunnel/http1.h"

using namespace tunnel;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

/// An accepted answer, written for the caller, reads back with the same status and at most our framing.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view method = data[0] % 2 == 0 ? "GET" : "HEAD";
  const int minor_version = data[0] % 4 < 2 ? 1 : 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto head = parse_response_head(text, method, {});
  if (!head) {
    require(!head.error().reason.empty());
    return 0;
  }
  const auto answer = head_for_caller(*head, method, minor_version, "corr");
  const auto sent = serialize(answer);
  const auto read = parse_response_head(sent, method, {1 << 20, 1 << 22, 1000});
  require(read.has_value());
  require(read->status == head->status && *read->find("x-correlation-id") == "corr");
  require(minor_version == 1 || !std::holds_alternative<ChunkedBody>(answer.body));
  return 0;
}
