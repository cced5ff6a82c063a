#include "tunnelctl/monitor/verify.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tunnelctl/monitor/verify_parts.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::monitor {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kFirstPause{1'000};
constexpr milliseconds kLongestPause{5'000};
/// As many points as a panel of usual width draws; more only cost the server time.
constexpr int kPoints = 300;

/// A query with what is needed to ask it again.
struct Task {
  Check check{};
  const pack::Pack* pack = nullptr;
  const pack::Dashboard* dashboard = nullptr;   // null: a rule's
  pack::Query query{};                          // a rule's: expr only
  std::map<std::string, std::string> chosen{};  // repeated variable -> the value it stands for
  /// Variables of a repeat without values so far: the panel is asked once, as Grafana shows it.
  std::vector<std::string> unresolved{};
  const pack::Exception* allowed = nullptr;
  bool data_is_alarm = false;  // so that data does not make the exception needless
  Source source{};
  bool open = true;  // to be asked in the next round
};

std::string id_of(const Task& task) {
  std::string id = task.query.id();
  for (const auto& [variable, value] : task.chosen) id += "{" + variable + "=" + value + "}";
  return id;
}

milliseconds scrape_interval(const pack::Pack& pack) {
  constexpr milliseconds kUsual{15'000};
  if (!pack.scrape) return kUsual;
  return pack::duration(pack.scrape->interval).value_or(kUsual);
}

/// The panel and target of a query: its `interval`, the least step that it wants.
milliseconds least_step(const pack::Dashboard& dashboard, const pack::Query& query) {
  milliseconds least{0};
  const auto take = [&](const pack::Json& holder) {
    const auto found = holder.find("interval");
    if (found == holder.end() || !found->is_string()) return;
    std::string text = found->get<std::string>();
    if (text.starts_with('>')) text.erase(0, 1);
    least = pack::duration(text).value_or(least);
  };
  for (const pack::Json* panel : pack::panels(dashboard.json)) {
    if (!panel->is_object() || panel->value("id", pack::Json()) != pack::Json(query.panel)) continue;
    take(*panel);
    const auto targets = panel->find("targets");
    if (targets == panel->end() || !targets->is_array()) continue;
    for (const pack::Json& target : *targets)
      if (target.is_object() && target.value("refId", pack::Json()) == pack::Json(query.ref)) take(target);
  }
  return least;
}

class Verification {
 public:
  Verification(Asked& asked, std::span<const pack::Pack> packs, const VerifyOptions& options,
               const std::stop_token& stop)
      : asked_(asked), packs_(packs), options_(options), stop_(stop) {}

  Verified run() {
    if (const auto range = times::range(options_.from, options_.to, now()); !range) {
      // Nothing was asked; the commands check the options before they come here.
      add({.kind = Check::Kind::query,
           .id = "time",
           .status = Status::error,
           .message = range.error().message});
      return std::move(result_);
    }
    const auto until = steady_clock::now() + options_.wait;
    ask_datasources();
    prepare();
    milliseconds pause = kFirstPause;
    bool waited = false;
    for (;;) {
      ask_open();
      ask_rules();
      if (stop_.stop_requested() || !can_heal()) break;
      const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
      if (left <= milliseconds(0)) break;
      sleep(std::min(pause, left));
      if (stop_.stop_requested()) break;
      pause = std::min(pause * 3 / 2, kLongestPause);
      reopen();
      waited = true;
    }
    // What was said of targets at first may be old by now.
    if (waited && !stop_.stop_requested()) ask_datasources();
    finish();
    return std::move(result_);
  }

 private:
  void ask_datasources() {
    checks_.clear();
    if (!options_.queries && !options_.rules) return;
    for (const auto& pack : packs_)
      for (auto& check : asked_.datasources(pack)) checks_.push_back(std::move(check));
  }

  static times::Time now() {
    return std::chrono::time_point_cast<milliseconds>(std::chrono::system_clock::now());
  }

  void sleep(milliseconds time) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    changed.wait_for(lock, stop_, time, [] { return false; });
  }

  times::Range range() const {
    // Read before; `now` moves on while we wait.
    return *times::range(options_.from, options_.to, now());
  }

  void prepare() {
    for (const auto& pack : packs_) {
      if (options_.queries)
        for (const auto& dashboard : pack.dashboards)
          for (auto& query : pack::queries(dashboard)) add_query(pack, dashboard, std::move(query));
      if (options_.rules) add_rules(pack);
    }
  }

  void add_query(const pack::Pack& pack, const pack::Dashboard& dashboard, pack::Query query) {
    Task task{.pack = &pack, .dashboard = &dashboard, .query = std::move(query)};
    task.check.title = task.query.panel_title;
    task.allowed = pack::covering(pack.allow_empty, task.query.id());
    task.source = asked_.source(pack, task.query.datasource, task.query.type);
    const auto all = repeats(dashboard.json);
    if (const auto found = all.find(task.query.panel); found != all.end()) task.unresolved = found->second;
    for (auto& one : resolved(std::move(task))) tasks_.push_back(std::move(one));
  }

  /// The task once for each value of its repeats, as far as they are known.
  std::vector<Task> resolved(Task task) {
    std::vector<Task> result{std::move(task)};
    for (std::size_t round = result.front().unresolved.size(); round > 0; --round) {
      std::vector<Task> next;
      for (auto& one : result) {
        const std::string variable = one.unresolved.front();
        one.unresolved.erase(one.unresolved.begin());
        std::string unknown;
        const auto values = one.source.skipped.empty() && one.source.error.empty()
                                ? values_for(one, variable, unknown)
                                : std::vector<std::string>();
        if (values.empty()) {
          one.unresolved.push_back(variable);
          one.check.message = unknown;
          next.push_back(std::move(one));
          continue;
        }
        for (const auto& value : values) {
          next.push_back(one);
          next.back().chosen[variable] = value;
        }
      }
      result = std::move(next);
    }
    for (auto& one : result) one.check.id = id_of(one);
    return result;
  }

  std::vector<std::string> values_for(const Task& task, const std::string& variable, std::string& unknown) {
    const Values values = values_of(task.dashboard->json, variable);
    if (!values.known.empty()) return values.known;
    if (!values.ask) {
      unknown = "repeated for each value of " + variable + ", asked once for all: " + values.unknown;
      return {};
    }
    const Source source = asked_.source(*task.pack, values.datasource, {});
    const auto variables = variables_of(task);
    const LabelValues what{promql::expand(values.ask->selector, variables).text,
                           promql::expand(values.ask->label, variables).text};
    const std::string key = source.uid + "\n" + what.selector + "\n" + what.label + "\n" + values.regex;
    if (const auto found = values_.find(key); found != values_.end()) return found->second;
    auto answer = asked_.label_values(source, what, range());
    if (!answer) {
      unknown = "repeated for each value of " + variable + ", asked once for all: " + answer.error().message;
      return {};
    }
    auto result = filtered(*answer, values.regex);
    if (result.empty())
      unknown = "repeated for each value of " + variable + ", which has none";
    else
      values_[key] = result;
    return result;
  }

  void add_rules(const pack::Pack& pack) {
    RuleIds ids;
    for (auto& rule : asked_.rule_queries(pack)) {
      Task task{.pack = &pack};
      task.query.expr = std::move(rule.expr);
      task.query.instant = true;
      task.check.id = ids.next(rule.name);
      task.check.title = rule.name;
      task.allowed = pack::covering(pack.allow_empty, "rule/" + rule.name);
      task.data_is_alarm = rule.whole;
      std::string variable;
      for (const auto& one : pack.datasources)
        if (one.type == "prometheus" && variable.empty()) variable = one.variable;
      task.source = asked_.source(pack, "${" + variable + "}", "prometheus");
      tasks_.push_back(std::move(task));
    }
  }

  promql::Variables variables_of(const Task& task) const {
    auto variables = pack::variables(*task.dashboard);
    for (const auto& [name, value] : task.chosen) variables[name].values = {value};
    return variables;
  }

  /// The times that Grafana would put into the query, by the rules of its Prometheus data source.
  Question question(const Task& task) const {
    Question result{.type = task.source.type,
                    .uid = task.source.uid,
                    .expr = task.query.expr,
                    .instant = task.query.instant,
                    .range = range()};
    const milliseconds scrape = scrape_interval(*task.pack);
    const milliseconds length = result.range.to - result.range.from;
    result.step = std::max({scrape, milliseconds(1'000), length / kPoints / 1000 * 1000});
    if (task.dashboard == nullptr) return result;
    result.step = std::max(result.step, least_step(*task.dashboard, task.query));
    const milliseconds rate = std::max(result.step + scrape, 4 * scrape);
    auto variables = variables_of(task);
    const auto set = [&](const char* name, std::string value) {
      variables[name] = {.values = {std::move(value)}, .all_value = {}, .multi = false};
    };
    set("__interval", pack::duration_text(result.step));
    set("__interval_ms", std::to_string(result.step.count()));
    set("__rate_interval", pack::duration_text(rate));
    set("__rate_interval_ms", std::to_string(rate.count()));
    set("__auto", pack::duration_text(std::max(result.step, milliseconds(60'000))));
    set("__range", std::to_string(length.count() / 1000) + "s");
    set("__range_s", std::to_string(length.count() / 1000));
    set("__range_ms", std::to_string(length.count()));
    set("__from", std::to_string(result.range.from.time_since_epoch().count()));
    set("__to", std::to_string(result.range.to.time_since_epoch().count()));
    result.expr = promql::expand(result.expr, variables).text;
    return result;
  }

  /// Every open task, `parallel` at a time.
  void ask_open() {
    std::vector<Task*> open;
    for (auto& task : tasks_)
      if (task.open) open.push_back(&task);
    settled_ = tasks_.size() - open.size();
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      for (std::size_t i = next++; i < open.size(); i = next++) {
        ask(*open[i]);
        if (!options_.progress) continue;
        const std::lock_guard lock(progress_);
        options_.progress(++settled_, tasks_.size());
      }
    };
    std::vector<std::jthread> others;
    const std::size_t threads = std::min(std::max<std::size_t>(options_.parallel, 1), open.size());
    for (std::size_t i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }

  void ask(Task& task) {
    task.open = false;
    Check& check = task.check;
    const std::string remark = task.unresolved.empty() ? std::string() : check.message;
    check.datasource = task.source.shown;
    check.expr = task.query.expr;
    if (!task.source.skipped.empty()) {
      check.status = Status::skipped;
      check.message = task.source.skipped;
      return;
    }
    if (!task.source.error.empty()) {
      check.status = Status::error;
      check.message = task.source.error;
      return;
    }
    if (stop_.stop_requested()) return cancel(check);
    const Question question = this->question(task);
    check.expr = question.expr;
    const auto begin = steady_clock::now();
    const Outcome outcome = asked_.ask(question);
    check.took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
    check.series = outcome.series;
    check.message = outcome.notes;
    check.reason.clear();
    if (outcome.error) {
      if (outcome.error->kind == Error::Kind::cancelled) return cancel(check);
      check.status = Status::error;
      check.message = outcome.error->message;
      return;
    }
    if (outcome.with_data > 0) {
      check.status = check.took > options_.slow ? Status::slow : Status::data;
    } else {
      check.status = task.allowed != nullptr ? Status::allowed : Status::empty;
      if (task.allowed != nullptr) check.reason = task.allowed->reason;
      if (outcome.series > 0)
        say(check, std::to_string(outcome.series) + " series, and nothing but NaN in them");
    }
    if (!remark.empty()) say(check, remark);
  }

  static void say(Check& check, const std::string& text) {
    check.message += (check.message.empty() ? "" : "; ") + text;
  }

  static void cancel(Check& check) {
    check.status = Status::cancelled;
    check.message = "not asked: interrupted";
  }

  void ask_rules() {
    if (!options_.rules) return;
    const bool fine =
        std::all_of(rules_.begin(), rules_.end(), [](const Check& check) { return is_good(check.status); });
    if (asked_rules_ && fine) return;
    asked_rules_ = true;
    rules_.clear();
    if (stop_.stop_requested()) return;
    for (const auto& pack : packs_) {
      for (auto& check : asked_.rules(pack)) {
        if (check.status == Status::empty) {
          std::string id = check.id;
          id = id.substr(0, id.find('#'));
          if (const auto* allowed = pack::covering(pack.allow_empty, id)) {
            check.status = Status::allowed;
            check.reason = allowed->reason;
          }
        }
        rules_.push_back(std::move(check));
      }
    }
  }

  /// Whether anything is left that time may heal.
  bool can_heal() const {
    return std::any_of(rules_.begin(), rules_.end(),
                       [](const Check& check) { return !is_good(check.status); }) ||
           std::any_of(tasks_.begin(), tasks_.end(),
                       [](const Task& task) { return task.check.status == Status::empty; });
  }

  void reopen() {
    std::vector<Task> next;
    for (auto& task : tasks_) {
      task.open = task.check.status == Status::empty;
      // Values may have come up meanwhile.
      if (!task.open || task.unresolved.empty())
        next.push_back(std::move(task));
      else
        for (auto& one : resolved(std::move(task))) next.push_back(std::move(one));
    }
    tasks_ = std::move(next);
  }

  void finish() {
    note_needless();
    for (auto& check : checks_) add(std::move(check));
    for (auto& task : tasks_) add(std::move(task.check));
    for (auto& check : rules_) add(std::move(check));
    for (const auto& pack : packs_) {
      if (options_.rules && !stop_.stop_requested())
        for (auto& check : asked_.contact_points(pack)) add(std::move(check));
      if (options_.links && !stop_.stop_requested())
        for (auto& check : asked_.links(pack)) add(std::move(check));
    }
    result_.good =
        !stop_.stop_requested() && std::all_of(result_.checks.begin(), result_.checks.end(),
                                               [](const Check& check) { return is_good(check.status); });
  }

  /// An entry of allow_empty is needed as long as one of its queries is empty.
  void note_needless() {
    std::map<const pack::Exception*, bool> needed;
    for (const auto& task : tasks_) {
      if (task.allowed == nullptr) continue;
      const bool data = task.check.status == Status::data || task.check.status == Status::slow;
      needed[task.allowed] = needed[task.allowed] || !data || task.data_is_alarm;
    }
    for (auto& task : tasks_)
      if (task.allowed != nullptr && !needed[task.allowed])
        say(task.check, "has data, though " + task.allowed->object + " may be empty");
  }

  void add(Check check) {
    ++result_.counts[check.status];
    result_.checks.push_back(std::move(check));
  }

  Asked& asked_;
  const std::span<const pack::Pack> packs_;
  const VerifyOptions& options_;
  const std::stop_token& stop_;
  std::vector<Check> checks_;
  std::vector<Task> tasks_;
  std::vector<Check> rules_;
  bool asked_rules_ = false;
  std::map<std::string, std::vector<std::string>> values_;
  std::mutex progress_;
  std::size_t settled_ = 0;
  Verified result_;
};

}  // namespace

std::string_view name(Status status) {
  switch (status) {
    case Status::data: return "data";
    case Status::ok: return "ok";
    case Status::slow: return "slow";
    case Status::allowed: return "allowed";
    case Status::skipped: return "skipped";
    case Status::warning: return "warning";
    case Status::empty: return "empty";
    case Status::pending: return "pending";
    case Status::missing: return "missing";
    case Status::error: return "error";
    case Status::cancelled: return "cancelled";
  }
  return "";
}

bool is_good(Status status) {
  return status <= Status::warning;
}

std::string_view name(Check::Kind kind) {
  switch (kind) {
    case Check::Kind::query: return "query";
    case Check::Kind::rule: return "rule";
    case Check::Kind::contact_point: return "contact point";
    case Check::Kind::link: return "link";
    case Check::Kind::datasource: return "data source";
  }
  return "";
}

std::string RuleIds::next(const std::string& rule) {
  const int count = ++seen_[rule];
  return "rule/" + rule + (count > 1 ? "#" + std::to_string(count) : std::string());
}

Verified run_checks(Asked& asked, std::span<const pack::Pack> packs, const VerifyOptions& options,
                    const std::stop_token& stop) {
  return Verification(asked, packs, options, stop).run();
}

}  // namespace tunnelctl::monitor
