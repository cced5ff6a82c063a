#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "common/http_client.h"
#include "common/secret.h"

namespace tunnelctl::daemon {

/// Which tunneld, and as whom.
struct Connection {
  /// Its admin listener, which is on loopback only unless somebody forwards it.
  std::string url = "http://127.0.0.1:9090";
  /// Of scope tunnel:admin. Without one there are the open pages: health, readiness, metrics.
  Secret token{};
  std::filesystem::path token_file{};  // read once
  http::TlsFiles tls{};
  std::chrono::milliseconds timeout{10'000};  // an admin page that takes longer will not come
  bool allow_plain = false;                   // plain http to elsewhere than loopback
  bool read_only = false;                     // refuse whatever would change something
};

}  // namespace tunnelctl::daemon
