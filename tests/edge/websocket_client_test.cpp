#include "edge/websocket_client.h"

#include <array>
#include <atomic>
#include <fstream>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include "edge/websocket.h"
#include "edge/websocket_handshake.h"
#include "tests/edge/door.h"
#include "tests/support/loopback_server.h"
#include "tests/support/run_async.h"
#include "tests/support/websocket_caller.h"

namespace edge {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using support::Identity;
using support::LoopbackServer;
using support::TemporaryFile;
using Stream = std::unique_ptr<tunnel::WebSocketStream>;
using Outcome = tl::expected<Stream, ConnectFailure>;

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// The tests' end. Streams must be gone before it.
struct Client {
  asio::io_context io{1};
  ClientTarget target{};
  ClientRequest request{};
  Options options{};
  ConnectReport report{};

  explicit Client(std::string url) {
    target.url = std::move(url);
    target.proxies = http::Proxies{};
    target.timeout = 8s;
  }
  Outcome connect() {
    return support::run_async(io, connect_websocket(io, target, request, options, &report));
  }
  Stream connected() {
    auto outcome = connect();
    if (!outcome) throw std::runtime_error(outcome.error().cause + ": " + outcome.error().message);
    return std::move(*outcome);
  }
  /// What a connection that must fail says.
  ConnectFailure failure() {
    auto outcome = connect();
    if (outcome) throw std::runtime_error("it connected");
    return outcome.error();
  }
  Result<void> write(Stream& stream, std::string_view text) {
    return support::run_async(io, stream->write(bytes_of(text)));
  }
  /// That many bytes, or less at the end.
  std::string read(Stream& stream, std::size_t bytes) {
    return support::run_async(io, read_all(*stream, bytes));
  }
  void close(Stream& stream, std::uint16_t code) { support::run_async(io, stream->close_with(code, "")); }

