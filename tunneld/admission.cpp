#include "tunneld/admission.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "tunneld/access/bearer.h"

namespace tunneld {

using tunnel::Code;
using tunnel::Refusal;

Result<std::shared_ptr<const Policy>> Policy::make(const std::vector<tunnel::Service>& services,
                                                   std::vector<std::string> allowed_origins,
                                                   std::string_view issuer) {
  auto policy = std::make_shared<Policy>();
  for (const auto& service : services) {
    auto allow = access::AllowList::parse(service.allow, issuer);
    if (!allow) return fail(allow.error().kind, "service " + service.name + ": " + allow.error().message);
    policy->services_.emplace(service.name, Entry{service, std::move(*allow)});
  }
  policy->allowed_origins_ = std::move(allowed_origins);
  return policy;
}

tunnel::Served<std::shared_ptr<const tunnel::Service>> Policy::authorise(
    const std::shared_ptr<const Policy>& policy, const tunnel::Principal& principal, std::string_view name) {
  const auto found = policy->services_.find(name);
  const auto* entry = found == policy->services_.end() ? nullptr : &found->second;
  if (!access::may_use(principal, entry == nullptr ? nullptr : &entry->allow))
    return tunnel::refuse(Code::service_denied, "service denied or unknown");
  return std::shared_ptr<const tunnel::Service>(policy, &entry->service);
}

std::optional<Refusal> Policy::check_origin(const tunnel::RequestHead& head) const {
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, "origin")) continue;
    if (std::find(allowed_origins_.begin(), allowed_origins_.end(), field.value) == allowed_origins_.end())
      return Refusal{Code::forbidden, "origin is not in allowed_origins"};
  }
  return std::nullopt;
}

Authenticator::Authenticator(tunnel::Observer& observer, const access::Revocations& revocations,
                             std::function<void()> on_unknown_key)
    : observer_(observer), revocations_(revocations), on_unknown_key_(std::move(on_unknown_key)) {}

Authenticator::Failure Authenticator::failure(const access::Rejection& why) const {
  observer_.auth_attempt(false, access::label(why.reason));
  if (why.refetch_may_help) on_unknown_key_();
  return {{why.expired() ? Code::token_expired : Code::token_invalid, std::string(access::caller_text(why))},
          why};
}

tl::expected<Authenticator::Caller, Authenticator::Failure> Authenticator::verified(
    std::string_view token) const {
  auto* verifier = verifier_.load(std::memory_order_acquire);
  if (verifier == nullptr) {
    observer_.auth_attempt(false, "no_keys");
    return tl::unexpected(Failure{
        {Code::unavailable, "the keys of the token issuer could not be fetched", std::chrono::seconds(5)},
        std::nullopt});
  }
  auto accepted = verifier->verify(token, std::chrono::system_clock::now(), std::chrono::steady_clock::now());
  if (!accepted) return tl::unexpected(failure(accepted.error()));
  if (revocations_.revoked(accepted->principal()))
    return tl::unexpected(failure({.reason = access::Reason::revoked}));
  observer_.auth_attempt(true, accepted->from_cache ? "cached" : "verified");
  return Caller{std::move(accepted->token), tunnel::Credential::authorization, !accepted->from_cache};
}

tl::expected<Authenticator::Caller, Authenticator::Failure> Authenticator::authenticate(
    std::string_view token) const {
  return verified(token);
}

tl::expected<Authenticator::Caller, Authenticator::Failure> Authenticator::authenticate(
    const tunnel::RequestHead& head) const {
  access::BearerFinder finder;
  for (const auto& field : head.fields) finder.see(field.name, field.value);
  const auto bearer = finder.token(head.target);
  if (!bearer) return tl::unexpected(failure(bearer.error()));
  auto caller = verified(bearer->token);
  if (caller && bearer->source == access::BearerToken::Source::subprotocol)
    caller->credential = tunnel::Credential::subprotocol;
  return caller;
}

