#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"
#include "link/link_frames.h"
#include "tunnel/byte_stream.h"

namespace links {

namespace asio = boost::asio;

/// One carrier of a link and what belongs to it alone. Every coroutine that uses it holds it, so that one
/// that was replaced lives until its pending operations have ended.
struct Attachment {
  Attachment(const asio::any_io_executor& executor, std::unique_ptr<tunnel::ByteStream> carrier)
      : stream(std::move(carrier)), deadline(executor) {}
  ~Attachment();

  std::unique_ptr<tunnel::ByteStream> stream;
  FrameDecoder decoder;
  std::vector<std::byte> first;  // HELLO or WELCOME, when it leaves with the first data
  bool reading = false;          // the link's reader waits in stream->read()
  bool writing = false;          // a coroutine that writes runs, or is going to
  bool broken = false;           // a write failed
  bool leaving = false;          // the link has done with it: what is left, GONE, and the end
  std::string farewell;          // the frame GONE, or empty
  asio::steady_timer deadline;
};

/// Reads one frame, which must not be DATA, and nothing behind it; it is then in the decoder. bad_input: the
/// peer sent something else.
asio::awaitable<Result<FrameType>> read_frame(std::shared_ptr<Attachment> attachment);

/// `leaving` from here on, with a frame GONE or, if `farewell` is empty, without. The stream is closed when
/// `limit` is over.
void begin_to_leave(const std::shared_ptr<Attachment>& attachment, std::string farewell,
                    std::chrono::milliseconds limit);

/// Sends the farewell, ends our direction and reads to the peer's end, for a second at most: closing with
/// bytes unread would reset the connection, and the peer would not see why.
asio::awaitable<void> leave(std::shared_ptr<Attachment> attachment);

/// Ends a carrier that never became a link's own: the peer is told of its own mistake (bad_input, denied,
/// not_found), of other errors the carrier knows itself.
void refuse(const asio::any_io_executor& executor, const std::shared_ptr<Attachment>& attachment,
            const Error& error);

}  // namespace links
