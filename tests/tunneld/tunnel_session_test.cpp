#include "tunneld/tunnel_session.h"

#include <gtest/gtest.h>

#include <boost/asio/steady_timer.hpp>
#include <nlohmann/json.hpp>

#include "tests/tunneld/session_lab.h"

namespace tunneld {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using support::bytes_of;
using support::memory_streams;
using support::MemoryWebSocket;
using support::run_async;
using tunnel::Code;
using tunnel::asio::awaitable;

TEST(StreamOpening, NamesAServiceAndMaySayMore) {
  struct Row {
    const char* line;
    const char* service;
    tunnel::Priority priority;
    const char* id;
  };
  const Row rows[] = {
      {R"({"service":"db"})", "db", tunnel::Priority::normal, ""},
      {R"({"service":"db","priority":"high","correlationId":"a.B-1_"})", "db", tunnel::Priority::high,
       "a.B-1_"},
      {R"({"service":"db","unknown":[1,2]})", "db", tunnel::Priority::normal, ""},
      {R"({"service":"db","correlationId":"with space"})", "db", tunnel::Priority::normal, ""},
      {R"({"service":"db","correlationId":7})", "db", tunnel::Priority::normal, ""},
      {"{\"service\":\"db\"}\r", "db", tunnel::Priority::normal, ""},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.line);
    const auto opening = parse_stream_opening(row.line);
    ASSERT_TRUE(opening) << opening.error().message;
    EXPECT_EQ(opening->service, row.service);
    EXPECT_EQ(opening->priority, row.priority);
    EXPECT_EQ(opening->correlation_id, row.id);
  }
}

TEST(StreamOpening, IsRefusedWhenItMeansNothing) {
  struct Row {
    std::string line;
    Code code;
  };
  const Row rows[] = {{"", Code::bad_request},
                      {"db", Code::bad_request},
                      {"[]", Code::bad_request},
                      {"{}", Code::bad_request},
                      {R"({"service":1})", Code::bad_request},
                      {R"({"service":"a","service":"b"})", Code::bad_request},
                      {R"({"service":"db","priority":"soon"})", Code::bad_request},
                      {R"({"service":"db","priority":2})", Code::bad_request},
                      {R"({"service":"../db"})", Code::service_denied},
                      {R"({"service":""})", Code::service_denied},
                      {R"({"service":")" + std::string(5000, 'a') + "\"}", Code::bad_request}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.line.substr(0, 60));
    const auto opening = parse_stream_opening(row.line);
    ASSERT_FALSE(opening);
    EXPECT_EQ(opening.error().code, row.code);
  }
}

TEST(WindowLeft, CountsTheSilenceBeforeAPeerWasGivenUp) {
  struct Row {
    const char* how;
    tunnel::WebSocketStream::Ending ending;
    std::chrono::seconds window, left;
  };
  const Row rows[] = {
      {"declared dead", {4408, false}, 60s, 15s},
      {"declared dead, and the window is shorter than that takes", {4408, false}, 30s, 0s},
      {"broken", {1006, true}, 60s, 60s},
      {"it declared us dead, so it lives", {4408, true}, 60s, 60s},
      {"closed for another reason", {1001, false}, 60s, 60s},
  };
  for (const auto& row : rows) EXPECT_EQ(window_left(row.ending, row.window, 45s), row.left) << row.how;
}

TEST(ErrorControlMessage, HoldsTheOneErrorBody) {
  const auto message = json::parse(error_control_message({Code::bad_request, "why"}, "corr"));
  EXPECT_EQ(message["type"], "error");
  EXPECT_EQ(message["error"]["code"], "TUNNEL_010");
  EXPECT_EQ(message["error"]["correlationId"], "corr");
}

