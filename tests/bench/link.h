#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "endpoint.h"
#include "loop.h"
#include "socket.h"
#include "websocket.h"

namespace bench {

/// One stream of bytes to an endpoint, whatever carries it: TCP, TLS, a WebSocket on either. For HTTP
/// endpoints it is the connection itself. Lives on its loop's thread.
///
/// Its owner is called back and must not destroy it inside a call: close() it and drop it later.
class Link final : public Watched, private FrameReader::Sink {
 public:
  struct Owner {
    /// Bytes pass from now on. Not called for accepted connections.
    virtual void opened(Link& link) = 0;
    virtual void received(Link& link, std::span<const std::byte> bytes) = 0;
    /// In discard mode: so many bytes came and were dropped.
    virtual void discarded(Link& link, std::size_t count) = 0;
    /// The backlog is empty again after it was not.
    virtual void drained(Link& link) = 0;
    /// Last call. `why` is empty for an orderly end by the peer.
    virtual void ended(Link& link, const std::string& why) = 0;

   protected:
    ~Owner() = default;
  };

  /// `tls` may be null unless the endpoint needs it.
  Link(Loop& loop, const Endpoint& to, const std::string& token, TlsClient* tls, Owner& owner);
  /// An accepted TCP connection.
  Link(Loop& loop, int fd, Owner& owner);
  ~Link();

  void send(std::span<const std::byte> bytes);
  /// Bytes that wait for the kernel.
  std::size_t backlog() const { return socket_.backlog(); }
  bool is_open() const { return state_ == State::open; }

  /// From now on incoming bytes are only counted, where possible without copying them.
  void discard_input() { discard_ = true; }
  void pause();
  void resume();
  /// drained() is called once the kernel takes bytes, though nothing waits: lets others go first.
  void call_when_writable();

  /// Says goodbye (close frame, FIN) after what is queued; ended() follows when the peer agrees.
  void finish();
  /// At once. No call follows.
  void close();

 private:
  enum class State { connecting, upgrading, open, closed };
  void ready(std::uint32_t events) override;
  void advance();
  void read_some();
  void take(std::span<const std::byte> bytes);
  void payload(std::span<const std::byte> bytes) override;
  void control(Opcode opcode, std::span<const std::byte> bytes) override;
  void write_out();
  void send_frame(Opcode opcode, std::span<const std::byte> payload);
  void watch();
  void end(const std::string& why);

  Loop& loop_;
  Owner& owner_;
  Socket socket_;
  State state_;
  bool websocket_ = false;
  bool discard_ = false;
  bool paused_ = false;
  bool goodbye_ = false;
  bool call_when_writable_ = false;
  std::string failure_;  // of a send, reported by the next turn
  std::uint32_t watching_ = 0;
  std::optional<Upgrade> upgrade_;
  std::string answer_;
  FrameReader frames_;
};

}  // namespace bench