  static asio::awaitable<std::string> read_all(tunnel::WebSocketStream& stream, std::size_t bytes) {
    std::string all;
    std::vector<std::byte> buffer(64 * 1024);
    while (all.size() < bytes) {
      auto got = co_await stream.read(buffer);
      if (!got || *got == 0) break;
      all.append(reinterpret_cast<const char*>(buffer.data()), *got);
    }
    co_return all;
  }
};

std::string plain_url(std::uint16_t port, const std::string& path = "/") {
  return "ws://127.0.0.1:" + std::to_string(port) + path;
}

/// Talks to each caller in turn, in whatever way a test wants.
class RawServer {
 public:
  using Talk = std::function<void(tcp::socket&)>;
  explicit RawServer(Talk talk)
      : talk_(std::move(talk)),
        acceptor_(io_, {asio::ip::address_v4::loopback(), 0}),
        port(acceptor_.local_endpoint().port()),
        thread_([this] { serve(); }) {}
  ~RawServer() {
    ending_ = true;
    ::shutdown(acceptor_.native_handle(), SHUT_RDWR);
    thread_.join();
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;

  std::atomic<int> accepted{0};
  std::atomic<int> left{0};  // callers that are gone

 private:
  void serve() {
    while (!ending_) {
      tcp::socket socket(io_);
      boost::system::error_code error;
      acceptor_.accept(socket, error);
      if (error) continue;
      const timeval limit{10, 0};
      ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      ++accepted;
      talk_(socket);
      socket.close(error);
      ++left;
    }
  }
  const Talk talk_;
  asio::io_context io_;
  tcp::acceptor acceptor_;
  std::atomic<bool> ending_{false};

 public:
  const std::uint16_t port;

 private:
  std::thread thread_;
};

/// Reads until the caller is gone and answers nothing.
void say_nothing(tcp::socket& socket) {
  std::array<char, 4096> buffer;
  boost::system::error_code error;
  while (!error) socket.read_some(asio::buffer(buffer), error);
}

std::string read_head(tcp::socket& socket) {
  std::string head;
  boost::system::error_code error;
  std::array<char, 1> byte;
  while (!error && !head.ends_with("\r\n\r\n")) {
    const auto got = asio::read(socket, asio::buffer(byte), error);
    head.append(byte.data(), got);
  }
  return head;
}

std::string read_exactly(tcp::socket& socket, std::size_t bytes) {
  std::string got(bytes, '\0');
  boost::system::error_code error;
  got.resize(asio::read(socket, asio::buffer(got), error));
  return got;
}

void send(tcp::socket& socket, const std::string& bytes) {
  boost::system::error_code ignored;
  asio::write(socket, asio::buffer(bytes), ignored);
}

std::string switching_for(const std::string& head) {
  const std::string name = "Sec-WebSocket-Key: ";
  const auto at = head.find(name) + name.size();
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
         "Upgrade\r\nSec-WebSocket-Accept: " +
         accept_value(head.substr(at, head.find('\r', at) - at)) + "\r\n\r\n";
}

/// Copies both ways between the caller and a port until the caller is gone.
void relay(tcp::socket& caller, std::uint16_t port) {
  asio::io_context io;
  tcp::socket server(io);
  boost::system::error_code error;
  server.connect({asio::ip::address_v4::loopback(), port}, error);
  const auto copy = [](tcp::socket& from, tcp::socket& to) {
    std::array<char, 16 * 1024> buffer;
    boost::system::error_code over;
    while (!over) {
      const auto got = from.read_some(asio::buffer(buffer), over);
      boost::system::error_code ignored;
      asio::write(to, asio::buffer(buffer, got), ignored);
    }
    to.shutdown(tcp::socket::shutdown_both, over);
  };
  std::thread back([&] { copy(server, caller); });
  copy(caller, server);
  back.join();
}

Door::Setup tls_door(const Identity& identity) {
  const TemporaryFile certificate(identity.certificate);
  const TemporaryFile key(identity.key);
  auto tls = load_tls({certificate.path(), key.path()});
  EXPECT_TRUE(tls) << tls.error().message;
  Door::Setup setup;
  setup.more.tls = *tls;
  return setup;
}

std::string tls_url(const Door& door, const std::string& host = "localhost") {
  return "wss://" + host + ":" + std::to_string(door.port) + "/";
}

class WebSocketClients : public testing::TestWithParam<bool> {
 protected:
  static Door::Setup setup() {
    Door::Setup made;
    made.tls = GetParam();
    return made;
  }
  static void aim(Client& client, const Door& door, const std::string& path = "/") {
    client.target.url =
        (GetParam() ? "wss://127.0.0.1:" : "ws://127.0.0.1:") + std::to_string(door.port) + path;
    if (GetParam()) client.target.tls.ca = door.certificate();
  }
};
INSTANTIATE_TEST_SUITE_P(Over, WebSocketClients, testing::Bool(),
                         [](const auto& over) { return over.param ? "Tls" : "Plain"; });

TEST_P(WebSocketClients, TalkBothWaysAndCloseInGoodOrder) {
  Door door(setup(), answer_websocket_echo);
  Client client("");
  aim(client, door);
  auto stream = client.connected();
  EXPECT_TRUE(client.write(stream, "hello"));
  EXPECT_EQ(client.read(stream, 5), "hello");
  client.close(stream, 1000);
  EXPECT_EQ(stream->ending().code, 1000);
  EXPECT_FALSE(stream->ending().by_peer);
  EXPECT_TRUE(door.ended("upgraded"));
  EXPECT_EQ(door.last_ended().close_code, 1000);
  EXPECT_STREQ(door.last_ended().closed_by, "client");
  EXPECT_EQ(client.report.address, "127.0.0.1:" + std::to_string(door.port));
  EXPECT_EQ(client.report.tls_version, GetParam() ? "TLSv1.3" : "");
  EXPECT_GE(client.report.socket, 0);
}

TEST_P(WebSocketClients, CarryMegabytesBothWays) {
  Door door(setup(), answer_websocket_echo);
  Client client("");
  aim(client, door, "/half-close");
  client.request.empty_message_ends = true;
  auto stream = client.connected();
  std::string sent(8 * 1024 * 1024, '\0');
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7 + i / 251);
  std::string got;
  bool failed = false;
  asio::co_spawn(client.io, stream->write(bytes_of(sent)),
                 [&](const std::exception_ptr&, Result<void> done) { failed = !done; });
  got = client.read(stream, sent.size());
  EXPECT_FALSE(failed);
  EXPECT_TRUE(got == sent);
  EXPECT_TRUE(support::run_async(client.io, stream->shutdown_write()));
  EXPECT_EQ(client.read(stream, 1), "");
  client.close(stream, 1000);
}

TEST_P(WebSocketClients, SendPiecesAsOneMessage) {
  std::promise<std::string> message;
  Door door(setup(), [&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const tunnel::WebSocketAccept accept;
    auto stream = co_await exchange.accept_websocket(accept);
    if (!stream) co_return;
    auto& socket = dynamic_cast<WebSocketDoor&>(**stream).websocket();
    std::string all;
    std::array<std::byte, 1000> buffer;
    for (bool end = false; !end;) {
      auto piece = co_await socket.read_piece(buffer);
      if (!piece || piece->ended) break;
      all.append(reinterpret_cast<const char*>(buffer.data()), piece->bytes);
      end = piece->message_end;
    }
    message.set_value(all);
    co_await (*stream)->close_with(1000, "");
  });
  Client client("");
  aim(client, door);
  auto stream = client.connected();
  const std::string body(3001, 'b');  // so that the mask must be turned between them
  const std::vector<std::span<const std::byte>> pieces{bytes_of("head!"), bytes_of(body), bytes_of("tail")};
  EXPECT_TRUE(support::run_async(client.io, stream->write_pieces(pieces)));
  EXPECT_EQ(message.get_future().get(), "head!" + body + "tail");
  EXPECT_EQ(client.read(stream, 1), "");
}

TEST_P(WebSocketClients, LearnWhyTheServerEndedThem) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const tunnel::WebSocketAccept accept;
    auto stream = co_await exchange.accept_websocket(accept);
    if (stream) co_await (*stream)->close_with(4409, "a newer one");
  });
  Client client("");
  aim(client, door);
  auto stream = client.connected();
  std::array<std::byte, 10> buffer;
  EXPECT_FALSE(support::run_async(client.io, stream->read(buffer)));
  EXPECT_EQ(stream->ending().code, 4409);
  EXPECT_TRUE(stream->ending().by_peer);
  EXPECT_EQ(stream->ending().reason, "a newer one");
  EXPECT_TRUE(door.ended("upgraded"));
}

TEST_P(WebSocketClients, TakeNoMoreOfAReasonThanACloseHasRoomFor) {
  const std::string longest = std::string(121, 'x') + "\xC3\xA4";  // 123 bytes
  Door door(setup(), [&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const tunnel::WebSocketAccept accept;
    auto stream = co_await exchange.accept_websocket(accept);
    const auto reason = longest + " and more";
    if (stream) co_await (*stream)->close_with(1013, reason);
  });
  Client client("");
  aim(client, door);
  auto stream = client.connected();
  EXPECT_EQ(client.read(stream, 1), "");
  EXPECT_EQ(stream->ending().code, 1013);
  EXPECT_EQ(stream->ending().reason, longest);
}

