#include <algorithm>
#include <utility>

#include "common/json_text.h"
#include "tunnelctl/incident/desk.h"
#include "tunnelctl/incident/desk_text.h"
#include "tunnelctl/incident/markdown.h"

/// What tunneld's events say, as troubles and their ends. docs/events.md lists the kinds; unknown ones are
/// passed over.
namespace tunnelctl::incident {
namespace {

using std::chrono::milliseconds;

/// The list of breakers is asked for beside the stream of events: one that opened so shortly before may be
/// missing in it.
constexpr milliseconds kListIsBehind{30'000};
/// Open cases that are told of changed settings.
constexpr std::size_t kMostTold = 20;

std::string text_of(const daemon::Json& data, const char* name) {
  if (!data.is_object()) return {};
  const auto found = data.find(name);
  return found != data.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::int64_t number_of(const daemon::Json& data, const char* name) {
  if (!data.is_object()) return 0;
  const auto found = data.find(name);
  if (found == data.end() || !found->is_number()) return 0;
  constexpr double kLargest = 9e15;
  return static_cast<std::int64_t>(std::clamp(found->get<double>(), 0.0, kLargest));
}

std::string last_of(const daemon::Json& data, const char* name) {
  if (!data.is_object()) return {};
  const auto found = data.find(name);
  if (found == data.end() || !found->is_array() || found->empty() || !found->back().is_string()) return {};
  return found->back().get<std::string>();
}

/// The same members in any order of their names.
Json unordered(const daemon::Json& data) {
  return data.is_object() ? Json(data) : Json::object();
}

std::string because(std::string_view why) {
  return why.empty() ? "." : ": " + code(why, 300) + ".";
}

}  // namespace

Desk::Intents Desk::event(const daemon::Event& event, Time now) {
  // As long ago as it happened: who reads an hour's events at once decides as if it had been there.
  const auto said = times::moment(event.time, now);
  const Time at = said && *said < now ? *said : now;
  Intents out = due(at, true);
  if (instance_.empty() || event.kind == "started") {
    const auto whole = parse_json<daemon::Json>(event.line);
    const auto instance = plain(whole.is_object() ? text_of(whole, "instanceId") : "", 100);
    if (instance != instance_) daemon_changed();
    instance_ = instance;
  }
  const auto& kind = event.kind;
  if (kind == "breaker.opened" || kind == "breaker.closed") {
    breaker(event, at, out);
  } else if (kind == "upstream.lost" || kind == "upstream.back") {
    upstream(event, at, out);
  } else if (kind == "agent.lost" || kind == "agent.connected") {
    agent(event, at, out);
  } else if (kind == "overload") {
    overload(event, at, out);
  } else if (kind == "audit.failing" || kind == "audit.recovered") {
    audit(event, at, out);
  } else if (kind == "started") {
    started(event, at, out);
  } else if (kind == "stopped") {
    lifecycle_ = Lifecycle::stopped;
    stop_reason_ = plain(text_of(event.data, "reason"));
    daemon_changed();
  } else if (kind == "config.changed") {
    configured(event, at, out);
  }
  return out;
}

void Desk::breaker(const daemon::Event& event, Time at, Intents& out) {
  const auto& data = event.data;
  const auto upstream = text_of(data, "upstream"), service = text_of(data, "service"),
             principal = text_of(data, "principal"), id = text_of(data, "breaker");
  if (id.empty() || service.empty()) return;
  const auto where = code(service, 80) + (upstream.empty() ? "" : " (upstream " + code(upstream, 80) + ")");
  const auto key_here = key("breaker/" + plain(upstream) + "/" + plain(service));
  if (event.kind == "breaker.closed") {
    if (const auto found = cases_.find(key_here); found != cases_.end()) {
      found->second.refused += static_cast<std::uint64_t>(number_of(data, "refusedRequests"));
      found->second.longest_ms = std::max(found->second.longest_ms, number_of(data, "openForMs"));
      changed(found->second);
    }
    good(key_here, id, "Calls of " + where + " pass again.", at, out);
    return;
  }
  const auto failures = std::to_string(number_of(data, "failures")) + " failures in a row";
  const auto last = last_of(data, "lastErrors");
  const auto cause = failures + (last.empty() ? "." : ", the last: " + code(last, 300) + ".");
  Trouble trouble{.key = key_here, .kind = "breaker", .member = id};
  trouble.title = "Circuit breaker open: " + plain(service, 80) +
                  (upstream.empty() ? "" : " via " + plain(upstream, 80)) + " (" + options_.source + ")";
  trouble.summary =
      "Calls of principal " + code(principal, 80) + " to service " + where + " are refused: " + cause;
  trouble.joins = "Principal " + code(principal, 80) + " is refused too: " + cause;
  trouble.labels = {{"source", options_.source},
                    {"upstream", plain(upstream)},
                    {"service", plain(service)},
                    {"principal", plain(principal)}};
  if (!instance_.empty()) trouble.labels.push_back({"instance", instance_});
  trouble.facts = unordered(data);
  trouble.at = at;
  bad(trouble, out);
}

void Desk::upstream(const daemon::Event& event, Time at, Intents& out) {
  const auto name = text_of(event.data, "upstream");
  if (name.empty()) return;
  const auto key_here = key("upstream/" + plain(name));
  if (event.kind == "upstream.back") {
    if (const auto found = cases_.find(key_here); found != cases_.end()) {
      found->second.longest_ms = std::max(found->second.longest_ms, number_of(event.data, "awayMs"));
      changed(found->second);
    }
    good(key_here, name, "Upstream " + code(name, 80) + " can be reached again.", at, out);
    return;
  }
  Trouble trouble{.key = key_here, .kind = "upstream", .member = name};
  trouble.title = "Upstream lost: " + plain(name, 80) + " (" + options_.source + ")";
  trouble.summary = "Upstream " + code(name, 80) + " cannot be reached" + because(text_of(event.data, "why"));
  trouble.labels = {{"source", options_.source}, {"upstream", plain(name)}};
  if (!instance_.empty()) trouble.labels.push_back({"instance", instance_});
  trouble.facts = unordered(event.data);
  trouble.at = at;
  bad(trouble, out);
}

const Desk::Case* Desk::agent_case(const std::string& member) const {
  for (const auto& [key, one] : cases_)
    if (one.kind == "agent" && one.members.contains(member)) return &one;
  return nullptr;
}

void Desk::agent(const daemon::Event& event, Time at, Intents& out) {
  const auto id = plain(text_of(event.data, "agent"), 100);
  const auto principal = plain(text_of(event.data, "principal"), 100);
  if (id.empty()) return;
  const auto member = principal + "/" + id;
  if (event.kind == "agent.connected") {
    if (agents_.size() < kMostAgents) {
      agents_[member] = id;
      changed_["agent/" + member] = true;
    }
    if (const auto* one = agent_case(member))
      good(std::string(one->key), member, "Agent " + code(id) + " is connected again.", at, out);
    return;
  }
  if (agents_.erase(member) > 0) changed_["agent/" + member] = true;
  lose_agent(member, id, text_of(event.data, "why"), unordered(event.data), at, out);
}

void Desk::lose_agent(const std::string& member, const std::string& id, std::string_view why, Json facts,
                      Time at, Intents& out) {
  if (agent_case(member) != nullptr) return;
  // One network that is gone takes many agents with it: they are one incident then.
  const auto many =
      static_cast<std::size_t>(std::count_if(cases_.begin(), cases_.end(), [](const auto& entry) {
        return entry.second.kind == "agent" && !entry.second.members.empty();
      }));
  const bool alone = many < options_.agents_apart;
  Trouble trouble{
      .key = key(alone ? "agent/" + member : std::string("agents")), .kind = "agent", .member = member};
  trouble.title =
      (alone ? "Agent lost: " + id : std::string("Many agents lost")) + " (" + options_.source + ")";
  trouble.summary = "Agent " + code(id) + " is gone, and its services with it" + because(why);
  trouble.joins = "Agent " + code(id) + " is gone too" + because(why);
  trouble.severity = Severity::error;
  trouble.labels = {{"source", options_.source}, {"agent", id}};
  if (!instance_.empty()) trouble.labels.push_back({"instance", instance_});
  trouble.facts = std::move(facts);
  trouble.at = at;
  bad(trouble, out);
}

void Desk::overload(const daemon::Event& event, Time at, Intents& out) {
  const auto what = plain(text_of(event.data, "what"), 40), level = text_of(event.data, "level"),
             principal = plain(text_of(event.data, "principal"), 100);
  if (what.empty()) return;
  const auto member = what + "/" + principal;
  const auto key_here = key("overload/" + what);
  if (level != "pause" && level != "drop_low") {  // the levels below are its end
    good(key_here, member, "The limit is left again.", at, out);
    return;
  }
  const auto whose = principal.empty() ? std::string() : " of principal " + code(principal, 80);
  Trouble trouble{.key = key_here, .kind = "overload", .member = member};
  trouble.title = "Overload: " + what + " (" + options_.source + ")";
  trouble.summary = "The limit of " + code(what) + whose +
                    " comes near: callers are slowed down, and refused at "
                    "the limit.";
  trouble.joins = "So does that" + whose + ".";
  trouble.severity = Severity::warning;
  trouble.labels = {{"source", options_.source}, {"what", what}};
  if (!instance_.empty()) trouble.labels.push_back({"instance", instance_});
  trouble.facts = unordered(event.data);
  trouble.at = at;
  bad(trouble, out);
}

void Desk::audit(const daemon::Event& event, Time at, Intents& out) {
  const auto key_here = key("audit");
  if (event.kind == "audit.recovered") {
    good(key_here, "audit", "Audit lines are written again.", at, out);
    return;
  }
  Trouble trouble{.key = key_here, .kind = "audit", .member = "audit"};
  trouble.title = "Audit log cannot be written (" + options_.source + ")";
  trouble.summary = "The audit log cannot be written" + because(text_of(event.data, "why"));
  trouble.severity = Severity::error;
  trouble.labels = {{"source", options_.source}};
  if (!instance_.empty()) trouble.labels.push_back({"instance", instance_});
  trouble.facts = unordered(event.data);
  trouble.at = at;
  bad(trouble, out);
}

void Desk::started(const daemon::Event& event, Time at, Intents& out) {
  const bool crashed = lifecycle_ == Lifecycle::running;
  const auto version = plain(text_of(event.data, "version"), 40);
  const auto key_here = key("daemon");
  const auto told = [&] {
    const auto found = cases_.find(key_here);
    return found != cases_.end() && (found->second.phase == Phase::open || found->second.phase == Phase::well)
               ? &found->second
               : nullptr;
  };
  if (crashed && told() == nullptr) {
    Trouble trouble{.key = key_here, .kind = "daemon", .member = "crash"};
    trouble.title = "tunneld crashed (" + options_.source + ")";
    trouble.severity = Severity::error;
    trouble.labels = {{"source", options_.source}};
    if (!instance_.empty()) trouble.labels.push_back({"instance", instance_});
    trouble.facts = unordered(event.data);
    trouble.summary = "tunneld ended without stopping in good order: killed, out of memory, or a bug.";
    trouble.at = at;
    bad(trouble, out);
    if (const auto found = cases_.find(key_here); found != cases_.end() && found->second.pending) {
      // Unreachable for a moment, and this is why.
      found->second.title = trouble.title;
      found->second.summary = trouble.summary;
      open(found->second, at, out);
    }
  } else if (auto* one = told(); crashed && one != nullptr) {
    note(*one, "tunneld had ended without stopping in good order: killed, out of memory, or a bug.", at, out);
  }
  if (auto* one = told())
    note(*one,
         "tunneld " + (version.empty() ? "" : version + " ") + "started at " + markdown::clock(at) + " UTC" +
             ".",
         at, out);
  good(key_here, "crash", "tunneld serves again.", at, out);
  lifecycle_ = Lifecycle::running;
  stop_reason_.clear();
  daemon_changed();
  forget_daemon("tunneld started anew and begins well.", at, out);
  // After a crash nobody told of them; those that come back within their grace are none.
  const auto connected = std::exchange(agents_, {});
  for (const auto& [member, id] : connected) {
    changed_["agent/" + member] = true;
    lose_agent(member, id, "it has not come back since tunneld started anew", Json::object(), at, out);
  }
}

void Desk::forget_daemon(const std::string& recovery, Time at, Intents& out) {
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& [key, one] : cases_) {
    const bool of_it =
        one.kind == "breaker" || one.kind == "upstream" || one.kind == "overload" || one.kind == "audit";
    if (!of_it) continue;
    for (const auto& [member, since] : one.members) all.emplace_back(key, member);
  }
  for (const auto& [key, member] : all) good(key, member, recovery, at, out);
}

Desk::Intents Desk::anew(Time now) {
  Intents out = tick(now);
  const std::string recovery =
      "tunneld's log of events began anew: what was told before is not known any more.";
  forget_daemon(recovery, now, out);
  std::vector<std::pair<std::string, std::string>> lost;
  for (const auto& [key, one] : cases_)
    if (one.kind == "agent")
      for (const auto& [member, since] : one.members) lost.emplace_back(key, member);
  for (const auto& [key, member] : lost) good(key, member, recovery, now, out);
  for (const auto& [member, id] : std::exchange(agents_, {})) changed_["agent/" + member] = true;
  lifecycle_ = Lifecycle::unknown;
  daemon_changed();
  return out;
}

void Desk::gap() {
  lifecycle_ = Lifecycle::unknown;
  daemon_changed();
}

void Desk::configured(const daemon::Event& event, Time at, Intents& out) {
  if (!options_.tells_settings) return;
  std::string keys;
  if (const auto found = event.data.is_object() ? event.data.find("keys") : event.data.end();
      found != event.data.end() && found->is_array())
    for (const auto& one : *found)
      if (one.is_string()) keys += (keys.empty() ? "" : ", ") + code(one.get<std::string>(), 80);
  if (keys.empty()) return;
  constexpr std::size_t kLongest = 500;
  if (keys.size() > kLongest) keys = "many";
  const auto by = text_of(event.data, "by");
  std::size_t told = 0;
  for (auto& [name, one] : cases_)
    if (one.phase == Phase::open && one.kind != "alert" && told++ < kMostTold)
      note(one, "Settings of tunneld changed: " + keys + (by.empty() ? "." : " by " + code(by, 80) + "."), at,
           out);
}

Desk::Intents Desk::daemon(bool well, std::string_view why, Time now) {
  Intents out = tick(now);
  const auto key_here = key("daemon");
  if (well) {
    good(key_here, "unreachable", "tunneld answers and is ready again.", now, out);
    return out;
  }
  Trouble trouble{.key = key_here, .kind = "daemon", .member = "unreachable"};
  trouble.title = "tunneld is not ready (" + options_.source + ")";
  trouble.summary = "tunneld cannot be reached, or is not ready" + because(why);
  if (lifecycle_ == Lifecycle::stopped)
    trouble.summary += " It was stopped in good order" + because(stop_reason_);
  trouble.labels = {{"source", options_.source}};
  if (!instance_.empty()) trouble.labels.push_back({"instance", instance_});
  trouble.facts["why"] = plain(why, 500);
  trouble.at = now;
  bad(trouble, out);
  // Without a grace, or with one that is over.
  auto due = tick(now);
  out.insert(out.end(), std::make_move_iterator(due.begin()), std::make_move_iterator(due.end()));
  return out;
}

Desk::Intents Desk::breakers(const std::vector<std::string>& open, Time as_of, Time now) {
  Intents out = tick(now);
  end_breakers(open, as_of - kListIsBehind, now, out);
  return out;
}

void Desk::end_breakers(const std::vector<std::string>& open, Time before, Time now, Intents& out) {
  std::vector<std::pair<std::string, std::string>> gone;
  for (const auto& [key, one] : cases_) {
    if (one.kind != "breaker") continue;
    for (const auto& [member, since] : one.members)
      if (since < before && std::find(open.begin(), open.end(), member) == open.end())
        gone.emplace_back(key, member);
  }
  for (const auto& [key, member] : gone)
    good(key, member, "tunneld holds no open breaker of it any more.", now, out);
}

Desk::Intents Desk::survey(const Survey& found, Time now) {
  Intents out = tick(now);
  std::vector<std::string> open;
  for (const auto& one : found.breakers) {
    if (one.state == "closed") continue;
    open.push_back(one.id);
    daemon::Event opened{.kind = "breaker.opened", .time = one.opened_at};
    opened.data = {{"breaker", one.id},          {"upstream", one.upstream}, {"service", one.service},
                   {"principal", one.principal}, {"failures", one.failures}, {"lastErrors", one.last_errors}};
    const auto since = times::moment(one.opened_at, now);
    breaker(opened, since && *since < now ? *since : now, out);
  }
  end_breakers(open, Time::max(), now, out);
  std::map<std::string, std::string> gone = agents_;
  for (const auto& one : found.agents) {
    daemon::Event connected{.kind = "agent.connected"};
    connected.data = {{"agent", one.id}, {"principal", one.principal}};
    gone.erase(plain(one.principal, 100) + "/" + plain(one.id, 100));
    agent(connected, now, out);
  }
  for (const auto& [member, id] : gone) {
    agents_.erase(member);
    changed_["agent/" + member] = true;
    lose_agent(member, id, "it is not connected any more", Json::object(), now, out);
  }
  // Of these there is no list.
  for (auto& [name, one] : cases_)
    if (one.phase == Phase::open && (one.kind == "upstream" || one.kind == "overload" || one.kind == "audit"))
      note(one, "Events of tunneld are missing, perhaps the one that ends this: look whether it lasts.", now,
           out);
  return out;
}

}  // namespace tunnelctl::incident
