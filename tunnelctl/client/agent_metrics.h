#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>

#include "common/result.h"
#include "tunnelctl/client/agent.h"

namespace tunnelctl::client {

/// Prometheus' text format, 0.0.4.
std::string metrics_text(const AgentCounts& counts, std::chrono::steady_clock::duration uptime);

/// Serves GET /metrics, to this machine only.
/// Threads: the context's one. When that has stopped running: stop(), then the context goes away, and then
/// this, for connections that are left over end with their context.
class AgentMetrics {
 public:
  /// `listen` is "127.0.0.1:9464" or "[::1]:9464"; port 0 lets the system choose. Fails with bad_input when
  /// that is no loopback address, and when nobody can listen there.
  static Result<std::unique_ptr<AgentMetrics>> start(asio::io_context& io, const std::string& listen,
                                                     std::function<AgentCounts()> counts);
  ~AgentMetrics();
  unsigned short port() const;
  void stop();

 private:
  struct Impl;
  explicit AgentMetrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunnelctl::client