TEST_P(WebSocketClients, TellHowTheirPingsWereAnswered) {
  Door door(setup(), answer_websocket_echo);
  Client client("");
  client.options.ping_after = 20ms;
  aim(client, door);
  auto stream = client.connected();
  EXPECT_EQ(stream->vitals().pings, 0U);
  EXPECT_GE(stream->vitals().socket, 0);
  asio::co_spawn(client.io, Client::read_all(*stream, 1),
                 [](const std::exception_ptr&, const std::string&) {});
  const auto give_up = std::chrono::steady_clock::now() + 10s;
  client.io.restart();
  while (stream->vitals().pongs < 3 && std::chrono::steady_clock::now() < give_up)
    client.io.run_one_for(10ms);
  const auto vitals = stream->vitals();
  EXPECT_GE(vitals.pongs, 3U);
  EXPECT_EQ(vitals.pings, vitals.pongs + (vitals.waiting ? 1 : 0));
  EXPECT_GT(vitals.round_trip.count(), 0);
  client.close(stream, 1000);
  EXPECT_EQ(stream->vitals().socket, -1);
}

TEST_P(WebSocketClients, ExchangeControlMessages) {
  Door door(setup(), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    tunnel::WebSocketAccept accept;
    accept.control_messages = true;
    auto stream = co_await exchange.accept_websocket(accept);
    if (!stream) co_return;
    auto* socket = stream->get();
    std::function<void(std::string)> answer = [socket](const std::string& text) {
      socket->post_control("to " + text);
    };
    socket->on_control(answer);
    std::array<std::byte, 100> buffer;
    auto got = co_await socket->read(buffer);
    if (got) (void)co_await socket->write(std::span(buffer).first(*got));
    (void)co_await socket->read(buffer);
  });
  Client client("");
  aim(client, door);
  client.request.control_messages = true;
  auto stream = client.connected();
  std::vector<std::string> heard;
  stream->on_control([&](std::string text) { heard.push_back(std::move(text)); });
  EXPECT_TRUE(stream->post_control("one"));
  EXPECT_TRUE(stream->post_control(std::string(300, 'x')));
  EXPECT_TRUE(client.write(stream, "data"));
  EXPECT_EQ(client.read(stream, 4), "data");
  EXPECT_EQ(heard, (std::vector<std::string>{"to one", "to " + std::string(300, 'x')}));
}

TEST_P(WebSocketClients, AnswerPings) {
  auto made = setup();
  made.options.ping_after = 20ms;
  Door door(std::move(made), answer_websocket_echo);
  Client client("");
  aim(client, door);
  auto stream = client.connected();
  asio::co_spawn(client.io, Client::read_all(*stream, 1),
                 [](const std::exception_ptr&, const std::string&) {});
  EXPECT_TRUE(eventually([&] {
    client.io.poll();
    return door.observer.count("heartbeat_rtt") >= 2;
  }));
}

TEST_P(WebSocketClients, OfferSubprotocolsFieldsAndTheToken) {
  std::promise<std::vector<std::string>> seen;
  Door door(setup(), [&](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    const auto& request = exchange.request();
    const auto field = [&](const char* name) {
      const auto* value = request.find(name);
      return value != nullptr ? *value : std::string("-");
    };
    seen.set_value({request.target, field("Authorization"), field("Sec-WebSocket-Protocol"),
                    field("Tunnel-Session"), field("Sec-WebSocket-Extensions")});
    tunnel::WebSocketAccept accept;
    accept.subprotocol = "tunnel.v1";
    accept.fields = {{"X-More", "yes"}};
    auto stream = co_await exchange.accept_websocket(accept);
  });
  Client client("");
  aim(client, door, "/ws?x=1");
  client.request.bearer = Secret("s3cret");
  client.request.subprotocols = {"tunnel.v1", "tunnel.raw.v1"};
  client.request.fields = {{"Tunnel-Session", "0123"}};
  auto stream = client.connected();
  EXPECT_EQ(seen.get_future().get(),
            (std::vector<std::string>{"/ws?x=1", "Bearer s3cret", "tunnel.v1, tunnel.raw.v1", "0123", "-"}));
  const auto more = std::find_if(client.report.answer_fields.begin(), client.report.answer_fields.end(),
                                 [](const auto& field) { return field.name == "X-More"; });
  EXPECT_NE(more, client.report.answer_fields.end());
}

TEST_P(WebSocketClients, CompressBothWaysWhereTheServerAgrees) {
  auto compressing = setup();
  compressing.options.compression = true;
  Door door(std::move(compressing), answer_websocket_echo);
  Client client("");
  aim(client, door);
  client.options.compression = true;
  auto stream = client.connected();
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "line " + std::to_string(i) + "\n";
  bool failed = false;
  asio::co_spawn(client.io, stream->write(bytes_of(text)),
                 [&](const std::exception_ptr&, Result<void> done) { failed = !done; });
  EXPECT_TRUE(client.read(stream, text.size()) == text);
  EXPECT_FALSE(failed);
  // Of the server: what it inflated came from us, what it deflated went to us.
  EXPECT_GE(door.observer.count("compressed:client"), 1U);
  EXPECT_GE(door.observer.count("compressed:agent"), 1U);
  client.close(stream, 1000);
  EXPECT_EQ(stream->ending().code, 1000);
}

TEST_P(WebSocketClients, DoWithoutCompressionWhereTheServerDoes) {
  Door door(setup(), answer_websocket_echo);
  Client client("");
  aim(client, door);
  client.options.compression = true;
  auto stream = client.connected();
  const std::string text(5000, 'x');
  EXPECT_TRUE(client.write(stream, text));
  EXPECT_EQ(client.read(stream, text.size()), text);
  EXPECT_EQ(door.observer.count("compressed:client"), 0U);
  client.close(stream, 1000);
}

