#include "tunnelctl/incident/outbox.h"

#include <algorithm>
#include <cmath>

namespace tunnelctl::incident {
namespace {

constexpr std::int32_t kApplication = 0x54574F31;  // "TWO1"

const std::vector<std::string> kSchemas = {
    // records: what the desk and the reader of events know. outbox.state: waiting, done, refused.
    "CREATE TABLE records(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE incidents(episode INTEGER PRIMARY KEY, key TEXT NOT NULL, opening TEXT NOT NULL, subject "
    "TEXT NOT NULL,"
    " id TEXT NOT NULL DEFAULT '', url TEXT NOT NULL DEFAULT '', status TEXT NOT NULL DEFAULT 'active',"
    // explained: how many contexts it was given, 2 for no more.
    " explained INTEGER NOT NULL DEFAULT 0, changed INTEGER NOT NULL);"
    "CREATE TABLE outbox(number INTEGER PRIMARY KEY AUTOINCREMENT, episode INTEGER NOT NULL,"
    " key TEXT NOT NULL, kind TEXT NOT NULL, note TEXT NOT NULL, at INTEGER NOT NULL, made INTEGER NOT NULL,"
    " state TEXT NOT NULL DEFAULT 'waiting', parked INTEGER NOT NULL DEFAULT 0,"
    " attempts INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0,"
    " said TEXT NOT NULL DEFAULT '');"
    "CREATE INDEX outbox_waiting ON outbox(key, number) WHERE state = 'waiting';"
    "CREATE INDEX outbox_ended ON outbox(ended) WHERE state <> 'waiting';"};

std::int64_t ms_of(Time time) {
  return time.time_since_epoch().count();
}
Time time_of(std::int64_t ms) {
  return Time(std::chrono::milliseconds(ms));
}

Intent::Kind kind_of(std::string_view name) {
  for (const auto kind : {Intent::Kind::open, Intent::Kind::reopen, Intent::Kind::resolve})
    if (name_of(kind) == name) return kind;
  return Intent::Kind::note;
}

/// Longer than any pause before the next attempt.
constexpr std::chrono::milliseconds kLongestPause{11 * 60'000};

/// Of each key the first that waits.
constexpr const char* kFirsts =
    "number IN (SELECT min(number) FROM outbox WHERE state = 'waiting' GROUP BY key)";

}  // namespace

Result<Outbox> Outbox::open(const std::filesystem::path& path, std::size_t most_waiting) {
  auto database = Database::open(path, kApplication, kSchemas);
  if (!database) return tl::unexpected(database.error());
  return Outbox(std::move(*database), most_waiting);
}

Result<Outbox::Records> Outbox::records() {
  const auto rows = database_.rows("SELECT name, value FROM records");
  if (!rows) return tl::unexpected(rows.error());
  Records records;
  for (const auto& row : *rows) records[row.text(0)] = row.text(1);
  return records;
}

Result<void> Outbox::commit(const Changes& changes, const std::vector<Intent>& intents, Time now) {
  if (changes.empty() && intents.empty()) return {};
  return database_.transaction([&]() -> Result<void> {
    if (!intents.empty())
      if (auto free = room(); !free) return free;
    for (const auto& [name, value] : changes) {
      const auto done = value ? database_.run(
                                    "INSERT INTO records(name, value) VALUES(?1, ?2)"
                                    " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
                                    {name, *value})
                              : database_.run("DELETE FROM records WHERE name = ?1", {name});
      if (!done) return done;
    }
    for (const auto& intent : intents)
      if (auto done = add(intent, now); !done) return done;
    return {};
  });
}

Result<void> Outbox::room() {
  const auto rows = database_.rows("SELECT count(*) FROM outbox WHERE state = 'waiting'");
  if (!rows) return tl::unexpected(rows.error());
  const auto waiting = rows->empty() ? 0 : rows->front().number(0);
  if (static_cast<std::uint64_t>(waiting) < most_waiting_) return {};
  return fail(Error::Kind::unavailable,
              path().string() + ": " + std::to_string(waiting) +
                  " calls wait for the backend already, more are not taken on until it answers");
}

Result<void> Outbox::writable(Time now) {
  return database_.transaction([&]() -> Result<void> {
    if (auto free = room(); !free) return free;
    return database_.run(
        "INSERT INTO records(name, value) VALUES('tried', ?1)"
        " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        {std::to_string(ms_of(now))});
  });
}

Result<void> Outbox::add(const Intent& intent, Time now) {
  if (intent.kind == Intent::Kind::open) {
    auto made = database_.run(
        "INSERT INTO incidents(episode, key, opening, subject, changed) VALUES(?1, ?2, ?3, ?4, ?5)",
        {intent.episode, intent.opening.dedup_key, text_of(intent.opening), text_of(intent.subject),
         ms_of(now)});
    if (!made) return made;
  } else if (intent.kind != Intent::Kind::note) {
    auto set = database_.run(
        "UPDATE incidents SET status = ?2, changed = ?3 WHERE episode = ?1",
        {intent.episode, std::string(intent.kind == Intent::Kind::resolve ? "resolved" : "active"),
         ms_of(now)});
    if (!set) return set;
  }
  if (intent.kind == Intent::Kind::open || intent.kind == Intent::Kind::reopen) {
    // What a person shall mend must not keep a new incident waiting for longer than it takes to ask.
    auto asked = database_.run(
        "UPDATE outbox SET due = 0 WHERE state = 'waiting' AND parked = 1"
        " AND key = (SELECT key FROM incidents WHERE episode = ?1)",
        {intent.episode});
    if (!asked) return asked;
  }
  return database_.run(
      "INSERT INTO outbox(episode, key, kind, note, at, made) VALUES(?1,"
      " coalesce((SELECT key FROM incidents WHERE episode = ?1), ''), ?2, ?3, ?4, ?5)",
      {intent.episode, std::string(name_of(intent.kind)), text_of(intent.note), ms_of(intent.at),
       ms_of(now)});
}

Result<std::optional<Parcel>> Outbox::next(Time now) {
  const auto rows =
      database_.rows(std::string("SELECT number, episode, kind, note, at, made, attempts, id, opening,"
                                 " EXISTS(SELECT 1 FROM outbox AS later WHERE later.state = 'waiting' AND"
                                 " later.key = outbox.key AND later.number > outbox.number AND"
                                 " later.kind IN ('open', 'reopen'))"
                                 " FROM outbox JOIN incidents USING(episode) WHERE ") +
                         kFirsts + " AND (due <= ?1 OR due > ?2) ORDER BY due, number LIMIT 1",
                     {ms_of(now), ms_of(now + kLongestPause)});
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty()) return std::optional<Parcel>();
  const auto& row = rows->front();
  Parcel parcel;
  parcel.number = row.number(0);
  parcel.episode = row.number(1);
  parcel.kind = kind_of(row.text(2));
  auto note = note_of(row.text(3));
  if (!note) return tl::unexpected(note.error());
  parcel.note = std::move(*note);
  parcel.at = time_of(row.number(4));
  parcel.made = time_of(row.number(5));
  parcel.attempts = static_cast<std::uint64_t>(row.number(6));
  parcel.incident = row.text(7);
  auto opening = opening_of(row.text(8));
  if (!opening) return tl::unexpected(opening.error());
  parcel.opening = std::move(*opening);
  parcel.overtaken = row.number(9) != 0;
  return std::optional(std::move(parcel));
}

Result<std::optional<Time>> Outbox::next_due(Time now) {
  const auto rows =
      database_.rows(std::string("SELECT min(CASE WHEN due > ?1 THEN 0 ELSE due END), count(*) FROM outbox"
                                 " WHERE ") +
                         kFirsts,
                     {ms_of(now + kLongestPause)});
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty() || rows->front().number(1) == 0) return std::optional<Time>();
  return std::optional(time_of(rows->front().number(0)));
}

Result<void> Outbox::delivered(const Parcel& parcel, const std::string& incident, const std::string& url,
                               Time now) {
  return database_.transaction([&]() -> Result<void> {
    if (!incident.empty()) {
      auto kept = database_.run("UPDATE incidents SET id = ?2, url = ?3 WHERE episode = ?1",
                                {parcel.episode, incident, url});
      if (!kept) return kept;
    }
    return database_.run(
        "UPDATE outbox SET state = 'done', parked = 0, ended = ?2, attempts = attempts + 1 WHERE number = ?1",
        {parcel.number, ms_of(now)});
  });
}

Result<void> Outbox::try_again(const Parcel& parcel, const Error& why, Time due, bool parked) {
  return database_.run(
      "UPDATE outbox SET attempts = attempts + 1, due = ?2, parked = ?3, said = ?4 WHERE number = ?1",
      {parcel.number, ms_of(due), std::int64_t{parked ? 1 : 0}, why.message});
}

Result<void> Outbox::give_up(const Parcel& parcel, const Error& why, Time now) {
  return database_.run(
      "UPDATE outbox SET state = 'refused', parked = 0, attempts = attempts + 1, ended = ?2, said = ?3"
      " WHERE number = ?1",
      {parcel.number, ms_of(now), why.message});
}

Result<void> Outbox::hurry() {
  return database_.run("UPDATE outbox SET due = 0, parked = 0 WHERE state = 'waiting'");
}

Result<std::optional<Outbox::Unexplained>> Outbox::unexplained(std::optional<Time> again) {
  const auto rows = database_.rows(
      "SELECT episode, subject, changed, explained FROM incidents WHERE status = 'active'"
      " AND (explained = 0 OR (explained = 1 AND changed <= ?1)) ORDER BY explained, episode LIMIT 1",
      {ms_of(again.value_or(Time::min()))});
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty()) return std::optional<Unexplained>();
  auto subject = subject_of(rows->front().text(1));
  if (!subject) return tl::unexpected(subject.error());
  return std::optional(Unexplained{.episode = rows->front().number(0),
                                   .subject = std::move(*subject),
                                   .made = time_of(rows->front().number(2)),
                                   .again = rows->front().number(3) != 0});
}

