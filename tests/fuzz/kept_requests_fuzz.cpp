// What a kept request's file holds once it is decrypted. Whoever has the key wrote it, but an older or a
// newer version of the program may have been that.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tunnel/forwarded_head.h"
#include "tunnelctl/client/kept_request.h"

using namespace tunnelctl::client;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

/// What is taken is a request that may be kept, whole, and written as we would write it; so it has no
/// credentials twice removed, and means the same to whoever reads it next.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = parse_kept_request(text);
  if (!parsed) {
    require(parsed.error().kind == Error::Kind::bad_input && parsed.error().message.size() < 100);
    return 0;
  }
  require(to_text(*parsed) == text);
  require(may_be_kept(parsed->head) && tunnel::repeatable(parsed->head) && !parsed->head.wants_upgrade);
  const auto* sized = std::get_if<tunnel::SizedBody>(&parsed->head.body);
  require(sized != nullptr ? sized->bytes == parsed->body.size() : parsed->body.empty());
  auto again = *parsed;
  again.head = head_to_keep(parsed->head, parsed->body.size(), {"x-session"});
  for (const auto* name : {"Authorization", "cookie", "PROXY-AUTHORIZATION", "x-api-key", "X-Session"})
    require(again.head.find(name) == nullptr);
  const auto back = parse_kept_request(to_text(again));
  require(back.has_value() && to_text(*back) == to_text(again));
  return 0;
}
