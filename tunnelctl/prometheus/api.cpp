#include "tunnelctl/prometheus/api.h"

#include <cstdlib>

#include "common/http_access.h"
#include "common/http_url.h"

namespace tunnelctl::prometheus {
namespace {

constexpr std::size_t kMaxAnswer = 256 * 1024 * 1024;
/// Servers and proxies take request lines of 8 KiB at least; the rest is room for host and path.
constexpr std::size_t kMaxQuery = 6'000;

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// Prometheus: {"errorType","error"}; Loki: {"message"} or plain text; a proxy in front: anything.
std::string message_of(const http::Response& response) {
  const Json json = Json::parse(response.body, nullptr, false);
  if (json.is_object()) {
    if (const auto error = text_of(json, "error"); !error.empty()) {
      const auto type = text_of(json, "errorType");
      return http::one_line(type.empty() ? error : type + ": " + error);
    }
    if (const auto message = text_of(json, "message"); !message.empty()) return http::one_line(message);
  }
  if (response.content_type.find("html") != std::string::npos)
    return "the answer is a web page; is the URL the API's?";
  return http::one_line(response.body);
}

std::string encoded(const Parameters& parameters) {
  std::string result;
  for (const auto& [name, value] : parameters) {
    if (!result.empty()) result += '&';
    result += http::percent_encode(name) + "=" + http::percent_encode(value);
  }
  return result;
}

}  // namespace

std::string seconds(std::chrono::milliseconds value) {
  const auto count = value.count();
  std::string part = std::to_string(std::abs(count % 1000));
  part.insert(0, 3 - part.size(), '0');
  return (count < 0 ? "-" : "") + std::to_string(std::abs(count / 1000)) + "." + part;
}

Result<Api> Api::make(Connection connection, std::stop_token stop) {
  while (connection.url.ends_with('/')) connection.url.pop_back();
  if (connection.url.empty())
    return fail(Error::Kind::bad_input, "no server is named; set " + connection.url_setting);
  if (auto url = http::parse_url(connection.url); !url)
    return fail(Error::Kind::bad_input, connection.url_setting + ": " + url.error().message);
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
  options.max_body_bytes = kMaxAnswer;
  auto client = http::Client::make(std::move(options));
  if (!client) return tl::unexpected(client.error());
  Api api(std::move(connection), std::move(*client), std::move(stop));
  const auto& as = api.connection_;
  api.headers_.push_back({"Accept", "application/json"});
  if (!as.token.empty())
    api.headers_.push_back({"Authorization", "Bearer " + std::string(as.token.reveal())});
  else if (!as.username.empty())
    api.headers_.push_back({"Authorization", http::basic_authorization(as.username, as.password)});
  if (!as.tenant.empty()) api.headers_.push_back({"X-Scope-OrgID", as.tenant});
  for (const auto& [name, value] : as.headers) api.headers_.push_back({name, value});
  return api;
}

Result<Json> Api::get(const std::string& path, const Parameters& parameters, bool long_as_form) const {
  http::Request request;
  request.headers = headers_;
  request.url = connection_.url + path;
  request.safe_to_repeat = true;
  const std::string query = encoded(parameters);
  if (long_as_form && query.size() > kMaxQuery) {
    request.method = "POST";
    request.content_type = "application/x-www-form-urlencoded";
    request.body = query;
  } else if (!query.empty()) {
    request.url += "?" + query;
  }
  auto response = client_.send(request, stop_);
  if (!response) return tl::unexpected(response.error());
  if (response->status < 200 || response->status >= 300) return tl::unexpected(error(request, *response));
  Json json = Json::parse(response->body, nullptr, false);
  if (!json.is_object())
    return fail(Error::Kind::unavailable,
                http::shown(request) + ": the answer is no JSON: " + message_of(*response));
  // Some proxies turn every status into 200.
  if (text_of(json, "status") == "error") return tl::unexpected(error(request, *response));
  return json;
}

Error Api::error(const http::Request& request, const http::Response& response) const {
  std::string text = http::shown(request) + ": " + std::to_string(response.status);
  if (const auto said = message_of(response); !said.empty()) text += ": " + said;
  switch (response.status) {
    case 401:
    case 403: {
      const bool anonymous = connection_.token.empty() && connection_.username.empty();
      return {Error::Kind::denied, text +
                                       (anonymous ? "; no credentials were sent: set "
                                                  : "; the credentials are not accepted: check ") +
                                       connection_.token_setting};
    }
    case 404:
      return {Error::Kind::not_found,
              text + "; is " + connection_.url_setting + " the root of the server's API?"};
    case 200:
    case 400:
    case 422: return {Error::Kind::bad_input, text};
    default: return {Error::Kind::unavailable, text};
  }
}

}  // namespace tunnelctl::prometheus
