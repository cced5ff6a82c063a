#include "tunnelctl/incident/local_backend.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "tunnelctl/grafana/json_members.h"
#include "tunnelctl/incident/grafana_patience.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl::incident {
namespace {

constexpr std::int32_t kApplication = 0x54554e49;  // "TUNI"

/// Ends that could not be drawn are drawn later; not those of before there was a Grafana.
constexpr std::chrono::milliseconds kDrawnLater{std::chrono::hours(24)};
constexpr std::int64_t kMostDrawnLater = 5;

const std::vector<std::string>& schemas() {
  static const std::vector<std::string> all = {R"sql(
    CREATE TABLE incidents (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      reference TEXT NOT NULL,  -- random: the same number in another file is another incident
      dedup_key TEXT NOT NULL,
      title TEXT NOT NULL,
      severity TEXT NOT NULL,
      status TEXT NOT NULL CHECK (status IN ('active', 'resolved')),
      drill INTEGER NOT NULL,
      room_prefix TEXT NOT NULL,
      labels TEXT NOT NULL,
      attachments TEXT NOT NULL,
      opened INTEGER NOT NULL,  -- milliseconds since 1970
      resolved INTEGER,
      summary TEXT NOT NULL,
      annotation INTEGER,       -- Grafana's id of it
      annotated_until INTEGER   -- the end that it was given
    );
    CREATE UNIQUE INDEX one_open_incident ON incidents (dedup_key) WHERE status = 'active';
    CREATE INDEX incidents_by_time ON incidents (opened);
    CREATE TABLE notes (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      incident INTEGER NOT NULL REFERENCES incidents (number),
      key TEXT NOT NULL,
      at INTEGER NOT NULL,
      body TEXT NOT NULL,
      author TEXT NOT NULL,
      kind TEXT NOT NULL
    );
    CREATE UNIQUE INDEX one_note_of_a_key ON notes (incident, key) WHERE key <> '';
    CREATE INDEX notes_by_incident ON notes (incident);
  )sql"};
  return all;
}

constexpr std::string_view kColumns =
    "number, dedup_key, title, severity, status, drill, room_prefix, labels, attachments, opened, resolved, "
    "summary";

std::int64_t stored(Time time) {
  return time.time_since_epoch().count();
}
Time time_of(std::int64_t value) {
  return Time(std::chrono::milliseconds(value));
}
std::string stored(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}
Value text(std::string_view text) {
  return std::string(text);
}

std::string random_reference() {
  std::array<unsigned char, 8> bytes{};
  RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
  std::string result;
  for (const auto byte : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    result += kDigits[byte >> 4U];
    result += kDigits[byte & 15U];
  }
  return result;
}

Result<Incident> incident_of(const Row& row, const std::filesystem::path& path) {
  const auto severity = severity_of(row.text(3));
  const auto status = status_of(row.text(4));
  if (!severity || !status)
    return fail(Error::Kind::unavailable, path.string() + ": incident inc-" + row.text(0) + ": " +
                                              (severity ? status.error() : severity.error()).message);
  Incident incident;
  incident.id = "inc-" + row.text(0);
  incident.backend = "local";
  incident.dedup_key = row.text(1);
  incident.title = row.text(2);
  incident.severity = *severity;
  incident.status = *status;
  incident.drill = row.number(5) != 0;
  incident.room_prefix = row.text(6);
  incident.labels = labels_of(Json::parse(row.text(7), nullptr, false));
  incident.attachments = attachments_of(Json::parse(row.text(8), nullptr, false));
  incident.opened = time_of(row.number(9));
  if (!row.text(10).empty()) incident.resolved = time_of(row.number(10));
  incident.summary = row.text(11);
  return incident;
}

}  // namespace

Result<std::unique_ptr<LocalBackend>> LocalBackend::make(LocalOptions options) {
  auto database = Database::open(options.path, kApplication, schemas());
  if (!database) return tl::unexpected(database.error());
  return std::unique_ptr<LocalBackend>(new LocalBackend(std::move(options), std::move(*database)));
}

