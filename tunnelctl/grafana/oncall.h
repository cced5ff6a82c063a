#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tunnelctl/grafana/server.h"

/// Grafana OnCall (IRM): who is on call, and the groups of alerts that wait for somebody.
/// Source: https://grafana.com/docs/oncall/latest/oncall-api-reference/
namespace tunnelctl::grafana {

struct Schedule {
  std::string id{}, name{}, type{}, team{};  // type: web, calendar, ical; team: its id
  std::string time_zone{};
  std::vector<std::string> on_call_now{};  // ids of users
};

struct OnCallUser {
  std::string id{}, username{}, email{}, role{}, time_zone{};
};

struct AlertGroup {
  std::string id{}, title{};
  std::string state{};  // new, acknowledged, resolved, silenced
  std::string created_at{}, acknowledged_at{}, resolved_at{}, url{};
  std::int64_t alerts = 0;
};

Schedule schedule_of(const Json& json);
OnCallUser oncall_user_of(const Json& json);
AlertGroup alert_group_of(const Json& json);

/// What can be done to a group of alerts.
enum class GroupStep { acknowledge, unacknowledge, resolve, unresolve };

/// OnCall's public API, which stands at another address than Grafana: its app says where.
class OnCall {
 public:
  /// Asks Grafana where it is; `connection` is hers, with the token that both take. Fails with not_found
  /// where the server has no OnCall, saying so; with bad_input without a token.
  static Result<OnCall> find(Server& grafana, const Connection& connection, std::stop_token stop = {});

  /// Of schedules, users, teams, on_call_shifts or alert_groups: all pages, up to `limit` (0: all). `query`:
  /// names and values.
  struct List {
    std::vector<Json> items{};
    bool more = false;
  };
  Result<List> list(const std::string& kind, std::size_t limit,
                    const std::vector<std::pair<std::string, std::string>>& query = {});
  /// One of them. Fails with not_found.
  Result<Json> get(const std::string& kind, const std::string& id);
  /// Fails with bad_input where its state does not allow it.
  Result<void> step(const std::string& group, GroupStep step);

  const std::string& url() const { return server_.url(); }

 private:
  explicit OnCall(Server server) : server_(std::move(server)) {}

  Server server_;
};

}  // namespace tunnelctl::grafana
