#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "tunneld/access/principal.h"
#include "tunneld/admin/answer.h"
#include "tunneld/admin/health.h"
#include "tunneld/tunnel/http_exchange.h"
#include "tunneld/tunnel/refusal.h"

namespace tunneld::admin {

/// Where the admin pages get their facts. All are called on the admin listener's thread, may be
/// called at any time between its start and its end, and never block.
struct Sources {
  /// Exposition text; `openmetrics` chooses the format, `compat` adds the older names.
  std::function<std::string(bool openmetrics, bool compat)> metrics;
  std::function<Health()> health;
  std::function<HealthCounts()> counts;
  /// The caller's token judged; scopes are checked here.
  std::function<tunnel::Served<access::Principal>(const tunnel::RequestHead&)> authenticate;
  std::function<nlohmann::ordered_json()> connections;
  std::function<nlohmann::ordered_json()> diagnostics;
  /// One of ERROR WARN INFO DEBUG TRACE.
  std::function<std::string()> log_level;
  /// Takes one of the same; with `ttl` the configured level returns after it.
  std::function<void(const std::string& level, std::optional<std::chrono::seconds> ttl)> set_log_level;
  /// A refusal was answered, for the error metric.
  std::function<void(tunnel::Code)> refused;
  bool compat_metrics = true;  // metrics.compat
};

/// The pages of the admin listener (docs/operations.md lists them).
/// Open: /metrics, /api/tunnel/metrics, /healthz, /readyz, /api/tunnel/health.
/// With a bearer token of scope tunnel:admin: /api/tunnel/connections, /api/tunnel/diagnostics,
/// /api/tunnel/config/log-level (GET, PUT).
/// Every answer has Cache-Control: no-store and X-Correlation-ID; every refusal the one error body.
class AdminHandler final : public tunnel::HttpHandler {
 public:
  explicit AdminHandler(Sources sources);
  ~AdminHandler() override;
  tunnel::asio::awaitable<void> handle(tunnel::HttpExchange& exchange) override;

 private:
  struct Page;
  static const Page* find(std::string_view path);
  tunnel::asio::awaitable<Answer> answer(tunnel::HttpExchange& exchange);
  std::optional<tunnel::Refusal> check_scope(const tunnel::RequestHead& head) const;
  Answer refusal(const tunnel::HttpExchange& exchange, const tunnel::Refusal& why) const;
  Answer exposition(const tunnel::RequestHead& head, bool compat) const;
  Answer health_page(std::string_view path) const;
  tunnel::asio::awaitable<Answer> put_log_level(tunnel::HttpExchange& exchange);

  Sources sources_;
};

/// True when the Accept field prefers OpenMetrics, as Prometheus asks for it.
/// Source: RFC 9110 §12.5.1; an absent or broken field means the plain text format.
bool wants_openmetrics(const tunnel::RequestHead& head);

}  // namespace tunneld::admin
