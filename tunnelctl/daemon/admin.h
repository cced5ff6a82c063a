#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/http_client.h"
#include "common/result.h"
#include "tunnelctl/daemon/connection.h"

/// tunneld's admin API (docs/operations.md lists its pages). Prints nothing.
namespace tunnelctl::daemon {

using Json = nlohmann::ordered_json;  // shown in the daemon's order

struct Readiness {
  bool ready = false;
  std::string reason{};  // "starting", "draining"
};

/// The answer of /api/tunnel/health.
struct Health {
  std::string status{};  // healthy, degraded, unhealthy
  std::string reason{};
  std::string version{};
  std::optional<std::int64_t> uptime_seconds{};
  std::optional<std::int64_t> connections{}, requests_in_flight{};
};

struct Breaker {
  std::string id{}, state{}, upstream{}, service{}, principal{};
  std::uint64_t failures = 0, successes = 0, refused = 0;
  std::string opened_at{}, next_probe{};  // RFC 3339; empty when it is closed
  std::vector<std::string> last_errors{};
};

/// An agent that is connected.
struct Agent {
  std::string id{}, principal{}, peer{}, user{}, host_key{};
  std::vector<std::string> services{};
  std::uint64_t connections = 0;  // control connections it holds
  std::uint64_t sessions = 0;     // SSH sessions through it
  std::string since{};            // RFC 3339
};

struct Event {
  std::uint64_t id = 0;
  std::string kind{}, time{};
  Json data{};
  std::string line{};  // the whole event as one line of JSON
};

Event event_of(const Json& json);

struct EventPage {
  std::uint64_t first = 0, last = 0;
  bool gap = false;  // some between the wanted ones and the first here are gone
  std::vector<Event> events{};
};

struct Setting {
  std::string value{};          // as text; JSON for lists
  std::string from{};           // "default", a file and line, the environment, "admin"
  bool hot = false;             // may be changed while it runs
  std::string after_restart{};  // another value that the sources hold for the next start
};

struct Settings {
  std::string etag{};
  std::map<std::string, Setting> values{};
};

/// Key -> "before -> after".
using Changes = std::vector<std::pair<std::string, std::string>>;

/// Why nothing was changed: a cold key, or somebody else was faster.
struct Conflict {
  std::string why;
};

/// Whom a revocation shuts out: one token, or all that a subject has.
struct Revocation {
  std::string token_id{};
  std::string issuer{}, subject{};
  std::string reason{};
};

/// Any number of threads may call at once. Errors name request, status, code and the daemon's own message.
/// Kinds: bad_input (400), denied (401, 403, or a read-only context), not_found (404), unavailable for the
/// rest, and those of http::Client when there was no answer.
class Admin {
 public:
  /// Reads the token file and the TLS files. Fails with bad_input, naming the setting.
  static Result<Admin> make(Connection connection, std::stop_token stop = {});

  const std::string& url() const { return connection_.url; }
  bool has_token() const { return !connection_.token.empty(); }

  // Open pages.
  Result<Readiness> readiness() const;
  Result<Health> health() const;
  /// The exposition text.
  Result<std::string> metrics() const;

  // With a token.
  Result<Json> diagnostics() const;
  Result<Json> connections() const;
  Result<Json> users(std::size_t limit) const;
  Result<std::vector<Agent>> agents() const;
  /// Makes tunneld forget the host key of an agent of the principal with that hash.
  Result<void> forget_agent(const std::string& principal, const std::string& id) const;
  Result<std::vector<Breaker>> breakers() const;
  /// Closes it. Fails with not_found when there is none of that id.
  Result<void> reset_breaker(std::string_view id) const;
  Result<EventPage> events(std::uint64_t after, std::size_t limit) const;
  /// Hands over the raw Server-Sent Events from `after` on, until `take` says false, the stop, or the end of
  /// the connection (which is no error). For EventStream; follow() does the rest.
  Result<void> event_stream(std::uint64_t after, const std::function<bool(std::string_view)>& take) const;
  Result<Settings> settings() const;
  /// `etag` is that of the settings the change was decided on. A null value goes back to what the sources
  /// say.
  Result<std::variant<Changes, Conflict>> change_settings(const Json& values, const std::string& etag) const;
  /// All, if `keys` is empty.
  Result<std::variant<Changes, Conflict>> reset_settings(const std::vector<std::string>& keys) const;
  Result<std::string> log_level() const;
  Result<void> set_log_level(const std::string& level, std::optional<std::chrono::seconds> ttl) const;
  /// Returns the deadline as the daemon says it.
  Result<std::string> drain() const;
  Result<void> revoke(const Revocation& whom) const;
  Result<Json> revocations() const;
  /// Lets an address out of the penalty box. Fails with not_found when it is not in it.
  Result<void> pardon(std::string_view address) const;
  Result<void> close_connection(std::string_view id) const;

 private:
  Admin(Connection connection, http::Client client, std::stop_token stop)
      : connection_(std::move(connection)), client_(std::move(client)), stop_(std::move(stop)) {}
  http::Request request(std::string method, const std::string& path) const;
  /// Whatever the status of the answer.
  Result<http::Response> ask(const http::Request& request) const;
  /// Fails when the answer is a refusal.
  Result<http::Response> send(const http::Request& request) const;
  Result<Json> get(const std::string& path) const;
  /// Fails with denied in a read-only context, before anything is sent.
  Result<http::Response> change(std::string method, const std::string& path, const Json& body,
                                std::vector<http::Header> headers = {}) const;
  Error error(const http::Request& request, const http::Response& response) const;

  Connection connection_;
  http::Client client_;
  std::stop_token stop_;
};

}  // namespace tunnelctl::daemon
