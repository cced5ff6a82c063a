#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/result.h"
#include "tunneld/access/authorization.h"
#include "tunneld/access/token_verifier.h"
#include "tunneld/tunnel/dialer.h"
#include "tunneld/tunnel/forwarded_head.h"
#include "tunneld/tunnel/http1.h"
#include "tunneld/tunnel/observer.h"
#include "tunneld/tunnel/refusal.h"

namespace tunneld {

/// Which services there are and who may use them. Immutable: a reload makes a new one, and requests
/// under way finish by the old.
class Policy {
 public:
  /// `issuer` as in access::AllowList. Fails with bad_input naming the service.
  static Result<std::shared_ptr<const Policy>> make(const std::vector<tunnel::Service>& services,
                                                    std::vector<std::string> allowed_origins,
                                                    std::string_view issuer);

  /// The service, or service_denied: unknown and denied alike, so that nobody learns names by asking.
  tunnel::Served<const tunnel::Service*> authorise(const access::Principal& principal,
                                                   std::string_view name) const;
  /// A browser's Origin must be listed; other callers send none.
  std::optional<tunnel::Refusal> check_origin(const tunnel::RequestHead& head) const;

 private:
  struct Entry {
    tunnel::Service service;
    access::AllowList allow;
  };
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, Entry, TextHash, std::equal_to<>> services_;
  std::vector<std::string> allowed_origins_;
};

/// Decides who a request speaks for. Thread-safe; one for the daemon.
class Authenticator {
 public:
  /// `on_unknown_key` is called (from any thread) when a token names a key we do not hold: fresh keys
  /// may help the next try.
  Authenticator(tunnel::Observer& observer, std::function<void()> on_unknown_key);

  /// While there is none (no keys were fetched yet, or they are too old), every request is refused as
  /// unavailable. The verifier outlives the last request.
  void set_verifier(access::TokenVerifier* verifier) { verifier_.store(verifier, std::memory_order_release); }

  struct Caller {
    std::shared_ptr<const access::VerifiedToken> token;
    tunnel::Credential credential = tunnel::Credential::authorization;
    const access::Principal& principal() const { return token->principal; }
  };
  /// Refuses with token_invalid, token_expired, or unavailable.
  tunnel::Served<Caller> authenticate(const tunnel::RequestHead& head) const;

 private:
  tunnel::Observer& observer_;
  std::function<void()> on_unknown_key_;
  std::atomic<access::TokenVerifier*> verifier_{nullptr};
};

/// What a caller of /ws/<service> offered in Sec-WebSocket-Protocol, judged.
/// None, `binary` or `tunnel.raw.v1` are spoken; `bearer.<jwt>` carries a token and is never echoed.
/// Refuses with bad_request when something was offered and nothing of it is known.
tunnel::Served<std::string> choose_subprotocol(const tunnel::RequestHead& head);

}  // namespace tunneld
