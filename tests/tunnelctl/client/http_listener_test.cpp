#include "tunnelctl/client/http_listener.h"

#include <deque>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/memory_exchange.h"
#include "tests/support/memory_stream.h"
#include "tests/tunnelctl/client/temporary_folder.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using support::MemoryExchange;
using support::MemoryStream;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kOk = "{\"ok\":true}\n";
constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfine\n";

/// A tunnel and what is behind it: streams whose other ends a test holds in its hands.
class Far {
 public:
  explicit Far(asio::io_context& io) : io_(io) {}

  struct Asked {
    std::string service;
    tunnel::Priority priority;
    std::unique_ptr<MemoryStream> end;  // the server's
    std::string heard{};
  };

  StreamSource source() {
    return {.open = [this](std::string service, tunnel::Priority priority,
                           Clock::time_point) { return open(std::move(service), priority); },
            .connected = [this] { return connected; }};
  }

  bool connected = true;
  unsigned gives_none = 0;  // of the next ones
  std::deque<Asked> asked;  // in order
  std::shared_ptr<std::size_t> streams = std::make_shared<std::size_t>(0);

 private:
  asio::awaitable<StreamSource::Opened> open(std::string service, tunnel::Priority priority) {
    if (!connected || gives_none > 0) {
      if (gives_none > 0) --gives_none;
      co_return tunnel::refuse(tunnel::Code::unavailable, "no stream");
    }
    auto [ours, theirs] = support::memory_streams(io_.get_executor());
    asked.push_back({std::move(service), priority, std::move(theirs)});
    co_return std::make_unique<ServiceStream>(std::move(ours), streams);
  }

  asio::io_context& io_;
};

/// A request that is being served.
struct Call {
  Call(const asio::any_io_executor& executor, const std::string& head, std::vector<std::string> body)
      : exchange(executor, head, std::move(body)) {}
  MemoryExchange exchange;
  asio::cancellation_signal cancel;
  bool done = false;

  unsigned status() const { return exchange.head ? exchange.head->status : 0; }
  std::string code() const {
    const auto json = nlohmann::json::parse(exchange.answer, nullptr, false);
    return json.is_object() ? json["error"]["code"].get<std::string>() : "none";
  }
};

class HttpListenersTest : public testing::Test {
 protected:
  void make(HttpOptions options = {}) {
    listeners = std::make_unique<HttpListeners>(io, far.source(), options,
                                                [this](std::string_view line) { told.emplace_back(line); });
  }
  void SetUp() override { make(); }
  void TearDown() override {
    listeners->stop_accepting();
    listeners->refuse_rest();
    for (auto& call : calls) {
      call->exchange.abort();
      call->cancel.emit(asio::cancellation_type::terminal);
    }
    EXPECT_TRUE(until([&] { return listeners->active() == 0; }));
  }

  Call& ask(const std::string& method, const std::string& path, const std::string& fields = {},
            std::optional<std::string> body = {}) {
    auto head = method + " " + path + " HTTP/1.1\r\nHost: here:8080\r\n" + fields;
    if (body) head += "Content-Length: " + std::to_string(body->size()) + "\r\n";
    std::vector<std::string> pieces;
    if (body && !body->empty()) pieces.push_back(*body);
    calls.push_back(std::make_unique<Call>(io.get_executor(), head + "\r\n", std::move(pieces)));
    auto& call = *calls.back();
    asio::co_spawn(io, listeners->handler_for("web").handle(call.exchange),
                   asio::bind_cancellation_slot(call.cancel.slot(), [&call](const std::exception_ptr& error) {
                     EXPECT_FALSE(error);
                     call.done = true;
                   }));
    settle();
    return call;
  }

  template <class Condition>
  bool until(Condition condition) {
    const auto give_up = Clock::now() + 10s;
    io.restart();
    while (!condition() && Clock::now() < give_up) io.run_one_for(10ms);
    return condition();
  }
  /// Everything that can happen now has happened.
  void settle() {
    io.restart();
    while (io.poll() > 0) io.restart();
  }

