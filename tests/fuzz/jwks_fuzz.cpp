// room: tunneld_access
// JWK Sets as an identity provider, or whoever answers in its place, may send them.
#include "tunneld/access/jwk_set.h"

#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tunneld::access;
  const auto set = JwkSet::parse({reinterpret_cast<const char*>(data), size});
  if (!set) {
    require(set.error().kind == Error::Kind::bad_input && !set.error().message.empty());
    require(set.error().message.size() < 1024);
    return 0;
  }
  require(set->size() >= 1 && set->size() <= JwkSet::kMaxKeys && !set->is_shared_secret());
  require(set->skipped().size() + set->size() <= JwkSet::kMaxKeys);
  require(set->any(Algorithm::hs256) == nullptr);
  const std::string signature(256, 's');
  for (const auto algorithm : {Algorithm::rs256, Algorithm::es256, Algorithm::eddsa})
    if (const auto* key = set->any(algorithm)) {
      // A key whose point is degenerate may accept some forged signature, never these lengths.
      const std::string wrong = algorithm == Algorithm::rs256 ? "s" : signature;
      require(!key->verify("text", wrong));
    }
  return 0;
}
