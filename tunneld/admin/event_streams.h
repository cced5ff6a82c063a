#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "tunnel/http_exchange.h"

namespace tunneld::admin {

/// The sequence of events, as the pages see it.
struct EventSource {
  struct Event {
    std::uint64_t id = 0;
    std::string kind;
    std::string json;  // the whole event, one line
  };
  struct Page {
    std::vector<Event> events;
    std::uint64_t first = 0;  // oldest id there is; 0: none
    std::uint64_t last = 0;   // newest
    bool gap = false;         // some after the id that was asked for are gone
  };
  /// Those with an id above `after`, oldest first, at most `limit`.
  std::function<Page(std::uint64_t after, std::size_t limit)> after;
  /// `notify` is called from any thread after each new event, until the handle is gone.
  std::function<std::shared_ptr<void>(std::function<void()> notify)> subscribe;
};

/// Events as they come, as server-sent events: each with its id, so that a reader which was cut off goes
/// on where it was by Last-Event-ID. A comment every 15 s keeps proxies from closing a quiet stream and
/// finds readers that are gone.
/// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
/// One thread.
class EventStreams {
 public:
  struct Options {
    std::size_t most = 16;                         // streams at a time
    std::size_t batch = 100;                       // events read at once
    std::chrono::milliseconds keep_alive{15'000};  // between comments on a quiet stream
    std::chrono::milliseconds stall{10'000};       // a reader that takes nothing for so long is cut off
    std::chrono::milliseconds retry{2'000};        // what readers wait before they come again
  };
  EventStreams();
  explicit EventStreams(const Options& options);
  ~EventStreams();

  /// False when there are too many, or they have ended.
  bool room() const;
  /// Answers with a stream of what comes after `after`, and returns when it is over: the reader left or
  /// was too slow, or end() was called. Ask room() first.
  /// `exchange` and `source` outlive it.
  boost::asio::awaitable<void> serve(tunnel::HttpExchange& exchange, const EventSource& source,
                                     std::uint64_t after);
  /// All streams end, and there is room for no more.
  void end();

 private:
  struct Stream;
  boost::asio::awaitable<bool> write(std::shared_ptr<Stream> stream, std::string text);
  boost::asio::awaitable<bool> wait(std::shared_ptr<Stream> stream);

  const Options options_;
  std::vector<Stream*> streams_;
  bool ended_ = false;
};

}  // namespace tunneld::admin
