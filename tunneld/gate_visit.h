#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tunnel/http_exchange.h"
#include "tunneld/gate.h"

namespace tunneld {

/// One request on its way through the gate, or one stream of a link, and what is known of it so far.
struct Gate::Visit {
  using Clock = std::chrono::steady_clock;

  explicit Visit(tunnel::HttpExchange& exchange) {
    record.method = exchange.request().method;
    record.correlation_id = exchange.correlation_id();
    record.door = "page";
  }
  /// A stream of a link, whose caller has been admitted.
  Visit(Authenticator::Caller of, std::string peer, std::string id)
      : caller(std::move(of)), address(std::move(peer)), correlation_id(std::move(id)) {
    record.method = "CONNECT";
    record.door = "link";
    record.peer = address;
    record.correlation_id = correlation_id;
    record.principal_hash = hash();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

  const tunnel::Principal& principal() const { return caller.principal(); }
  bool known() const { return caller.token != nullptr; }
  // Once known.
  const std::string& key() const { return caller.token->principal_key; }
  const std::string& hash() const { return caller.token->principal_hash; }
  /// A stream of bytes rather than a request and its answer.
  bool is_stream() const {
    return record.door == std::string_view("websocket") || record.door == std::string_view("link");
  }
  /// What serves it was cancelled: the caller left (or the daemon closes all). Whatever waited then has ended
  /// with an error of its own making or with an exception, and neither says anything of the service.
  bool abandoned() const { return cancellation.cancelled() != tunnel::asio::cancellation_type::none; }

  tunnel::asio::cancellation_state cancellation;

  Clock::time_point began = Clock::now();
  AccessRecord record;
  Authenticator::Caller caller;
  const char* role = "caller";  // of a WebSocket, for metrics
  bool judged = false;          // its address was looked at
  std::optional<access::RateDecision> rate;
  std::shared_ptr<const tunnel::Service> wanted;
  std::optional<tunnel::FinishedRequest> finished;  // of those that count as requests

  struct Trace {
    tracing::SpanContext server;
    tracing::SpanContext forward;
    std::array<std::uint8_t, 8> parent{};
    bool continues = false;  // a trace that the caller began
    std::chrono::system_clock::time_point began;
    std::string id;
  };
  std::optional<Trace> trace;  // when it is sampled

  // What the record's views point into.
  std::string address;
  std::string correlation_id;
  std::string service;
  std::string why;
};

}  // namespace tunneld
