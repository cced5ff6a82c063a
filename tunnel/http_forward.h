#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "tunnel/forwarded_head.h"
#include "tunnel/http_exchange.h"
#include "tunnel/http_pool.h"
#include "tunnel/observer.h"
#include "tunnel/relay.h"

namespace tunnel {

struct ForwardOptions {
  /// To the first byte of the answer, and for every pause after it; callers choose another with
  /// X-Tunnel-Timeout (1 to 600 s).
  std::chrono::milliseconds request_timeout{std::chrono::seconds(30)};
  /// Of a whole exchange, so that a stream nobody reads on purpose ends; upgrades are not bound by it.
  std::chrono::milliseconds max_duration{std::chrono::minutes(10)};
  /// How long a body waits for the service's "100 Continue": RFC 9110 10.1.1 lets a server ignore it.
  std::chrono::milliseconds continue_wait{1000};
  /// An upgraded connection without payload.
  std::chrono::milliseconds idle_limit{std::chrono::minutes(5)};
  HeadLimits limits;
};

/// When a request got what it needed, for traces. Known also of requests that were refused.
struct ForwardTimes {
  /// From the start until a channel was at hand; nothing if none ever was. Of a repeated request: the first.
  std::optional<std::chrono::steady_clock::duration> got_channel_after{};
  std::chrono::steady_clock::duration queued{};  // of that, and of a repetition, in the queue
};

/// Where one request goes, and for whom.
struct ForwardTarget {
  const tunnel::Principal* principal = nullptr;
  const Service* service = nullptr;
  std::string target{};  // path and query for the service (request_path.h)
  Credential credential = Credential::authorization;
  Priority priority = Priority::normal;  // priority_of() its head
  std::size_t queue_capacity = 100;      // of the principal's queue, by its tier
  /// Replaces the caller's traceparent; empty leaves it alone.
  std::string traceparent{};
  Tracestate tracestate = Tracestate::keep;
  /// Added to the final answer's head, such as X-RateLimit-Limit. In place of the service's fields of
  /// these names.
  std::vector<Header> answer_fields{};
  /// For the relay of an upgraded connection; may be null.
  RelayControl* relay_control = nullptr;
  /// Filled in whatever becomes of the request; may be null.
  ForwardTimes* times = nullptr;
};

/// What became of a request whose answer was begun.
struct Forwarded {
  enum class Ending {
    complete,
    upgraded,     // `relay` says how that ended
    service_cut,  // the service broke off or broke HTTP in the body: the caller saw an aborted answer
    timed_out,    // a pause or the whole took too long: aborted likewise
    caller_gone,  // the caller broke off; status is 499 if no answer had begun
  };
  Ending ending = Ending::complete;
  unsigned status = 0;
  std::string why;                      // for the log; empty when complete
  std::uint64_t from_caller_bytes = 0;  // payload
  std::uint64_t from_service_bytes = 0;
  /// From the request being on its way to the first byte of the answer: not ours to answer for.
  std::chrono::steady_clock::duration waited_for_service{};
  std::chrono::steady_clock::duration got_channel_after{};  // as ForwardTimes
  std::chrono::steady_clock::duration queued{};
  std::optional<RelayEnd> relay;
};

/// Forwards requests to services over pooled channels. One per thread; exchanges run beside each other.
///
/// Bodies stream both ways at once and are never held whole, but request bodies of at most 16 KiB whose
/// length is known: those leave with the head in one write, and can be sent again. A request is sent
/// twice only when a reused channel ended before the first byte of an answer, and the request is
/// repeatable() and its body still at hand.
class HttpForward {
 public:
  /// All outlive the exchanges under way.
  HttpForward(HttpPool& pool, DeadlineWatch& watch, Observer& observer, ForwardOptions options)
      : pool_(pool), watch_(watch), observer_(observer), options_(options) {}

  /// Fails, with nothing answered yet, as Dialer::open does and with
  /// bad_request      the X-Tunnel-Timeout is not one, or the caller's body is broken (408 if it stalled)
  /// timed_out        no answer in time
  /// ssh_error        the channel ended before an answer, and repeating is safe
  /// outcome_unknown  likewise, and repeating is not
  /// websocket_error  the service does not speak HTTP
  /// Once the answer is begun it cannot fail: a broken answer is aborted, so that the caller sees it.
  asio::awaitable<Served<Forwarded>> forward(HttpExchange& exchange, const ForwardTarget& to);

 private:
  friend class Forwarding;
  HttpPool& pool_;
  DeadlineWatch& watch_;
  Observer& observer_;
  ForwardOptions options_;
};

}  // namespace tunnel
