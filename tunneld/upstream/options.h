#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tunneld/ssh/host_keys.h"
#include "tunneld/ssh/options.h"

namespace tunneld::upstream {

/// An sshd that tunneld dials.
struct DialledUpstream {
  ssh::Endpoint endpoint;
  ssh::HostKeyPolicy host_keys;
  /// The private key to log in with; empty for tunneld's own.
  std::string identity_file;
};

struct Options {
  std::vector<DialledUpstream> upstreams;
  ssh::Options ssh;
  /// SSH sessions per principal, upstream and worker thread. Beyond them a stream waits for a channel.
  /// More sessions than needed cost batching: 10 sessions were measured at two thirds of one's rate.
  std::size_t max_sessions = 8;
  /// Sessions of one thread over all principals: what an idle session costs is 90 KiB here and a
  /// process at the far side.
  std::size_t max_sessions_total = 512;
  /// Handshakes with one upstream under way per thread: sshd's MaxStartups drops beyond 10 in all.
  std::size_t max_handshakes = 4;
  /// How long requests wait for an upstream that cannot be reached, for it may be restarting: it is tried
  /// again while somebody waits. 0: they fail with the first try.
  std::chrono::milliseconds upstream_wait{2000};
  /// An SSH session through an agent is dead when its keepalives go unanswered for that long. More than a
  /// link may be cut before it is over: it dies with its link, not with a cut.
  std::chrono::milliseconds agent_silence{180'000};
  /// A session without channels is closed after this.
  std::chrono::milliseconds session_idle{300000};
  /// Called on the dialer's thread, once per change: `lost` with the first connect that fails after good
  /// ones or at the start, not lost with the first good one after that. `why` is the failure, or empty.
  /// Not for agents, whose registry tells of them.
  std::function<void(std::string_view upstream, bool lost, std::string_view why)> on_upstream{};
};

}  // namespace tunneld::upstream
