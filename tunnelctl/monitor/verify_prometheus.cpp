#include <algorithm>

#include "tunnelctl/monitor/verify_parts.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::monitor {
namespace {

class Directly final : public Asked {
 public:
  Directly(prometheus::Server& prometheus, prometheus::Loki* loki, const VerifyOptions& options,
           const std::stop_token& stop)
      : prometheus_(prometheus), loki_(loki), options_(options), stop_(stop) {}

  Outcome ask(const Question& question) override {
    const prometheus::Range range{question.range.from, question.range.to, question.step};
    Result<prometheus::Data> answer = fail(Error::Kind::bug, "no server for " + question.type);
    if (question.type == "loki" && loki_ != nullptr)
      answer =
          question.instant ? loki_->query(question.expr, range.to) : loki_->query_range(question.expr, range);
    else if (question.type == "prometheus")
      answer = question.instant ? prometheus_.query(question.expr, range.to)
                                : prometheus_.query_range(question.expr, range);
    Outcome outcome;
    if (!answer) {
      outcome.error = answer.error();
      return outcome;
    }
    outcome.series = answer->series.size();
    outcome.with_data = prometheus::series_with_data(*answer);
    for (const auto& one : answer->warnings) outcome.notes += (outcome.notes.empty() ? "" : "; ") + one;
    return outcome;
  }

  Result<std::vector<std::string>> label_values(const Source& source, const LabelValues& what,
                                                const times::Range& range) override {
    const prometheus::Range of{range.from, range.to};
    if (source.type == "loki" && loki_ != nullptr) return loki_->label_values(what.label, what.selector, of);
    if (source.type == "prometheus") return prometheus_.label_values(what.label, what.selector, of);
    return fail(Error::Kind::not_found, "there is no server to ask for the values of " + what.label);
  }

  std::vector<Check> datasources(const pack::Pack& pack) override {
    std::vector<Check> result;
    for (const auto& one : pack.datasources) {
      if (one.type != "prometheus" && one.type != "loki") continue;
      Check check{.kind = Check::Kind::datasource, .id = one.variable, .title = one.type};
      const Source found = source(pack, "${" + one.variable + "}", one.type);
      check.datasource = found.shown;
      if (!found.skipped.empty()) {
        check.status = Status::skipped;
        check.message = found.skipped;
      } else if (!found.error.empty()) {
        check.status = Status::error;
        check.message = found.error;
      } else {
        look_at(one.type, check);
        if (one.type == "prometheus" && check.status == Status::ok) look_at_targets(pack, check);
      }
      result.push_back(std::move(check));
    }
    return result;
  }

  Source source(const pack::Pack& pack, const std::string& written, const std::string& type) override {
    Source result{.type = type};
    const auto variable = pack::variable_name(written);
    const pack::Datasource* wanted = nullptr;
    for (const auto& one : pack.datasources)
      if (variable ? one.variable == *variable : one.type == type) wanted = &one;
    if (result.type.empty() && wanted != nullptr) result.type = wanted->type;
    if (result.type == "prometheus") {
      result.shown = prometheus_.name();
      result.error = down_["prometheus"];
    } else if (result.type == "loki" && loki_ != nullptr) {
      result.shown = loki_->name();
      result.error = down_["loki"];
    } else if (result.type == "loki" && wanted != nullptr && wanted->optional) {
      result.skipped = "no Loki is given (--loki-url); the pack can do without";
    } else if (result.type == "loki") {
      result.error = "no Loki is given; set --loki-url";
    } else {
      result.skipped = "queries of data sources of type " + (result.type.empty() ? "?" : result.type) +
                       " are asked through Grafana only";
    }
    return result;
  }

  std::vector<RuleQuery> rule_queries(const pack::Pack& pack) override {
    return prometheus_rule_queries(pack);
  }

  std::vector<Check> rules(const pack::Pack& pack) override {
    const auto groups = prometheus_.rules();
    if (!groups)
      return {{.kind = Check::Kind::rule,
               .id = "rules",
               .title = "the rules of " + pack.name,
               .status = Status::error,
               .message = groups.error().message}};
    auto result = check_prometheus_rules(pack, *groups, "");
    for (auto& check : result) check.datasource = prometheus_.name();
    return result;
  }

  std::vector<Check> contact_points(const pack::Pack&) override { return {}; }

  std::vector<Check> links(const pack::Pack& pack) override {
    return check_runbooks(links_of(pack, options_.compile, {options_.compile.grafana_url}).runbooks,
                          options_.parallel, stop_);
  }

 private:
  /// Answers it at all? If not, its queries need not be asked one by one.
  void look_at(const std::string& type, Check& check) {
    const auto now =
        std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
    // Loki's "vector(1)" is younger than the versions that are around; labels are asked by its data source.
    Result<void> done;
    if (type == "prometheus") {
      if (auto answer = prometheus_.query("1", now); !answer) done = tl::unexpected(answer.error());
    } else if (auto answer = loki_->label_values("service", "", {now - std::chrono::hours(1), now});
               !answer) {
      done = tl::unexpected(answer.error());
    }
    if (done) return;
    check.status = Status::error;
    check.message = done.error().message;
    down_[type] = done.error().message;
  }

  /// Says early why all of a pack's queries may be empty.
  void look_at_targets(const pack::Pack& pack, Check& check) {
    if (!pack.scrape || pack.scrape->job.empty()) return;
    const auto targets = prometheus_.targets();
    if (!targets) return;  // not every server that speaks PromQL scrapes
    std::size_t all = 0;
    std::size_t up = 0;
    std::string why;
    for (const auto& target : *targets) {
      const auto job = target.labels.find("job");
      if (job == target.labels.end() || job->second != pack.scrape->job) continue;
      ++all;
      if (target.health == "up") ++up;
      if (why.empty() && !target.last_error.empty()) why = "; " + target.url + ": " + target.last_error;
    }
    check.message = all == 0 ? "no target of job " + pack.scrape->job + " is scraped"
                             : std::to_string(up) + " of " + std::to_string(all) + " targets of job " +
                                   pack.scrape->job + " are up" + why;
    if (up == 0 || up < all) check.status = Status::warning;
  }

  prometheus::Server& prometheus_;
  prometheus::Loki* loki_;
  const VerifyOptions& options_;
  const std::stop_token& stop_;
  std::map<std::string, std::string> down_;  // type -> why
};

}  // namespace

Verified verify(prometheus::Server& prometheus, prometheus::Loki* loki, std::span<const pack::Pack> packs,
                const VerifyOptions& options, std::stop_token stop) {
  Directly directly(prometheus, loki, options, stop);
  return run_checks(directly, packs, options, stop);
}

}  // namespace tunnelctl::monitor
