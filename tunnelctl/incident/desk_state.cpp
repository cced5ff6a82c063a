#include <limits>

#include "tunnelctl/incident/desk.h"

/// What the desk knows, as records of a file.
namespace tunnelctl::incident {
namespace {

std::int64_t ms_of(Time time) {
  return time.time_since_epoch().count();
}
Time time_of(std::int64_t ms) {
  return Time(std::chrono::milliseconds(ms));
}

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Reads members; `good` turns false with the first one that is not what it should be.
struct Reader {
  const Json& json;
  bool good = true;

  const Json* member(const char* name, Json::value_t type) {
    const auto found = json.find(name);
    const bool fits =
        found != json.end() &&
        (found->type() == type || (type == Json::value_t::number_integer && found->is_number_integer()));
    good = good && fits;
    return fits ? &*found : nullptr;
  }
  std::string text(const char* name) {
    const auto* found = member(name, Json::value_t::string);
    return found != nullptr ? found->get<std::string>() : std::string();
  }
  std::int64_t number(const char* name) {
    const auto* found = member(name, Json::value_t::number_integer);
    return found != nullptr ? found->get<std::int64_t>() : 0;
  }
  bool flag(const char* name) {
    const auto* found = member(name, Json::value_t::boolean);
    return found != nullptr && found->get<bool>();
  }
};

}  // namespace

Json Desk::to_json(const Case& one) {
  Json members = Json::object(), openings = Json::array(), labels = Json::array();
  for (const auto& [member, since] : one.members) members[member] = ms_of(since);
  for (const auto opening : one.openings) openings.push_back(ms_of(opening));
  for (const auto& label : one.labels) labels.push_back({label.key, label.value});
  return {{"key", one.key},
          {"kind", one.kind},
          {"phase", static_cast<int>(one.phase)},
          {"episode", one.episode},
          {"members", members},
          {"pending", one.pending ? ms_of(*one.pending) : std::int64_t{-1}},
          {"began", ms_of(one.began)},
          {"well", ms_of(one.well)},
          {"resolved", ms_of(one.resolved)},
          {"openings", openings},
          {"flapping", one.flapping},
          {"joined", one.joined},
          {"times", one.times},
          {"title", one.title},
          {"summary", one.summary},
          {"recovery", one.recovery},
          {"severity", name_of(one.severity)},
          {"labels", labels},
          {"facts", one.facts},
          {"refused", one.refused},
          {"longest_ms", one.longest_ms}};
}

Result<Desk::Case> Desk::case_of(const Json& json) {
  const auto broken = [] {
    return fail(Error::Kind::bad_input, "a problem that was kept there cannot be read");
  };
  if (!json.is_object()) return broken();
  Reader reader{json};
  Case one;
  one.key = reader.text("key");
  one.kind = reader.text("kind");
  const auto phase = reader.number("phase");
  one.episode = reader.number("episode");
  if (const auto pending = reader.number("pending"); pending >= 0) one.pending = time_of(pending);
  one.began = time_of(reader.number("began"));
  one.well = time_of(reader.number("well"));
  one.resolved = time_of(reader.number("resolved"));
  one.flapping = reader.flag("flapping");
  one.joined = static_cast<std::uint64_t>(reader.number("joined"));
  one.times = static_cast<std::uint64_t>(reader.number("times"));
  one.title = reader.text("title");
  one.summary = reader.text("summary");
  one.recovery = reader.text("recovery");
  one.refused = static_cast<std::uint64_t>(reader.number("refused"));
  one.longest_ms = reader.number("longest_ms");
  const auto severity = severity_of(reader.text("severity"));
  const auto* members = reader.member("members", Json::value_t::object);
  const auto* openings = reader.member("openings", Json::value_t::array);
  const auto* labels = reader.member("labels", Json::value_t::array);
  const auto* facts = reader.member("facts", Json::value_t::object);
  if (!reader.good || !severity || phase < 0 || phase > static_cast<int>(Phase::resolved)) return broken();
  one.phase = static_cast<Phase>(phase);
  one.severity = *severity;
  one.facts = *facts;
  for (const auto& [member, since] : members->items()) {
    if (!since.is_number_integer()) return broken();
    one.members[member] = time_of(since.get<std::int64_t>());
  }
  for (const auto& opening : *openings) {
    if (!opening.is_number_integer()) return broken();
    one.openings.push_back(time_of(opening.get<std::int64_t>()));
  }
  for (const auto& label : *labels) {
    if (!label.is_array() || label.size() != 2 || !label[0].is_string() || !label[1].is_string())
      return broken();
    one.labels.push_back({label[0].get<std::string>(), label[1].get<std::string>()});
  }
  return one;
}

std::map<std::string, std::optional<std::string>> Desk::take_changes() {
  std::map<std::string, std::optional<std::string>> out;
  for (const auto& [name, yes] : std::exchange(changed_, {})) {
    auto& record = out[name];
    if (name == "daemon") {
      record = dumped({{"episode", last_episode_},
                       {"notes", notes_},
                       {"lifecycle", static_cast<int>(lifecycle_)},
                       {"stop_reason", stop_reason_},
                       {"instance", instance_}});
    } else if (name.starts_with("case/")) {
      if (const auto found = cases_.find(name.substr(5)); found != cases_.end())
        record = dumped(to_json(found->second));
    } else if (name.starts_with("agent/")) {
      if (const auto found = agents_.find(name.substr(6)); found != agents_.end())
        record = dumped(Json(found->second));
    }
  }
  return out;
}

Result<Desk> Desk::restore(DeskOptions options, const std::map<std::string, std::string>& records) {
  Desk desk(std::move(options));
  for (const auto& [name, text] : records) {
    const Json json = Json::parse(text, nullptr, false);
    if (name == "daemon") {
      if (!json.is_object()) return fail(Error::Kind::bad_input, "the record \"daemon\" cannot be read");
      Reader reader{json};
      desk.last_episode_ = reader.number("episode");
      desk.notes_ = static_cast<std::uint64_t>(reader.number("notes"));
      const auto lifecycle = reader.number("lifecycle");
      desk.stop_reason_ = reader.text("stop_reason");
      desk.instance_ = reader.text("instance");
      if (!reader.good || lifecycle < 0 || lifecycle > static_cast<int>(Lifecycle::stopped))
        return fail(Error::Kind::bad_input, "the record \"daemon\" cannot be read");
      desk.lifecycle_ = static_cast<Lifecycle>(lifecycle);
    } else if (name.starts_with("case/")) {
      auto one = case_of(json);
      if (!one) return fail(one.error().kind, name + ": " + one.error().message);
      desk.cases_.emplace(one->key, std::move(*one));
    } else if (name.starts_with("agent/") && json.is_string()) {
      desk.agents_[name.substr(6)] = json.get<std::string>();
    }
  }
  if (const auto found = desk.cases_.find(desk.key("daemon"));
      found != desk.cases_.end() && found->second.pending) {
    Case& one = found->second;
    desk.changed(one);
    one.pending.reset();
    one.members.clear();
    if (one.phase == Phase::fresh) desk.cases_.erase(found);
  }
  return desk;
}

}  // namespace tunnelctl::incident
