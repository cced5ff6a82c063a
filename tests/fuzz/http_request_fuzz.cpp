// room: tunnel
// Request heads as strangers send them, and the paths in them.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tunnel/forwarded_head.h"
#include "tunnel/http1.h"
#include "tunnel/request_path.h"

using namespace tunnel;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

/// What is accepted once must be accepted as we would send it on, with the same meaning: a head that
/// changes under its second reader is request smuggling.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::size_t scanned = 0;
  const auto end = find_head_end(std::as_bytes(std::span(text)), scanned);
  require(!end || *end <= size);
  const auto head = parse_request_head(text.substr(0, end.value_or(size)), {});
  if (!head) {
    require(!head.error().reason.empty() && head.error().status >= 400);
    return 0;
  }
  require(end.has_value());
  const Service service{"web", "lab", "127.0.0.1", 8080, {}};
  const auto route = route_http(head->target);
  const auto* named = route ? std::get_if<ServiceTarget>(&*route) : nullptr;
  const std::string_view target = named != nullptr ? std::string_view(named->target) : "/";
  const auto sent = head_for_service(
      *head, {&service, target, Credential::authorization, "192.0.2.7", "https", "corr", head->body});
  std::size_t again = 0;
  const auto sent_end = find_head_end(std::as_bytes(std::span(sent)), again);
  require(sent_end && *sent_end == sent.size());
  const auto read = parse_request_head(sent, {1 << 20, 1 << 22, 1000});
  require(read.has_value());
  require(read->method == head->method && read->target == target);
  if (std::holds_alternative<NoBody>(head->body)) {
    const auto* none = std::get_if<SizedBody>(&read->body);  // POST says "Content-Length: 0"
    require(std::holds_alternative<NoBody>(read->body) || (none != nullptr && none->bytes == 0));
  } else {
    require(read->body.index() == head->body.index());
  }
  require(read->find("authorization") == nullptr);
  return 0;
}
