#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tunnelctl/grafana/datasources.h"

namespace tunnelctl::grafana {

/// One read of a data source's own API.
struct SourceAsk {
  std::string path{};   // as the data source knows it: "/api/v1/query", escaped
  std::string query{};  // "a=1&b=2", escaped
  bool form = false;    // a query of data: it may go as a form instead, and is heavy (see http::Request)
  std::vector<std::pair<std::string, std::string>> headers{};
};

/// Another route may work where this one is closed; what else is said (400, 404, 502) comes from the data
/// source, and would come again.
bool closed(unsigned status);

/// The largest answer that is taken: read as JSON it takes many times its size.
inline constexpr std::size_t kMaxSourceAnswer = 64 * 1024 * 1024;

struct SourceAnswer {
  Answer answer{};
  std::string where{};    // "POST https://grafana.example/api/...": what gave the answer
  std::string refused{};  // what the route before it said: "resources: 403: ..."; "" if it was the first
};

/// The ways through Grafana to a Prometheus or Loki. One may be closed while the other works: viewers may
/// lack the one, and a proxy in front of Grafana the other. Prometheus is asked by its plugin's resources and
/// then by the data source proxy, Loki in the other order, because Grafana passes on only labels, series and
/// statistics as Loki's resources. The other route is tried where one is closed() (401, 403 and 500). What
/// has worked for a path is tried first from then on. Queries go as forms, unless the data source is set to
/// GET (jsonData.httpMethod). Any number of threads may ask at once.
class DatasourceRoutes {
 public:
  DatasourceRoutes(std::shared_ptr<Server> server, Datasource source);

  /// Any status is an answer, that of the route tried last; an error means that there was none. The same
  /// path's answer of status 2xx makes its route the first for that path.
  Result<SourceAnswer> ask(const SourceAsk& ask) const;

  const Server& server() const { return *server_; }
  const Datasource& source() const { return source_; }

 private:
  enum class Route { resources, proxy };
  std::vector<Route> order(const std::string& path) const;
  Call call(Route route, const SourceAsk& ask) const;

  std::shared_ptr<Server> server_;
  Datasource source_;
  bool forms_ = true;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Route> worked_;  // by path
};

}  // namespace tunnelctl::grafana
