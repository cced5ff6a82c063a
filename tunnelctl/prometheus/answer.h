#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunnelctl/prometheus/transport.h"

/// What every way to a server does with its answers.
namespace tunnelctl::prometheus {

/// An answer as it came.
struct Raw {
  unsigned status = 0;
  std::string content_type{};
  std::string_view body{};  // not kept
  std::string location{};   // where a redirect leads
  Json* parsed = nullptr;   // the body, where it was read already (null if it is no JSON); moved from
};

/// What went wrong in the server's own words, on one line: {"errorType","error"} of Prometheus, {"message"}
/// or plain text of Loki, whatever a proxy in front says. A web page is called one, and `server`
/// ("Prometheus") is what should have been there.
std::string message_of(const Raw& raw, std::string_view server);

/// The JSON of a good answer. Fails as Transport::get does; `where` ("GET https://host/path") begins the
/// message. Statuses that the way itself explains better (401, 403, 404) are for it to catch before.
Result<Json> read_answer(std::string_view where, const Raw& raw, std::string_view server);

/// The list of names under "data". Fails with unavailable when there is none.
Result<std::vector<std::string>> read_names(const Json& answer);

/// In the message of http::Client's error for an answer above max_body_bytes.
inline constexpr std::string_view kTooLarge = "the answer is larger than";

/// What http::Client said in place of an answer; of one that is too large, with what makes it smaller.
Error without_answer(Error error, std::string_view server);

/// As an address's query, or a form: "a=1&b=x%20y".
std::string encoded(const Parameters& parameters);

/// Servers and proxies take request lines of 8 KiB at least; the rest is room for host and path.
inline constexpr std::size_t kLongestQuery = 6'000;

/// Seconds with three digits behind the point: "1795259964.223".
std::string seconds(std::chrono::milliseconds value);

}  // namespace tunnelctl::prometheus
