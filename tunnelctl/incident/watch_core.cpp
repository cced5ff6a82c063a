#include "tunnelctl/incident/watch_core.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>

#include "common/http_access.h"
#include "common/log.h"

namespace tunnelctl::incident {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kComponent = "incident";
constexpr const char* kFile = "outbox.db";
constexpr const char* kCursor = "cursor";
constexpr const char* kCursorTime = "cursor_time";
constexpr const char* kGap = "gap";
constexpr const char* kSource = "source";
constexpr const char* kBackend = "backend";
constexpr milliseconds kPruneEvery{3'600'000};
constexpr milliseconds kComplainAfter{5 * 60'000};
constexpr milliseconds kComplainEvery{10 * 60'000};
/// A stream that lasts that long stands.
constexpr milliseconds kStands{3'000};
/// The loop turns several times a second.
constexpr std::chrono::seconds kStuck{30};

Result<int> lock_folder(const std::filesystem::path& folder) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder, error);
  if (error)
    return fail(Error::Kind::denied,
                "--state-dir: " + folder.string() + " cannot be made: " + error.message());
  if (made) std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  const auto path = (folder / "lock").string();
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0)
    return fail(Error::Kind::denied, "--state-dir: " + path + " cannot be opened: " + std::strerror(errno));
  if (::flock(file, LOCK_EX | LOCK_NB) == 0) return file;
  const int why = errno;
  ::close(file);
  if (why != EWOULDBLOCK)
    return fail(Error::Kind::denied, "--state-dir: " + path + " cannot be locked: " + std::strerror(why));
  return fail(Error::Kind::denied, "another tunnelctl incident watch works in " + folder.string() +
                                       "; end it, or name another folder with --state-dir");
}

Result<void> same(const Outbox::Records& records, const char* name, const std::string& now,
                  const std::filesystem::path& folder) {
  const auto found = records.find(name);
  if (found == records.end() || found->second == now) return {};
  return fail(Error::Kind::bad_input, folder.string() + " is kept by a watch of another " + name + " (" +
                                          http::one_line(found->second) + ", not " + http::one_line(now) +
                                          "); name another folder with --state-dir");
}

}  // namespace

Result<std::unique_ptr<WatchCore>> WatchCore::open(Options options) {
  auto lock = lock_folder(options.state_dir);
  if (!lock) return tl::unexpected(lock.error());
  const auto refused = [&](Error why) -> Result<std::unique_ptr<WatchCore>> {
    ::close(*lock);
    return tl::unexpected(std::move(why));
  };
  auto outbox = Outbox::open(options.state_dir / kFile, options.most_waiting);
  if (!outbox) return refused(outbox.error());
  const auto records = outbox->records();
  if (!records) return refused(records.error());
  if (auto right = same(*records, kSource, options.desk.source, options.state_dir); !right)
    return refused(right.error());
  if (auto right = same(*records, kBackend, options.backend, options.state_dir); !right)
    return refused(right.error());
  auto desk = Desk::restore(options.desk, *records);
  if (!desk)
    return refused({desk.error().kind, outbox->path().string() + ": " + desk.error().message +
                                           "; move the file away to begin anew"});
  const auto written =
      outbox->commit({{kSource, options.desk.source}, {kBackend, options.backend}}, {}, options.now());
  if (!written) return refused(written.error());
  if (const auto hurried = outbox->hurry(); !hurried) return refused(hurried.error());
  std::optional<std::uint64_t> cursor;
  if (const auto found = records->find(kCursor); found != records->end()) {
    std::uint64_t number = 0;
    const auto* end = found->second.data() + found->second.size();
    if (const auto read = std::from_chars(found->second.data(), end, number); read.ptr == end)
      cursor = number;
  }
  const auto cursor_time = records->find(kCursorTime);
  auto core = std::unique_ptr<WatchCore>(
      new WatchCore(std::move(options), std::move(*outbox), std::move(*desk), *lock));
  core->cursor_ = cursor;
  if (cursor_time != records->end()) core->cursor_time_ = cursor_time->second;
  core->gap_ = records->contains(kGap);
  return core;
}

Result<std::string> WatchCore::kept_backend(const std::filesystem::path& state_dir) {
  std::error_code error;
  const auto path = state_dir / kFile;
  if (!std::filesystem::exists(path, error)) return std::string();
  auto outbox = Outbox::open(path);
  if (!outbox) return tl::unexpected(outbox.error());
  const auto records = outbox->records();
  if (!records) return tl::unexpected(records.error());
  const auto found = records->find(kBackend);
  return found == records->end() ? std::string() : found->second.substr(0, found->second.find(','));
}

WatchCore::WatchCore(Options options, Outbox outbox, Desk desk, int lock)
    : options_(std::move(options)),
      lock_(lock),
      outbox_(std::move(outbox)),
      desk_(std::move(desk)),
      turned_(Clock::now()) {}

WatchCore::~WatchCore() {
  ::close(lock_);
}

