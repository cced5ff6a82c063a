#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tunnel/deadline_watch.h"
#include "tunnel/flow_level.h"
#include "tunnel/http_exchange.h"
#include "tunnel/relay.h"
#include "tunneld/access/revocations.h"
#include "tunneld/access/token_cache.h"

namespace tunneld {

/// The monotonic time of a token's end: expiry is wall clock, deadlines are not.
std::chrono::steady_clock::time_point expiry_of(const tunnel::Principal& principal);

/// Every stream under way on one thread, for whatever reaches it from outside: hints about its queue, a
/// drain, revoked tokens, and the notice that its token ends.
/// Threads: all on the streams' own.
class LiveStreams {
 public:
  using Token = std::shared_ptr<const access::VerifiedToken>;

  /// One stream, for as long as its relay runs.
  class Stream : tunnel::DeadlineWatch::Entry {
   public:
    /// `socket` is null where there are no control messages. All outlive it.
    Stream(LiveStreams& streams, tunnel::DeadlineWatch& watch, Token token, tunnel::WebSocketStream* socket);
    ~Stream() override;

    tunnel::RelayControl control;
    const Token& token() const { return token_; }
    /// The caller showed a newer token of the same principal.
    void refresh(Token token);

   private:
    friend class LiveStreams;
    void watch_expiry();
    void expired() override;

    LiveStreams& streams_;
    tunnel::DeadlineWatch& watch_;
    Token token_;
    tunnel::WebSocketStream* socket_;
    std::list<Stream*>::iterator place_;
  };

  explicit LiveStreams(const access::Revocations& revocations) : revocations_(revocations) {}

  /// To the control messages of that principal's streams.
  void tell_flow(const std::string& principal_key, tunnel::FlowLevel level, double fill);
  /// Tells all; those that pause end at once, the others when `quiet` passes without payload.
  void drain(std::chrono::system_clock::time_point deadline, std::string_view reason,
             std::chrono::milliseconds quiet);
  /// Ends what is left, in good order.
  void end_all(std::string_view why);
  /// Ends those whose token is revoked.
  void check_revocations();
  std::size_t count() const { return streams_.size(); }

 private:
  const access::Revocations& revocations_;
  std::list<Stream*> streams_;
  /// So that a stream which begins in the middle of it learns too.
  std::function<void(Stream&)> draining_;
};

}  // namespace tunneld
