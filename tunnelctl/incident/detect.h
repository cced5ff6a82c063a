#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/incident/backend.h"
#include "tunnelctl/incident/github_backend.h"
#include "tunnelctl/incident/pagerduty_backend.h"
#include "tunnelctl/incident/webhook_backend.h"

namespace tunnelctl::incident {

/// Everything that backends are made of. What is not configured is nullopt.
struct Places {
  std::string backend = "auto";      // or grafana, pagerduty, github, webhook, local
  std::filesystem::path database{};  // of local
  std::string author{};              // of local's notes
  std::optional<grafana::Connection> grafana{};
  std::optional<PagerdutyOptions> pagerduty{};
  std::optional<GithubOptions> github{};
  std::optional<WebhookOptions> webhook{};
  std::function<void(std::string_view)> warn{};
  std::stop_token stop{};
};

struct Choice {
  std::unique_ptr<Backend> backend{};  // redacting
  std::string why{};                   // "grafana: the server has the plugin grafana-irm-app"
};

/// The backend that is named, or for auto the first of: Grafana, if it has the plugin enabled; PagerDuty,
/// GitHub and the webhook, if they are configured; local. A Grafana that cannot be asked is passed over with
/// a warning, so that an incident can be written down while it is away. Fails with bad_input when what is
/// named is not configured, and as the backends' make() does.
Result<Choice> choose(Places places);

}  // namespace tunnelctl::incident
