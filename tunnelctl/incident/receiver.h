#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "common/result.h"
#include "common/secret.h"
#include "tunnelctl/incident/alert_webhook.h"

namespace tunnelctl::incident {

struct ReceiverOptions {
  /// "127.0.0.1:9465", "[::1]:9465", "0.0.0.0:9465"; port 0 lets the system choose.
  std::string listen{};
  /// Whoever posts must show it as a bearer token. Without one only this machine may post, and nobody else
  /// may ask anything.
  Secret token{};
  /// Of the HMAC signature of Grafana's contact point, which does in place of the token; empty: none.
  Secret grafana_secret{};
  std::filesystem::path certificate{}, key{};  // PEM; both empty: plain text
  bool allow_plain = false;                    // plain text beyond this machine, for networks that protect it
};

/// POST /alertmanager and /grafana take alerts; GET /metrics, /healthz and /readyz tell how it does. An
/// answer of 200 says that `take` has written it down; 503 asks the sender to come again. Errors are short
/// JSON:
/// {"error":"..."}. A body has at most kMaxWebhook bytes.
/// Threads: one of its own, which calls all parts.
class Receiver {
 public:
  struct Parts {
    std::function<Result<void>(const AlertGroup& group)> take;
    std::function<void(std::string_view origin, std::string_view why)>
        refused;  // a post, for log and metrics
    std::function<std::string()> metrics;
    std::function<Result<void>()> healthy, ready;
    std::function<Time()> now;
  };
  /// Fails with bad_input: an address beyond this machine without a token, or in plain text without
  /// `allow_plain`; files that cannot be used; nobody can listen there.
  static Result<std::unique_ptr<Receiver>> start(ReceiverOptions options, Parts parts);
  ~Receiver();
  unsigned short port() const;

 private:
  struct Impl;
  explicit Receiver(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunnelctl::incident