TEST(WebSocketClient, RefusesExtensionsItDidNotOfferOrCannotWorkWith) {
  for (const bool offers : {false, true}) {
    for (const std::string extensions :
         {"permessage-deflate", "x-other; server_no_context_takeover",
          "permessage-deflate; server_no_context_takeover\r\nSec-WebSocket-Extensions: x-other"}) {
      SCOPED_TRACE(extensions);
      RawServer server([&](tcp::socket& socket) {
        auto answer = switching_for(read_head(socket));
        send(socket, answer.insert(answer.size() - 2, "Sec-WebSocket-Extensions: " + extensions + "\r\n"));
        say_nothing(socket);
      });
      Client client(plain_url(server.port));
      client.options.compression = offers;
      const auto failed = client.failure();
      EXPECT_EQ(failed.cause, "not_websocket");
      EXPECT_TRUE(has(failed.message, offers ? "offer of compression" : "nobody offered")) << failed.message;
    }
  }
}

// Heartbeat

/// Answers the upgrade, then does as told.
RawServer::Talk after_upgrade(std::function<void(tcp::socket&)> then) {
  return [then = std::move(then)](tcp::socket& socket) {
    send(socket, switching_for(read_head(socket)));
    then(socket);
  };
}

TEST(WebSocketClient, PingsThoughBytesCome) {
  std::atomic<bool> pinged{false};
  RawServer server(after_upgrade([&](tcp::socket& socket) {
    socket.non_blocking(true);
    std::string got;
    const auto give_up = std::chrono::steady_clock::now() + 5s;
    while (!pinged && std::chrono::steady_clock::now() < give_up) {
      send(socket, "\x82\x01x");
      std::array<char, 100> buffer;
      boost::system::error_code error;
      got.append(buffer.data(), socket.read_some(asio::buffer(buffer), error));
      pinged = got.size() >= 14 && got[0] == '\x89' && got[1] == '\x88';
      std::this_thread::yield();
    }
    send(socket, std::string("\x88\x02\x03\xE8", 4));
    socket.non_blocking(false);
    say_nothing(socket);
  }));
  Client client(plain_url(server.port));
  client.options.ping_after = 50ms;
  auto stream = client.connected();
  client.read(stream, SIZE_MAX);
  EXPECT_TRUE(pinged);
  EXPECT_EQ(stream->ending().code, 1000);
}

TEST(WebSocketClient, CountsASilentServerDead) {
  RawServer server(after_upgrade(say_nothing));
  Client client(plain_url(server.port));
  client.options.ping_after = 30ms;
  client.options.dead_after = 100ms;
  client.options.close_timeout = 50ms;
  auto stream = client.connected();
  std::array<std::byte, 10> buffer;
  EXPECT_FALSE(support::run_async(client.io, stream->read(buffer)));
  EXPECT_EQ(stream->ending().code, 4408);
  EXPECT_FALSE(stream->ending().by_peer);
  EXPECT_EQ(stream->ending().reason, "") << "that is the peer's";
}

TEST(WebSocketClient, RefusesMaskedFrames) {
  RawServer server(after_upgrade([](tcp::socket& socket) {
    send(socket, test::WebSocketCaller::masked(0x82, "hello"));
    say_nothing(socket);
  }));
  Client client(plain_url(server.port));
  client.options.close_timeout = 50ms;
  auto stream = client.connected();
  std::array<std::byte, 10> buffer;
  EXPECT_FALSE(support::run_async(client.io, stream->read(buffer)));
  EXPECT_EQ(stream->ending().code, 1002);
}

TEST(WebSocketClient, TakesFramesSentTogetherWithTheAnswer) {
  RawServer server([](tcp::socket& socket) {
    send(socket, switching_for(read_head(socket)) + "\x82\x05" + "early");
    say_nothing(socket);
  });
  Client client(plain_url(server.port));
  auto stream = client.connected();
  EXPECT_EQ(client.read(stream, 5), "early");
}

TEST(WebSocketClient, MasksEachFrameWithAnotherKey) {
  std::promise<std::string> frames;
  RawServer server(
      after_upgrade([&](tcp::socket& socket) { frames.set_value(read_exactly(socket, 2 * 9)); }));
  Client client(plain_url(server.port));
  auto stream = client.connected();
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(client.write(stream, "abc"));
  const auto got = frames.get_future().get();
  ASSERT_EQ(got.size(), 18U);
  EXPECT_EQ(got.substr(0, 2), "\x82\x83");
  EXPECT_NE(got.substr(2, 4), got.substr(11, 4));
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(got[6 + i] ^ got[2 + i], "abc"[i]);
}

// TLS

TEST(WebSocketClient, NamesTheCertificateItSaw) {
  Door door(tls_door(support::make_identity("DNS:localhost", 3600)), answer_websocket_echo);
  Client client(tls_url(door));
  client.target.tls.insecure = true;
  auto stream = client.connected();
  EXPECT_EQ(client.report.certificate_subject, "CN=test");
  EXPECT_EQ(client.report.certificate_issuer, "CN=test");
  const auto left = client.report.certificate_ends - std::chrono::system_clock::now();
  EXPECT_GT(left, 50min);
  EXPECT_LT(left, 61min);
  EXPECT_GT(client.report.tls, 0ns);
}

