#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/result.h"
#include "tunnel/client_address.h"
#include "tunnel/dialer.h"
#include "tunnel/forwarded_head.h"
#include "tunnel/http1.h"
#include "tunnel/observer.h"
#include "tunnel/refusal.h"
#include "tunneld/access/authorization.h"
#include "tunneld/access/penalty_box.h"
#include "tunneld/access/rate_limits.h"
#include "tunneld/access/revocations.h"
#include "tunneld/access/token_verifier.h"
#include "tunneld/audit/audit_log.h"

namespace tunneld {

/// Which services there are and who may use them. Immutable: a reload makes a new one, and requests
/// under way finish by the old.
class Policy {
 public:
  /// `issuer` as in access::AllowList. Fails with bad_input naming the service.
  static Result<std::shared_ptr<const Policy>> make(const std::vector<tunnel::Service>& services,
                                                    std::vector<std::string> allowed_origins,
                                                    std::string_view issuer);

  /// The service, or service_denied: unknown and denied alike, so that nobody learns names by asking. What is
  /// returned holds the policy, which may be replaced meanwhile.
  static tunnel::Served<std::shared_ptr<const tunnel::Service>> authorise(
      const std::shared_ptr<const Policy>& policy, const tunnel::Principal& principal, std::string_view name);
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
  Authenticator(tunnel::Observer& observer, const access::Revocations& revocations,
                std::function<void()> on_unknown_key);

  /// While there is none (no keys were fetched yet, or they are too old), every request is refused as
  /// unavailable. The verifier outlives the last request.
  void set_verifier(access::TokenVerifier* verifier) { verifier_.store(verifier, std::memory_order_release); }

  struct Caller {
    std::shared_ptr<const access::VerifiedToken> token;
    tunnel::Credential credential = tunnel::Credential::authorization;
    bool first_sight = false;  // the signature was verified just now
    const tunnel::Principal& principal() const { return token->principal; }
  };
  struct Failure {
    tunnel::Refusal refusal;               // token_invalid, token_expired or unavailable
    std::optional<access::Rejection> why;  // of the token; none while no keys are there
  };
  tl::expected<Caller, Failure> authenticate(const tunnel::RequestHead& head) const;
  /// Only if the token was verified before: for addresses whose strangers are not listened to any more.
  std::optional<Caller> recall(const tunnel::RequestHead& head) const;
  /// A token that came by itself, in a control message.
  tl::expected<Caller, Failure> authenticate(std::string_view token) const;

 private:
  Failure failure(const access::Rejection& why) const;
  tl::expected<Caller, Failure> verified(std::string_view token) const;

  tunnel::Observer& observer_;
  const access::Revocations& revocations_;
  std::function<void()> on_unknown_key_;
  std::atomic<access::TokenVerifier*> verifier_{nullptr};
};

/// The first steps of every request at every door: address, token, rates. Thread-safe; one for the daemon.
class Admission {
 public:
  /// All outlive it.
  struct Parts {
    const Authenticator& authenticator;
    access::RateLimits& rates;
    access::PenaltyBox& penalty;
    const tunnel::TrustedProxies& proxies;
    tunnel::Observer& observer;
    audit::AuditLog* audit = nullptr;  // null: there is none
    /// A principal met its own limit ("user") or the one for all ("global").
    std::function<void(const char* scope, const tunnel::Principal&, const std::string& address)> on_limit{};
  };
  explicit Admission(Parts parts) : parts_(std::move(parts)) {}

  struct Admitted {
    Authenticator::Caller caller;
    access::RateDecision rate;
  };
  struct Denied {
    tunnel::Refusal refusal;
    std::optional<access::RateDecision> rate{};  // of the principal's bucket, when that is what was empty
  };
  /// Refuses with rate_limited (address, everybody, principal), token_invalid, token_expired or unavailable.
  tl::expected<Admitted, Denied> admit(const tunnel::RequestHead& head, const std::string& address) const;
  /// One more request of a caller that was admitted: a stream of a link. Its own rate and everybody's.
  tl::expected<access::RateDecision, Denied> take_rate(const access::VerifiedToken& token,
                                                       const std::string& address) const;
  /// A newer token that came over a stream, of the same principal; audited likewise. Refuses as admit(),
  /// and with forbidden when it is somebody else's.
  tunnel::Served<std::shared_ptr<const access::VerifiedToken>> renew(const tunnel::Principal& principal,
                                                                     std::string_view token,
                                                                     const std::string& address) const;
  /// For pages that need no token: the address's bucket alone.
  std::optional<Denied> admit_stranger(const std::string& address) const;

  /// The caller's address behind trusted proxies.
  std::string address_of(const tunnel::RequestHead& head, const std::string& peer) const;

 private:
  void note_sight(const Authenticator::Caller& caller, const std::string& address) const;
  std::optional<tunnel::Refusal> check_address(const std::optional<tunnel::Address>& address) const;
  void note_failure(const Authenticator::Failure& failure, const std::string& address,
                    const std::optional<tunnel::Address>& parsed) const;

  Parts parts_;
};

/// X-RateLimit-Limit, -Remaining and -Reset (Unix time at which the whole burst is there again); none for a
/// principal without a limit.
std::vector<tunnel::Header> rate_fields(const access::RateDecision& rate,
                                        std::chrono::system_clock::time_point now);

/// Whether a caller offers the subprotocol `only`, the one that its door speaks; `bearer.<jwt>` is passed
/// over. Refuses with bad_request when it does not.
std::optional<tunnel::Refusal> check_subprotocol(const tunnel::RequestHead& head, std::string_view only);

/// What a caller of /ws/<service> offered in Sec-WebSocket-Protocol, judged.
/// None, `binary` or `tunnel.raw.v1` are spoken; `bearer.<jwt>` carries a token and is never echoed.
/// Refuses with bad_request when something was offered and nothing of it is known.
tunnel::Served<std::string> choose_subprotocol(const tunnel::RequestHead& head);

}  // namespace tunneld
