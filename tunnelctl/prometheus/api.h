#pragma once

#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "common/http_client.h"
#include "common/result.h"
#include "tunnelctl/prometheus/connection.h"
#include "tunnelctl/prometheus/data.h"

/// What both servers' calls share; not for other rooms.
namespace tunnelctl::prometheus {

/// Name and value, not escaped. Names may repeat.
using Parameters = std::vector<std::pair<std::string, std::string>>;

class Api {
 public:
  static Result<Api> make(Connection connection, std::stop_token stop);

  /// The answer's JSON. `long_as_form`: parameters too long for a URL go as the body of a POST, which the
  /// query endpoints take as well.
  Result<Json> get(const std::string& path, const Parameters& parameters, bool long_as_form = false) const;
  const std::string& url() const { return connection_.url; }

 private:
  Api(Connection connection, http::Client client, std::stop_token stop)
      : connection_(std::move(connection)), client_(std::move(client)), stop_(std::move(stop)) {}
  Error error(const http::Request& request, const http::Response& response) const;

  Connection connection_;
  http::Client client_;
  std::stop_token stop_;
  std::vector<http::Header> headers_;
};

/// Seconds with three digits behind the point: "1795259964.223".
std::string seconds(std::chrono::milliseconds value);

}  // namespace tunnelctl::prometheus
