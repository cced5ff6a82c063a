#include "common/http_retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <string>

namespace http {

using std::chrono::milliseconds;

Repeat repeat_for(unsigned status, bool heavy) {
  if (status == 429) return Repeat::always;
  if (status == 502) return Repeat::if_safe;
  if (status == 503 || status == 504) return heavy ? Repeat::never : Repeat::if_safe;
  return Repeat::never;
}

std::optional<milliseconds> pause_after(unsigned attempt, const Retry& retry,
                                        std::optional<milliseconds> asked, double random) {
  if (asked) {
    if (*asked > retry.longest_retry_after) return std::nullopt;
    const auto spread = static_cast<double>(retry.first_pause.count()) * random;
    return *asked + milliseconds(static_cast<milliseconds::rep>(spread));
  }
  const unsigned doublings = std::min(attempt > 0 ? attempt - 1 : 0U, 30U);
  const double grown = static_cast<double>(retry.first_pause.count()) * static_cast<double>(1U << doublings);
  const double most = std::min(grown, static_cast<double>(retry.longest_pause.count()));
  return milliseconds(static_cast<milliseconds::rep>(most * random));
}

std::optional<milliseconds> retry_after(std::string_view value, std::string_view date,
                                        std::chrono::system_clock::time_point now) {
  unsigned seconds = 0;
  const char* const end = value.data() + value.size();
  const auto [last, wrong] = std::from_chars(value.data(), end, seconds);
  if (wrong == std::errc() && last == end) return std::chrono::seconds(seconds);
  const std::time_t until = ::curl_getdate(std::string(value).c_str(), nullptr);
  if (until == -1) return std::nullopt;
  std::time_t from = date.empty() ? -1 : ::curl_getdate(std::string(date).c_str(), nullptr);
  if (from == -1) from = std::chrono::system_clock::to_time_t(now);
  return std::chrono::seconds(std::max<std::time_t>(until - from, 0));
}

}  // namespace http
