#pragma once

#include <memory>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "tunnel/byte_stream.h"
#include "tunneld/ssh/output_buffer.h"

/// What moves a session's bytes. Nothing outside this folder includes this file.
namespace tunneld::ssh {

namespace asio = boost::asio;

class SessionCore;

/// One for each session, which owns it. Input goes to SessionCore::received(), failures to fail_with(), both
/// from the event loop; output comes from SessionCore::output(). All calls on the session's thread.
class Wire {
 public:
  virtual ~Wire() = default;
  /// libssh2 wants one at the handshake and sets it non-blocking; it is not read or written there.
  virtual int descriptor() = 0;
  /// Input is wanted; goes on by itself while SessionCore::wants_input().
  virtual void arm_read(SessionCore& core) = 0;
  /// There is output. What cannot go now goes later. May be called from inside libssh2.
  virtual void flush(SessionCore& core) = 0;
  /// Sends the last bytes as far as that needs no waiting; close() follows.
  virtual void send_last(OutputBuffer& output) = 0;
  /// Ends both directions. Idempotent.
  virtual void close() noexcept = 0;
};

/// A connected socket. One input buffer serves all sessions of a thread, output goes by writev, and the far
/// side's Nagle is kept from waiting for our ACKs. The session lives as long as the socket is open.
std::unique_ptr<Wire> tcp_wire(asio::ip::tcp::socket socket);

/// Any stream: one read and one write under way at a time. A session that nobody holds any more closes it.
std::unique_ptr<Wire> stream_wire(asio::io_context& io, std::unique_ptr<tunnel::ByteStream> stream);

/// Of the process, for sessions that have none of their own; negative when there is none to be had. Already
/// non-blocking: libssh2 would otherwise put the mode back when the session ends.
int idle_descriptor();

}  // namespace tunneld::ssh
