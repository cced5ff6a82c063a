#include "tunneld/events/event_log.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/log_format.h"
#include "tunneld/events/event_files.h"

namespace tunneld::events {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxPending = 16'384;
constexpr std::size_t kMaxDataBytes = 16 * 1024;
constexpr std::size_t kMaxKindBytes = 64;
constexpr auto kRetry = 1s;

std::string word(std::string_view kind) {
  std::string out(kind.substr(0, kMaxKindBytes));
  for (char& c : out) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
    if (!plain) c = '_';
  }
  return out;
}

std::string text_of(const nlohmann::ordered_json& data) {
  auto text = data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  return text.size() <= kMaxDataBytes ? text : R"({"truncated":true})";
}

/// A line of the files, believed only as far as it is JSON of the right shape.
std::optional<Event> event_from(std::uint64_t id, std::string_view line) {
  constexpr std::string_view kBefore = ",\"kind\":\"";
  if (!nlohmann::json::accept(line)) return {};
  const auto start = line.find(kBefore) + kBefore.size();
  const auto kind = line.substr(start, line.find('"', start) - start);
  if (kind.size() > kMaxKindBytes || kind != word(kind)) return {};
  return Event{id, std::string(kind), std::string(line)};
}

struct Subscription {
  std::recursive_mutex mutex;  // recursive: the handle may be destroyed in the call
  std::function<void()> notify;
  bool active = true;

  void call() {
    const std::lock_guard lock(mutex);
    if (active) notify();
  }
  void end() {
    const std::lock_guard lock(mutex);
    active = false;
  }
};

}  // namespace

struct EventLog::Impl {
  explicit Impl(const Options& given) : options(given), files(given.directory, given.max_bytes) {}

  void run();
  void save(Clock::time_point now);
  void publish(std::deque<Event> fresh);
  void notify_all();

  const Options options;
  EventFiles files;
  std::atomic<bool> healthy{true};

  mutable std::mutex mutex;
  std::condition_variable wake;
  std::deque<Event> pending;  // appended, not yet seen by the thread
  std::deque<Event> recent;   // published, without holes unless numbers were dropped
  std::uint64_t next_id = 1;
  std::uint64_t last = 0;  // newest published
  std::uint64_t dropped = 0;
  bool stopping = false;
  std::vector<std::weak_ptr<Subscription>> subscriptions;

  // The thread's own.
  std::deque<Event> unsaved;
  Clock::time_point next_try;
  std::thread thread;
};

void EventLog::Impl::run() {
  for (;;) {
    std::deque<Event> fresh;
    std::uint64_t lost = 0;
    bool last_round = false;
    {
      std::unique_lock lock(mutex);
      const auto work = [&] { return stopping || !pending.empty(); };
      if (healthy.load(std::memory_order_relaxed)) {
        wake.wait(lock, work);
      } else {
        wake.wait_until(lock, next_try, work);
      }
      std::swap(fresh, pending);
      lost = std::exchange(dropped, 0);
      last_round = stopping;
    }
    if (lost > 0) logging::warn("events", "too many at once; some were dropped", {{"events", lost}});
    unsaved.insert(unsaved.end(), fresh.begin(), fresh.end());
    // Those beyond are not in memory any longer either.
    while (unsaved.size() > std::max(options.in_memory, fresh.size())) unsaved.pop_front();
    const auto now = Clock::now();
    if (healthy.load(std::memory_order_relaxed) || now >= next_try || last_round) save(now);
    publish(std::move(fresh));
    if (last_round) return;
  }
}

void EventLog::Impl::save(Clock::time_point now) {
  const bool was_healthy = healthy.load(std::memory_order_relaxed);
  Result<void> result;
  std::size_t saved = 0;
  while (result && saved < unsaved.size()) {
    result = files.write(unsaved[saved].id, unsaved[saved].json + "\n");
    if (result) ++saved;
  }
  if (result && (saved > 0 || !was_healthy)) result = files.sync();
  unsaved.erase(unsaved.begin(), unsaved.begin() + static_cast<std::ptrdiff_t>(saved));
  healthy.store(result.has_value(), std::memory_order_relaxed);
  if (result) {
    if (!was_healthy) logging::info("events", "writing works again");
    return;
  }
  next_try = now + kRetry;
  if (was_healthy)
    logging::error("events", "event log fails; events live in memory only",
                   {{"error", result.error().message}});
}

