#include <array>
#include <csignal>
#include <cstdio>
#include <utility>
#include <vector>

#include <poll.h>

#include "client.h"

namespace bench {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

/// A stream that did one round trip and then stays silent.
class Held final : public Link::Owner {
 public:
  Held(Client& client, const Endpoint& to) : client_(client) {
    if (to.kind == Endpoint::Kind::http) {
      question_ = "GET " + to.path + " HTTP/1.1\r\nHost: " + to.host + "\r\n";
      if (!client.token().empty()) question_ += "Authorization: Bearer " + client.token() + "\r\n";
      question_ += "\r\n";
    } else {
      question_.assign(64, 'e');
    }
    link_ = client.dial(to, *this);
  }
  bool proven() const { return back_ >= 64; }

  void opened(Link& link) override { link.send(std::as_bytes(std::span(question_))); }
  void received(Link&, std::span<const std::byte> bytes) override {
    if (back_ == 0 && question_.starts_with("GET ") &&
        !std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())
             .starts_with("HTTP/1.1 200"))
      client_.fail("the first answer is not a 200");
    back_ += bytes.size();
    if (proven()) question_ = {};
  }
  void discarded(Link&, std::size_t) override {}
  void drained(Link&) override {}
  void ended(Link&, const std::string& why) override { client_.fail("idle stream ended: " + why); }

 private:
  Client& client_;
  std::string question_;
  std::size_t back_ = 0;
  std::unique_ptr<Link> link_;
};

bool input_ended() {
  pollfd input{0, POLLIN, 0};
  if (::poll(&input, 1, 0) <= 0) return false;
  return std::fgetc(stdin) == EOF;
}

}  // namespace

void idle(const Common& common, const Endpoint& to, unsigned count) {
  std::signal(SIGTERM, [](int) { stop_asked = 1; });
  Client client(common, to.tls);
  // Paced: sshd drops handshakes beyond MaxStartups, and this is no test of that.
  constexpr unsigned kOpeningAtOnce = 16;
  std::vector<std::unique_ptr<Held>> all;
  while (all.size() < count) {
    const std::size_t first = all.size();
    for (unsigned i = 0; i < kOpeningAtOnce && all.size() < count; ++i)
      all.push_back(std::make_unique<Held>(client, to));
    client.run_until([&] {
      for (std::size_t i = first; i < all.size(); ++i)
        if (!all[i]->proven()) return false;
      return true;
    });
  }
  std::printf("{\"ready\": %u}\n", count);
  std::fflush(stdout);
  const auto tick = [] { return Clock::now() + std::chrono::milliseconds(100); };
  while (!stop_asked && !input_ended()) {
    bool turned = false;
    client.run_until([&] { return std::exchange(turned, true); }, tick());
  }
}

}  // namespace bench