  void connect(bool there) {
    far.connected = there;
    listeners->tunnel_changed();
    settle();
  }
  /// What the server and the service say on the stream that was asked for as the n-th.
  void say(std::size_t n, std::string_view bytes) {
    asio::co_spawn(io, write(*far.asked.at(n).end, std::string(bytes)), [](const std::exception_ptr&) {});
    settle();
  }
  static asio::awaitable<void> write(tunnel::ByteStream& stream, std::string bytes) {
    (void)co_await stream.write(support::bytes_of(bytes));
  }
  /// What has come out of it.
  std::string heard(std::size_t n) {
    auto& asked = far.asked.at(n);
    asio::co_spawn(io, hear(asked), [](const std::exception_ptr&) {});
    settle();
    return asked.heard;
  }
  static asio::awaitable<void> hear(Far::Asked& asked) {
    std::array<std::byte, 64 * 1024> buffer;
    while (asked.end->readable()) {
      const auto got = co_await asked.end->read(buffer);
      if (!got || *got == 0) co_return;
      asked.heard.append(reinterpret_cast<const char*>(buffer.data()), *got);
    }
  }
  /// The link beneath it is over for good.
  void cut(std::size_t n) {
    far.asked.at(n).end->close();
    settle();
  }
  std::vector<std::string> paths() {
    std::vector<std::string> all;
    for (std::size_t n = 0; n < far.asked.size(); ++n) {
      const auto text = heard(n);
      const auto begin = text.find(' ') + 1;
      all.push_back(text.substr(begin, text.find(' ', begin) - begin));
    }
    return all;
  }

  asio::io_context io{1};
  Far far{io};
  std::vector<std::string> told;
  std::unique_ptr<HttpListeners> listeners;
  std::vector<std::unique_ptr<Call>> calls;
};

// Requests ---------------------------------------------------------------------------------------

TEST_F(HttpListenersTest, SendsTheRequestAsItCameAndHandsTheAnswerBack) {
  auto& call = ask("POST", "/a?b=c",
                   "Authorization: Bearer own\r\nX-Tunnel-Priority: high\r\nIdempotency-Key: k\r\n", "body");
  ASSERT_EQ(far.asked.size(), 1U);
  EXPECT_EQ(far.asked[0].service, "web");
  EXPECT_EQ(far.asked[0].priority, tunnel::Priority::high);
  const auto sent = heard(0);
  EXPECT_THAT(sent, StartsWith("POST /a?b=c HTTP/1.1\r\nHost: here:8080\r\n"));
  EXPECT_THAT(sent, HasSubstr("Authorization: Bearer own\r\n"));
  EXPECT_THAT(sent, HasSubstr("X-Forwarded-For: 192.0.2.7\r\n"));
  EXPECT_THAT(sent, HasSubstr("X-Forwarded-Host: here:8080\r\n"));
  EXPECT_THAT(sent, Not(HasSubstr("X-Tunnel")));
  EXPECT_THAT(sent, Not(HasSubstr("Idempotency")));
  EXPECT_TRUE(sent.ends_with("\r\n\r\nbody"));
  say(0, std::string(kOk) + std::string(kAnswer));
  EXPECT_TRUE(call.done);
  EXPECT_EQ(call.status(), 200U);
  EXPECT_EQ(call.exchange.answer, "fine\n");
}

TEST_F(HttpListenersTest, LeavesTheHostAsTheCallerNamedIt) {
  const std::pair<const char*, const char*> rows[] = {
      {"HTTP/1.1\r\nHost: Here.test:8080\r\n", "Here.test:8080"},
      {"HTTP/1.1\r\nHost: here\r\n", "here"},
      {"HTTP/1.1\r\nHost: here:80\r\n", "here"},
      {"HTTP/1.1\r\nHost: [::1]\r\n", "[::1]"},
      {"HTTP/1.1\r\nHost: [::1]:8080\r\n", "[::1]:8080"},
      {"HTTP/1.0\r\n", "web"}};
  for (const auto& [head, host] : rows) {
    SCOPED_TRACE(head);
    calls.push_back(std::make_unique<Call>(io.get_executor(), std::string("GET / ") + head + "\r\n",
                                           std::vector<std::string>{}));
    asio::co_spawn(io, listeners->handler_for("web").handle(calls.back()->exchange),
                   [](const std::exception_ptr&) {});
    settle();
    EXPECT_THAT(heard(far.asked.size() - 1), HasSubstr(std::string("\r\nHost: ") + host + "\r\n"));
  }
}

TEST_F(HttpListenersTest, AnswersARefusedStreamWithWhatTheServerSaid) {
  auto& get = ask("GET", "/");
  auto& post = ask("POST", "/", "", "once");
  for (std::size_t n = 0; n < 2; ++n)
    say(n, "{\"error\":{\"code\":\"TUNNEL_017\",\"message\":\"no service web\"}}\n");
  for (const auto* call : {&get, &post}) {
    EXPECT_TRUE(call->done);
    EXPECT_EQ(call->status(), 403U);
    EXPECT_EQ(call->code(), "TUNNEL_017");
  }
  EXPECT_EQ(far.asked.size(), 2U);
}

