#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/result.h"

/// A pack: dashboards, Prometheus rules, Alertmanager routing and runbooks in the files that the ecosystem
/// already reads, and a manifest, `pack.yaml`, that says which belong together.
namespace tunnelctl::pack {

using Json = nlohmann::json;
using Texts = std::map<std::string, std::string>;

/// Where something stands; line and column count from 1 and are 0 where they are not known.
struct Place {
  std::string file{};
  int line = 0;
  int column = 0;
};
/// "file", "file:3" or "file:3:7".
std::string text(const Place& place);

/// Something wrong with a pack. All are collected, so that one run tells everything.
struct Problem {
  Place place{};
  /// What is meant inside the file: "panel 4", "TunnelDown", "receivers[1]"; may be empty.
  std::string object{};
  std::string message{};
};
using Problems = std::vector<Problem>;
/// "file:3: object: message"
std::string text(const Problem& problem);

struct Dashboard {
  Place place{};
  std::string uid{};
  std::string title{};
  Json json{};
};

/// One entry of a Prometheus rule file: an alert (`alert` set) or a recorded series (`record` set).
struct Rule {
  Place place{};
  std::string alert{};
  std::string record{};
  std::string expr{};
  std::chrono::milliseconds hold{};  // `for`
  std::chrono::milliseconds keep_firing{};
  Texts labels{};
  Texts annotations{};
  const std::string& name() const { return alert.empty() ? record : alert; }
};

struct RuleGroup {
  Place place{};
  std::string name{};
  std::optional<std::chrono::milliseconds> interval{};  // unset: the server's default, one minute
  Texts labels{};
  /// limit, query_offset and partial_response_strategy as written: Prometheus' alone.
  Json more = Json::object();
  std::vector<Rule> rules{};
};

struct RuleFile {
  std::filesystem::path path{};
  std::vector<RuleGroup> groups{};
};

struct Matcher {
  std::string label{};
  std::string op{};  // = != =~ !~
  std::string value{};
};

struct Route {
  Place place{};
  std::string receiver{};
  std::vector<Matcher> matchers{};
  std::vector<std::string> group_by{};
  std::string group_wait{}, group_interval{}, repeat_interval{};  // as written; empty: inherited
  bool go_on = false;                                             // `continue`
  std::vector<std::string> mute_time_intervals{}, active_time_intervals{};
  std::vector<Route> routes{};
};

/// One `<kind>_configs` entry of a receiver; `settings` are Alertmanager's own keys.
struct Integration {
  Place place{};
  std::string kind{};  // pagerduty, slack, email, webhook, opsgenie, ...
  Json settings{};
};

struct Receiver {
  Place place{};
  std::string name{};
  std::vector<Integration> integrations{};
};

struct TimeInterval {
  Place place{};
  std::string name{};
  Json intervals{};  // Alertmanager's list of time_intervals, which is Grafana's too
};

struct Template {
  std::string name{};  // the file's name without extension
  std::filesystem::path path{};
  std::string text{};
};

struct Alertmanager {
  std::filesystem::path path{};
  std::string text{};  // the whole file
  Json document{};     // and its content
  Route root{};
  std::vector<Receiver> receivers{};
  std::vector<TimeInterval> time_intervals{};
  std::vector<Template> templates{};
  bool inhibits = false;  // it has inhibit_rules
};

struct Runbook {
  std::filesystem::path path{};
  std::string name{};  // of its alert: the file's name without ".md"
  std::string title{};
  std::string text{};
};

/// Which data source of the server a variable of the dashboards stands for.
struct Datasource {
  Place place{};
  std::string variable{};
  std::string type{};  // prometheus, loki
  std::string uid{}, name{};
  bool optional = false;
};

/// What a `*_file` setting of alertmanager.yaml stands for when Grafana, which reads no files, gets the
/// value.
struct SecretSource {
  Place place{};
  std::string file{};  // as alertmanager.yaml names it
  std::string environment{};
};

/// A query that may return nothing, or a finding that is accepted, and why.
struct Exception {
  Place place{};
  std::string check{};   // lint only
  std::string object{};  // "<dashboard uid>[/<panel id>[/<refId>]]" or "rule/<name>"
  std::string reason{};
};

struct Scrape {
  std::string job{}, port{}, path = "/metrics", interval = "15s";
};

struct Metric {
  std::string name{};
  std::string type{};  // counter, gauge, histogram
  std::vector<std::string> labels{};
};

struct Pack {
  std::filesystem::path manifest{};
  std::string name{};
  std::string title{};
  std::string folder_uid{}, folder_title{};
  std::vector<Dashboard> dashboards{};
  std::vector<RuleFile> rule_files{};
  std::optional<Alertmanager> alertmanager{};
  std::filesystem::path runbook_folder{};
  /// Where a rule's `runbook_url` and a panel's link are looked up: "runbooks/tunnel/" for the shipped pack.
  std::string runbook_prefix{};
  std::vector<Runbook> runbooks{};
  std::vector<Datasource> datasources{};
  std::vector<SecretSource> secrets{};
  std::vector<Exception> allow_empty{};
  std::vector<Exception> lint_ignore{};
  std::optional<Scrape> scrape{};
  /// What the watched program exposes; empty when the manifest names no contract.
  std::vector<Metric> contract{};
};

/// Finds a pack: a folder with `pack.yaml`, or the name of one that is shipped. Those are looked for in
/// $TUNNELCTL_PACKS, beside the program's source tree and in ../share/tunnelctl/packs of its installation.
/// Fails with not_found, naming every place it looked in.
Result<std::filesystem::path> find(std::string_view name_or_folder);
/// The same for names alone: a folder of that name in the working folder is not looked at.
Result<std::filesystem::path> find_shipped(std::string_view name);

/// Reads the manifest and every file it names, checking shapes, names, durations, queries, references and
/// uniqueness; whatever is wrong goes to `problems`, and what could be read is in the answer. Touches no
/// server. Fails only when the manifest itself cannot be read.
Result<Pack> load(const std::filesystem::path& folder, Problems& problems);

/// The packs must not claim the same uids.
void check_together(const std::vector<Pack>& packs, Problems& problems);

/// Prometheus' durations: "1m30s", "0", "1w". Fails with bad_input.
Result<std::chrono::milliseconds> duration(std::string_view text);
/// The shortest such text: "90s" is "1m30s"; zero is "0s".
std::string duration_text(std::chrono::milliseconds value);

}  // namespace tunnelctl::pack
