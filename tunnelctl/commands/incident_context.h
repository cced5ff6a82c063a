#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "tunnelctl/commands/session.h"
#include "tunnelctl/incident/enrichment.h"

namespace tunnelctl {

/// What section `incident` of the configuration says of enrichment. Fails with bad_input for a question that
/// cannot work, naming it: call it when a service starts.
Result<incident::EnrichmentOptions> enrichment_options(Session& session);

/// Whom an enrichment asks: what metric_source() and log_source() find, Grafana for its annotations and for
/// links, tunneld's events for changes. What cannot be had is left out, and its reason said in the note.
/// Good for one enrichment, from the making on until `deadline`: then everything that is still asked fails.
/// Looking things up in a Grafana ends after a third of it; then PROMETHEUS_URL and LOKI_URL (or the
/// context's) are asked, if they are set. Uses the session while it is made only, and changes nothing of it.
class EnrichmentSources {
 public:
  EnrichmentSources(Session& session, std::chrono::milliseconds deadline, std::stop_token stop = {});
  ~EnrichmentSources();
  EnrichmentSources(const EnrichmentSources&) = delete;
  EnrichmentSources& operator=(const EnrichmentSources&) = delete;

  /// Points into this.
  const incident::Sources& sources() const { return sources_; }
  /// Until the deadline; for EnrichmentOptions::deadline, so that making the sources counts.
  std::chrono::milliseconds left() const;

 private:
  class LookUp;

  void find(Session& session);
  void find_metrics(Session& session);
  void find_logs(Session& session);
  /// The look-up's stop is the session's until it is found; what was found lasts as long as this.
  template <class Found, class Ask>
  Result<Found> look_up(Session& session, const Ask& ask);
  void add_grafana(Session& session, const std::string& dashboard, const std::vector<std::string>& tags);
  void add_events(Session& session);

  std::stop_source stop_{};
  std::stop_callback<std::function<void()>> outer_;
  const std::chrono::steady_clock::time_point begin_, end_, looked_;
  std::vector<std::unique_ptr<LookUp>> look_ups_{};
  std::optional<prometheus::Server> metrics_{};
  std::optional<prometheus::Loki> logs_{};
  incident::Sources sources_{};
  std::jthread watchdog_{};
};

/// All of it: the sources are found and asked within the deadline of the options.
incident::Enrichment enriched(const incident::Subject& subject, const incident::EnrichmentOptions& options,
                              Session& session, std::stop_token stop = {});

}  // namespace tunnelctl
