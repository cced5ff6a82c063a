#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "tunnelctl/client/diagnosis.h"
#include "tunnelctl/client/server.h"

namespace tunnelctl::client {

struct DiagnosisOptions {
  ServerSettings server{};
  std::string service{};  // empty: none is opened
  /// The service sends back what it gets: a MiB there and back, and then as much as goes through.
  bool echo = false;
  StepRunner::Limits limits{};
  std::chrono::milliseconds throughput_time{5'000};
};

struct Quality {
  const char* word = "poor";
  Latency latency{};
  /// Of the bytes that we sent, those sent again; nullopt where the kernel does not count them.
  std::optional<double> retransmit_ratio{};
  /// What came back each second while as much was sent; nullopt when it was not measured.
  std::optional<double> throughput_bytes{};
};

struct Diagnosis {
  std::string target{};
  std::vector<DiagnosisStep> steps{};
  std::optional<Quality> quality{};         // when there was an answer to a ping
  std::optional<Finding> finding{};         // none: all passed
  std::optional<std::string> clock_note{};  // our clock and the server's differ by more than a minute
};

/// Goes the way to a tunneld step by step: dns, tcp, tls, upgrade, token, session, service, data, latency,
/// throughput. Asks the server for /api/tunnel/me with the token; nothing else is done with the session.
/// When TLS or the upgrade fails it looks closer, without the token: what speaks there, and what time the
/// server thinks it is.
/// Threads: the context's one; and one for what blocks, which `stop` ends. Cancelled, it says so as the
/// cause.
asio::awaitable<Diagnosis> diagnose(asio::io_context& io, DiagnosisOptions options, std::stop_token stop);

}  // namespace tunnelctl::client
