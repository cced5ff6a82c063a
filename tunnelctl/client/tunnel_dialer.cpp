#include "tunnelctl/client/tunnel_dialer.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>

#include "tunnel/wakeup.h"
#include "tunnelctl/client/tunnel.h"

namespace tunnelctl::client {
namespace {

using tunnel::Code;
using tunnel::QueueExit;
using tunnel::Refusal;
using tunnel::refuse;
using StreamResult = tunnel::Served<std::unique_ptr<tunnel::ByteStream>>;

/// The ledger gives one principal a quarter of its memory, and there is only one here.
constexpr std::size_t kShares = 4;

Refusal stopping() {
  return {Code::unavailable, "tunnelctl is stopping"};
}

Refusal too_late() {
  return {Code::timed_out, "there was no connection to the server in time; the request was not sent"};
}

Refusal evicted() {
  return {Code::queue_full, "dropped from the queue, which is nearly full, for requests of higher priority"};
}

}  // namespace

StreamSource streams_of(Tunnel& tunnel) {
  return {.open =
              [&tunnel](std::string service, tunnel::Priority priority,
                        StreamSource::Clock::time_point deadline) {
                return tunnel.open(std::move(service), priority, deadline);
              },
          .connected = [&tunnel] { return tunnel.state() == State::connected; }};
}

/// What streams need of the dialer; outlives it with them.
struct TunnelDialer::Shared {
  StreamSource source;
  TunnelDialer* dialer = nullptr;
  std::set<Stream*> streams{};
  std::size_t going = 0;
  std::uint64_t losses = 0;  // of the connection
  bool keeps = true;         // streams for further requests
};

/// One that was let go and whose answer has not begun.
struct TunnelDialer::Going {
  explicit Going(std::shared_ptr<Shared> shared_in) : shared(std::move(shared_in)) { ++shared->going; }
  ~Going() {
    --shared->going;
    if (shared->dialer == nullptr) return;
    // Comes from the depths of a stream: the next is let go in the next turn of the loop.
    asio::post(shared->dialer->io_, [shared = shared] {
      if (shared->dialer != nullptr) shared->dialer->serve();
    });
  }
  Going(const Going&) = delete;
  Going& operator=(const Going&) = delete;

  std::shared_ptr<Shared> shared;
};

class TunnelDialer::Stream final : public tunnel::ByteStream {
 public:
  Stream(std::shared_ptr<Shared> shared, std::unique_ptr<ServiceStream> inner)
      : shared_(std::move(shared)), inner_(std::move(inner)), losses_(shared_->losses) {
    shared_->streams.insert(this);
  }
  ~Stream() override { shared_->streams.erase(this); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Of the request that it is for now.
  void begin(std::shared_ptr<Going> going, std::shared_ptr<StreamNews> news) {
    going_ = std::move(going);
    news_ = std::move(news);
    heard_ = false;
  }
  std::shared_ptr<Going> end() {
    news_.reset();
    return std::move(going_);
  }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    // A short answer comes whole in one read, and its place goes on with the stream to whoever is next. Who
    // reads on has a longer one, such as a stream of events, which must not keep the place.
    if (heard_) end();
    auto got = co_await inner_->read(into);
    if (got && *got > 0) heard_ = true;
    if (!got) note_failure();
    co_return got;
  }
  /// Of an idle stream that means: of no use any more. A link that was lost may have taken it along, and
  /// while there is none a request must wait where it can still be taken back.
  bool readable() const noexcept override {
    return !shared_->keeps || closed_ || shared_->losses != losses_ || !shared_->source.connected() ||
           inner_->readable();
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return inner_->write(bytes);
  }
  asio::awaitable<Result<void>> write_pieces(std::span<const std::span<const std::byte>> pieces) override {
    return inner_->write_pieces(pieces);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return inner_->shutdown_write(); }
  void close() noexcept override {
    closed_ = true;
    going_.reset();
    inner_->close();
  }

 private:
  void note_failure() {
    if (!news_ || heard_ || closed_) return;
    if (inner_->refusal())
      news_->refusal = inner_->refusal();
    else
      news_->link_broke = !inner_->reset_by_peer();
  }

  const std::shared_ptr<Shared> shared_;
  const std::unique_ptr<ServiceStream> inner_;
  const std::uint64_t losses_;
  std::shared_ptr<Going> going_{};
  std::shared_ptr<StreamNews> news_{};
  bool heard_ = false;
  bool closed_ = false;
};

/// One request in the queue.
struct TunnelDialer::Waiter {
  explicit Waiter(asio::io_context& io) : expiry(io) {}
  bool over() const { return going || refusal; }

