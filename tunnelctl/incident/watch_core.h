#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "common/result.h"
#include "tunnelctl/daemon/admin.h"
#include "tunnelctl/incident/desk.h"
#include "tunnelctl/incident/outbox.h"

namespace tunnelctl::incident {

/// The desk and its outbox, for the threads of a watch: what happens is decided on and written down in one
/// step. Each call logs what it decided. Any thread.
class WatchCore {
 public:
  struct Options {
    std::filesystem::path state_dir{};
    DeskOptions desk{};
    std::string backend{};            // its name and place: what is kept in the folder belongs to it
    std::string backend_name{};       // for metrics
    std::chrono::hours keep{7 * 24};  // what was delivered
    std::size_t most_waiting = 10'000;
    std::function<Time()> now{};
  };
  /// Fails with bad_input when the folder is of a watch of something else, with denied when another watch
  /// works in it, and as Outbox does.
  static Result<std::unique_ptr<WatchCore>> open(Options options);
  /// The name of the backend that the folder's incidents are at; "" while there are none.
  static Result<std::string> kept_backend(const std::filesystem::path& state_dir);
  ~WatchCore();

  // What happened. When it cannot be written down nothing was decided: try again.

  /// The number of the newest event that was taken; nullopt: none ever was.
  std::optional<std::uint64_t> cursor() const;
  /// `missing`: events were lost before this one; `anew`: it is the first of another log.
  Result<void> event(const daemon::Event& event, bool missing, bool anew);
  /// All that there is at the first start, up to `last`: only what lasts is told.
  Result<void> history(const std::vector<daemon::Event>& events, std::uint64_t last);
  Result<void> daemon(bool well, std::string_view why);
  Result<void> breakers(const std::vector<std::string>& open, Time as_of);
  Result<void> alerts(const AlertGroup& group);
  /// By the clock: a few times a second. Forgets what is old, complains about what waits for long.
  void tick();
  bool any_open(std::string_view kind) const;

  // What is to be done.

  /// The next one that is due, or nothing after a while or a stop.
  std::optional<Parcel> next(const std::stop_token& stop);
  void delivered(const Parcel& parcel, Delivery delivery, const std::stop_token& stop);
  std::optional<Outbox::Unexplained> unexplained(const std::stop_token& stop);
  /// `note` nullopt: there is nothing to say.
  void explain(std::int64_t episode, const std::optional<Note>& note);

  // How it does.

  void following(bool yes, std::string_view why);
  void refused(std::string_view origin, std::string_view why);
  /// The threads turn and the file can be written.
  Result<void> healthy() const;
  /// And tunneld does not refuse its events.
  Result<void> ready() const;
  /// Prometheus' text format, 0.0.4.
  std::string metrics() const;

 private:
  struct Counters {
    std::uint64_t events = 0, gaps = 0, commit_failures = 0, explained = 0, untold = 0;
    std::map<std::string, std::uint64_t> alerts{};      // 'origin="alertmanager",result="taken"'
    std::map<std::string, std::uint64_t> deliveries{};  // 'call="open",result="done"'
  };
  WatchCore(Options options, Outbox outbox, Desk desk, int lock);
  using Work = std::function<Result<Desk::Intents>(Desk& desk, Time now)>;
  Result<void> decide(const Work& work, Outbox::Changes also = {});
  Result<void> decide_locked(const Work& work, Outbox::Changes also);
  void log(const Intent& intent) const;
  void call();
  /// Until something was decided, a stop, or that long.
  void wait(std::unique_lock<std::mutex>& lock, const std::stop_token& stop,
            std::chrono::milliseconds longest);
  void outbox_works(const std::string& why_not);
  void mark(const Parcel& parcel, const Delivery& delivery, Time now, Result<void>& marked);

  const Options options_;
  const int lock_;
  mutable std::mutex mutex_;
  std::condition_variable_any work_;
  mutable Outbox outbox_;
  Desk desk_;
  bool stale_ = false;  // the desk knows of what could not be written
  std::optional<std::uint64_t> cursor_{};
  Counters counters_{};
  std::uint64_t failures_in_a_row_ = 0;
  Time backend_rests_until_{};
  std::string following_why_{"not begun"};
  bool following_ = false;
  double event_lag_seconds_ = 0;
  Time pruned_{}, complained_{};
  std::string broken_{};     // why the last decision could not be written
  std::string unread_{};     // why the outbox could not be used last
  std::uint64_t calls_ = 0;  // of call()
  std::chrono::steady_clock::time_point turned_{};
};

}  // namespace tunnelctl::incident
