#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/result.h"
#include "tunnelctl/times/moment.h"

/// Incidents as people and programs here see them, whichever service keeps them.
namespace tunnelctl::incident {

using Json = nlohmann::json;
using Time = times::Time;

enum class Status { active, resolved };
/// As alert rules and PagerDuty say it. Grafana IRM's: critical, major, minor, minor.
enum class Severity { critical, error, warning, info };

std::string_view name_of(Status status);
std::string_view name_of(Severity severity);
/// By name, with the words people also use (major, high: error; minor, medium: warning; low, pending: info).
/// Fails with bad_input, listing the names.
Result<Severity> severity_of(std::string_view text);
Result<Status> status_of(std::string_view text);

struct Label {
  std::string key{}, value{};
  bool operator==(const Label&) const = default;
};
/// "key=value", or a word alone: the key "tag". Fails with bad_input.
Result<Label> label_of(std::string_view text);

/// An address that belongs to an incident: dashboard, runbook, logs.
struct Attachment {
  std::string url{}, caption{};
  bool operator==(const Attachment&) const = default;
};

/// A line of the timeline.
struct Note {
  /// Of its maker: one note of that key in an incident, however often it is sent. Empty: always a new one.
  std::string key{};
  Time at{};
  std::string body{};        // Markdown, redacted
  std::string author{};      // as the backend knows it
  std::string kind{"note"};  // opened, note, status, severity, title, resolved
};

/// What opens an incident.
struct Opening {
  /// At most one open incident of a key: opening it again gives that one. Never empty.
  std::string dedup_key{};
  std::string title{};
  Severity severity = Severity::critical;
  std::string room_prefix{"incident"};
  bool drill = false;
  std::vector<Label> labels{};
  std::vector<Attachment> attachments{};
  Time at{};
  std::string summary{};  // Markdown; the first note where the backend has no place for it
};

struct Incident {
  std::string id{};
  std::string backend{};
  std::string dedup_key{};
  std::string title{};
  Severity severity = Severity::critical;
  Status status = Status::active;
  bool drill = false;
  std::string room_prefix{};
  std::vector<Label> labels{};
  std::vector<Attachment> attachments{};
  Time opened{};
  std::optional<Time> resolved{};
  std::string url{};  // its page; "" when the backend has none
  std::string summary{};
  std::vector<Note> notes{};  // oldest first; only of one that was read by its id
};

/// Adds a label. One of its key is replaced, but of "tag" there may be several.
void add_label(std::vector<Label>& labels, const Label& label);
/// Whether all of `wanted` are among them.
bool has_labels(const std::vector<Label>& labels, const std::vector<Label>& wanted);
/// A key made of a title: the same words in any case and spacing give the same. "manual:the-tunnel-is-down".
/// Of a title without letters and digits: its hash.
std::string dedup_key_of(std::string_view title);

/// What `opening` makes, before a backend gave it an id.
Incident incident_of(const Opening& opening);

/// [{"key": ..., "value": ...}] and [{"url": ..., "caption": ...}]; what is none is left out on reading.
Json to_json(const std::vector<Label>& labels);
Json to_json(const std::vector<Attachment>& attachments);
std::vector<Label> labels_of(const Json& json);
std::vector<Attachment> attachments_of(const Json& json);

/// For --output json, and for the database; of_json fails with unavailable, naming the member.
Json to_json(const Incident& incident);
Result<Incident> of_json(const Json& json);

}  // namespace tunnelctl::incident
