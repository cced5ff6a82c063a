// bench_bridge: local TCP ports whose connections each become one WebSocket of tunneld's /ws/<service>
// door. It puts a client process in front of tunneld, where chisel, wstunnel and `ssh -L` have one.
//
//   bench_bridge [--token-file FILE] [--ca-file FILE] PORT=ENDPOINT...
//
// prints {"ports": [...]} in the order given once it listens; PORT 0 lets the kernel choose.

#include <csignal>
#include <cstdio>
#include <exception>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "acceptor.h"
#include "arguments.h"
#include "link.h"
#include "open_files.h"

namespace {

using namespace bench;

// What may wait for a slow side before the other is no longer read.
constexpr std::size_t kBacklogLimit = 512 * 1024;

volatile std::sig_atomic_t stop_asked = 0;

/// A local connection and its WebSocket. The end of either ends both, once what was read is written: a
/// raw WebSocket stream has no half-close.
class Pair final : public Link::Owner {
 public:
  Pair(Loop& loop, int local, const Endpoint& to, const std::string& token, TlsClient* tls, bool& any_over)
      : local_(loop, local, *this), remote_(loop, to, token, tls, *this), any_over_(any_over) {
    local_.pause();  // until the WebSocket is open
  }

  bool over() const { return over_; }

  void opened(Link&) override { local_.resume(); }
  void received(Link& from, std::span<const std::byte> bytes) override {
    Link& to = other(from);
    to.send(bytes);
    if (to.backlog() > kBacklogLimit) from.pause();
  }
  void discarded(Link&, std::size_t) override {}
  void drained(Link& link) override {
    if (ending_)
      finish(link);
    else
      other(link).resume();
  }
  void ended(Link& link, const std::string& why) override {
    if (!why.empty() && &link == &remote_) std::fprintf(stderr, "bench_bridge: %s\n", why.c_str());
    if (ending_) {
      over_ = any_over_ = true;
      return;
    }
    ending_ = true;
    Link& rest = other(link);
    if (!rest.is_open() || rest.backlog() == 0)
      finish(rest);
    else
      rest.pause();  // drained() goes on
  }

 private:
  Link& other(Link& link) { return &link == &local_ ? remote_ : local_; }
  void finish(Link& link) {
    link.finish();
    over_ = any_over_ = true;
  }

  Link local_;
  Link remote_;
  bool& any_over_;  // of all pairs: they are swept outside of callbacks
  bool ending_ = false;
  bool over_ = false;
};

int run(int argc, char** argv) {
  Arguments arguments(argc - 1, argv + 1, {"no-resume"});
  const Credentials credentials = arguments.credentials();
  arguments.finish();
  std::signal(SIGTERM, [](int) { stop_asked = 1; });
  std::signal(SIGINT, [](int) { stop_asked = 1; });

  Loop loop;
  TlsClient tls(credentials);
  std::list<Pair> pairs;
  bool any_over = false;
  std::vector<std::unique_ptr<Acceptor>> acceptors;
  std::string ports;
  for (const auto& word : arguments.words()) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("not PORT=ENDPOINT: " + word);
    const Endpoint to = parse_endpoint(word.substr(equals + 1));
    const auto port = static_cast<std::uint16_t>(std::stoul(word.substr(0, equals)));
    acceptors.push_back(std::make_unique<Acceptor>(loop, port, [&, to](int fd) {
      pairs.emplace_back(loop, fd, to, credentials.token, &tls, any_over);
    }));
    ports += (ports.empty() ? "" : ", ") + std::to_string(acceptors.back()->port());
  }
  if (acceptors.empty()) throw std::invalid_argument("usage: bench_bridge [options] PORT=ENDPOINT...");
  std::printf("{\"ports\": [%s]}\n", ports.c_str());
  std::fflush(stdout);
  while (!stop_asked) {
    loop.turn(Clock::now() + std::chrono::seconds(60));
    if (std::exchange(any_over, false)) pairs.remove_if([](const Pair& pair) { return pair.over(); });
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bench::allow_many_open_files();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_bridge: %s\n", error.what());
    return 1;
  }
}
