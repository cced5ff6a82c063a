#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "answer_reader.h"
#include "client.h"

namespace bench {
namespace {

/// One user's connection. Requests that are due while one is under way wait here; a connection that the
/// server ends is dialled again.
class Caller final : public Link::Owner {
 public:
  Caller(Client& client, const Endpoint& to, const std::string& token, CrowdResult& result)
      : client_(client), to_(to), result_(result) {
    request_ = "GET " + to.path + " HTTP/1.1\r\nHost: " + to.host + "\r\nAuthorization: Bearer " + token +
               "\r\n\r\n";
    link_ = client_.dial(to_, *this);
  }

  bool proven() const { return answers_ > 0; }
  bool idle() const { return due_.empty(); }
  /// Once and uncounted: opening sessions and channels is another workload.
  void prove() {
    counted_ = false;
    request(Clock::now());
  }
  void count() { counted_ = true; }

  void request(Clock::time_point due) {
    due_.push_back(due);
    if (due_.size() == 1) send();
  }
  /// Outside of every callback: replaces a connection that has ended.
  void mend() {
    if (!ended_) return;
    ended_ = false;
    reader_ = {};
    link_ = client_.dial(to_, *this);
    if (counted_) ++result_.connections_lost;
    if (!due_.empty()) send();
  }

  void opened(Link&) override {
    if (!due_.empty()) send();
  }
  void received(Link&, std::span<const std::byte> bytes) override {
    std::optional<unsigned> status;
    try {
      status = reader_.take({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    } catch (const std::runtime_error& wrong) {
      return client_.fail(wrong.what());
    }
    if (!status) return;
    if (due_.empty()) return client_.fail("an answer that nobody asked for");
    const auto due = due_.front();
    due_.pop_front();
    ++answers_;
    if (counted_) {
      ++result_.statuses[*status];
      if (*status == 200) result_.latencies.add(Clock::now() - due);
    }
    if (!due_.empty()) send();
  }
  void discarded(Link&, std::size_t) override {}
  void drained(Link&) override {}
  void ended(Link&, const std::string&) override { ended_ = true; }

 private:
  void send() {
    if (ended_ || !link_->is_open()) return;  // opened() does
    if (counted_) ++result_.sent;
    link_->send(std::as_bytes(std::span(request_)));
  }

  Client& client_;
  const Endpoint& to_;
  CrowdResult& result_;
  std::string request_;
  std::unique_ptr<Link> link_;
  AnswerReader reader_;
  std::deque<Clock::time_point> due_;  // the first one is under way
  unsigned answers_ = 0;
  bool counted_ = false;
  bool ended_ = false;
};

struct Kind {
  std::vector<std::unique_ptr<Caller>> callers;
  std::chrono::duration<double> pause{};  // between two requests
  std::uint64_t begun = 0;

  Clock::time_point next_due(Clock::time_point start) const {
    return start + std::chrono::duration_cast<Clock::duration>(pause * static_cast<double>(begun));
  }
};

template <class Callers, class Holds>
bool every(const Callers& callers, Holds holds) {
  for (const auto& one : callers)
    if (!holds(*one)) return false;
  return true;
}

/// Opens its connections a few at a time: sshd drops handshakes beyond MaxStartups, and this is no test of
/// it.
void open_callers(Client& client, const Endpoint& to, const Crowd& crowd, CrowdResult& result, Kind& kind) {
  constexpr std::size_t kAtOnce = 16;
  for (std::size_t at = 0; at < crowd.tokens.size();) {
    const auto first = at;
    for (; at < crowd.tokens.size() && at - first < kAtOnce; ++at) {
      kind.callers.push_back(std::make_unique<Caller>(client, to, crowd.tokens[at], result));
      kind.callers.back()->prove();
    }
    client.run_until([&] {
      for (auto& one : kind.callers) one->mend();
      return every(kind.callers, [](auto& one) { return one.proven(); });
    });
  }
  for (auto& one : kind.callers) one->count();
}

}  // namespace

CrowdsResult crowds(const Common& common, const Endpoint& to, const std::vector<Crowd>& kinds,
                    std::chrono::milliseconds duration) {
  Client client(common, to.tls);
  CrowdsResult result;
  result.crowds.resize(kinds.size());
  std::vector<Kind> all(kinds.size());
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    result.crowds[i].name = kinds[i].name;
    all[i].pause = std::chrono::duration<double>(1 / kinds[i].per_second);
    open_callers(client, to, kinds[i], result.crowds[i], all[i]);
  }

  const auto start = Clock::now();
  const auto end = start + duration;
  const double cpu = own_cpu_seconds();
  for (auto now = start; now < end; now = Clock::now()) {
    auto wake = end;
    for (auto& kind : all) {
      for (auto& one : kind.callers) one->mend();
      for (auto due = kind.next_due(start); due <= now; due = kind.next_due(start))
        kind.callers[kind.begun++ % kind.callers.size()]->request(due);
      wake = std::min(wake, kind.next_due(start));
    }
    bool turned = false;
    client.run_until([&] { return std::exchange(turned, true); }, wake);
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  result.own_cpu_seconds = own_cpu_seconds() - cpu;
  return result;
}

}  // namespace bench
