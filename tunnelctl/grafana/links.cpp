#include "tunnelctl/grafana/links.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include <nlohmann/json.hpp>

#include "tunnelctl/grafana/server.h"

namespace tunnelctl::grafana {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
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

/// Takes `count` digits off the front.
std::optional<int> take_number(std::string_view& text, std::size_t count) {
  if (text.size() < count || !all_digits(text.substr(0, count))) return std::nullopt;
  int value = 0;
  std::from_chars(text.data(), text.data() + count, value);
  text.remove_prefix(count);
  return value;
}
bool take(std::string_view& text, char wanted) {
  if (text.empty() || text.front() != wanted) return false;
  text.remove_prefix(1);
  return true;
}

/// Seconds east of Greenwich.
std::optional<int> take_offset(std::string_view& text) {
  if (take(text, 'Z') || take(text, 'z')) return 0;
  const bool east = take(text, '+');
  if (!east && !take(text, '-')) return std::nullopt;
  const auto hours = take_number(text, 2);
  if (!hours || !take(text, ':')) return std::nullopt;
  const auto minutes = take_number(text, 2);
  if (!minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  return (east ? 1 : -1) * (*hours * 3600 + *minutes * 60);
}

/// RFC 3339, or its date alone.
std::optional<std::int64_t> milliseconds(std::string_view text) {
  namespace chrono = std::chrono;
  const auto year = take_number(text, 4);
  if (!year || !take(text, '-')) return std::nullopt;
  const auto month = take_number(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  const auto day = take_number(text, 2);
  if (!day) return std::nullopt;
  const chrono::year_month_day date{chrono::year(*year), chrono::month(static_cast<unsigned>(*month)),
                                    chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  const std::int64_t days = chrono::sys_days(date).time_since_epoch().count();
  constexpr std::int64_t kDay = 86'400'000;
  if (text.empty()) return days * kDay;
  if (!take(text, 'T') && !take(text, 't') && !take(text, ' ')) return std::nullopt;
  const auto hour = take_number(text, 2);
  if (!hour || !take(text, ':')) return std::nullopt;
  const auto minute = take_number(text, 2);
  if (!minute || !take(text, ':')) return std::nullopt;
  const auto second = take_number(text, 2);
  if (!second || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  int fraction = 0;
  if (take(text, '.')) {
    std::size_t digits = 0;
    for (; digits < text.size() && is_digit(text[digits]); ++digits)
      if (digits < 3) fraction = fraction * 10 + (text[digits] - '0');
    if (digits == 0) return std::nullopt;
    for (std::size_t i = digits; i < 3; ++i) fraction *= 10;
    text.remove_prefix(digits);
  }
  const auto offset = take_offset(text);
  if (!offset || !text.empty()) return std::nullopt;
  return days * kDay + (*hour * 3600LL + *minute * 60LL + *second - *offset) * 1000 + fraction;
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
Result<Times> times(const LinkOptions& options) {
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
  const auto range = times(options);
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
  if (all_digits(text)) {
    if (text.size() >= 12 && text.size() <= 14) return std::string(text);
    // Milliseconds of so few digits are days in 1970, which nobody has monitored.
    if (text.size() == 10) return std::string(text) + "000";
  }
  if (const auto value = milliseconds(text)) return std::to_string(*value);
  return fail(Error::Kind::bad_input,
              "time \"" + std::string(text) +
                  "\" must be now-1h and the like, RFC 3339 (2026-01-01T00:00:00Z), a date, or "
                  "epoch milliseconds");
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
  const auto range = times(options);
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