TEST_F(HttpListenersTest, TriesAgainWhereTheServerRefusedForTheMomentThoughItIsAPost) {
  auto& post = ask("POST", "/pay", "", "once");
  say(0, "{\"error\":{\"code\":\"TUNNEL_005\",\"message\":\"too many\",\"retryAfter\":1}}\n");
  EXPECT_FALSE(post.done);
  EXPECT_EQ(listeners->waiting(), 1U);
  const auto began = Clock::now();
  ASSERT_TRUE(until([&] { return far.asked.size() == 2; }));
  EXPECT_GE(Clock::now() - began, 900ms);
  settle();
  EXPECT_TRUE(heard(1).ends_with("\r\n\r\nonce"));
  say(1, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(post.status(), 200U);
}

TEST_F(HttpListenersTest, PassesOnARefusalForLongerThanTheRequestHas) {
  auto& get = ask("GET", "/", "X-Tunnel-Timeout: 2\r\n");
  say(0, "{\"error\":{\"code\":\"TUNNEL_005\",\"message\":\"too many\",\"retryAfter\":3}}\n");
  EXPECT_EQ(get.status(), 429U);
  EXPECT_EQ(get.exchange.field("Retry-After"), "3");
}

TEST_F(HttpListenersTest, RefusesAPriorityThatIsNone) {
  auto& call = ask("GET", "/", "X-Tunnel-Priority: urgent\r\n");
  EXPECT_EQ(call.status(), 400U);
  EXPECT_EQ(call.code(), "TUNNEL_010");
}

// Streams that are used again ---------------------------------------------------------------------

TEST_F(HttpListenersTest, UsesAStreamAgainForWhatCanBeRepeatedOnly) {
  ask("GET", "/1");
  say(0, std::string(kOk) + std::string(kAnswer));
  ask("PUT", "/2", "", "small");
  EXPECT_EQ(far.asked.size(), 1U) << "PUT goes on the stream of GET";
  say(0, kAnswer);
  ask("POST", "/3", "", "x");
  EXPECT_EQ(far.asked.size(), 2U) << "nobody would know whether a used stream took it";
}

TEST_F(HttpListenersTest, KeepsNoStreamOverALossOfTheConnection) {
  ask("GET", "/1");
  say(0, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(*far.streams, 1U);
  connect(false);
  auto& call = ask("GET", "/2");
  EXPECT_EQ(listeners->waiting(), 1U) << "what went on the kept stream could not be taken back";
  connect(true);
  ASSERT_EQ(far.asked.size(), 2U);
  say(1, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(call.status(), 200U);
}

// Waiting -----------------------------------------------------------------------------------------

TEST_F(HttpListenersTest, SendsNothingWithoutAConnectionAndAllInTurnOnceThereIsOne) {
  HttpOptions options;
  options.dialer.let_go = 1;
  make(options);
  connect(false);
  for (const auto* priority : {"low", "normal", "high"})
    for (int n = 0; n < 13; ++n)
      ask("POST", std::string("/") + priority + std::to_string(n),
          std::string("X-Tunnel-Priority: ") + priority + "\r\n", "");
  EXPECT_EQ(listeners->waiting(), 39U);
  EXPECT_TRUE(far.asked.empty());
  connect(true);
  for (std::size_t n = 0; n < 39; ++n) {
    ASSERT_EQ(far.asked.size(), n + 1) << "one at a time";
    say(n, std::string(kOk) + std::string(kAnswer));
  }
  const auto order = paths();
  std::map<std::string, std::vector<int>> numbers;
  std::map<std::string, int> in_first_13;
  for (std::size_t n = 0; n < order.size(); ++n) {
    const auto digits = order[n].find_first_of("0123456789");
    const auto kind = order[n].substr(1, digits - 1);
    numbers[kind].push_back(std::stoi(order[n].substr(digits)));
    if (n < 13) ++in_first_13[kind];
  }
  EXPECT_EQ(in_first_13, (std::map<std::string, int>{{"high", 8}, {"normal", 4}, {"low", 1}}));
  for (const auto& [kind, of] : numbers) {
    EXPECT_EQ(of.size(), 13U);
    EXPECT_TRUE(std::is_sorted(of.begin(), of.end())) << kind;
  }
  for (const auto& call : calls) EXPECT_EQ(call->status(), 200U);
}

TEST_F(HttpListenersTest, LetsTenGoAtATimeAndTheNextWhenAnAnswerIsThere) {
  connect(false);
  for (int n = 0; n < 25; ++n) ask("GET", "/" + std::to_string(n));
  connect(true);
  EXPECT_EQ(far.asked.size(), 10U);
  say(0, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(far.asked.size(), 10U) << "the eleventh goes on the stream of the first";
  EXPECT_THAT(heard(0), HasSubstr("GET /10 "));
  say(1, std::string(kOk) + "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
  EXPECT_EQ(far.asked.size(), 11U) << "a stream of events does not keep its place";
  EXPECT_EQ(listeners->waiting(), 13U);
}

TEST_F(HttpListenersTest, HoldsNothingBackWhileNobodyWaits) {
  for (int n = 0; n < 25; ++n) ask("GET", "/" + std::to_string(n));
  EXPECT_EQ(far.asked.size(), 25U);
}

TEST_F(HttpListenersTest, RefusesWhatDoesNotFitAtOnce) {
  HttpOptions options;
  options.queue = 10;
  make(options);
  connect(false);
  for (int n = 0; n < 10; ++n) ask("GET", "/");
  auto& late = ask("GET", "/");
  EXPECT_EQ(late.status(), 503U);
  EXPECT_EQ(late.code(), "TUNNEL_006");
  EXPECT_NE(late.exchange.field("Retry-After"), "-");
  EXPECT_EQ(listeners->waiting(), 10U);
  ASSERT_FALSE(told.empty());
  EXPECT_THAT(told.front(), HasSubstr("80 % full"));
}

TEST_F(HttpListenersTest, BoundsTheBytesOfThoseThatWaitToo) {
  HttpOptions options;
  options.dialer.queue_bytes = 40 * 1024;
  make(options);
  connect(false);
  const std::string body(15 * 1024, 'x');
  auto& first = ask("POST", "/", "", body);
  auto& second = ask("POST", "/", "", body);
  auto& third = ask("POST", "/", "", body);
  EXPECT_EQ(listeners->waiting(), 2U);
  EXPECT_FALSE(first.done || second.done);
  EXPECT_EQ(third.code(), "TUNNEL_006");
}

TEST_F(HttpListenersTest, DropsTheNewestOfLowPriorityFromAQueueThatIsNearlyFullAndTellsIt) {
  HttpOptions options;
  options.queue = 20;
  make(options);
  connect(false);
  auto& older = ask("GET", "/", "X-Tunnel-Priority: low\r\n");
  auto& newer = ask("GET", "/", "X-Tunnel-Priority: low\r\n");
  for (int n = 0; n < 17; ++n) ask("GET", "/");
  EXPECT_FALSE(newer.done);
  ask("GET", "/", "X-Tunnel-Priority: high\r\n");
  EXPECT_EQ(newer.status(), 503U);
  EXPECT_EQ(newer.code(), "TUNNEL_006");
  EXPECT_FALSE(older.done);
  EXPECT_EQ(listeners->waiting(), 19U);
}

TEST_F(HttpListenersTest, TellsWhoWaitedTooLongAndNeverSendsIt) {
  connect(false);
  auto& hurried = ask("POST", "/hurried", "X-Tunnel-Timeout: 1\r\n", "x");
  auto& patient = ask("POST", "/patient", "X-Tunnel-Timeout: 9\r\n", "x");
  ASSERT_TRUE(until([&] { return hurried.done; }));
  EXPECT_EQ(hurried.status(), 504U);
  EXPECT_EQ(hurried.code(), "TUNNEL_007");
  connect(true);
  EXPECT_THAT(paths(), ElementsAre("/patient"));
  EXPECT_FALSE(patient.done);
}

TEST_F(HttpListenersTest, NeverSendsARequestWhoseCallerLeft) {
  connect(false);
  auto& gone = ask("GET", "/gone");
  ask("GET", "/stays");
  gone.cancel.emit(asio::cancellation_type::terminal);
  settle();
  EXPECT_TRUE(gone.done);
  EXPECT_EQ(listeners->waiting(), 1U);
  connect(true);
  EXPECT_THAT(paths(), ElementsAre("/stays"));
}

TEST_F(HttpListenersTest, GivesThePlaceOfACallerThatLeftWhileItWasItsTurnToTheNext) {
  HttpOptions options;
  options.dialer.let_go = 1;
  make(options);
  connect(false);
  auto& gone = ask("GET", "/gone");
  ask("GET", "/next");
  far.connected = true;
  asio::post(io, [&] {
    listeners->tunnel_changed();  // its turn has come, and it has not taken it
    gone.cancel.emit(asio::cancellation_type::terminal);
  });
  settle();
  EXPECT_THAT(paths(), ElementsAre("/next"));
}

TEST_F(HttpListenersTest, WaitsOnWhereTheTunnelGivesNoStreamThoughItSeemedConnected) {
  far.gives_none = 2;
  auto& call = ask("POST", "/", "", "x");
  EXPECT_FALSE(call.done);
  ASSERT_TRUE(until([&] { return far.asked.size() == 1; }));
  EXPECT_FALSE(call.done);
}

// At most once ------------------------------------------------------------------------------------

TEST_F(HttpListenersTest, SendsAgainWhatIsIdempotentWhenTheLinkBrokeForGood) {
  auto& get = ask("GET", "/get");
  auto& keyed = ask("POST", "/keyed", "Idempotency-Key: 1\r\n", "body");
  auto& once = ask("POST", "/once", "", "body");
  say(0, kOk);
  say(2, kOk);
  for (std::size_t n = 0; n < 3; ++n) far.connected = false, cut(n);
  listeners->tunnel_changed();
  EXPECT_EQ(once.status(), 502U);
  EXPECT_EQ(once.code(), "TUNNEL_013");
  EXPECT_FALSE(get.done);
  EXPECT_FALSE(keyed.done);
  EXPECT_EQ(listeners->waiting(), 2U);
  connect(true);
  ASSERT_EQ(far.asked.size(), 5U);
  EXPECT_THAT(heard(3), StartsWith("GET /get "));
  EXPECT_THAT(heard(4), StartsWith("POST /keyed "));
  EXPECT_TRUE(heard(4).ends_with("\r\n\r\nbody"));
  say(3, std::string(kOk) + std::string(kAnswer));
  say(4, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(get.status(), 200U);
  EXPECT_EQ(keyed.status(), 200U);
}

TEST_F(HttpListenersTest, WaitsNoLongerForTheSecondTryThanItWouldHaveForTheFirst) {
  auto& get = ask("GET", "/", "X-Tunnel-Timeout: 1\r\n");
  const auto began = Clock::now();
  EXPECT_FALSE(until([&] { return Clock::now() - began > 700ms; }) && get.done);
  far.connected = false;
  cut(0);
  EXPECT_EQ(listeners->waiting(), 1U);
  ASSERT_TRUE(until([&] { return get.done; }));
  EXPECT_LT(Clock::now() - began, 1500ms);
  EXPECT_EQ(get.code(), "TUNNEL_007");
}

TEST_F(HttpListenersTest, GivesUpOnARequestUnderWhichTheLinkBreaksAgainAndAgain) {
  auto& get = ask("GET", "/poison");
  for (std::size_t n = 0; n < far.asked.size() && n < 100; ++n) cut(n);
  EXPECT_TRUE(get.done);
  EXPECT_EQ(get.code(), "TUNNEL_008");
  EXPECT_EQ(far.asked.size(), 4U);
}

TEST_F(HttpListenersTest, DoesNotSendAgainWhatTheServiceClosedUnanswered) {
  auto& get = ask("GET", "/");
  auto& post = ask("POST", "/", "", "x");
  for (std::size_t n = 0; n < 2; ++n) {
    say(n, kOk);
    asio::co_spawn(io, far.asked[n].end->shutdown_write(),
                   [](const std::exception_ptr&, const Result<void>&) {});
    settle();
  }
  EXPECT_EQ(get.code(), "TUNNEL_008");
  EXPECT_EQ(post.code(), "TUNNEL_013");
  EXPECT_EQ(far.asked.size(), 2U);
}

TEST_F(HttpListenersTest, DoesNotSendAgainWhatIsNoLongerAtHand) {
  auto& put = ask("PUT", "/", "", std::string(40 * 1024, 'x'));
  EXPECT_THAT(heard(0), HasSubstr("\r\n\r\nxxx"));
  cut(0);
  EXPECT_TRUE(put.done);
  EXPECT_EQ(put.code(), "TUNNEL_008");
  EXPECT_EQ(far.asked.size(), 1U);
}

TEST_F(HttpListenersTest, SendsASmallChunkedBodyAgain) {
  calls.push_back(std::make_unique<Call>(io.get_executor(),
                                         "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
                                         std::vector<std::string>{"one", "two"}));
  asio::co_spawn(io, listeners->handler_for("web").handle(calls.back()->exchange),
                 [](const std::exception_ptr&) {});
  settle();
  EXPECT_TRUE(heard(0).ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
  cut(0);
  ASSERT_EQ(far.asked.size(), 2U);
  EXPECT_TRUE(heard(1).ends_with("onetwo\r\n0\r\n\r\n"));
}

// The end -----------------------------------------------------------------------------------------

TEST_F(HttpListenersTest, AnswersTheRestWhenItMustStop) {
  auto& get = ask("GET", "/");
  auto& post = ask("POST", "/", "", "x");
  connect(false);
  auto& waits = ask("POST", "/", "", "x");
  listeners->stop_accepting();
  listeners->refuse_rest();
  settle();
  EXPECT_EQ(waits.status(), 503U);
  EXPECT_EQ(waits.code(), "TUNNEL_004");
  EXPECT_EQ(get.status(), 503U);
  EXPECT_EQ(get.code(), "TUNNEL_004");
  EXPECT_EQ(post.code(), "TUNNEL_013") << "nobody knows what became of it";
  EXPECT_EQ(listeners->active(), 0U);
}

TEST_F(HttpListenersTest, KeepsNoStreamOnceItIsToStop) {
  ask("GET", "/1");
  say(0, std::string(kOk) + std::string(kAnswer));
  ask("GET", "/2");
  ask("GET", "/3");
  EXPECT_EQ(*far.streams, 2U);
  say(1, std::string(kOk) + std::string(kAnswer));
  listeners->stop_accepting();
  EXPECT_EQ(*far.streams, 1U);
  say(0, kAnswer);
  EXPECT_EQ(*far.streams, 0U);
}

// Over the end -------------------------------------------------------------------------------------

class KeptOverTheEnd : public HttpListenersTest {
 protected:
  void SetUp() override { begin(); }
  void TearDown() override {
    HttpListenersTest::TearDown();
    listeners.reset();
  }

  /// Another run of the program, on the same folder.
  void begin() {
    if (listeners) HttpListenersTest::TearDown();
    listeners.reset();
    store.reset();
    told.clear();
    KeptRequests::Options options;
    options.folder = place.path() / "kept";
    options.server = "wss://tunnel.example.org";
    options.now = [this] { return std::chrono::system_clock::now() + later; };
    auto opened = KeptRequests::open(options, [this](std::string_view line) { told.emplace_back(line); });
    ASSERT_TRUE(opened) << opened.error().message;
    store = std::move(*opened);
    HttpOptions http;
    http.keep_in = store.get();
    http.keep_without = {"X-Session"};
    make(http);
  }
  void end() {
    listeners->stop_accepting();
    listeners->refuse_rest();
    settle();
  }
  /// A run that has kept this one.
  void keep(const std::string& method, const std::string& path, const std::string& fields = {},
            std::optional<std::string> body = {}) {
    connect(false);
    ask(method, path, "X-Tunnel-Priority: high\r\n" + fields, std::move(body));
    end();
    ASSERT_EQ(listeners->kept(), 1U);
    begin();
  }
  void restore() {
    listeners->restore();
    settle();
  }
  std::size_t files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(place.path() / "kept"))
      if (entry.path().extension() == ".kept") ++count;
    return count;
  }

  TemporaryFolder place;
  std::chrono::seconds later{};
  std::unique_ptr<KeptRequests> store;
};

TEST_F(KeptOverTheEnd, IsWhatWaitsWithHighPriorityAndMayBeRepeated) {
  connect(false);
  const auto high = [&](const char* method, const char* path, const std::string& fields = {}) -> Call& {
    return ask(method, path, "X-Tunnel-Priority: high\r\n" + fields, "body");
  };
  Call* kept[] = {&high("PUT", "/1", "Authorization: Bearer own\r\nX-Session: s\r\nX-Other: stays\r\n"),
                  &high("DELETE", "/2"), &high("POST", "/3", "Idempotency-Key: k\r\n")};
  Call* others[] = {&high("POST", "/4"), &ask("GET", "/5"), &ask("GET", "/6", "X-Tunnel-Priority: low\r\n")};
  end();
  for (const auto* call : kept) {
    EXPECT_EQ(call->status(), 503U);
    EXPECT_EQ(call->code(), "TUNNEL_004");
    EXPECT_THAT(call->exchange.answer, HasSubstr("keeps this request, without its credentials"));
    EXPECT_THAT(call->exchange.field("X-Tunnel-Kept-Until"), StartsWith("20"));
  }
  for (const auto* call : others) {
    EXPECT_EQ(call->code(), "TUNNEL_004");
    EXPECT_EQ(call->exchange.field("X-Tunnel-Kept-Until"), "-");
  }
  EXPECT_EQ(listeners->kept(), 3U);
  EXPECT_TRUE(far.asked.empty());

  begin();
  far.connected = true;
  restore();
  EXPECT_THAT(paths(), testing::UnorderedElementsAre("/1", "/2", "/3"));
  for (std::size_t n = 0; n < 3; ++n) {
    EXPECT_EQ(far.asked[n].priority, tunnel::Priority::high);
    EXPECT_TRUE(heard(n).ends_with("\r\n\r\nbody")) << heard(n);
    EXPECT_THAT(heard(n), HasSubstr("\r\nHost: here:8080\r\n"));
    EXPECT_THAT(heard(n), HasSubstr("X-Forwarded-For: 192.0.2.7\r\n"));
    EXPECT_THAT(heard(n), Not(HasSubstr("Authorization")));
    EXPECT_THAT(heard(n), Not(HasSubstr("X-Session")));
    EXPECT_THAT(heard(n), Not(HasSubstr("X-Tunnel")));
  }
  EXPECT_EQ(files(), 3U) << "none has its answer yet";
  for (std::size_t n = 0; n < 3; ++n) say(n, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(files(), 0U);
  EXPECT_EQ(listeners->active(), 0U);
  EXPECT_THAT(told, testing::Contains(HasSubstr("PUT web, request corr-1: answered with 200")));
}

TEST_F(KeptOverTheEnd, IsNothingUnlessAskedFor) {
  make();
  connect(false);
  auto& call = ask("GET", "/", "X-Tunnel-Priority: high\r\n");
  end();
  EXPECT_EQ(call.code(), "TUNNEL_004");
  EXPECT_EQ(call.exchange.field("X-Tunnel-Kept-Until"), "-");
  EXPECT_EQ(listeners->kept(), 0U);
  EXPECT_EQ(files(), 0U);
}

TEST_F(KeptOverTheEnd, IsNothingThatTheServiceMayHaveSeen) {
  auto& under_way = ask("GET", "/1", "X-Tunnel-Priority: high\r\n");
  auto& waits_again = ask("GET", "/2", "X-Tunnel-Priority: high\r\n");
  say(1, kOk);
  far.connected = false;
  cut(1);
  listeners->tunnel_changed();
  EXPECT_EQ(listeners->waiting(), 1U);
  end();
  for (const auto* call : {&waits_again, &under_way}) {
    EXPECT_EQ(call->code(), "TUNNEL_004");
    EXPECT_EQ(call->exchange.field("X-Tunnel-Kept-Until"), "-");
  }
  EXPECT_EQ(listeners->kept(), 0U);
}

TEST_F(KeptOverTheEnd, IsWhatTheServerRefusedForTheMoment) {
  auto& call = ask("GET", "/", "X-Tunnel-Priority: high\r\n");
  say(0, "{\"error\":{\"code\":\"TUNNEL_005\",\"message\":\"too many\",\"retryAfter\":9}}\n");
  EXPECT_EQ(listeners->waiting(), 1U);
  end();
  EXPECT_NE(call.exchange.field("X-Tunnel-Kept-Until"), "-") << "the service got nothing of it";
}

TEST_F(KeptOverTheEnd, HasItsLargeBodyReadAtTheEnd) {
  connect(false);
  const std::string large(40 * 1024, 'x');
  ask("PUT", "/sized", "X-Tunnel-Priority: high\r\n", large);
  calls.push_back(std::make_unique<Call>(
      io.get_executor(),
      "PUT /chunked HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\nTransfer-Encoding: chunked\r\n\r\n",
      std::vector<std::string>{"one", "two"}));
  asio::co_spawn(io, listeners->handler_for("web").handle(calls.back()->exchange),
                 [](const std::exception_ptr&) {});
  settle();
  end();
  EXPECT_EQ(listeners->kept(), 2U);
  begin();
  far.connected = true;
  restore();
  ASSERT_EQ(far.asked.size(), 2U);
  // Both came in the same millisecond, so either may be the first.
  const std::size_t sized = heard(0).starts_with("PUT /sized ") ? 0 : 1;
  EXPECT_TRUE(heard(sized).ends_with("\r\nContent-Length: 40960\r\n\r\n" + large));
  EXPECT_TRUE(heard(1 - sized).ends_with("\r\nContent-Length: 6\r\n\r\nonetwo"));
}

TEST_F(KeptOverTheEnd, IsNothingWhoseBodyDoesNotComeOrDoesNotFit) {
  connect(false);
  auto& slow = ask("PUT", "/", "X-Tunnel-Priority: high\r\nContent-Length: 100000\r\n");
  slow.exchange.body_stays_open = true;
  auto& large = ask("PUT", "/", "X-Tunnel-Priority: high\r\n", std::string(5 * 1024 * 1024, 'x'));
  end();
  ASSERT_TRUE(until([&] { return slow.done && large.done; }));
  for (const auto* call : {&slow, &large}) {
    EXPECT_EQ(call->code(), "TUNNEL_004");
    EXPECT_THAT(call->exchange.answer, HasSubstr("could not be kept"));
  }
  EXPECT_EQ(listeners->kept(), 0U);
  EXPECT_EQ(told.size(), 2U);
}

TEST_F(KeptOverTheEnd, IsNothingOfACallerThatLeft) {
  connect(false);
  auto& gone = ask("GET", "/", "X-Tunnel-Priority: high\r\n");
  gone.cancel.emit(asio::cancellation_type::terminal);
  end();
  EXPECT_EQ(listeners->kept(), 0U);
}

TEST_F(KeptOverTheEnd, WaitsForTheConnectionAndForItsServiceInTheNextRun) {
  keep("GET", "/");
  connect(false);
  restore();
  EXPECT_EQ(listeners->waiting(), 1U);
  connect(true);
  ASSERT_EQ(far.asked.size(), 1U);
  say(0, "{\"error\":{\"code\":\"TUNNEL_018\",\"message\":\"no agent\"}}\n");
  EXPECT_EQ(files(), 1U);
  ASSERT_TRUE(until([&] { return far.asked.size() == 2; })) << "it may come back";
  settle();
  say(1, std::string(kOk) + "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(files(), 0U) << "that is an answer";
  EXPECT_THAT(told, testing::Contains(HasSubstr("answered with 500")));
}

TEST_F(KeptOverTheEnd, IsGivenUpWhenTheServerRefusesItForGood) {
  keep("GET", "/");
  far.connected = true;
  restore();
  say(0, "{\"error\":{\"code\":\"TUNNEL_017\",\"message\":\"no service web\"}}\n");
  EXPECT_EQ(files(), 0U);
  EXPECT_THAT(told, testing::Contains(HasSubstr("TUNNEL_017")));
  EXPECT_EQ(listeners->active(), 0U);
}

TEST_F(KeptOverTheEnd, IsSentAgainByTheRunAfterTheNextWhenThatOneGotNoAnswer) {
  keep("PUT", "/", "", "body");
  far.connected = true;
  restore();
  EXPECT_THAT(paths(), ElementsAre("/"));
  end();
  EXPECT_EQ(files(), 1U);
  begin();
  far.asked.clear();
  restore();
  EXPECT_THAT(paths(), ElementsAre("/"));
  say(0, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(files(), 0U);
}

TEST_F(KeptOverTheEnd, HoldsNoEndUpWhileItWaits) {
  keep("GET", "/");
  connect(false);
  restore();
  EXPECT_EQ(listeners->active(), 1U);
  listeners->stop_accepting();
  settle();
  EXPECT_EQ(listeners->active(), 0U);
  EXPECT_EQ(listeners->waiting(), 0U);
  EXPECT_EQ(files(), 1U);
}

TEST_F(KeptOverTheEnd, StaysWhenTheNextRunEndsAtOnce) {
  keep("GET", "/");
  connect(false);
  restore();
  end();
  EXPECT_EQ(listeners->active(), 0U);
  EXPECT_EQ(files(), 1U);
  begin();
  far.connected = true;
  restore();
  say(0, "{\"error\":{\"code\":\"TUNNEL_018\",\"message\":\"no agent\"}}\n");
  EXPECT_EQ(listeners->active(), 1U) << "it rests before the next try";
  end();
  EXPECT_EQ(listeners->active(), 0U);
  EXPECT_EQ(files(), 1U);
}

TEST_F(KeptOverTheEnd, StaysWhenTheProgramEndsBeforeItsTurn) {
  keep("GET", "/");
  connect(true);
  listeners->restore();
  end();
  EXPECT_EQ(listeners->active(), 0U);
  EXPECT_TRUE(far.asked.empty());
  EXPECT_EQ(files(), 1U);
}

TEST_F(KeptOverTheEnd, MayStillGetItsAnswerWhileTheProgramEnds) {
  keep("GET", "/");
  far.connected = true;
  restore();
  listeners->stop_accepting();
  settle();
  EXPECT_EQ(listeners->active(), 1U);
  say(0, std::string(kOk) + std::string(kAnswer));
  EXPECT_EQ(listeners->active(), 0U);
  EXPECT_EQ(files(), 0U);
}

TEST_F(KeptOverTheEnd, IsNeverSentOnceItIsTooOld) {
  keep("GET", "/");
  later = 297s;
  connect(false);
  restore();
  EXPECT_EQ(listeners->waiting(), 1U);
  later = 300s;
  ASSERT_TRUE(until([&] { return listeners->active() == 0; }));
  EXPECT_EQ(files(), 0U);
  EXPECT_THAT(told, testing::Contains(HasSubstr("is dropped and was not answered")));
  connect(true);
  EXPECT_TRUE(far.asked.empty());
}

TEST_F(KeptOverTheEnd, LeavesMostOfTheQueueToOthers) {
  connect(false);
  for (int n = 0; n < 20; ++n) ask("GET", "/" + std::to_string(n), "X-Tunnel-Priority: high\r\n");
  end();
  EXPECT_EQ(listeners->kept(), 20U);
  begin();
  far.connected = true;
  restore();
  EXPECT_EQ(listeners->active(), 4U);
  ASSERT_EQ(far.asked.size(), 4U);
  for (int round = 0; round < 5; ++round)
    for (std::size_t n = 0; n < 4; ++n) say(n, (round == 0 ? std::string(kOk) : "") + std::string(kAnswer));
  EXPECT_EQ(far.asked.size(), 4U) << "the streams are used again";
  EXPECT_EQ(files(), 0U);
  EXPECT_EQ(listeners->active(), 0U);
}

TEST(HttpForward, IsNamedByItsOwnFlagWhenItIsWrong) {
  EXPECT_TRUE(parse_http_forward("8080:web"));
  EXPECT_THAT(parse_http_forward("8080").error().message, StartsWith("--http 8080: "));
}

}  // namespace
}  // namespace tunnelctl::client
