#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "common/http_client.h"
#include "common/secret.h"

namespace tunnelctl::prometheus {

/// Which server, and as whom. The same for Prometheus and Loki, and for what speaks like them (Thanos, Mimir,
/// VictoriaMetrics).
struct Connection {
  std::string url{};  // "https://prometheus.example/path"; what the API's paths are put after
  Secret token{};
  std::filesystem::path token_file{};  // read anew for each run, so that a rotated token is found
  std::string username{};
  Secret password{};
  std::string tenant{};                                        // X-Scope-OrgID; empty: none
  std::vector<std::pair<std::string, std::string>> headers{};  // e.g. for a proxy in front
  http::TlsFiles tls{};
  std::chrono::milliseconds timeout{30'000};
  bool allow_plain = false;  // plain http to elsewhere than loopback
  /// What does not fit is refused: read as JSON it takes many times its size.
  std::size_t max_answer_bytes = 64 * 1024 * 1024;
  std::string server = "Prometheus";  // what should answer there, for messages
  /// How the person sets them, for messages: "--prometheus-url".
  std::string url_setting = "--prometheus-url";
  std::string token_setting = "--prometheus-token-file";
};

}  // namespace tunnelctl::prometheus
