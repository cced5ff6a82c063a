#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/result.h"
#include "tunneld/tracing/tracer.h"

/// OTLP's messages as bytes. Field numbers are those of opentelemetry-proto 1.11.0.
/// Source: https://github.com/open-telemetry/opentelemetry-proto
namespace tunneld::tracing {

inline constexpr std::string_view kProtobuf = "application/x-protobuf";

/// Longer texts are cut: no attribute of ours needs more, and one huge value must not fill a request.
inline constexpr std::size_t kMaxTextBytes = 1024;

/// An ExportTraceServiceRequest with one resource and one scope. Texts that are no UTF-8 are mended, because
/// a collector refuses a whole request for one of them.
std::string encode_export(std::string_view service_name, const Tracer::Resource& resource,
                          std::span<const Span> spans);

/// What an ExportTraceServiceResponse says was not taken.
struct Partial {
  std::uint64_t rejected = 0;
  std::string message{};  // a warning if nothing was rejected
};
/// Fails with bad_input if the bytes are no such message.
Result<Partial> decode_export_answer(std::string_view body);

/// The message of a google.rpc.Status, with which collectors explain an error; empty if there is none.
std::string decode_status_message(std::string_view body);

}  // namespace tunneld::tracing
