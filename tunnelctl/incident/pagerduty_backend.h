#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/secret.h"
#include "tunnelctl/incident/backend.h"
#include "tunnelctl/incident/remote.h"

namespace tunnelctl::incident {

struct PagerdutyOptions {
  Secret routing_key{};  // of an Events API v2 integration, 32 characters
  /// The REST API's, for all that Events cannot do: notes, list, show, titles. With it `from`, the e-mail
  /// address of a user of the account, which PagerDuty wants with every change.
  Secret api_token{};
  std::string from{};
  std::string url = "https://events.pagerduty.com";
  std::string api_url = "https://api.pagerduty.com";
  std::string source{};         // the host that says so
  RemoteOptions remote{};       // TLS, time, stop
  std::function<Time()> now{};  // the system's clock if unset
};

/// PagerDuty by Events API v2, whose dedup_key is the incident's id here, and by the REST API where there is
/// a token (its own ids, "PT4KHLK", are taken too).
///
/// Without a token: opening and resolving work. A note is sent with the trigger once more, in its custom
/// details, but only some minutes long and for what this object opened itself or knows(), because a trigger
/// that comes after PagerDuty's people resolved the incident would page them again. The rest fails with bug,
/// naming the setting. Severity and labels are those of the first event.
///
/// PagerDuty shows what became of an event some seconds after it was taken; until then reading the incident
/// fails with not_found, and a note with unavailable for two minutes, then with bad_input. Resolving a key is
/// told by an event whatever PagerDuty shows. What it resolves is not known then, and has no title. Source:
/// https://developer.pagerduty.com/docs/events-api-v2/, https://developer.pagerduty.com/api-reference/
class PagerdutyBackend final : public Backend {
 public:
  static Result<std::unique_ptr<PagerdutyBackend>> make(PagerdutyOptions options);

  std::string name() const override { return "pagerduty"; }
  std::string place() const override { return http::shown_url(events_.url()); }
  Result<Opened> open(const Opening& opening) override;
  Result<Listed> list(const Filter& filter) override;
  Result<Incident> read(const std::string& id) override;
  void knows(const std::string& id, const Opening& opening) override;
  Result<void> note(const std::string& id, const Note& note) override;
  Result<Incident> change(const std::string& id, const Changes& changes) override;
  Result<Incident> resolve(const std::string& id, const Note& note) override;

 private:
  PagerdutyBackend(PagerdutyOptions options, Remote events, std::optional<Remote> rest)
      : options_(std::move(options)), events_(std::move(events)), rest_(std::move(rest)) {}
  Result<void> send(Json event);
  Json trigger(const Opening& opening) const;
  Result<void> needs_rest(const char* what) const;
  /// The REST API's object of a dedup key or of an id of its own.
  Result<Json> found(const std::string& id);
  /// The one that a note for `id` belongs to. Fails with unavailable while PagerDuty may not show it yet.
  Result<Json> shown(const std::string& id, const Note& note);
  Result<std::vector<Note>> notes(const std::string& rest_id);
  Result<void> add_note(const std::string& rest_id, const Note& note);
  Incident read_incident(const Json& json) const;
  /// With its notes, and what the first event said.
  Result<Incident> read_all(const Json& json);
  Result<Incident> resolve_made_here(const std::string& key, const Note& last);
  Result<Incident> resolve_found(const Json& json, const Note& last);

  PagerdutyOptions options_;
  Remote events_;
  std::optional<Remote> rest_;
  struct Trigger {
    Opening opening{};
    Time sent{};
    std::string before{};  // the id of the incident that the key had then
  };
  struct End {
    Time at{};  // of the note
    Time sent{};
  };
  // By dedup_key as sent.
  std::map<std::string, Trigger> opened_{};
  std::map<std::string, End> ended_{};
};

}  // namespace tunnelctl::incident
