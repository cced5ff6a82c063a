#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string_view>

#include "common/log.h"
#include "tunnelctl/client/backoff.h"

namespace tunnelctl::client {

/// What connect and agent go by, whoever set it.
struct ClientSettings {
  /// Attempts to connect in a row before it gives up; nullopt: never.
  std::optional<unsigned> retry = 10;
  /// The wait after the first failed attempt; it doubles with each (Backoff).
  std::chrono::milliseconds base_delay{2'000};
  /// Of requests that came in by --http.
  std::chrono::milliseconds request_timeout{30'000};
  /// Requests of --http that may wait for the connection.
  std::size_t queue = 100;
  /// Offer permessage-deflate for the WebSocket (`tunnel.v1`); used where the server agrees.
  bool compression = false;
  logging::Level log_level = logging::Level::info;

  bool operator==(const ClientSettings&) const = default;
};

/// Settings that go together, by the network they are for.
enum class Profile {
  stable,         // the default: as above
  unstable,       // one with many short cuts: tries sooner and more often, waits longer, tells more
  low_bandwidth,  // a narrow or dear one: tries later, queues less, compresses
};

struct NamedProfile {
  Profile profile;
  std::string_view name;  // "low-bandwidth"
  ClientSettings settings;
};
/// All of them, the default first.
const std::array<NamedProfile, 3>& profiles();
const NamedProfile& named(Profile profile);
/// Null for a name that there is not.
const NamedProfile* find_profile(std::string_view name);

/// The waits between attempts that these settings ask for.
Backoff::Options backoff_of(const ClientSettings& settings);

}  // namespace tunnelctl::client
