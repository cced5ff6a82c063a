#include "tunneld/admission.h"

#include <algorithm>
#include <utility>

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

tunnel::Served<const tunnel::Service*> Policy::authorise(const access::Principal& principal,
                                                         std::string_view name) const {
  const auto found = services_.find(name);
  const auto* entry = found == services_.end() ? nullptr : &found->second;
  if (!access::may_use(principal, entry == nullptr ? nullptr : &entry->allow))
    return tunnel::refuse(Code::service_denied, "service denied or unknown");
  return &entry->service;
}

std::optional<Refusal> Policy::check_origin(const tunnel::RequestHead& head) const {
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, "origin")) continue;
    if (std::find(allowed_origins_.begin(), allowed_origins_.end(), field.value) == allowed_origins_.end())
      return Refusal{Code::forbidden, "origin is not in allowed_origins"};
  }
  return std::nullopt;
}

Authenticator::Authenticator(tunnel::Observer& observer, std::function<void()> on_unknown_key)
    : observer_(observer), on_unknown_key_(std::move(on_unknown_key)) {}

tunnel::Served<Authenticator::Caller> Authenticator::authenticate(const tunnel::RequestHead& head) const {
  auto* verifier = verifier_.load(std::memory_order_acquire);
  if (verifier == nullptr) {
    observer_.auth_attempt(false, "no_keys");
    return tl::unexpected(Refusal{Code::unavailable, "the keys of the token issuer could not be fetched",
                                  std::chrono::seconds(5)});
  }
  const auto refuse = [this](const access::Rejection& why) {
    observer_.auth_attempt(false, access::label(why.reason));
    if (why.refetch_may_help) on_unknown_key_();
    return tunnel::refuse(why.expired() ? Code::token_expired : Code::token_invalid,
                          std::string(access::caller_text(why)));
  };
  access::BearerFinder finder;
  for (const auto& field : head.fields) finder.see(field.name, field.value);
  const auto bearer = finder.token(head.target);
  if (!bearer) return refuse(bearer.error());
  auto accepted =
      verifier->verify(bearer->token, std::chrono::system_clock::now(), std::chrono::steady_clock::now());
  if (!accepted) return refuse(accepted.error());
  observer_.auth_attempt(true, accepted->from_cache ? "cached" : "verified");
  const bool in_field = bearer->source == access::BearerToken::Source::authorization;
  return Caller{std::move(accepted->token),
                in_field ? tunnel::Credential::authorization : tunnel::Credential::subprotocol};
}

tunnel::Served<std::string> choose_subprotocol(const tunnel::RequestHead& head) {
  bool offered = false;
  bool binary = false;
  for (const auto& field : head.fields) {
    if (!tunnel::same_name(field.name, "sec-websocket-protocol")) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      auto item = rest.substr(0, comma);
      while (!item.empty() && (item.front() == ' ' || item.front() == '\t')) item.remove_prefix(1);
      while (!item.empty() && (item.back() == ' ' || item.back() == '\t')) item.remove_suffix(1);
      if (item == "tunnel.raw.v1") return std::string(item);
      if (item == "binary") binary = true;
      if (!item.empty() && !item.starts_with("bearer.")) offered = true;
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  if (binary) return std::string("binary");
  if (offered)
    return tunnel::refuse(Code::bad_request,
                          "none of the offered subprotocols is spoken here: binary, tunnel.raw.v1");
  return std::string{};
}

}  // namespace tunneld
