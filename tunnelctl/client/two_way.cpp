#include "tunnelctl/client/two_way.h"

#include <utility>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "tunnel/adaptive_buffer.h"
#include "tunnel/wakeup.h"

namespace tunnelctl::client {
namespace {

using namespace asio::experimental::awaitable_operators;

/// Two frames of a bulk transfer: fewer turns of everybody on its way than with one.
constexpr std::size_t kMostPerRead = 128 * 1024;

struct Pair {
  LocalStream& local;
  tunnel::ByteStream& service;
  const Until until;
  CopyEnd end{};
  bool done = false;  // what is cancelled from here on did not break

  /// The first that breaks is the reason; what follows from it is not.
  void broke(bool by_service, Error error) {
    if (done || !end.clean) return;
    end.clean = false;
    end.service_broke = by_service;
    end.error = std::move(error);
    if (by_service) local.reset();
    close();
  }
  void close() {
    local.close();
    service.close();
  }
};

asio::awaitable<void> to_service(Pair& pair) {
  tunnel::AdaptiveBuffer buffer(0, kMostPerRead);
  for (;;) {
    const auto got = co_await pair.local.read(buffer.space());
    if (!got) co_return pair.broke(false, got.error());
    if (*got == 0) break;
    const auto sent = co_await pair.service.write(buffer.space().first(*got));
    if (!sent) co_return pair.broke(true, sent.error());
    pair.end.to_service_bytes += *got;
    buffer.note(*got);
  }
  // A service that is gone by now has said all it had to say.
  (void)co_await pair.service.shutdown_write();
}

asio::awaitable<void> from_service(Pair& pair) {
  tunnel::AdaptiveBuffer buffer(0, kMostPerRead);
  for (;;) {
    const auto got = co_await pair.service.read(buffer.space());
    if (!got) co_return pair.broke(true, got.error());
    if (*got == 0) break;
    const auto sent = co_await pair.local.write(buffer.space().first(*got));
    if (!sent) co_return pair.broke(false, sent.error());
    pair.end.from_service_bytes += *got;
    buffer.note(*got);
  }
  (void)co_await pair.local.shutdown_write();
  if (pair.until == Until::service_ended) pair.done = true;
}

}  // namespace

asio::awaitable<CopyEnd> copy_both_ways(LocalStream& local, tunnel::ByteStream& service, Until until) {
  Pair pair{local, service, until};
  if (until == Until::both_ended) {
    co_await (to_service(pair) && from_service(pair));
  } else {
    // The end of our side alone is no end: the service still answers.
    struct UpThenWait {
      static asio::awaitable<void> run(Pair& both) {
        co_await to_service(both);
        tunnel::Wakeup never;
        if (both.end.clean && !both.done) (void)co_await never.wait();
      }
    };
    co_await (UpThenWait::run(pair) || from_service(pair));
  }
  pair.close();
  co_return pair.end;
}

}  // namespace tunnelctl::client
