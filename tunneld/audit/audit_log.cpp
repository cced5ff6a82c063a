#include "tunneld/audit/audit_log.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/audit_chain.h"
#include "tunneld/audit/audit_files.h"

namespace tunneld::audit {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxLines = 65'536;
constexpr std::size_t kMaxBytes = 32 * 1024 * 1024;
/// A batch is gathered this long, so that a busy server wakes the writer a hundred times a second and not for
/// each line; unless this much waits already.
constexpr auto kGather = 10ms;
constexpr std::size_t kEnoughBytes = 256 * 1024;
constexpr std::size_t kMaxEventBytes = 64;
constexpr auto kReportEvery = 1s;
constexpr auto kAnchorEvery = 1h;

bool of_requests(std::string_view event) {
  return event == "request" || event == "stream.opened" || event == "stream.closed";
}

AuditFiles::Limits limits_of(const Options& options) {
  return {options.max_file_bytes, options.files, options.retention};
}

/// Lines on their way, one behind another in one text: no allocation each.
struct Queue {
  struct Entry {
    std::uint32_t event_bytes;
    std::uint32_t body_bytes;
    std::uint64_t lost;  // lines lost just before it
  };
  std::string text;
  std::vector<Entry> entries;
  std::uint64_t lost_after = 0;  // lines lost behind the last
  Clock::time_point since;       // when the first came

  bool empty() const { return entries.empty() && lost_after == 0; }
  void clear() {
    // What a burst needed is not kept for ever.
    if (text.capacity() > 4 * kEnoughBytes) text = {};
    if (entries.capacity() > 4 * 1024) entries = {};
    text.clear();
    entries.clear();
    lost_after = 0;
  }
};

}  // namespace

struct AuditLog::Impl {
  Impl(const Options& given, std::string_view instance, Reports report_to, std::shared_ptr<Disk> on,
       std::chrono::milliseconds retry)
      : options(given),
        instance_id(instance),
        reports(std::move(report_to)),
        disk(std::move(on)),
        retry_every(retry) {
    apply_switches();
  }

  void apply_switches() {
    requests.store(options.requests, std::memory_order_relaxed);
    refuses.store(options.on_error == OnError::refuse, std::memory_order_relaxed);
  }

  // --- any thread
  void enqueue(std::string_view event, std::string_view body);
  bool keep(std::string_view event, std::string_view body);
  void lose();  // with the mutex held

  // --- the log's own thread
  void run();
  Clock::time_point next_due(Clock::time_point now) const;
  void take_batch();
  void add_gap(std::uint64_t lines, std::string_view reason,
               std::optional<std::chrono::milliseconds> lasted = {});
  void write_batch();
  void sync_if_due(Clock::time_point now, bool at_once);
  void fail_with(const Error& error);
  void show_health();
  void report_losses(Clock::time_point now, bool at_once);
  void give_up();
  bool batch_done() const { return next == items.size(); }

  std::mutex mutex;
  std::condition_variable wake;
  Options options;
  Queue queue;
  std::size_t held_lines = 0;  // queued and not yet written, those in the batch included
  std::size_t held_bytes = 0;
  std::uint64_t unreported = 0;  // lines lost and not yet in reports.lost
  std::uint64_t untold = 0;      // lines lost and not yet in an audit.gap
  bool sleeping = false;
  bool gathering = false;
  bool stopping = false;
  bool reconfigured = false;

  std::atomic<bool> requests{true};
  std::atomic<bool> refuses{false};
  std::atomic<bool> failing{false};
  std::atomic<bool> losing{false};  // until the gap is told

  const std::string instance_id;
  const Reports reports;
  const std::shared_ptr<Disk> disk;
  const std::chrono::milliseconds retry_every;
  std::optional<AuditFiles> files;

