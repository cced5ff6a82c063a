#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>

#include "tunnelctl/grafana/alert_rules.h"
#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr std::size_t kLongestName = 190;
const std::set<std::string> kMembers{"id",
                                     "guid",
                                     "uid",
                                     "orgID",
                                     "folderUID",
                                     "ruleGroup",
                                     "title",
                                     "condition",
                                     "data",
                                     "updated",
                                     "noDataState",
                                     "execErrState",
                                     "for",
                                     "keep_firing_for",
                                     "annotations",
                                     "labels",
                                     "isPaused",
                                     "provenance",
                                     "notification_settings",
                                     "record",
                                     "missingSeriesEvalsToResolve"};
const std::set<std::string> kQueryMembers{"refId", "queryType", "relativeTimeRange", "datasourceUid",
                                          "model"};
const std::set<std::string> kNoData{"OK", "NoData", "Alerting", "KeepLast"};
const std::set<std::string> kError{"OK", "Error", "Alerting", "KeepLast"};

bool is_expression(const std::string& datasource) {
  return datasource == "__expr__" || datasource == "-100";
}

/// "1h30m": numbers with units from large to small, as Prometheus writes them. Anything else spoils the whole
/// body for the server.
bool is_duration(std::string_view text) {
  if (text == "0") return true;
  static constexpr std::array<std::string_view, 7> kUnits{"y", "w", "d", "h", "m", "s", "ms"};
  std::size_t next_unit = 0;
  while (!text.empty()) {
    const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (digits == 0) return false;
    text.remove_prefix(digits);
    const auto letters = std::min(text.find_first_of("0123456789"), text.size());
    const auto unit = std::find(kUnits.begin() + static_cast<std::ptrdiff_t>(next_unit), kUnits.end(),
                                text.substr(0, letters));
    if (unit == kUnits.end()) return false;
    next_unit = static_cast<std::size_t>(unit - kUnits.begin()) + 1;
    text.remove_prefix(letters);
  }
  return next_unit > 0;
}

std::string one_of(const std::set<std::string>& values) {
  std::string text;
  for (const auto& value : values) text += (text.empty() ? "" : ", ") + value;
  return text;
}

class RuleCheck {
 public:
  explicit RuleCheck(const Json& rule) : rule_(rule) {}

  std::vector<std::string> whole() {
    if (!rule_.is_object()) return {"a rule must be a JSON object"};
    members();
    const bool recording = member(rule_, "record").is_object();
    name("title");
    name("ruleGroup");
    if (text_of(rule_, "folderUID").empty())
      problem("folderUID", "is missing: the uid of the folder the rule lives in");
    queries();
    if (recording) {
      if (const auto from = text_of(rule_["record"], "from"); !refs_.contains(from))
        problem("record.from", names_no_query(from));
      if (text_of(rule_["record"], "metric").empty()) problem("record.metric", "is missing");
    } else {
      state("noDataState", kNoData);
      state("execErrState", kError);
      const auto condition = text_of(rule_, "condition");
      if (!refs_.contains(condition))
        problem("condition", names_no_query(condition));
      else
        needs_single_value(condition, "condition");
    }
    return std::move(problems_);
  }

  std::vector<std::string> change() {
    changes_ = true;
    if (!rule_.is_object()) return {"a change must be a JSON object with the members to set"};
    members();
    return std::move(problems_);
  }

 private:
  void problem(const std::string& where, const std::string& what) {
    problems_.push_back(where + ": " + what);
  }

  /// What can be wrong with each member that is there.
  void members() {
    for (const auto& item : rule_.items())
      if (!kMembers.contains(item.key()))
        problem(item.key(), "is no member of an alert rule; there are: " + one_of(kMembers));
    if (const auto uid = text_of(rule_, "uid"); !uid.empty())
      if (const auto wrong = wrong_uid(uid); !wrong.empty()) problem("uid", "\"" + uid + "\" " + wrong);
    for (const char* key : {"for", "keep_firing_for"})
      if (const Json& value = member(rule_, key);
          !value.is_null() && (!value.is_string() || !is_duration(value.get<std::string>())))
        problem(key, value.dump() + " is no duration such as \"5m\" or \"1h30m\"");
    for (const char* key : {"labels", "annotations"}) texts(key);
    if (const Json& paused = member(rule_, "isPaused"); !paused.is_null() && !paused.is_boolean())
      problem("isPaused", "must be true or false");
    for (const char* reserved :
         {"alertname", "grafana_folder", "__alert_rule_uid__", "__alert_rule_namespace_uid__"})
      if (member(rule_, "labels").contains(reserved))
        problem(std::string("labels.") + reserved, "is set by Grafana itself");
    const Json& notes = member(rule_, "annotations");
    if (notes.contains("__dashboardUid__") != notes.contains("__panelId__"))
      problem("annotations", "__dashboardUid__ and __panelId__ only work together");
    if (const Json& settings = member(rule_, "notification_settings");
        settings.is_object() && text_of(settings, "receiver").empty())
      problem("notification_settings.receiver", "is missing: the name of a contact point");
  }

  void texts(const char* key) {
    const Json& map = member(rule_, key);
    if (map.is_null()) return;
    if (!map.is_object()) return problem(key, "must be an object of names and texts");
    for (const auto& item : map.items())
      if (!item.value().is_string() && !(changes_ && item.value().is_null()))
        problem(std::string(key) + "." + item.key(), item.value().dump() + " must be text: \"...\"");
  }

