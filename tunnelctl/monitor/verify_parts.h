#pragma once

#include <optional>

#include "tunnelctl/monitor/repeats.h"
#include "tunnelctl/monitor/verify.h"
#include "tunnelctl/times/moment.h"

/// The pieces of verify; for no other header.
namespace tunnelctl::monitor {

/// One query to one data source.
struct Question {
  std::string type{};  // prometheus, loki
  std::string uid{};   // Grafana's; "" where it is asked directly
  std::string expr{};
  bool instant = false;
  times::Range range{};
  std::chrono::milliseconds step{15'000};
};

struct Outcome {
  std::optional<Error> error{};
  std::size_t series = 0;
  std::size_t with_data = 0;
  std::string notes{};  // the server's remarks
};

/// Where a data source of a pack leads to.
struct Source {
  std::string type{}, uid{};
  std::string shown{};    // for people
  std::string skipped{};  // why its queries are not asked, and that is well
  std::string error{};    // why they cannot be
};

/// The expression of a rule as its server runs it, without the comparison.
struct RuleQuery {
  std::string name{};
  std::string expr{};
  /// There was no comparison to take out: what it returns are alerts, and none is the good state.
  bool whole = false;
};

/// The server that is asked. `ask` and `label_values` are called by many threads at once.
class Asked {
 public:
  virtual ~Asked() = default;
  virtual Outcome ask(const Question& question) = 0;
  virtual Result<std::vector<std::string>> label_values(const Source& source, const LabelValues& what,
                                                        const times::Range& range) = 0;
  /// Before anything else: one check for each data source.
  virtual std::vector<Check> datasources(const pack::Pack& pack) = 0;
  /// `written` as in the dashboards: "${datasource}" or a uid. After `datasources`.
  virtual Source source(const pack::Pack& pack, const std::string& written, const std::string& type) = 0;
  virtual std::vector<RuleQuery> rule_queries(const pack::Pack& pack) = 0;
  virtual std::vector<Check> rules(const pack::Pack& pack) = 0;
  virtual std::vector<Check> contact_points(const pack::Pack& pack) = 0;
  virtual std::vector<Check> links(const pack::Pack& pack) = 0;
};

Verified run_checks(Asked& asked, std::span<const pack::Pack> packs, const VerifyOptions& options,
                    const std::stop_token& stop);

/// The pack's rules against those Prometheus runs. Recording ones too. `suffix` is put behind the ids.
std::vector<Check> check_prometheus_rules(const pack::Pack& pack,
                                          const std::vector<prometheus::RuleGroup>& groups,
                                          const std::string& suffix);
/// Each rule's expression without its comparison, as Prometheus evaluates it.
std::vector<RuleQuery> prometheus_rule_queries(const pack::Pack& pack);

/// A place in a dashboard that something of the pack links to.
struct DashboardLink {
  std::string uid{};
  std::optional<std::int64_t> panel{};
  auto operator<=>(const DashboardLink&) const = default;
};
struct Links {
  std::map<DashboardLink, std::string> dashboards{};  // -> who links there first
  std::map<std::string, std::string> runbooks{};      // absolute URLs without fragment -> who
};
/// From the compiled dashboards and the rules' annotations. `bases`: Grafana's own addresses.
Links links_of(const pack::Pack& pack, const CompileOptions& options, const std::vector<std::string>& bases);
/// Asks for each once, without credentials; an answer of 400 or above is a warning.
std::vector<Check> check_runbooks(const std::map<std::string, std::string>& urls, std::size_t parallel,
                                  const std::stop_token& stop);

/// "rule/<name>", the same for all rules of that name but the second, which is "rule/<name>#2".
class RuleIds {
 public:
  std::string next(const std::string& rule);

 private:
  std::map<std::string, int> seen_;
};

}  // namespace tunnelctl::monitor
