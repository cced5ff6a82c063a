#include "tunnelctl/incident/watch.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "common/http_access.h"
#include "common/log.h"
#include "tunnelctl/daemon/event_stream.h"

namespace tunnelctl::incident {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kComponent = "incident";
constexpr milliseconds kTurn{250};
/// After a refusal that only a person can end, and after a state that could not be written.
constexpr milliseconds kRefused{10'000}, kUnwritten{1'000};
constexpr std::size_t kPage = 500;

/// A wait that a stop ends, and whoever knows that it is of no use any more, also shortly before it.
class Pause {
 public:
  /// False after a stop.
  bool wait(milliseconds longest, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, longest, [this] { return woken_; });
    woken_ = false;
    return !stop.stop_requested();
  }
  void wake() {
    const std::lock_guard lock(mutex_);
    woken_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool woken_ = false;
};

/// Reads tunneld's events into the core.
class Follower {
 public:
  Follower(WatchCore& core, const WatchParts& parts) : core_(core), parts_(parts) {}

  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const auto pause = follow(stop);
      if (!pause_.wait(pause, stop)) return;
    }
  }
  /// tunneld is there again.
  void hurry() { pause_.wake(); }
  /// The connection was lost and is not asked for anew yet.
  bool broken() const { return broken_; }
  /// Why tunneld does not tell its events to anybody like this; "" while it does, or may.
  std::string refused() const {
    const std::lock_guard lock(mutex_);
    return refused_;
  }

 private:
  /// Returns how long to wait before the next try.
  milliseconds follow(const std::stop_token& stop) {
    const auto admin = parts_.admin(stop);
    if (!admin) return lost(admin.error());
    if (!core_.cursor()) {
      if (auto read = history(*admin); !read) return lost(read.error());
    }
    if (core_.wants_survey()) {
      if (auto looked = survey(*admin); !looked) return lost(looked.error());
    }
    bool missing = false, anew = false, unwritten = false;
    daemon::Follow how;
    how.after = core_.cursor().value_or(0);
    how.begin = [&]() -> Result<bool> {
      const auto place = core_.cursor().value_or(0);
      const auto page = admin->events(place > 0 ? place - 1 : 0, 1);
      if (!page) return tl::unexpected(page.error());
      if (replaced(*page, place)) {
        unwritten = !core_.anew();
        return false;
      }
      core_.reads(page->last);
      core_.following(true, "");
      const std::lock_guard lock(mutex_);
      refused_.clear();
      return true;
    };
    how.take = [&](const daemon::Event& event) {
      stands();
      // Another log is read as one of which nothing is known, and missing events are made up for first.
      const auto done = anew ? core_.anew() : core_.event(event, missing);
      unwritten = !done;
      return done && !anew && !missing;
    };
    how.gap = [&](std::uint64_t first, std::uint64_t came) {
      missing = true;
      logging::warn(kComponent, "events of tunneld are gone: it keeps no older ones",
                    {{"first", first}, {"came", came}});
    };
    how.anew = [&] { anew = true; };
    how.lost = [&](const Error& why, milliseconds) {
      broken_ = true;
      core_.following(false, "");
      core_.blind(why.message);
      say(why.message);
    };
    how.wait = [&](milliseconds pause) {
      const bool goes_on = pause_.wait(pause, stop);
      broken_ = false;
      return goes_on;
    };
    broken_ = false;
    const auto done = daemon::follow(*admin, how);
    if (unwritten) return kUnwritten;
    return done ? milliseconds(0) : lost(done.error());
  }

  /// Everything that tunneld still knows, for the first time.
  Result<void> history(const daemon::Admin& admin) {
    std::vector<daemon::Event> events;
    std::uint64_t after = 0, last = 0;
    for (;;) {
      auto page = admin.events(after, kPage);
      if (!page) return tl::unexpected(page.error());
      last = std::max(last, page->last);
      for (auto& event : page->events) {
        after = std::max(after, event.id);
        events.push_back(std::move(event));
      }
      if (page->events.empty() || after >= page->last) break;
    }
    return core_.history(events, std::max(after, last));
  }

  /// Whether the log is another one than that in which the newest event was taken at that place.
  bool replaced(const daemon::EventPage& page, std::uint64_t place) const {
    if (page.last < place) return true;
    if (place == 0 || page.events.empty() || page.events.front().id != place) return false;
    const auto time = core_.cursor_time();
    return !time.empty() && page.events.front().time != time;
  }

  Result<void> survey(const daemon::Admin& admin) {
    auto breakers = admin.breakers();
    if (!breakers) return tl::unexpected(breakers.error());
    auto agents = admin.agents();
    if (!agents) return tl::unexpected(agents.error());
    return core_.survey({.breakers = std::move(*breakers), .agents = std::move(*agents)});
  }

  void stands() {
    const std::lock_guard lock(mutex_);
    said_.clear();
  }
  /// Once a cause.
  void say(const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (said_ != why)
      logging::warn(kComponent, "tunneld does not tell its events", {{"why", http::one_line(why)}});
    said_ = why;
  }
  milliseconds lost(const Error& why) {
    const bool denied = why.kind == Error::Kind::denied || why.kind == Error::Kind::bad_input ||
                        why.kind == Error::Kind::not_found;
    if (why.kind == Error::Kind::cancelled) return milliseconds(0);
    broken_ = true;
    core_.following(false, denied ? why.message : std::string());
    core_.blind(why.message);
    say(why.message);
    const std::lock_guard lock(mutex_);
    refused_ = denied ? why.message : std::string();
    return denied ? kRefused : kUnwritten;
  }

  WatchCore& core_;
  const WatchParts& parts_;
  Pause pause_;
  std::atomic<bool> broken_ = true;
  mutable std::mutex mutex_;
  std::string refused_{}, said_{};
};

