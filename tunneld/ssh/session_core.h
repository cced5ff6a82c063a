#pragma once

#include <deque>
#include <list>
#include <string>
#include <vector>

#include <boost/asio/steady_timer.hpp>

#include "tunnel/wakeup.h"
#include "tunneld/ssh/libssh2_engine.h"
#include "tunneld/ssh/output_buffer.h"
#include "tunneld/ssh/session.h"
#include "tunneld/ssh/wire.h"

/// The session as its parts see it: handshake.cpp brings it up, a wire moves its bytes, session_core.cpp
/// makes something of them, channel.cpp lives on it. Nothing outside this folder includes this file.
namespace tunneld::ssh {

class ChannelStream;

class SessionCore final : public Session {
 public:
  SessionCore(asio::io_context& io, std::unique_ptr<Wire> wire, const Options& options,
              tunnel::Observer& observer, std::string peer);
  ~SessionCore() override;

  // Session
  asio::awaitable<tunnel::Served<std::unique_ptr<tunnel::ByteStream>>> open_channel(
      const std::string& host, std::uint16_t port, Deadline deadline) override;
  unsigned free_channels() const override;
  unsigned used_channels() const override { return used_; }
  bool alive() const override { return phase_ == Phase::running; }
  Deadline idle_since() const override { return idle_since_; }
  void on_channel_free(std::function<void()> listener) override { channel_free_ = std::move(listener); }
  void close() noexcept override;

  // For handshake.cpp: call again once input_arrived() returned true.
  LIBSSH2_SESSION* libssh2() const { return session_; }
  int fd() { return wire_->descriptor(); }
  asio::awaitable<bool> input_arrived();
  void start_reading() { arm_read(); }
  void start_running();
  /// "upstream home (192.0.2.7:22)", for messages.
  const std::string& peer() const { return peer_; }
  std::string last_error() const;
  std::string what_failed() const { return failure_; }

  // For channel.cpp
  const Options& options() const { return options_; }
  tunnel::Observer& observer() const { return observer_; }
  bool output_full() const { return output_.size() >= options_.output_high_bytes; }
  void request_flush();
  /// How far a channel's receive window may grow now.
  std::uint32_t window_limit() const;
  void attach(ChannelStream* channel) { channels_.push_back(channel); }
  /// The stream is gone: closes the libssh2 channel, in the background until the peer agreed.
  void detach(ChannelStream* channel, LIBSSH2_CHANNEL* handle);
  bool dead() const { return phase_ == Phase::dead; }

  // For its wire
  std::shared_ptr<SessionCore> shared() { return std::static_pointer_cast<SessionCore>(shared_from_this()); }
  /// Bytes of the far side. Not kept.
  void received(std::span<const std::byte> bytes);
  /// Whether the wire is to read on by itself, or only when it is asked again.
  bool wants_input() const;
  OutputBuffer& output() { return output_; }
  bool output_low() const { return output_.size() <= options_.output_low_bytes; }
  void flush();
  void wake_channels();
  /// Ends the session for a reason; all channels see it. Not from inside libssh2.
  void fail_with(std::string reason, std::string_view label);

 private:
  enum class Phase { handshake, running, dead };
  struct PendingOpen {
    engine_open* state = nullptr;
    std::string message;
    LIBSSH2_CHANNEL* channel = nullptr;
    std::string failure;  // libssh2's words when the far side refused
    bool done = false;
    bool abandoned = false;  // nobody waits any more; its channel is closed when it comes
    tunnel::Wakeup wakeup;
    ~PendingOpen() { engine_open_free(state); }
  };

  static ssize_t on_recv(libssh2_socket_t, void* buffer, size_t length, int, void** abstract);
  static ssize_t on_send(libssh2_socket_t, const void* buffer, size_t length, int, void** abstract);

  void arm_read();
  /// Feeds `bytes` to libssh2 and lets everything that waits look again.
  void take_input(std::span<const std::byte> bytes);
  void process();
  void step_opens();
  void step_closing();
  void die();
  void arm_keepalive();
  void on_keepalive();
  void release_channel();

  asio::io_context& io_;
  const std::unique_ptr<Wire> wire_;
  const Options options_;
  tunnel::Observer& observer_;
  const std::string peer_;
  LIBSSH2_SESSION* session_ = nullptr;
  Phase phase_ = Phase::handshake;
  std::string failure_;

  std::span<const std::byte> input_;   // the batch being processed
  std::size_t held_taken_ = 0;         // of held_input_, while in the handshake
  std::vector<std::byte> held_input_;  // what libssh2 has not taken yet: handshake only
  tunnel::Wakeup input_wakeup_;

  OutputBuffer output_;
  bool flush_posted_ = false;
  bool saying_goodbye_ = false;

  std::vector<ChannelStream*> channels_;
  std::list<std::shared_ptr<PendingOpen>> opens_;
  std::vector<LIBSSH2_CHANNEL*> closing_;
  unsigned used_ = 0;
  std::function<void()> channel_free_;
  Deadline idle_since_{};

  engine_seen seen_{};
  asio::steady_timer keepalive_timer_;
  Deadline last_received_{};
  Deadline keepalive_sent_{};
  bool keepalive_outstanding_ = false;
  unsigned keepalive_misses_ = 0;
};

/// One direct-tcpip channel as a ByteStream.
class ChannelStream final : public tunnel::ByteStream {
 public:
  ChannelStream(std::shared_ptr<SessionCore> session, LIBSSH2_CHANNEL* handle);
  ~ChannelStream() override { close(); }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override;
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override;
  asio::awaitable<Result<void>> shutdown_write() override;
  void close() noexcept override;
  bool readable() const noexcept override;

  LIBSSH2_CHANNEL* handle() const { return handle_; }
  /// Something happened on the session: whoever waits and can go on is woken.
  void look_again(bool session_dead);

 private:
  tl::unexpected<Error> broken(const char* doing) const;
  void grow_window(std::size_t just_read);

  std::shared_ptr<SessionCore> session_;
  LIBSSH2_CHANNEL* handle_;
  tunnel::Wakeup readable_;
  tunnel::Wakeup writable_;
  std::uint32_t window_;
  std::size_t read_since_growth_ = 0;
  std::chrono::steady_clock::time_point growth_started_{};
};

}  // namespace tunneld::ssh
