#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunnel/http1.h"

namespace tunnelctl::client {

/// A request that outlives the run of the program that took it (KeptRequests).
struct KeptRequest {
  std::string service{};
  std::string request_id{};    // by which its caller knows it: HttpExchange::correlation_id()
  std::string peer_address{};  // its caller's
  /// Wall clock, for it is compared in another run; milliseconds.
  std::chrono::system_clock::time_point queued{};
  /// Without credentials and framing fields; `body` is NoBody or SizedBody of the body's size.
  tunnel::RequestHead head{};
  std::string body{};
};

/// Whether requests with that head are kept at all: high priority, and such as may be sent again
/// (tunnel::repeatable). A request to become another protocol is not: nobody would be there to speak it.
bool may_be_kept(const tunnel::RequestHead& head);

/// The head as it is kept: without Authorization, Cookie, Proxy-Authorization, X-Api-Key, the names in
/// `also`, those that differ from one of these only by "_" for "-", and what frames the body.
tunnel::RequestHead head_to_keep(const tunnel::RequestHead& head, std::size_t body_bytes,
                                 const std::vector<std::string>& also);

/// The text that is encrypted: lines "tunnel-kept 1", "queued <ms since 1970>", "service <name>",
/// "request <id>", "peer <address>", each ended by LF, then the request as HTTP/1.1 has it.
std::string to_text(const KeptRequest& request);
/// bad_input for anything that to_text() would not have written of a request that may_be_kept().
Result<KeptRequest> parse_kept_request(std::string_view text);

}  // namespace tunnelctl::client
