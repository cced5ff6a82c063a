#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/monitor/compile.h"
#include "tunnelctl/pack/pack.h"
#include "tunnelctl/prometheus/loki.h"
#include "tunnelctl/prometheus/server.h"

/// Whether what packs brought to a server really works there: every query asked, every rule looked at, every
/// link followed. Reads only.
namespace tunnelctl::monitor {

enum class Status {
  data,       // a query, with series
  ok,         // anything else, as it should be
  slow,       // data, but later than VerifyOptions::slow
  allowed,    // empty, and the manifest says that it may be (reason)
  skipped,    // not asked, rightly: an optional data source that is not there
  warning,    // worth a look, and no reason to fail
  empty,      // no series, or nothing but NaN in them
  pending,    // a rule that was not evaluated yet
  missing,    // a rule, contact point, dashboard or panel that is not on the server
  error,      // message has the server's words
  cancelled,  // the stop came first
};
/// "data", "ok", ...
std::string_view name(Status status);
/// data, ok, slow, allowed, skipped and warning are.
bool is_good(Status status);

struct Check {
  enum class Kind { query, rule, contact_point, link, datasource };
  Kind kind = Kind::query;
  /// query: "<dashboard>/<panel>/<refId>", with "{variable=value}" behind where panel or row is repeated, or
  /// "rule/<name>"; rule: "rule/<name>"; contact_point: its name; link: what it leads to,
  /// "/d/<uid>?viewPanel=4" or a URL; datasource: the variable.
  std::string id{};
  std::string title{};
  std::string datasource{};  // name, or URL where it is asked directly
  std::string expr{};        // as it was asked, without variables
  Status status = Status::ok;
  std::size_t series = 0;
  std::chrono::milliseconds took{0};  // of the query
  std::string message{};
  std::string reason{};  // of allow_empty
};
/// "query", "rule", "contact point", "link", "data source"
std::string_view name(Check::Kind kind);

struct Verified {
  std::vector<Check> checks{};  // in the order of the packs' files; data sources first
  std::map<Status, std::size_t> counts{};
  bool good = false;  // all are
};

struct VerifyOptions {
  std::string from = "now-1h", to = "now";  // see times/moment.h
  /// As long as this, what is empty, pending or not evaluated yet is asked again, every 1 to 5 seconds.
  std::chrono::milliseconds wait{0};
  std::chrono::milliseconds slow{5000};
  std::size_t parallel = 8;  // queries in flight
  bool queries = true, rules = true, links = true;
  /// `target` says where the rules are looked for, `datasources` what the variables stand for; what is not in
  /// it is chosen as in datasources.h.
  CompileOptions compile{};
  /// Queries that are answered for good, of all. Any thread, one at a time.
  std::function<void(std::size_t done, std::size_t all)> progress{};
};

/// Through Grafana: dashboards' and rules' queries as Grafana runs them, rules' health, contact points and
/// links. The runbooks' pages are asked for without credentials.
Verified verify(grafana::Server& server, std::span<const pack::Pack> packs, const VerifyOptions& options,
                std::stop_token stop);

/// Directly; without Loki its queries are skipped where the pack calls it optional. Contact points and
/// dashboards are not looked at: there is no Grafana.
Verified verify(prometheus::Server& prometheus, prometheus::Loki* loki, std::span<const pack::Pack> packs,
                const VerifyOptions& options, std::stop_token stop);

}  // namespace tunnelctl::monitor
