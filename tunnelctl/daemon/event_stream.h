#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "common/result.h"
#include "tunnelctl/daemon/admin.h"

namespace tunnelctl::daemon {

/// One message of a stream of Server-Sent Events.
struct Message {
  std::string id{};     // the last one seen, also if this message has none
  std::string event{};  // "message" when it has none
  std::string data{};   // several data lines are joined by line ends
};

/// Cuts a stream of Server-Sent Events into messages, however its bytes arrive.
/// Source: WHATWG HTML, section 9.2.6.
class EventStream {
 public:
  using Take = std::function<bool(const Message&)>;
  /// A message of which more than this is held ends the stream: it would grow without end.
  static constexpr std::size_t kMaxMessage = 1024 * 1024;

  /// Hands over each message that is complete. False when `take` said so; an oversized message also ends it.
  bool feed(std::string_view bytes, const Take& take);
  bool oversized() const { return oversized_; }
  /// How long the server wants readers to wait before they come back.
  std::optional<std::chrono::milliseconds> retry() const { return retry_; }

 private:
  bool line(std::string_view text, const Take& take);

  std::string rest_;
  bool begun_ = false;  // a byte order mark was looked for
  bool after_cr_ = false;
  bool oversized_ = false;
  Message message_;
  bool has_data_ = false;
  std::optional<std::chrono::milliseconds> retry_;
};

/// How long to wait before the attempt-th (from 1) connection after one that brought nothing: doubles from
/// `first` to half a minute.
std::chrono::milliseconds pause_before(unsigned attempt, std::chrono::milliseconds first);

struct Follow {
  std::uint64_t after = 0;  // events with a greater id
  /// Before each connection. False ends it, an error counts as the connection's own.
  std::function<Result<bool>()> begin{};
  std::function<bool(const Event&)> take;
  /// The connection was lost or refused: why, and how long until the next one.
  std::function<void(const Error& why, std::chrono::milliseconds pause)> lost;
  /// Some events are gone: the first missing and the first that came.
  std::function<void(std::uint64_t missing, std::uint64_t came)> gap;
  /// The daemon's log of events began anew, from 1: another state directory, or its files were deleted.
  std::function<void()> anew;
  /// Waits; false when it was stopped meanwhile.
  std::function<bool(std::chrono::milliseconds)> wait;
};

/// Every event once and in order, over as many connections as it takes, until `take` or `wait` says false or
/// the stop of `admin` (both are no error). Fails when the daemon refuses for good: denied, not_found.
Result<void> follow(const Admin& admin, const Follow& how);

}  // namespace tunnelctl::daemon
