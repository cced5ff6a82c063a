#include "edge/dial.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>

#include <netdb.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "edge/transport.h"

namespace edge {

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kStagger = std::chrono::milliseconds(250);

asio::awaitable<bool> is_cancelled() {
  const auto state = co_await asio::this_coro::cancellation_state;
  co_return state.cancelled() != asio::cancellation_type::none;
}

/// Shared with the thread that asks; the answer may come when nobody wants it any more.
struct Question {
  std::mutex mutex;
  asio::any_io_executor executor;
  std::optional<std::weak_ptr<asio::steady_timer>> waiter;  // while executor's context surely exists
  bool answered = false;
  int failure = 0;  // getaddrinfo's
  std::vector<tcp::endpoint> found;
};

void ask(const std::string& host, std::uint16_t port, Question& question) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int failure = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  std::vector<tcp::endpoint> found;
  for (const auto* each = failure == 0 ? list : nullptr; each != nullptr; each = each->ai_next) {
    tcp::endpoint endpoint;
    if (each->ai_addrlen > endpoint.capacity()) continue;
    std::copy_n(reinterpret_cast<const char*>(each->ai_addr), each->ai_addrlen,
                reinterpret_cast<char*>(endpoint.data()));
    endpoint.resize(each->ai_addrlen);
    endpoint.port(port);
    found.push_back(endpoint);
  }
  if (failure == 0) ::freeaddrinfo(list);

  const std::lock_guard lock(question.mutex);
  question.answered = true;
  question.failure = failure;
  question.found = std::move(found);
  if (!question.waiter) return;
  asio::post(question.executor, [waiter = *question.waiter] {
    if (const auto timer = waiter.lock()) timer->cancel();
  });
}

/// While it lives, the answer wakes the timer.
class Waiting {
 public:
  Waiting(Question& question, const std::shared_ptr<asio::steady_timer>& timer) : question_(question) {
    const std::lock_guard lock(question_.mutex);
    question_.waiter = timer;
  }
  ~Waiting() {
    const std::lock_guard lock(question_.mutex);
    question_.waiter.reset();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  Question& question_;
};

bool is_answered(Question& question) {
  const std::lock_guard lock(question.mutex);
  return question.answered;
}

/// The first address's family first, then by turns.
std::vector<tcp::endpoint> by_turns(const std::vector<tcp::endpoint>& found) {
  std::vector<tcp::endpoint> first;
  std::vector<tcp::endpoint> second;
  for (const auto& each : found)
    (each.protocol() == found.front().protocol() ? first : second).push_back(each);
  std::vector<tcp::endpoint> mixed;
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) mixed.push_back(first[i]);
    if (i < second.size()) mixed.push_back(second[i]);
  }
  return mixed;
}

/// The connections being tried. Shared with their handlers, which may run after the race is over.
struct Race {
  explicit Race(asio::io_context& context) : io(context), changed(context) {}
  asio::io_context& io;
  asio::steady_timer changed;
  std::vector<std::unique_ptr<tcp::socket>> sockets;
  std::size_t running = 0;
  std::optional<std::size_t> winner;
  std::string failures;
  bool refused = false;
  bool timed_out = false;

  static void start(const std::shared_ptr<Race>& race, const tcp::endpoint& to) {
    const auto number = race->sockets.size();
    race->sockets.push_back(std::make_unique<tcp::socket>(race->io));
    ++race->running;
    race->sockets.back()->async_connect(to, [race, number, to](boost::system::error_code error) {
      --race->running;
      if (error)
        race->note(to, error);
      else if (!race->winner)
        race->winner = number;
      race->changed.cancel();
    });
  }
  void note(const tcp::endpoint& of, boost::system::error_code error) {
    refused = refused || error == asio::error::connection_refused;
    timed_out = timed_out || error == asio::error::timed_out;
    failures.append(failures.empty() ? "" : "; ").append(to_text(of)).append(": ").append(error.message());
  }
};

class Finish {
 public:
  explicit Finish(Race& race) : race_(race) {}
  ~Finish() {
    boost::system::error_code ignored;
    for (auto& socket : race_.sockets)
      if (socket) socket->close(ignored);
  }
  Finish(const Finish&) = delete;
  Finish& operator=(const Finish&) = delete;

 private:
  Race& race_;
};

}  // namespace

asio::awaitable<Result<std::vector<tcp::endpoint>>> look_up(std::string host, std::uint16_t port,
                                                            Clock::time_point deadline) {
  boost::system::error_code no_address;
  const auto address = asio::ip::make_address(host, no_address);
  if (!no_address) co_return std::vector<tcp::endpoint>{tcp::endpoint(address, port)};

  const auto question = std::make_shared<Question>();
  question->executor = co_await asio::this_coro::executor;
  const auto timer = std::make_shared<asio::steady_timer>(question->executor, deadline);
  const Waiting waiting(*question, timer);
  try {
    std::thread([question, host, port] { ask(host, port, *question); }).detach();
  } catch (const std::system_error& error) {
    co_return fail(Error::Kind::unavailable, std::string("no thread for the look-up: ") + error.what());
  }
  while (!is_answered(*question)) {
    if (Clock::now() >= deadline) co_return fail(Error::Kind::timed_out, "the name servers did not answer");
    co_await timer->async_wait(kAwait);
    const bool cancelled = co_await is_cancelled();
    if (cancelled) co_return fail(Error::Kind::cancelled, "cancelled");
  }
  if (question->failure != 0) {
    const bool temporary = question->failure == EAI_AGAIN;
    co_return fail(temporary ? Error::Kind::unavailable : Error::Kind::not_found,
                   ::gai_strerror(question->failure));
  }
  if (question->found.empty()) co_return fail(Error::Kind::not_found, "the name has no address");
  co_return by_turns(question->found);
}

asio::awaitable<tl::expected<tcp::socket, Unreached>> connect_any(asio::io_context& io,
                                                                  std::vector<tcp::endpoint> endpoints,
                                                                  Clock::time_point deadline) {
  const auto race = std::make_shared<Race>(io);
  const Finish finish(*race);
  auto next_start = Clock::now();
  while (!race->winner) {
    const auto now = Clock::now();
    const bool more = race->sockets.size() < endpoints.size();
    if (now >= deadline) {
      co_return tl::unexpected(Unreached{"timed_out", race->failures.empty() ? "no answer" : race->failures});
    }
    if (more && (race->running == 0 || now >= next_start)) {
      Race::start(race, endpoints[race->sockets.size()]);
      next_start = now + kStagger;
      continue;
    }
    if (race->running == 0) {
      const char* cause = race->refused ? "refused" : race->timed_out ? "timed_out" : "unreachable";
      co_return tl::unexpected(Unreached{cause, race->failures});
    }
    race->changed.expires_at(more ? std::min(deadline, next_start) : deadline);
    co_await race->changed.async_wait(kAwait);
    const bool cancelled = co_await is_cancelled();
    if (cancelled) co_return tl::unexpected(Unreached{"cancelled", "cancelled"});
  }
  auto socket = std::move(*race->sockets[*race->winner]);
  co_return tl::expected<tcp::socket, Unreached>(std::move(socket));
}

}  // namespace edge