TEST(WebSocketClient, TriesEveryAddressOfAName) {
  const auto identity = support::make_identity("DNS:localhost");
  const TemporaryFile ca(identity.certificate);
  Door door(tls_door(identity), answer_websocket_echo);  // on 127.0.0.1 alone; localhost is ::1 too
  Client client(tls_url(door));
  client.target.tls.ca = ca.path();
  auto stream = client.connected();
  EXPECT_TRUE(client.write(stream, "hello"));
  EXPECT_EQ(client.read(stream, 5), "hello");
}

TEST(WebSocketClient, TellsWhatIsWrongWithACertificate) {
  const auto good = support::make_identity("DNS:localhost,IP:127.0.0.1");
  const auto other = support::make_identity("DNS:other.example");
  const auto expired = support::make_identity("DNS:localhost", -60);
  struct Row {
    const char* what;
    const Identity& shown;
    const Identity& trusted;
    const char* host;
    const char* cause;
  };
  const Row rows[] = {{"untrusted", good, other, "localhost", "certificate_untrusted"},
                      {"wrong name", other, other, "localhost", "certificate_name"},
                      {"wrong address", other, other, "127.0.0.1", "certificate_name"},
                      {"expired", expired, expired, "localhost", "certificate_time"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const TemporaryFile ca(row.trusted.certificate);
    Door door(tls_door(row.shown), answer_websocket_echo);
    Client client(tls_url(door, row.host));
    client.target.tls.ca = ca.path();
    const auto failed = client.failure();
    EXPECT_EQ(failed.step, ConnectStep::tls);
    EXPECT_EQ(failed.cause, row.cause) << failed.message;
    EXPECT_TRUE(has(failed.message, "CN=test")) << failed.message;
    EXPECT_TRUE(has(failed.message, row.host)) << failed.message;
    EXPECT_EQ(client.report.certificate_subject, "CN=test");
  }
}

TEST(WebSocketClient, TrustsNobodyWithoutACaFile) {
  Door door(tls_door(support::make_identity("DNS:localhost")), answer_websocket_echo);
  Client client(tls_url(door));
  EXPECT_EQ(client.failure().cause, "certificate_untrusted");
}

TEST(WebSocketClient, ShowsItsOwnCertificate) {
  const auto server_identity = support::make_identity("IP:127.0.0.1");
  const auto client_identity = support::make_identity("DNS:client");
  const TemporaryFile ca(server_identity.certificate);
  const TemporaryFile certificate(client_identity.certificate + client_identity.key);
  LoopbackServer server(
      [](const LoopbackServer::Seen& seen) { return LoopbackServer::Reply{switching_for(seen.head)}; },
      {.identity = &server_identity, .client = &client_identity});
  Client client("wss://127.0.0.1:" + std::to_string(server.port()) + "/");
  client.target.tls.ca = ca.path();
  const auto refused = client.failure();
  EXPECT_EQ(refused.step, ConnectStep::tls);
  EXPECT_EQ(refused.cause, "tls_failed") << refused.message;
  client.target.tls.certificate = certificate.path();
  auto stream = client.connected();
}

TEST(WebSocketClient, NamesTheFileItCannotUse) {
  const TemporaryFile rubbish("no certificate");
  Client client("wss://127.0.0.1:9/");
  client.target.tls.ca = rubbish.path();
  const auto failed = client.failure();
  EXPECT_EQ(failed.cause, "tls_failed");
  EXPECT_TRUE(has(failed.message, rubbish.path().string())) << failed.message;
}

TEST(WebSocketClient, SpeaksNoTlsOlderThan12) {
  const auto identity = support::make_identity("IP:127.0.0.1");
  const TemporaryFile ca(identity.certificate);
  LoopbackServer server([](const LoopbackServer::Seen&) { return LoopbackServer::Reply{}; },
                        {.identity = &identity, .only_tls_1_1 = true});
  Client client("wss://127.0.0.1:" + std::to_string(server.port()) + "/");
  client.target.tls.ca = ca.path();
  EXPECT_EQ(client.failure().cause, "tls_failed");
}

// What is not a WebSocket server

TEST(WebSocketClient, RefusesUrlsItCannotUse) {
  for (const char* url : {"ws://tunnel.example/ws", "http://127.0.0.1/", "wss://", "wss://a b/",
                          "wss://ann:pw@a.example/", "ws://127.0.0.1:0/"}) {
    SCOPED_TRACE(url);
    Client client(url);
    const auto failed = client.failure();
    EXPECT_EQ(failed.step, ConnectStep::address);
    EXPECT_EQ(failed.cause, "bad_address");
    EXPECT_FALSE(has(failed.message, "pw")) << failed.message;
  }
  Client client("ws://127.0.0.1:9/");
  client.request.bearer = Secret("to\r\nken");
  EXPECT_EQ(client.failure().cause, "bad_address");
}

TEST(WebSocketClient, SaysWhatItFoundInsteadOfAWebSocket) {
  const std::string error = tunnel::error_body(
      {tunnel::Code::rate_limited, "s3cret is over its limit", std::chrono::seconds(7), std::nullopt},
      "2026-01-01T00:00:00Z", "r", "c");
  const auto answer = [](const std::string& head, const std::string& body) {
    return "HTTP/1.1 " + head + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  };
  struct Row {
    std::string bytes;
    const char* cause;
    unsigned status;
    const char* says;
    const char* code;
    std::optional<std::chrono::milliseconds> retry_after;
  };
  const Row rows[] = {
      {answer("302 Found\r\nLocation: http://login.example/?session=1", ""),
       "captive_portal",
       302,
       "to http://login.example/",
       "",
       {}},
      {answer("200 OK\r\nContent-Type: text/html; charset=utf-8", "<html>"),
       "captive_portal",
       200,
       "sign-in",
       "",
       {}},
      {answer("511 Network Authentication Required", ""), "captive_portal", 511, "511", "", {}},
      {answer("200 OK\r\nContent-Type: text/plain", "hello"), "upgrade_stripped", 200, "Upgrade", "", {}},
      {answer("400 Bad Request", ""), "upgrade_stripped", 400, "400", "", {}},
      {answer("426 Upgrade Required", ""), "upgrade_stripped", 426, "426", "", {}},
      {answer("404 Not Found", ""), "refused_by_server", 404, "404 Not Found", "", {}},
      {answer("503 Service Unavailable\r\nRetry-After: 3", ""), "refused_by_server", 503, "503", "", 3s},
      {answer("503 Service Unavailable\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nRetry-After: Thu, 01 Jan "
              "2026 00:01:00 "
              "GMT",
              ""),
       "refused_by_server", 503, "503", "", 60s},
      {answer("429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 3", error),
       "refused_by_server", 429, "TUNNEL_005: *** is over its limit", "TUNNEL_005", 7s},
      {answer("400 Bad Request\r\nContent-Type: application/json", error), "refused_by_server", 400,
       "TUNNEL_005", "TUNNEL_005", 7s},
      {answer("426 Upgrade Required\r\nContent-Type: application/json", error), "upgrade_stripped", 426,
       "removed the Upgrade field", "TUNNEL_005", 7s},
      {"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
           tunnel::chunk_prefix(error.size()) + error + "\r\n0\r\n\r\n",
       "refused_by_server", 400, "TUNNEL_005", "TUNNEL_005", 7s},
      {answer("400 Bad Request\r\nContent-Type: application/json", "{}"),
       "upgrade_stripped",
       400,
       "400",
       "",
       {}},
      {"SSH-2.0-OpenSSH_9.2\r\n", "not_http", 0, "SSH-2.0-OpenSSH_9.2", "", {}},
      {"HTTP/1.1 101 Switching Protocols\r\nno field\r\n\r\n", "not_http", 0, "broken HTTP", "", {}},
      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
       "not_websocket",
       0,
       "other than WebSocket",
       "",
       {}},
      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
       "Upgrade\r\nSec-WebSocket-Accept: "
       "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
       "not_websocket",
       0,
       "Sec-WebSocket-Accept",
       "",
       {}},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.bytes);
    RawServer server([&](tcp::socket& socket) {
      read_head(socket);
      send(socket, row.bytes);
      say_nothing(socket);
    });
    Client client(plain_url(server.port));
    client.request.bearer = Secret("s3cret");
    const auto failed = client.failure();
    EXPECT_EQ(failed.step, ConnectStep::upgrade);
    EXPECT_EQ(failed.cause, row.cause) << failed.message;
    EXPECT_EQ(failed.status, row.status);
    EXPECT_TRUE(has(failed.message, row.says)) << failed.message;
    EXPECT_FALSE(has(failed.message, "s3cret")) << failed.message;
    EXPECT_FALSE(has(failed.message, "\n"));
    EXPECT_EQ(failed.error_code, row.code);
    EXPECT_EQ(failed.retry_after, row.retry_after);
  }
}

