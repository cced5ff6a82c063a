#include "edge/raw_stream.h"

#include <algorithm>
#include <cstring>

namespace edge {

RawStream::RawStream(std::shared_ptr<Transport> transport, std::string early)
    : transport_(std::move(transport)), early_(std::move(early)) {}

RawStream::~RawStream() {
  transport_->close();
}

asio::awaitable<Result<std::size_t>> RawStream::read(std::span<std::byte> into) {
  if (early_.empty()) co_return co_await transport_->read(into, Transport::kNever);
  const auto size = std::min(into.size(), early_.size());
  std::memcpy(into.data(), early_.data(), size);
  early_.erase(0, size);
  if (early_.empty()) early_ = {};
  co_return size;
}

asio::awaitable<Result<void>> RawStream::write(std::span<const std::byte> bytes) {
  return transport_->write(bytes);
}

asio::awaitable<Result<void>> RawStream::shutdown_write() {
  return transport_->shutdown_write();
}

void RawStream::close() noexcept {
  transport_->close();
}

}  // namespace edge
