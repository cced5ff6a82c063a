#include "tunnel/relay.h"

#include <algorithm>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "tunnel/adaptive_buffer.h"

namespace tunnel {
namespace {

using namespace asio::experimental::awaitable_operators;
using Clock = DeadlineWatch::Clock;
using How = RelayEnd::How;

/// One side of the relay, and what is known of it.
struct End {
  ByteStream& stream;
  Side side;
  How failure;
  std::uint64_t received_bytes = 0;
  bool ended = false;  // its direction was read to the end
};

}  // namespace

class Relay : DeadlineWatch::Entry {
 public:
  Relay(ByteStream& caller, ByteStream& service, DeadlineWatch& watch, Observer& observer,
        const RelayOptions& options, const asio::any_io_executor& executor)
      : caller_{caller, Side::client, How::caller_failed},
        service_{service, Side::agent, How::service_failed},
        watch_(watch),
        observer_(observer),
        options_(options),
        stop_(executor, Clock::time_point::max()) {
    if (auto* control = options_.control) {
      if (control->until_) options_.until = *control->until_;
      quiet_ = control->quiet_;
      if (control->stop_) end(control->stop_->how, control->stop_->why);
      control->relay_ = this;
    }
  }
  ~Relay() override { let_go(); }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  asio::awaitable<RelayEnd> run() {
    touch();
    co_await ((pump(caller_, service_) && pump(service_, caller_)) || stopped());
    const auto state = co_await asio::this_coro::cancellation_state;
    if (!over_ && state.cancelled() != asio::cancellation_type::none) end(How::cancelled, "cancelled");
    let_go();
    leave();
    service_.stream.close();
    if (end_.how == How::caller_failed) caller_.stream.close();
    end_.from_caller_bytes = caller_.received_bytes;
    end_.from_service_bytes = service_.received_bytes;
    co_return std::move(end_);
  }

 private:
  friend class RelayControl;

  asio::awaitable<void> pump(End& from, End& to) {
    AdaptiveBuffer buffer;
    while (!over_) {
      const auto space = buffer.space();
      const auto got = co_await from.stream.read(space);
      if (!got) co_return broke(from, got.error());
      touch();
      if (*got == 0) {
        from.ended = true;
        const auto shut = co_await to.stream.shutdown_write();
        if (!shut) broke(to, shut.error());
        co_return;
      }
      buffer.note(*got);
      from.received_bytes += *got;
      observer_.bytes(from.side, *got, 0);
      const auto sent = co_await to.stream.write(space.first(*got));
      if (!sent) co_return broke(to, sent.error());
      touch();
      observer_.bytes(to.side, 0, *got);
    }
  }

  /// Ends with the relay, so that `||` cancels whatever the pumps wait for.
  asio::awaitable<void> stopped() {
    if (over_) co_return;
    co_await stop_.async_wait(asio::as_tuple(asio::use_awaitable));
  }

  void broke(const End& which, const Error& error) {
    if (over_ || error.kind == Error::Kind::cancelled) {
      // Cancelled from outside (run() sees it) or closed by its owner.
      if (!over_) end(How::cancelled, error.message);
      return;
    }
    // A peer that has said all it wants and refuses the rest has finished, as a reset after FIN in TCP.
    end(which.ended ? How::finished : which.failure, error.message);
  }

  void end(How how, std::string why) {
    if (over_) return;
    over_ = true;
    end_.how = how;
    end_.why = std::move(why);
    stop_.cancel();
  }

  void touch() {
    moved_ = Clock::now();
    watch();
  }

  /// Has expired() called when the first of the limits is reached.
  void watch() {
    auto deadline = moved_ + options_.idle_limit;
    if (quiet_) deadline = std::min(deadline, moved_ + quiet_->limit);
    if (options_.until) deadline = std::min(deadline, *options_.until);
    watch_until(watch_, deadline);
  }

  void expired() override {
    const auto now = Clock::now();
    if (options_.until && now >= *options_.until)
      end(How::expired, "the token expired");
    else if (quiet_ && now >= moved_ + quiet_->limit)
      end(quiet_->then.how, quiet_->then.why);
    else
      end(How::idle, "no data for the idle limit");
  }

  void let_go() {
    if (options_.control != nullptr) options_.control->relay_ = nullptr;
    options_.control = nullptr;
  }

  End caller_;
  End service_;
  DeadlineWatch& watch_;
  Observer& observer_;
  RelayOptions options_;
  std::optional<RelayControl::Quiet> quiet_;
  Clock::time_point moved_{};
  asio::steady_timer stop_;
  bool over_ = false;
  RelayEnd end_;
};

RelayControl::~RelayControl() {
  if (relay_ != nullptr) relay_->options_.control = nullptr;
}

void RelayControl::stop(RelayEnd::How how, std::string why) {
  if (!stop_) stop_ = Stop{how, std::move(why)};
  if (relay_ != nullptr) relay_->end(stop_->how, stop_->why);
}

void RelayControl::set_until(std::optional<Clock::time_point> until) {
  until_ = until;
  if (relay_ == nullptr || relay_->over_) return;
  relay_->options_.until = until;
  relay_->watch();
}

void RelayControl::stop_when_quiet(std::chrono::milliseconds quiet, RelayEnd::How how, std::string why) {
  quiet_ = Quiet{quiet, {how, std::move(why)}};
  if (relay_ == nullptr || relay_->over_) return;
  relay_->quiet_ = quiet_;
  relay_->watch();
}

asio::awaitable<RelayEnd> relay(ByteStream& caller, ByteStream& service, DeadlineWatch& watch,
                                Observer& observer, RelayOptions options) {
  const auto executor = co_await asio::this_coro::executor;
  Relay story(caller, service, watch, observer, options, executor);
  co_return co_await story.run();
}

}  // namespace tunnel
