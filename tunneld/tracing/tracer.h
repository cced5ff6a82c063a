#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "tunneld/tracing/options.h"

namespace tunneld::tracing {

/// Where in a trace we are. Source: W3C Trace Context, https://www.w3.org/TR/trace-context/
struct SpanContext {
  std::array<std::uint8_t, 16> trace_id{};
  std::array<std::uint8_t, 8> span_id{};
  bool sampled = false;
  /// "00-<32 hex>-<16 hex>-01"
  std::string traceparent() const;
  std::string trace_id_text() const;  // 32 hex digits
};
/// Nullopt for anything but a valid version 00 (or a later version's valid prefix).
std::optional<SpanContext> parse_traceparent(std::string_view text);

enum class SpanKind { internal = 1, server = 2, client = 3 };  // OTLP's numbers

/// A finished span.
struct Span {
  std::string_view name;  // a literal
  SpanContext context;
  std::array<std::uint8_t, 8> parent{};  // zero: none
  SpanKind kind = SpanKind::internal;
  std::chrono::system_clock::time_point start{};
  std::chrono::nanoseconds took{};
  bool error = false;
  std::string error_text{};
  std::vector<std::pair<std::string_view, std::string>> texts{};  // attribute names are literals
  std::vector<std::pair<std::string_view, std::int64_t>> numbers{};
};

/// Samples, collects and sends spans in batches over OTLP/HTTP (protobuf) from a thread of its own; never
/// delays a request. A collector that is away costs dropped spans, counted, and one log line.
/// Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
class Tracer {
 public:
  struct Resource {
    std::string service_version;
    std::string instance_id;
  };
  struct Reports {
    /// exported, dropped (queue full), failed (the collector refused or was away)
    std::function<void(std::string_view result, std::uint64_t spans)> spans = [](std::string_view, std::uint64_t) {};
  };
  /// Fails with bad_input for an endpoint or headers file that cannot be used.
  static Result<std::unique_ptr<Tracer>> open(const Options& options, Resource resource, Reports reports);
  /// Sends what is queued, for at most two seconds.
  ~Tracer();

  /// The context of a new server span: goes on with the caller's trace, or begins one. Cheap.
  SpanContext begin(const std::optional<SpanContext>& parent) const;
  /// A child within the same trace.
  static SpanContext child_of(const SpanContext& parent);
  /// Any thread, never blocks. Call for sampled contexts only.
  void record(Span span);
  void set_sample_percent(unsigned percent);

 private:
  Tracer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::tracing
