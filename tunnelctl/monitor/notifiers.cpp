#include "tunnelctl/monitor/notifiers.h"

namespace tunnelctl::monitor {

const std::vector<Translation>& translations() {
  static const std::vector<Translation> all{{"pagerduty",
                                             true,
                                             {{"routing_key", "integrationKey", true},
                                              {"severity", "severity"},
                                              {"class", "class"},
                                              {"component", "component"},
                                              {"group", "group"},
                                              {"description", "summary"},
                                              {"source", "source"},
                                              {"client", "client"},
                                              {"client_url", "client_url"},
                                              {"details", "details"}}},
                                            {"slack",
                                             false,
                                             {{"api_url", "url", true, "slack_api_url"},
                                              {"channel", "recipient"},
                                              {"title", "title"},
                                              {"text", "text"},
                                              {"username", "username"},
                                              {"icon_emoji", "icon_emoji"},
                                              {"icon_url", "icon_url"},
                                              {"color", "color"}}},
                                            {"email", false, {{"to", "addresses"}, {"text", "message"}}},
                                            {"webhook", true, {{"url", "url"}, {"max_alerts", "maxAlerts"}}},
                                            {"opsgenie",
                                             true,
                                             {{"api_key", "apiKey", true, "opsgenie_api_key"},
                                              {"api_url", "apiUrl"},
                                              {"message", "message"},
                                              {"description", "description"}}}};
  return all;
}

}  // namespace tunnelctl::monitor