  void name(const char* key) {
    const auto text = text_of(rule_, key);
    if (text.empty()) problem(key, "is missing");
    if (text.size() > kLongestName) problem(key, "has more than 190 characters");
  }

  void state(const char* key, const std::set<std::string>& allowed) {
    const auto text = text_of(rule_, key);
    if (!allowed.contains(text))
      problem(key, (text.empty() ? "is missing" : "\"" + text + "\" is unknown") +
                       ("; there are: " + one_of(allowed)));
  }

  std::string names_no_query(const std::string& name) const {
    std::string known;
    for (const auto& [ref, index] : refs_) known += (known.empty() ? "" : ", ") + ref;
    return (name.empty() ? "is missing" : "\"" + name + "\" names no query") + std::string("; there are: ") +
           (known.empty() ? "none" : known);
  }

  void queries() {
    const Json& data = member(rule_, "data");
    if (!data.is_array() || data.empty()) return problem("data", "must be a list with at least one query");
    for (std::size_t i = 0; i < data.size(); ++i) query(data[i], "data[" + std::to_string(i) + "]", i);
    for (std::size_t i = 0; i < data.size(); ++i) expression(data[i], "data[" + std::to_string(i) + "]");
  }

  void query(const Json& query, const std::string& where, std::size_t index) {
    if (!query.is_object()) return problem(where, "must be an object");
    for (const auto& item : query.items())
      if (!kQueryMembers.contains(item.key()))
        problem(where + "." + item.key(), "is unknown here; there are: " + one_of(kQueryMembers));
    const auto ref = text_of(query, "refId");
    if (ref.empty())
      problem(where + ".refId", "is missing");
    else if (!refs_.emplace(ref, index).second)
      problem(where + ".refId", "\"" + ref + "\" is there twice");
    const auto datasource = text_of(query, "datasourceUid");
    if (datasource.empty()) problem(where + ".datasourceUid", "is missing; an expression has \"__expr__\"");
    const Json& model = member(query, "model");
    if (!model.is_object()) return problem(where + ".model", "must be an object");
    if (const auto inner = text_of(model, "refId"); !inner.empty() && inner != ref)
      problem(where + ".model.refId", "\"" + inner + "\" is another than the query's, \"" + ref + "\"");
    if (is_expression(datasource)) return;
    const Json& range = member(query, "relativeTimeRange");
    if (!range.is_object())
      problem(where + ".relativeTimeRange", "is missing: {\"from\": 600, \"to\": 0}, in seconds before now");
    else if (!member(range, "from").is_number_integer() || number_of(range, "from") <= number_of(range, "to"))
      problem(where + ".relativeTimeRange",
              "from must be a larger number of seconds than to: " + range.dump());
    if (text_of(query, "queryType") == "instant" && !flag_of(model, "instant"))
      problem(where + ".queryType", "\"instant\" has no effect; write \"instant\": true into the model");
  }

  /// What an expression works on must be there.
  void expression(const Json& query, const std::string& where) {
    const Json& model = member(query, "model");
    if (!is_expression(text_of(query, "datasourceUid"))) return;
    const auto type = text_of(model, "type");
    const auto text = text_of(model, "expression");
    if (type == "math") {
      for (std::size_t at = text.find('$'); at != std::string::npos; at = text.find('$', at + 1)) {
        const bool braced = at + 1 < text.size() && text[at + 1] == '{';
        const auto start = at + (braced ? 2 : 1);
        auto end = start;
        while (end < text.size() &&
               (braced ? text[end] != '}'
                       : std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_'))
          ++end;
        if (const auto ref = text.substr(start, end - start); !refs_.contains(ref))
          problem(where + ".model.expression", names_no_query(ref));
      }
    } else if (type == "classic_conditions") {
      for (const auto& one : member(model, "conditions"))
        if (const Json& params = member(member(one, "query"), "params");
            !params.is_array() || params.empty() || !params[0].is_string() ||
            !refs_.contains(params[0].get<std::string>()))
          problem(where + ".model.conditions", "a condition names no query: " + params.dump());
    } else if (type == "reduce" || type == "threshold" || type == "resample") {
      if (!refs_.contains(text))
        problem(where + ".model.expression", names_no_query(text));
      else if (type == "threshold")
        needs_single_value(text, where + ".model.expression");
    } else {
      problem(where + ".model.type",
              (type.empty() ? "is missing" : "\"" + type + "\" is unknown") +
                  std::string("; there are: classic_conditions, math, reduce, resample, threshold"));
    }
  }

  /// A range query in a condition fails at each evaluation: "looks like time series data".
  void needs_single_value(const std::string& ref, const std::string& where) {
    const Json& query = rule_["data"][refs_.at(ref)];
    const Json& model = member(query, "model");
    const bool prometheus =
        text_of(member(model, "datasource"), "type") == "prometheus" || !text_of(model, "expr").empty();
    if (is_expression(text_of(query, "datasourceUid")) || !prometheus) return;
    if (flag_of(model, "instant") || text_of(model, "queryType") == "instant") return;
    problem(where, "query " + ref +
                       " is a range query, which has no single value; set \"instant\": true in its model or "
                       "put a reduce between");
  }

  const Json& rule_;
  bool changes_ = false;  // null takes a member away
  std::vector<std::string> problems_{};
  std::map<std::string, std::size_t> refs_{};
};

}  // namespace

std::vector<std::string> check_rule(const Json& rule) {
  return RuleCheck(rule).whole();
}
std::vector<std::string> check_rule_change(const Json& change) {
  return RuleCheck(change).change();
}

}  // namespace tunnelctl::grafana