/// A caller's link to a session, whose streams are served by the test.
struct Session : tests::SessionLab {
  Session() {
    auto [near, far] = memory_streams(io.get_executor(), 1024 * 1024);
    auto socket = std::make_shared<MemoryWebSocket>(std::move(near), state);
    server_socket = socket;
    Result<std::shared_ptr<links::Link>> accepted;
    auto carrier = std::make_unique<Carrier>(socket, nullptr, Farewell{1002, ""});
    auto accept = [&]() -> awaitable<void> {
      accepted = co_await links::Link::accept(io.get_executor(), std::move(carrier), links::LinkOptions());
    };
    bool done = false;
    boost::asio::co_spawn(io, accept(), [&](std::exception_ptr) { done = true; });
    client = *run_async(io, links::Link::connect(io.get_executor(), std::move(far), {}));
    // WELCOME is read by whoever reads the link.
    mux = std::make_unique<links::Mux>(io.get_executor(), *client, links::Mux::Options{});
    boost::asio::co_spawn(io, mux->run(), [this](std::exception_ptr, Result<void>) { client_ended = true; });
    EXPECT_TRUE(run_until([&] { return done; }));
    link = *accepted;
  }
  ~Session() override {
    if (session) session->abort();
    mux->close();
    client->close();
    run_until([this] { return client_ended && (!session || ended); });
    session.reset();
    io.restart();
    io.run_for(10ms);
  }

  void start(Authenticator::Caller who, TunnelSession::Options options = {}) {
    session = std::make_shared<TunnelSession>(
        TunnelSession::Parts{io, *streams, watch, *admission, observer},
        TunnelSession::Caller{std::move(who), "192.0.2.1", "corr"}, link, std::move(options),
        [this](TunnelSession& of, tunnel::ByteStream& stream, tunnel::Served<StreamOpening> opening) {
          return serve(of, stream, std::move(opening));
        });
    boost::asio::co_spawn(io, session->run(), [this](std::exception_ptr failure) {
      EXPECT_FALSE(failure);
      ended = true;
    });
    control = *mux->open();
  }
  /// Echoes, as long as a relay would.
  awaitable<void> serve(TunnelSession& of, tunnel::ByteStream& stream,
                        tunnel::Served<StreamOpening> opening) {
    openings.push_back(opening ? opening->service : std::string(tunnel::facts(opening.error().code).name));
    if (!opening) co_return;
    auto [near_service, service] = memory_streams(io.get_executor());
    tunnel::RelayControl relay_control;
    const TunnelSession::Relaying relaying(of, relay_control);
    tunnel::RelayOptions options;
    options.control = &relay_control;
    // Both ends of the service are here: what goes in comes out.
    auto& echo = *service;
    boost::asio::co_spawn(io, echo_back(std::move(service)), [](std::exception_ptr) {});
    static_cast<void>(echo);
    const auto end = co_await tunnel::relay(stream, *near_service, watch, observer, options);
    ends.push_back(end.how);
    stream.close();
  }
  static awaitable<void> echo_back(std::unique_ptr<support::MemoryStream> stream) {
    std::array<std::byte, 4096> buffer;
    for (;;) {
      const auto got = co_await stream->read(buffer);
      if (!got) co_return;
      if (*got == 0) {
        co_await stream->shutdown_write();
        co_return;
      }
      co_await stream->write(std::span(buffer).first(*got));
    }
  }
  std::unique_ptr<tunnel::ByteStream> open(std::string_view line) {
    auto stream = *mux->open();
    EXPECT_TRUE(run_async(io, stream->write(bytes_of(line))));
    return stream;
  }
  json control_message() {
    std::string line;
    while (line.empty() || line.back() != '\n') {
      const auto piece = run_async(io, support::read_exactly(*control, 1));
      if (piece.empty()) return nullptr;
      line += piece;
    }
    return json::parse(line);
  }
  void tell(std::string_view line) { EXPECT_TRUE(run_async(io, control->write(bytes_of(line)))); }

  std::shared_ptr<MemoryWebSocket::State> state = std::make_shared<MemoryWebSocket::State>();
  std::weak_ptr<MemoryWebSocket> server_socket;
  std::shared_ptr<links::Link> link;
  std::shared_ptr<links::Link> client;
  std::unique_ptr<links::Mux> mux;
  std::shared_ptr<TunnelSession> session;
  std::unique_ptr<tunnel::ByteStream> control;
  std::vector<std::string> openings;
  std::vector<tunnel::RelayEnd::How> ends;
  bool ended = false;
  bool client_ended = false;
};

