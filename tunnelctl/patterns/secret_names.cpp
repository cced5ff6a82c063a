#include "tunnelctl/patterns/secret_names.h"

#include <array>
#include <cstddef>

#include "tunnelctl/patterns/characters.h"

namespace tunnelctl::patterns {

namespace {

struct Name {
  std::string_view end;
  Secret secret;
  bool whole_word;  // short ones: "pass", but not "bypass"
};
constexpr std::array<Name, 54> kNames = {{
    {"password", Secret::password, false},
    {"passwd", Secret::password, false},
    {"passphrase", Secret::password, false},
    {"passcode", Secret::password, false},
    {"passwort", Secret::password, false},
    {"pwd", Secret::password, true},
    {"pass", Secret::password, true},
    {"pw", Secret::password, true},
    {"passwordhash", Secret::password, false},
    {"passwords", Secret::password, false},
    {"pgpassword", Secret::password, false},
    {"mysqlpwd", Secret::password, false},
    {"secret", Secret::secret, false},
    {"secretkey", Secret::secret, false},
    {"secretkeybase", Secret::secret, false},
    {"secretvalue", Secret::secret, false},
    {"privatekey", Secret::secret, false},
    {"encryptionkey", Secret::secret, false},
    {"signingkey", Secret::secret, false},
    {"masterkey", Secret::secret, false},
    {"sharedkey", Secret::secret, false},
    {"accountkey", Secret::secret, false},
    {"credential", Secret::secret, false},
    {"credentials", Secret::secret, false},
    {"sharedaccesssignature", Secret::secret, false},
    {"token", Secret::token, false},
    {"apikey", Secret::token, false},
    {"accesskey", Secret::token, false},
    {"authkey", Secret::token, false},
    {"sessionkey", Secret::token, false},
    {"routingkey", Secret::token, false},
    {"integrationkey", Secret::token, false},
    {"servicekey", Secret::token, false},
    {"subscriptionkey", Secret::token, false},
    {"licensekey", Secret::token, false},
    {"appkey", Secret::token, true},
    {"jwt", Secret::token, true},
    {"otp", Secret::token, true},
    {"totp", Secret::token, true},
    {"bearer", Secret::token, true},
    {"sig", Secret::token, true},
    {"signature", Secret::token, false},
    {"assertion", Secret::token, true},
    {"jsessionid", Secret::cookie, true},
    {"phpsessid", Secret::cookie, true},
    {"sessid", Secret::cookie, true},
    {"authcode", Secret::token, true},
    {"xauth", Secret::token, true},
    {"authorization", Secret::authorization, false},
    {"authorisation", Secret::authorization, false},
    {"cookie", Secret::cookie, false},
    {"cookies", Secret::cookie, false},
    {"setcookie", Secret::cookie, false},
    {"codeverifier", Secret::token, false},
}};

}  // namespace

Secret secret_named(std::string_view name) {
  // The last letters, lower-case and without what stands between words, from the end to the front;
  // `starts[i]`: a word begins with the i-th from the end.
  constexpr std::size_t kLongest = 24;
  std::array<char, kLongest> ending{};
  std::array<bool, kLongest> starts{};
  std::size_t size = 0, at = name.size();
  while (at > 0 && size < kLongest) {
    const char c = name[--at];
    if (!is(c, kLetter | kDigit)) continue;
    ending[size] = lower(c);
    const char earlier = at == 0 ? '\0' : name[at - 1];
    starts[size] = !is(earlier, kLetter | kDigit) || (is(c, kUpper) && !is(earlier, kUpper));
    ++size;
  }
  if (size < 2) return Secret::none;
  Secret found = Secret::none;
  std::size_t longest = 0;
  for (const auto& known : kNames) {
    const std::size_t length = known.end.size();
    if (length > size || length <= longest || ending[0] != known.end.back()) continue;
    std::size_t same = 0;
    while (same < length && ending[same] == known.end[length - 1 - same]) ++same;
    if (same == length && (!known.whole_word || starts[length - 1])) {
      found = known.secret;
      longest = length;
    }
  }
  return found;
}

std::string_view to_string(Secret secret) {
  switch (secret) {
    case Secret::password: return "password";
    case Secret::token: return "token";
    case Secret::secret: return "secret";
    case Secret::authorization: return "credentials";
    case Secret::cookie: return "cookie";
    case Secret::none: break;
  }
  return "secret";
}

}  // namespace tunnelctl::patterns
