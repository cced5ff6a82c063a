#include "tunnelctl/incident/detect.h"

#include <utility>

#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/grafana/plugins.h"
#include "tunnelctl/incident/grafana_backend.h"
#include "tunnelctl/incident/grafana_patience.h"
#include "tunnelctl/incident/local_backend.h"
#include "tunnelctl/incident/redacting_backend.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl::incident {
namespace {

/// Whether there are incidents has to be known before one can be made, so a dead server must not cost the 30
/// s that other calls wait.
constexpr std::chrono::milliseconds kPatience{5'000};

/// The plugin that is enabled; "" when there is none.
Result<std::string> plugin_of(grafana::Server& server) {
  for (const char* plugin : {kIrmPlugin, kOldIncidentPlugin}) {
    const auto settings = grafana::read_plugin(server, plugin);
    if (!settings) return tl::unexpected(settings.error());
    if (*settings && grafana::flag_of(**settings, "enabled")) return plugin;
  }
  return std::string();
}

template <class Made>
Result<Choice> chosen(Result<std::unique_ptr<Made>> made, std::string why) {
  if (!made) return tl::unexpected(made.error());
  return Choice{.backend = redacting(std::move(*made)), .why = std::move(why)};
}

Result<Choice> local(Places& places, std::string why) {
  LocalOptions options{
      .path = places.database, .author = places.author, .warn = places.warn, .stop = places.stop};
  if (options.path.empty())
    return fail(Error::Kind::bad_input,
                "where to keep incidents is not known without a home: say --database FILE");
  if (places.grafana && !places.grafana->read_only) options.grafana = *places.grafana;
  return chosen(LocalBackend::make(std::move(options)), std::move(why));
}

/// nullopt when this Grafana keeps no incidents.
Result<std::optional<Choice>> grafana_choice(const Places& places) {
  std::string plugin;
  auto asked =
      ask_grafana(*places.grafana, kPatience, places.stop, [&](grafana::Server& server) -> Result<void> {
        auto found = plugin_of(server);
        if (!found) return tl::unexpected(found.error());
        plugin = std::move(*found);
        return {};
      });
  if (!asked) return tl::unexpected(asked.error());
  if (plugin.empty()) return std::optional<Choice>();
  auto server = grafana::Server::make(*places.grafana, places.stop);
  if (!server) return tl::unexpected(server.error());
  return std::optional(
      Choice{.backend = redacting(std::make_unique<GrafanaBackend>(std::move(*server), plugin)),
             .why = "grafana: the server has the plugin " + plugin});
}

Result<Choice> automatic(Places& places) {
  if (places.grafana) {
    auto found = grafana_choice(places);
    if (found && *found) return std::move(**found);
    if (!found && places.warn)
      places.warn("whether Grafana keeps incidents cannot be asked: " + found.error().message);
  }
  if (places.pagerduty)
    return chosen(PagerdutyBackend::make(std::move(*places.pagerduty)), "pagerduty: it is configured");
  if (places.github)
    return chosen(GithubBackend::make(std::move(*places.github)), "github: it is configured");
  if (places.webhook)
    return chosen(WebhookBackend::make(std::move(*places.webhook)), "webhook: it is configured");
  return local(places, places.grafana ? "local: Grafana keeps no incidents, and nothing else is configured"
                                      : "local: nothing else is configured");
}

}  // namespace

Result<Choice> choose(Places places) {
  const auto missing = [](const char* what) {
    return fail(Error::Kind::bad_input, std::string("backend ") + what);
  };
  const auto& name = places.backend;
  if (name.empty() || name == "auto") return automatic(places);
  if (name == "local") return local(places, "local: it is named");
  if (name == "pagerduty") {
    if (!places.pagerduty)
      return missing(
          "pagerduty: set incident.pagerduty.routing_key_file, or TUNNELCTL_INCIDENT_PAGERDUTY_ROUTING_KEY");
    return chosen(PagerdutyBackend::make(std::move(*places.pagerduty)), "pagerduty: it is named");
  }
  if (name == "github") {
    if (!places.github)
      return missing("github: set incident.github.repository, or TUNNELCTL_INCIDENT_GITHUB_REPOSITORY");
    return chosen(GithubBackend::make(std::move(*places.github)), "github: it is named");
  }
  if (name == "webhook") {
    if (!places.webhook)
      return missing("webhook: set incident.webhook.url, or TUNNELCTL_INCIDENT_WEBHOOK_URL");
    return chosen(WebhookBackend::make(std::move(*places.webhook)), "webhook: it is named");
  }
  if (name != "grafana")
    return fail(Error::Kind::bad_input, "\"" + terminal::harmless(name) +
                                            "\" is no backend; there are: auto, grafana, pagerduty, github, "
                                            "webhook, local");
  if (!places.grafana) return missing("grafana: no Grafana is named; set GRAFANA_URL, or choose a context");
  auto found = grafana_choice(places);
  if (!found) return tl::unexpected(found.error());
  if (!*found)
    return missing("grafana: neither plugin, grafana-irm-app nor grafana-incident-app, is enabled there");
  return std::move(**found);
}

}  // namespace tunnelctl::incident
