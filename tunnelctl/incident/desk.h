#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/incident/alert_webhook.h"
#include "tunnelctl/incident/enrichment.h"
#include "tunnelctl/incident/incident.h"

namespace tunnelctl::incident {

struct DeskOptions {
  /// Which tunneld, in keys and titles: the same after every restart of either side.
  std::string source{"tunneld"};
  /// How long a thing must have been well before its incident is resolved.
  std::chrono::milliseconds quiet{0};
  /// What breaks again within this time belongs to the incident it had; from the third opening on (the second
  /// where the backend cannot reopen) the incident is resolved only after that much quiet.
  std::chrono::milliseconds flap_window{std::chrono::minutes(10)};
  /// Agents reconnect by themselves, overload passes and a daemon restarts: what lasts shorter is none.
  std::chrono::milliseconds agent_grace{std::chrono::seconds(60)};
  std::chrono::milliseconds overload_grace{std::chrono::seconds(30)};
  std::chrono::milliseconds daemon_grace{std::chrono::seconds(15)};
  bool reopens = true;         // the backend can set a resolved incident active again
  bool tells_settings = true;  // changed settings are notes of what is open
  std::string room_prefix{"incident"};
  bool drill = false;
  std::vector<Label> labels{};  // of every incident
  /// Lost agents that are incidents of their own at one time; more are one incident together.
  std::size_t agents_apart = 5;
  /// Of problems that are watched at once; more alerts are refused, and more of the rest not told of.
  std::size_t max_cases = 1000;
};

/// What is to be done at the backend. Those of one episode are done in their order.
struct Intent {
  enum class Kind { open, note, reopen, resolve };
  Kind kind = Kind::note;
  std::int64_t episode = 0;  // one incident of the backend
  Time at{};
  Opening opening{};  // of open
  Subject subject{};  // of open
  Note note{};        // of note and resolve
};

std::string_view name_of(Intent::Kind kind);

/// Decides from what happens which incidents there are. No I/O; time is an argument. Not for several threads
/// at once.
///
/// A problem is a case: of a key, with those who have it as members (the breakers of one service, the alerts
/// of one group). It opens with its first member, is well without any, and is then resolved. What opens again
/// soon goes on in the incident that it had.
class Desk {
 public:
  explicit Desk(DeskOptions options) : options_(std::move(options)) {}

  using Intents = std::vector<Intent>;
  Intents event(const daemon::Event& event, Time now);
  /// All events of the time before anybody watched: only problems that last become incidents.
  Intents history(const std::vector<daemon::Event>& events, Time now);
  /// While there may be events that were not read yet the clock decides nothing of what they tell of: they
  /// may say that it is over. Kept by no file.
  void behind(bool yes) { behind_ = yes; }
  /// Some events are gone: nobody can tell a crash from a stop any more.
  void gap();
  /// How the daemon says that it is, after a gap: what opened meanwhile is opened, what is over ends. Asked
  /// for after the last event that was taken, and before any later one is.
  struct Survey {
    std::vector<daemon::Breaker> breakers{};
    std::vector<daemon::Agent> agents{};
  };
  Intents survey(const Survey& found, Time now);
  /// The daemon's log of events began anew: what it told before is no longer true.
  Intents anew(Time now);
  /// Whether the daemon answers, is ready and tells its events; `why` not. Call as often as it is known.
  Intents daemon(bool well, std::string_view why, Time now);
  /// The daemon's breakers that were not closed at `as_of`: of a missed or forgotten one no event comes.
  Intents breakers(const std::vector<std::string>& open, Time as_of, Time now);
  /// Fails with unavailable when there are too many problems already; nothing was changed then.
  Result<Intents> alerts(const AlertGroup& group, Time now);
  /// What is due by the clock alone.
  Intents tick(Time now) { return due(now, !behind_); }

  /// Problems that last, and those that wait for their grace or their quiet.
  struct Counts {
    std::size_t open = 0, pending = 0, settling = 0, flapping = 0;
  };
  Counts counts() const;
  bool any_open(std::string_view kind) const;
  /// How often something was not told of because of max_cases, since this Desk was made.
  std::uint64_t untold() const { return untold_; }

