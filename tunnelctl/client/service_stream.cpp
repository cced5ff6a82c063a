#include "tunnelctl/client/service_stream.h"

#include <cstring>
#include <utility>

#include "link/mux.h"

namespace tunnelctl::client {

ServiceStream::ServiceStream(std::unique_ptr<tunnel::ByteStream> inner, std::shared_ptr<std::size_t> open)
    : inner_(std::move(inner)), open_(std::move(open)) {
  ++*open_;
}

ServiceStream::~ServiceStream() {
  --*open_;
}

asio::awaitable<Result<std::size_t>> ServiceStream::read(std::span<std::byte> into) {
  while (!answer_.complete()) {
    auto got = co_await inner_->read(into);
    if (!got) co_return got;
    if (*got == 0) answer_.end();
    const auto used = *got == 0 ? 0 : answer_.feed({reinterpret_cast<const char*>(into.data()), *got});
    if (!answer_.complete()) continue;
    if (auto result = answer_.result(); !result) refusal_ = result.error();
    if (refusal_ || *got == 0) break;
    const auto rest = *got - used;
    if (rest == 0) break;
    std::memmove(into.data(), into.data() + used, rest);
    co_return rest;
  }
  if (refusal_) co_return fail(Error::Kind::denied, told(*refusal_));
  co_return co_await inner_->read(into);
}

asio::awaitable<Result<void>> ServiceStream::write(std::span<const std::byte> bytes) {
  return inner_->write(bytes);
}

asio::awaitable<Result<void>> ServiceStream::write_pieces(
    std::span<const std::span<const std::byte>> pieces) {
  return inner_->write_pieces(pieces);
}

asio::awaitable<Result<void>> ServiceStream::shutdown_write() {
  return inner_->shutdown_write();
}

void ServiceStream::close() noexcept {
  inner_->close();
}

bool ServiceStream::reset_by_peer() const {
  const auto* stream = dynamic_cast<const links::MuxStream*>(inner_.get());
  return stream != nullptr && stream->reset_by_peer();
}

}  // namespace tunnelctl::client
