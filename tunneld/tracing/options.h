#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>

namespace tunneld::tracing {

struct Options {
  /// OTLP/HTTP traces endpoint, e.g. http://127.0.0.1:4318/v1/traces; empty: no tracing at all.
  std::string endpoint;
  unsigned sample_percent = 10;  // of traces that begin here; a sampled parent's go on sampled
  /// One "Name: value" a line, for the collector's authentication; mode 0640 or narrower. Empty lines and
  /// those that begin with # mean nothing.
  std::filesystem::path headers_file;
  std::chrono::milliseconds flush{5'000};
  std::size_t queue = 2048;  // finished spans waiting; more are dropped and counted
  std::size_t batch = 512;
  std::string service_name = "tunneld";
};

}  // namespace tunneld::tracing
