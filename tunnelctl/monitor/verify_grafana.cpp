#include <algorithm>
#include <set>

#include "tunnelctl/monitor/datasources.h"
#include "tunnelctl/monitor/frames.h"
#include "tunnelctl/monitor/verify_parts.h"
#include "tunnelctl/pack/queries.h"

namespace tunnelctl::monitor {
namespace {

using grafana::Answer;
using grafana::Call;
using grafana::escape;

constexpr int kPoints = 300;
constexpr int kLines = 100;

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

const Json* list_of(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? &*found : nullptr;
}

/// {"A": …} of the answer to a query; null when there is none.
Json result_of(const Answer& answer) {
  if (!answer.json.is_object() || !answer.json.contains("results")) return nullptr;
  const Json& results = answer.json["results"];
  return results.is_object() && results.contains("A") ? results["A"] : Json();
}

void receivers(const Json& route, std::set<std::string>& into) {
  if (const auto name = text_of(route, "receiver"); !name.empty()) into.insert(name);
  if (const Json* children = list_of(route, "routes"))
    for (const Json& child : *children) receivers(child, into);
}

void panel_ids(const Json& holder, std::set<std::int64_t>& into) {
  const Json* panels = list_of(holder, "panels");
  if (panels == nullptr) return;
  for (const Json& panel : *panels) {
    if (panel.is_object() && panel.contains("id") && panel["id"].is_number_integer())
      into.insert(panel["id"].get<std::int64_t>());
    panel_ids(panel, into);
  }
}

/// A rule as /api/prometheus/grafana/api/v1/rules shows it.
struct SeenRule {
  std::string uid, name, group, health, error, state, evaluated;
  bool paused = false;
};

std::vector<SeenRule> seen_rules(const Json& answer) {
  std::vector<SeenRule> result;
  if (!answer.is_object() || !answer.contains("data")) return result;
  const Json* groups = list_of(answer["data"], "groups");
  if (groups == nullptr) return result;
  for (const Json& group : *groups) {
    const Json* rules = list_of(group, "rules");
    if (rules == nullptr) continue;
    for (const Json& rule : *rules) {
      const auto paused = rule.is_object() ? rule.find("isPaused") : rule.end();
      result.push_back({text_of(rule, "uid"), text_of(rule, "name"), text_of(group, "name"),
                        text_of(rule, "health"), text_of(rule, "lastError"), text_of(rule, "state"),
                        text_of(rule, "lastEvaluation"), paused != rule.end() && *paused == Json(true)});
    }
  }
  return result;
}

void judge(const SeenRule& rule, Check& check) {
  const bool evaluated = !rule.evaluated.empty() && !rule.evaluated.starts_with("0001-");
  check.message = rule.state.empty() ? "health " + rule.health : rule.state;
  if (rule.paused) {
    check.status = Status::warning;
    check.message = "the rule is paused";
  } else if (!rule.error.empty() || rule.health == "error" || rule.health == "err") {
    check.status = Status::error;
    check.message = rule.error.empty() ? "health error" : rule.error;
  } else if (!evaluated || rule.health == "unknown") {
    check.status = Status::pending;
    check.message = "not evaluated yet";
  } else if (rule.health == "nodata") {
    // The state says inactive then, as when all is well.
    check.status = Status::empty;
    check.message = "its last evaluation had no data";
  } else {
    check.status = Status::ok;
  }
}

class ThroughGrafana final : public Asked {
 public:
  ThroughGrafana(grafana::Server& server, const VerifyOptions& options, const std::stop_token& stop)
      : server_(server), options_(options), compile_(options.compile), stop_(stop) {
    if (compile_.grafana_url.empty()) compile_.grafana_url = server_.public_url();
  }

  Outcome ask(const Question& question) override {
    Json query{{"refId", "A"},
               {"datasource", {{"type", question.type}, {"uid", question.uid}}},
               {"expr", question.expr},
               {"intervalMs", question.step.count()},
               {"maxDataPoints", kPoints}};
    if (question.type == "loki") {
      query["queryType"] = question.instant ? "instant" : "range";
      query["maxLines"] = kLines;
    } else {
      query["instant"] = question.instant;
      query["range"] = !question.instant;
      query["interval"] = pack::duration_text(question.step);
    }
    // Numbers are refused here.
    const Call call{.method = "POST",
                    .path = "/api/ds/query",
                    .body = {{"queries", Json::array({std::move(query)})},
                             {"from", std::to_string(question.range.from.time_since_epoch().count())},
                             {"to", std::to_string(question.range.to.time_since_epoch().count())}},
                    .asks = true};
    Outcome outcome;
    const auto answer = server_.call(call);
    if (!answer) {
      outcome.error = answer.error();
      return outcome;
    }
    const Json result = result_of(*answer);
    if (const auto error = text_of(result, "error"); !error.empty()) {
      outcome.error = Error{Error::Kind::bad_input, error};
    } else if (!answer->ok()) {
      outcome.error = server_.error(call, *answer);
    } else if (!result.is_object()) {
      outcome.error = Error{Error::Kind::unavailable, "POST /api/ds/query: the answer holds no result"};
    } else {
      const FrameCount count = count_frames(result.value("frames", Json::array()));
      outcome.series = count.frames;
      outcome.with_data = count.with_data;
      outcome.notes = count.notices;
    }
    return outcome;
  }

