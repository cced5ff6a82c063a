// PROXY protocol v2 headers as something that got hold of a proxy's address may send them.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "edge/proxy_header.h"

using namespace edge;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

/// In an allocation of its own, so that a step outside is seen.
struct Copy {
  explicit Copy(std::span<const std::byte> from)
      : bytes(std::make_unique<std::byte[]>(from.size())), size(from.size()) {
    std::copy(from.begin(), from.end(), bytes.get());
  }
  std::span<const std::byte> span() const { return {bytes.get(), size}; }
  std::unique_ptr<std::byte[]> bytes;
  std::size_t size;
};

}  // namespace

/// What the prologue promises is what the header is, and only a whole one is accepted.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const Copy prologue(input.first(std::min(size, kProxyPrologueBytes)));
  const auto whole = proxy_header_size(prologue.span());
  if (!whole) {
    require(!whole.error().empty());
    require(!parse_proxy_header(Copy(input).span()));
    return 0;
  }
  require(*whole >= kProxyPrologueBytes && *whole <= kMaxProxyHeaderBytes);
  const Copy header(input.first(std::min(size, *whole)));
  const auto parsed = parse_proxy_header(header.span());
  require(parsed.has_value() == (header.size == *whole));
  if (!parsed) return 0;
  require(parsed->bytes == *whole);
  const bool by_proxy = data[12] == 0x21 && (data[13] == 0x11 || data[13] == 0x21);
  require(parsed->source.has_value() == by_proxy);
  if (parsed->source) {
    const auto address = parsed->source->address();
    require(!address.is_v6() || !address.to_v6().is_v4_mapped());
    require(!address.to_string().empty());
  }
  return 0;
}
