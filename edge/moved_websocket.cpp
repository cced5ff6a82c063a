#include "edge/moved_websocket.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace edge {

/// Its end, wherever it comes (with the stream, or with a home that never ran), is the WebSocket's.
class MovedWebSocket::Token {
 public:
  explicit Token(std::shared_ptr<MovedWebSocket> of) : of_(std::move(of)) {}
  ~Token() {
    const std::lock_guard lock(of_->mutex_);
    of_->gone_ = true;
    if (!of_->waiter_) return;
    asio::post(of_->connection_, [waiter = *of_->waiter_] {
      if (const auto timer = waiter.lock()) timer->cancel();
    });
  }
  Token(const Token&) = delete;
  Token& operator=(const Token&) = delete;

 private:
  std::shared_ptr<MovedWebSocket> of_;
};

/// The connection's coroutine on its own thread. From before the WebSocket moves, which may have something
/// to tell at once, to whatever ends the coroutine: after it nobody posts to its thread on its behalf.
class MovedWebSocket::Waiting {
 public:
  explicit Waiting(MovedWebSocket& of)
      : woken(std::make_shared<asio::steady_timer>(of.connection_, asio::steady_timer::time_point::max())),
        of_(of) {
    const std::lock_guard lock(of_.mutex_);
    of_.waiter_ = woken;
  }
  ~Waiting() {
    const std::lock_guard lock(of_.mutex_);
    of_.waiter_.reset();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  const std::shared_ptr<asio::steady_timer> woken;

 private:
  MovedWebSocket& of_;
};

asio::awaitable<Result<void>> MovedWebSocket::live_away(Transport::Detached transport, WebSocket::Setup setup,
                                                        Take take) {
  /// The token goes last, so that the socket is closed before the connection hears of the end.
  struct Arrival {
    std::shared_ptr<void> token;
    std::shared_ptr<MovedWebSocket> self;
    Transport::Detached transport;
    WebSocket::Setup setup;
    Take take;
    void operator()() {
      if (auto arrived = self->arrive(std::move(transport)))
        self->open(std::move(arrived), std::move(setup), std::move(token), take);
    }
  };
  const auto self = shared_from_this();
  const Waiting waiting(*self);
  asio::post(home_, Arrival{std::make_shared<Token>(self), self, std::move(transport), std::move(setup),
                            std::move(take)});
  co_return co_await wait_for_end(waiting.woken);
}

asio::awaitable<Result<void>> MovedWebSocket::live_here(std::shared_ptr<Transport> transport,
                                                        WebSocket::Setup setup, Take take) {
  const auto self = shared_from_this();
  const Waiting waiting(*self);
  open(std::move(transport), std::move(setup), std::make_shared<Token>(self), take);
  co_return co_await wait_for_end(waiting.woken);
}

asio::awaitable<Result<void>> MovedWebSocket::wait_for_end(std::shared_ptr<asio::steady_timer> woken) {
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  bool told = false;
  asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
  while (!is_gone()) {
    if (!told && state.cancelled() != asio::cancellation_type::none) {
      told = true;
      post_home([](const std::shared_ptr<WebSocket>& websocket) { websocket->close(); });
    }
    co_await woken->async_wait(asio::as_tuple(asio::use_awaitable));
    state = co_await asio::this_coro::cancellation_state;
  }
  co_await asio::this_coro::throw_if_cancelled(throws);
  if (state.cancelled() != asio::cancellation_type::none)
    co_return fail(Error::Kind::cancelled, "the connection was closed");
  const std::lock_guard lock(mutex_);
  if (!opened_) co_return fail(Error::Kind::unavailable, "the WebSocket did not arrive where it was to live");
  co_return Result<void>{};
}

std::shared_ptr<Transport> MovedWebSocket::arrive(Transport::Detached transport) {
  try {
    return std::make_shared<Transport>(home_, std::move(transport));
  } catch (const boost::system::system_error&) {
    return nullptr;  // wait_for_end() says so
  }
}

void MovedWebSocket::open(std::shared_ptr<Transport> transport, WebSocket::Setup setup,
                          std::shared_ptr<void> token, const Take& take) {
  auto websocket = WebSocket::open(std::move(transport), std::move(setup));
  websocket_ = websocket;
  {
    const std::lock_guard lock(mutex_);
    opened_ = true;
  }
  take(std::make_unique<WebSocketDoor>(std::move(websocket), std::move(token)));
}

void MovedWebSocket::close_with(std::uint16_t code, std::string reason) {
  post_home([code, reason = std::move(reason)](std::shared_ptr<WebSocket> websocket) {
    struct Goodbye {
      static asio::awaitable<void> say(std::shared_ptr<WebSocket> to, std::uint16_t why, std::string text) {
        co_await to->close_with(why, text);
      }
    };
    auto executor = websocket->get_executor();
    asio::co_spawn(executor, Goodbye::say(std::move(websocket), code, reason),
                   [](const std::exception_ptr&) {});
  });
}

void MovedWebSocket::tell_connection(std::function<void()> what) {
  const std::lock_guard lock(mutex_);
  if (!waiter_) return;
  asio::post(connection_, [waiter = *waiter_, what = std::move(what)] {
    if (!waiter.expired()) what();
  });
}

void MovedWebSocket::post_home(std::function<void(std::shared_ptr<WebSocket>)> what) {
  const std::lock_guard lock(mutex_);
  if (gone_) return;
  asio::post(home_, [self = shared_from_this(), what = std::move(what)] {
    if (auto websocket = self->websocket_.lock()) what(std::move(websocket));
  });
}

bool MovedWebSocket::is_gone() const {
  const std::lock_guard lock(mutex_);
  return gone_;
}

}  // namespace edge
