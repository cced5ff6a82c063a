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
    /// Events are not called unreadable before that long, nor before the daemon's grace: a connection that
    /// broke is made anew some seconds later.
    std::chrono::milliseconds least_blind{5'000};
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
  /// Its time, by which it is known again in a log that may be another; "" when that is not known.
  std::string cursor_time() const;
  /// `missing`: events were lost before this one, so that a survey is wanted.
  Result<void> event(const daemon::Event& event, bool missing);
  /// All that there is at the first start, up to `last`: only what lasts is told.
  Result<void> history(const std::vector<daemon::Event>& events, std::uint64_t last);
  /// tunneld's log is another one: what was told before is not true any more, and no event of it was taken.
  Result<void> anew();
  /// Events are missing, and nobody has looked yet how it is now; also after a restart.
  bool wants_survey() const;
  Result<void> survey(const Desk::Survey& found);
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
  std::optional<Outbox::Unexplained> unexplained(std::chrono::milliseconds again_after,
                                                 const std::stop_token& stop);
  /// `note` nullopt: there is nothing to say.
  Result<void> explain(const Outbox::Unexplained& incident, const std::optional<Note>& note);

  // How it does.

  /// Events cannot be read (yet): until they can be, or the daemon's grace is over, the clock decides nothing
  /// that a missed event could have ended.
  void blind(std::string_view why);
  /// They can be, and there are some up to that number.
  void reads(std::uint64_t last);
  /// Why none can be read though tunneld has been there since then; "": they can, or will be soon.
  std::string unreadable(std::chrono::steady_clock::time_point there_since) const;

  void following(bool yes, std::string_view why);
  void refused(std::string_view origin, std::string_view why);
  /// The threads turn and the file can be written.
  Result<void> healthy() const;
  /// And tunneld does not refuse its events.
  Result<void> ready() const;
  /// Prometheus' text format, 0.0.4.
  std::string metrics() const;

 private:
  /// The threads look at least that often whether there is something to do.
  static constexpr std::chrono::milliseconds kLook{1'000};
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
  bool behind() const;
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
  std::string cursor_time_{};
  bool gap_ = false;  // a survey is wanted
  // Events before that one were not read yet; since when there is a connection, and since when none stands.
  std::optional<std::uint64_t> behind_until_{};
  std::optional<std::chrono::steady_clock::time_point> connected_since_{}, blind_since_{};
  std::string blind_why_{};
  Counters counters_{};
  std::uint64_t failures_in_a_row_ = 0;
  std::chrono::steady_clock::time_point backend_rests_until_{}, tried_{};
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
