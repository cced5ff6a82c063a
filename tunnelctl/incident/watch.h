#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "common/result.h"
#include "common/sd_notify.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/incident/backend.h"
#include "tunnelctl/incident/enrichment.h"
#include "tunnelctl/incident/receiver.h"
#include "tunnelctl/incident/watch_core.h"

namespace tunnelctl::incident {

struct WatchOptions {
  bool follow = true;  // tunneld's events, and whether it is there
  std::chrono::milliseconds probe_every{2'000};
  std::chrono::milliseconds list_breakers_every{30'000};
  std::optional<ReceiverOptions> receiver{};
  /// Incidents that were opened longer ago are not explained any more: their context is gone.
  std::chrono::milliseconds explain_within{std::chrono::hours(1)};
  /// After that long the context of what still lasts is told once more: of the moment in which a breaker
  /// opens Prometheus may not have a single sample yet. 0: never.
  std::chrono::milliseconds look_again_after{std::chrono::minutes(2)};
};

struct WatchParts {
  Backend* backend = nullptr;  // used by one thread
  /// Who to ask about tunneld, made anew after a refusal: a token file may have been renewed.
  std::function<Result<daemon::Admin>(std::stop_token stop)> admin{};
  /// Unset: incidents get no context. Called in a thread of its own.
  std::function<Enrichment(const Subject& subject, bool again, std::stop_token stop)> enrich{};
  std::function<Time()> now{};
  /// Told once, when everything runs; `port` of the receiver, 0 without one.
  std::function<void(unsigned short port)> started{};
  const systemd::ServiceManager* manager = nullptr;
};

/// Follows, receives, decides, delivers and explains, each in a thread of its own, until the stop. What was
/// not delivered then stays in the outbox. Fails only with the errors of Receiver::start: whoever cannot be
/// reached or refuses is asked again.
Result<void> watch(WatchCore& core, const WatchOptions& options, const WatchParts& parts,
                   std::stop_token stop);

}  // namespace tunnelctl::incident
