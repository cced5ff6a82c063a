#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tunnelctl::patterns {

/// Takes out of a text what must not leave the machine: bearer and basic credentials, JWTs, private keys,
/// API tokens of known shapes (Grafana glsa_, GitHub ghp_/github_pat_, Slack xox, AWS AKIA, PagerDuty...),
/// values of members and parameters whose names say secret (password, token, secret, api_key, authorization,
/// cookie ...), user:password@ of URLs, e-mail addresses; with `addresses` IPv4 and IPv6 addresses too. What
/// was there is replaced by "[redacted <kind>]", e.g. "[redacted token]"; the same input gives the same
/// output, and redacting twice changes nothing more. Colour codes and escapes of JSON hide nothing; a text in
/// which something was found comes without them (escapes.h). Linear time in the text's length; threads may
/// share one.
struct RedactionOptions {
  bool addresses = false;
  bool emails = true;
};
class Redaction {
 public:
  explicit Redaction(RedactionOptions options = RedactionOptions()) : options_(options) {}
  std::string apply(std::string_view text) const;
  /// Whether apply() would change it.
  bool finds(std::string_view text) const;

 private:
  RedactionOptions options_;
};

}  // namespace tunnelctl::patterns
