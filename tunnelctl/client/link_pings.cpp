#include "tunnelctl/client/link_pings.h"

#include <algorithm>

namespace tunnelctl::client {
namespace {

std::uint32_t number_at(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (const auto byte : bytes) value = value << 8 | std::to_integer<std::uint32_t>(byte);
  return value;
}

}  // namespace

asio::awaitable<Result<std::size_t>> PingedLink::read(std::span<std::byte> into) {
  auto got = co_await link_->read(into);
  if (got) look_at(into.first(*got));
  co_return got;
}

asio::awaitable<Result<void>> PingedLink::write(std::span<const std::byte> bytes) {
  writing_ = true;
  auto sent = co_await link_->write(bytes);
  writing_ = false;
  co_return sent;
}

bool PingedLink::ping(std::uint32_t value) {
  if (writing_) return false;
  return link_->append(yamux::encode({yamux::Type::ping, yamux::kSyn, 0, value}), {});
}

void PingedLink::look_at(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto size =
        std::min(bytes.size(), payload_left_ > 0 ? payload_left_ : header_.size() - header_bytes_);
    if (payload_left_ > 0) {
      payload_left_ -= size;
    } else {
      std::copy_n(bytes.begin(), size, header_.begin() + static_cast<std::ptrdiff_t>(header_bytes_));
      header_bytes_ += size;
      if (header_bytes_ == header_.size()) look_at_header();
    }
    bytes = bytes.subspan(size);
  }
}

void PingedLink::look_at_header() {
  header_bytes_ = 0;
  const std::span<const std::byte> header(header_);
  const auto type = std::to_integer<unsigned>(header[1]);
  const auto flags = number_at(header.subspan(2, 2));
  const auto length = number_at(header.subspan(8, 4));
  if (type == static_cast<unsigned>(yamux::Type::data)) payload_left_ = length;
  const bool pong = type == static_cast<unsigned>(yamux::Type::ping) && (flags & yamux::kAck) != 0;
  if (pong && listener_) listener_(length);
}

}  // namespace tunnelctl::client
