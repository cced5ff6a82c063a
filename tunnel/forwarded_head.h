#pragma once

#include <string>
#include <string_view>

#include "tunnel/dialer.h"
#include "tunnel/http1.h"

/// What a head looks like on the other side of the tunnel. Pure text; RFC 9110 7.6, S3 and S4.
namespace tunnel {

/// Where the caller's tunnel token stood, so that it does not reach the service. A service's own
/// credentials (its Authorization while the token came otherwise) pass.
enum class Credential {
  none,
  authorization,  // Authorization: Bearer <token>
  subprotocol,    // Sec-WebSocket-Protocol: ..., bearer.<token> or ticket.<id>
};

/// What becomes of the caller's tracestate: it belongs to the trace of the caller's traceparent, and no
/// other.
enum class Tracestate { keep, drop };

/// What the service is told about the caller and the request.
struct RequestFacts {
  const Service* service = nullptr;
  std::string_view target;  // path and query for the service
  Credential credential = Credential::authorization;
  std::string_view peer_address;
  std::string_view scheme;
  std::string_view correlation_id;
  /// The body as it is sent on; a request without one, or with a sized one, keeps its framing.
  BodyFraming body;
  /// Instead of the caller's, which passes as it is while this is empty. Source: W3C Trace Context.
  std::string_view traceparent = {};
  Tracestate tracestate = Tracestate::keep;  // matters with a traceparent of ours
};

/// The request head for the service, ending in the empty line.
/// Removed: hop-by-hop fields and those Connection names, X-Tunnel-*, Idempotency-Key, the tunnel's
/// token, Forwarded and X-Real-IP (callers forge them), fields whose name only differs from one of these by
/// "_" (some servers read "_" as "-"). Set: Host, X-Forwarded-For (peer appended), -Proto, -Host,
/// X-Correlation-ID, traceparent if there is one. Kept where we implement them: Upgrade (but h2c, which would
/// hide further requests from these rules), Expect, "TE: trailers".
std::string head_for_service(const RequestHead& request, const RequestFacts& facts);

/// Whether head_for_service() passes the request's Upgrade on.
bool upgrade_passes(const RequestHead& request);

/// The service's answer as the caller gets it: hop-by-hop fields, those Connection names, X-Tunnel-*,
/// and Alt-Svc (it would lead around the tunnel) removed, X-Correlation-ID set. A 101 keeps its Upgrade.
/// `body` is framed for a caller of HTTP/1.`caller_minor_version`; for HEAD and 304 it is what the
/// fields said, as send_head() wants it.
ResponseHead head_for_caller(ResponseHead answer, std::string_view request_method, int caller_minor_version,
                             std::string_view correlation_id);

/// What X-Tunnel-Priority says; normal without one. Refuses with bad_request what is none of the names, or
/// several fields.
Served<Priority> priority_of(const RequestHead& request);

/// Whether the request may be sent again when nobody knows what became of it: its method is idempotent
/// (RFC 9110 9.2.2) or the caller promised so with an Idempotency-Key.
bool repeatable(const RequestHead& request);

}  // namespace tunnel
