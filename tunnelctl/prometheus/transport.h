#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/http_client.h"
#include "common/result.h"

namespace tunnelctl::prometheus {

using Json = nlohmann::json;
/// Name and value, not escaped. Names may repeat.
using Parameters = std::vector<std::pair<std::string, std::string>>;

/// One read of the API.
struct Ask {
  std::string path{};  // "/api/v1/query", escaped
  Parameters parameters{};
  /// The parameters may go as the body of a POST, which the query endpoints take as well; done when they are
  /// too long for an address. Such a query may be much work: a server that has too much of it (503, 504) is
  /// not asked again.
  bool form = false;
  std::vector<http::Header> headers{};
};

/// The way to a Prometheus or Loki: straight, or through Grafana's data source routes. Any number of threads
/// may call at once, unless a way says otherwise.
class Transport {
 public:
  virtual ~Transport() = default;
  /// The answer's JSON. Errors name request, status and the server's own message. Kinds: bad_input (400, 422:
  /// the query), denied (401, 403), not_found (404), unavailable for the rest (an answer that is no JSON,
  /// too); those of http::Client when there was none.
  virtual Result<Json> get(const Ask& ask) const = 0;
  /// What people know the server by: its URL, or "data source prom-1 of https://grafana.example".
  virtual const std::string& name() const = 0;
};

}  // namespace tunnelctl::prometheus