  Queue batch;                       // what `items` point into
  std::deque<std::string> gap_text;  // likewise
  std::vector<AuditFiles::Item> items;
  std::uint64_t batch_lost = 0;               // lines that gaps among them tell of
  std::size_t next = 0;                       // the first item not yet written
  std::optional<Clock::time_point> unsynced;  // since when the oldest line waits for the disk
  std::chrono::milliseconds flush{500};
  std::string why;                          // of the last failure
  bool telling = false;                     // the outage's gap is among the items
  std::optional<Clock::time_point> outage;  // its beginning; until a gap tells of it
  Clock::time_point next_try;
  std::optional<Clock::time_point> last_report;
  Clock::time_point next_anchor = Clock::now() + kAnchorEvery;
  bool shown_healthy = true;

  std::thread thread;
};

/// All of it or nothing: an entry without its text would shift every line after it.
bool AuditLog::Impl::keep(std::string_view event, std::string_view body) {
  const auto before = queue.text.size();
  try {
    queue.text.append(event).append(body);
    queue.entries.push_back({static_cast<std::uint32_t>(event.size()),
                             static_cast<std::uint32_t>(body.size()), queue.lost_after});
  } catch (const std::bad_alloc&) {
    queue.text.resize(before);
    return false;
  }
  if (queue.entries.size() == 1) queue.since = Clock::now();
  queue.lost_after = 0;
  return true;
}

void AuditLog::Impl::lose() {
  ++queue.lost_after;
  ++unreported;
  ++untold;
  losing.store(true, std::memory_order_relaxed);
}

void AuditLog::Impl::enqueue(std::string_view event, std::string_view body) {
  bool notify = false;
  {
    const std::lock_guard lock(mutex);
    const std::size_t bytes = event.size() + body.size();
    if (held_lines >= kMaxLines || held_bytes + bytes > kMaxBytes || !keep(event, body)) {
      lose();
      return;
    }
    ++held_lines;
    held_bytes += bytes;
    notify = std::exchange(sleeping, false) ||
             (queue.text.size() >= kEnoughBytes && std::exchange(gathering, false));
  }
  if (notify) wake.notify_one();
}

Clock::time_point AuditLog::Impl::next_due(Clock::time_point now) const {
  auto due = next_anchor;
  if (unsynced) due = std::min(due, *unsynced + flush / 2);
  if (failing.load(std::memory_order_relaxed)) due = std::max(next_try, now);
  if (unreported > 0 && last_report) due = std::min(due, *last_report + kReportEvery);
  return due;
}

void AuditLog::Impl::run() {
  for (;;) {
    bool last_round = false;
    bool take = false;
    {
      std::unique_lock lock(mutex);
      const bool down = failing.load(std::memory_order_relaxed);
      const auto work = [&] {
        return stopping || reconfigured || (!down && (!queue.empty() || !batch_done() || outage));
      };
      if (!work()) {
        // A producer wakes us for the first line only; while the disk is down, for none.
        sleeping = !down;
        wake.wait_until(lock, next_due(Clock::now()), work);
        sleeping = false;
      }
      if (!stopping && !down && !queue.empty()) {
        gathering = true;
        wake.wait_for(lock, std::min<Clock::duration>(kGather, flush / 4),
                      [&] { return stopping || queue.text.size() >= kEnoughBytes; });
        gathering = false;
      }
      if (std::exchange(reconfigured, false)) {
        files->configure(limits_of(options));
        flush = options.flush;
        next_anchor = Clock::now();  // new limits apply to the files that are there
      }
      last_round = stopping;
      take = batch_done() || (telling && batch.entries.empty());
      if (take) {
        batch.clear();
        std::swap(batch, queue);
      }
    }
    if (take) take_batch();
    const auto now = Clock::now();
    if (!failing.load(std::memory_order_relaxed) || now >= next_try || last_round) write_batch();
    sync_if_due(Clock::now(), last_round);
    report_losses(now, last_round);
    show_health();
    if (now >= next_anchor) {
      files->note_anchor();
      files->prune();
      next_anchor = now + kAnchorEvery;
    }
    if (!last_round) continue;
    const bool down = failing.load(std::memory_order_relaxed);
    const std::lock_guard lock(mutex);
    if (down || (queue.empty() && batch_done() && !outage)) break;
  }
  give_up();
}

