#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "agents_players.h"

namespace bench::agents {

struct ChurnPlan {
  std::chrono::seconds duration{60};
  unsigned callers = 20;  // at a time
  unsigned agents = 20;   // at a time, which announce themselves and serve nobody
  std::uint64_t seed = 1;
};

/// What happened. Every byte that comes back is compared with the one that was sent at that place.
struct ChurnTally {
  std::uint64_t callers = 0, agents = 0;  // that came
  std::uint64_t left = 0, vanished = 0;   // in good order; without a word
  std::uint64_t streams = 0, bytes = 0;   // echoed to their end, and how many bytes
  std::uint64_t cuts = 0, resumed = 0;    // of links
  std::uint64_t agent_cuts = 0, agents_back = 0;
  std::uint64_t wrong = 0;    // streams of which a byte was another one, or one was missing or too many
  std::uint64_t broken = 0;   // streams that ended otherwise
  std::uint64_t refused = 0;  // streams that the server would not open
  std::map<std::string, std::uint64_t> faults;  // why not, of everything that failed
};

/// Callers and agents that come, stream, are cut, come back and leave, for that long. Streams go to the
/// services of their member, which echo.
asio::awaitable<ChurnTally> churn(asio::io_context& io, const Settings& settings,
                                  const std::vector<Member>& members, ChurnPlan plan);

}  // namespace bench::agents
