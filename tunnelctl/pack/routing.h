#pragma once

#include <string>
#include <vector>

#include "tunnelctl/pack/pack.h"

/// Who hears about an alert: Alertmanager's way through its routes.
/// Source: https://prometheus.io/docs/alerting/latest/configuration/#route
namespace tunnelctl::pack {

/// Whether all matchers take an alert with these labels. A label that is not there counts as empty. Regular
/// expressions are anchored; one with a feature that the C++ library does not know takes nothing.
bool matches(const std::vector<Matcher>& matchers, const Texts& labels);

/// One route that takes the alert.
struct Taken {
  std::vector<const Route*> path{};  // from the root to it
  std::string receiver{};            // its own or the nearest above
  const Route& route() const { return *path.back(); }
};
/// All routes that take it, in order; at least one, the root if no other.
std::vector<Taken> routes_for(const Alertmanager& alertmanager, const Texts& labels);

}  // namespace tunnelctl::pack
