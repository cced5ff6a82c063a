#include <charconv>
#include <csignal>
#include <cstdio>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

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
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (body_left_ == 0) {
      head_.append(text);
      const auto end = head_.find("\r\n\r\n");
      if (end == std::string::npos) return;
      text.remove_prefix(end + 4 - (head_.size() - text.size()));
      if (!read_head(std::string_view(head_).substr(0, end + 2))) return;
      head_.clear();
    }
    if (text.size() > body_left_) return client_.fail("more bytes than the Content-Length of the answer");
    body_left_ -= text.size();
    if (body_left_ > 0) return;
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
  bool read_head(std::string_view head) {
    if (!head.starts_with("HTTP/1.1 200 ")) {
      client_.fail("answered " + std::string(head.substr(0, head.find('\r'))));
      return false;
    }
    for (const std::string_view name : {"\r\nContent-Length: ", "\r\ncontent-length: "}) {
      const auto at = head.find(name);
      if (at == std::string_view::npos) continue;
      const auto value = head.substr(at + name.size());
      std::from_chars(value.data(), value.data() + value.size(), body_left_);
      if (body_left_ > 0) return true;
    }
    client_.fail("an answer without Content-Length, or an empty one");
    return false;
  }

  Client& client_;
  std::string request_;
  std::unique_ptr<Link> link_;
  std::string head_;
  std::size_t body_left_ = 0;
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