TEST_F(Session, GreetsOnTheFirstStreamAndServesTheOthers) {
  start(caller("ann"), {.max_streams = 7, .instance_id = "edge-1"});
  tell("\n");
  const auto hello = control_message();
  EXPECT_EQ(hello["type"], "hello");
  EXPECT_EQ(hello["sessionId"], links::to_hex(link->id()));
  EXPECT_EQ(hello["instanceId"], "edge-1");
  EXPECT_EQ(hello["limits"]["streams"], 7);
  const auto stream = open("{\"service\":\"db\"}\nearly");
  EXPECT_EQ(run_async(io, support::read_exactly(*stream, 5)), "early");
  EXPECT_EQ(openings, std::vector<std::string>{"db"});
}

TEST_F(Session, HandsARefusedOpeningOn) {
  start(caller("ann"));
  tell("\n");
  const auto nonsense = open("nonsense\n");
  const auto too_long = open(std::string(5000, 'x'));
  ASSERT_TRUE(run_until([this] { return openings.size() == 2; }));
  EXPECT_EQ(openings, (std::vector<std::string>{"TUNNEL_010", "TUNNEL_010"}));
}

TEST_F(Session, DoesNotWaitForEverForAnOpening) {
  start(caller("ann"), {.opening_timeout = 20ms});
  tell("\n");
  const auto stream = open("{\"service\":");
  EXPECT_TRUE(run_async(io, support::read_all(*stream)).empty());
  EXPECT_TRUE(openings.empty());
}

TEST_F(Session, EndsAllOfItWhenItsTokenDoes) {
  start(caller("ann", 1s));
  tell("\n");
  const auto stream = open("{\"service\":\"db\"}\n");
  EXPECT_EQ(control_message()["type"], "hello");
  EXPECT_EQ(control_message()["type"], "auth.expiring");
  ASSERT_TRUE(run_until([this] { return ended && state->close_code != 0; }));
  EXPECT_EQ(state->close_code, 4401);
  EXPECT_EQ(ends, std::vector{tunnel::RelayEnd::How::expired});
  EXPECT_EQ(session->ending().how, tunnel::RelayEnd::How::expired);
  EXPECT_EQ(link->state(), links::Link::State::over);
}

TEST_F(Session, LivesOnWithANewerToken) {
  start(caller("ann", 1s));
  EXPECT_EQ((tell("{\"type\":\"auth.refresh\",\"token\":\"" + token_text("ann", 3600s) + "\"}\n"),
             control_message()["type"]),
            "hello");
  auto next = control_message();
  if (next["type"] == "auth.expiring") next = control_message();
  EXPECT_EQ(next["type"], "auth.ok");
  EXPECT_GT(session->token()->principal.expires_at, std::chrono::system_clock::now() + 1h - 10s);
  tell("{\"type\":\"auth.refresh\",\"token\":\"" + token_text("ben", 3600s) + "\"}\n");
  const auto refused = control_message();
  EXPECT_EQ(refused["type"], "error");
  EXPECT_EQ(refused["error"]["code"], "TUNNEL_011");
  EXPECT_FALSE(ended);
}

TEST_F(Session, RevocationClosesWith4401) {
  start(caller("ann"));
  tell("\n");
  access::Revocations::Entry entry;
  entry.issuer = "tunneld";
  entry.subject = "ann";
  entry.issued_until = std::chrono::system_clock::now() + 1s;
  ASSERT_TRUE(revocations->add(entry, std::chrono::system_clock::now()));
  streams->check_revocations();
  ASSERT_TRUE(run_until([this] { return ended && state->close_code != 0; }));
  EXPECT_EQ(state->close_code, 4401);
  EXPECT_EQ(json::parse(state->close_reason)["code"], "TUNNEL_002");
}

TEST_F(Session, ADrainIsToldAndWaitsForStreamsThatMove) {
  start(caller("ann"));
  tell("\n");
  const auto stream = open("{\"service\":\"db\"}\nx");
  EXPECT_EQ(run_async(io, support::read_exactly(*stream, 1)), "x");
  streams->drain(std::chrono::system_clock::now() + 30s, "sigterm", 50ms);
  EXPECT_EQ(control_message()["type"], "hello");
  EXPECT_EQ(control_message()["type"], "error") << "an empty line is no message";
  EXPECT_EQ(control_message()["type"], "maintenance");
  EXPECT_FALSE(ended);
  ASSERT_TRUE(run_until([this] { return ended && state->close_code != 0; })) << "the stream pauses";
  EXPECT_EQ(state->close_code, 1012);
  EXPECT_EQ(ends, std::vector{tunnel::RelayEnd::How::draining});
}

