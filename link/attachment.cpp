#include "link/attachment.h"

#include <array>
#include <exception>

#include <openssl/crypto.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace links {

namespace {

constexpr std::chrono::seconds kPeersEndLimit{1};

void close_after(const std::shared_ptr<Attachment>& attachment, std::chrono::milliseconds limit) {
  attachment->deadline.expires_after(limit);
  attachment->deadline.async_wait([weak = std::weak_ptr(attachment)](boost::system::error_code error) {
    if (error) return;
    if (const auto held = weak.lock()) held->stream->close();
  });
}

}  // namespace

Attachment::~Attachment() {
  OPENSSL_cleanse(first.data(), first.size());
}

asio::awaitable<Result<FrameType>> read_frame(std::shared_ptr<Attachment> attachment) {
  auto& decoder = attachment->decoder;
  std::array<std::byte, 128> buffer;
  for (;;) {
    const auto got = co_await attachment->stream->read(std::span(buffer).first(decoder.missing()));
    if (!got) co_return tl::unexpected(got.error());
    if (*got == 0)
      co_return fail(Error::Kind::unavailable, "the connection ended within the link's handshake");
    const auto step = decoder.decode(std::span(buffer).first(*got), buffer.data());
    OPENSSL_cleanse(buffer.data(), buffer.size());
    if (step.event == FrameDecoder::Event::failed)
      co_return fail(Error::Kind::bad_input, std::string(decoder.error()));
    if (step.event == FrameDecoder::Event::data)
      co_return fail(Error::Kind::bad_input, "DATA before the handshake was over");
    if (step.event == FrameDecoder::Event::control) co_return decoder.type();
  }
}

void begin_to_leave(const std::shared_ptr<Attachment>& attachment, std::string farewell,
                    std::chrono::milliseconds limit) {
  attachment->leaving = true;
  attachment->farewell = std::move(farewell);
  close_after(attachment, limit);
}

asio::awaitable<void> leave(std::shared_ptr<Attachment> attachment) {
  auto& stream = *attachment->stream;
  Result<void> sent;
  if (!attachment->farewell.empty())
    sent = co_await stream.write(std::as_bytes(std::span(attachment->farewell)));
  if (sent) sent = co_await stream.shutdown_write();
  if (sent) close_after(attachment, kPeersEndLimit);
  // The link's reader that still waits there reads to the end itself.
  if (sent && attachment->reading) co_return;
  std::array<std::byte, 512> dropped;
  while (sent) {
    const auto got = co_await stream.read(dropped);
    if (!got || *got == 0) break;
  }
  attachment->deadline.cancel();
  stream.close();
}

void refuse(const asio::any_io_executor& executor, const std::shared_ptr<Attachment>& attachment,
            const Error& error) {
  const bool theirs = error.kind == Error::Kind::bad_input || error.kind == Error::Kind::denied ||
                      error.kind == Error::Kind::not_found;
  if (!theirs) return attachment->stream->close();
  begin_to_leave(attachment, encode_gone(error.message), kPeersEndLimit);
  asio::co_spawn(executor, leave(attachment), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
}

}  // namespace links