void EventLog::Impl::publish(std::deque<Event> fresh) {
  if (fresh.empty()) return;
  {
    const std::lock_guard lock(mutex);
    last = fresh.back().id;
    for (auto& event : fresh) recent.push_back(std::move(event));
    while (recent.size() > options.in_memory) recent.pop_front();
  }
  notify_all();
}

void EventLog::Impl::notify_all() {
  std::vector<std::shared_ptr<Subscription>> readers;
  {
    const std::lock_guard lock(mutex);
    std::erase_if(subscriptions, [&](const auto& weak) {
      auto reader = weak.lock();
      if (!reader) return true;
      readers.push_back(std::move(reader));
      return false;
    });
  }
  for (const auto& reader : readers) reader->call();
}

EventLog::EventLog() = default;

Result<std::unique_ptr<EventLog>> EventLog::open(const Options& options) {
  std::unique_ptr<EventLog> log(new EventLog());
  log->impl_ = std::make_unique<Impl>(options);
  Impl& impl = *log->impl_;
  if (auto opened = impl.files.open(); !opened) {
    log->impl_.reset();
    return tl::unexpected(opened.error());
  }
  impl.last = impl.files.last();
  impl.next_id = impl.last + 1;
  impl.thread = std::thread([&impl] {
    // Signals belong to the main thread.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "events");
    impl.run();
  });
  return log;
}

EventLog::~EventLog() {
  if (!impl_ || !impl_->thread.joinable()) return;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_one();
  impl_->thread.join();
}

void EventLog::append(std::string_view kind, const nlohmann::ordered_json& data) {
  Event event{0, word(kind), {}};
  std::string rest = ",\"kind\":\"" + event.kind + "\",\"time\":\"";
  logging::append_json_time(rest, std::chrono::system_clock::now());
  rest += "\",\"instanceId\":";
  logging::append_json_text(rest, std::string_view(impl_->options.instance_id).substr(0, 255));
  rest += ",\"data\":" + text_of(data) + "}";
  {
    const std::lock_guard lock(impl_->mutex);
    event.id = impl_->next_id++;
    if (impl_->pending.size() >= kMaxPending) {
      ++impl_->dropped;
      return;
    }
    event.json = "{\"id\":" + std::to_string(event.id) + rest;
    impl_->pending.push_back(std::move(event));
  }
  impl_->wake.notify_one();
}

EventLog::Page EventLog::after(std::uint64_t after, std::size_t limit) const {
  Page page;
  std::vector<Event> newest;
  std::uint64_t from_memory = 0;  // numbers below are on disk
  {
    const std::lock_guard lock(impl_->mutex);
    page.last = impl_->last;
    page.gap = after > page.last;
    if (page.gap) after = 0;
    const auto& recent = impl_->recent;
    from_memory = recent.empty() ? page.last + 1 : recent.front().id;
    auto event =
        std::partition_point(recent.begin(), recent.end(), [&](const Event& e) { return e.id <= after; });
    for (; event != recent.end() && newest.size() < limit; ++event) newest.push_back(*event);
  }
  page.first = impl_->files.first();
  if (page.first == 0 || page.first > from_memory) page.first = page.last == 0 ? 0 : from_memory;
  if (after + 1 < from_memory && limit > 0) {
    impl_->files.read(after, [&](std::uint64_t id, std::string_view line) {
      if (id >= from_memory) return false;
      if (auto event = event_from(id, line)) page.events.push_back(std::move(*event));
      return page.events.size() < limit;
    });
  }
  for (auto& event : newest) {
    if (page.events.size() == limit) break;
    page.events.push_back(std::move(event));
  }
  for (std::uint64_t before = after; const auto& event : page.events) {
    if (before > 0 && event.id != before + 1) page.gap = true;
    before = event.id;
  }
  return page;
}

std::shared_ptr<void> EventLog::subscribe(std::function<void()> notify) {
  auto subscription = std::make_shared<Subscription>();
  subscription->notify = std::move(notify);
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->subscriptions.push_back(subscription);
  }
  struct Handle {
    std::shared_ptr<Subscription> subscription;
    explicit Handle(std::shared_ptr<Subscription> s) : subscription(std::move(s)) {}
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() { subscription->end(); }
  };
  return std::make_shared<Handle>(std::move(subscription));
}

bool EventLog::healthy() const {
  return impl_->healthy.load(std::memory_order_relaxed);
}

}  // namespace tunneld::events