Result<bool> Outbox::explain(const Unexplained& incident, const std::optional<Note>& note, Time now) {
  bool added = false;
  const auto done = database_.transaction([&]() -> Result<void> {
    auto marked = database_.run(
        "UPDATE incidents SET explained = ?2 WHERE episode = ?1 AND explained < ?2 AND status = 'active'",
        {incident.episode, incident.again || !note ? 2 : 1});
    if (!marked) return marked;
    added = database_.changed() > 0 && note.has_value();
    if (!added) return {};
    Intent intent{.kind = Intent::Kind::note, .episode = incident.episode, .at = now};
    intent.note = *note;
    return add(intent, now);
  });
  if (!done) return tl::unexpected(done.error());
  return added;
}

Result<Outbox::Depth> Outbox::depth() {
  const auto rows = database_.rows(
      "SELECT (SELECT count(*) FROM outbox WHERE state = 'waiting'),"
      " (SELECT count(*) FROM outbox WHERE state = 'waiting' AND parked = 1),"
      " (SELECT count(*) FROM outbox WHERE state = 'refused'),"
      " (SELECT min(made) FROM outbox WHERE state = 'waiting'),"
      " (SELECT count(*) FROM incidents WHERE status = 'active')");
  if (!rows) return tl::unexpected(rows.error());
  Depth depth;
  if (rows->empty()) return depth;
  const auto& row = rows->front();
  const auto count = [&](std::size_t column) { return static_cast<std::uint64_t>(row.number(column)); };
  depth.waiting = count(0);
  depth.parked = count(1);
  depth.given_up = count(2);
  if (depth.waiting > 0) depth.oldest = time_of(row.number(3));
  depth.active = count(4);
  return depth;
}