TEST(WebSocketClient, InsistsOnASubprotocolItOffered) {
  for (const std::string chosen : {"", "Sec-WebSocket-Protocol: other\r\n"}) {
    RawServer server([&](tcp::socket& socket) {
      auto answer = switching_for(read_head(socket));
      send(socket, answer.insert(answer.size() - 2, chosen));
      say_nothing(socket);
    });
    Client client(plain_url(server.port));
    client.request.subprotocols = {"tunnel.v1"};
    const auto failed = client.failure();
    EXPECT_EQ(failed.cause, "not_websocket");
    EXPECT_TRUE(has(failed.message, "subprotocol")) << failed.message;
  }
}

TEST(WebSocketClient, NoticesAServerThatHangsUp) {
  RawServer server([](tcp::socket& socket) { read_head(socket); });
  Client client(plain_url(server.port));
  const auto failed = client.failure();
  EXPECT_EQ(failed.step, ConnectStep::upgrade);
  EXPECT_EQ(failed.cause, "broken");
}

TEST(WebSocketClient, SaysWhenNobodyListens) {
  std::uint16_t port = 0;
  {
    RawServer server(say_nothing);
    port = server.port;
  }
  Client client(plain_url(port));
  const auto failed = client.failure();
  EXPECT_EQ(failed.step, ConnectStep::tcp);
  EXPECT_EQ(failed.cause, "refused");
  EXPECT_TRUE(has(failed.message, "127.0.0.1:" + std::to_string(port))) << failed.message;
}

TEST(WebSocketClient, SaysWhenTheNameIsUnknown) {
  Client client("wss://no-such-host.invalid/");
  const auto failed = client.failure();
  EXPECT_EQ(failed.step, ConnectStep::dns);
  EXPECT_EQ(failed.cause, "dns_failed");
  EXPECT_TRUE(has(failed.message, "no-such-host.invalid")) << failed.message;
}

/// Accepts no connection, and its queue is full: the next one waits.
class FullListener {
 public:
  FullListener() {
    acceptor_.open(tcp::v4());
    acceptor_.bind({asio::ip::address_v4::loopback(), 0});
    acceptor_.listen(0);
    port = acceptor_.local_endpoint().port();
    for (auto& socket : waiting_) {
      socket.open(tcp::v4());
      socket.non_blocking(true);
      const tcp::endpoint here(asio::ip::address_v4::loopback(), port);
      // Not asio's, which waits for the outcome.
      (void)::connect(socket.native_handle(), here.data(), static_cast<socklen_t>(here.size()));
    }
  }
  std::uint16_t port = 0;

