#include "tunnelctl/incident/desk.h"

#include <algorithm>

#include "tunnelctl/incident/desk_text.h"
#include "tunnelctl/incident/markdown.h"
#include "tunnelctl/incident/remote.h"

namespace tunnelctl::incident {
namespace {

using std::chrono::milliseconds;

/// Of one case. More are counted, but their ends are not waited for.
constexpr std::size_t kMostMembers = 500;
/// The end of a crash is told by an event, which comes a moment after the daemon answers again.
constexpr milliseconds kDaemonSettles{2'000};
constexpr std::size_t kLongestKey = 200;  // PagerDuty takes 255

/// Which of the members that join are worth a note: the first few, then each time they doubled.
bool worth_a_note(std::uint64_t joined) {
  constexpr std::uint64_t kEach = 5;
  return joined <= kEach || (joined >= 2 * kEach && (joined & (joined - 1)) == 0);
}

}  // namespace

std::string_view name_of(Intent::Kind kind) {
  switch (kind) {
    case Intent::Kind::open: return "open";
    case Intent::Kind::note: return "note";
    case Intent::Kind::reopen: return "reopen";
    case Intent::Kind::resolve: return "resolve";
  }
  return "note";
}

std::string Desk::key(std::string_view rest) const {
  return short_key("tunneld/" + options_.source + "/" + std::string(rest), kLongestKey);
}

milliseconds Desk::grace(std::string_view kind) const {
  if (kind == "agent") return options_.agent_grace;
  if (kind == "overload") return options_.overload_grace;
  if (kind == "daemon") return options_.daemon_grace;
  return milliseconds(0);
}

milliseconds Desk::wait_of(const Case& one) const {
  const auto quiet = one.kind == "daemon" ? std::max(options_.quiet, kDaemonSettles) : options_.quiet;
  return one.flapping ? std::max(quiet, options_.flap_window) : quiet;
}

std::string Desk::note_key(Time at) {
  daemon_changed();
  // The time too: the numbers begin anew when the file they are kept in was lost.
  return std::to_string(at.time_since_epoch().count()) + "-" + std::to_string(++notes_);
}

void Desk::note(Case& one, std::string body, Time at, Intents& out) {
  Intent intent{.kind = Intent::Kind::note, .episode = one.episode, .at = at};
  intent.note.key = note_key(at);
  intent.note.at = at;
  intent.note.body = std::move(body);
  out.push_back(std::move(intent));
}

void Desk::bad(const Trouble& trouble, Intents& out) {
  auto found = cases_.find(trouble.key);
  if (found == cases_.end()) {
    if (cases_.size() >= options_.max_cases) {
      ++untold_;
      return;
    }
    found = cases_.try_emplace(trouble.key).first;
    found->second.key = trouble.key;
    found->second.kind = trouble.kind;
  }
  Case& one = found->second;
  if (one.members.contains(trouble.member)) return;
  const bool first = one.members.empty();
  if (one.members.size() < kMostMembers) one.members[trouble.member] = trouble.at;
  ++one.joined;
  changed(one);
  if (one.phase == Phase::open) {
    if (!trouble.joins.empty() && worth_a_note(one.joined))
      note(one, trouble.joins + (one.joined > 2 ? " That makes " + std::to_string(one.joined) + "." : ""),
           trouble.at, out);
    return;
  }
  if (one.phase == Phase::well) {
    one.phase = Phase::open;
    if (!one.flapping) note(one, "Again: " + trouble.summary, trouble.at, out);
    count_opening(one, trouble.at, out);
    return;
  }
  if (!first) return;  // it waits for its grace already
  one.title = trouble.title;
  one.summary = trouble.summary;
  one.severity = trouble.severity;
  one.labels = trouble.labels;
  one.facts = trouble.facts;
  one.pending = trouble.at;
  if (grace(one.kind) <= milliseconds(0)) open(one, trouble.at, out);
}

Subject Desk::subject_of(const Case& one) {
  return {.dedup_key = one.key,
          .kind = one.kind,
          .title = one.title,
          .severity = one.severity,
          .labels = one.labels,
          .at = one.began,
          .facts = one.facts};
}

void Desk::open(Case& one, Time at, Intents& out) {
  changed(one);
  one.pending.reset();
  const bool again =
      one.phase == Phase::resolved && options_.reopens && at - one.resolved <= options_.flap_window;
  one.phase = Phase::open;
  if (again) {
    out.push_back({.kind = Intent::Kind::reopen, .episode = one.episode, .at = at});
    note(one, "Again: " + one.summary, at, out);
    count_opening(one, at, out);
    return;
  }
  daemon_changed();
  one.episode = ++last_episode_;
  one.joined = one.members.size();
  one.times = 0;
  one.began = at;
  one.refused = 0;
  one.longest_ms = 0;
  one.flapping = false;
  Intent intent{.kind = Intent::Kind::open, .episode = one.episode, .at = at};
  intent.subject = subject_of(one);
  intent.opening = {.dedup_key = one.key,
                    .title = one.title,
                    .severity = one.severity,
                    .room_prefix = options_.room_prefix,
                    .drill = options_.drill,
                    .labels = one.labels,
                    .at = at,
                    .summary = one.summary};
  intent.opening.labels.insert(intent.opening.labels.end(), options_.labels.begin(), options_.labels.end());
  out.push_back(std::move(intent));
  count_opening(one, at, out);
}

void Desk::count_opening(Case& one, Time at, Intents& out) {
  ++one.times;
  std::erase_if(one.openings, [&](Time opening) { return at - opening > options_.flap_window; });
  one.openings.push_back(at);
  if (one.flapping || one.openings.size() <= flaps_allowed()) return;
  one.flapping = true;
  const auto window = times::duration_text(options_.flap_window);
  note(one,
       "Flapping: opened " + std::to_string(one.openings.size()) + " times within " + window +
           ". It is resolved once it has been well for " + window +
           "; until then nothing is said of each time.",
       at, out);
}

void Desk::good(const std::string& key, const std::string& member, const std::string& recovery, Time at,
                Intents& out) {
  const auto found = cases_.find(key);
  if (found == cases_.end()) return;
  Case& one = found->second;
  if (one.members.erase(member) == 0) return;
  changed(one);
  if (!one.members.empty()) return;
  if (one.pending) {
    one.pending.reset();
    if (one.phase == Phase::fresh) cases_.erase(found);
    return;
  }
  if (one.phase != Phase::open) return;
  one.phase = Phase::well;
  one.well = at;
  one.recovery = recovery;
  resolve_if_due(one, at, out);
}

bool Desk::resolve_if_due(Case& one, Time now, Intents& out) {
  if (one.phase != Phase::well || now - one.well < wait_of(one)) return false;
  changed(one);
  one.phase = Phase::resolved;
  one.resolved = now;
  Intent intent{.kind = Intent::Kind::resolve, .episode = one.episode, .at = now};
  intent.note.key = note_key(now);
  intent.note.at = now;
  intent.note.kind = "resolved";
  Json facts = Json::object();
  if (one.longest_ms > 0) facts["openForMs"] = one.longest_ms;
  if (one.refused > 0) facts["refusedRequests"] = one.refused;
  facts["times"] = one.times;
  intent.note.body = recovery_note(subject_of(one), one.well, facts) + "\n" + one.recovery;
  if (one.flapping) {
    intent.note.body += " It flapped, and has been well since " + markdown::clock(one.well) + " UTC.";
    one.flapping = false;
    one.openings.clear();
  }
  out.push_back(std::move(intent));
  return true;
}

Desk::Intents Desk::due(Time now, bool all) {
  Intents out;
  for (auto at = cases_.begin(); at != cases_.end();) {
    Case& one = at->second;
    // Of these no event of the daemon tells.
    if (!all && one.kind != "alert" && one.kind != "daemon") {
      ++at;
      continue;
    }
    if (one.pending && now - *one.pending >= grace(one.kind)) open(one, *one.pending, out);
    resolve_if_due(one, now, out);
    const bool over =
        one.phase == Phase::resolved && !one.pending && now - one.resolved > options_.flap_window;
    if (over) changed(one);
    at = over ? cases_.erase(at) : std::next(at);
  }
  return out;
}

Desk::Intents Desk::history(const std::vector<daemon::Event>& events, Time now) {
  const auto known = last_episode_;
  Intents all;
  const auto add = [&all](Intents some) {
    all.insert(all.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  };
  for (const auto& one : events) add(event(one, now));
  add(due(now, true));
  std::map<std::int64_t, bool> lasting;
  for (auto at = cases_.begin(); at != cases_.end();) {
    Case& one = at->second;
    const bool of_history = one.phase != Phase::fresh && one.episode > known;
    if (of_history && one.phase == Phase::open) lasting[one.episode] = true;
    const bool over = of_history && one.phase != Phase::open;
    if (over && one.pending) one.phase = Phase::fresh;  // after one that nobody was told of
    if (of_history) changed(one);
    at = over && !one.pending ? cases_.erase(at) : std::next(at);
  }
  // What came and went meanwhile stands there as one that was open all the time; and what is told of already
  // hears nothing of the past but how it is now.
  std::erase_if(all, [&](const Intent& intent) {
    if (intent.episode <= known) return intent.kind == Intent::Kind::note;
    return !lasting.contains(intent.episode) ||
           (intent.kind != Intent::Kind::open && intent.kind != Intent::Kind::note);
  });
  return all;
}

Desk::Counts Desk::counts() const {
  Counts counts;
  for (const auto& [key, one] : cases_) {
    counts.open += one.phase == Phase::open ? 1 : 0;
    counts.settling += one.phase == Phase::well ? 1 : 0;
    counts.pending += one.pending ? 1 : 0;
    counts.flapping += one.flapping ? 1 : 0;
  }
  return counts;
}

bool Desk::any_open(std::string_view kind) const {
  return std::any_of(cases_.begin(), cases_.end(), [&](const auto& entry) {
    return entry.second.kind == kind && entry.second.phase == Phase::open;
  });
}

}  // namespace tunnelctl::incident
