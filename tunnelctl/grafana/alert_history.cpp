#include "tunnelctl/grafana/alert_history.h"

#include <algorithm>

#include "common/json_text.h"
#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

/// What the history is asked for at most, since it may hold one line for each evaluation.
constexpr std::size_t kMost = 5000;

/// Milliseconds; but the history that is kept among annotations says microseconds (Grafana 12.4: it takes its
/// own milliseconds for seconds).
times::Time time_of(const Json& value) {
  if (!value.is_number()) return {};
  auto number =
      value.is_number_integer() ? value.get<std::int64_t>() : static_cast<std::int64_t>(value.get<double>());
  constexpr std::int64_t kYear2500 = 16'725'225'600'000;
  while (number > kYear2500) number /= 1000;
  return times::Time(std::chrono::milliseconds(number));
}

/// A member that is JSON, or text that holds some.
Json json_of(const Json& value) {
  if (!value.is_string()) return value;
  auto read = parse_json(value.get_ref<const std::string&>());
  return read.is_discarded() ? Json(nullptr) : read;
}

/// "High errors {alertname=High errors, tunnel=alpha} - A=0.97": values may hold commas, names may not hold
/// an equals sign.
void read_text(const std::string& text, StateChange& change) {
  const auto open = text.find(" {");
  const auto close = text.rfind('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return;
  if (change.rule.empty()) change.rule = text.substr(0, open);
  const std::string inside = text.substr(open + 2, close - open - 2);
  std::string last;
  std::size_t at = 0;
  while (at < inside.size()) {
    auto end = inside.find(", ", at);
    if (end == std::string::npos) end = inside.size();
    const auto part = inside.substr(at, end - at);
    const auto sign = part.find('=');
    if (sign != std::string::npos && sign > 0) {
      last = part.substr(0, sign);
      change.labels[last] = part.substr(sign + 1);
    } else if (!last.empty()) {
      change.labels[last] = change.labels[last].get<std::string>() + ", " + part;
    }
    at = end + 2;
  }
}

void read_data(const Json& data, StateChange& change) {
  if (member(data, "values").is_object()) change.values = data["values"];
  if (change.error.empty()) change.error = text_of(data, "error");
}

/// Loki's: {"previous": ..., "current": ..., "values": ..., "ruleUID": ..., "labels": ...}
void read_line(const Json& line, StateChange& change) {
  change.previous = text_of(line, "previous");
  change.current = text_of(line, "current");
  change.rule = text_of(line, "ruleTitle");
  if (const auto uid = text_of(line, "ruleUID"); !uid.empty()) change.rule_uid = uid;
  if (member(line, "labels").is_object()) change.labels = line["labels"];
  read_data(line, change);
}

void set_field(const std::string& name, const Json& value, StateChange& change) {
  if (name == "time")
    change.time = time_of(value);
  else if (name == "prev" && value.is_string())
    change.previous = value.get<std::string>();
  else if (name == "next" && value.is_string())
    change.current = value.get<std::string>();
  else if (name == "text" && value.is_string())
    read_text(value.get<std::string>(), change);
  else if (name == "data")
    read_data(json_of(value), change);
  else if (name == "line")
    read_line(json_of(value), change);
}

StateChange change_of_annotation(const Json& note) {
  StateChange change{.time = time_of(member(note, "time")),
                     .rule = text_of(note, "alertName"),
                     .previous = text_of(note, "prevState"),
                     .current = text_of(note, "newState")};
  read_text(text_of(note, "text"), change);
  read_data(member(note, "data"), change);
  return change;
}

std::string milliseconds(times::Time time) {
  return std::to_string(time.time_since_epoch().count());
}

/// nullopt where the server has no such history.
Result<std::optional<std::vector<StateChange>>> from_history(Server& server, const HistoryQuery& query) {
  using std::chrono::seconds;
  const auto from = std::chrono::floor<seconds>(query.range.from).time_since_epoch().count();
  const auto to = std::chrono::ceil<seconds>(query.range.to).time_since_epoch().count();
  Call call{.path = "/api/v1/rules/history?from=" + std::to_string(from) + "&to=" + std::to_string(to) +
                    "&limit=" + std::to_string(kMost)};
  if (!query.rule_uid.empty()) call.path += "&ruleUID=" + escape(query.rule_uid);
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 401 || answer->status == 403) return tl::unexpected(server.error(call, *answer));
  // 500 is how the history among annotations says that it needs a rule, or does not know it.
  if (!answer->ok() || !answer->json.is_object()) return std::nullopt;
  return changes_of_frame(answer->json);
}

Result<std::vector<StateChange>> from_annotations(Server& server, const HistoryQuery& query) {
  std::string path = "/api/annotations?type=alert&from=" + milliseconds(query.range.from) +
                     "&to=" + milliseconds(query.range.to) + "&limit=" + std::to_string(kMost);
  if (!query.rule_uid.empty()) path += "&alertUID=" + escape(query.rule_uid);
  const auto answer = server.get(path);
  if (!answer) return tl::unexpected(answer.error());
  std::vector<StateChange> result;
  for (const auto& note : *answer) {
    result.push_back(change_of_annotation(note));
    result.back().rule_uid = query.rule_uid;
  }
  return result;
}

}  // namespace

std::vector<StateChange> changes_of_frame(const Json& frame) {
  const Json& fields = member(member(frame, "schema"), "fields");
  const Json& columns = member(member(frame, "data"), "values");
  std::vector<StateChange> result;
  if (!fields.is_array() || !columns.is_array()) return result;
  for (std::size_t i = 0; i < fields.size() && i < columns.size(); ++i) {
    if (!columns[i].is_array()) continue;
    if (result.size() < columns[i].size()) result.resize(columns[i].size());
    const auto uid = text_of(member(fields[i], "labels"), "ruleUID");
    for (std::size_t row = 0; row < columns[i].size(); ++row) {
      if (!uid.empty()) result[row].rule_uid = uid;
      set_field(text_of(fields[i], "name"), columns[i][row], result[row]);
    }
  }
  return result;
}

Result<History> alert_history(Server& server, const HistoryQuery& query) {
  History result{.source = "history"};
  auto found = from_history(server, query);
  if (!found) return tl::unexpected(found.error());
  bool cut = false;  // by the server, which then may know more
  const auto keep = [&](std::vector<StateChange> changes) {
    cut = changes.size() >= kMost;
    // Some servers apply neither the range nor the limit.
    std::erase_if(changes,
                  [&](const auto& one) { return one.time < query.range.from || one.time > query.range.to; });
    result.changes = std::move(changes);
  };
  if (*found) keep(std::move(**found));
  if (result.changes.empty()) {
    auto notes = from_annotations(server, query);
    if (!notes) return tl::unexpected(notes.error());
    if (!*found || !notes->empty()) result.source = "annotations";
    keep(std::move(*notes));
  }
  std::stable_sort(result.changes.begin(), result.changes.end(),
                   [](const auto& a, const auto& b) { return a.time > b.time; });
  const bool over = query.limit > 0 && result.changes.size() > query.limit;
  if (over) result.changes.resize(query.limit);
  result.more = over || cut;
  return result;
}

}  // namespace tunnelctl::grafana
