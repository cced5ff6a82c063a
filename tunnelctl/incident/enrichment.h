#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "tunnelctl/incident/incident.h"
#include "tunnelctl/prometheus/loki.h"
#include "tunnelctl/prometheus/server.h"

/// What an incident's first note says: how bad, who, why, since when, what changed, where to look.
namespace tunnelctl::incident {

/// What an incident is about, for the queries and the text.
struct Subject {
  std::string dedup_key{};
  std::string kind{};  // breaker, upstream, agent, daemon, audit, overload, alert, manual
  std::string title{};
  Severity severity = Severity::critical;
  std::vector<Label> labels{};  // upstream, service, principal (hash), instance, alertname ...
  Time at{};                    // when it began
  Json facts = Json::object();  // the event's data, or the alert's annotations
  std::optional<Time> until{};  // when it ended, of one that did
};

/// Of an incident that was read back: its kind from the key it was opened by, or its labels.
Subject subject_of(const Incident& incident);

/// Who answers questions. Any member may be missing: its parts are then left out and the note says so.
struct Sources {
  const prometheus::Server* metrics = nullptr;
  const prometheus::Loki* logs = nullptr;
  /// Grafana's public URL and the uids of the dashboard and of the data sources, for links; empty: no links.
  std::string grafana_url{};
  std::string dashboard_uid{};
  std::string metrics_uid{}, logs_uid{};
  /// Why there is no `metrics` or `logs`, for the note; empty: none is known.
  std::string metrics_missing{}, logs_missing{};
  struct Change {
    Time at{};
    std::string text{};
  };
  /// Who knows of changes and deploys. `ask` is called in a thread of its own.
  struct ChangeLog {
    std::string name{};  // "Grafana's annotations"
    std::function<Result<std::vector<Change>>(times::Range)> ask{};
  };
  std::vector<ChangeLog> changes{};
  /// Called once when the time is up: makes what is still being asked fail at once, as the request_stop() of
  /// the stop that `metrics` and `logs` were made with does. Such sources are good for one enrichment. When
  /// it is unset enrich() waits for the slowest, so make them with a timeout of no more than the deadline.
  std::function<void()> give_up{};
};

/// One question. In `expr`, "${label}" is the subject's label of that name, escaped for the double quotes it
/// stands in (a question about a label that the subject does not have is not asked, and the note says so),
/// ${window} the time looked back, as "30m", and ${streams} EnrichmentOptions::streams.
struct Question {
  enum class Kind {
    metric,
    table,
    logs,
    patterns
  };  // one number; a list of series; lines; templates of lines
  Kind kind = Kind::metric;
  std::string name{};  // "Error rate"
  std::string expr{};
  std::string unit{};                // "", "percent" (of a ratio), "seconds", "bytes", "per second"
  std::vector<std::string> kinds{};  // of subjects; empty: all
};

/// What is asked about tunneld unless the person says others.
std::vector<Question> default_questions();

/// Fails with bad_input for the first question that cannot work: no name, an expr that is no PromQL (or, of
/// logs and patterns, no LogQL that gives lines), a ${label} outside double quotes, a unit or kind that there
/// is not. The message begins with `setting`, as "incident.questions[2].expr: ...".
Result<void> check_questions(const std::vector<Question>& questions,
                             const std::string& setting = "incident.questions");

struct EnrichmentOptions {
  std::vector<Question> questions = default_questions();
  std::chrono::milliseconds deadline{8'000};  // of all together
  std::chrono::milliseconds window{std::chrono::minutes(30)};
  std::chrono::milliseconds changes_window{std::chrono::hours(2)};  // how long before it changes are told
  std::string streams = "{job=\"tunneld\"}";                        // which of Loki's streams are tunneld's
  std::size_t max_lines = 10;
  std::size_t max_patterns = 8;
  std::size_t max_mined = 1'000;      // lines that are fetched for patterns
  std::size_t max_rows = 8;           // of a table
  std::size_t max_bytes = 16 * 1024;  // of the whole note
  bool redact_addresses = false;
  bool runbook = true;        // an excerpt of it
  std::string runbook_url{};  // what the runbook's file name is put behind; empty: the excerpt alone
  std::optional<Time> now{};  // the clock's time if unset
};

struct Enrichment {
  std::string markdown{};  // redacted
  std::vector<Attachment> attachments{};
  std::vector<std::string> problems{};  // what could not be found out; in the text too
};

/// Asks all questions at once, in threads of its own, and takes what is there at the deadline or the stop;
/// those that were late are named. Never fails: without any answer the note still says who, what, since when
/// and the runbook.
Enrichment enrich(const Subject& subject, const EnrichmentOptions& options, const Sources& sources,
                  std::stop_token stop = {});

}  // namespace tunnelctl::incident