std::optional<Authenticator::Caller> Authenticator::recall(const tunnel::RequestHead& head) const {
  auto* verifier = verifier_.load(std::memory_order_acquire);
  access::BearerFinder finder;
  for (const auto& field : head.fields) finder.see(field.name, field.value);
  const auto bearer = finder.token(head.target);
  if (verifier == nullptr || !bearer) return std::nullopt;
  auto known =
      verifier->recall(bearer->token, std::chrono::system_clock::now(), std::chrono::steady_clock::now());
  if (!known || revocations_.revoked(known->principal())) return std::nullopt;
  observer_.auth_attempt(true, "cached");
  const bool in_field = bearer->source == access::BearerToken::Source::authorization;
  return Caller{std::move(known->token),
                in_field ? tunnel::Credential::authorization : tunnel::Credential::subprotocol};
}

namespace {

std::chrono::seconds in_whole_seconds(std::chrono::milliseconds time) {
  return std::max(std::chrono::seconds(1), std::chrono::ceil<std::chrono::seconds>(time));
}

const char* to_string(access::PenaltyBox::Standing standing) {
  using Standing = access::PenaltyBox::Standing;
  return standing == Standing::blocked ? "blocked" : standing == Standing::throttled ? "throttled" : "free";
}

}  // namespace

std::string Admission::address_of(const tunnel::RequestHead& head, const std::string& peer) const {
  if (parts_.proxies.empty() || !parts_.proxies.contains(peer)) return peer;
  std::vector<std::string_view> hops;
  for (const auto& field : head.fields)
    if (tunnel::same_name(field.name, "x-forwarded-for")) hops.push_back(field.value);
  return tunnel::client_address(peer, hops, parts_.proxies);
}

std::optional<Refusal> Admission::check_address(const std::optional<tunnel::Address>& address) const {
  if (!address) return std::nullopt;  // a local socket has none
  const auto now = std::chrono::steady_clock::now();
  const auto verdict = parts_.penalty.check(*address, now);
  if (!verdict.allowed)
    return Refusal{Code::rate_limited, "too many failed attempts to sign in from this address",
                   verdict.retry_after};
  const auto rate = parts_.rates.take(*address, now);
  if (rate.allowed) return std::nullopt;
  return Refusal{Code::rate_limited, "too many requests from this address",
                 in_whole_seconds(rate.retry_after)};
}

std::optional<Admission::Denied> Admission::admit_stranger(const std::string& address) const {
  auto why = check_address(tunnel::Address::parse(address));
  if (!why) return std::nullopt;
  parts_.observer.rate_limited("ip", tunnel::Tier::free);
  return Denied{std::move(*why)};
}

void Admission::note_failure(const Authenticator::Failure& failure, const std::string& address,
                             const std::optional<tunnel::Address>& parsed) const {
  if (!failure.why) return;
  const auto& why = *failure.why;
  if (parts_.audit != nullptr)
    parts_.audit->write("auth.failed", {{"peer", address},
                                        {"reason", access::label(why.reason)},
                                        {"kid", why.claimed_kid},
                                        {"alg", why.claimed_alg},
                                        {"iss", why.claimed_issuer}});
  // An expired or revoked token is a genuine one: whoever holds it is not guessing.
  if (!parsed || why.expired() || why.reason == access::Reason::revoked) return;
  const auto changed = parts_.penalty.failed(*parsed, std::chrono::steady_clock::now());
  if (!changed) return;
  logging::warn("access", "an address keeps failing to authenticate",
                {{"peer", address}, {"standing", to_string(*changed)}});
  if (parts_.audit != nullptr)
    parts_.audit->write("penalty", {{"peer", address}, {"standing", to_string(*changed)}});
}

void Admission::note_sight(const Authenticator::Caller& caller, const std::string& address) const {
  if (!caller.first_sight || parts_.audit == nullptr) return;
  parts_.audit->write("auth.accepted", {{"principal", caller.token->principal_hash},
                                        {"peer", address},
                                        {"kid", caller.token->key_id},
                                        {"alg", access::name(caller.token->algorithm)},
                                        {"iss", caller.principal().issuer}});
}

tunnel::Served<std::shared_ptr<const access::VerifiedToken>> Admission::renew(
    const tunnel::Principal& principal, std::string_view token, const std::string& address) const {
  auto judged = parts_.authenticator.authenticate(token);
  if (!judged) {
    note_failure(judged.error(), address, tunnel::Address::parse(address));
    return tl::unexpected(std::move(judged.error().refusal));
  }
  if (judged->token->principal_key != principal.key())
    return tunnel::refuse(Code::forbidden, "the token is of another issuer or subject than this stream's");
  note_sight(*judged, address);
  return std::move(judged->token);
}