Result<std::int64_t> LocalBackend::number_of(const std::string& id) {
  const std::string_view digits =
      id.starts_with("inc-") ? std::string_view(id).substr(4) : std::string_view(id);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 1)
    return fail(Error::Kind::bad_input, "\"" + terminal::harmless(id) +
                                            "\" is no id of an incident here; they look like inc-7 (" +
                                            place() + ")");
  return number;
}

Result<Incident> LocalBackend::found(std::int64_t number) {
  const auto rows =
      database_.rows("SELECT " + std::string(kColumns) + " FROM incidents WHERE number = ?", {number});
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty())
    return fail(Error::Kind::not_found,
                "there is no incident inc-" + std::to_string(number) + " in " + place());
  return incident_of(rows->front(), database_.path());
}

Result<void> LocalBackend::add_note(std::int64_t number, const Note& note) {
  return database_.run(
      "INSERT INTO notes (incident, key, at, body, author, kind) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO "
      "NOTHING",
      {number, note.key, stored(note.at), note.body, note.author.empty() ? options_.author : note.author,
       note.kind});
}

Result<Opened> LocalBackend::open(const Opening& opening) {
  if (opening.dedup_key.empty()) return fail(Error::Kind::bug, "an incident needs a dedup key");
  if (opening.title.empty()) return fail(Error::Kind::bad_input, "an incident needs a title");
  Opened opened;
  std::int64_t number = 0;
  auto done = database_.transaction([&]() -> Result<void> {
    // Looked for first: an insertion that conflicts would use up a number.
    const auto open = database_.rows("SELECT number FROM incidents WHERE dedup_key = ? AND status = 'active'",
                                     {opening.dedup_key});
    if (!open) return tl::unexpected(open.error());
    opened.made = open->empty();
    if (!opened.made) {
      number = open->front().number(0);
      return {};
    }
    auto made = database_.run(
        "INSERT INTO incidents (reference, dedup_key, title, severity, status, drill, room_prefix, labels, "
        "attachments, opened, summary) VALUES (?, ?, ?, ?, 'active', ?, ?, ?, ?, ?, ?)",
        {random_reference(), opening.dedup_key, opening.title, text(name_of(opening.severity)),
         std::int64_t{opening.drill}, opening.room_prefix, stored(to_json(opening.labels)),
         stored(to_json(opening.attachments)), stored(opening.at), opening.summary});
    if (!made) return made;
    number = database_.last_id();
    return add_note(number, {.key = "opened", .at = opening.at, .body = opening.title, .kind = "opened"});
  });
  if (!done) return tl::unexpected(done.error());
  annotate(number, opened.made);
  auto incident = found(number);
  if (!incident) return tl::unexpected(incident.error());
  opened.incident = std::move(*incident);
  return opened;
}

Result<Listed> LocalBackend::list(const Filter& filter) {
  std::string sql = "SELECT " + std::string(kColumns) + " FROM incidents WHERE true";
  std::vector<Value> values;
  if (filter.status) {
    sql += " AND status = ?";
    values.push_back(text(name_of(*filter.status)));
  }
  if (filter.drill) {
    sql += " AND drill = ?";
    values.emplace_back(std::int64_t{*filter.drill});
  }
  if (!filter.dedup_key.empty()) {
    sql += " AND dedup_key = ?";
    values.emplace_back(filter.dedup_key);
  }
  sql += " ORDER BY opened DESC, number DESC";
  // Labels are looked at below, so the number of rows is not known before.
  if (filter.limit > 0 && filter.labels.empty())
    sql += " LIMIT " + std::to_string(std::min<std::size_t>(filter.limit, 1'000'000) + 1);
  const auto rows = database_.rows(sql, values);
  if (!rows) return tl::unexpected(rows.error());
  Listed listed;
  for (const auto& row : *rows) {
    auto incident = incident_of(row, database_.path());
    if (!incident) return tl::unexpected(incident.error());
    if (!has_labels(incident->labels, filter.labels)) continue;
    if (filter.limit > 0 && listed.incidents.size() == filter.limit) {
      listed.more = true;
      break;
    }
    listed.incidents.push_back(std::move(*incident));
  }
  return listed;
}