  /// What changed since the last call, for a file: name and JSON, or nothing for one that is gone.
  std::map<std::string, std::optional<std::string>> take_changes();
  /// From what take_changes gave, all together. For how long the daemon had been away, and whether it still
  /// is, nobody knows then: its grace begins anew. Fails with bad_input for what cannot be read.
  static Result<Desk> restore(DeskOptions options, const std::map<std::string, std::string>& records);

 private:
  static constexpr std::size_t kMostAgents = 20'000;
  enum class Phase { fresh, open, well, resolved };  // fresh: no incident (yet)
  struct Case {
    std::string key{}, kind{};
    Phase phase = Phase::fresh;
    std::int64_t episode = 0;
    std::map<std::string, Time> members{};  // who has it, since when
    std::optional<Time> pending{};          // waits for its grace since then
    Time began{}, well{}, resolved{};       // of this episode
    std::vector<Time> openings{};           // within the flap window
    bool flapping = false;
    std::uint64_t joined = 0;  // members of this episode, those that are well again too
    std::uint64_t times = 0;   // that it opened in this episode
    std::string title{}, summary{}, recovery{};
    Severity severity = Severity::critical;
    std::vector<Label> labels{};
    Json facts = Json::object();
    std::uint64_t refused = 0;    // requests, of breakers
    std::int64_t longest_ms = 0;  // that one of its members was ill
  };
  /// Somebody has a problem.
  struct Trouble {
    std::string key{}, kind{}, member{};
    std::string title{}, summary{};
    std::string joins{};  // the note of one who is not the first
    Severity severity = Severity::critical;
    std::vector<Label> labels{};
    Json facts = Json::object();
    Time at{};
  };

  static Subject subject_of(const Case& one);
  Intents due(Time now, bool all);
  void bad(const Trouble& trouble, Intents& out);
  void good(const std::string& key, const std::string& member, const std::string& recovery, Time at,
            Intents& out);
  void note(Case& one, std::string body, Time at, Intents& out);
  void open(Case& one, Time at, Intents& out);
  /// Counts an opening; the first one too many makes it flap.
  void count_opening(Case& one, Time at, Intents& out);
  bool resolve_if_due(Case& one, Time now, Intents& out);
  void changed(const Case& one) { changed_["case/" + one.key] = true; }
  void daemon_changed() { changed_["daemon"] = true; }

  std::chrono::milliseconds grace(std::string_view kind) const;
  std::chrono::milliseconds wait_of(const Case& one) const;
  std::size_t flaps_allowed() const { return options_.reopens ? 2 : 1; }
  std::string key(std::string_view rest) const;
  std::string note_key(Time at);

  void breaker(const daemon::Event& event, Time at, Intents& out);
  void upstream(const daemon::Event& event, Time at, Intents& out);
  void agent(const daemon::Event& event, Time at, Intents& out);
  void lose_agent(const std::string& member, const std::string& id, std::string_view why, Json facts, Time at,
                  Intents& out);
  void overload(const daemon::Event& event, Time at, Intents& out);
  void audit(const daemon::Event& event, Time at, Intents& out);
  void started(const daemon::Event& event, Time at, Intents& out);
  void configured(const daemon::Event& event, Time at, Intents& out);
  /// Those that are not among `open`, of those that opened before then.
  void end_breakers(const std::vector<std::string>& open, Time before, Time now, Intents& out);
  /// All that the daemon told about itself ended with it.
  void forget_daemon(const std::string& recovery, Time at, Intents& out);
  const Case* agent_case(const std::string& member) const;
  static Trouble trouble_of(const AlertGroup& group, const Alert& alert, const std::string& key, Time now);

  static Json to_json(const Case& one);
  static Result<Case> case_of(const Json& json);

  DeskOptions options_;
  std::map<std::string, Case> cases_{};
  std::map<std::string, bool> changed_{};
  // Of the daemon, kept as the record "daemon".
  std::int64_t last_episode_ = 0;
  std::uint64_t notes_ = 0;
  enum class Lifecycle { unknown, running, stopped } lifecycle_ = Lifecycle::unknown;
  std::string stop_reason_{};
  std::string instance_{};
  /// Agents that are connected, as "principal/id", each a record: after a crash nobody says that they are
  /// lost.
  std::map<std::string, std::string> agents_{};  // -> its id
  std::uint64_t untold_ = 0;
  bool behind_ = false;
};

}  // namespace tunnelctl::incident
