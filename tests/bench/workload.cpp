#include "workload.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <thread>

#include <sys/resource.h>
#include <unistd.h>

#include "client.h"

namespace bench {
namespace {

constexpr std::size_t kEchoSize = 64;

std::array<std::byte, 8> as_count(std::uint64_t value) {
  std::array<std::byte, 8> bytes;
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(value >> (56 - 8 * i));
  return bytes;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Stream : public Link::Owner {
 public:
  Stream(Client& client, const Endpoint& to) : client_(client), link_(client.dial(to, *this)) {}
  virtual ~Stream() = default;
  bool is_open() const { return link_->is_open(); }
  void opened(Link&) override {}
  void received(Link&, std::span<const std::byte>) override {}
  void discarded(Link&, std::size_t) override {}
  void drained(Link&) override {}
  void ended(Link&, const std::string& why) override { client_.fail(why); }

 protected:
  Client& client_;
  std::unique_ptr<Link> link_;
};

class Download final : public Stream {
 public:
  using Stream::Stream;
  void start(std::uint64_t bytes) {
    left_ = bytes;
    link_->discard_input();
    link_->send(as_count(bytes));
  }
  bool done() const { return left_ == 0; }
  std::uint64_t left() const { return left_; }
  void discarded(Link&, std::size_t count) override {
    if (count > left_) return client_.fail("the source sent more than was asked for");
    left_ -= count;
  }

 private:
  std::uint64_t left_ = 0;
};

class Upload final : public Stream {
 public:
  using Stream::Stream;
  void start(std::uint64_t bytes) {
    left_ = bytes;
    link_->send(as_count(bytes));
    drained(*link_);
  }
  bool done() const { return answered_ == 8; }
  void drained(Link& link) override {
    static const std::vector<std::byte> chunk(4 * kFramePayload, std::byte{0x5a});
    for (int burst = 0; left_ > 0 && link.backlog() == 0 && burst < 4; ++burst) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left_, chunk.size()));
      left_ -= part;
      link.send(std::span(chunk).first(part));
    }
    if (left_ > 0 && link.backlog() == 0) link.call_when_writable();
  }
  void received(Link&, std::span<const std::byte> bytes) override {
    answered_ += bytes.size();
    if (left_ > 0 || answered_ > 8) client_.fail("the sink answered too early or too much");
  }

 private:
  std::uint64_t left_ = 0;
  std::size_t answered_ = 0;
};

template <class Kind>
BulkResult move_bulk(Client& client, const Endpoint& to, unsigned streams, std::uint64_t bytes) {
  std::vector<std::unique_ptr<Kind>> all;
  for (unsigned i = 0; i < streams; ++i) all.push_back(std::make_unique<Kind>(client, to));
  client.run_until(
      [&] { return std::all_of(all.begin(), all.end(), [](auto& one) { return one->is_open(); }); });
  const auto start = Clock::now();
  const double cpu = own_cpu_seconds();
  for (auto& one : all) one->start(bytes / streams);
  client.run_until(
      [&] { return std::all_of(all.begin(), all.end(), [](auto& one) { return one->done(); }); });
  return {seconds_since(start), bytes / streams * streams, own_cpu_seconds() - cpu};
}

/// Echoes on one stream for ever.
class Echoes final : public Stream {
 public:
  Echoes(Client& client, const Endpoint& to, Latencies* latencies)
      : Stream(client, to), latencies_(latencies) {}
  void opened(Link&) override { ping(); }
  void received(Link&, std::span<const std::byte> bytes) override {
    back_ += bytes.size();
    if (back_ < kEchoSize) return;
    ++trips_;
    if (!latencies_) return;
    latencies_->add(Clock::now() - sent_at_);
    ping();
  }
  unsigned trips() const { return trips_; }

 private:
  void ping() {
    static const std::array<std::byte, kEchoSize> bytes{};
    back_ = 0;
    sent_at_ = Clock::now();
    link_->send(bytes);
  }
  Latencies* latencies_;  // null: one round trip only
  Clock::time_point sent_at_;
  std::size_t back_ = 0;
  unsigned trips_ = 0;
};

/// One place of the new-stream workload: opens its next stream when the last is closed.
class Opener final : public Link::Owner {
 public:
  Opener(Client& client, const Endpoint& to, Latencies& latencies, unsigned& left)
      : client_(client), to_(to), latencies_(latencies), left_(left) {}