void AuditLog::Impl::take_batch() {
  items.clear();
  gap_text.clear();
  next = 0;
  telling = false;
  if (const auto& damage = files->damage(); damage && !outage) add_gap(damage->lines, damage->why);
  std::string_view text = batch.text;
  const std::string_view full = why.empty() ? std::string_view("the queue was full") : std::string_view(why);
  for (const auto& entry : batch.entries) {
    if (entry.lost > 0) add_gap(entry.lost, full);
    batch_lost += entry.lost;
    items.push_back({text.substr(0, entry.event_bytes), text.substr(entry.event_bytes, entry.body_bytes), 0});
    text.remove_prefix(entry.event_bytes + entry.body_bytes);
  }
  if (batch.lost_after > 0) add_gap(batch.lost_after, full);
  batch_lost += batch.lost_after;
  // Told when it is over, also when the queue was enough. While it lasts and nothing else is to be written,
  // this line is what tries the disk.
  if (!outage || (failing.load(std::memory_order_relaxed) && !items.empty())) return;
  telling = true;
  const auto away = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - *outage);
  add_gap(0, why, away);
}

void AuditLog::Impl::add_gap(std::uint64_t lines, std::string_view reason,
                             std::optional<std::chrono::milliseconds> lasted) {
  auto& text = gap_text.emplace_back();
  const auto now = std::chrono::system_clock::now();
  const auto event = audit_chain::kGapEvent;
  if (lasted) {
    audit_chain::append_body(
        text, {now, instance_id, event, {{"lines", lines}, {"why", reason}, {"ms", lasted->count()}}});
  } else {
    audit_chain::append_body(text, {now, instance_id, event, {{"lines", lines}, {"why", reason}}});
  }
  items.push_back({event, text, lines});
}

void AuditLog::Impl::write_batch() {
  if (batch_done()) return;
  const auto progress = files->write(std::span(items).subspan(next));
  const auto done = std::span(items).subspan(next, progress.written);
  next += progress.written;
  std::size_t lines = 0;
  std::size_t bytes = 0;
  for (const auto& item : done) {
    reports.written(item.event);
    if (item.event.data() == audit_chain::kGapEvent.data()) continue;  // ours, not from the queue
    ++lines;
    bytes += item.event.size() + item.body.size();
  }
  if (!done.empty() && !unsynced) unsynced = lines > 0 ? batch.since : Clock::now();
  {
    const std::lock_guard lock(mutex);
    held_lines -= lines;
    held_bytes -= bytes;
    if (batch_done()) untold -= std::exchange(batch_lost, 0);
    losing.store(untold > 0, std::memory_order_relaxed);
  }
  if (progress.error) return fail_with(*progress.error);
  if (failing.load(std::memory_order_relaxed)) {
    // A disk may take writes and fail at their sync.
    unsynced.reset();
    if (auto synced = files->sync(); !synced) return fail_with(synced.error());
  }
  if (std::exchange(telling, false)) outage.reset();
  if (!failing.exchange(false)) return;
  logging::info("audit", "writing works again", {{"seq", files->last().seq}});
}

void AuditLog::Impl::sync_if_due(Clock::time_point now, bool at_once) {
  if (!unsynced || (!at_once && now < *unsynced + flush / 2)) return;
  unsynced.reset();
  if (auto synced = files->sync(); !synced) fail_with(synced.error());
}

void AuditLog::Impl::fail_with(const Error& error) {
  why = error.message;
  const auto now = Clock::now();
  if (!outage) outage = now;
  next_try = now + retry_every;
  if (!failing.exchange(true))
    logging::error("audit", "audit log fails; lines wait in memory", {{"error", error.message}});
  reports.failed(why);
}