 private:
  asio::io_context io_;
  tcp::acceptor acceptor_{io_};
  std::array<tcp::socket, 3> waiting_{tcp::socket(io_), tcp::socket(io_), tcp::socket(io_)};
};

TEST(WebSocketClient, GivesUpInTime) {
  const FullListener full;
  const TemporaryFile ca(support::make_identity("DNS:a").certificate);  // the system's take a while
  RawServer silent(say_nothing);
  struct Row {
    std::string url;
    ConnectStep step;
  };
  const Row rows[] = {{plain_url(full.port), ConnectStep::tcp},
                      {"wss://127.0.0.1:" + std::to_string(silent.port), ConnectStep::tls},
                      {plain_url(silent.port), ConnectStep::upgrade}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.url);
    Client client(row.url);
    client.target.timeout = 200ms;
    client.target.tls.ca = ca.path();
    const auto failed = client.failure();
    EXPECT_EQ(failed.step, row.step);
    EXPECT_EQ(failed.cause, "timed_out") << failed.message;
  }
}

TEST(WebSocketClient, CanBeCancelledAtEachStep) {
  const FullListener full;
  RawServer silent(say_nothing);
  struct Row {
    std::string url;
    std::string proxy;
    ConnectStep step;
    bool reaches_silent;
  };
  const auto there = "127.0.0.1:" + std::to_string(silent.port);
  const Row rows[] = {{"wss://no-such-host.invalid/", "", ConnectStep::dns, false},
                      {plain_url(full.port), "", ConnectStep::tcp, false},
                      {"ws://a.example/", "http://" + there, ConnectStep::proxy, true},
                      {"ws://a.example/", "socks5://" + there, ConnectStep::proxy, true},
                      {"wss://" + there, "", ConnectStep::tls, true},
                      {"ws://" + there, "", ConnectStep::upgrade, true}};
  int left = 0;
  for (const auto& row : rows) {
    SCOPED_TRACE(row.url + " " + row.proxy);
    Client client(row.url);
    client.target.allow_plain = true;
    client.target.proxies->for_http = row.proxy;
    asio::cancellation_signal cancel;
    std::optional<Outcome> outcome;
    asio::co_spawn(
        client.io, connect_websocket(client.io, client.target, client.request, client.options),
        asio::bind_cancellation_slot(cancel.slot(), [&](const std::exception_ptr& thrown, Outcome ended) {
          EXPECT_FALSE(thrown);
          outcome = std::move(ended);
        }));
    client.io.poll();
    if (row.reaches_silent) {
      EXPECT_TRUE(eventually([&] {
        client.io.restart();
        client.io.poll();
        return silent.accepted == left + 1;
      }));
      for (int i = 0; i < 20; ++i) client.io.poll();
    }
    cancel.emit(asio::cancellation_type::terminal);
    EXPECT_TRUE(eventually([&] {
      client.io.restart();
      client.io.poll();
      return outcome.has_value();
    }));
    ASSERT_TRUE(outcome.has_value());
    ASSERT_FALSE(*outcome);
    EXPECT_EQ(outcome->error().step, row.step);
    EXPECT_EQ(outcome->error().cause, "cancelled") << outcome->error().message;
    const auto expected = left + (row.reaches_silent ? 1 : 0);
    EXPECT_TRUE(eventually([&] { return silent.left == expected; })) << "left open";
    left = silent.left;
  }
}

// Proxies

/// The answer to CONNECT, and the relaying to `port` when it is 200.
RawServer::Talk http_proxy(std::uint16_t port, std::string& request, std::string answer = "200 Connected") {
  return [port, &request, answer = std::move(answer)](tcp::socket& socket) {
    request = read_head(socket);
    send(socket, "HTTP/1.1 " + answer + "\r\nX-Proxy: yes\r\n\r\n");
    if (answer.starts_with("200")) relay(socket, port);
  };
}

TEST(WebSocketClient, GoesThroughAnHttpProxyWithTls) {
  const auto identity = support::make_identity("DNS:tunnel.example");
  const TemporaryFile ca(identity.certificate);
  Door door(tls_door(identity), answer_websocket_echo);
  std::string asked;
  RawServer proxy(http_proxy(door.port, asked));
  Client client("wss://tunnel.example:4433/ws");
  client.target.tls.ca = ca.path();
  client.target.proxies->for_https = "http://ann:s3cret@127.0.0.1:" + std::to_string(proxy.port);
  client.request.bearer = Secret("t0ken");
  {
    auto stream = client.connected();
    EXPECT_TRUE(client.write(stream, "hello"));
    EXPECT_EQ(client.read(stream, 5), "hello");
  }
  EXPECT_EQ(asked,
            "CONNECT tunnel.example:4433 HTTP/1.1\r\nHost: tunnel.example:4433\r\nProxy-Authorization: Basic "
            "YW5uOnMzY3JldA==\r\n\r\n");
  EXPECT_EQ(client.report.proxy, "http://127.0.0.1:" + std::to_string(proxy.port));
}

TEST(WebSocketClient, SaysWhatTheProxyRefuses) {
  struct Row {
    const char* answer;
    const char* user;
    const char* cause;
    const char* says;
    unsigned status;
  };
  const Row rows[] = {
      {"407 Proxy Authentication Required", "", "proxy_authentication", "wants a user", 407},
      {"407 Proxy Authentication Required", "ann:s3cret@", "proxy_authentication", "does not take", 407},
      {"403 Forbidden", "", "proxy_refused", "403 Forbidden", 403},
      {"502 Bad Gateway", "", "proxy_refused", "tunnel.example:80", 502}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.answer);
    std::string asked;
    RawServer proxy(http_proxy(0, asked, row.answer));
    Client client("ws://tunnel.example/");
    client.target.allow_plain = true;
    client.target.proxies->for_http =
        std::string("http://") + row.user + "127.0.0.1:" + std::to_string(proxy.port);
    const auto failed = client.failure();
    EXPECT_EQ(failed.step, ConnectStep::proxy);
    EXPECT_EQ(failed.cause, row.cause) << failed.message;
    EXPECT_TRUE(has(failed.message, row.says)) << failed.message;
    EXPECT_FALSE(has(failed.message, "s3cret")) << failed.message;
    EXPECT_EQ(failed.status, row.status);
  }
}

