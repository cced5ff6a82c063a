#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/secret.h"
#include "tunnelctl/incident/backend.h"
#include "tunnelctl/incident/remote.h"

namespace tunnelctl::incident {

struct WebhookOptions {
  std::string url{};
  Secret secret{};         // signs what is sent
  RemoteOptions remote{};  // TLS, time, stop
  /// For the time that is signed; the system's clock if unset.
  std::function<Time()> now{};
};

/// HMAC-SHA256 of "<timestamp>.<body>", as "sha256=<64 hexadecimal digits>".
std::string webhook_signature(const Secret& secret, std::string_view timestamp, std::string_view body);

/// Tells one address what happens: POST {"event": "opened"|"note"|"changed"|"resolved", "id", ...} with
/// X-Tunnel-Timestamp (seconds), X-Tunnel-Signature over both (a receiver refuses old times, so that nothing
/// is played back) and an Idempotency-Key, which is the same when a call is repeated. An answer {"id", "url"}
/// names the incident; without it its id is the dedup key. Nothing can be asked of a receiver, so there is no
/// list and no show, and what is open for a key is for the receiver to know.
class WebhookBackend final : public Backend {
 public:
  static Result<std::unique_ptr<WebhookBackend>> make(WebhookOptions options);

  std::string name() const override { return "webhook"; }
  std::string place() const override;
  Result<Opened> open(const Opening& opening) override;
  Result<Listed> list(const Filter& filter) override;
  Result<Incident> read(const std::string& id) override;
  Result<void> note(const std::string& id, const Note& note) override;
  Result<Incident> change(const std::string& id, const Changes& changes) override;
  Result<Incident> resolve(const std::string& id, const Note& note) override;

 private:
  WebhookBackend(WebhookOptions options, Remote remote)
      : options_(std::move(options)), remote_(std::move(remote)) {}
  /// The answer's JSON; null when it has none.
  Result<Json> send(const std::string& key, const Json& body);

  WebhookOptions options_;
  Remote remote_;
};

}  // namespace tunnelctl::incident