TEST_F(Session, ADrainEndsAnIdleOneSoon) {
  start(caller("ann"));
  tell("\n");
  streams->drain(std::chrono::system_clock::now() + 30s, "sigterm", 10ms);
  ASSERT_TRUE(run_until([this] { return ended && state->close_code != 0; }));
  EXPECT_EQ(state->close_code, 1012);
}

TEST_F(Session, SaysWhatItDidNotUnderstandAndEndsAFlood) {
  start(caller("ann"));
  tell("{\"type\":\"nothing\"}\n");
  EXPECT_EQ(control_message()["type"], "hello");
  EXPECT_EQ(control_message()["error"]["code"], "TUNNEL_010");
  for (int i = 0; i < 20 && !ended; ++i) run_async(io, control->write(bytes_of("{}\n")));
  ASSERT_TRUE(run_until([this] { return ended && state->close_code != 0; }));
  EXPECT_EQ(state->close_code, 1008);
}

TEST_F(Session, OutlivesItsWebSocketAndTakesTheTokenOfTheNext) {
  start(caller("ann", 600s));
  tell("\n");
  const auto stream = open("{\"service\":\"db\"}\nx");
  EXPECT_EQ(run_async(io, support::read_exactly(*stream, 1)), "x");
  server_socket.lock()->close();
  ASSERT_TRUE(run_until([this] { return link->state() == links::Link::State::detached; }));
  EXPECT_FALSE(ended);

  auto [near, far] = memory_streams(io.get_executor(), 1024 * 1024);
  const auto again = std::make_shared<MemoryWebSocket::State>();
  auto socket = std::make_shared<MemoryWebSocket>(std::move(near), again);
  auto newer = caller("ann", 3600s).token;
  const auto longer = newer->principal.expires_at;
  bool accepted = false;
  boost::asio::co_spawn(
      io, link->accept_again(std::make_unique<Carrier>(std::move(socket), std::move(newer), Farewell{})),
      [&](std::exception_ptr, Result<void> done) { accepted = done.has_value(); });
  ASSERT_TRUE(run_async(io, client->resume(std::move(far))));
  ASSERT_TRUE(run_until([&] { return accepted; }));
  EXPECT_EQ(session->token()->principal.expires_at, longer);
  EXPECT_TRUE(run_async(io, stream->write(bytes_of("y"))));
  EXPECT_EQ(run_async(io, support::read_exactly(*stream, 1)), "y");
}

TEST_F(Session, SilenceIsPartOfTheWindow) {
  start(caller("ann"), {.dead_after = 60'000ms - 20ms});
  tell("\n");
  state->close_code = 4408;  // the door waited for so long
  server_socket.lock()->close();
  ASSERT_TRUE(run_until([this] { return ended; })) << "within 20 ms, not another minute";
  EXPECT_EQ(link->state(), links::Link::State::over);
}

TEST_F(Session, AWebSocketThatAnOperatorClosedTakesItsLinkAlong) {
  start(caller("ann"));
  tell("\n");
  state->close_code = 1008;  // as the door does it
  server_socket.lock()->close();
  ASSERT_TRUE(run_until([this] { return ended; }));
  EXPECT_EQ(session->ending().how, tunnel::RelayEnd::How::closed_by_admin);
}

TEST_F(Session, TheClientsGoodbyeIsAnsweredWith1000) {
  start(caller("ann"));
  tell("\n");
  const auto stream = open("{\"service\":\"db\"}\nx");
  EXPECT_EQ(run_async(io, support::read_exactly(*stream, 1)), "x");
  client->close();
  ASSERT_TRUE(run_until([this] { return ended && state->close_code != 0; }));
  EXPECT_EQ(state->close_code, 1000);
  EXPECT_EQ(ends, std::vector{tunnel::RelayEnd::How::caller_failed});
}

}  // namespace
}  // namespace tunneld
