#include "tunnel/principal.h"

#include "common/sha256.h"

namespace tunnel {

std::string principal_hash(std::string_view key) {
  return to_hex(sha256(key)).substr(0, 16);
}

}  // namespace tunnel
