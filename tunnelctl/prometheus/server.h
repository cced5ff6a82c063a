#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "tunnelctl/prometheus/connection.h"
#include "tunnelctl/prometheus/data.h"

/// Prometheus' and Loki's HTTP APIs, as far as tunnelctl asks them. Reads only, prints nothing.
/// Source: https://prometheus.io/docs/prometheus/latest/querying/api/
namespace tunnelctl::prometheus {

class Api;

struct Range {
  Time from{};
  Time to{};
  std::chrono::milliseconds step{15'000};
};

/// A rule as the server runs it.
struct Rule {
  std::string name{};
  bool alerting = true;  // else it records
  std::string query{};   // as the server prints it
  Texts labels{};
  std::string health{};  // ok, err, unknown (not evaluated yet)
  std::string last_error{};
  std::string state{};  // inactive, pending, firing; "" of a recording rule
};

struct RuleGroup {
  std::string name{};
  std::string file{};
  double interval_seconds = 0;
  std::vector<Rule> rules{};
};

/// The answer of /api/v1/rules, also as Grafana passes it on. Fails with unavailable when it is none.
Result<std::vector<RuleGroup>> read_rules(const Json& answer);

/// Something that is scraped.
struct Target {
  Texts labels{};
  std::string url{};
  std::string health{};  // up, down, unknown
  std::string last_error{};
};

/// Any number of threads may call at once. Errors name request, status and the server's own message. Kinds:
/// bad_input (400, 422: the query), denied (401, 403), not_found (404), unavailable for the rest; and those
/// of http::Client when there was no answer.
class Server {
 public:
  /// Reads the token file and the TLS files. Fails with bad_input, naming the setting.
  static Result<Server> make(Connection connection, std::stop_token stop = {});
  Server(Server&&) noexcept;
  Server& operator=(Server&&) noexcept;
  ~Server();

  Result<Data> query(const std::string& expr, Time at) const;
  Result<Data> query_range(const std::string& expr, const Range& range) const;
  /// Of the series that `selector` matches in that time; all series if it is empty.
  Result<std::vector<std::string>> label_values(const std::string& label, const std::string& selector,
                                                const Range& range) const;
  Result<std::vector<RuleGroup>> rules() const;
  /// Those that are scraped, without dropped ones.
  Result<std::vector<Target>> targets() const;
  const std::string& url() const;

 private:
  explicit Server(std::unique_ptr<Api> api);
  std::unique_ptr<Api> api_;
};

}  // namespace tunnelctl::prometheus