Result<void> WatchCore::decide(const Work& work, Outbox::Changes also) {
  const std::lock_guard lock(mutex_);
  return decide_locked(work, std::move(also));
}

Result<void> WatchCore::decide_locked(const Work& work, Outbox::Changes also) {
  const auto failed = [&](const Error& why) -> Result<void> {
    ++counters_.commit_failures;
    if (broken_ != why.message)
      logging::error(kComponent, "cannot be written down, and is tried again", {{"why", why.message}});
    broken_ = why.message;
    return tl::unexpected(why);
  };
  if (stale_) {
    const auto records = outbox_.records();
    if (!records) return failed(records.error());
    auto desk = Desk::restore(options_.desk, *records);
    if (!desk) return failed(desk.error());
    counters_.untold += desk_.untold();
    desk_ = std::move(*desk);
    stale_ = false;
  }
  const auto now = options_.now();
  desk_.behind(behind());
  auto intents = work(desk_, now);
  if (!intents) return tl::unexpected(intents.error());
  also.merge(desk_.take_changes());
  if (also.empty() && intents->empty()) return {};
  if (auto done = outbox_.commit(also, *intents, now); !done) {
    stale_ = true;
    return failed(done.error());
  }
  if (!broken_.empty()) logging::info(kComponent, "can be written down again");
  broken_.clear();
  for (const auto& intent : *intents) log(intent);
  if (!intents->empty()) call();
  return {};
}

void WatchCore::call() {
  ++calls_;
  work_.notify_all();
}

void WatchCore::wait(std::unique_lock<std::mutex>& lock, const std::stop_token& stop, milliseconds longest) {
  work_.wait_for(lock, stop, longest, [this, before = calls_] { return calls_ != before; });
}

void WatchCore::log(const Intent& intent) const {
  const std::string what = "to do: " + std::string(name_of(intent.kind));
  if (intent.kind == Intent::Kind::open)
    logging::info(kComponent, what,
                  {{"incident", intent.episode},
                   {"title", intent.opening.title},
                   {"severity", name_of(intent.opening.severity)},
                   {"key", intent.opening.dedup_key}});
  else
    logging::info(kComponent, what,
                  {{"incident", intent.episode}, {"text", http::one_line(intent.note.body, 120)}});
}

std::optional<std::uint64_t> WatchCore::cursor() const {
  const std::lock_guard lock(mutex_);
  return cursor_;
}

std::string WatchCore::cursor_time() const {
  const std::lock_guard lock(mutex_);
  return cursor_time_;
}

Result<void> WatchCore::event(const daemon::Event& event, bool missing) {
  const std::lock_guard lock(mutex_);
  if (cursor_ && event.id <= *cursor_) return {};
  Outbox::Changes also{{kCursor, std::to_string(event.id)}, {kCursorTime, event.time}};
  if (missing) also[kGap] = "1";
  auto done = decide_locked(
      [&](Desk& desk, Time now) -> Result<Desk::Intents> {
        if (missing) desk.gap();
        return desk.event(event, now);
      },
      std::move(also));
  if (!done) return done;
  cursor_ = event.id;
  cursor_time_ = event.time;
  gap_ = gap_ || missing;
  blind_since_.reset();
  if (behind_until_ && event.id >= *behind_until_) behind_until_.reset();
  ++counters_.events;
  counters_.gaps += missing ? 1 : 0;
  if (const auto said = times::moment(event.time, options_.now()))
    event_lag_seconds_ = std::max(0.0, std::chrono::duration<double>(options_.now() - *said).count());
  return {};
}

Result<void> WatchCore::history(const std::vector<daemon::Event>& events, std::uint64_t last) {
  const std::lock_guard lock(mutex_);
  const bool known = !events.empty() && events.back().id == last;
  const auto time = known ? events.back().time : std::string();
  auto done =
      decide_locked([&](Desk& desk, Time now) { return Result<Desk::Intents>(desk.history(events, now)); },
                    {{kCursor, std::to_string(last)}, {kCursorTime, time}});
  if (!done) return done;
  cursor_ = last;
  cursor_time_ = time;
  counters_.events += events.size();
  logging::info(kComponent, "events read up to now", {{"events", events.size()}, {"last", last}});
  return {};
}

Result<void> WatchCore::anew() {
  const std::lock_guard lock(mutex_);
  auto done = decide_locked([](Desk& desk, Time now) { return Result<Desk::Intents>(desk.anew(now)); },
                            {{kCursor, std::nullopt}, {kCursorTime, std::nullopt}, {kGap, std::nullopt}});
  if (!done) return done;
  cursor_.reset();
  cursor_time_.clear();
  gap_ = false;
  logging::warn(kComponent, "tunneld's events began anew: another log, or an older state of it");
  return {};
}

bool WatchCore::wants_survey() const {
  const std::lock_guard lock(mutex_);
  return gap_;
}

