#include "target.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "acceptor.h"
#include "link.h"

namespace bench {
namespace {

constexpr std::size_t kChunk = 256 * 1024;

std::span<const std::byte> filler() {
  static const std::vector<std::byte> bytes = [] {
    std::vector<std::byte> fresh(kChunk);
    std::uint32_t state = 1;
    for (auto& byte : fresh) byte = static_cast<std::byte>((state = state * 1664525 + 1013904223) >> 24);
    return fresh;
  }();
  return bytes;
}

/// Collects the 8-byte counts that sink and source read.
class Count {
 public:
  /// Takes from `bytes`; true once a whole count is there.
  bool feed(std::span<const std::byte>& bytes) {
    while (have_ < 8 && !bytes.empty()) {
      value_ = value_ << 8 | std::to_integer<std::uint64_t>(bytes.front());
      bytes = bytes.subspan(1);
      ++have_;
    }
    return have_ == 8;
  }
  std::uint64_t take() {
    have_ = 0;
    return value_;
  }

 private:
  std::uint64_t value_ = 0;
  int have_ = 0;
};

class Service : public Link::Owner {
 public:
  Service(Loop& loop, int fd, std::function<void(Service&)> gone)
      : link_(std::make_unique<Link>(loop, fd, *this)), gone_(std::move(gone)) {}
  virtual ~Service() = default;
  void opened(Link&) override {}
  void discarded(Link&, std::size_t) override {}
  void drained(Link&) override {}
  void ended(Link&, const std::string&) override { gone_(*this); }

 protected:
  std::unique_ptr<Link> link_;

 private:
  std::function<void(Service&)> gone_;
};

class Sink final : public Service {
 public:
  using Service::Service;
  void received(Link& link, std::span<const std::byte> bytes) override {
    if (!count_.feed(bytes)) return;
    asked_ = left_ = count_.take();
    link.discard_input();
    discarded(link, bytes.size());
  }
  void discarded(Link& link, std::size_t count) override {
    if (left_ == 0) return;
    left_ -= std::min<std::uint64_t>(left_, count);
    if (left_ > 0) return;
    std::array<std::byte, 8> answer;
    for (std::size_t i = 0; i < 8; ++i) answer[i] = static_cast<std::byte>(asked_ >> (56 - 8 * i));
    link.send(answer);
  }

 private:
  Count count_;
  std::uint64_t asked_ = 0;
  std::uint64_t left_ = 0;
};

class Source final : public Service {
 public:
  using Service::Service;
  void received(Link& link, std::span<const std::byte> bytes) override {
    if (!count_.feed(bytes)) return;
    left_ += count_.take();
    drained(link);
  }
  void drained(Link& link) override {
    // Bounded, so that one connection with a fast reader does not starve the others.
    for (int burst = 0; left_ > 0 && link.backlog() == 0 && burst < 4; ++burst) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left_, kChunk));
      left_ -= part;
      link.send(filler().first(part));
    }
    if (left_ > 0 && link.backlog() == 0) link.call_when_writable();
  }

 private:
  Count count_;
  std::uint64_t left_ = 0;
};

class Echo final : public Service {
 public:
  using Service::Service;
  void received(Link& link, std::span<const std::byte> bytes) override {
    link.send(bytes);
    if (link.backlog() > 1024 * 1024) link.pause();
  }
  void drained(Link& link) override { link.resume(); }
};

class Http final : public Service {
 public:
  using Service::Service;
  void received(Link& link, std::span<const std::byte> bytes) override {
    static const std::string answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1024\r\n\r\n" +
        std::string(1024, 'x');
    // Requests have no body; a head is over with its first empty line, wherever the cuts are.
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::string joined;
    if (!begun_.empty()) text = joined = begun_ + std::string(text);
    for (;;) {
      const auto end = text.find("\r\n\r\n");
      if (end == std::string_view::npos) break;
      link.send(std::as_bytes(std::span(answer)));
      text.remove_prefix(end + 4);
    }
    begun_ = text;
    if (begun_.size() > 65536) link.finish();
  }

 private:
  std::string begun_;
};

volatile std::sig_atomic_t stop_asked = 0;

/// All connections to one port.
template <class Kind>
class Port {
 public:
  Port(Loop& loop, std::uint16_t port, Reach reach)
      : loop_(loop),
        acceptor_(
            loop, port, [this](int fd) { add(fd); }, reach) {}
  std::uint16_t port() const { return acceptor_.port(); }
  void sweep() { gone_.clear(); }

 private:
  void add(int fd) {
    auto service = std::make_unique<Kind>(loop_, fd, [this](Service& ended) {
      const auto found = services_.find(&ended);
      gone_.push_back(std::move(found->second));
      services_.erase(found);
    });
    Service* key = service.get();
    services_.emplace(key, std::move(service));
  }

  Loop& loop_;
  std::unordered_map<Service*, std::unique_ptr<Service>> services_;
  std::vector<std::unique_ptr<Service>> gone_;  // destroyed outside their own calls
  Acceptor acceptor_;
};

}  // namespace

void serve_target(TargetPorts ports) {
  std::signal(SIGTERM, [](int) { stop_asked = 1; });
  std::signal(SIGINT, [](int) { stop_asked = 1; });
  Loop loop;
  Port<Sink> sink(loop, ports.sink, ports.reach);
  Port<Source> source(loop, ports.source, ports.reach);
  Port<Echo> echo(loop, ports.echo, ports.reach);
  Port<Http> http(loop, ports.http, ports.reach);
  std::printf("{\"sink\": %u, \"source\": %u, \"echo\": %u, \"http\": %u}\n", sink.port(), source.port(),
              echo.port(), http.port());
  std::fflush(stdout);
  while (!stop_asked) {
    loop.turn(Clock::now() + std::chrono::seconds(60));
    sink.sweep();
    source.sweep();
    echo.sweep();
    http.sweep();
  }
}

}  // namespace bench
