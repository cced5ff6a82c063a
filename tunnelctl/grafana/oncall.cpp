#include "tunnelctl/grafana/oncall.h"

#include <algorithm>

#include "common/http_access.h"
#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/grafana/plugins.h"

namespace tunnelctl::grafana {
namespace {

/// Against a server whose pages never end.
constexpr std::size_t kMostPages = 1000;

const char* word(GroupStep step) {
  switch (step) {
    case GroupStep::acknowledge: return "acknowledge";
    case GroupStep::unacknowledge: return "unacknowledge";
    case GroupStep::resolve: return "resolve";
    case GroupStep::unresolve: return "unresolve";
  }
  return "";
}

/// Where the app says that the API is: IRM, or OnCall as it was before. Fails with not_found.
Result<std::string> address(Server& grafana) {
  std::string why;
  for (const char* app : {"grafana-irm-app", "grafana-oncall-app"}) {
    const auto settings = read_plugin(grafana, app);
    if (!settings) return tl::unexpected(settings.error());
    if (!*settings) continue;
    const bool disabled = member(**settings, "enabled") == false;
    auto url = text_of(member(**settings, "jsonData"), "onCallApiUrl");
    while (url.ends_with('/')) url.pop_back();
    if (!disabled && !url.empty()) return url;
    why += (why.empty() ? "" : ", ") + std::string("the app ") + app +
           (disabled ? " is disabled" : " does not say where its API is");
  }
  return fail(Error::Kind::not_found,
              grafana.url() + " has no OnCall (" +
                  (why.empty() ? "neither app, grafana-irm-app nor grafana-oncall-app, is installed" : why) +
                  ")");
}

}  // namespace

Schedule schedule_of(const Json& json) {
  Schedule result{.id = text_of(json, "id"),
                  .name = text_of(json, "name"),
                  .type = text_of(json, "type"),
                  .team = text_of(json, "team_id"),
                  .time_zone = text_of(json, "time_zone")};
  for (const auto& id : member(json, "on_call_now"))
    if (id.is_string()) result.on_call_now.push_back(id.get<std::string>());
  return result;
}

OnCallUser oncall_user_of(const Json& json) {
  return {.id = text_of(json, "id"),
          .username = text_of(json, "username"),
          .email = text_of(json, "email"),
          .role = text_of(json, "role"),
          .time_zone = text_of(json, "timezone")};
}

AlertGroup alert_group_of(const Json& json) {
  return {.id = text_of(json, "id"),
          .title = text_of(json, "title"),
          .state = text_of(json, "state"),
          .created_at = text_of(json, "created_at"),
          .acknowledged_at = text_of(json, "acknowledged_at"),
          .resolved_at = text_of(json, "resolved_at"),
          .url = text_of(member(json, "permalinks"), "web"),
          .alerts = number_of(json, "alerts_count")};
}

Result<OnCall> OnCall::find(Server& grafana, const Connection& connection, std::stop_token stop) {
  const auto url = address(grafana);
  if (!url) return tl::unexpected(url.error());
  Connection to;
  to.url = *url;
  to.tls = connection.tls;
  to.timeout = connection.timeout;
  to.allow_plain = connection.allow_plain;
  to.read_only = connection.read_only;
  to.wording = {.url = "OnCall's address (onCallApiUrl in the settings of Grafana's app)",
                .without_credentials =
                    "OnCall takes a service account's token: set "
                    "GRAFANA_SERVICE_ACCOUNT_TOKEN or --token-file",
                .wrong_credentials = "check the token (GRAFANA_SERVICE_ACCOUNT_TOKEN, --token-file)",
                .too_few_rights =
                    "OnCall does not accept this token: it must be of a service account with the "
                    "role Editor, of this very Grafana"};
  Secret token = connection.token;
  if (!connection.token_file.empty()) {
    auto read = http::read_token(connection.token_file, connection.wording.token_file);
    if (!read) return tl::unexpected(read.error());
    token = std::move(*read);
  }
  if (token.empty())
    return fail(Error::Kind::bad_input,
                "OnCall takes no user and password: " + to.wording.without_credentials);
  // Its own way: the token alone, without a scheme.
  to.headers.emplace_back("Authorization", std::string(token.reveal()));
  to.headers.emplace_back("X-Grafana-URL", grafana.url());
  auto server = Server::make(std::move(to), std::move(stop));
  if (!server) return tl::unexpected(server.error());
  return OnCall(std::move(*server));
}

Result<OnCall::List> OnCall::list(const std::string& kind, std::size_t limit,
                                  const std::vector<std::pair<std::string, std::string>>& query) {
  List result;
  for (std::size_t page = 1; page <= kMostPages; ++page) {
    // Pages are counted here: the address of the next one comes from the server, and might lead elsewhere.
    std::string path = "/api/v1/" + kind + "/?page=" + std::to_string(page);
    for (const auto& [name, value] : query)
      if (!value.empty()) path += "&" + name + "=" + escape(value);
    const auto answer = server_.get(path);
    if (!answer) return tl::unexpected(answer.error());
    const Json& rows = member(*answer, "results");
    if (!rows.is_array())
      return fail(Error::Kind::unavailable, "GET " + url() + "/api/v1/" + kind + "/: the answer is no list");
    for (const auto& row : rows) {
      if (limit > 0 && result.items.size() == limit) {
        result.more = true;
        return result;
      }
      result.items.push_back(row);
    }
    if (!member(*answer, "next").is_string() || rows.empty()) return result;
  }
  result.more = true;
  return result;
}

Result<Json> OnCall::get(const std::string& kind, const std::string& id) {
  const Call call{.path = "/api/v1/" + kind + "/" + escape(id) + "/"};
  const auto answer = server_.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server_.error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable, "GET " + url() + call.path + ": the answer is no object");
  return answer->json;
}

Result<void> OnCall::step(const std::string& group, GroupStep step) {
  const Call call{.method = "POST",
                  .path = "/api/v1/alert_groups/" + escape(group) + "/" + word(step) + "/",
                  .body = Json::object()};
  const auto answer = server_.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 404)
    return fail(Error::Kind::not_found,
                "no alert group has the id \"" + group + "\"; see: tunnelctl oncall list --kind groups");
  if (!answer->ok()) return tl::unexpected(server_.error(call, *answer));
  return {};
}

}  // namespace tunnelctl::grafana
