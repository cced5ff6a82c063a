// Text that may hold secrets, as strangers write it. The first byte chooses the options.
#include "tunnelctl/patterns/redaction.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/utf8.h"

using namespace tunnelctl::patterns;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Redaction redaction({.addresses = (data[0] & 1U) != 0, .emails = (data[0] & 2U) == 0});
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto once = redaction.apply(text);
  require(redaction.apply(once) == once);
  require(redaction.finds(text) == (once != text));
  require(!redaction.finds(once));
  if (utf8::valid(text)) require(utf8::valid(once));
  return 0;
}
