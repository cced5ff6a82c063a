#include "tunnelctl/client/profile.h"

#include <algorithm>

namespace tunnelctl::client {

using namespace std::chrono_literals;

const std::array<NamedProfile, 3>& profiles() {
  static const std::array<NamedProfile, 3> kProfiles = {
      NamedProfile{Profile::stable, "stable", {}},
      NamedProfile{Profile::unstable,
                   "unstable",
                   {.retry = 15,
                    .base_delay = 1s,
                    .request_timeout = 60s,
                    .queue = 200,
                    .log_level = logging::Level::debug}},
      NamedProfile{Profile::low_bandwidth,
                   "low-bandwidth",
                   {.retry = 10, .base_delay = 3s, .request_timeout = 60s, .queue = 50, .compression = true}},
  };
  return kProfiles;
}

const NamedProfile& named(Profile profile) {
  return *std::find_if(profiles().begin(), profiles().end(),
                       [&](const auto& one) { return one.profile == profile; });
}

const NamedProfile* find_profile(std::string_view name) {
  const auto* const found =
      std::find_if(profiles().begin(), profiles().end(), [&](const auto& one) { return one.name == name; });
  return found == profiles().end() ? nullptr : found;
}

Backoff::Options backoff_of(const ClientSettings& settings) {
  Backoff::Options options;
  options.base = settings.base_delay;
  // At the beginning of an outage waits are cut short, but not below what was asked for. A third more,
  // because the cut leaves room for the random factor.
  options.quick_cap = std::max(options.quick_cap, options.base * 4 / 3);
  options.cap = std::max(options.cap, options.base);
  options.max_attempts = settings.retry;
  return options;
}

}  // namespace tunnelctl::client
