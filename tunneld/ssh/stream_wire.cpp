#include <sys/eventfd.h>

#include <array>
#include <chrono>
#include <span>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/file_descriptor.h"
#include "tunnel/adaptive_buffer.h"
#include "tunneld/ssh/session_core.h"

namespace tunneld::ssh {
namespace {

// A goodbye is a courtesy: not to a far side that does not read, and not behind much that it has not read.
constexpr std::chrono::seconds kGoodbyeWithin{1};
constexpr std::size_t kGoodbyeBehindBytes = 64 * 1024;

/// The stream, and those who wait to use it. Coroutines share it and look for their session each time they
/// wake: a session nobody holds ends them.
struct Line {
  explicit Line(std::unique_ptr<tunnel::ByteStream> stream_in) : stream(std::move(stream_in)) {}

  void end_waiting() {
    input_wanted.cancel();
    output_there.cancel();
  }

  const std::unique_ptr<tunnel::ByteStream> stream;
  tunnel::Wakeup input_wanted;
  tunnel::Wakeup output_there;
  bool writing = false;
  bool leaving = false;  // a goodbye is under way, which closes the stream
};

std::span<const std::byte> span_of(const iovec& vector) {
  return {static_cast<const std::byte*>(vector.iov_base), vector.iov_len};
}

/// What to do with the next bytes of the stream: false to read no more.
bool take(SessionCore& core, const Result<std::size_t>& got, std::span<const std::byte> bytes) {
  if (core.dead()) return false;
  if (!got)
    core.fail_with("connection lost: " + got.error().message, "connection_lost");
  else if (*got == 0)
    core.fail_with("the far side closed the connection", "closed_by_peer");
  else
    core.received(bytes.first(*got));
  return !core.dead();
}

asio::awaitable<void> read_all(std::shared_ptr<Line> line, std::weak_ptr<SessionCore> session) {
  tunnel::AdaptiveBuffer buffer;
  for (;;) {
    const auto space = buffer.space();
    const auto got = co_await line->stream->read(space);
    bool read_on = false;
    {
      const auto core = session.lock();
      if (!core || !take(*core, got, space)) co_return;
      buffer.note(*got);
      read_on = core->wants_input();
    }
    if (read_on) continue;
    const bool wanted = co_await line->input_wanted.wait();
    if (!wanted) co_return;
  }
}

/// Writes until there is nothing left; false when the session is dead.
asio::awaitable<bool> write_batch(std::shared_ptr<Line> line, std::shared_ptr<SessionCore> core) {
  OutputBuffer& output = core->output();
  while (!core->dead() && !output.empty()) {
    std::array<iovec, 2> vectors{};
    const auto count = output.gather(vectors);
    const std::array pieces{span_of(vectors[0]), span_of(vectors[1])};
    line->writing = true;
    const auto sent = co_await line->stream->write_pieces(std::span(pieces).first(count));
    line->writing = false;
    if (core->dead()) co_return false;
    if (!sent) {
      core->fail_with("connection lost: " + sent.error().message, "connection_lost");
      co_return false;
    }
    output.consume(pieces[0].size() + pieces[1].size());
    if (core->output_low()) core->wake_channels();
  }
  co_return !core->dead();
}

/// Begins by waiting, so that nothing is written, and no failure told, from inside libssh2.
asio::awaitable<void> write_all(std::shared_ptr<Line> line, std::weak_ptr<SessionCore> session) {
  for (;;) {
    const bool there = co_await line->output_there.wait();
    if (!there) co_return;
    auto core = session.lock();
    if (!core) co_return;
    const bool alive = co_await write_batch(line, std::move(core));
    if (!alive) co_return;
  }
}

asio::awaitable<void> say_goodbye(std::shared_ptr<Line> line, std::vector<std::byte> last,
                                  asio::io_context& io) {
  asio::steady_timer limit(io, kGoodbyeWithin);
  limit.async_wait([weak = std::weak_ptr<Line>(line)](boost::system::error_code ec) {
    const auto late = weak.lock();
    if (!ec && late) late->stream->close();
  });
  co_await line->stream->write(last);
  limit.cancel();
  line->stream->close();
}

class StreamWire final : public Wire {
 public:
  StreamWire(asio::io_context& io, std::unique_ptr<tunnel::ByteStream> stream)
      : io_(io), line_(std::make_shared<Line>(std::move(stream))) {}
  ~StreamWire() override { close(); }

  int descriptor() override { return idle_descriptor(); }
  void arm_read(SessionCore& core) override {
    if (std::exchange(started_, true)) return line_->input_wanted.notify();
    const std::weak_ptr<SessionCore> session = core.shared();
    // A coroutine that throws met a bug or ran out of memory: the stream ends, and the session with it.
    const auto ended = [line = line_](std::exception_ptr thrown) {
      if (thrown) line->stream->close();
    };
    asio::co_spawn(io_, write_all(line_, session), ended);
    asio::co_spawn(io_, read_all(line_, session), ended);
  }
  void flush(SessionCore&) override { line_->output_there.notify(); }
  void send_last(OutputBuffer& output) override;
  void close() noexcept override {
    if (std::exchange(closed_, true)) return;
    if (!line_->leaving) line_->stream->close();
    line_->end_waiting();
  }

 private:
  asio::io_context& io_;
  const std::shared_ptr<Line> line_;
  bool started_ = false;
  bool closed_ = false;
};

void StreamWire::send_last(OutputBuffer& output) {
  if (line_->writing || output.size() > kGoodbyeBehindBytes) return;
  std::vector<std::byte> last;
  while (!output.empty()) {
    std::array<iovec, 1> front{};
    output.gather(front);
    const auto bytes = span_of(front[0]);
    last.insert(last.end(), bytes.begin(), bytes.end());
    output.consume(bytes.size());
  }
  line_->leaving = true;
  asio::co_spawn(io_, say_goodbye(line_, std::move(last), io_),
                 [line = line_](std::exception_ptr) { line->stream->close(); });
}

}  // namespace

std::unique_ptr<Wire> stream_wire(asio::io_context& io, std::unique_ptr<tunnel::ByteStream> stream) {
  return std::make_unique<StreamWire>(io, std::move(stream));
}

int idle_descriptor() {
  static const FileDescriptor descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  return descriptor.get();
}

}  // namespace tunneld::ssh