tl::expected<Admission::Admitted, Admission::Denied> Admission::admit(const tunnel::RequestHead& head,
                                                                      const std::string& address) const {
  const auto parsed = tunnel::Address::parse(address);
  Authenticator::Caller caller;
  if (auto refused = check_address(parsed)) {
    // Somebody else's guessing behind the same address must not lock out those who are signed in.
    auto known = parts_.authenticator.recall(head);
    if (!known) {
      parts_.observer.rate_limited("ip", tunnel::Tier::free);
      return tl::unexpected(Denied{std::move(*refused)});
    }
    caller = std::move(*known);
  } else {
    auto judged = parts_.authenticator.authenticate(head);
    if (!judged) {
      note_failure(judged.error(), address, parsed);
      return tl::unexpected(Denied{std::move(judged.error().refusal)});
    }
    caller = std::move(*judged);
    if (parsed) parts_.rates.give_back(*parsed, std::chrono::steady_clock::now());
  }
  note_sight(caller, address);
  const auto rate = take_rate(*caller.token, address);
  if (!rate) return tl::unexpected(rate.error());
  return Admitted{std::move(caller), *rate};
}

tl::expected<access::RateDecision, Admission::Denied> Admission::take_rate(const access::VerifiedToken& token,
                                                                           const std::string& address) const {
  const auto& principal = token.principal;
  const auto now = std::chrono::steady_clock::now();
  auto rate = parts_.rates.take(token.principal_key, principal.tier, now);
  const char* scope = "user";
  Denied denied{{Code::rate_limited, "more requests than the tier allows"}, rate};
  if (rate.allowed) {
    const auto all = parts_.rates.take_global(now);
    if (all.allowed) return rate;
    scope = "global";
    denied.refusal.message = "more requests than this server takes from all callers";
    denied.rate = std::nullopt;
    rate = all;
  }
  denied.refusal.retry_after = in_whole_seconds(rate.retry_after);
  parts_.observer.rate_limited(scope, principal.tier);
  if (parts_.on_limit) parts_.on_limit(scope, principal, address);
  return tl::unexpected(std::move(denied));
}

std::vector<tunnel::Header> rate_fields(const access::RateDecision& rate,
                                        std::chrono::system_clock::time_point now) {
  if (rate.limit == 0) return {};
  const auto reset = std::chrono::ceil<std::chrono::seconds>((now + rate.until_full).time_since_epoch());
  return {{"X-RateLimit-Limit", std::to_string(rate.limit)},
          {"X-RateLimit-Remaining", std::to_string(rate.remaining)},
          {"X-RateLimit-Reset", std::to_string(reset.count())}};
}

namespace {

/// The subprotocols that a caller offers, its token left out.
std::vector<std::string_view> offered_subprotocols(const tunnel::RequestHead& head) {
  std::vector<std::string_view> offered;
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, "sec-websocket-protocol")) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      auto item = rest.substr(0, comma);
      while (!item.empty() && (item.front() == ' ' || item.front() == '\t')) item.remove_prefix(1);
      while (!item.empty() && (item.back() == ' ' || item.back() == '\t')) item.remove_suffix(1);
      if (!item.empty() && !item.starts_with("bearer.")) offered.push_back(item);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return offered;
}

bool contains(const std::vector<std::string_view>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

std::optional<Refusal> check_subprotocol(const tunnel::RequestHead& head, std::string_view only) {
  if (contains(offered_subprotocols(head), only)) return std::nullopt;
  return Refusal{Code::bad_request, "the subprotocol spoken here is " + std::string(only)};
}

tunnel::Served<std::string> choose_subprotocol(const tunnel::RequestHead& head) {
  const auto offered = offered_subprotocols(head);
  for (const auto* known : {"tunnel.raw.v1", "binary"})
    if (contains(offered, known)) return std::string(known);
  if (!offered.empty())
    return tunnel::refuse(Code::bad_request,
                          "none of the offered subprotocols is spoken here: binary, tunnel.raw.v1");
  return std::string{};
}

}  // namespace tunneld