  /// Two ways lead to the data source, and permissions can close either.
  Result<std::vector<std::string>> label_values(const Source& source, const LabelValues& what,
                                                const times::Range& range) override {
    const bool loki = source.type == "loki";
    const auto unit = loki ? 1'000'000 : 1;
    const auto time = [&](times::Time at) {
      const auto count = at.time_since_epoch().count();
      return std::to_string(loki ? count * unit : count / 1000);
    };
    std::string query = "?start=" + time(range.from) + "&end=" + time(range.to);
    if (!what.selector.empty()) query += (loki ? "&query=" : "&match%5B%5D=") + escape(what.selector);
    const std::string api = loki ? "/loki/api/v1/" : "/api/v1/";
    const std::string tail = "label/" + escape(what.label) + "/values" + query;
    // The resources of Loki's plugin begin below its API's path.
    Call call{.path =
                  "/api/datasources/uid/" + escape(source.uid) + "/resources" + (loki ? "/" : api) + tail};
    auto answer = server_.call(call);
    if (answer && (answer->status == 401 || answer->status == 403 || answer->status == 500)) {
      call.path = "/api/datasources/proxy/uid/" + escape(source.uid) + api + tail;
      answer = server_.call(call);
    }
    if (!answer) return tl::unexpected(answer.error());
    if (!answer->ok()) return tl::unexpected(server_.error(call, *answer));
    std::vector<std::string> result;
    if (const Json* data = list_of(answer->json, "data"))
      for (const Json& one : *data)
        if (one.is_string()) result.push_back(one.get<std::string>());
    return result;
  }

  std::vector<Check> datasources(const pack::Pack& pack) override {
    auto& chosen = chosen_[pack.name];
    std::vector<Check> result;
    std::map<std::string, std::string> overrides;
    bool all_named = true;
    for (const auto& one : pack.datasources) {
      const auto named = compile_.datasources.find(one.variable);
      if (named == compile_.datasources.end()) {
        all_named = false;
        continue;
      }
      overrides[one.variable] = named->second.uid;
      if (!named->second.uid.empty()) chosen[one.variable] = named->second;
    }
    std::string problem;
    if (!all_named) {
      if (const auto found = found_datasources(); !found) {
        problem = found.error().message;
      } else if (auto choice = choose_datasources(pack, *found, overrides); !choice) {
        problem = choice.error().message;
      } else {
        chosen = std::move(*choice);
      }
    }
    if (!problem.empty()) problems_[pack.name] = problem;
    for (const auto& one : pack.datasources) {
      Check check{.kind = Check::Kind::datasource, .id = one.variable, .title = one.type};
      const Source found = source(pack, "${" + one.variable + "}", one.type);
      check.datasource = found.shown;
      if (!found.error.empty()) {
        check.status = Status::error;
        check.message = found.error;
      } else if (!found.skipped.empty()) {
        check.status = Status::skipped;
        check.message = found.skipped;
      } else {
        look_at(found, check);
      }
      result.push_back(std::move(check));
    }
    return result;
  }

  Source source(const pack::Pack& pack, const std::string& written, const std::string& type) override {
    Source result{.type = type, .uid = written, .shown = written};
    if (written.empty()) {
      result.error = "the panel names no data source";
      return result;
    }
    const auto& chosen = chosen_[pack.name];
    if (const auto variable = pack::variable_name(written)) {
      const auto wanted =
          std::find_if(pack.datasources.begin(), pack.datasources.end(),
                       [&](const pack::Datasource& one) { return one.variable == *variable; });
      result.shown = *variable;
      if (const auto found = chosen.find(*variable); found != chosen.end()) {
        result.uid = found->second.uid;
        result.shown = found->second.name.empty() ? found->second.uid : found->second.name;
        if (!found->second.type.empty()) result.type = found->second.type;
      } else if (const auto problem = problems_.find(pack.name); problem != problems_.end()) {
        result.error = problem->second;
      } else if (wanted != pack.datasources.end() && wanted->optional) {
        result.skipped = "the server has no data source for " + *variable + "; the pack can do without";
      } else {
        result.error = "variable " + *variable + " stands for no data source; name one by --datasource " +
                       *variable + "=UID";
      }
    } else {
      for (const auto& [name, one] : chosen)
        if (one.uid == written) result.type = one.type, result.shown = one.name;
    }
    if (result.error.empty() && result.skipped.empty() && result.type != "prometheus" &&
        result.type != "loki")
      result.skipped = "queries of type " + (result.type.empty() ? "?" : result.type) + " are not asked";
    return result;
  }

