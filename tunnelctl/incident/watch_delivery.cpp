#include <algorithm>
#include <random>

#include "common/http_access.h"
#include "common/log.h"
#include "tunnelctl/incident/watch_core.h"

/// What is to be done, for the threads that do it.
namespace tunnelctl::incident {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kComponent = "incident";
/// What only a person can mend is tried again after that long; a new start tries at once.
constexpr milliseconds kParked{10 * 60'000};
/// A backend that does not answer is left alone for no longer than that, whichever incident is next.
constexpr milliseconds kLongestRest{5'000};

double random_share() {
  thread_local std::mt19937_64 engine{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(engine);
}

}  // namespace

std::optional<Parcel> WatchCore::next(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const auto now = options_.now();
  milliseconds pause = kLook;
  if (const auto rest = backend_rests_until_ - Clock::now(); rest > Clock::duration::zero()) {
    pause = std::min(pause, std::chrono::ceil<milliseconds>(rest));
  } else {
    auto parcel = outbox_.next(now);
    outbox_works(parcel ? std::string() : parcel.error().message);
    if (parcel && *parcel) return std::move(**parcel);
    if (!parcel) {
      pause = kLook;
    } else if (const auto due = outbox_.next_due(now); due && *due) {
      pause = std::clamp(**due - now, milliseconds(1), kLook);
    }
  }
  wait(lock, stop, pause);
  return std::nullopt;
}

void WatchCore::outbox_works(const std::string& why_not) {
  if (!why_not.empty() && why_not != unread_)
    logging::error(kComponent, "the outbox does not work", {{"why", why_not}});
  unread_ = why_not;
}

void WatchCore::mark(const Parcel& parcel, const Delivery& delivery, Time now, Result<void>& marked) {
  switch (delivery.what) {
    case Delivery::What::done:
      marked = outbox_.delivered(parcel, delivery.incident, delivery.url, now);
      break;
    case Delivery::What::refused: marked = outbox_.give_up(parcel, delivery.why, now); break;
    case Delivery::What::parked: marked = outbox_.try_again(parcel, delivery.why, now + kParked, true); break;
    case Delivery::What::again:
      marked = outbox_.try_again(parcel, delivery.why, now + pause_after(parcel.attempts + 1, random_share()),
                                 false);
      break;
    case Delivery::What::cancelled: marked = Result<void>(); break;
  }
}

void WatchCore::delivered(const Parcel& parcel, Delivery delivery, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const auto call = name_of(parcel.kind);
  delivery.why.message = http::one_line(delivery.why.message);
  const auto& why = delivery.why.message;
  switch (delivery.what) {
    case Delivery::What::done:
      logging::info(kComponent, "done: " + std::string(call),
                    {{"incident", parcel.episode},
                     {"id", delivery.incident.empty() ? parcel.incident : delivery.incident},
                     {"url", delivery.url},
                     {"attempts", parcel.attempts + 1}});
      break;
    case Delivery::What::again:
      logging::warn(kComponent, "the backend does not take it yet; tried again: " + std::string(call),
                    {{"incident", parcel.episode}, {"why", why}, {"attempts", parcel.attempts + 1}});
      break;
    case Delivery::What::parked:
      logging::error(kComponent,
                     "the backend refuses; waits for a person, tried again in 10 min: " + std::string(call),
                     {{"incident", parcel.episode}, {"why", why}});
      break;
    case Delivery::What::refused:
      logging::error(kComponent, "the backend refuses; given up: " + std::string(call),
                     {{"incident", parcel.episode}, {"why", why}});
      break;
    case Delivery::What::cancelled: return;
  }
  ++counters_.deliveries["call=\"" + std::string(call) + "\",result=\"" +
                         std::string(name_of(delivery.what)) + "\""];
  // One that says that there is no such incident (yet) answers.
  const bool silent = delivery.what == Delivery::What::again && delivery.why.kind != Error::Kind::not_found;
  failures_in_a_row_ = silent ? failures_in_a_row_ + 1 : 0;
  backend_rests_until_ = Clock::time_point();
  if (failures_in_a_row_ > 0)
    backend_rests_until_ =
        Clock::now() + std::min(kLongestRest, pause_after(failures_in_a_row_, random_share()));
  // Until it is marked it would be sent again: no harm, but no use either.
  for (;;) {
    Result<void> marked;
    mark(parcel, delivery, options_.now(), marked);
    outbox_works(marked ? std::string() : marked.error().message);
    if (marked) return;
    wait(lock, stop, kLook);
    if (stop.stop_requested()) return;
  }
}

std::optional<Outbox::Unexplained> WatchCore::unexplained(std::chrono::milliseconds again_after,
                                                          const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  std::optional<Time> again;
  if (again_after.count() > 0) again = options_.now() - again_after;
  auto found = outbox_.unexplained(again);
  if (found && *found) return std::move(**found);
  wait(lock, stop, kLook);
  return std::nullopt;
}

Result<void> WatchCore::explain(const Outbox::Unexplained& incident, const std::optional<Note>& note) {
  const std::lock_guard lock(mutex_);
  const auto added = outbox_.explain(incident, note, options_.now());
  if (!added) return tl::unexpected(added.error());
  if (!*added) return {};
  ++counters_.explained;
  logging::info(
      kComponent, "to do: note",
      {{"incident", incident.episode}, {"text", incident.again ? "its context, again" : "its context"}});
  call();
  return {};
}

}  // namespace tunnelctl::incident