Result<Incident> LocalBackend::read(const std::string& id) {
  const auto number = number_of(id);
  if (!number) return tl::unexpected(number.error());
  auto incident = found(*number);
  if (!incident) return incident;
  const auto notes = database_.rows(
      "SELECT key, at, body, author, kind FROM notes WHERE incident = ? ORDER BY at, number", {*number});
  if (!notes) return tl::unexpected(notes.error());
  for (const auto& row : *notes)
    incident->notes.push_back({.key = row.text(0),
                               .at = time_of(row.number(1)),
                               .body = row.text(2),
                               .author = row.text(3),
                               .kind = row.text(4)});
  return incident;
}

Result<void> LocalBackend::note(const std::string& id, const Note& note) {
  const auto number = number_of(id);
  if (!number) return tl::unexpected(number.error());
  return database_.transaction([&]() -> Result<void> {
    if (auto there = found(*number); !there) return tl::unexpected(there.error());
    return add_note(*number, note);
  });
}

Result<void> LocalBackend::set_status(const Incident& incident, std::int64_t number, Status status, Time at) {
  if (status == Status::resolved)
    return database_.run("UPDATE incidents SET status = 'resolved', resolved = ? WHERE number = ?",
                         {std::max(stored(at), stored(incident.opened)), number});
  const auto open = database_.rows("SELECT number FROM incidents WHERE dedup_key = ? AND status = 'active'",
                                   {incident.dedup_key});
  if (!open) return tl::unexpected(open.error());
  if (!open->empty())
    return fail(Error::Kind::bad_input, incident.id + " cannot be opened again: inc-" +
                                            open->front().text(0) + " is open with the same key, " +
                                            terminal::harmless(incident.dedup_key));
  return database_.run("UPDATE incidents SET status = 'active', resolved = NULL WHERE number = ?", {number});
}

