#include "link/outlet.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <boost/asio/this_coro.hpp>

#include "link/yamux.h"
#include "tunnel/wakeup.h"

namespace links {
namespace {

constexpr std::size_t kSmallest = 2 * 1024;
/// More than that is not kept while there is nothing to send: thousands of multiplexers may be idle.
constexpr std::size_t kSmall = 32 * 1024;
/// A full one, the frame that made it full, and control frames.
constexpr std::size_t kLarge = StreamOutlet::kFull + yamux::kMaxDataBytes + 16 * 1024;

}  // namespace

void StreamOutlet::Batch::put(std::span<const std::byte> from) {
  if (from.empty()) return;
  std::memcpy(bytes.get() + size, from.data(), from.size());
  size += from.size();
}

void StreamOutlet::Batch::reserve(std::size_t wanted) {
  if (wanted <= capacity) return;
  // In two steps, not by doubling all the way: each step copies what is there.
  const auto least = wanted > kSmall ? kLarge : kSmallest;
  const auto larger_capacity = std::max({wanted, 2 * capacity, least});
  auto larger = std::make_unique_for_overwrite<std::byte[]>(larger_capacity);
  if (size > 0) std::memcpy(larger.get(), bytes.get(), size);
  bytes = std::move(larger);
  capacity = larger_capacity;
}

void StreamOutlet::Batch::release() {
  if (capacity <= kSmall) return;
  bytes.reset();
  capacity = size = 0;
}

void StreamOutlet::append(std::span<const std::byte> head, std::span<const std::byte> body) {
  filling_.reserve(filling_.size + head.size() + body.size());
  filling_.put(head);
  filling_.put(body);
}

asio::awaitable<Result<void>> StreamOutlet::drain() {
  if (filling_.size == 0) co_return Result<void>{};
  std::swap(filling_, sending_);
  const auto sent = co_await carrier_.write({sending_.bytes.get(), sending_.size});
  sending_.size = 0;
  co_return sent;
}

void StreamOutlet::release() {
  filling_.release();
  sending_.release();
}

asio::awaitable<Result<void>> LinkOutlet::drain() {
  const bool goes_on = co_await link_.wait_sendable();
  if (goes_on) co_return Result<void>{};
  const auto state = co_await asio::this_coro::cancellation_state;
  // What ended it is for who reads the link to tell.
  tunnel::Wakeup never;
  if (state.cancelled() == asio::cancellation_type::none) (void)co_await never.wait();
  co_return fail(Error::Kind::cancelled, "sending over the link was cancelled");
}

}  // namespace links