Result<void> WatchCore::survey(const Desk::Survey& found) {
  const std::lock_guard lock(mutex_);
  auto done =
      decide_locked([&](Desk& desk, Time now) { return Result<Desk::Intents>(desk.survey(found, now)); },
                    {{kGap, std::nullopt}});
  if (!done) return done;
  gap_ = false;
  logging::info(kComponent, "events were missing; looked how tunneld is now",
                {{"breakers", found.breakers.size()}, {"agents", found.agents.size()}});
  return {};
}

bool WatchCore::behind() const {
  if (!behind_until_) return false;
  const bool alone =
      !connected_since_ && blind_since_ && Clock::now() - *blind_since_ >= options_.desk.daemon_grace;
  return !alone;
}

void WatchCore::blind(std::string_view why) {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  const bool stood = connected_since_ && now - *connected_since_ >= kStands;
  if (stood || !blind_since_) blind_since_ = now;
  connected_since_.reset();
  blind_why_ = http::one_line(why);
  behind_until_ = std::numeric_limits<std::uint64_t>::max();
}

void WatchCore::reads(std::uint64_t last) {
  const std::lock_guard lock(mutex_);
  connected_since_ = Clock::now();
  behind_until_ = last;
  if (cursor_ && *cursor_ >= last) behind_until_.reset();
}

std::string WatchCore::unreadable(Clock::time_point there_since) const {
  const std::lock_guard lock(mutex_);
  if (connected_since_ || !blind_since_) return {};
  const auto longest = std::max(options_.desk.daemon_grace, options_.least_blind);
  if (Clock::now() - std::max(*blind_since_, there_since) < longest) return {};
  return "its events cannot be read: " + blind_why_;
}

Result<void> WatchCore::daemon(bool well, std::string_view why) {
  return decide([&](Desk& desk, Time now) { return Result<Desk::Intents>(desk.daemon(well, why, now)); });
}

Result<void> WatchCore::breakers(const std::vector<std::string>& open, Time as_of) {
  return decide([&](Desk& desk, Time now) { return Result<Desk::Intents>(desk.breakers(open, as_of, now)); });
}

Result<void> WatchCore::alerts(const AlertGroup& group) {
  auto done = decide([&](Desk& desk, Time now) { return desk.alerts(group, now); });
  const std::lock_guard lock(mutex_);
  ++counters_.alerts["origin=\"" + group.origin + "\",result=\"" + (done ? "taken" : "refused") + "\""];
  return done;
}

void WatchCore::tick() {
  (void)decide([](Desk& desk, Time now) { return Result<Desk::Intents>(desk.tick(now)); });
  const std::lock_guard lock(mutex_);
  turned_ = Clock::now();
  const auto now = options_.now();
  if (!broken_.empty() && turned_ - tried_ >= kLook) {
    // Nobody else may have anything to write for long.
    tried_ = turned_;
    if (outbox_.writable(now)) {
      logging::info(kComponent, "can be written down again");
      broken_.clear();
    }
  }
  if (now - pruned_ >= kPruneEvery) {
    pruned_ = now;
    if (const auto done = outbox_.prune(now - options_.keep); !done)
      logging::warn(kComponent, "what is old could not be removed", {{"why", done.error().message}});
  }
  if (now - complained_ < kComplainEvery) return;
  complained_ = now;
  const auto depth = outbox_.depth();
  if (!depth || !depth->oldest || now - *depth->oldest < kComplainAfter) return;
  logging::error(kComponent, "the backend has not been told for long",
                 {{"calls", depth->waiting},
                  {"parked", depth->parked},
                  {"oldest", times::text(*depth->oldest)},
                  {"backend", options_.backend}});
}

bool WatchCore::any_open(std::string_view kind) const {
  const std::lock_guard lock(mutex_);
  return desk_.any_open(kind);
}

void WatchCore::following(bool yes, std::string_view why) {
  const std::lock_guard lock(mutex_);
  following_ = yes;
  following_why_ = http::one_line(why);
}

void WatchCore::refused(std::string_view origin, std::string_view why) {
  const std::lock_guard lock(mutex_);
  ++counters_.alerts["origin=\"" + std::string(origin) + "\",result=\"" + std::string(why) + "\""];
  logging::warn(kComponent, "alerts refused", {{"origin", origin}, {"status", why}});
}

Result<void> WatchCore::healthy() const {
  const std::lock_guard lock(mutex_);
  if (Clock::now() - turned_ > kStuck) return fail(Error::Kind::bug, "the watch does not turn any more");
  for (const auto& why : {broken_, unread_})
    if (!why.empty()) return fail(Error::Kind::unavailable, why);
  return {};
}

Result<void> WatchCore::ready() const {
  if (auto well = healthy(); !well) return well;
  const std::lock_guard lock(mutex_);
  if (!following_ && !following_why_.empty()) return fail(Error::Kind::denied, following_why_);
  return {};
}

}  // namespace tunnelctl::incident
