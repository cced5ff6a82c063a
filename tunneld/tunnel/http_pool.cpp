#include "tunneld/tunnel/http_pool.h"

#include <algorithm>
#include <optional>
#include <variant>

#include <boost/asio/experimental/awaitable_operators.hpp>

namespace tunneld::tunnel {
namespace {

/// The target is part of the key: after a reload a name may mean another place.
std::string key_of(const access::Principal& principal, const Service& service) {
  std::string key = principal.key();
  key.append(1, '\0').append(service.upstream).append(1, '\0').append(service.name).append(1, '\0');
  return key.append(service.target_host).append(":").append(std::to_string(service.target_port));
}

}  // namespace

HttpPool::Waiter::Waiter(HttpPool& owner, std::string of) : pool(owner), key(std::move(of)) {
  pool.waiting_[key].push_back(this);
}

void HttpPool::Waiter::leave() {
  const auto queue = pool.waiting_.find(key);
  if (queue == pool.waiting_.end()) return;
  queue->second.remove(this);
  if (queue->second.empty()) pool.waiting_.erase(queue);
}

HttpPool::HttpPool(Dialer& dialer, DeadlineWatch& watch, Options options)
    : dialer_(dialer), watch_(watch), options_(options) {}

HttpPool::~HttpPool() {
  clear();
}

asio::awaitable<Served<HttpPool::Lease>> HttpPool::take(const access::Principal& principal,
                                                        const Service& service, Source source,
                                                        std::chrono::steady_clock::time_point deadline) {
  Lease lease;
  lease.key = key_of(principal, service);
  if (source == Source::idle_or_new) {
    const auto found = idle_.find(lease.key);
    while (found != idle_.end() && !found->second.empty()) {
      Idle newest = std::move(found->second.back());
      found->second.pop_back();
      --idle_count_;
      // Whatever arrived while nobody asked is the end, or an answer to nothing.
      if (newest.until <= DeadlineWatch::Clock::now() || newest.stream->readable()) {
        newest.stream->close();
        continue;
      }
      lease.stream = std::move(newest.stream);
      lease.reused = true;
      co_return lease;
    }
  }
  if (source == Source::idle_or_new)
    co_return co_await open_or_inherit(std::move(lease), principal, service, deadline);
  auto opened = co_await dialer_.open(principal, service, deadline);
  if (!opened) co_return tl::unexpected<Refusal>(std::move(opened.error()));
  lease.stream = std::move(*opened);
  co_return lease;
}

asio::awaitable<Served<HttpPool::Lease>> HttpPool::open_or_inherit(
    Lease lease, const access::Principal& principal, const Service& service,
    std::chrono::steady_clock::time_point deadline) {
  using namespace asio::experimental::awaitable_operators;
  Waiter waiter(*this, lease.key);
  auto first = co_await (dialer_.open(principal, service, deadline) || waiter.given.wait());
  waiter.leave();
  auto* const opened = std::get_if<0>(&first);
  if (opened != nullptr && *opened) {
    // One may have been given in the same turn of the loop: it goes to the next, or back.
    if (waiter.lease.stream) put(std::move(waiter.lease));
    lease.stream = std::move(**opened);
    co_return lease;
  }
  if (waiter.lease.stream) co_return std::move(waiter.lease);
  if (opened != nullptr) co_return tl::unexpected<Refusal>(std::move(opened->error()));
  co_return refuse(Code::unavailable, "cancelled while waiting for a channel");
}

void HttpPool::put(Lease lease) {
  if (!lease.stream) return;
  const auto waiting = waiting_.find(lease.key);
  if (waiting != waiting_.end() && !lease.stream->readable()) {
    for (Waiter* waiter : waiting->second) {
      if (waiter->lease.stream) continue;  // has one, and only waits for its turn of the loop
      lease.reused = true;
      waiter->lease = std::move(lease);
      waiter->given.notify();
      return;
    }
  }
  if (idle_count_ >= options_.max_idle || lease.stream->readable()) {
    lease.stream->close();
    return;
  }
  auto& channels = idle_[lease.key];
  if (channels.size() >= options_.max_idle_per_service) {
    lease.stream->close();
    return;
  }
  const auto until = DeadlineWatch::Clock::now() + options_.idle_limit;
  channels.push_back({std::move(lease.stream), until});
  ++idle_count_;
  if (!sweeping_) {
    sweeping_ = true;
    sweep_.watch_until(watch_, until);
  }
}

void HttpPool::clear() {
  for (auto& [key, channels] : idle_)
    for (auto& channel : channels) channel.stream->close();
  idle_.clear();
  idle_count_ = 0;
}

void HttpPool::sweep() {
  const auto now = DeadlineWatch::Clock::now();
  std::optional<DeadlineWatch::Clock::time_point> next;
  for (auto entry = idle_.begin(); entry != idle_.end();) {
    auto& channels = entry->second;
    const auto gone = [now](Idle& channel) {
      if (channel.until > now && !channel.stream->readable()) return false;
      channel.stream->close();
      return true;
    };
    idle_count_ -= std::erase_if(channels, gone);
    if (channels.empty()) {
      entry = idle_.erase(entry);
      continue;
    }
    next = std::min(next.value_or(channels.front().until), channels.front().until);
    ++entry;
  }
  sweeping_ = next.has_value();
  if (next) sweep_.watch_until(watch_, *next);
}

}  // namespace tunneld::tunnel
