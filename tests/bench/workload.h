#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "endpoint.h"

namespace bench {

/// Latencies of one measurement.
class Latencies {
 public:
  void add(std::chrono::nanoseconds took) { samples_.push_back(took.count()); }
  std::size_t count() const { return samples_.size(); }
  /// `share` in [0, 1]; milliseconds; 0 without samples.
  double percentile_ms(double share);

 private:
  std::vector<std::int64_t> samples_;
  bool sorted_ = false;
};

/// Seconds of CPU (user and system) this process has used so far.
double own_cpu_seconds();

/// Every workload runs against a target of target.h, ends by itself, and throws std::runtime_error as
/// soon as one stream fails or `give_up` passes: a figure of a run with failures would mean nothing.
struct Common {
  Credentials credentials;
  std::chrono::seconds give_up{120};
};

struct BulkResult {
  double seconds = 0;
  std::uint64_t bytes = 0;
  double own_cpu_seconds = 0;
};
enum class Direction { up, down };
/// Moves `bytes` in all over `streams` streams to a sink or from a source. The clock runs from the
/// moment all are open until the last byte is in (down) or acknowledged by the sink (up).
BulkResult bulk(const Common& common, const Endpoint& to, Direction direction, unsigned streams,
                std::uint64_t bytes);

struct RequestsResult {
  double seconds = 0;
  double own_cpu_seconds = 0;
  Latencies latencies;
};
/// Closed loop: each connection sends its next GET when the answer is complete.
RequestsResult http(const Common& common, const Endpoint& to, unsigned connections,
                    std::chrono::milliseconds duration);

/// Callers of one kind: a connection for each token, requests spread over them in turn.
struct Crowd {
  std::string name;
  std::vector<std::string> tokens;
  double per_second = 1;  // of all of them together
};
struct CrowdResult {
  std::string name;
  std::uint64_t sent = 0;
  std::map<unsigned, std::uint64_t> statuses;
  std::uint64_t connections_lost = 0;  // and dialled again
  Latencies latencies;                 // of those answered with 200
};
struct CrowdsResult {
  double seconds = 0;
  double own_cpu_seconds = 0;
  std::vector<CrowdResult> crowds;
};
/// Open loop: requests are due at fixed times, whether or not earlier ones are answered, and a latency runs
/// from when its request was due. A slow answer so counts for all that it holds up (no coordinated omission).
/// Refusals are counted, not failures.
CrowdsResult crowds(const Common& common, const Endpoint& to, const std::vector<Crowd>& kinds,
                    std::chrono::milliseconds duration);

/// Opens a stream, echoes 64 bytes, closes it, `count` times with `parallel` at a time. A latency runs
/// from before the TCP connect to the echo's last byte.
RequestsResult new_streams(const Common& common, const Endpoint& to, unsigned count, unsigned parallel);

struct EchoBesideBulkResult {
  RequestsResult echo;
  double bulk_mib_per_second = 0;
};
/// Echoes 64 bytes on one stream in a closed loop while another stream takes all a source gives. Two
/// threads, so that our own reading does not count as delay.
EchoBesideBulkResult echo_beside_bulk(const Common& common, const Endpoint& echo, const Endpoint& source,
                                      std::chrono::milliseconds duration);

/// Opens `count` streams to an echo target (or connections to an HTTP one), proves each by one round
/// trip, prints {"ready": count}, and holds them until standard input ends or SIGTERM comes.
void idle(const Common& common, const Endpoint& to, unsigned count);

}  // namespace bench
