#include <optional>
#include <stdexcept>
#include <vector>

#include "answer_reader.h"
#include "client.h"

namespace bench {
namespace {

/// One keep-alive connection with one request under way.
class HttpConnection final : public Link::Owner {
 public:
  HttpConnection(Client& client, const Endpoint& to) : client_(client) {
    request_ = "GET " + to.path + " HTTP/1.1\r\nHost: " + to.host + ":" + std::to_string(to.port) + "\r\n";
    if (!client.token().empty()) request_ += "Authorization: Bearer " + client.token() + "\r\n";
    request_ += "\r\n";
    link_ = client.dial(to, *this);
  }
  bool is_open() const { return link_->is_open(); }
  unsigned answers() const { return answers_; }

  /// `latencies` null: no further request after this one.
  void ask(Latencies* latencies) {
    latencies_ = latencies;
    sent_at_ = Clock::now();
    link_->send(std::as_bytes(std::span(request_)));
  }

  void opened(Link&) override {}
  void received(Link&, std::span<const std::byte> bytes) override {
    std::optional<unsigned> status;
    try {
      status = reader_.take({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    } catch (const std::runtime_error& wrong) {
      return client_.fail(wrong.what());
    }
    if (!status) return;
    if (*status != 200) return client_.fail("answered " + std::to_string(*status));
    ++answers_;
    if (!latencies_) return;
    latencies_->add(Clock::now() - sent_at_);
    ask(latencies_);
  }
  void discarded(Link&, std::size_t) override {}
  void drained(Link&) override {}
  void ended(Link&, const std::string& why) override {
    client_.fail("HTTP connection ended: " + (why.empty() ? "closed by the peer" : why));
  }

 private:
  Client& client_;
  std::string request_;
  std::unique_ptr<Link> link_;
  AnswerReader reader_;
  unsigned answers_ = 0;
  Latencies* latencies_ = nullptr;
  Clock::time_point sent_at_;
};

}  // namespace

RequestsResult http(const Common& common, const Endpoint& to, unsigned connections,
                    std::chrono::milliseconds duration) {
  Client client(common, to.tls);
  RequestsResult result;
  std::vector<std::unique_ptr<HttpConnection>> all;
  for (unsigned i = 0; i < connections; ++i) all.push_back(std::make_unique<HttpConnection>(client, to));
  const auto every = [&all](auto holds) {
    for (auto& one : all)
      if (!holds(*one)) return false;
    return true;
  };
  client.run_until([&] { return every([](auto& one) { return one.is_open(); }); });
  // One answer on each first: opening channels and sessions is another workload.
  for (auto& one : all) one->ask(nullptr);
  client.run_until([&] { return every([](auto& one) { return one.answers() == 1; }); });
  const auto start = Clock::now();
  const double cpu = own_cpu_seconds();
  for (auto& one : all) one->ask(&result.latencies);
  client.run_until([&] { return Clock::now() >= start + duration; }, start + duration);
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  result.own_cpu_seconds = own_cpu_seconds() - cpu;
  return result;
}

}  // namespace bench
