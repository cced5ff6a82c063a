#include <algorithm>
#include <charconv>

#include "tunnelctl/monitor/verify_parts.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::monitor {
namespace {

constexpr std::chrono::milliseconds kPageTime{10'000};

bool is_absolute(std::string_view url) {
  return url.starts_with("https://") || url.starts_with("http://");
}

std::optional<std::int64_t> number(std::string_view text) {
  if (text.starts_with("panel-")) text.remove_prefix(6);  // Grafana 12's spelling
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

/// "/d/<uid>/any?x=y&viewPanel=4" -> uid and panel; nullopt for what is none, or has variables in its uid.
std::optional<DashboardLink> dashboard_link(std::string_view path) {
  if (!path.starts_with("/d/")) return std::nullopt;
  path.remove_prefix(3);
  const std::string_view uid = path.substr(0, path.find_first_of("/?#"));
  if (uid.empty() || uid.find('$') != std::string_view::npos) return std::nullopt;
  DashboardLink link{.uid = std::string(uid)};
  const auto query = path.find('?');
  if (query == std::string_view::npos) return link;
  for (std::string_view rest = path.substr(query + 1); !rest.empty();) {
    const auto end = rest.find_first_of("&#");
    const std::string_view one = rest.substr(0, end);
    if (one.starts_with("viewPanel=")) link.panel = number(one.substr(10));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  return link;
}

class Collector {
 public:
  Collector(const CompileOptions& options, const std::vector<std::string>& bases)
      : options_(options), bases_(bases) {}

  /// Every "url" below.
  void walk(const Json& json, const std::string& who) {
    if (json.is_object()) {
      for (const auto& [key, value] : json.items()) {
        if (key == "url" && value.is_string())
          take(value.get<std::string>(), who);
        else
          walk(value, who);
      }
    } else if (json.is_array()) {
      for (const Json& one : json) walk(one, who);
    }
  }

  void take(const std::string& url, const std::string& who) {
    std::string_view path = url;
    for (const auto& base : bases_)
      if (!base.empty() && path.starts_with(base + "/")) path.remove_prefix(base.size());
    if (const auto link = dashboard_link(path)) {
      links.dashboards.emplace(*link, who);
    } else if (!options_.runbook_url.empty() && url.starts_with(options_.runbook_url)) {
      runbook(url, who);
    }
  }

  void runbook(const std::string& url, const std::string& who) {
    if (is_absolute(url)) links.runbooks.emplace(url.substr(0, url.find('#')), who);
  }

  Links links;

 private:
  const CompileOptions& options_;
  const std::vector<std::string>& bases_;
};

}  // namespace

Links links_of(const pack::Pack& pack, const CompileOptions& options, const std::vector<std::string>& bases) {
  Collector collector(options, bases);
  std::vector<pack::Dashboard> dashboards = pack.dashboards;
  if (options.runbook_url.empty())
    if (auto runbooks = runbook_dashboard(pack)) dashboards.push_back(std::move(*runbooks));
  for (const auto& dashboard : dashboards) {
    collector.links.dashboards.emplace(DashboardLink{dashboard.uid, {}}, "the pack's own dashboard");
    Json json = grafana_dashboard(pack, dashboard, options);
    for (const Json* panel : pack::panels(json)) {
      if (!panel->is_object()) continue;
      const Json id = panel->value("id", Json());
      collector.walk(*panel,
                     "linked from " + dashboard.uid + "/" + (id.is_number_integer() ? id.dump() : "?"));
    }
    json.erase("panels");
    collector.walk(json, "linked from " + dashboard.uid);
  }
  for (const auto& file : pack.rule_files) {
    for (const auto& group : file.groups) {
      for (const auto& rule : group.rules) {
        if (rule.alert.empty()) continue;
        const std::string who = "linked from rule/" + rule.alert;
        const Texts texts = annotations(pack, rule, options);
        const auto text = [&](const char* key) {
          const auto found = texts.find(key);
          return found == texts.end() ? std::string() : found->second;
        };
        if (const auto uid = text("dashboard_uid"); !uid.empty())
          collector.links.dashboards.emplace(DashboardLink{uid, number(text("panel_id"))}, who);
        const std::string runbook = text("runbook_url");
        collector.take(runbook, who);
        const bool of_grafana = std::any_of(bases.begin(), bases.end(), [&](const std::string& base) {
          return !base.empty() && runbook.starts_with(base + "/d/");
        });
        if (!of_grafana) collector.runbook(runbook, who);
      }
    }
  }
  return std::move(collector.links);
}

std::vector<Check> check_runbooks(const std::map<std::string, std::string>& urls, std::size_t parallel,
                                  const std::stop_token& stop) {
  std::vector<Check> result;
  if (urls.empty()) return result;
  for (const auto& [url, who] : urls) result.push_back({.kind = Check::Kind::link, .id = url, .title = who});
  http::ClientOptions options;
  options.user_agent = "tunnelctl";
  options.allow_plain = true;  // nothing secret is sent
  options.deadline = kPageTime;
  options.total = kPageTime * 2;
  options.max_in_flight = std::max<std::size_t>(parallel, 1);
  options.retry.attempts = 2;
  const auto client = http::Client::make(std::move(options));
  // Not every server answers HEAD; those that refuse it are asked for the page itself.
  for (const char* method : {"HEAD", "GET"}) {
    std::vector<http::Request> requests;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (std::string_view(method) == "GET" && result[i].status == Status::ok) continue;
      requests.push_back({.method = method, .url = result[i].id});
      places.push_back(i);
    }
    if (!client) {
      for (auto& check : result) check.status = Status::warning, check.message = client.error().message;
      return result;
    }
    client->send_all(
        requests,
        [&](std::size_t index, Result<http::Response> answer) {
          Check& check = result[places[index]];
          const bool good = answer && answer->status < 400;
          check.status = good ? Status::ok : Status::warning;
          check.message = good     ? std::string()
                          : answer ? "the page answers " + std::to_string(answer->status)
                                   : answer.error().message;
        },
        stop);
  }
  return result;
}

}  // namespace tunnelctl::monitor
