#include "tunnelctl/grafana/server.h"

#include <algorithm>
#include <atomic>
#include <cctype>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/json_text.h"
#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr std::size_t kMaxAnswer = 256 * 1024 * 1024;  // all rules of a large organisation in one list

std::string without_query(const std::string& path) {
  return path.substr(0, path.find('?'));
}

int digit(char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto at = kDigits.find(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

/// As the server may read it: unescaped, with one slash where there are several.
std::string plain(std::string_view path) {
  std::string result;
  for (std::size_t i = 0; i < path.size(); ++i) {
    char c = path[i];
    if (c == '%' && i + 2 < path.size() && digit(path[i + 1]) >= 0 && digit(path[i + 2]) >= 0) {
      c = static_cast<char>(digit(path[i + 1]) * 16 + digit(path[i + 2]));
      i += 2;
    }
    if (c != '/' || !result.ends_with('/')) result += c;
  }
  return result;
}

/// Grafana's plugins for SQL take it as rawSql or rawSQL, and Go reads names in any case of letters.
bool holds_sql(const Json& json) {
  constexpr std::string_view kName = "rawsql";
  if (!json.is_structured()) return false;
  for (const auto& [key, value] : json.items()) {
    const bool named = std::equal(key.begin(), key.end(), kName.begin(), kName.end(), [](char a, char b) {
      return std::tolower(static_cast<unsigned char>(a)) == b;
    });
    if ((named && json.is_object()) || holds_sql(value)) return true;
  }
  return false;
}

/// What changes something although its method, or its path, only asks.
std::string_view writes(const Call& call) {
  const auto path = plain(without_query(call.path));
  if (path.starts_with("/api/snapshots-delete/")) return "it deletes a snapshot";
  if (call.asks && holds_sql(call.body))
    return "SQL can write: use a context that is not, and a data source whose own account only reads";
  return {};
}

}  // namespace

struct Server::Impl {
  Impl(Connection to, http::Client by, std::stop_token ends)
      : connection(std::move(to)), client(std::move(by)), stop(std::move(ends)) {}

  Connection connection;
  http::Client client;
  std::string authorization;  // value of the header; empty: anonymous
  std::stop_token stop;
  std::atomic<std::size_t> requests{0};
  std::optional<Json> settings;
  std::string version;
  std::string public_url;

  http::Request request(const Call& call) const {
    http::Request out;
    out.method = call.method;
    out.url = connection.url + call.path;
    out.headers.push_back({"Accept", "application/json"});
    if (!authorization.empty()) out.headers.push_back({"Authorization", authorization});
    if (connection.org) out.headers.push_back({"X-Grafana-Org-Id", std::to_string(*connection.org)});
    for (const auto& headers : {connection.headers, call.headers}) {
      for (const auto& [name, value] : headers) {
        // The user's own header wins, e.g. an Authorization for the proxy in front.
        std::erase_if(out.headers, [&](const http::Header& other) {
          return std::equal(other.name.begin(), other.name.end(), name.begin(), name.end(),
                            [](char a, char b) {
                              return std::tolower(static_cast<unsigned char>(a)) ==
                                     std::tolower(static_cast<unsigned char>(b));
                            });
        });
        out.headers.push_back({name, value});
      }
    }
    if (!call.body.is_null()) {
      out.content_type = "application/json";
      out.body = call.body.dump(-1, ' ', false, Json::error_handler_t::replace);
    } else if (!call.form.empty()) {
      out.content_type = "application/x-www-form-urlencoded";
      out.body = call.form;
    }
    out.safe_to_repeat = call.method == "GET" || call.asks;
    out.heavy = call.heavy;
    out.max_body_bytes = call.max_body_bytes;
    return out;
  }

  std::optional<Error> refused(const Call& call) const {
    if (!connection.read_only) return std::nullopt;
    const auto why = writes(call);
    if ((call.method == "GET" || call.asks) && why.empty()) return std::nullopt;
    return Error{Error::Kind::denied, call.method + " " + without_query(call.path) +
                                          ": refused, because this context is read-only (read_only: true)" +
                                          (why.empty() ? "" : "; " + std::string(why))};
  }

  static Result<Answer> answer(Result<http::Response> response) {
    if (!response) {
      Error error = std::move(response.error());
      // A host that is not found is a server that is not there; "not found" is what servers say of objects.
      if (error.kind == Error::Kind::not_found) error.kind = Error::Kind::unavailable;
      return tl::unexpected(std::move(error));
    }
    Answer answer{.status = response->status,
                  .content_type = response->content_type,
                  .text = std::move(response->body)};
    if (const auto* location = response->header("Location")) answer.location = *location;
    if (!answer.text.empty()) {
      answer.json = parse_json(answer.text);
      if (answer.json.is_discarded()) answer.json = nullptr;
    }
    return answer;
  }

  /// Both come from one document, which every role may read; a server that hides it is no reason to stop.
  void read_settings(Server& server) {
    if (settings) return;
    settings = Json::object();
    if (const auto found = server.get("/api/frontend/settings"); found && found->is_object())
      settings = *found;
    version = text_of(member(*settings, "buildInfo"), "version");
    public_url = text_of(*settings, "appUrl");
    while (public_url.ends_with('/')) public_url.pop_back();
    // A server that was never told its public address says localhost, whoever asks.
    if (public_url.empty() || public_url.find("//localhost") != std::string::npos)
      public_url = connection.url;
  }
};

std::string message_of(const Answer& answer) {
  if (answer.json.is_object()) {
    for (const char* key : {"message", "error", "detail"}) {
      const auto found = answer.json.find(key);
      if (found == answer.json.end() || !found->is_string() || found->get<std::string>().empty()) continue;
      std::string message = found->get<std::string>();
      // Alerting hides what is wrong with a body under "extra".
      if (const auto extra = answer.json.find("extra"); extra != answer.json.end() && extra->is_object())
        if (const auto inner = extra->find("error"); inner != extra->end() && inner->is_string())
          message += ": " + inner->get<std::string>();
      return http::one_line(message);
    }
    // Queries: {"results": {"A": {"error": ...}}}
    if (const auto results = answer.json.find("results");
        results != answer.json.end() && results->is_object())
      for (const auto& [ref, result] : results->items())
        if (result.is_object() && result.contains("error") && result["error"].is_string())
          return http::one_line(ref + ": " + result["error"].get<std::string>());
  }
  // Alertmanager: its whole answer is one text.
  if (answer.json.is_string()) return http::one_line(answer.json.get<std::string>());
  if (answer.content_type.find("html") != std::string::npos)
    return "the answer is a web page; is the URL the root of Grafana?";
  return http::one_line(answer.text);
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::Server(Server&&) noexcept = default;
Server& Server::operator=(Server&&) noexcept = default;
Server::~Server() = default;

Result<Server> Server::make(Connection connection, std::stop_token stop) {
  while (connection.url.ends_with('/')) connection.url.pop_back();
  if (connection.url.empty())
    return fail(Error::Kind::bad_input,
                "no Grafana is named; set GRAFANA_URL or --grafana-url, or choose a context (tunnelctl "
                "config contexts)");
  const auto url = http::parse_url(connection.url);
  if (!url) return fail(Error::Kind::bad_input, connection.wording.url + ": " + url.error().message);
  if (!url->tls && !connection.allow_plain && !http::is_loopback(url->host)) {
    const bool secret = !connection.token.empty() || !connection.token_file.empty() ||
                        !connection.username.empty() || !connection.headers.empty();
    return fail(Error::Kind::bad_input,
                http::shown_url(connection.url) +
                    (secret ? ": would send the token unprotected" : ": is plain http to another machine") +
                    "; use https, or say --allow-plain-http (in a context: allow_plain_http: true) where the "
                    "network itself protects the way");
  }
  if (!connection.token_file.empty()) {
    auto token = http::read_token(connection.token_file, connection.wording.token_file);
    if (!token) return tl::unexpected(token.error());
    connection.token = std::move(*token);
  }
  http::ClientOptions options;
  options.tls = connection.tls;
  options.allow_plain = connection.allow_plain;
  options.user_agent = "tunnelctl";
  options.max_in_flight = connection.parallel;
  options.deadline = connection.timeout;
  options.max_body_bytes = kMaxAnswer;
  auto client = http::Client::make(std::move(options));
  if (!client) return tl::unexpected(client.error());
  auto impl = std::make_unique<Impl>(std::move(connection), std::move(*client), std::move(stop));
  const auto& as = impl->connection;
  if (!as.token.empty())
    impl->authorization = "Bearer " + std::string(as.token.reveal());
  else if (!as.username.empty())
    impl->authorization = http::basic_authorization(as.username, as.password);
  return Server(std::move(impl));
}

Result<Answer> Server::call(const Call& call) {
  if (auto error = impl_->refused(call)) return tl::unexpected(std::move(*error));
  ++impl_->requests;
  return Impl::answer(impl_->client.send(impl_->request(call), impl_->stop));
}

void Server::calls(std::span<const Call> calls,
                   const std::function<void(std::size_t, Result<Answer>)>& done) {
  std::vector<http::Request> requests;
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (auto error = impl_->refused(calls[i])) {
      done(i, tl::unexpected(std::move(*error)));
      continue;
    }
    requests.push_back(impl_->request(calls[i]));
    indices.push_back(i);
  }
  impl_->requests += requests.size();
  impl_->client.send_all(
      requests,
      [&](std::size_t index, Result<http::Response> response) {
        done(indices[index], Impl::answer(std::move(response)));
      },
      impl_->stop);
}

Result<Json> Server::get(const std::string& path) {
  const Call asked{.path = path};
  auto answer = call(asked);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(error(asked, *answer));
  if (answer->json.is_null() && answer->text != "null")
    return fail(Error::Kind::unavailable,
                "GET " + without_query(path) + ": the answer is no JSON: " + message_of(*answer));
  return std::move(answer->json);
}

Error Server::error(const Call& call, const Answer& answer) const {
  std::string text = call.method + " " + impl_->connection.url + without_query(call.path) + ": " +
                     std::to_string(answer.status);
  if (!answer.location.empty()) text += ", a redirect to " + http::shown_url(answer.location);
  if (const auto said = message_of(answer); !said.empty()) text += ": " + said;
  const Wording& wording = impl_->connection.wording;
  switch (answer.status) {
    case 401:
      return {Error::Kind::denied,
              text + (impl_->authorization.empty()
                          ? "; no credentials were sent: " + wording.without_credentials
                          : "; the credentials are not accepted: " + wording.wrong_credentials)};
    case 403: return {Error::Kind::denied, text + "; " + wording.too_few_rights};
    case 404: return {Error::Kind::not_found, text};
    case 429:
      return {Error::Kind::unavailable, text + "; the server asks for fewer requests: lower --parallel"};
    case 400:
    case 412:
    case 413:
    case 422: return {Error::Kind::bad_input, text};
    default: break;
  }
  // Who is sent elsewhere, or gets a page with status 200, is to sign in, as a rule.
  if (answer.status < 400)
    return {Error::Kind::unavailable,
            text +
                "; perhaps a proxy in front wants people to sign in: a context's headers can carry what it "
                "takes instead"};
  return {answer.status >= 500 ? Error::Kind::unavailable : Error::Kind::bug, text};
}

void Server::ignore_stop() {
  impl_->stop = {};
}
const std::string& Server::url() const {
  return impl_->connection.url;
}
bool Server::read_only() const {
  return impl_->connection.read_only;
}
std::size_t Server::requests() const {
  return impl_->requests;
}

const std::string& Server::version() {
  impl_->read_settings(*this);
  return impl_->version;
}

const std::string& Server::public_url() {
  impl_->read_settings(*this);
  return impl_->public_url;
}

}  // namespace tunnelctl::grafana
