#include "tunnelctl/grafana/links.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include <nlohmann/json.hpp>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/times/moment.h"

namespace tunnelctl::grafana {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// now, now-1h, now+30m, now/d, now-1M/M: units s m h d w M Q y.
bool is_relative(std::string_view text) {
  if (!text.starts_with("now")) return false;
  text.remove_prefix(3);
  constexpr std::string_view kUnits = "smhdwMQy";
  while (!text.empty()) {
    const bool rounds = text.front() == '/';
    if (!rounds && text.front() != '-' && text.front() != '+') return false;
    text.remove_prefix(1);
    std::size_t digits = 0;
    while (digits < text.size() && is_digit(text[digits])) ++digits;
    if (rounds != (digits == 0)) return false;
    text.remove_prefix(digits);
    if (text.empty()) return false;
    // "/fQ": the fiscal quarter.
    if (rounds && text.front() == 'f' && text.size() > 1) text.remove_prefix(1);
    if (kUnits.find(text.front()) == std::string_view::npos) return false;
    text.remove_prefix(1);
  }
  return true;
}

/// "15m", "-1h30m"
bool is_ago(std::string_view text) {
  return text.find_first_not_of("-0123456789smhdwMy") == std::string_view::npos &&
         text.find_first_of("smhdwMy") != std::string_view::npos;
}
/// The same as Grafana writes it: "now-1h-30m".
std::string from_now(std::string_view ago) {
  std::string result = "now";
  bool in_number = false;
  for (const char c : ago.substr(ago.starts_with('-') ? 1 : 0)) {
    if (is_digit(c) && !in_number) result += '-';
    in_number = is_digit(c);
    result += c;
  }
  return result;
}

/// As forms are encoded: a space is "+".
std::string form(std::string_view text) {
  std::string result = escape(text);
  for (std::size_t at = 0; (at = result.find("%20", at)) != std::string::npos; ++at)
    result.replace(at, 3, "+");
  return result;
}

std::string trimmed(std::string_view base) {
  while (base.ends_with('/')) base.remove_suffix(1);
  return std::string(base);
}

class Query {
 public:
  void add(std::string_view key, std::string_view value) {
    text_ += (text_.empty() ? "?" : "&") + form(key) + "=" + form(value);
  }
  /// A switch, whose presence counts: Grafana takes `kiosk=` for another mode than `kiosk`.
  void add(std::string_view key) { text_ += (text_.empty() ? "?" : "&") + form(key); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

struct Times {
  std::string from, to;
};
Result<Times> times_of(const LinkOptions& options) {
  Times result;
  for (const auto& [given, out] : {std::pair{&options.from, &result.from}, {&options.to, &result.to}}) {
    if (given->empty()) continue;
    auto time = link_time(*given);
    if (!time) return tl::unexpected(time.error());
    *out = std::move(*time);
  }
  return result;
}

Result<std::string> page(std::string_view base, std::string_view uid, std::optional<std::int64_t> panel,
                         const LinkOptions& options, std::string_view slug) {
  if (uid.empty()) return fail(Error::Kind::bad_input, "a dashboard's link needs its uid");
  const auto range = times_of(options);
  if (!range) return tl::unexpected(range.error());
  Query query;
  if (panel) query.add("viewPanel", std::to_string(*panel));
  if (!range->from.empty()) query.add("from", range->from);
  if (!range->to.empty()) query.add("to", range->to);
  std::vector<std::pair<std::string, std::string>> rest = options.more;
  for (const auto& [name, value] : options.vars) rest.emplace_back("var-" + name, value);
  if (options.org) rest.emplace_back("orgId", std::to_string(*options.org));
  if (!options.refresh.empty()) rest.emplace_back("refresh", options.refresh);
  if (!options.timezone.empty()) rest.emplace_back("timezone", options.timezone);
  if (options.kiosk) rest.emplace_back("kiosk", "");
  std::stable_sort(rest.begin(), rest.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [key, value] : rest) {
    if (key == "kiosk" && value.empty())
      query.add(key);
    else
      query.add(key, value);
  }
  return trimmed(base) + "/d/" + escape(uid) + (slug.empty() ? "" : "/" + escape(slug)) + query.text();
}

bool reads_panes(std::string_view version) {
  int major = 0, minor = 0;
  const auto* end = version.data() + version.size();
  const auto [dot, error] = std::from_chars(version.data(), end, major);
  if (error != std::errc()) return true;
  if (dot != end && *dot == '.') std::from_chars(dot + 1, end, minor);
  return major > 10 || (major == 10 && minor >= 2);
}

}  // namespace

Result<std::string> link_time(std::string_view text) {
  if (is_relative(text)) return std::string(text);
  const bool ago = is_ago(text);
  if (ago && is_relative(from_now(text))) return from_now(text);
  const auto time = times::moment(text, std::chrono::sys_days(std::chrono::year(2000) / 1 / 1));
  if (!time) return tl::unexpected(time.error());
  if (ago || text.starts_with("now"))
    return fail(Error::Kind::bad_input,
                "time \"" + std::string(text) + "\": Grafana's pages have the units s m h d w M y alone");
  return std::to_string(time->time_since_epoch().count());
}

Result<std::string> dashboard_link(std::string_view base, std::string_view uid, const LinkOptions& options,
                                   std::string_view slug) {
  return page(base, uid, std::nullopt, options, slug);
}

Result<std::string> panel_link(std::string_view base, std::string_view uid, std::int64_t panel,
                               const LinkOptions& options, std::string_view slug) {
  return page(base, uid, panel, options, slug);
}

Result<std::string> explore_link(std::string_view base, std::string_view version, const ExploreTarget& target,
                                 const LinkOptions& options) {
  if (target.datasource_uid.empty())
    return fail(Error::Kind::bad_input, "an Explore link needs a data source's uid");
  const auto range = times_of(options);
  if (!range) return tl::unexpected(range.error());
  Json pane{{"datasource", target.datasource_uid}};
  if (!target.queries.empty()) pane["queries"] = Json::array();
  for (const auto& one : target.queries) {
    Json query{{"refId", one.ref}, {"expr", one.expr}, {"datasource", {{"uid", target.datasource_uid}}}};
    if (!target.datasource_type.empty()) query["datasource"]["type"] = target.datasource_type;
    if (target.datasource_type == "loki") query["queryType"] = one.instant ? "instant" : "range";
    if (target.datasource_type == "prometheus") {
      query["instant"] = one.instant;
      query["range"] = !one.instant;
    }
    pane["queries"].push_back(std::move(query));
  }
  if (!range->from.empty()) pane["range"]["from"] = range->from;
  if (!range->to.empty()) pane["range"]["to"] = range->to;
  // With one end missing Explore drops the range.
  if (pane.contains("range")) {
    if (!pane["range"].contains("from")) pane["range"]["from"] = "now-1h";
    if (!pane["range"].contains("to")) pane["range"]["to"] = "now";
  }
  const auto text = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  Query query;
  if (reads_panes(version)) {
    query.add("panes", text(Json{{"a", std::move(pane)}}));
    query.add("schemaVersion", "1");
  } else {
    query.add("left", text(pane));
  }
  if (options.org) query.add("orgId", std::to_string(*options.org));
  return trimmed(base) + "/explore" + query.text();
}

Result<std::string> alert_link(std::string_view base, std::string_view rule_uid) {
  if (rule_uid.empty()) return fail(Error::Kind::bad_input, "a rule's link needs its uid");
  return trimmed(base) + "/alerting/grafana/" + escape(rule_uid) + "/view";
}

Result<std::string> folder_link(std::string_view base, std::string_view folder_uid) {
  if (folder_uid.empty()) return fail(Error::Kind::bad_input, "a folder's link needs its uid");
  return trimmed(base) + "/dashboards/f/" + escape(folder_uid);
}

std::string silence_link(std::string_view base,
                         const std::vector<std::pair<std::string, std::string>>& labels) {
  Query query;
  query.add("alertmanager", "grafana");
  for (const auto& [name, value] : labels) query.add("matcher", name + "=" + value);
  return trimmed(base) + "/alerting/silence/new" + query.text();
}

Result<std::string> short_path(std::string_view base, std::string_view link) {
  const std::string prefix = trimmed(base) + "/";
  if (!link.starts_with(prefix) || link.size() == prefix.size())
    return fail(Error::Kind::bad_input, "link " + std::string(link) + " is not of " + trimmed(base));
  return std::string(link.substr(prefix.size()));
}

}  // namespace tunnelctl::grafana
