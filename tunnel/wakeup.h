#pragma once

#include <memory>
#include <utility>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tunnel {

namespace asio = boost::asio;

/// Lets one coroutine sleep until another part of the same thread says that something changed: a
/// condition variable for one waiter, without the cost of a timer per wait. The woken coroutine looks
/// at the state itself and waits again if it was not what it hoped for.
///
/// Threads: one. Lifetime: must outlive its waiter or be cancelled with it; destroying it wakes the
/// waiter with false.
class Wakeup {
 public:
  Wakeup() = default;
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;
  ~Wakeup() { finish(false); }

  bool waiting() const { return waiter_ != nullptr; }

  /// Resumes the waiter, if there is one, from the event loop (never from inside this call).
  void notify() { finish(true); }
  void cancel() { finish(false); }

  /// True when notified, false when cancelled.
  asio::awaitable<bool> wait() {
    return asio::async_initiate<const asio::use_awaitable_t<>, void(bool)>(Start{this}, asio::use_awaitable);
  }

 private:
  struct Waiter {
    virtual ~Waiter() = default;
    virtual void complete(bool notified) = 0;
  };

  template <class Handler>
  struct HandlerWaiter final : Waiter {
    explicit HandlerWaiter(Handler&& handler_in) : handler(std::move(handler_in)) {}
    void complete(bool notified) override {
      auto executor = asio::get_associated_executor(handler);
      asio::post(executor, Resume{std::move(handler), notified});
    }
    struct Resume {
      Handler handler;
      bool notified;
      void operator()() { std::move(handler)(notified); }
    };
    Handler handler;
  };

  struct Start {
    Wakeup* self;
    template <class Handler>
    void operator()(Handler&& handler) const {
      auto slot = asio::get_associated_cancellation_slot(handler);
      self->waiter_ = std::make_unique<HandlerWaiter<std::decay_t<Handler>>>(std::forward<Handler>(handler));
      if (slot.is_connected()) {
        self->slot_ = slot;
        slot.assign(OnCancel{self});
      }
    }
  };
  struct OnCancel {
    Wakeup* self;
    void operator()(asio::cancellation_type) const { self->finish(false); }
  };

  void finish(bool notified) {
    if (!waiter_) return;
    if (slot_.is_connected()) slot_.clear();
    slot_ = {};
    auto waiter = std::move(waiter_);
    waiter->complete(notified);
  }

  std::unique_ptr<Waiter> waiter_;
  asio::cancellation_slot slot_;
};

}  // namespace tunnel
