#include "tunneld/upstream/agent_tickets.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include <openssl/rand.h>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "tunnel/wakeup.h"

namespace tunneld::upstream {

using tunnel::Code;
using tunnel::Refusal;
using tunnel::refuse;

/// One who waits for a transport. Touched on its home's thread only; others hold it weakly.
struct AgentTickets::Ticket::Wait {
  tunnel::Wakeup wakeup;
  Stream stream;
  std::optional<Refusal> refusal;
  bool abandoned = false;

  bool done() const { return stream || refusal; }
  void finish(Stream got, std::optional<Refusal> why) {
    if (done() || abandoned) return;
    stream = std::move(got);
    refusal = std::move(why);
    wakeup.notify();
  }
};

namespace {

using Wait = AgentTickets::Ticket::Wait;
using SessionCount = AgentTickets::SessionCount;

constexpr std::size_t kMaxReasonBytes = 200;

std::string random_ticket() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) return {};
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) text.append({kHex[byte >> 4], kHex[byte & 15]});
  return text;
}

/// A transport that counts among its agent's sessions while it is there.
class CountedStream final : public tunnel::ByteStream {
 public:
  CountedStream(std::unique_ptr<tunnel::ByteStream> stream, SessionCount count)
      : stream_(std::move(stream)), count_(std::move(count)) {
    count_->fetch_add(1, std::memory_order_relaxed);
  }
  ~CountedStream() override { count_->fetch_sub(1, std::memory_order_relaxed); }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    return stream_->read(into);
  }
  bool readable() const noexcept override { return stream_->readable(); }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return stream_->write(bytes);
  }
  asio::awaitable<Result<void>> write_pieces(std::span<const std::span<const std::byte>> pieces) override {
    return stream_->write_pieces(pieces);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return stream_->shutdown_write(); }
  void close() noexcept override { stream_->close(); }

 private:
  const std::unique_ptr<tunnel::ByteStream> stream_;
  const SessionCount count_;
};

void refuse_later(asio::io_context& home, std::weak_ptr<Wait> wait, Refusal why) {
  asio::post(home, [wait = std::move(wait), why = std::move(why)]() mutable {
    if (const auto late = wait.lock()) late->finish(nullptr, std::move(why));
  });
}

/// The way of a transport to who waits for it, as Claim::deliver.
class Delivery {
 public:
  Delivery(asio::io_context& home, std::weak_ptr<Wait> wait, SessionCount count, Refusal otherwise)
      : home_(home), wait_(std::move(wait)), count_(std::move(count)), otherwise_(std::move(otherwise)) {}
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;
  ~Delivery() {
    if (!delivered_) refuse_later(home_, std::move(wait_), std::move(otherwise_));
  }

  void deliver(std::unique_ptr<tunnel::ByteStream> stream) {
    if (std::exchange(delivered_, true)) return;
    if (const auto wait = wait_.lock())
      wait->finish(std::make_unique<CountedStream>(std::move(stream), count_), std::nullopt);
  }

 private:
  asio::io_context& home_;
  std::weak_ptr<Wait> wait_;
  SessionCount count_;
  Refusal otherwise_;
  bool delivered_ = false;
};

}  // namespace

Refusal agent_not_connected(const std::string& agent_id) {
  return {Code::no_agent, "agent " + agent_id + " is not connected"};
}

AgentTickets::Ticket::Ticket(std::shared_ptr<AgentTickets> tickets, asio::io_context& home, Agent of,
                             Clock::time_point expires)
    : tickets_(std::move(tickets)),
      home_(home),
      agent_id_(of.agent_id),
      expires_(expires),
      text_(random_ticket()),
      wait_(std::make_shared<Wait>()) {
  if (text_.empty()) return;
  const std::lock_guard lock(tickets_->mutex_);
  tickets_->openings_.emplace(text_, Opening{std::move(of), &home, wait_, expires});
}

AgentTickets::Ticket::~Ticket() {
  wait_->abandoned = true;
  wait_->stream.reset();
  const std::lock_guard lock(tickets_->mutex_);
  tickets_->openings_.erase(text_);
}

asio::awaitable<tunnel::Served<AgentTickets::Stream>> AgentTickets::Ticket::wait() {
  asio::steady_timer timer(home_, expires_);
  timer.async_wait([weak = std::weak_ptr<Wait>(wait_), id = agent_id_](boost::system::error_code ec) {
    const auto late = weak.lock();
    if (!ec && late)
      late->finish(nullptr, Refusal{Code::timed_out, "agent " + id + " opened no session in time"});
  });
  while (!wait_->done()) {
    const bool woken = co_await wait_->wakeup.wait();
    if (!woken && !wait_->done())
      co_return refuse(Code::unavailable, "agent " + agent_id_ + ": cancelled while waiting for a session");
  }
  if (wait_->refusal) co_return tl::unexpected<Refusal>(std::move(*wait_->refusal));
  co_return std::move(wait_->stream);
}

std::optional<AgentTickets::Opening> AgentTickets::take(std::string_view principal_key,
                                                        std::string_view ticket) {
  const std::lock_guard lock(mutex_);
  const auto found = openings_.find(ticket);
  if (found == openings_.end() || found->second.agent.principal_key != principal_key) return std::nullopt;
  Opening opening = std::move(found->second);
  openings_.erase(found);
  if (Clock::now() >= opening.expires) return std::nullopt;  // who waits has a timer
  return opening;
}

std::optional<AgentTickets::Claim> AgentTickets::redeem(std::string_view principal_key,
                                                        std::string_view ticket) {
  auto opening = take(principal_key, ticket);
  if (!opening) return std::nullopt;
  auto& agent = opening->agent;
  // It may well come about the next time.
  Refusal otherwise{Code::no_agent, "agent " + agent.agent_id + ": its session broke off as it began"};
  auto delivery = std::make_shared<Delivery>(*opening->home, std::move(opening->wait),
                                             std::move(agent.sessions), std::move(otherwise));
  return Claim{opening->home, std::move(agent.agent_id),
               [delivery](Stream stream) { delivery->deliver(std::move(stream)); }};
}

void AgentTickets::fail(std::string_view principal_key, std::string_view ticket, std::string_view reason) {
  auto opening = take(principal_key, ticket);
  if (!opening) return;
  std::string message = "agent " + opening->agent.agent_id + " cannot open a session: ";
  message += reason.substr(0, kMaxReasonBytes);
  refuse_later(*opening->home, std::move(opening->wait), Refusal{Code::unavailable, std::move(message)});
}

void AgentTickets::lose(std::uint64_t start) {
  std::vector<Opening> lost;
  {
    const std::lock_guard lock(mutex_);
    for (auto at = openings_.begin(); at != openings_.end();) {
      const bool its = at->second.agent.start == start;
      if (its) lost.push_back(std::move(at->second));
      at = its ? openings_.erase(at) : std::next(at);
    }
  }
  for (auto& opening : lost)
    refuse_later(*opening.home, std::move(opening.wait), agent_not_connected(opening.agent.agent_id));
}

std::vector<std::string> AgentTickets::of(std::uint64_t start) const {
  std::vector<std::string> texts;
  const std::lock_guard lock(mutex_);
  for (const auto& [text, opening] : openings_)
    if (opening.agent.start == start) texts.push_back(text);
  return texts;
}

}  // namespace tunneld::upstream
