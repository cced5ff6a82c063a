#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "tunnel/http_exchange.h"
#include "tunnelctl/client/kept_requests.h"
#include "tunnelctl/client/listeners.h"
#include "tunnelctl/client/tunnel_dialer.h"

namespace tunnelctl::client {

struct HttpOptions {
  /// Requests that may wait for the connection, 10 to 1000.
  std::size_t queue = 100;
  /// Of a request without X-Tunnel-Timeout: what it may wait here, and then for its answer and in pauses of
  /// that.
  std::chrono::milliseconds request_timeout{30'000};
  TunnelDialer::Options dialer{};
  /// Where requests are kept that the end of the program leaves over; null: nowhere. Outlives the listeners.
  KeptRequests* keep_in = nullptr;
  /// Fields that are not kept, beyond the credentials that never are.
  std::vector<std::string> keep_without{};
};

/// Ports of this machine whose HTTP requests go to services through the tunnel, and wait here while there is
/// no connection (TunnelDialer). Forwarding is tunnel::HttpForward's, so that X-Tunnel-Priority,
/// X-Tunnel-Timeout and Idempotency-Key mean what they mean at tunneld. The service gets the caller's own
/// Authorization, and the Host that the caller named, as over a plain forwarded port.
///
/// At most once: a request is sent again only when the server refused its stream for the moment (nothing was
/// handed to the service), or when the link broke for good before an answer and the request is idempotent;
/// and only while its body is at hand (16 KiB). Otherwise it is answered with TUNNEL_013, or with what the
/// server said. A request that cannot be sent again never travels on a stream that another one has used, for
/// that may be about to end.
///
/// With HttpOptions::keep_in, refuse_rest() keeps those that wait, of high priority, that may_be_kept() and
/// of which nothing has left; their callers get 503 all the same, which says so. The next run sends them,
/// restore(): again after whatever is no answer, until they are too old. An answer goes nowhere but into a
/// line for the person.
///
/// Threads: the context's one. Once started, active() and connections() must be 0 before it goes away.
class HttpListeners {
 public:
  /// `tell` gets a line for a person when the queue fills up.
  HttpListeners(asio::io_context& io, StreamSource source, HttpOptions options,
                std::function<void(std::string_view line)> tell = {});
  ~HttpListeners();
  HttpListeners(const HttpListeners&) = delete;
  HttpListeners& operator=(const HttpListeners&) = delete;

  /// Binds all of them, or none; accepts from then on.
  tl::expected<void, Listeners::Failure> bind(const std::vector<Forward>& forwards);
  /// As bound: port 0 has become a number.
  const std::vector<Forward>& forwards() const;
  /// What serves the requests to that service; lives as long as this.
  tunnel::HttpHandler& handler_for(const std::string& service);

  /// Begins to send what earlier runs have left in HttpOptions::keep_in.
  void restore();
  /// Requests that this run has kept.
  std::size_t kept() const;

  /// The tunnel connected, or lost its connection.
  void tunnel_changed();

  /// Requests whose answer has not ended, those that wait included.
  std::size_t active() const;
  std::size_t waiting() const;
  std::size_t connections() const;

  /// Nothing new: closes the ports, and connections as soon as their request is answered.
  void stop_accepting();
  /// Answers those that wait with 503 and ends those under way.
  void refuse_rest();
  /// Cuts every connection.
  void abort();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "[address:]port:service" of --http.
Result<Forward> parse_http_forward(std::string_view text);

}  // namespace tunnelctl::client
