#include "tunneld/admin/event_streams.h"

#include <algorithm>
#include <atomic>
#include <span>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "tunnel/wakeup.h"

namespace tunneld::admin {

namespace asio = boost::asio;

/// Its timers hold it weakly, so that none that comes late finds an exchange that is gone.
struct EventStreams::Stream {
  Stream(const asio::any_io_executor& executor, tunnel::HttpExchange& to)
      : exchange(to), quiet(executor), stalled(executor) {}

  tunnel::HttpExchange& exchange;
  tunnel::Wakeup wake;
  asio::steady_timer quiet;
  asio::steady_timer stalled;
  bool fresh = true;  // there may be something to read
  bool ended = false;
};

namespace {

/// What the log's thread holds of a stream: enough to send word to the stream's own thread, where alone
/// the stream is touched.
struct Notice {
  asio::any_io_executor executor;
  std::atomic<bool> told{false};  // word is on its way
};

void append_event(std::string& text, const EventSource::Event& event) {
  text += "id: " + std::to_string(event.id) + "\nevent: " + event.kind + "\ndata: " + event.json + "\n\n";
}

/// Tells a reader that some events are lost to it; without an id, so that it changes no position.
std::string gap_event(const EventSource::Page& page) {
  return "event: gap\ndata: {\"first\":" + std::to_string(page.first) +
         ",\"last\":" + std::to_string(page.last) + "}\n\n";
}

tunnel::ResponseHead stream_head(const tunnel::HttpExchange& exchange) {
  tunnel::ResponseHead head;
  head.status = 200;
  head.fields = {{"Content-Type", "text/event-stream"},
                 {"Cache-Control", "no-store"},
                 {"X-Content-Type-Options", "nosniff"},
                 {"X-Accel-Buffering", "no"},  // nginx would hold events back
                 {"X-Correlation-ID", exchange.correlation_id()}};
  head.body = tunnel::ChunkedBody{};
  return head;
}

}  // namespace

EventStreams::EventStreams() : EventStreams(Options{}) {}
EventStreams::EventStreams(const Options& options) : options_(options) {}
EventStreams::~EventStreams() = default;

bool EventStreams::room() const {
  return !ended_ && streams_.size() < options_.most;
}

void EventStreams::end() {
  ended_ = true;
  for (auto* stream : streams_) {
    stream->ended = true;
    stream->wake.notify();
  }
}

asio::awaitable<bool> EventStreams::write(std::shared_ptr<Stream> stream, std::string text) {
  stream->stalled.expires_after(options_.stall);
  stream->stalled.async_wait([weak = std::weak_ptr(stream)](boost::system::error_code error) {
    const auto still = weak.lock();
    // Moved on meanwhile: the deadline that fired is not the one that holds.
    if (error || !still || still->stalled.expiry() > std::chrono::steady_clock::now()) return;
    still->exchange.abort();
  });
  const auto done = co_await stream->exchange.write_body(std::as_bytes(std::span(text)));
  stream->stalled.expires_at(std::chrono::steady_clock::time_point::max());
  co_return done.has_value();
}

/// True when something may have come; false after a quiet while. The end shows in `ended`.
asio::awaitable<bool> EventStreams::wait(std::shared_ptr<Stream> stream) {
  if (stream->fresh || stream->ended) co_return true;
  stream->quiet.expires_after(options_.keep_alive);
  stream->quiet.async_wait([weak = std::weak_ptr(stream)](boost::system::error_code error) {
    const auto still = weak.lock();
    if (!error && still) still->wake.notify();
  });
  const bool notified = co_await stream->wake.wait();
  stream->quiet.cancel();
  if (!notified) stream->ended = true;  // the listener is being taken down
  co_return stream->fresh || stream->ended;
}

asio::awaitable<void> EventStreams::serve(tunnel::HttpExchange& exchange, const EventSource& source,
                                          std::uint64_t after) {
  const auto executor = co_await asio::this_coro::executor;
  const auto stream = std::make_shared<Stream>(executor, exchange);
  // Leaves the list however this ends.
  struct Listed {
    std::vector<Stream*>& all;
    Stream* mine;
    Listed(std::vector<Stream*>& list, Stream* stream_in) : all(list), mine(stream_in) {
      all.push_back(mine);
    }
    Listed(const Listed&) = delete;
    Listed& operator=(const Listed&) = delete;
    ~Listed() { all.erase(std::find(all.begin(), all.end(), mine)); }
  };
  const Listed listed(streams_, stream.get());

  const auto notice = std::make_shared<Notice>();
  notice->executor = executor;
  const std::function<void()> notify = [notice, weak = std::weak_ptr(stream)] {
    if (notice->told.exchange(true)) return;
    asio::post(notice->executor, [notice, weak] {
      notice->told = false;
      const auto still = weak.lock();
      if (!still) return;
      still->fresh = true;
      still->wake.notify();
    });
  };
  const auto subscription = source.subscribe(notify);

  const auto head = stream_head(exchange);
  const auto begun = co_await exchange.send_head(head);
  if (!begun) co_return;
  std::string text = "retry: " + std::to_string(options_.retry.count()) + "\n\n";
  bool first = true;
  while (!stream->ended) {
    stream->fresh = false;
    auto page = source.after(after, options_.batch);
    if (first && after > page.last) {
      // An id of another life of this log: everything in it is new to that reader.
      after = 0;
      page = source.after(after, options_.batch);
      page.gap = true;
    }
    if (page.gap) text += gap_event(page);
    first = false;
    for (const auto& event : page.events) {
      append_event(text, event);
      after = event.id;
    }
    if (!text.empty()) {
      const bool written = co_await write(stream, std::exchange(text, {}));
      if (!written) co_return;
    }
    if (!page.events.empty()) continue;  // there may be more
    const bool woken = co_await wait(stream);
    if (!woken) text = ": keep-alive\n\n";
  }
  const bool said = co_await write(stream, ": the daemon is stopping\n\n");
  if (!said) co_return;
  const std::vector<tunnel::Header> no_trailers;
  (void)co_await exchange.finish(no_trailers);
}

}  // namespace tunneld::admin
