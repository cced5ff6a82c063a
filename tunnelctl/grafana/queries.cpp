#include "tunnelctl/grafana/queries.h"

#include <algorithm>

#include "common/http_access.h"
#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr int kPoints = 1000;        // of one series, where the query does not say
constexpr int kIntervalMs = 15'000;  // the least between two

/// Values that JSON cannot hold stand beside: {"NaN": [1, 5], "Inf": [2], "NegInf": [3]}.
void fill_in(const Json& entities, std::vector<Json>& values) {
  for (const auto& [name, text] :
       {std::pair{"NaN", "NaN"}, std::pair{"Inf", "+Inf"}, std::pair{"NegInf", "-Inf"}})
    for (const auto& index : member(entities, name))
      if (index.is_number_unsigned() && index.get<std::size_t>() < values.size())
        values[index.get<std::size_t>()] = text;
}

/// Milliseconds, and nanoseconds beside them where there are some.
Json time_text(const Json& value) {
  if (!value.is_number()) return value;
  return times::text(times::Time(
      std::chrono::milliseconds(value.is_number_integer() ? value.get<std::int64_t>()
                                                          : static_cast<std::int64_t>(value.get<double>()))));
}

Frame frame_of(const std::string& ref_id, const Json& json) {
  const Json& schema = member(json, "schema");
  const Json& fields = member(schema, "fields");
  const Json& data = member(json, "data");
  const Json& values = member(data, "values");
  const Json& entities = member(data, "entities");
  Frame frame{.ref_id = ref_id, .name = text_of(schema, "name")};
  for (const auto& notice : member(member(schema, "meta"), "notices"))
    if (const auto text = text_of(notice, "text"); !text.empty()) frame.notices.push_back(text);
  if (!fields.is_array() || !values.is_array()) return frame;
  for (std::size_t i = 0; i < fields.size() && i < values.size(); ++i) {
    if (!values[i].is_array()) continue;
    Column column{.name = text_of(fields[i], "name"), .type = text_of(fields[i], "type")};
    if (member(fields[i], "labels").is_object()) column.labels = fields[i]["labels"];
    if (const auto shown = text_of(member(fields[i], "config"), "displayNameFromDS"); !shown.empty())
      column.name = shown;
    for (const auto& value : values[i])
      column.values.push_back(column.type == "time" ? time_text(value) : value);
    if (entities.is_array() && i < entities.size()) fill_in(entities[i], column.values);
    frame.columns.push_back(std::move(column));
  }
  return frame;
}

/// "A", "B", ... "Z", "A1", ...: the first that no query has.
std::string free_ref_id(const std::vector<Json>& queries) {
  for (int number = 0;; ++number) {
    std::string id(1, static_cast<char>('A' + number % 26));
    if (number >= 26) id += std::to_string(number / 26);
    if (std::none_of(queries.begin(), queries.end(),
                     [&](const Json& one) { return text_of(one, "refId") == id; }))
      return id;
  }
}

Result<std::vector<Json>> completed(const Datasource& source, std::vector<Json> queries) {
  for (std::size_t i = 0; i < queries.size(); ++i) {
    Json& one = queries[i];
    if (!one.is_object())
      return fail(Error::Kind::bad_input,
                  "query " + std::to_string(i + 1) + ": is no JSON object, e.g. {\"expr\": \"up\"}");
    if (!member(one, "refId").is_null() && text_of(one, "refId").empty())
      return fail(Error::Kind::bad_input, "query " + std::to_string(i + 1) + ": refId: must be a text");
    // By a name, or with only datasourceUid, the server finds nothing.
    const Json& own = member(one, "datasource");
    if (!own.is_null() && text_of(own, "uid").empty())
      return fail(Error::Kind::bad_input, "query " + std::to_string(i + 1) +
                                              ": datasource: must read {\"type\": ..., \"uid\": ...}; or "
                                              "leave it out");
    if (own.is_null()) one["datasource"] = {{"type", source.type}, {"uid", source.uid}};
    one.erase("datasourceUid");
  }
  for (Json& one : queries) {
    if (member(one, "refId").is_null()) one["refId"] = free_ref_id(queries);
    if (!one.contains("intervalMs")) one["intervalMs"] = kIntervalMs;
    if (!one.contains("maxDataPoints")) one["maxDataPoints"] = kPoints;
  }
  return queries;
}

}  // namespace

std::string Column::heading() const {
  std::string inside;
  for (const auto& [key, value] : labels.items())
    inside +=
        (inside.empty() ? "" : ", ") + key + "=" + value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return inside.empty() ? name : name + " {" + inside + "}";
}

std::size_t Frame::rows() const {
  std::size_t most = 0;
  for (const auto& column : columns) most = std::max(most, column.values.size());
  return most;
}

std::vector<Frame> frames_of(const std::string& ref_id, const Json& result) {
  std::vector<Frame> frames;
  for (const auto& json : member(result, "frames")) frames.push_back(frame_of(ref_id, json));
  return frames;
}

Result<QueryResult> query(Server& server, const Datasource& source, const std::vector<Json>& queries,
                          const times::Range& range) {
  if (queries.empty()) return fail(Error::Kind::bad_input, "there is no query");
  auto asked = completed(source, queries);
  if (!asked) return tl::unexpected(asked.error());
  const Call call{.method = "POST",
                  .path = "/api/ds/query",
                  // As texts: numbers are refused.
                  .body = {{"from", std::to_string(range.from.time_since_epoch().count())},
                           {"to", std::to_string(range.to.time_since_epoch().count())},
                           {"queries", *asked}},
                  .asks = true,
                  .heavy = true};
  const auto answer = server.call(call);
  if (!answer) return tl::unexpected(answer.error());
  const Json& results = member(answer->json, "results");
  if (!results.is_object()) {
    if (!answer->ok()) return tl::unexpected(server.error(call, *answer));
    return fail(Error::Kind::unavailable,
                "POST " + server.url() + call.path + ": the answer holds no results: " + message_of(*answer));
  }
  // The status is that of the worst query; what the others answered is there all the same.
  QueryResult result;
  bool any = false;
  std::int64_t worst = 0;
  for (const auto& [ref, one] : results.items()) {
    const auto error = text_of(one, "error");
    if (!error.empty()) {
      result.errors.push_back(ref + ": " + http::one_line(error));
      worst = std::max(worst, number_of(one, "status"));
    }
    for (auto& frame : frames_of(ref, one)) {
      any = any || !frame.columns.empty();
      result.frames.push_back(std::move(frame));
    }
    for (const auto& json : member(one, "frames"))
      if (const auto text = text_of(member(member(json, "schema"), "meta"), "executedQueryString");
          !text.empty())
        result.executed.push_back(ref + ": " + text);
  }
  if (!result.errors.empty() && !any) {
    Error error = server.error(call, *answer);
    // The answer's own status is 400 whatever the data source met.
    if (answer->status == 400 || answer->ok())
      error.kind = worst >= 500                   ? Error::Kind::unavailable
                   : worst == 401 || worst == 403 ? Error::Kind::denied
                                                  : Error::Kind::bad_input;
    return tl::unexpected(std::move(error));
  }
  return result;
}

}  // namespace tunnelctl::grafana
