#pragma once

#include <string>
#include <vector>

#include "tunnelctl/grafana/datasources.h"
#include "tunnelctl/times/moment.h"

/// Queries of any data source, in the words of its plugin, through /api/ds/query.
namespace tunnelctl::grafana {

/// A column of a table that a data source answered with.
struct Column {
  std::string name{};
  std::string type{};  // time, number, string, boolean, ... as the server says
  Json labels = Json::object();
  /// Times are texts (RFC 3339), numbers that are none "NaN", "+Inf", "-Inf"; null where there is nothing.
  std::vector<Json> values{};

  /// "Value {job="api"}": the name with the labels that tell it from others.
  std::string heading() const;
};

struct Frame {
  std::string ref_id{}, name{};
  std::vector<Column> columns{};
  std::vector<std::string> notices{};  // what the data source remarks

  std::size_t rows() const;
};

struct QueryResult {
  std::vector<Frame> frames{};
  std::vector<std::string> errors{};    // "A: parse error ...", of the queries that failed
  std::vector<std::string> executed{};  // what the data source was really asked, where it says so
};

/// What one refId answered, read from the server's JSON. Unknown shapes give no columns.
std::vector<Frame> frames_of(const std::string& ref_id, const Json& result);

/// `queries`: one or more objects with what the plugin wants; refId, datasource, intervalMs and maxDataPoints
/// are filled in where they are missing. Fails when none of them could be run, in the words of the data
/// source: with unavailable when it did not answer (5xx), denied when it refused (401, 403), else bad_input;
/// some that fail beside others are in `errors`.
Result<QueryResult> query(Server& server, const Datasource& source, const std::vector<Json>& queries,
                          const times::Range& range);

}  // namespace tunnelctl::grafana
