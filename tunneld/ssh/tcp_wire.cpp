#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

#include <boost/asio/post.hpp>

#include "tunneld/ssh/session_core.h"

namespace tunneld::ssh {
namespace {

using asio::ip::tcp;

constexpr std::size_t kInputBytes = 256 * 1024;
// A batch is this many reads at most; then other connections of the thread get their turn.
constexpr int kReadsPerBatch = 4;
// Full reads come from bulk data, which sshd's Nagle does not hold back: no need to hurry the ACK.
constexpr std::size_t kHurryAckBelowBytes = 32 * 1024;

/// One buffer serves all sessions of a thread: libssh2, drained until it wants more, keeps nothing
/// in it.
std::span<std::byte> input_buffer() {
  thread_local std::unique_ptr<std::byte[]> bytes = std::make_unique_for_overwrite<std::byte[]>(kInputBytes);
  return {bytes.get(), kInputBytes};
}

class TcpWire final : public Wire {
 public:
  explicit TcpWire(tcp::socket socket) : socket_(std::move(socket)) {}

  int descriptor() override { return socket_.native_handle(); }
  void arm_read(SessionCore& core) override;
  void flush(SessionCore& core) override;
  void send_last(OutputBuffer& output) override { send_now(output); }
  void close() noexcept override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  void on_readable(SessionCore& core);
  /// Writes what the socket takes: 0 when all went, else errno.
  int send_now(OutputBuffer& output);

  tcp::socket socket_;
  bool reading_ = false;
  bool waiting_writable_ = false;
};

void TcpWire::arm_read(SessionCore& core) {
  if (reading_) return;
  reading_ = true;
  socket_.async_wait(tcp::socket::wait_read, [this, held = core.shared()](boost::system::error_code ec) {
    reading_ = false;
    if (!ec) on_readable(*held);
  });
}

void TcpWire::on_readable(SessionCore& core) {
  if (core.dead()) return;
  std::size_t smallest = kInputBytes;
  for (int round = 0; round < kReadsPerBatch && !core.dead(); ++round) {
    auto buffer = input_buffer();
    ssize_t n = ::recv(descriptor(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (n < 0)
      return core.fail_with("connection lost: " + std::generic_category().message(errno), "connection_lost");
    if (n == 0) return core.fail_with("the far side closed the connection", "closed_by_peer");
    smallest = std::min(smallest, static_cast<std::size_t>(n));
    core.received(buffer.first(static_cast<std::size_t>(n)));
    if (static_cast<std::size_t>(n) < buffer.size()) break;
  }
  if (core.dead()) return;
  if (smallest < kHurryAckBelowBytes) {
    // sshd leaves Nagle on for sessions that only forward: its next small packet waits for our ACK,
    // which the kernel would delay by 40 ms. The option does not stick, so it is set again each time.
    int on = 1;
    ::setsockopt(descriptor(), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
  }
  if (core.wants_input()) arm_read(core);
}

int TcpWire::send_now(OutputBuffer& output) {
  while (!output.empty()) {
    std::array<iovec, 16> vectors;
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = output.gather(vectors);
    ssize_t n = ::sendmsg(descriptor(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      output.consume(static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

void TcpWire::flush(SessionCore& core) {
  if (waiting_writable_) return;
  const bool was_full = core.output_full();
  const int error = send_now(core.output());
  if (error == 0) {
    if (was_full) core.wake_channels();
    return;
  }
  waiting_writable_ = true;
  auto held = core.shared();
  if (error != EAGAIN) {
    // Reported from the loop: the caller may be deep inside libssh2.
    asio::post(socket_.get_executor(), [held, error] {
      held->fail_with("connection lost: " + std::generic_category().message(error), "connection_lost");
    });
    return;
  }
  socket_.async_wait(tcp::socket::wait_write, [this, held](boost::system::error_code ec) {
    if (ec) return;
    waiting_writable_ = false;
    held->flush();
    if (held->output_low()) held->wake_channels();
  });
}

}  // namespace

std::unique_ptr<Wire> tcp_wire(tcp::socket socket) {
  return std::make_unique<TcpWire>(std::move(socket));
}

}  // namespace tunneld::ssh
