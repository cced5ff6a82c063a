#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/times/moment.h"

/// Silences: alerts that match them notify nobody for a while.
/// Source: the API v2 of Alertmanager (api/v2/openapi.yaml), which Grafana serves too, below its own path.
namespace tunnelctl::grafana {

/// One condition on a label. Regular expressions are RE2 and match the whole value.
struct Matcher {
  std::string name{}, value{};
  bool is_equal = true;
  bool is_regex = false;

  bool operator==(const Matcher&) const = default;
};

/// name=value, name!=value, name=~expression, name!~expression; name and value may stand in double quotes,
/// and
/// `\"`, `\\` and `\n` mean in them what they mean in Prometheus. Fails with bad_input, showing the form.
Result<Matcher> matcher(std::string_view text);
/// As matcher() and Alertmanager read it: name="value", "a name"="value".
std::string text(const Matcher& matcher);

/// The label by which Grafana knows which of its rules an alert comes from.
inline constexpr const char* kRuleLabel = "__alert_rule_uid__";

struct Silence {
  std::string id{};
  std::string state{};  // active, pending (not begun yet), expired
  std::vector<Matcher> matchers{};
  times::Time starts{}, ends{}, updated{};
  std::string created_by{}, comment{};

  /// The Grafana rule that it silences; "" where it goes by other labels.
  std::string rule_uid() const;
};

/// An alert as an Alertmanager holds it.
struct Alert {
  Json labels = Json::object();
  std::string state{};  // active, suppressed, unprocessed
  std::vector<std::string> silenced_by{};
  times::Time starts{};
};

/// Grafana's own Alertmanager, or one that is asked straight.
class Alertmanager {
 public:
  /// `server` must outlive it.
  static Alertmanager of(Server& server);
  /// `connection.url` is what /api/v2 is put after. Fails with bad_input, naming the setting.
  static Result<Alertmanager> straight(Connection connection, std::stop_token stop = {});

  /// All, without any order; or those that one of the alerts with these labels could have made.
  Result<std::vector<Silence>> silences(const std::vector<Matcher>& filter = {}) const;
  /// Fails with not_found for an unknown id.
  Result<Silence> silence(const std::string& id) const;
  /// Makes it, or changes the one with its id. The id may be another afterwards. Fails with bad_input as the
  /// server says it.
  Result<std::string> save(const Silence& silence) const;
  /// Ends it now.
  Result<void> expire(const std::string& id) const;
  /// Those that all matchers fit.
  Result<std::vector<Alert>> alerts(const std::vector<Matcher>& filter) const;

  bool is_grafana() const { return own_ == nullptr; }
  const std::string& url() const { return server_->url(); }

 private:
  Alertmanager(std::unique_ptr<Server> own, Server* server, std::string root)
      : own_(std::move(own)), server_(server), root_(std::move(root)) {}
  Result<Json> list(const std::string& path) const;

  std::unique_ptr<Server> own_;
  Server* server_;
  std::string root_;  // "/api/v2"
};

}  // namespace tunnelctl::grafana
