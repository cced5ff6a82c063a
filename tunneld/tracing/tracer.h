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

/// "00-<32 hex>-<16 hex>-01", not ended by a zero.
using TraceparentText = std::array<char, 55>;

/// Where in a trace we are. Source: W3C Trace Context, https://www.w3.org/TR/trace-context/
struct SpanContext {
  std::array<std::uint8_t, 16> trace_id{};
  std::array<std::uint8_t, 8> span_id{};
  bool sampled = false;
  std::string traceparent() const;
  TraceparentText traceparent_text() const;  // the same without an allocation
  std::string trace_id_text() const;         // 32 hex digits
};
/// Nullopt for anything but a valid version 00 (or a later version's valid prefix). Who gets nullopt begins a
/// trace of his own, to which the caller's tracestate does not belong.
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
  std::vector<std::pair<std::string_view, std::string>> texts{};  // attribute names are literals, each once
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
    /// exported, dropped (queue full), failed (the collector refused or was away). Called from the
    /// exporter's thread and from those that record, until the tracer is gone.
    std::function<void(std::string_view result, std::uint64_t spans)> spans = [](std::string_view,
                                                                                 std::uint64_t) {};
  };
  /// A null pointer for an empty endpoint: no tracing, no thread. Fails with bad_input for an endpoint or a
  /// headers file that cannot be used, not_found or denied for a file that is absent or open to others.
  /// Plain http is for loopback, or for collectors that get no secret header. Nothing is sent yet: a
  /// collector that is away now may come later.
  static Result<std::unique_ptr<Tracer>> open(const Options& options, Resource resource, Reports reports);
  /// Sends what is queued, for at most two seconds.
  ~Tracer();

  /// The context of a new server span: goes on with the caller's trace, or begins one. No lock and no
  /// allocation. A caller's trace is sampled if the caller says so, ours by `sample_percent`.
  SpanContext begin(const std::optional<SpanContext>& parent) const;
  /// A child within the same trace.
  static SpanContext child_of(const SpanContext& parent);
  /// Any thread; takes a lock that is held for the move of one span and never during I/O. Call for sampled
  /// contexts only.
  void record(Span span);
  /// Of traces that begin from now on, 0 to 100. Any thread.
  void set_sample_percent(unsigned percent);

 private:
  Tracer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::tracing
