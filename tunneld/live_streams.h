#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "tunnel/deadline_watch.h"
#include "tunnel/flow_level.h"
#include "tunnel/relay.h"
#include "tunneld/access/revocations.h"
#include "tunneld/access/token_cache.h"

namespace tunneld {

/// The monotonic time of a token's end: expiry is wall clock, deadlines are not.
std::chrono::steady_clock::time_point expiry_of(const tunnel::Principal& principal);

/// Where control messages to a peer go (tunnel/control_messages.h).
class ControlSink {
 public:
  virtual ~ControlSink() = default;
  /// Queues one message. False when it was not taken: too many wait, or nobody is there any more.
  virtual bool post_control(std::string_view message) = 0;
};

/// Everything under way on one thread that lasts no longer than its token, for whatever reaches it from
/// outside: hints about its queue, a drain, revoked tokens, and the notice that its token ends.
/// Threads: all on the streams' own.
class LiveStreams {
 public:
  using Token = std::shared_ptr<const access::VerifiedToken>;
  using Clock = std::chrono::steady_clock;
  using How = tunnel::RelayEnd::How;

  /// A stream, a link or an agent's connection, for as long as it lives.
  class Life : tunnel::DeadlineWatch::Entry {
   public:
    using Clock = LiveStreams::Clock;
    using How = LiveStreams::How;

    /// `sink` is null where there are no control messages. All outlive it.
    Life(LiveStreams& streams, tunnel::DeadlineWatch& watch, Token token, ControlSink* sink);
    ~Life() override;

    const Token& token() const { return token_; }
    /// The caller showed a newer token of the same principal.
    void refresh(Token token);

   protected:
    /// To be called when it is ready to be told of things; a drain under way is told at once.
    void begin();
    /// Ends it, in good order. The first reason holds.
    virtual void stop(How how, std::string why) = 0;
    /// Ends it as soon as it has carried nothing for that long.
    virtual void stop_when_quiet(std::chrono::milliseconds quiet, How how, std::string why) = 0;
    /// The token's end has moved: it is over then, as expired.
    virtual void set_until(Clock::time_point until) = 0;

   private:
    friend class LiveStreams;
    void watch_expiry();
    void expired() override;

    LiveStreams& streams_;
    tunnel::DeadlineWatch& watch_;
    Token token_;
    ControlSink* sink_;
    std::optional<std::list<Life*>::iterator> place_;
  };

  /// One stream, for as long as its relay runs.
  class Stream final : public Life {
   public:
    Stream(LiveStreams& streams, tunnel::DeadlineWatch& watch, Token token, ControlSink* sink)
        : Life(streams, watch, std::move(token), sink) {
      begin();
    }
    tunnel::RelayControl control;

   private:
    void stop(How how, std::string why) override { control.stop(how, std::move(why)); }
    void stop_when_quiet(std::chrono::milliseconds quiet, How how, std::string why) override {
      control.stop_when_quiet(quiet, how, std::move(why));
    }
    void set_until(Clock::time_point until) override { control.set_until(until); }
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
  std::list<Life*> streams_;
  /// So that what begins in the middle of it learns too.
  std::function<void(Life&)> draining_;
};

}  // namespace tunneld