void AuditLog::Impl::show_health() {
  const bool healthy = !failing.load(std::memory_order_relaxed) && !losing.load(std::memory_order_relaxed);
  if (std::exchange(shown_healthy, healthy) != healthy)
    reports.health(healthy, healthy ? "" : why.empty() ? "the queue is full" : why);
}

void AuditLog::Impl::report_losses(Clock::time_point now, bool at_once) {
  if (!at_once && last_report && now < *last_report + kReportEvery) return;
  std::uint64_t lines = 0;
  {
    const std::lock_guard lock(mutex);
    lines = std::exchange(unreported, 0);
  }
  if (lines == 0) return;
  last_report = now;
  reports.lost(lines, why.empty() ? "the queue was full" : why);
}

/// At the end: what could not be written is lost now.
void AuditLog::Impl::give_up() {
  std::uint64_t lines = 0;
  {
    const std::lock_guard lock(mutex);
    lines = held_lines;
  }
  if (lines > 0) {
    logging::error("audit", "lines lost at the end", {{"lines", lines}, {"error", why}});
    reports.lost(lines, why);
  }
  files->note_anchor();
}

AuditLog::AuditLog() = default;

Result<std::unique_ptr<AuditLog>> AuditLog::open(const Options& options, std::string_view instance_id,
                                                 Reports reports) {
  return open(options, instance_id, std::move(reports), std::make_shared<Disk>(), 1s);
}

Result<std::unique_ptr<AuditLog>> AuditLog::open(const Options& options, std::string_view instance_id,
                                                 Reports reports, std::shared_ptr<Disk> disk,
                                                 std::chrono::milliseconds retry) {
  std::unique_ptr<AuditLog> log(new AuditLog());
  if (!options.enabled) return log;
  log->impl_ = std::make_unique<Impl>(options, instance_id, std::move(reports), std::move(disk), retry);
  Impl& impl = *log->impl_;
  auto files = AuditFiles::open(options.directory, limits_of(options), *impl.disk);
  if (!files) {
    log->impl_.reset();
    return tl::unexpected(files.error());
  }
  impl.files.emplace(std::move(*files));
  impl.flush = options.flush;
  // With the first batch, even when nothing is written for now.
  if (const auto& damage = impl.files->damage()) {
    logging::warn("audit", "lines are missing", {{"lines", damage->lines}, {"why", damage->why}});
    impl.take_batch();
  }
  impl.files->note_anchor();
  impl.thread = std::thread([&impl] {
    // Signals belong to the main thread; a file grown too large is then an error of write.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "audit");
    impl.run();
  });
  return log;
}

AuditLog::~AuditLog() {
  if (!impl_ || !impl_->thread.joinable()) return;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_one();
  impl_->thread.join();
}

void AuditLog::write(std::string_view event, logging::Fields fields) {
  if (!impl_) return;
  if (of_requests(event) && !impl_->requests.load(std::memory_order_relaxed)) return;
  thread_local std::string body;
  body.clear();
  const auto word = event.substr(0, kMaxEventBytes);
  try {
    audit_chain::append_body(body, {std::chrono::system_clock::now(), impl_->instance_id, word, fields});
  } catch (const std::bad_alloc&) {
    const std::lock_guard lock(impl_->mutex);
    impl_->lose();
    return;
  }
  impl_->enqueue(word, body);
}

bool AuditLog::healthy() const {
  return !impl_ ||
         (!impl_->failing.load(std::memory_order_relaxed) && !impl_->losing.load(std::memory_order_relaxed));
}

bool AuditLog::may_serve() const {
  return healthy() || !impl_->refuses.load(std::memory_order_relaxed);
}

void AuditLog::configure(const Options& options) {
  if (!impl_) return;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->options = options;
    impl_->apply_switches();
    impl_->reconfigured = true;
  }
  impl_->wake.notify_one();
}

}  // namespace tunneld::audit
