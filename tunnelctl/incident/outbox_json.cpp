#include "tunnelctl/incident/outbox.h"

/// How openings, subjects and notes are written in the outbox's file.
namespace tunnelctl::incident {
namespace {

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::int64_t ms_of(Time time) {
  return time.time_since_epoch().count();
}

Json labels_of(const std::vector<Label>& labels) {
  Json all = Json::array();
  for (const auto& label : labels) all.push_back({label.key, label.value});
  return all;
}

/// Reads members; anything unexpected makes `good` false and gives nothing.
struct Members {
  explicit Members(std::string_view text) : json(Json::parse(text, nullptr, false)), good(json.is_object()) {}

  const Json* at(const char* name) {
    if (!good) return nullptr;
    const auto found = json.find(name);
    good = found != json.end();
    return good ? &*found : nullptr;
  }
  std::string text(const char* name) {
    const auto* found = at(name);
    good = found != nullptr && found->is_string();
    return good ? found->get<std::string>() : std::string();
  }
  Time time(const char* name) {
    const auto* found = at(name);
    good = found != nullptr && found->is_number_integer();
    return good ? Time(std::chrono::milliseconds(found->get<std::int64_t>())) : Time();
  }
  bool flag(const char* name) {
    const auto* found = at(name);
    good = found != nullptr && found->is_boolean();
    return good && found->get<bool>();
  }
  Severity severity(const char* name) {
    const auto read = severity_of(text(name));
    good = good && read.has_value();
    return read ? *read : Severity::critical;
  }
  /// Pairs of texts.
  std::vector<std::pair<std::string, std::string>> pairs(const char* name) {
    std::vector<std::pair<std::string, std::string>> all;
    const auto* found = at(name);
    good = found != nullptr && found->is_array();
    if (!good) return all;
    for (const auto& pair : *found) {
      good = good && pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string();
      if (good) all.emplace_back(pair[0].get<std::string>(), pair[1].get<std::string>());
    }
    return all;
  }

  Json json;
  bool good;
};

tl::unexpected<Error> broken(const char* what) {
  return fail(Error::Kind::bad_input, std::string(what) + " in the outbox cannot be read");
}

}  // namespace

std::string text_of(const Opening& opening) {
  Json attachments = Json::array();
  for (const auto& one : opening.attachments) attachments.push_back({one.url, one.caption});
  return dumped({{"dedup_key", opening.dedup_key},
                 {"title", opening.title},
                 {"severity", name_of(opening.severity)},
                 {"room_prefix", opening.room_prefix},
                 {"drill", opening.drill},
                 {"labels", labels_of(opening.labels)},
                 {"attachments", attachments},
                 {"at", ms_of(opening.at)},
                 {"summary", opening.summary}});
}

Result<Opening> opening_of(std::string_view text) {
  Members members(text);
  Opening opening;
  opening.dedup_key = members.text("dedup_key");
  opening.title = members.text("title");
  opening.severity = members.severity("severity");
  opening.room_prefix = members.text("room_prefix");
  opening.drill = members.flag("drill");
  for (auto& [key, value] : members.pairs("labels")) opening.labels.push_back({key, value});
  for (auto& [url, caption] : members.pairs("attachments")) opening.attachments.push_back({url, caption});
  opening.at = members.time("at");
  opening.summary = members.text("summary");
  if (!members.good) return broken("an incident");
  return opening;
}

std::string text_of(const Subject& subject) {
  return dumped({{"dedup_key", subject.dedup_key},
                 {"kind", subject.kind},
                 {"title", subject.title},
                 {"severity", name_of(subject.severity)},
                 {"labels", labels_of(subject.labels)},
                 {"at", ms_of(subject.at)},
                 {"facts", subject.facts}});
}

Result<Subject> subject_of(std::string_view text) {
  Members members(text);
  Subject subject;
  subject.dedup_key = members.text("dedup_key");
  subject.kind = members.text("kind");
  subject.title = members.text("title");
  subject.severity = members.severity("severity");
  for (auto& [key, value] : members.pairs("labels")) subject.labels.push_back({key, value});
  subject.at = members.time("at");
  if (const auto* facts = members.at("facts")) subject.facts = *facts;
  if (!members.good) return broken("what an incident is about");
  return subject;
}

std::string text_of(const Note& note) {
  return dumped({{"key", note.key},
                 {"at", ms_of(note.at)},
                 {"body", note.body},
                 {"author", note.author},
                 {"kind", note.kind}});
}

Result<Note> note_of(std::string_view text) {
  Members members(text);
  Note note;
  note.key = members.text("key");
  note.at = members.time("at");
  note.body = members.text("body");
  note.author = members.text("author");
  note.kind = members.text("kind");
  if (!members.good) return broken("a note");
  return note;
}

}  // namespace tunnelctl::incident
