#include "tunneld/access/secret_file.h"

#include <string_view>

namespace tunneld::access {

Result<Secret> read_shared_secret(const std::string& path) {
  auto content = read_secret_file(path, 4096);
  if (!content) return content;
  std::string_view secret = content->reveal();
  if (secret.ends_with('\n')) secret.remove_suffix(1);
  if (secret.ends_with('\r')) secret.remove_suffix(1);
  if (secret.size() < 32)
    return fail(Error::Kind::bad_input,
                path + ": a shared secret needs at least 32 bytes; make one with: openssl rand -base64 48");
  return Secret(std::string(secret));
}

}  // namespace tunneld::access
