#include "tunnel/http_pool.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace tunnel {
namespace {

/// What a service's channels are kept under, after the channel_group(). The target is part of it: after a
/// reload a name may mean another place.
void append_service(std::string& key, const Service& service) {
  key.append(1, '\0').append(service.name).append(1, '\0');
  key.append(service.target_host).append(":").append(std::to_string(service.target_port));
}

}  // namespace

HttpPool::HttpPool(Dialer& dialer, DeadlineWatch& watch, Options options)
    : dialer_(dialer), watch_(watch), options_(options) {
  dialer_.on_place_wanted([this](std::string_view group) { return close_idle_of(group); });
}

HttpPool::~HttpPool() {
  dialer_.on_place_wanted(nullptr);
  clear();
}

asio::awaitable<Served<HttpPool::Lease>> HttpPool::take(OpenRequest request, Source source) {
  Lease lease;
  lease.key = channel_group(request.principal, request.service.upstream);
  lease.group_bytes = lease.key.size();
  append_service(lease.key, request.service);
  OpenReport report;
  if (request.report == nullptr) request.report = &report;
  request.report->reused = false;
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
      lease.reused = request.report->reused = true;
      co_return lease;
    }
    request.reuse_key = lease.key;
  }
  auto opened = co_await dialer_.open(request);
  if (!opened) co_return tl::unexpected<Refusal>(std::move(opened.error()));
  lease.stream = std::move(*opened);
  lease.reused = request.report->reused;
  co_return lease;
}

void HttpPool::put(Lease lease) {
  if (!lease.stream) return;
  if (!lease.stream->readable()) {
    const auto group = std::string_view(lease.key).substr(0, lease.group_bytes);
    const auto offer = dialer_.offer(group, lease.key, lease.stream);
    if (offer == Dialer::Offer::taken) return;
    if (offer == Dialer::Offer::place_wanted) {
      lease.stream->close();
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

bool HttpPool::close_idle_of(std::string_view group) {
  std::vector<Idle>* oldest = nullptr;
  for (auto& [key, channels] : idle_) {
    // A group is followed by NUL and the service, so that "a" is not taken for "ab".
    if (channels.empty() || key.size() <= group.size() || key[group.size()] != '\0' ||
        !key.starts_with(group))
      continue;
    if (oldest == nullptr || channels.front().until < oldest->front().until) oldest = &channels;
  }
  if (oldest == nullptr) return false;
  Idle closing = std::move(oldest->front());
  oldest->erase(oldest->begin());
  --idle_count_;
  closing.stream->close();
  return true;
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

}  // namespace tunnel
