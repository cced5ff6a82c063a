#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tunnelctl/incident/desk.h"

namespace support {

using tunnelctl::incident::Desk;
using tunnelctl::incident::DeskOptions;
using tunnelctl::incident::Intent;
using tunnelctl::incident::Time;

/// A moment of the story: seconds after its beginning.
inline Time at(double seconds) {
  return Time(std::chrono::milliseconds(1'767'348'000'000 + static_cast<std::int64_t>(seconds * 1000)));
}

/// tunneld's event as it comes at that second.
inline tunnelctl::daemon::Event event(double second, std::string kind, tunnelctl::daemon::Json data) {
  static std::uint64_t id = 0;
  tunnelctl::daemon::Event event;
  event.id = ++id;
  event.kind = std::move(kind);
  event.time = tunnelctl::times::text(at(second));
  event.data = std::move(data);
  event.line = R"({"instanceId":"edge-1"})";
  return event;
}

inline tunnelctl::daemon::Json breaker(const std::string& id, const std::string& service = "api") {
  return {{"breaker", id},          {"upstream", "home"}, {"service", service},
          {"principal", "p-" + id}, {"failures", 5},      {"lastErrors", {"refused", "no route to host"}}};
}

/// "open 1, note 1, resolve 1": what and of which episode.
inline std::string told(const std::vector<Intent>& intents) {
  std::string text;
  for (const auto& one : intents)
    text += (text.empty() ? "" : ", ") + std::string(name_of(one.kind)) + " " + std::to_string(one.episode);
  return text;
}

}  // namespace support
