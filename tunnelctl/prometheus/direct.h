#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "common/http_client.h"
#include "tunnelctl/prometheus/connection.h"
#include "tunnelctl/prometheus/transport.h"

namespace tunnelctl::prometheus {

/// Straight to the server's URL. Any number of threads may call at once.
class Direct final : public Transport {
 public:
  /// Reads the token file and the TLS files. Fails with bad_input, naming the setting.
  static Result<std::shared_ptr<const Transport>> make(Connection connection, std::stop_token stop);

  Direct(Connection connection, http::Client client, std::stop_token stop);
  Result<Json> get(const Ask& ask) const override;
  const std::string& name() const override { return connection_.url; }

 private:
  Connection connection_;
  http::Client client_;
  std::stop_token stop_;
  std::vector<http::Header> headers_;
};

}  // namespace tunnelctl::prometheus
