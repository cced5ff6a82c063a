// Who the caller is, from what proxies and strangers write. Input: three parts, a zero byte between:
// the trusted networks (a line each), the peer, the lines of X-Forwarded-For.
#include "tunnel/client_address.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace tunnel;

void require(bool holds) {
  if (!holds) std::abort();
}

std::string_view until(std::string_view& rest, char end) {
  const auto at = std::min(rest.find(end), rest.size());
  const auto part = rest.substr(0, at);
  rest.remove_prefix(std::min(at + 1, rest.size()));
  return part;
}

std::vector<std::string_view> lines(std::string_view text) {
  std::vector<std::string_view> all;
  while (!text.empty() && all.size() < 64) all.push_back(until(text, '\n'));
  return all;
}

/// What was understood once is understood the same again.
void check_address(std::string_view text) {
  const auto address = Address::parse(text);
  if (!address) return;
  const std::string shown = address->text();
  const auto again = Address::parse(shown.substr(0, shown.find('/')));
  require(again && *again == *address && again->hash() == address->hash() && again->text() == shown);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto networks = lines(until(rest, '\0'));
  const auto peer = until(rest, '\0');
  const auto forwarded = lines(rest);

  check_address(peer);
  std::vector<std::string> entries;
  for (const auto& network : networks) {
    std::vector<std::string> one{std::string(network)};
    if (TrustedProxies::parse(one)) entries.push_back(one.front());
  }
  const auto trusted = TrustedProxies::parse(entries);
  require(trusted && trusted->empty() == entries.empty());

  const auto client = client_address(peer, forwarded, *trusted);
  if (!trusted->contains(peer)) require(client == peer);
  // Either we believe nobody but the socket, or what we believe is an address and no proxy's.
  if (client != peer) require(Address::parse(client) && !trusted->contains(client));

  // Whatever a caller puts to the left of what our proxies wrote changes nothing.
  auto forged = forwarded;
  forged.insert(forged.begin(), "203.0.113.99");
  const auto seen = client_address(peer, forged, *trusted);
  require(seen == client || client == peer);
  return 0;
}
