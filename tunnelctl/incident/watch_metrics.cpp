#include <algorithm>
#include <cstdio>

#include "tunnelctl/incident/watch_core.h"

namespace tunnelctl::incident {

std::string WatchCore::metrics() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  const auto head = [&](const char* name, const char* type, const char* help) {
    text += std::string("# HELP tunnelctl_incident_") + name + " " + help + "\n# TYPE tunnelctl_incident_" +
            name + " " + type + "\n";
  };
  const auto line = [&](const char* name, double value, const std::string& labels = "") {
    char number[40];
    std::snprintf(number, sizeof number, "%.15g", value);
    text += std::string("tunnelctl_incident_") + name + (labels.empty() ? "" : "{" + labels + "}") + " " +
            number + "\n";
  };
  const auto gauge = [&](const char* name, const char* help, double value) {
    head(name, "gauge", help);
    line(name, value);
  };
  const auto counter = [&](const char* name, const char* help, std::uint64_t value) {
    head(name, "counter", help);
    line(name, static_cast<double>(value));
  };
  const auto counts = desk_.counts();
  gauge("open", "Problems that last.", static_cast<double>(counts.open));
  gauge("pending", "Problems that are not older than their grace.", static_cast<double>(counts.pending));
  gauge("settling", "Problems that are over and wait for their quiet.", static_cast<double>(counts.settling));
  gauge("flapping", "Problems that come and go.", static_cast<double>(counts.flapping));
  const auto depth = outbox_.depth();
  if (depth) {
    gauge("outbox_depth", "Calls that wait for the backend.", static_cast<double>(depth->waiting));
    gauge("outbox_parked", "Of those, calls that the backend refuses: a person must look.",
          static_cast<double>(depth->parked));
    const auto age =
        depth->oldest ? std::max(0.0, std::chrono::duration<double>(options_.now() - *depth->oldest).count())
                      : 0.0;
    gauge("outbox_oldest_seconds", "Age of the oldest call that waits.", age);
  }
  head("deliveries_total", "counter", "Attempts to tell the backend.");
  for (const auto& [labels, count] : counters_.deliveries)
    line("deliveries_total", static_cast<double>(count),
         "backend=\"" + options_.backend_name + "\"," + labels);
  counter("events_seen_total", "Events of tunneld that were taken.", counters_.events);
  counter("event_gaps_total", "Times that events of tunneld were missing.", counters_.gaps);
  gauge("event_last_id", "Number of the newest event that was taken.",
        cursor_ ? static_cast<double>(*cursor_) : 0.0);
  gauge("event_lag_seconds", "Between the newest event and its taking.", event_lag_seconds_);
  gauge("following", "1 while tunneld tells its events.", following_ ? 1 : 0);
  head("alerts_received_total", "counter", "Posts of alerts; result is taken, or why not.");
  for (const auto& [labels, count] : counters_.alerts)
    line("alerts_received_total", static_cast<double>(count), labels);
  counter("explained_total", "Incidents that were given their context.", counters_.explained);
  counter("untold_total", "Problems beyond the bound, of which no incident was made.",
          counters_.untold + desk_.untold());
  counter("write_failures_total", "Times that the state could not be written.", counters_.commit_failures);
  return text;
}

}  // namespace tunnelctl::incident
