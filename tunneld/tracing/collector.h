#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

#include "common/http_client.h"
#include "common/result.h"
#include "tunneld/tracing/options.h"

namespace tunneld::tracing {

/// The header lines of a file: "Name: value" each. Errors name file and line, never a value: not_found or
/// denied as read_secret_file(), bad_input for a line that is none or a header that is not ours to choose.
Result<std::vector<http::Header>> read_headers(const std::filesystem::path& path);

/// Where spans go. One thread at a time.
class Collector {
 public:
  /// Errors as Tracer::open.
  static Result<Collector> make(const Options& options, const std::string& version);

  struct Answer {
    std::uint64_t rejected = 0;
    std::string why{};  // one line for the log; empty when all is well
  };
  /// Sends one request of `spans` spans and repeats it as OTLP asks: after 429, 502, 503, 504 and broken
  /// connections, up to 30 s, with the pauses that the collector wants. A stop ends it at once. Redirects
  /// are not followed.
  Answer send(std::string body, std::uint64_t spans, std::stop_token stop) const;

  /// For messages, without a query.
  const std::string& shown() const { return shown_; }

 private:
  Collector(std::string endpoint, std::vector<http::Header> headers, http::Client client);

  std::string endpoint_;
  std::string shown_;
  std::vector<http::Header> headers_;
  http::Client client_;
};

}  // namespace tunneld::tracing
