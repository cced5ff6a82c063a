#pragma once

#include "tunnelctl/prometheus/server.h"

namespace tunnelctl::prometheus {

/// Loki's HTTP API. Threads and errors as with Server.
/// Source: https://grafana.com/docs/loki/latest/reference/loki-http-api/
class Loki {
 public:
  static Result<Loki> make(Connection connection, std::stop_token stop = {});
  Loki(Loki&&) noexcept;
  Loki& operator=(Loki&&) noexcept;
  ~Loki();

  /// Metric queries only: Loki refuses log queries here.
  Result<Data> query(const std::string& expr, Time at) const;
  /// `limit` lines at most, the newest.
  Result<Data> query_range(const std::string& expr, const Range& range, std::size_t limit = 100) const;
  /// Of the streams that `selector` matches in that time; all streams if it is empty.
  Result<std::vector<std::string>> label_values(const std::string& label, const std::string& selector,
                                                const Range& range) const;
  const std::string& url() const;

 private:
  explicit Loki(std::unique_ptr<Api> api);
  std::unique_ptr<Api> api_;
};

}  // namespace tunnelctl::prometheus