  /// Outside of callbacks: may drop the old link.
  void turn() {
    if (link_ && !over_) return;
    link_.reset();
    if (left_ == 0) return;
    --left_;
    over_ = false;
    back_ = 0;
    started_ = Clock::now();
    link_ = client_.dial(to_, *this);
  }
  bool idle() const { return !link_ && left_ == 0; }

  void opened(Link& link) override {
    static const std::array<std::byte, kEchoSize> bytes{};
    link.send(bytes);
  }
  void received(Link& link, std::span<const std::byte> bytes) override {
    back_ += bytes.size();
    if (back_ < kEchoSize) return;
    latencies_.add(Clock::now() - started_);
    link.finish();
    link.close();
    over_ = true;
  }
  void discarded(Link&, std::size_t) override {}
  void drained(Link&) override {}
  void ended(Link&, const std::string& why) override { client_.fail(why); }

 private:
  Client& client_;
  Endpoint to_;
  Latencies& latencies_;
  unsigned& left_;
  std::unique_ptr<Link> link_;
  Clock::time_point started_;
  std::size_t back_ = 0;
  bool over_ = false;
};

}  // namespace

double Latencies::percentile_ms(double share) {
  if (samples_.empty()) return 0;
  if (!sorted_) std::sort(samples_.begin(), samples_.end());
  sorted_ = true;
  const auto index = static_cast<std::size_t>(std::ceil(share * static_cast<double>(samples_.size())));
  return static_cast<double>(samples_[std::clamp<std::size_t>(index, 1, samples_.size()) - 1]) / 1e6;
}

double own_cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

BulkResult bulk(const Common& common, const Endpoint& to, Direction direction, unsigned streams,
                std::uint64_t bytes) {
  Client client(common, to.tls);
  return direction == Direction::down ? move_bulk<Download>(client, to, streams, bytes)
                                      : move_bulk<Upload>(client, to, streams, bytes);
}

RequestsResult new_streams(const Common& common, const Endpoint& to, unsigned count, unsigned parallel) {
  Client client(common, to.tls);
  RequestsResult result;
  unsigned left = count;
  std::vector<std::unique_ptr<Opener>> openers;
  for (unsigned i = 0; i < parallel; ++i)
    openers.push_back(std::make_unique<Opener>(client, to, result.latencies, left));
  const auto start = Clock::now();
  const double cpu = own_cpu_seconds();
  client.run_until([&] {
    bool idle = true;
    for (auto& opener : openers) {
      opener->turn();
      idle = idle && opener->idle();
    }
    return idle;
  });
  result.seconds = seconds_since(start);
  result.own_cpu_seconds = own_cpu_seconds() - cpu;
  return result;
}

EchoBesideBulkResult echo_beside_bulk(const Common& common, const Endpoint& echo, const Endpoint& source,
                                      std::chrono::milliseconds duration) {
  std::atomic<bool> flowing{false};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> moved{0};
  std::exception_ptr bulk_failure;
  std::thread bulk_thread([&] {
    try {
      Client client(common, source.tls);
      Download download(client, source);
      client.run_until([&] { return download.is_open(); });
      constexpr std::uint64_t kEndless = std::uint64_t{1} << 60;
      download.start(kEndless);
      client.run_until([&] {
        moved = kEndless - download.left();
        flowing = moved > 0;
        return stop.load();
      });
    } catch (...) {
      bulk_failure = std::current_exception();
      flowing = true;
    }
  });
  EchoBesideBulkResult result;
  std::exception_ptr echo_failure;
  try {
    Client client(common, echo.tls);
    while (!flowing) std::this_thread::yield();
    Echoes echoes(client, echo, &result.echo.latencies);
    client.run_until([&] { return echoes.trips() > 0; });
    result.echo.latencies = {};
    const auto start = Clock::now();
    const std::uint64_t before = moved;
    const double cpu = own_cpu_seconds();
    client.run_until([&] { return Clock::now() >= start + duration; }, start + duration);
    result.echo.seconds = seconds_since(start);
    result.echo.own_cpu_seconds = own_cpu_seconds() - cpu;
    result.bulk_mib_per_second = static_cast<double>(moved - before) / 1024 / 1024 / result.echo.seconds;
  } catch (...) {
    echo_failure = std::current_exception();
  }
  stop = true;
  bulk_thread.join();
  if (echo_failure) std::rethrow_exception(echo_failure);
  if (bulk_failure) std::rethrow_exception(bulk_failure);
  return result;
}

}  // namespace bench