/// Looks whether tunneld is there, and at its breakers.
void probe(WatchCore& core, const WatchOptions& options, const WatchParts& parts, Follower& follower,
           const std::stop_token& stop) {
  Pause pause;
  auto listed = Clock::now();
  bool was_there = true, was_well = true;
  auto there_since = Clock::now();
  do {
    const auto admin = parts.admin(stop);
    bool there = false;
    std::string why;
    if (!admin) {
      why = admin.error().message;
    } else if (const auto ready = admin->readiness(); !ready) {
      why = ready.error().message;
    } else if (!ready->ready) {
      why = "it says that it is not ready: " + ready->reason;
    } else {
      there = true;
      if (!was_there) there_since = Clock::now();
      why = follower.refused();
      if (why.empty()) why = core.unreadable(there_since);
      if (!why.empty()) core.following(false, why);
    }
    if (stop.stop_requested()) return;
    (void)core.daemon(why.empty(), why);
    // Its first words after an outage are wanted soon, not after the follower's long pause.
    if ((there && !was_there) || (why.empty() && !was_well)) follower.hurry();
    if (why.empty() && !follower.broken()) core.following(true, "");
    was_there = there;
    was_well = why.empty();
    if (!was_well || Clock::now() - listed < options.list_breakers_every || !core.any_open("breaker"))
      continue;
    listed = Clock::now();
    const auto as_of = parts.now();
    const auto breakers = admin->breakers();
    if (!breakers) continue;
    std::vector<std::string> open;
    for (const auto& one : *breakers)
      if (one.state != "closed") open.push_back(one.id);
    (void)core.breakers(open, as_of);
  } while (pause.wait(options.probe_every, stop));
}

void deliver_all(WatchCore& core, const WatchParts& parts, const std::stop_token& stop) {
  auto& backend = *parts.backend;
  while (!stop.stop_requested())
    if (const auto parcel = core.next(stop))
      core.delivered(*parcel, deliver(backend, *parcel, parts.now()), stop);
}

