#pragma once

#include <vector>

/// What compile and export both know about the ways to tell somebody.
namespace tunnelctl::monitor {

struct Setting {
  const char* theirs;  // Alertmanager's key
  const char* ours;    // Grafana's
  bool secret = false;
  const char* global = "";  // where Alertmanager looks when the receiver says nothing
};

struct Translation {
  const char* kind;     // "slack": slack_configs there, the type here
  bool sends_resolved;  // Alertmanager's default
  std::vector<Setting> settings;
};

/// Alertmanager's receivers in Grafana's words.
/// Source: https://prometheus.io/docs/alerting/latest/configuration/ and Grafana's notifiers (12.4).
const std::vector<Translation>& translations();

}  // namespace tunnelctl::monitor