TEST(WebSocketClient, SaysWhenTheProxyIsNone) {
  for (const char* scheme : {"http://", "socks5://"}) {
    RawServer ssh([](tcp::socket& socket) {
      send(socket, "SSH-2.0-OpenSSH_9.2\r\n");
      say_nothing(socket);
    });
    Client client("ws://tunnel.example/");
    client.target.allow_plain = true;
    client.target.proxies->for_http = scheme + ("127.0.0.1:" + std::to_string(ssh.port));
    const auto failed = client.failure();
    EXPECT_EQ(failed.step, ConnectStep::proxy);
    EXPECT_EQ(failed.cause, "proxy_refused") << failed.message;
  }
  Client client("wss://tunnel.example/");
  client.target.proxies->for_https = "https://proxy.example";
  EXPECT_TRUE(has(client.failure().message, "not supported"));
}

struct SocksProxy {
  std::uint16_t to = 0;
  std::string user{};  // empty: asks for none
  std::string password{};
  unsigned char reply = 0;
  std::string asked{};

  void operator()(tcp::socket& socket) {
    const auto greeting = read_exactly(socket, 2);
    const auto methods = read_exactly(socket, static_cast<unsigned char>(greeting[1]));
    const char method = user.empty() ? '\x00' : '\x02';
    if (methods.find(method) == std::string::npos) return send(socket, "\x05\xFF");
    send(socket, std::string{'\x05', method});
    if (!user.empty()) {
      const auto name = read_exactly(socket, static_cast<unsigned char>(read_exactly(socket, 2)[1]));
      const auto word = read_exactly(socket, static_cast<unsigned char>(read_exactly(socket, 1)[0]));
      const bool good = name == user && word == password;
      send(socket, std::string{'\x01', good ? '\x00' : '\x01'});
      if (!good) return;
    }
    const auto head = read_exactly(socket, 4);
    if (head[3] == 3) asked = read_exactly(socket, static_cast<unsigned char>(read_exactly(socket, 1)[0]));
    if (head[3] == 1) asked = read_exactly(socket, 4);
    asked += read_exactly(socket, 2);
    send(socket, std::string{'\x05', static_cast<char>(reply), '\x00', '\x01'} + std::string(6, '\0'));
    if (reply == 0) relay(socket, to);
  }
};

TEST(WebSocketClient, GoesThroughASocksProxy) {
  Door door(answer_websocket_echo);
  struct Row {
    const char* wants_user;
    const char* given;
    const char* scheme;
    const char* host;
    const char* asked;
  };
  const Row rows[] = {{"", "", "socks5://", "tunnel.example", "tunnel.example"},
                      {"", "ann:s3cret@", "socks5h://", "tunnel.example", "tunnel.example"},
                      {"ann", "ann:s3cret@", "socks5://", "192.0.2.1", "\xC0\x00\x02\x01"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(testing::Message() << row.scheme << row.given << row.wants_user);
    SocksProxy story{.to = door.port, .user = row.wants_user, .password = "s3cret"};
    {
      RawServer proxy([&](tcp::socket& socket) { story(socket); });
      Client client("ws://" + std::string(row.host) + "/");
      client.target.allow_plain = true;
      client.target.proxies->for_http =
          std::string(row.scheme) + row.given + "127.0.0.1:" + std::to_string(proxy.port);
      auto stream = client.connected();
      EXPECT_TRUE(client.write(stream, "hello"));
      EXPECT_EQ(client.read(stream, 5), "hello");
    }
    const std::string host =
        row.host == std::string("192.0.2.1") ? std::string("\xC0\x00\x02\x01", 4) : row.asked;
    EXPECT_EQ(story.asked, host + std::string("\x00\x50", 2));
  }
}

TEST(WebSocketClient, SaysWhatASocksProxyRefuses) {
  struct Row {
    SocksProxy story;
    const char* given;
    const char* cause;
    const char* says;
  };
  const Row rows[] = {
      {{.user = "ann", .password = "s3cret"}, "", "proxy_authentication", "logging in"},
      {{.user = "ann", .password = "s3cret"}, "ann:wr0ng@", "proxy_authentication", "does not take"},
      {{.reply = 2}, "", "proxy_refused", "not allowed by its rules"},
      {{.reply = 5}, "", "proxy_refused", "connection refused"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.says);
    auto story = row.story;
    RawServer proxy([&](tcp::socket& socket) { story(socket); });
    Client client("ws://tunnel.example/");
    client.target.allow_plain = true;
    client.target.proxies->for_http =
        std::string("socks5://") + row.given + "127.0.0.1:" + std::to_string(proxy.port);
    const auto failed = client.failure();
    EXPECT_EQ(failed.step, ConnectStep::proxy);
    EXPECT_EQ(failed.cause, row.cause) << failed.message;
    EXPECT_TRUE(has(failed.message, row.says)) << failed.message;
    EXPECT_FALSE(has(failed.message, "wr0ng")) << failed.message;
  }
}

}  // namespace
}  // namespace edge