Result<void> Outbox::prune(Time before) {
  return database_.transaction([&]() -> Result<void> {
    auto parcels =
        database_.run("DELETE FROM outbox WHERE state <> 'waiting' AND ended < ?1", {ms_of(before)});
    if (!parcels) return parcels;
    return database_.run(
        "DELETE FROM incidents WHERE status = 'resolved' AND changed < ?1"
        " AND NOT EXISTS(SELECT 1 FROM outbox WHERE outbox.episode = incidents.episode)",
        {ms_of(before)});
  });
}

std::string_view name_of(Delivery::What what) {
  switch (what) {
    case Delivery::What::done: return "done";
    case Delivery::What::again: return "again";
    case Delivery::What::parked: return "parked";
    case Delivery::What::refused: return "refused";
    case Delivery::What::cancelled: return "cancelled";
  }
  return "done";
}

namespace {

/// A new incident may not be shown for that long, and what is not found is looked for that long.
constexpr std::chrono::milliseconds kNotShownYet{5 * 60'000}, kLookedFor{24 * 3'600'000};

Delivery failed(const Backend& backend, const Parcel& parcel, Error why, Time now) {
  using Kind = Error::Kind;
  using What = Delivery::What;
  auto what = What::parked;
  if (why.kind == Kind::cancelled) what = What::cancelled;
  if (why.kind == Kind::unavailable || why.kind == Kind::timed_out) what = What::again;
  // A note that cannot be taken must not keep the incident from being resolved.
  const bool hopeless = why.kind == Kind::bad_input || why.kind == Kind::bug;
  if (parcel.kind == Intent::Kind::note && hopeless) what = What::refused;
  const bool said_of_it = parcel.kind == Intent::Kind::note || parcel.kind == Intent::Kind::resolve;
  if (said_of_it && why.kind == Kind::not_found) {
    const auto age = now - parcel.made;
    const bool over = parcel.overtaken || backend.name() == "local" || age >= kLookedFor;
    what = over ? What::refused : age < kNotShownYet ? What::again : What::parked;
  }
  return {.what = what, .why = std::move(why)};
}

}  // namespace

Delivery deliver(Backend& backend, const Parcel& parcel, Time now) {
  const auto not_done = [&](const Error& why) { return failed(backend, parcel, why, now); };
  const auto open = [&]() -> Delivery {
    const auto opened = backend.open(parcel.opening);
    if (!opened) return not_done(opened.error());
    return {.incident = opened->incident.id, .url = opened->incident.url};
  };
  switch (parcel.kind) {
    case Intent::Kind::open: return open();
    case Intent::Kind::note: {
      backend.knows(parcel.incident, parcel.opening);
      const auto noted = backend.note(parcel.incident, parcel.note);
      return noted ? Delivery{} : not_done(noted.error());
    }
    case Intent::Kind::reopen: {
      Changes changes;
      changes.status = Status::active;
      changes.at = parcel.at;
      const auto changed = backend.change(parcel.incident, changes);
      if (changed) return {};
      const auto kind = changed.error().kind;
      const bool cannot =
          kind == Error::Kind::bug || kind == Error::Kind::not_found || kind == Error::Kind::bad_input;
      return cannot ? open() : not_done(changed.error());
    }
    case Intent::Kind::resolve: {
      const auto resolved = backend.resolve(parcel.incident, parcel.note);
      return resolved ? Delivery{} : not_done(resolved.error());
    }
  }
  return {};
}

std::chrono::milliseconds pause_after(std::uint64_t attempts, double random) {
  constexpr double kFirst = 1'000, kLongest = 30'000, kLeast = 0.7, kSpread = 0.6;
  constexpr std::uint64_t kMostDoublings = 10;
  const auto doublings = std::min(attempts > 0 ? attempts - 1 : 0, kMostDoublings);
  const double pause = std::min(kLongest, kFirst * std::exp2(static_cast<double>(doublings)));
  return std::chrono::milliseconds(static_cast<std::int64_t>(pause * (kLeast + kSpread * random)));
}

}  // namespace tunnelctl::incident