  std::vector<RuleQuery> rule_queries(const pack::Pack& pack) override {
    if (compile_.target == Target::prometheus) return prometheus_rule_queries(pack);
    const CompileOptions options = options_of(pack);
    std::vector<RuleQuery> result;
    std::vector<std::string> notes;
    for_each_rule(pack, [&](const pack::RuleGroup& group, const pack::Rule& rule) {
      const Json json = grafana_rule(pack, group, rule, options, notes);
      // Made of A, B and C: C compares, or asks whether there is anything at all.
      const bool whole = json["data"].size() > 2 && text_of(json["data"][2]["model"], "type") == "math";
      result.push_back({rule.name(), text_of(json["data"][0]["model"], "expr"), whole});
    });
    return result;
  }

  std::vector<Check> rules(const pack::Pack& pack) override {
    std::vector<Check> result;
    if (compile_.target != Target::prometheus) result = own_rules(pack);
    if (compile_.target == Target::grafana) return result;
    const bool both = compile_.target == Target::all;
    for (auto& check : prometheus_rules(pack, both ? "/prometheus" : "")) result.push_back(std::move(check));
    return result;
  }

  std::vector<Check> contact_points(const pack::Pack& pack) override {
    std::vector<Check> result;
    if (!pack.alertmanager || compile_.target == Target::prometheus ||
        compile_.notifications == Notifications::none)
      return result;
    Compiled compiled;
    compile_notifications(pack, options_of(pack), compiled);
    std::set<std::string> wanted;
    for (const auto& object : compiled.objects)
      if (object.key.kind == Kind::routes) receivers(object.content, wanted);
    const auto answer = server_.get("/api/v1/provisioning/contact-points");
    std::set<std::string> there;
    if (answer && answer->is_array())
      for (const Json& one : *answer) there.insert(text_of(one, "name"));
    for (const auto& name : wanted) {
      Check check{.kind = Check::Kind::contact_point, .id = name, .title = "named in the pack's routes"};
      if (!answer) {
        check.status = Status::error;
        check.message = answer.error().message;
      } else if (!there.contains(name)) {
        check.status = Status::missing;
        check.message = "no contact point of that name; alerts of these routes reach nobody";
      }
      result.push_back(std::move(check));
    }
    return result;
  }

  std::vector<Check> links(const pack::Pack& pack) override {
    const Links links =
        links_of(pack, options_of(pack), {compile_.grafana_url, server_.url(), server_.public_url()});
    std::vector<std::string> uids;
    for (const auto& [link, who] : links.dashboards)
      if (uids.empty() || uids.back() != link.uid) uids.push_back(link.uid);
    std::vector<Call> calls;
    for (const auto& uid : uids) calls.push_back({.path = "/api/dashboards/uid/" + escape(uid)});
    struct Seen {
      Status status = Status::ok;
      std::string message;
      std::set<std::int64_t> panels;
    };
    std::map<std::string, Seen> seen;
    server_.calls(calls, [&](std::size_t index, Result<Answer> answer) {
      Seen& one = seen[uids[index]];
      if (!answer) {
        one.status = Status::error;
        one.message = answer.error().message;
      } else if (answer->ok() && answer->json.is_object()) {
        panel_ids(answer->json.value("dashboard", Json()), one.panels);
      } else {
        one.status = answer->status == 404 ? Status::missing : Status::error;
        one.message = answer->status == 404 ? "no dashboard with the uid " + uids[index]
                                            : server_.error(calls[index], *answer).message;
      }
    });
    std::vector<Check> result;
    for (const auto& [link, who] : links.dashboards) {
      const Seen& one = seen[link.uid];
      Check check{.kind = Check::Kind::link,
                  .id = "/d/" + link.uid,
                  .title = who,
                  .status = one.status,
                  .message = one.message};
      if (link.panel) check.id += "?viewPanel=" + std::to_string(*link.panel);
      if (one.status == Status::ok && link.panel && !one.panels.contains(*link.panel)) {
        check.status = Status::missing;
        check.message = "the dashboard has no panel " + std::to_string(*link.panel);
      }
      result.push_back(std::move(check));
    }
    for (auto& check : check_runbooks(links.runbooks, options_.parallel, stop_))
      result.push_back(std::move(check));
    return result;
  }