void explain_all(WatchCore& core, const WatchOptions& options, const WatchParts& parts,
                 const std::stop_token& stop) {
  Pause pause;
  // What was found out is kept until it is written down: finding it out asks many.
  const auto written = [&](const Outbox::Unexplained& incident, const std::optional<Note>& note) {
    std::string said;
    while (!stop.stop_requested()) {
      const auto done = core.explain(incident, note);
      if (done) return;
      if (said != done.error().message)
        logging::warn(kComponent, "the context cannot be written down, and is tried again",
                      {{"incident", incident.episode}, {"why", done.error().message}});
      said = done.error().message;
      pause.wait(kUnwritten, stop);
    }
  };
  while (!stop.stop_requested()) {
    const auto incident = core.unexplained(options.look_again_after, stop);
    if (!incident) continue;
    const bool late = parts.now() - incident->made > options.explain_within;
    if (late && parts.enrich && !incident->again)
      logging::info(kComponent, "not explained: it was opened too long ago",
                    {{"incident", incident->episode}, {"title", incident->subject.title}});
    if (late || !parts.enrich) {
      written(*incident, std::nullopt);
      continue;
    }
    const auto context = parts.enrich(incident->subject, incident->again, stop);
    if (stop.stop_requested()) return;  // it may be cut short; the next start asks again
    for (const auto& problem : context.problems)
      logging::warn(kComponent, "not found out for the context",
                    {{"incident", incident->episode}, {"what", http::one_line(problem)}});
    Note note;
    // Of one episode: a service may know the key of the incident before.
    note.key = "context-" + std::to_string(incident->subject.at.time_since_epoch().count()) +
               (incident->again ? "-again" : "");
    note.at = parts.now();
    note.body = context.markdown;
    written(*incident, note);
  }
}

}  // namespace

Result<void> watch(WatchCore& core, const WatchOptions& options, const WatchParts& parts,
                   std::stop_token stop) {
  std::unique_ptr<Receiver> receiver;
  if (options.receiver) {
    Receiver::Parts doors;
    doors.take = [&core](const AlertGroup& group) { return core.alerts(group); };
    doors.refused = [&core](std::string_view origin, std::string_view why) { core.refused(origin, why); };
    doors.metrics = [&core] { return core.metrics(); };
    doors.healthy = [&core] { return core.healthy(); };
    doors.ready = [&core] { return core.ready(); };
    doors.now = parts.now;
    auto started = Receiver::start(*options.receiver, std::move(doors));
    if (!started) return tl::unexpected(started.error());
    receiver = std::move(*started);
  }
  if (options.follow)
    core.blind("none was read yet");
  else
    core.following(false, "");
  Follower follower(core, parts);
  // They end before what they use, also when one could not be started.
  std::vector<std::jthread> threads;
  const auto begin = [&](std::function<void()> work) { threads.emplace_back(std::move(work)); };
  begin([&] { deliver_all(core, parts, stop); });
  begin([&] { explain_all(core, options, parts, stop); });
  if (options.follow) {
    begin([&] { follower.run(stop); });
    begin([&] { probe(core, options, parts, follower, stop); });
  }
  if (parts.started) parts.started(receiver ? receiver->port() : static_cast<unsigned short>(0));
  if (parts.manager != nullptr) parts.manager->ready("watching");
  Pause turn;
  auto pinged = Clock::now();
  do {
    core.tick();
    if (parts.manager == nullptr || !parts.manager->watchdog()) continue;
    // A loop that hangs on the file is not well, and says so by its silence.
    if (Clock::now() - pinged >= *parts.manager->watchdog() / 4) {
      pinged = Clock::now();
      parts.manager->ping_watchdog();
    }
  } while (turn.wait(kTurn, stop));
  if (parts.manager != nullptr) parts.manager->stopping("stopping");
  receiver.reset();
  for (auto& thread : threads) thread.join();
  return {};
}

}  // namespace tunnelctl::incident
