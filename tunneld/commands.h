#pragma once

#include <chrono>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "tunneld/app.h"

namespace tunneld {

/// Runs until a signal ends it. Talk goes to standard error, the log where the configuration says.
Result<App::End> serve(const ConfigSource& source);

/// Says "ok" or what is wrong; warnings go to `err`. Opens no address and writes nothing.
Result<void> check_config(const ConfigSource& source, std::ostream& out, std::ostream& err);

/// Every setting as Markdown, from the schema.
Result<void> config_reference(std::ostream& out);

struct TokenCreate {
  std::string subject;
  std::string tier = "free";
  std::vector<std::string> scopes;
  std::string expires = "1h";
  std::optional<std::string> audience;
};
/// Signs with the local issuer, whose key is made when it is missing; prints the token and nothing else.
/// Fails with bad_input when the configuration trusts another issuer: the daemon would refuse it.
Result<void> create_token(const ConfigSource& source, const TokenCreate& options, std::ostream& out);

enum class SshKey {
  current,  // the identity is made when it is missing
  next,     // the one that is to follow, made when it is missing
  rotate,   // the next one takes the place of the current one, which signs that
};
/// tunneld's SSH public key as a line for authorized_keys. `err`: what is to be done after a rotation.
Result<void> print_ssh_key(const ConfigSource& source, SshKey which, std::ostream& out, std::ostream& err);

/// The version, with the libraries when asked for.
void print_version(bool with_dependencies, std::ostream& out);

}  // namespace tunneld
