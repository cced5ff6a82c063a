#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/http_client.h"
#include "common/http_url.h"
#include "common/result.h"
#include "common/secret.h"

/// Grafana's HTTP API, as far as tunnelctl speaks it: calls, identities, errors in words. Prints nothing.
/// Source: the API's reference (https://grafana.com/docs/grafana/latest/developers/http_api/) and, where the
/// server differs from it, what Grafana 12.4 was seen to do.
namespace tunnelctl::grafana {

using Json = nlohmann::json;

/// How messages call the server and the settings that lead to it.
struct Wording {
  std::string url = "Grafana's address (GRAFANA_URL, --grafana-url)";
  std::string token_file = "the token file (--token-file, GRAFANA_SERVICE_ACCOUNT_TOKEN_FILE)";
  /// What to do where no credentials were sent, where they are not accepted, and where they are not enough.
  std::string without_credentials =
      "set GRAFANA_SERVICE_ACCOUNT_TOKEN, --token-file, or GRAFANA_USERNAME and GRAFANA_PASSWORD";
  std::string wrong_credentials =
      "check the token (GRAFANA_SERVICE_ACCOUNT_TOKEN, --token-file) and the organisation (--org); try: "
      "tunnelctl datasource list";
  std::string too_few_rights = "give the service account the role Editor, or the permission named here";
};

/// Which server, and as whom.
struct Connection {
  std::string url{};  // "https://grafana.example/path", no slash at its end
  Secret token{};
  std::filesystem::path token_file{};  // read anew for each run, so that a rotated token is found
  std::string username{};
  Secret password{};
  std::optional<std::int64_t> org{};
  std::vector<std::pair<std::string, std::string>> headers{};  // e.g. for a proxy in front
  http::TlsFiles tls{};
  std::chrono::milliseconds timeout{30'000};
  std::size_t parallel = 8;  // requests in flight
  bool allow_plain = false;  // plain http to elsewhere than loopback
  bool read_only = false;    // refuse whatever could change something
  Wording wording{};
};

struct Call {
  std::string method = "GET";
  std::string path{};  // "/api/org?x=y", escaped
  Json body = nullptr;
  std::string form{};  // "a=1&b=2", escaped: sent as the body when there is no `body`
  std::vector<std::pair<std::string, std::string>> headers{};
  /// The call only asks although it is a POST (queries): it may be repeated, and a read-only connection
  /// lets it pass.
  bool asks = false;
  bool heavy = false;  // as in http::Request
  std::optional<std::size_t>
      max_body_bytes{};  // of the answer, when it is much less than a list of rules may be
};

struct Answer {
  unsigned status = 0;
  std::string content_type{};
  std::string location{};  // where a redirect leads
  std::string text{};
  Json json = nullptr;  // null when the body is no JSON
  bool ok() const { return status >= 200 && status < 300; }
};

/// What went wrong as Grafana says it, whichever of its body shapes it chose; "" when it says nothing.
std::string message_of(const Answer& answer);

class Server {
 public:
  /// Reads the token file and the TLS files. Fails with bad_input, naming the setting.
  static Result<Server> make(Connection connection, std::stop_token stop = {});

  Server(Server&&) noexcept;
  Server& operator=(Server&&) noexcept;
  ~Server();

  /// Any status is an answer; an error means that there was none.
  Result<Answer> call(const Call& call);
  /// All of them, at most `parallel` at once, `done` in the order in which they end, on this thread.
  void calls(std::span<const Call> calls, const std::function<void(std::size_t, Result<Answer>)>& done);

  /// GET whose success is a 2xx answer with JSON.
  Result<Json> get(const std::string& path);
  /// What a failed call means, with the remedy: "PUT /api/...: 403: ...". Kinds: denied (401, 403), not_found
  /// (404), bad_input (400, 422), unavailable (5xx, 429, and what is below 400: a redirect, or a page in
  /// place of the API's answer), bug for the rest.
  Error error(const Call& call, const Answer& answer) const;

  /// From now on calls go on although the stop was requested: what was begun must be cleaned up.
  void ignore_stop();

  const std::string& url() const;
  bool read_only() const;
  std::size_t requests() const;  // so far
  /// "version 12.4.0"; "" when the server does not say. One request, remembered.
  const std::string& version();
  /// The address for links: the server's own idea of its public URL, else the one it was called by.
  const std::string& public_url();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// For segments of paths and values of queries.
inline constexpr auto& escape = http::percent_encode;

}  // namespace tunnelctl::grafana
