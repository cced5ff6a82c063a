#include "common/http_retry.h"

#include <gtest/gtest.h>

namespace {

using namespace std::chrono_literals;
using http::Repeat;

TEST(HttpRetry, RepeatsWhatTheStatusAllows) {
  EXPECT_EQ(http::repeat_for(429), Repeat::always);
  for (const unsigned status : {502U, 503U, 504U}) EXPECT_EQ(http::repeat_for(status), Repeat::if_safe);
  for (const unsigned status : {200U, 304U, 400U, 412U, 500U, 501U})
    EXPECT_EQ(http::repeat_for(status), Repeat::never) << status;
  EXPECT_EQ(http::repeat_for(429, true), Repeat::always);
  EXPECT_EQ(http::repeat_for(502, true), Repeat::if_safe);
  for (const unsigned status : {503U, 504U}) EXPECT_EQ(http::repeat_for(status, true), Repeat::never);
}

TEST(HttpRetry, DoublesItsPausesUpToTheLongest) {
  const http::Retry retry{.attempts = 9, .first_pause = 100ms, .longest_pause = 1s};
  struct Row {
    unsigned attempt;
    double random;
    std::chrono::milliseconds pause;
  };
  const Row rows[] = {{1, 0.0, 0ms},   {1, 0.5, 50ms},  {2, 0.5, 100ms}, {3, 0.5, 200ms},
                      {4, 0.5, 400ms}, {5, 0.5, 500ms}, {60, 0.5, 500ms}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.attempt);
    EXPECT_EQ(http::pause_after(row.attempt, retry, std::nullopt, row.random), row.pause);
  }
}

TEST(HttpRetry, WaitsAsLongAsTheServerAsksAndALittleMore) {
  const http::Retry retry{.first_pause = 100ms, .longest_retry_after = 5s};
  EXPECT_EQ(http::pause_after(1, retry, 2s, 0.0), 2s);
  EXPECT_EQ(http::pause_after(1, retry, 2s, 0.5), 2050ms);
  EXPECT_EQ(http::pause_after(1, retry, 5s, 0.0), 5s);
  EXPECT_EQ(http::pause_after(1, retry, 6s, 0.0), std::nullopt);
}

TEST(HttpRetry, ReadsRetryAfter) {
  const auto now = std::chrono::system_clock::from_time_t(784111777);  // the RFC's example date
  const char* const later = "Sun, 06 Nov 1994 08:49:47 GMT";
  EXPECT_EQ(http::retry_after("0", "", now), 0ms);
  EXPECT_EQ(http::retry_after("120", "", now), 120s);
  EXPECT_EQ(http::retry_after(later, "", now), 10s);
  EXPECT_EQ(http::retry_after(later, "Sun, 06 Nov 1994 08:49:40 GMT", now), 7s) << "the server's own clock";
  EXPECT_EQ(http::retry_after(later, "", now + 1h), 0s) << "past";
  for (const char* text : {"", "soon", "-1", "1.5"})
    EXPECT_EQ(http::retry_after(text, "", now), std::nullopt) << text;
}

}  // namespace