 private:
  Result<std::vector<FoundDatasource>> found_datasources() {
    if (!found_) found_ = monitor::datasources(server_);
    return *found_;
  }

  CompileOptions options_of(const pack::Pack& pack) {
    CompileOptions options = compile_;
    options.datasources = chosen_[pack.name];
    return options;
  }

  /// Asks the plugin whether its server answers. Not every plugin knows; queries tell then.
  void look_at(const Source& source, Check& check) {
    const Call call{.path = "/api/datasources/uid/" + escape(source.uid) + "/health"};
    const auto answer = server_.call(call);
    if (!answer) {
      check.status = Status::error;
      check.message = answer.error().message;
    } else if (answer->status == 400 || answer->status == 404) {
      check.status = text_of(answer->json, "status") == "ERROR" ? Status::error : Status::skipped;
      check.message = grafana::message_of(*answer);
    } else if (!answer->ok()) {
      // A role that may query need not be allowed to do this.
      check.status = answer->status == 403 ? Status::skipped : Status::error;
      check.message = server_.error(call, *answer).message;
    }
  }

  template <class Visit>
  void for_each_rule(const pack::Pack& pack, const Visit& visit) const {
    for (const auto& file : pack.rule_files)
      for (const auto& group : file.groups)
        for (const auto& rule : group.rules)
          if (rule.record.empty() || compile_.record_in_grafana) visit(group, rule);
  }

  std::vector<Check> own_rules(const pack::Pack& pack) {
    std::vector<Check> result;
    const auto answer = server_.get("/api/prometheus/grafana/api/v1/rules?limit_alerts=0&folder_uid=" +
                                    escape(pack.folder_uid));
    if (!answer)
      return {{.kind = Check::Kind::rule,
               .id = "rules",
               .title = "the rules of " + pack.name,
               .status = Status::error,
               .message = answer.error().message}};
    // A folder that does not exist brings the rules of all; uids tell them apart.
    const auto seen = seen_rules(*answer);
    RuleIds ids;
    for_each_rule(pack, [&](const pack::RuleGroup& group, const pack::Rule& rule) {
      Check check{.kind = Check::Kind::rule, .id = ids.next(rule.name()), .title = rule.name()};
      const std::string uid = rule_uid(pack, rule);
      const auto found = std::find_if(seen.begin(), seen.end(), [&](const SeenRule& one) {
        // Grafana before 11 shows no uids here.
        return one.uid.empty() ? one.name == rule.name() && one.group == group.name : one.uid == uid;
      });
      if (found != seen.end()) {
        judge(*found, check);
      } else {
        check.status = Status::missing;
        check.message = "no rule with the uid " + uid + " in folder " + pack.folder_uid +
                        "; it may take a few seconds after it was made";
      }
      check.datasource = "Grafana";
      result.push_back(std::move(check));
    });
    return result;
  }

  /// Grafana passes on what its data source's server runs.
  std::vector<Check> prometheus_rules(const pack::Pack& pack, const std::string& suffix) {
    const auto fail_with = [&](const std::string& message) {
      return std::vector<Check>{{.kind = Check::Kind::rule,
                                 .id = "rules" + suffix,
                                 .title = "the rules of " + pack.name + " in Prometheus",
                                 .status = Status::error,
                                 .message = message}};
    };
    for (const auto& one : pack.datasources) {
      if (one.type != "prometheus") continue;
      const Source found = source(pack, "${" + one.variable + "}", one.type);
      if (!found.error.empty()) return fail_with(found.error);
      const auto answer = server_.get("/api/prometheus/" + escape(found.uid) + "/api/v1/rules");
      if (!answer) return fail_with(answer.error().message);
      const auto groups = prometheus::read_rules(*answer);
      if (!groups) return fail_with(groups.error().message);
      auto result = check_prometheus_rules(pack, *groups, suffix);
      for (auto& check : result) check.datasource = found.shown;
      return result;
    }
    return fail_with("the pack has no data source of type prometheus");
  }

  grafana::Server& server_;
  const VerifyOptions& options_;
  CompileOptions compile_;
  const std::stop_token& stop_;
  std::optional<Result<std::vector<FoundDatasource>>> found_;
  std::map<std::string, std::map<std::string, ServerDatasource>> chosen_;  // by pack, by variable
  std::map<std::string, std::string> problems_;                            // pack -> why none was chosen
};

}  // namespace

Verified verify(grafana::Server& server, std::span<const pack::Pack> packs, const VerifyOptions& options,
                std::stop_token stop) {
  ThroughGrafana grafana(server, options, stop);
  return run_checks(grafana, packs, options, stop);
}

}  // namespace tunnelctl::monitor
