#include "common/log.h"

#include <pthread.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/sink.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <mutex>

#include "common/log_format.h"
#include "common/log_output.h"

namespace logging {

namespace detail {
std::atomic<int> level{static_cast<int>(Level::warn)};
}

namespace {

/// The end of spdlog's queue, on its one thread: gathers lines while more are waiting, so that a
/// burst costs few system calls and a quiet program's lines appear at once.
class QueueSink final : public spdlog::sinks::sink {
 public:
  explicit QueueSink(Output& output) : output_(output) {}

  /// The pool that feeds this sink; before the first record.
  void fed_by(spdlog::details::thread_pool* pool) { pool_ = pool; }
  void reopen_soon() { reopen_.store(true, std::memory_order_relaxed); }

  void log(const spdlog::details::log_msg& record) override {
    lines_.append(record.payload.data(), record.payload.size());
    lines_.push_back('\n');
    ++records_;
    constexpr std::size_t kEnough = 64 * 1024;
    if (record.level >= spdlog::level::err || lines_.size() >= kEnough || pool_->queue_size() == 0) flush();
  }

  void flush() override {
    if (!lines_.empty()) output_.write(lines_, records_);
    lines_.clear();
    records_ = 0;
    // After the lines that were logged before the rotation.
    if (reopen_.exchange(false, std::memory_order_relaxed)) output_.reopen();
  }

  void set_pattern(const std::string&) override {}                    // lines come rendered
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}  // lines come rendered

 private:
  Output& output_;
  spdlog::details::thread_pool* pool_ = nullptr;
  std::atomic<bool> reopen_{false};
  std::string lines_;
  std::uint64_t records_ = 0;
};

void block_signals() {
  // Signals belong to the main thread; a broken pipe is then an error of write.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

class Backend {
 public:
  explicit Backend(const Options& options) : options_(options), output_(options.output) {}

  Result<void> open() {
    if (auto opened = output_.open(); !opened) return opened;
    const bool terminal = output_.is_terminal();
    text_ = options_.format == Format::text || (options_.format == Format::automatic && terminal);
    colour_ = text_ && terminal;
    sink_ = std::make_shared<QueueSink>(output_);
    pool_ = std::make_shared<spdlog::details::thread_pool>(options_.queue, 1, block_signals);
    sink_->fed_by(pool_.get());
    logger_ = std::make_shared<spdlog::async_logger>("log", sink_, pool_,
                                                     spdlog::async_overflow_policy::overrun_oldest);
    logger_->set_level(spdlog::level::trace);  // levels are decided before a record is rendered
    return {};
  }

  void close() {
    output_.give_up_at(std::chrono::steady_clock::now() + options_.drain_limit);
    overrun_ = pool_->overrun_counter();
    logger_.reset();
    pool_.reset();  // waits until the queue is written
    sink_->flush();
  }

  void write(const Record& record) {
    thread_local std::string line;
    if (text_) {
      render_text(line, record, colour_);
    } else {
      render_json(line, record);
    }
    const auto level = record.level == Level::error ? spdlog::level::err : spdlog::level::info;
    logger_->log(record.time, spdlog::source_loc{}, level, spdlog::string_view_t(line.data(), line.size()));
  }

  void reopen() {
    sink_->reopen_soon();
    logger_->flush();
  }

  std::uint64_t dropped() const { return (pool_ ? pool_->overrun_counter() : overrun_) + output_.lost(); }
  const std::string& instance_id() const { return options_.instance_id; }

 private:
  const Options options_;
  Output output_;
  bool text_ = false;
  bool colour_ = false;
  std::uint64_t overrun_ = 0;
  std::shared_ptr<QueueSink> sink_;
  std::shared_ptr<spdlog::details::thread_pool> pool_;
  std::shared_ptr<spdlog::async_logger> logger_;
};

std::unique_ptr<Backend> owner;              // main thread only
std::atomic<Backend*> backend{nullptr};      // what other threads see
std::atomic<std::uint64_t> last_dropped{0};  // of the backend that was stopped

std::mutex level_mutex;
LevelSwitch level_switch(Level::warn);

/// Under level_mutex.
void publish(LevelSwitch::Time now) {
  const Level level = level_switch.at(now);
  detail::level.store(level_switch.borrowed() ? detail::kBorrowed : static_cast<int>(level),
                      std::memory_order_relaxed);
}

}  // namespace

void LevelSwitch::set(Level level, std::optional<std::chrono::seconds> ttl, Time now) {
  // Compared this way round because an enormous ttl would overflow when added to now.
  const bool limited = ttl && *ttl < std::chrono::duration_cast<std::chrono::seconds>(Time::max() - now);
  until_ = limited ? std::optional(now + *ttl) : std::nullopt;
  now_ = level;
  if (!limited) base_ = level;
}

Level LevelSwitch::at(Time now) {
  if (until_ && now >= *until_) {
    now_ = base_;
    until_.reset();
  }
  return now_;
}

void set_level(Level level, std::optional<std::chrono::seconds> ttl) {
  const std::lock_guard lock(level_mutex);
  const auto now = std::chrono::steady_clock::now();
  level_switch.set(level, ttl, now);
  publish(now);
}

Level level() {
  const std::lock_guard lock(level_mutex);
  const auto now = std::chrono::steady_clock::now();
  publish(now);
  return level_switch.at(now);
}

bool detail::enabled_while_borrowed(Level level) {
  return static_cast<int>(level) <= static_cast<int>(logging::level());
}

Result<void> start(const Options& options) {
  auto next = std::make_unique<Backend>(options);
  if (auto opened = next->open(); !opened) return opened;
  owner = std::move(next);
  backend.store(owner.get(), std::memory_order_release);
  set_level(options.level);
  return {};
}

void stop() {
  if (!owner) return;
  backend.store(nullptr, std::memory_order_release);
  owner->close();
  last_dropped.store(owner->dropped(), std::memory_order_relaxed);
  owner.reset();
}

void reopen() {
  if (Backend* running = backend.load(std::memory_order_acquire)) running->reopen();
}

std::uint64_t dropped() {
  Backend* running = backend.load(std::memory_order_acquire);
  return running != nullptr ? running->dropped() : last_dropped.load(std::memory_order_relaxed);
}

void detail::write(Level level, std::string_view component, std::string_view message, Fields fields) {
  Backend* running = backend.load(std::memory_order_acquire);
  Record record{std::chrono::system_clock::now(),
                level,
                component,
                message,
                running != nullptr ? std::string_view(running->instance_id()) : "",
                fields};
  if (running != nullptr) {
    running->write(record);
    return;
  }
  std::string line;
  render_json(line, record);
  line.push_back('\n');
  // Not started or already stopped: stderr is all there is.
  [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace logging
