#pragma once

#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tunnelctl/prometheus/connection.h"
#include "tunnelctl/prometheus/data.h"
#include "tunnelctl/prometheus/transport.h"

/// Prometheus' and Loki's HTTP APIs, as far as tunnelctl asks them. Reads only, prints nothing.
/// Source: https://prometheus.io/docs/prometheus/latest/querying/api/
namespace tunnelctl::prometheus {

struct Range {
  Time from{};
  Time to{};
  std::chrono::milliseconds step{15'000};
};

/// Which series a listing is of. Without selectors all, without times those of the server's default (all it
/// has, for Prometheus).
struct Scope {
  std::vector<std::string> selectors{};  // "up{job=\"api\"}"; series that any of them matches
  std::optional<Range> range{};          // its step is of no interest
};

struct Names {
  std::vector<std::string> items{};     // sorted
  std::vector<std::string> warnings{};  // the server's
};

/// What a metric is.
struct Metadata {
  std::string type{};  // counter, gauge, histogram, summary, ..., unknown
  std::string help{};
  std::string unit{};

  bool operator==(const Metadata&) const = default;
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
  explicit Server(std::shared_ptr<const Transport> way) : way_(std::move(way)) {}

  /// Without a time at the server's own now.
  Result<Data> query(const std::string& expr, std::optional<Time> at = {}) const;
  Result<Data> query_range(const std::string& expr, const Range& range) const;
  /// Of the series that `selector` matches in that time; all series if it is empty.
  Result<std::vector<std::string>> label_values(const std::string& label, const std::string& selector,
                                                const Range& range) const;
  Result<Names> label_values(const std::string& label, const Scope& scope) const;
  Result<Names> label_names(const Scope& scope) const;
  /// Those in which `regexp` (RE2) is found anywhere, as searches do; all of them if it is empty. Of the
  /// scope's selectors none may be given beside a regexp.
  Result<Names> metric_names(const std::string& regexp, const Scope& scope) const;
  /// By metric's name; what targets say of it, which may differ among them. `metric` empty: of all.
  Result<std::map<std::string, std::vector<Metadata>>> metadata(const std::string& metric = {}) const;
  Result<std::vector<RuleGroup>> rules() const;
  /// Those that are scraped, without dropped ones.
  Result<std::vector<Target>> targets() const;
  /// What people know it by; see Transport::name.
  const std::string& name() const { return way_->name(); }

 private:
  Result<Names> names(std::string path, const Scope& scope, bool form) const;
  std::shared_ptr<const Transport> way_;
};

}  // namespace tunnelctl::prometheus
