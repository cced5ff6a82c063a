#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace http {

/// When a failed attempt is made again. Pauses double from `first_pause` and are drawn evenly from
/// zero to that ("full jitter": callers who failed together do not come back together).
struct Retry {
  unsigned attempts = 4;  // in all; 1 means none is repeated
  std::chrono::milliseconds first_pause{250};
  std::chrono::milliseconds longest_pause{10'000};
  /// A server that asks for more (Retry-After) gets no further attempt: its answer is handed over.
  std::chrono::milliseconds longest_retry_after{60'000};
};

/// What one attempt's end allows as far as its connection is concerned.
enum class Repeat {
  never,
  if_safe,  // the server may have acted on the request
  always    // nothing of the request has been sent
};

/// Whether a status asks for another attempt: 429 (nothing was done) for every request; 502, 503 and
/// 504 for those that are safe to repeat; of `heavy` ones only 502.
Repeat repeat_for(unsigned status, bool heavy = false);

/// The pause after the attempt-th attempt (from 1). `random` is evenly drawn from [0, 1).
/// nullopt: the server asks for longer than is allowed.
std::optional<std::chrono::milliseconds> pause_after(unsigned attempt, const Retry& retry,
                                                     std::optional<std::chrono::milliseconds> asked,
                                                     double random);

/// Retry-After (RFC 9110 section 10.2.3): seconds, or a date. A date is compared with the answer's own
/// `Date` when it has one, so that clocks need not agree; else with `now`. nullopt when unreadable;
/// past dates are zero.
std::optional<std::chrono::milliseconds> retry_after(std::string_view value, std::string_view date,
                                                     std::chrono::system_clock::time_point now);

}  // namespace http