Result<Incident> LocalBackend::change(const std::string& id, const Changes& changes) {
  const auto number = number_of(id);
  if (!number) return tl::unexpected(number.error());
  if (changes.title && changes.title->empty())
    return fail(Error::Kind::bad_input, "an incident needs a title");
  auto done = database_.transaction([&]() -> Result<void> {
    const auto incident = found(*number);
    if (!incident) return tl::unexpected(incident.error());
    std::vector<std::pair<std::string, std::string>> lines;  // kind and body
    std::string title = incident->title;
    Severity severity = incident->severity;
    auto labels = incident->labels;
    if (changes.title && *changes.title != title) lines.emplace_back("title", title = *changes.title);
    if (changes.severity && *changes.severity != severity) {
      severity = *changes.severity;
      lines.emplace_back("severity",
                         std::string(name_of(incident->severity)) + " to " + std::string(name_of(severity)));
    }
    for (const auto& key : changes.remove_labels)
      std::erase_if(labels, [&](const Label& label) { return label.key == key; });
    for (const auto& label : changes.add_labels) add_label(labels, label);
    auto saved = database_.run("UPDATE incidents SET title = ?, severity = ?, labels = ? WHERE number = ?",
                               {title, text(name_of(severity)), stored(to_json(labels)), *number});
    if (!saved) return saved;
    if (changes.status && *changes.status != incident->status) {
      if (auto set = set_status(*incident, *number, *changes.status, changes.at); !set) return set;
      lines.emplace_back(*changes.status == Status::resolved ? "resolved" : "status",
                         name_of(*changes.status));
    }
    for (const auto& [kind, body] : lines)
      if (auto added = add_note(*number, {.at = changes.at, .body = body, .kind = kind}); !added)
        return added;
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  annotate(*number, false);
  return read(id);
}

Result<Incident> LocalBackend::resolve(const std::string& id, const Note& note) {
  const auto number = number_of(id);
  if (!number) return tl::unexpected(number.error());
  auto done = database_.transaction([&]() -> Result<void> {
    const auto incident = found(*number);
    if (!incident) return tl::unexpected(incident.error());
    if (incident->status == Status::resolved) return {};
    if (!note.body.empty())
      if (auto added = add_note(*number, note); !added) return added;
    if (auto set = set_status(*incident, *number, Status::resolved, note.at); !set) return set;
    return add_note(*number, {.at = note.at, .body = "resolved", .author = note.author, .kind = "resolved"});
  });
  if (!done) return tl::unexpected(done.error());
  annotate(*number, false);
  return read(id);
}

void LocalBackend::annotate(std::int64_t number, bool is_new) {
  if (!options_.grafana) return;
  const auto now = std::chrono::steady_clock::now();
  if (grafana_failed_ && now - *grafana_failed_ < options_.left_alone) return;
  std::int64_t drawing = number;
  auto done = ask_grafana(*options_.grafana, options_.patience, options_.stop,
                          [&](grafana::Server& grafana) -> Result<void> {
                            if (auto drawn = try_annotate(number, is_new, grafana); !drawn) return drawn;
                            const auto others = ends_to_draw(number);
                            if (!others) return tl::unexpected(others.error());
                            for (const auto other : *others)
                              if (auto drawn = try_annotate(drawing = other, false, grafana); !drawn)
                                return drawn;
                            return {};
                          });
  grafana_failed_.reset();
  if (done) return;
  grafana_failed_ = std::chrono::steady_clock::now();
  if (options_.warn)
    options_.warn("incident inc-" + std::to_string(drawing) +
                  " is kept, but Grafana has no annotation of it: " + done.error().message);
}

Result<std::vector<std::int64_t>> LocalBackend::ends_to_draw(std::int64_t but) {
  const auto rows = database_.rows(
      "SELECT number FROM incidents WHERE status = 'resolved' AND annotated_until IS NOT resolved AND "
      "number <> ?1 AND resolved > ?2 + (SELECT max(opened, ifnull(resolved, 0)) FROM incidents WHERE number "
      "= ?1) ORDER BY number LIMIT ?3",
      {but, -std::int64_t{kDrawnLater.count()}, kMostDrawnLater});
  if (!rows) return tl::unexpected(rows.error());
  std::vector<std::int64_t> numbers;
  for (const auto& row : *rows) numbers.push_back(row.number(0));
  return numbers;
}

Result<void> LocalBackend::try_annotate(std::int64_t number, bool is_new, grafana::Server& grafana) {
  const auto rows = database_.rows(
      "SELECT reference, title, severity, opened, resolved, annotation, annotated_until FROM incidents WHERE "
      "number = ?",
      {number});
  if (!rows) return tl::unexpected(rows.error());
  const auto& row = rows->front();
  const auto tag = "ref:" + row.text(0);
  std::int64_t id = row.number(5);
  if (id == 0 && !is_new) {
    // An earlier attempt may have drawn it without learning its number.
    const auto known = grafana.get("/api/annotations?tags=incident&tags=" + grafana::escape(tag));
    if (!known) return tl::unexpected(known.error());
    if (known->is_array() && !known->empty()) id = grafana::number_of(known->front(), "id");
  }
  std::int64_t until = row.number(6);
  if (id == 0) {
    grafana::Call call{.method = "POST", .path = "/api/annotations"};
    call.body = {
        {"time", row.number(3)},
        {"tags", {"incident", "severity:" + row.text(2), "incident:inc-" + std::to_string(number), tag}},
        {"text", row.text(1)}};
    if (row.number(4) != 0) call.body["timeEnd"] = until = row.number(4);
    const auto answer = grafana.call(call);
    if (!answer) return tl::unexpected(answer.error());
    if (!answer->ok()) return tl::unexpected(grafana.error(call, *answer));
    id = grafana::number_of(answer->json, "id");
    if (id == 0) return fail(Error::Kind::unavailable, "POST /api/annotations: the answer has no id");
  } else if (row.number(4) != 0 && row.number(4) != until) {
    const grafana::Call call{.method = "PATCH",
                             .path = "/api/annotations/" + std::to_string(id),
                             .body = {{"timeEnd", until = row.number(4)}}};
    const auto answer = grafana.call(call);
    if (!answer) return tl::unexpected(answer.error());
    // Somebody deleted it, and does not want it drawn again.
    if (!answer->ok() && answer->status != 404) return tl::unexpected(grafana.error(call, *answer));
  }
  return database_.run("UPDATE incidents SET annotation = ?, annotated_until = ? WHERE number = ?",
                       {id, until, number});
}

}  // namespace tunnelctl::incident
