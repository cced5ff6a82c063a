#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "tunnelctl/incident/backend.h"
#include "tunnelctl/incident/database.h"
#include "tunnelctl/incident/desk.h"

namespace tunnelctl::incident {

/// One call of the backend that is to be made.
struct Parcel {
  std::int64_t number = 0;
  std::int64_t episode = 0;
  Intent::Kind kind = Intent::Kind::note;
  Time at{}, made{};
  std::uint64_t attempts = 0;
  std::string incident{};  // its id at the backend; "" before it was opened
  Opening opening{};       // the incident's
  Note note{};
  bool overtaken = false;  // an opening of the same key waits behind it
};

/// What is decided and not yet told to the backend, with what it was decided from: one SQLite file, in which
/// both are written in one transaction. A program that is killed anywhere goes on where it was; what it told
/// the backend without writing that down is told again, which the backend takes as once.
/// Errors: those of Database. Not for several threads at once.
class Outbox {
 public:
  using Records = std::map<std::string, std::string>;
  using Changes = std::map<std::string, std::optional<std::string>>;

  static Result<Outbox> open(const std::filesystem::path& path, std::size_t most_waiting = 10'000);

  Result<Records> records();
  /// All or nothing. Fails with unavailable when as much waits already as may: whoever asked must try again.
  Result<void> commit(const Changes& changes, const std::vector<Intent>& intents, Time now);

  /// Whether a decision could be written down and taken on now. Errors as commit.
  Result<void> writable(Time now);

  /// The one that waits longest of those that are due; of each dedup key only the first is, since a backend
  /// takes what is said of a key for the incident that is open then. What is due in a future that no pause
  /// reaches is due: the clock was set back.
  Result<std::optional<Parcel>> next(Time now);
  /// When the next one is due; nullopt: nothing waits.
  Result<std::optional<Time>> next_due(Time now);
  /// `incident` and `url` of open and reopen; empty: as they were.
  Result<void> delivered(const Parcel& parcel, const std::string& incident, const std::string& url, Time now);
  /// `parked`: for long, because only a person can mend it.
  Result<void> try_again(const Parcel& parcel, const Error& why, Time due, bool parked);
  /// Never again; what comes behind it goes on.
  Result<void> give_up(const Parcel& parcel, const Error& why, Time now);
  /// All that waits is due now: somebody started anew, perhaps with other settings.
  Result<void> hurry();

  /// An active incident that has no context yet, or whose context is old enough for a second look.
  struct Unexplained {
    std::int64_t episode = 0;
    Subject subject{};
    Time made{};         // decided on, however long ago it began
    bool again = false;  // it has one
  };
  /// Whoever has none comes first, then the oldest; a second look is due for those made by `again`.
  Result<std::optional<Unexplained>> unexplained(std::optional<Time> again);
  /// Adds the note, unless the incident is resolved already (false): then a note could open it again.
  /// Without a note the incident just counts as explained, for good.
  Result<bool> explain(const Unexplained& incident, const std::optional<Note>& note, Time now);

  struct Depth {
    std::uint64_t waiting = 0, parked = 0, given_up = 0;
    std::optional<Time> oldest{};  // that waits
    std::uint64_t active = 0;      // incidents
  };
  Result<Depth> depth();
  /// Forgets what was delivered before then, and incidents that are resolved and all told.
  Result<void> prune(Time before);
  const std::filesystem::path& path() const { return database_.path(); }

 private:
  Outbox(Database database, std::size_t most_waiting)
      : database_(std::move(database)), most_waiting_(most_waiting) {}
  Result<void> add(const Intent& intent, Time now);
  Result<void> room();

  Database database_;
  std::size_t most_waiting_;
};

/// What became of a parcel.
struct Delivery {
  enum class What { done, again, parked, refused, cancelled };
  What what = What::done;
  std::string incident{}, url{};  // when done, of open and reopen
  Error why{};                    // else
};
std::string_view name_of(Delivery::What what);

/// Makes the call. Another incident is opened where the backend cannot reopen one, or has lost it. An
/// incident that the backend does not find may only not be shown yet, or be hidden from a token that has
/// changed: what is said of it is given up after a day, or when the next opening of its key waits behind it.
Delivery deliver(Backend& backend, const Parcel& parcel, Time now);

/// Before the next attempt, after `attempts` that failed: doubles from one second to half a minute, times 0.7
/// to 1.3. `random` is of [0, 1).
std::chrono::milliseconds pause_after(std::uint64_t attempts, double random);

// What the file holds, for tests too; of_text fails with bad_input.
std::string text_of(const Opening& opening);
std::string text_of(const Subject& subject);
std::string text_of(const Note& note);
Result<Opening> opening_of(std::string_view text);
Result<Subject> subject_of(std::string_view text);
Result<Note> note_of(std::string_view text);

}  // namespace tunnelctl::incident
