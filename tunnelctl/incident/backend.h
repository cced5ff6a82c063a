#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/incident/incident.h"

namespace tunnelctl::incident {

struct Filter {
  std::optional<Status> status{};
  std::optional<bool> drill{};
  std::string dedup_key{};
  std::vector<Label> labels{};  // all of them
  std::size_t limit = 50;       // newest first; 0: all
};

struct Listed {
  std::vector<Incident> incidents{};
  bool more = false;
};

struct Opened {
  Incident incident{};
  bool made = true;  // false: one of that key was open already, and is this
};

/// What update changes; unset stays.
struct Changes {
  std::optional<std::string> title{};
  std::optional<Severity> severity{};
  std::optional<Status> status{};
  std::vector<Label> add_labels{};
  std::vector<std::string> remove_labels{};  // by key
  Time at{};
};

/// Where incidents are kept. Calls are one after another; a call that failed may be repeated: opening by its
/// dedup key, a note by its key and resolving are done once however often they are asked for, also when an
/// earlier answer was lost.
/// Errors: bad_input (the service refuses what was asked, with its words), denied, not_found (no such
/// incident), unavailable and timed_out (worth another try), bug (the backend has no such thing: the message
/// says what would do instead).
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;   // grafana, pagerduty, github, webhook, local
  virtual std::string place() const = 0;  // for messages: "/home/me/.local/state/..., https://github.com/o/r"
  virtual Result<Opened> open(const Opening& opening) = 0;
  virtual Result<Listed> list(const Filter& filter) = 0;
  virtual Result<Incident> read(const std::string& id) = 0;
  /// What the incident of that id was opened with, perhaps by an earlier run: for backends that cannot ask.
  virtual void knows(const std::string& /*id*/, const Opening& /*opening*/) {}
  virtual Result<void> note(const std::string& id, const Note& note) = 0;
  virtual Result<Incident> change(const std::string& id, const Changes& changes) = 0;
  /// Adds `note` and sets the status; one that is resolved already stays as it is (no error).
  virtual Result<Incident> resolve(const std::string& id, const Note& note) = 0;
};

}  // namespace tunnelctl::incident
