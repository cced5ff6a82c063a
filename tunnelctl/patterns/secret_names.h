#pragma once

#include <string_view>

namespace tunnelctl::patterns {

/// What a name of a member, parameter, header or option says of its value.
enum class Secret {
  none,
  password,  // password, passwd, passphrase, pwd, pass ...
  token,     // token, api_key, secret, signature, routing_key ...: a word of prose may follow it ("token:
             // expired")
  secret,
  authorization,  // a header: scheme and credential
  cookie          // a header: name=value; name=value
};

/// By the end of the name, without regard to case and to _ - . between its words: "DB_PASSWORD", "x-api-key",
/// "clientSecret", "accessToken". Not "tokens", "token_type", "password_length", "bypass".
Secret secret_named(std::string_view name);

/// "token" and so on, for "[redacted token]".
std::string_view to_string(Secret secret);

}  // namespace tunnelctl::patterns
