#include "tunnelctl/prometheus/loki.h"

#include "common/http_url.h"
#include "tunnelctl/prometheus/api.h"

namespace tunnelctl::prometheus {
namespace {

/// Loki's times are nanoseconds; seconds with a fraction are understood by newer versions only.
std::string nanoseconds(Time time) {
  return std::to_string(std::chrono::nanoseconds(time.time_since_epoch()).count());
}

}  // namespace

Loki::Loki(std::unique_ptr<Api> api) : api_(std::move(api)) {}
Loki::Loki(Loki&&) noexcept = default;
Loki& Loki::operator=(Loki&&) noexcept = default;
Loki::~Loki() = default;

Result<Loki> Loki::make(Connection connection, std::stop_token stop) {
  if (connection.url_setting == Connection().url_setting) {
    connection.url_setting = "--loki-url";
    connection.token_setting = "--loki-token-file";
  }
  auto api = Api::make(std::move(connection), std::move(stop));
  if (!api) return tl::unexpected(api.error());
  return Loki(std::make_unique<Api>(std::move(*api)));
}

const std::string& Loki::url() const {
  return api_->url();
}

Result<Data> Loki::query(const std::string& expr, Time at) const {
  auto answer = api_->get("/loki/api/v1/query", {{"query", expr}, {"time", nanoseconds(at)}}, true);
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<Data> Loki::query_range(const std::string& expr, const Range& range, std::size_t limit) const {
  auto answer = api_->get("/loki/api/v1/query_range",
                          {{"query", expr},
                           {"start", nanoseconds(range.from)},
                           {"end", nanoseconds(range.to)},
                           {"step", seconds(range.step)},
                           {"limit", std::to_string(limit)},
                           {"direction", "backward"}},
                          true);
  if (!answer) return tl::unexpected(answer.error());
  return read_data(*answer);
}

Result<std::vector<std::string>> Loki::label_values(const std::string& label, const std::string& selector,
                                                    const Range& range) const {
  Parameters parameters{{"start", nanoseconds(range.from)}, {"end", nanoseconds(range.to)}};
  if (!selector.empty()) parameters.emplace_back("query", selector);
  auto answer = api_->get("/loki/api/v1/label/" + http::percent_encode(label) + "/values", parameters);
  if (!answer) return tl::unexpected(answer.error());
  std::vector<std::string> result;
  if (const auto data = answer->find("data"); data != answer->end() && data->is_array())
    for (const Json& one : *data)
      if (one.is_string()) result.push_back(one.get<std::string>());
  return result;
}

}  // namespace tunnelctl::prometheus
