#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"
#include "common/secret.h"
#include "edge/options.h"
#include "edge/websocket_client.h"
#include "link/link.h"
#include "tunnel/priority.h"
#include "tunnel/refusal.h"
#include "tunnelctl/client/carrier.h"
#include "tunnelctl/client/client_state.h"
#include "tunnelctl/client/pace.h"
#include "tunnelctl/client/retry.h"
#include "tunnelctl/client/server.h"
#include "tunnelctl/client/service_stream.h"

namespace tunnelctl::client {

/// Told what happens to a Tunnel, from its thread.
class TunnelListener {
 public:
  virtual ~TunnelListener() = default;
  virtual void on_state(const StateChange& change) = 0;
  /// Every attempt to connect, when its outcome is known.
  virtual void on_attempt(const Attempt& attempt) = 0;
  /// What a person should know and what is no change of state: maintenance ahead, a token that ends.
  virtual void on_notice(std::string_view line) = 0;
};

/// Makes the connections: edge::connect_websocket, or what a test puts in its place.
using Connect = std::function<
    asio::awaitable<tl::expected<std::unique_ptr<tunnel::WebSocketStream>, edge::ConnectFailure>>(
        edge::ClientTarget target, edge::ClientRequest request, edge::ConnectReport& report)>;

struct TunnelOptions {
  std::string path = "/ws";
  Backoff::Options backoff{};
  Backoff::First first = Backoff::First::at_once;
  /// False: one attempt, and the end with the connection.
  bool reconnect = true;
  links::LinkOptions link{};
  edge::Options websocket{};
  /// Between looks for a newer token in the file, once the server says that ours ends.
  std::chrono::milliseconds token_poll{5'000};
};

/// A connection to tunneld that carries streams to services (`/ws`, docs/api/links.md) and mends itself: a
/// carrier that breaks is replaced under its streams as long as the server's window lasts; after that they
/// break, visibly, and a new link takes the place of the old.
///
/// Threads: `io`'s one. run() must have returned before the Tunnel goes away, and nobody may wait in open().
class Tunnel {
 public:
  using Clock = std::chrono::steady_clock;
  Tunnel(asio::io_context& io, ServerSettings server, TunnelOptions options, TunnelListener& listener,
         Connect connect = {}, std::function<double()> random = {});
  ~Tunnel();
  Tunnel(const Tunnel&) = delete;
  Tunnel& operator=(const Tunnel&) = delete;

  /// Connects, and stays connected until cancelled, close(), or there is no use in going on:
  /// - denied: the token is refused, or it has expired and there is no newer one
  /// - timed_out: gave up after Backoff::Options::max_attempts
  /// - unavailable: nothing there that could be a tunneld, or the server said stop
  /// - cancelled: by the coroutine, or by close()
  asio::awaitable<Result<void>> run();

  /// A stream to that service, its opening line sent. Waits while there is no connection, until the deadline.
  /// Refuses with unavailable or timed_out; what the server says comes with the first read.
  asio::awaitable<tunnel::Served<std::unique_ptr<ServiceStream>>> open(std::string service,
                                                                       tunnel::Priority priority,
                                                                       Clock::time_point deadline);

  /// Ends the link and its WebSocket (1000) in good order: what has been written is delivered first, until
  /// the deadline. run() returns then. Waiters in open() are refused at once.
  asio::awaitable<void> close(Clock::time_point deadline);

  State state() const { return state_; }
  const ServerSettings& server() const { return server_; }
  /// Streams to services that are open.
  std::size_t streams() const { return *streams_; }
  /// Of the link's frames, over all connections: what was sent again counts again.
  struct Traffic {
    std::uint64_t bytes_in = 0, bytes_out = 0;
  };
  Traffic traffic() const;
  /// Of the connection it has now.
  tunnel::WebSocketStream::Vitals vitals() const;

 private:
  struct Line;
  /// What one attempt came to.
  struct Outcome {
    std::shared_ptr<links::Link> link{};  // on success
    bool gone = false;                    // the link cannot be resumed
    Verdict verdict{};
    std::string endpoint{};
  };

  /// Tries until there is a link, or `link` has a carrier again. not_found: it cannot be resumed any more.
  asio::awaitable<Result<std::shared_ptr<links::Link>>> reach(std::shared_ptr<links::Link> link, Verdict why);
  asio::awaitable<Outcome> attempt(std::shared_ptr<links::Link> link);
  asio::awaitable<Outcome> shake_hands(std::shared_ptr<links::Link> link,
                                       std::unique_ptr<tunnel::WebSocketStream> socket);
  /// Keeps a link until it is over. Why a new one is wanted, or the error that ends the tunnel.
  asio::awaitable<Result<Verdict>> live(std::shared_ptr<links::Link> link);
  Result<Verdict> look_back(const Line& line);
  /// Waits a moment for the close code behind a link's end.
  asio::awaitable<void> hear_out(std::shared_ptr<CarrierEnd> end);
  asio::awaitable<void> carry(std::shared_ptr<Line> line);
  asio::awaitable<void> keep_attached(std::shared_ptr<Line> line);
  asio::awaitable<void> converse(std::shared_ptr<Line> line);
  asio::awaitable<void> renew_token(std::shared_ptr<Line> line);
  void on_control(Line& line, std::string_view text);

  /// The network changed: a connection from an address that is gone will never be told so.
  void look_at_address();
  /// Whether a failed attempt ends the tunnel, and with which error.
  std::optional<Error> final_error(const Verdict& verdict) const;
  bool token_is_new() const;
  void set_state(State state, std::string why, bool resumed = false);
  asio::awaitable<bool> wait_for_change(Clock::time_point deadline);

  asio::io_context& io_;
  ServerSettings server_;
  TunnelOptions options_;
  TunnelListener& listener_;
  Connect connect_;
  Pace pace_;
  State state_ = State::disconnected;
  bool ever_connected_ = false;
  bool closing_ = false;
  Secret token_{};  // of the newest attempt
  std::shared_ptr<CarrierEnd> carrier_end_;
  Traffic earlier_{};  // over the connections before this one
  std::shared_ptr<Line> line_;
  std::shared_ptr<std::size_t> streams_ = std::make_shared<std::size_t>(0);
  std::set<asio::steady_timer*> waiters_;
};

}  // namespace tunnelctl::client
