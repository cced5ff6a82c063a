#include "tunnelctl/prometheus/direct.h"

#include "common/http_access.h"
#include "common/http_url.h"
#include "tunnelctl/prometheus/answer.h"

namespace tunnelctl::prometheus {

Result<std::shared_ptr<const Transport>> Direct::make(Connection connection, std::stop_token stop) {
  while (connection.url.ends_with('/')) connection.url.pop_back();
  if (connection.url.empty())
    return fail(Error::Kind::bad_input, "no server is named; set " + connection.url_setting);
  const auto url = http::parse_url(connection.url);
  if (!url) return fail(Error::Kind::bad_input, connection.url_setting + ": " + url.error().message);
  if (!url->tls && !connection.allow_plain && !http::is_loopback(url->host))
    return fail(
        Error::Kind::bad_input,
        connection.url_setting + ": " + http::shown_url(connection.url) +
            ": would send questions and token unprotected; use https, or say --allow-plain-http (in a "
            "context: allow_plain_http: true) where the network itself protects the way");
  if (!connection.token_file.empty()) {
    auto token = http::read_token(connection.token_file, connection.token_setting);
    if (!token) return tl::unexpected(token.error());
    connection.token = std::move(*token);
  }
  http::ClientOptions options;
  options.tls = connection.tls;
  options.allow_plain = connection.allow_plain;
  options.user_agent = "tunnelctl";
  options.deadline = connection.timeout;
  options.max_body_bytes = connection.max_answer_bytes;
  auto client = http::Client::make(std::move(options));
  if (!client) return tl::unexpected(client.error());
  return std::make_shared<const Direct>(std::move(connection), std::move(*client), std::move(stop));
}

Direct::Direct(Connection connection, http::Client client, std::stop_token stop)
    : connection_(std::move(connection)), client_(std::move(client)), stop_(std::move(stop)) {
  headers_.push_back({"Accept", "application/json"});
  if (!connection_.token.empty())
    headers_.push_back({"Authorization", "Bearer " + std::string(connection_.token.reveal())});
  else if (!connection_.username.empty())
    headers_.push_back(
        {"Authorization", http::basic_authorization(connection_.username, connection_.password)});
  if (!connection_.tenant.empty()) headers_.push_back({"X-Scope-OrgID", connection_.tenant});
  for (const auto& [name, value] : connection_.headers) headers_.push_back({name, value});
}

Result<Json> Direct::get(const Ask& ask) const {
  http::Request request;
  request.headers = headers_;
  request.headers.insert(request.headers.end(), ask.headers.begin(), ask.headers.end());
  request.url = connection_.url + ask.path;
  request.safe_to_repeat = true;
  request.heavy = ask.form;
  const std::string query = encoded(ask.parameters);
  if (ask.form && query.size() > kLongestQuery) {
    request.method = "POST";
    request.content_type = "application/x-www-form-urlencoded";
    request.body = query;
  } else if (!query.empty()) {
    request.url += "?" + query;
  }
  auto response = client_.send(request, stop_);
  if (!response) return tl::unexpected(without_answer(response.error(), connection_.server));
  const auto* location = response->header("Location");
  auto json = read_answer(http::shown(request),
                          {.status = response->status,
                           .content_type = response->content_type,
                           .body = response->body,
                           .location = location == nullptr ? std::string() : *location},
                          connection_.server);
  if (json) return json;
  Error error = std::move(json.error());
  if (error.kind == Error::Kind::denied && error.message.ends_with("no org id")) {
    error.message += "; it keeps tenants apart: name yours with " +
                     std::string(connection_.server == "Loki" ? "LOKI_ORG_ID" : "PROMETHEUS_ORG_ID");
  } else if (error.kind == Error::Kind::denied) {
    const bool anonymous = connection_.token.empty() && connection_.username.empty();
    error.message +=
        (anonymous ? "; no credentials were sent: set " : "; the credentials are not accepted: check ") +
        connection_.token_setting;
  }
  if (error.kind == Error::Kind::not_found)
    error.message += "; is " + connection_.url_setting + " the root of the server's API?";
  return tl::unexpected(std::move(error));
}

}  // namespace tunnelctl::prometheus
