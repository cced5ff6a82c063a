#include "tunneld/fetch.h"

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/http_client.h"
#include "tunneld/access/jwk_set.h"

namespace tunneld {
namespace {

namespace asio = boost::asio;

/// What the caller's executor and the thread share. The timer never fires; its end wakes the caller.
struct Waiting {
  explicit Waiting(const asio::any_io_executor& executor)
      : done(executor, asio::steady_timer::time_point::max()) {}
  asio::steady_timer done;
  Result<std::string> document = fail(Error::Kind::cancelled, "cancelled");
};

/// Anything but the document is an error here.
Result<std::string> read(http::Response response, const http::Request& request) {
  using Kind = Error::Kind;
  const unsigned status = response.status;
  if (status >= 200 && status < 300) return std::move(response.body);
  const std::string told = http::shown(request) + ": status " + std::to_string(status);
  if (status >= 300 && status < 400)
    return fail(Kind::bad_input, told + ": redirects are not followed; use the final URL");
  if (status == 401 || status == 403) return fail(Kind::denied, told);
  if (status == 404 || status == 410) return fail(Kind::not_found, told);
  return fail(Kind::unavailable, told);
}

/// The client blocks, so it has a thread of its own: a name server that hangs delays nobody.
class Fetcher {
 public:
  explicit Fetcher(http::Client client) : client_(std::move(client)) {}
  ~Fetcher() {
    stop_.request_stop();
    thread_.join();
  }
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  void start(std::shared_ptr<Waiting> waiting, std::string url) {
    asio::post(thread_, [this, waiting = std::move(waiting), url = std::move(url)]() mutable {
      auto document = get(std::move(url));
      const auto executor = waiting->done.get_executor();
      // The caller's thread lets go of the timer, which is the caller's.
      asio::post(executor, [waiting = std::move(waiting), document = std::move(document)]() mutable {
        waiting->document = std::move(document);
        waiting->done.cancel();
      });
    });
  }

 private:
  Result<std::string> get(std::string url) const {
    // The next one is hours away: no connection is kept for it.
    const http::Request request{.url = std::move(url), .headers = {{"Connection", "close"}}};
    auto response = client_.send(request, stop_.get_token());
    if (!response) return tl::unexpected(std::move(response.error()));
    return read(std::move(*response), request);
  }

  http::Client client_;
  std::stop_source stop_;
  asio::thread_pool thread_{1};
};

/// `fetcher` is used before the first wait only, so it may go while this waits.
asio::awaitable<Result<std::string>> get(Fetcher* fetcher, std::string url) {
  auto waiting = std::make_shared<Waiting>(co_await asio::this_coro::executor);
  fetcher->start(waiting, std::move(url));
  co_await waiting->done.async_wait(asio::as_tuple(asio::use_awaitable));
  co_return std::move(waiting->document);
}

}  // namespace

Result<TokenKeys::Fetch> make_fetch() {
  return make_fetch(FetchLimits{});
}

Result<TokenKeys::Fetch> make_fetch(const FetchLimits& limits) {
  auto client = http::Client::make({.user_agent = "tunneld",
                                    .max_in_flight = 1,
                                    .connect_timeout = limits.deadline,
                                    .deadline = limits.deadline,
                                    .total = limits.deadline,
                                    .max_body_bytes = limits.max_bytes,
                                    .retry = {.attempts = 1}});  // access::JwksRefreshPolicy decides that
  if (!client) return tl::unexpected(client.error());
  auto fetcher = std::make_shared<Fetcher>(std::move(*client));
  return TokenKeys::Fetch([fetcher](std::string url) { return get(fetcher.get(), std::move(url)); });
}

}  // namespace tunneld