  std::shared_ptr<StreamNews> news{};
  std::string_view reuse_key{};
  asio::steady_timer expiry;
  tunnel::Wakeup wakeup{};
  tunnel::QueueLedger::Place ledger{};
  Queue::Place place{};
  bool queued = false;
  // How it ended
  std::shared_ptr<Going> going{};
  std::unique_ptr<tunnel::ByteStream> stream{};  // that another request gave back
  std::optional<Refusal> refusal{};
};

/// Leaves the queue when the wait ends early.
struct TunnelDialer::Standing {
  TunnelDialer& dialer;
  const std::shared_ptr<Waiter>& waiter;
  ~Standing() {
    if (std::exchange(waiter->queued, false)) dialer.queue_.remove(waiter->place);
    waiter->ledger.leave(QueueExit::abandoned);
  }
};

TunnelDialer::Attention::Attention(TunnelDialer& dialer, const tunnel::Service& service,
                                   std::shared_ptr<StreamNews> news)
    : dialer_(dialer), service_(service) {
  dialer_.attended_[&service_] = std::move(news);
}

TunnelDialer::Attention::~Attention() {
  dialer_.attended_.erase(&service_);
}

TunnelDialer::TunnelDialer(asio::io_context& io, StreamSource source, Options options,
                           std::function<void(tunnel::FlowLevel, double)> on_level)
    : io_(io),
      options_(options),
      shared_(std::make_shared<Shared>(Shared{.source = std::move(source), .dialer = this})),
      ledger_({.total_bytes = kShares * options.queue_bytes}, observer_,
              [on_level = std::move(on_level)](const std::string&, tunnel::FlowLevel level, double fill) {
                if (on_level) on_level(level, fill);
              }),
      hold_timer_(io) {}

TunnelDialer::~TunnelDialer() {
  shared_->dialer = nullptr;
}

std::size_t TunnelDialer::on_their_way() const {
  return shared_->going;
}

bool TunnelDialer::ready() const {
  return shared_->source.connected() && Clock::now() >= held_until_;
}

asio::awaitable<StreamResult> TunnelDialer::open(const tunnel::OpenRequest& request) {
  const auto attended = attended_.find(&request.service);
  const auto news = attended == attended_.end() ? std::make_shared<StreamNews>() : attended->second;
  news->refusal.reset();
  news->link_broke = false;
  const auto deadline = std::min(request.deadline, news->wait_until);
  for (;;) {
    if (closed_) co_return tl::unexpected<Refusal>(stopping());
    std::shared_ptr<Going> going;
    // Who comes now must not overtake those who wait.
    if (!ready() || !queue_.empty()) {
      auto turn = co_await wait_turn(request, news);
      if (!turn) co_return tl::unexpected<Refusal>(std::move(turn.error()));
      auto& waiter = **turn;
      going = std::move(waiter.going);
      if (waiter.stream) {
        static_cast<Stream&>(*waiter.stream).begin(std::move(going), news);
        if (request.report != nullptr) request.report->reused = true;
        co_return std::move(waiter.stream);
      }
      // The connection may have gone again between the turn and now.
      if (!ready()) continue;
    }
    auto opening = shared_->source.open(request.service.name, request.priority, deadline);
    auto opened = co_await std::move(opening);
    if (opened) {
      auto stream = std::make_unique<Stream>(shared_, std::move(*opened));
      stream->begin(std::move(going), news);
      co_return std::unique_ptr<tunnel::ByteStream>(std::move(stream));
    }
    if (Clock::now() >= deadline) co_return tl::unexpected<Refusal>(too_late());
    // Nothing of the request has left, so it may wait for a better moment.
    hold_until(Clock::now() + options_.breath);
  }
}

asio::awaitable<tunnel::Served<std::shared_ptr<TunnelDialer::Waiter>>> TunnelDialer::wait_turn(
    const tunnel::OpenRequest& request, std::shared_ptr<StreamNews> news) {
  const auto deadline = std::min(request.deadline, news->wait_until);
  if (Clock::now() >= deadline) co_return tl::unexpected<Refusal>(too_late());
  const auto waiter = std::make_shared<Waiter>(io_);
  auto evict = [&io = io_, shared = shared_, weak = std::weak_ptr<Waiter>(waiter)] {
    asio::post(io, [shared, weak] {
      const auto late = weak.lock();
      if (late && late->queued && shared->dialer != nullptr)
        shared->dialer->fail(*late, evicted(), QueueExit::evicted);
    });
  };
  const auto principal = request.principal.key();
  auto place = ledger_.enter({.principal = principal,
                              .capacity = request.queue_capacity,
                              .priority = request.priority,
                              .bytes = request.held_bytes,
                              .evict = std::move(evict)});
  if (!place) co_return tl::unexpected<Refusal>(std::move(place.error()));
  waiter->ledger = std::move(*place);
  waiter->news = std::move(news);
  waiter->reuse_key = request.reuse_key;
  waiter->place = queue_.push(request.priority, waiter);
  waiter->queued = true;
  const Standing standing{*this, waiter};
  waiter->expiry.expires_at(deadline);
  waiter->expiry.async_wait(
      [shared = shared_, weak = std::weak_ptr<Waiter>(waiter)](boost::system::error_code error) {
        const auto late = weak.lock();
        if (!error && late && late->queued && shared->dialer != nullptr)
          shared->dialer->fail(*late, too_late(), QueueExit::expired);
      });

  const auto began = Clock::now();
  serve();
  bool woken = true;
  while (!waiter->over() && woken) woken = co_await waiter->wakeup.wait();
  waiter->expiry.cancel();
  if (request.report != nullptr) request.report->queued += Clock::now() - began;
  if (waiter->refusal) co_return tl::unexpected<Refusal>(std::move(*waiter->refusal));
  if (!waiter->over()) co_return refuse(Code::unavailable, "cancelled while waiting for the connection");
  co_return waiter;
}

void TunnelDialer::serve() {
  while (!closed_ && !queue_.empty() && shared_->going < options_.let_go && ready()) {
    const auto waiter = take_next();
    if (!waiter) return;
    waiter->going = std::make_shared<Going>(shared_);
    waiter->wakeup.notify();
  }
}

std::shared_ptr<TunnelDialer::Waiter> TunnelDialer::take_next() {
  while (!queue_.empty()) {
    auto waiter = queue_.take();
    waiter->queued = false;
    if (waiter->ledger.leave(QueueExit::served)) return waiter;
    // Struck off the books a moment ago; the word of it is still on its way.
    waiter->refusal = evicted();
    waiter->wakeup.notify();
  }
  return nullptr;
}

void TunnelDialer::fail(Waiter& waiter, Refusal why, QueueExit how) {
  if (std::exchange(waiter.queued, false)) queue_.remove(waiter.place);
  waiter.ledger.leave(how);
  waiter.refusal = std::move(why);
  waiter.wakeup.notify();
}

tunnel::Dialer::Offer TunnelDialer::offer(std::string_view, std::string_view reuse_key,
                                          std::unique_ptr<tunnel::ByteStream>& stream) {
  auto& given = static_cast<Stream&>(*stream);
  auto going = given.end();
  if (closed_ || queue_.empty() || !ready()) return Offer::unwanted;
  if (!going && shared_->going >= options_.let_go) return Offer::unwanted;
  const auto& next = **queue_.next();
  if (next.news->only_new || next.reuse_key != reuse_key) return Offer::place_wanted;
  const auto waiter = take_next();
  if (!waiter) return Offer::unwanted;
  // After an eviction it may be somebody else than the one looked at.
  const bool suits = !waiter->news->only_new && waiter->reuse_key == reuse_key;
  waiter->going = going ? std::move(going) : std::make_shared<Going>(shared_);
  waiter->wakeup.notify();
  if (!suits) return Offer::place_wanted;
  waiter->stream = std::move(stream);
  return Offer::taken;
}

void TunnelDialer::source_changed() {
  if (!shared_->source.connected())
    ++shared_->losses;
  else
    serve();
}

void TunnelDialer::hold_until(Clock::time_point time) {
  if (time <= held_until_) return;
  held_until_ = time;
  hold_timer_.expires_at(time);
  hold_timer_.async_wait([shared = shared_](boost::system::error_code error) {
    if (!error && shared->dialer != nullptr) shared->dialer->serve();
  });
}

void TunnelDialer::keep_none() {
  shared_->keeps = false;
}

void TunnelDialer::close() {
  closed_ = true;
  keep_none();
  while (!queue_.empty()) {
    const auto waiter = queue_.take();
    waiter->queued = false;
    fail(*waiter, stopping(), QueueExit::failed);
  }
  const std::vector<Stream*> open(shared_->streams.begin(), shared_->streams.end());
  for (auto* stream : open) stream->close();
}

}  // namespace tunnelctl::client
