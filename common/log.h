#pragma once

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/result.h"

/// Structured logging: one record, one line, JSON for machines or text for a terminal.
///
///     logging::info("ssh", "session opened", {{"upstream", name}, {"took_ms", 12}});
///
/// A JSON record holds `timestamp` (RFC 3339, UTC, milliseconds), `level`, `message`, `component`,
/// `instanceId`, then the given fields in their order (by convention correlation_id, connection_id,
/// service, principal first). Callers never wait for the disk: a thread of our own writes, from a
/// bounded queue that forgets its oldest records when it is full (see `dropped`).
/// A Secret does not compile as a field.
namespace logging {

enum class Level : int { error, warn, info, debug, trace };
enum class Format { automatic, json, text };  // automatic: text on a terminal, else JSON

const char* to_string(Level level);  // "ERROR" ... "TRACE"

/// One name and value. Views only: it must not outlive the call it is written in.
class Field {
 public:
  using Value = std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool>;

  template <class T>
    requires std::convertible_to<const T&, std::string_view>
  Field(std::string_view key, const T& text) : key_(key), value_(std::string_view(text)) {}
  template <std::signed_integral T>
  Field(std::string_view key, T number) : key_(key), value_(static_cast<std::int64_t>(number)) {}
  template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
  Field(std::string_view key, T number) : key_(key), value_(static_cast<std::uint64_t>(number)) {}
  template <std::floating_point T>
  Field(std::string_view key, T number) : key_(key), value_(static_cast<double>(number)) {}
  /// Exactly bool: a pointer would turn into one silently.
  template <std::same_as<bool> T>
  Field(std::string_view key, T flag) : key_(key), value_(flag) {}

  std::string_view key() const { return key_; }
  const Value& value() const { return value_; }

 private:
  std::string_view key_;
  Value value_;
};
using Fields = std::initializer_list<Field>;

struct Options {
  Level level = Level::info;
  Format format = Format::automatic;
  /// "stdout", "stderr", or the path of a file that is appended to (created 0640).
  std::string output = "stdout";
  std::string instance_id{};
  /// Records waiting for the writer; at about 400 bytes each. 8192 rides out a second of a stalled
  /// disk at the request rates this program is built for.
  std::size_t queue = 8192;
  /// How long `stop` waits for an output that takes nothing, such as a pipe nobody reads.
  std::chrono::milliseconds drain_limit{2000};
};

/// Starts the writer. Call once, before other threads log; records logged earlier (and after
/// `stop`) go straight to stderr from WARN up. Fails, naming the file, when it cannot be opened.
Result<void> start(const Options& options);
/// Writes what is queued and ends the writer. Call when no other thread logs any more.
void stop();
/// After the file was rotated away (SIGHUP): opens its name again. Any thread; returns at once.
void reopen();
/// Records lost since `start`: pushed out of a full queue, or refused by the output.
std::uint64_t dropped();

/// Any thread. With a `ttl` the level goes back by itself to the last one set without.
void set_level(Level level, std::optional<std::chrono::seconds> ttl = {});
Level level();

/// The rule behind `set_level`, with time as an argument (monotonic clock). Not thread-safe.
class LevelSwitch {
 public:
  using Time = std::chrono::steady_clock::time_point;
  explicit LevelSwitch(Level level) : base_(level), now_(level) {}
  void set(Level level, std::optional<std::chrono::seconds> ttl, Time now);
  /// The level in force; ends a borrowed one whose time is over.
  Level at(Time now);
  bool borrowed() const { return until_.has_value(); }

 private:
  Level base_;
  Level now_;
  std::optional<Time> until_;
};

namespace detail {
extern std::atomic<int> level;  // kBorrowed while a ttl runs, so that only then a clock is read
inline constexpr int kBorrowed = 100;
bool enabled_while_borrowed(Level level);
void write(Level level, std::string_view component, std::string_view message, Fields fields);
}  // namespace detail

/// One relaxed load. For callers that would compute a field only for the log.
inline bool enabled(Level level) {
  const int limit = detail::level.load(std::memory_order_relaxed);
  return limit == detail::kBorrowed ? detail::enabled_while_borrowed(level)
                                    : static_cast<int>(level) <= limit;
}

inline void log(Level level, std::string_view component, std::string_view message, Fields fields = {}) {
  if (enabled(level)) detail::write(level, component, message, fields);
}
inline void error(std::string_view component, std::string_view message, Fields fields = {}) {
  log(Level::error, component, message, fields);
}
inline void warn(std::string_view component, std::string_view message, Fields fields = {}) {
  log(Level::warn, component, message, fields);
}
inline void info(std::string_view component, std::string_view message, Fields fields = {}) {
  log(Level::info, component, message, fields);
}
inline void debug(std::string_view component, std::string_view message, Fields fields = {}) {
  log(Level::debug, component, message, fields);
}
inline void trace(std::string_view component, std::string_view message, Fields fields = {}) {
  log(Level::trace, component, message, fields);
}

}  // namespace logging
