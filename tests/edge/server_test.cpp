#include "edge/server.h"

#include <fstream>

#include <fcntl.h>
#include <ifaddrs.h>
#include <sys/resource.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "tests/edge/door.h"
#include "tests/support/proxy_header.h"

namespace edge {
namespace {

using namespace std::chrono_literals;
using test::Caller;

const std::string kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// Answers only when told to, so that a request is under way for as long as a test needs.
struct Held {
  std::atomic<int> waiting{0};
  std::atomic<bool> go{false};
  Handle handle() {
    return [this](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
      ++waiting;
      asio::steady_timer tick(co_await asio::this_coro::executor);
      while (!go) {
        tick.expires_after(1ms);
        co_await tick.async_wait(asio::use_awaitable);
      }
      co_await answer_hello(exchange);
    };
  }
};

TEST(Server, NamesTheAddressItCannotListenOn) {
  Door other(answer_hello);
  asio::io_context context;
  test::RecordingObserver observer;
  struct Row {
    std::string address;
    const char* says;
  };
  const Row rows[] = {{"127.0.0.1:" + std::to_string(other.port), "choose another port"},
                      {"127.0.0.1", "has no port"},
                      {"127.0.0.1:99999", "has no port"},
                      {"example:80", "numeric address"},
                      {"192.0.2.1:0", "no such address"}};
  struct Nobody final : tunnel::HttpHandler {
    asio::awaitable<void> handle(tunnel::HttpExchange&) override { co_return; }
  } nobody;
  for (const auto& row : rows) {
    SCOPED_TRACE(row.address);
    Options options;
    options.listen = {"127.0.0.1:0", row.address};
    Server server(
        options,
        {{&context}, [&](std::size_t) -> tunnel::HttpHandler& { return nobody; }, &observer, nullptr, {}});
    const auto started = server.start();
    ASSERT_FALSE(started);
    EXPECT_TRUE(has(started.error().message, row.address)) << started.error().message;
    EXPECT_TRUE(has(started.error().message, row.says)) << started.error().message;
    EXPECT_TRUE(server.local_endpoints().empty());
  }
}

TEST(Server, SpreadsConnectionsOverItsThreads) {
  Door door({.threads = 3}, answer_hello);
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < 9; ++i) {
    callers.push_back(std::make_unique<Caller>(door.port));
    callers.back()->send(kGet);
    callers.back()->read_answer();
  }
  std::array<int, 3> on_thread{};
  for (const auto& connection : door.server->connections()) ++on_thread[connection.thread];
  EXPECT_EQ(on_thread, (std::array{3, 3, 3}));
}

TEST(Server, ServesHundredsOfConnectionsAtOnce) {
  Door door({.tls = true}, answer_hello);
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < 300; ++i) {
    callers.push_back(std::make_unique<Caller>(door.port));
    ASSERT_TRUE(callers.back()->start_tls()) << i << ": " << callers.back()->tls_error();
    callers.back()->send(kGet);
    ASSERT_TRUE(has(callers.back()->read_answer(), "hello"));
  }
  for (auto& caller : callers) caller->send(kGet);
  for (auto& caller : callers) ASSERT_TRUE(has(caller->read_answer(), "hello"));
  EXPECT_EQ(door.server->connection_count(), 300U);
}

TEST(Server, RefusesConnectionsOverTheLimit) {
  Options options;
  options.max_connections = 2;
  Door door({.options = options}, answer_hello);
  Caller first(door.port);
  Caller second(door.port);
  first.send(kGet);
  first.read_answer();
  second.send(kGet);
  second.read_answer();
  Caller third(door.port);
  EXPECT_EQ(third.read_to_end(), "");
  EXPECT_EQ(door.observer.count("socket_refused:max_connections"), 1);
}

/// While it lives this process may have no more than `spare` further descriptors.
class FewDescriptors {
 public:
  explicit FewDescriptors(unsigned spare) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    // The limit is about numbers, and the lowest free ones are given out: it goes behind as many of them.
    std::vector<int> fresh;
    for (unsigned i = 0; i < spare; ++i) fresh.push_back(::dup(STDERR_FILENO));
    rlimit now = before_;
    now.rlim_cur = static_cast<rlim_t>(fresh.empty() ? 0 : fresh.back() + 1);
    for (const int descriptor : fresh) ::close(descriptor);
    ::setrlimit(RLIMIT_NOFILE, &now);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
};

TEST(Server, TurnsCallersAwayWithoutDescriptorsAndRecovers) {
  Door door(answer_hello);
  Caller early(door.port);
  early.send(kGet);
  ASSERT_TRUE(has(early.read_answer(), "hello"));
  std::vector<std::string> answers;
  std::vector<int> counts;
  {
    // Nothing is printed or judged in here: UBSan's checks of objects need descriptors too.
    const FewDescriptors limit(1);  // the caller's own end
    for (int i = 0; i < 3; ++i) {
      Caller refused(door.port);
      answers.push_back(refused.read_to_end());  // told at once, not left waiting
      counts.push_back(door.observer.count("socket_refused:fd_reserve"));
    }
    early.send(kGet);
    answers.push_back(early.read_answer());
  }
  EXPECT_EQ(counts, (std::vector{1, 2, 3}));
  ASSERT_EQ(answers.size(), 4U);
  EXPECT_EQ(answers[0] + answers[1] + answers[2], "");
  EXPECT_TRUE(has(answers[3], "hello")) << answers[3];
  Caller late(door.port);
  late.send(kGet);
  EXPECT_TRUE(has(late.read_answer(), "hello"));
  EXPECT_EQ(door.server->connection_count(), 2U);
}

TEST(Server, KeepsDescriptorsBackForOthers) {
  const FewDescriptors limit(40);
  Options options;
  options.fd_reserve = 15;
  Door door({.options = options}, answer_hello);
  std::vector<std::unique_ptr<Caller>> callers;
  std::string answer = "hello";
  while (has(answer, "hello") && callers.size() < 20) {
    callers.push_back(std::make_unique<Caller>(door.port));
    callers.back()->send(kGet);
    answer = callers.back()->read_answer();
  }
  EXPECT_EQ(answer, "");
  EXPECT_GT(callers.size(), 2U);
  EXPECT_EQ(door.observer.count("socket_refused:fd_reserve"), 1);
  std::vector<int> others;
  for (int got = ::dup(STDERR_FILENO); got >= 0; got = ::dup(STDERR_FILENO)) others.push_back(got);
  for (const int descriptor : others) ::close(descriptor);
  EXPECT_GE(others.size(), 14U);  // the reserve, but for the number at the border
}

bool has_ipv6_loopback() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return false;
  bool found = false;
  for (const auto* at = all; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET6) continue;
    const auto* address = reinterpret_cast<const sockaddr_in6*>(at->ifa_addr);
    found = found || IN6_IS_ADDR_LOOPBACK(&address->sin6_addr);
  }
  ::freeifaddrs(all);
  return found;
}

TEST(Server, ListensOnIpv6) {
  if (!has_ipv6_loopback()) GTEST_SKIP() << "this machine has no address ::1";
  Door door({.listen = "[::1]:0"}, answer_hello);
  EXPECT_EQ(door.server->local_endpoints().front().address().to_string(), "::1");
  asio::io_context context;
  asio::ip::tcp::socket caller(context);
  caller.connect(door.server->local_endpoints().front());
  asio::write(caller, asio::buffer(kGet));
  std::string answer;
  boost::system::error_code error;
  asio::read_until(caller, asio::dynamic_buffer(answer), "hello", error);
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 200") << error.message();
  ASSERT_EQ(door.server->connection_count(), 1U);
  const auto own = caller.local_endpoint().port();
  EXPECT_EQ(door.server->connections().front().peer, "[::1]:" + std::to_string(own));
}

TEST(Server, DropsNewcomersWhileTooManyHaveNotAuthenticated) {
  Options options;
  options.max_unauthenticated = 4;
  options.early_drop_from = 4;
  options.crowd_patience = 0ms;
  Door door({.options = options}, answer_hello);
  std::vector<std::unique_ptr<Caller>> silent;
  for (int i = 0; i < 4; ++i) silent.push_back(std::make_unique<Caller>(door.port));
  ASSERT_TRUE(eventually([&] { return door.server->connection_count() == 4; }));
  Caller refused(door.port);
  EXPECT_EQ(refused.read_to_end(), "");
  EXPECT_EQ(door.observer.count("socket_refused:early_drop"), 1);
  // One of them authenticates: there is room again.
  silent.front()->send(kGet);
  silent.front()->read_answer();
  Caller welcome(door.port);
  welcome.send(kGet);
  EXPECT_TRUE(has(welcome.read_answer(), "hello"));
}

/// The addresses that functions of Server::Parts were given.
class Addresses {
 public:
  void add(const std::string& address) {
    const std::lock_guard lock(mutex_);
    all_.push_back(address);
  }
  std::vector<std::string> all() const {
    const std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> all_;
};

TEST(Server, AsksWhetherAnAddressMayConnectBeforeAnythingElse) {
  Addresses asked;
  std::atomic<bool> welcome{true};
  Door::Setup setup;
  setup.tls = true;
  setup.more.admit = [&](const std::string& address) {
    asked.add(address);
    return welcome.load();
  };
  Door door(std::move(setup), answer_hello);
  Caller first(door.port);
  ASSERT_TRUE(first.start_tls());
  welcome = false;
  Caller second(door.port);
  EXPECT_EQ(second.read_to_end(), "");
  EXPECT_EQ(door.observer.count("socket_refused:address"), 1);
  EXPECT_EQ(asked.all(), (std::vector<std::string>{"127.0.0.1", "127.0.0.1"}));
  first.send(kGet);
  EXPECT_TRUE(has(first.read_answer(), "hello")) << "who is in stays in";
}

TEST(Server, DoesNotAskAboutProxiesThatStandForMany) {
  Door::Setup setup;
  setup.options.trusted_proxies = *tunnel::TrustedProxies::parse({"127.0.0.0/8"});
  setup.more.admit = [](const std::string&) { return false; };
  Door door(std::move(setup), answer_hello);
  Caller caller(door.port);
  caller.send(kGet);
  EXPECT_TRUE(has(caller.read_answer(), "hello"));
}

TEST(Server, TellsOnceAConnectionThatItsCallerAuthenticated) {
  Addresses authenticated;
  Door::Setup setup;
  setup.more.on_authenticated = [&](const std::string& address) { authenticated.add(address); };
  Door door(std::move(setup), answer_hello);
  Caller silent(door.port);
  Caller caller(door.port);
  for (int i = 0; i < 2; ++i) {
    caller.send(kGet);
    caller.read_answer();
  }
  EXPECT_EQ(authenticated.all(), std::vector<std::string>{"127.0.0.1"});
}

/// A door behind a proxy at 127.0.0.1. Answers with the caller's address.
Door::Setup behind_proxy(const char* trusted = "127.0.0.1") {
  Door::Setup setup;
  setup.options.proxy_protocol = true;
  setup.options.trusted_proxies = *tunnel::TrustedProxies::parse({trusted});
  return setup;
}

asio::awaitable<void> answer_address(tunnel::HttpExchange& exchange) {
  exchange.authenticated(tunnel::Tier::free);
  const auto& address = exchange.peer_address();
  const auto head = ok(tunnel::SizedBody{address.size()});
  (void)co_await exchange.send_head_with(head, std::as_bytes(std::span(address)));
}

const std::string kFromElsewhere =
    test::proxy_header(0x21, 0x11, test::tcp_over_ipv4({192, 0, 2, 7}, 40'001));

TEST(ServerBehindAProxy, LearnsFromItWhoCalls) {
  for (const bool tls : {false, true}) {
    SCOPED_TRACE(tls ? "TLS" : "plain");
    auto setup = behind_proxy();
    setup.tls = tls;
    Addresses asked;
    Addresses authenticated;
    setup.more.admit = [&](const std::string& address) {
      asked.add(address);
      return true;
    };
    setup.more.on_authenticated = [&](const std::string& address) { authenticated.add(address); };
    Door door(std::move(setup), answer_address);
    Caller caller(door.port);
    caller.send(kFromElsewhere);
    if (tls) {
      ASSERT_TRUE(caller.start_tls()) << caller.tls_error();
    }
    caller.send(kGet);
    EXPECT_TRUE(has(caller.read_answer(), "\r\n\r\n192.0.2.7"));
    EXPECT_EQ(door.server->connections().front().peer, "192.0.2.7:40001");
    EXPECT_EQ(asked.all(), std::vector<std::string>{"192.0.2.7"});
    EXPECT_EQ(authenticated.all(), std::vector<std::string>{"192.0.2.7"});
  }
}

TEST(ServerBehindAProxy, TakesAHeaderInPiecesOrTogetherWithARequest) {
  Door door(behind_proxy(), answer_address);
  Caller together(door.port);
  together.send(kFromElsewhere + kGet);
  EXPECT_TRUE(has(together.read_answer(), "\r\n\r\n192.0.2.7"));
  Caller pieces(door.port);
  for (const char byte : kFromElsewhere) pieces.send({&byte, 1});
  pieces.send(kGet);
  EXPECT_TRUE(has(pieces.read_answer(), "\r\n\r\n192.0.2.7"));
}

TEST(ServerBehindAProxy, TakesTheProxyForTheCallerWhenItSpeaksForItself) {
  Door door(behind_proxy(), answer_address);
  Caller caller(door.port);
  caller.send(test::proxy_header(0x20, 0x00, "") + kGet);
  EXPECT_TRUE(has(caller.read_answer(), "\r\n\r\n127.0.0.1"));
}

TEST(ServerBehindAProxy, ClosesConnectionsWhoseHeaderIsBroken) {
  auto setup = behind_proxy();
  setup.options.header_timeout = 100ms;
  Door door(std::move(setup), answer_address);
  const std::string rows[] = {
      kGet,                                                   // none
      kFromElsewhere.substr(0, 10),                           // stalls
      kFromElsewhere.substr(0, 20),                           // stalls later
      "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n" + kGet,        // version 1
      test::proxy_header(0x21, 0x11, std::string(521, 'x')),  // too long
  };
  int refused = 0;
  for (const auto& row : rows) {
    Caller caller(door.port);
    caller.send(row);
    EXPECT_EQ(caller.read_to_end(), "");
    ++refused;
    EXPECT_TRUE(eventually([&] { return door.observer.count("socket_refused:proxy_protocol") == refused; }));
  }
  Caller probe(door.port);
  probe.end_sending();
  EXPECT_EQ(probe.read_to_end(), "");
  EXPECT_TRUE(door.ended("closed by peer"));
  EXPECT_EQ(door.observer.count("socket_refused:proxy_protocol"), refused) << "that one only looked";
}

TEST(ServerBehindAProxy, RefusesCallersItNamesThatMayNotConnect) {
  auto setup = behind_proxy();
  setup.more.admit = [](const std::string& address) { return address != "192.0.2.7"; };
  Door door(std::move(setup), answer_address);
  Caller caller(door.port);
  caller.send(kFromElsewhere + kGet);
  EXPECT_EQ(caller.read_to_end(), "");
  EXPECT_EQ(door.observer.count("socket_refused:address"), 1);
}

TEST(ServerBehindAProxy, BelievesNobodyElse) {
  Door door(behind_proxy("192.0.2.0/24"), answer_address);
  Caller honest(door.port);
  honest.send(kGet);
  EXPECT_TRUE(has(honest.read_answer(), "\r\n\r\n127.0.0.1"));
  Caller forger(door.port);
  forger.send(kFromElsewhere + kGet);
  EXPECT_EQ(forger.read_until("\r\n").substr(0, 12), "HTTP/1.1 400");
}

TEST(Server, ClosesOneConnectionByItsNumber) {
  Held held;
  Door door(held.handle());
  Door other(answer_hello);
  Caller idle(door.port);
  ASSERT_TRUE(eventually([&] { return door.server->connection_count() == 1; }));
  ASSERT_TRUE(eventually([&] { return door.server->connections().size() == 1; }));
  const auto id = door.server->connections().front().id;
  EXPECT_FALSE(other.server->close_connection(id, 1008, ""));
  EXPECT_TRUE(door.server->close_connection(id, 1008, ""));
  EXPECT_EQ(idle.read_to_end(), "");
  Caller busy(door.port);
  busy.send(kGet);
  ASSERT_TRUE(eventually([&] { return held.waiting == 1; }));
  EXPECT_TRUE(door.server->close_connection(door.server->connections().front().id, 1008, ""));
  held.go = true;
  EXPECT_TRUE(has(busy.read_to_end(), "Connection: close\r\n")) << "first what is under way";
}

TEST(Server, ResetsAnUpgradedConnectionByItsNumber) {
  std::atomic<bool> upgraded{false};
  Door::Setup setup;
  setup.more.on_upgraded = [&](const ConnectionInfo& connection) {
    EXPECT_STREQ(connection.kind, "upgraded");
    EXPECT_EQ(connection.principal, "0123456789abcdef");
    upgraded = true;
  };
  Door door(std::move(setup), [](tunnel::HttpExchange& exchange) -> asio::awaitable<void> {
    exchange.identified("0123456789abcdef");
    tunnel::ResponseHead head;
    head.status = 101;
    head.fields = {{"Upgrade", "bytes"}, {"Connection", "Upgrade"}};
    auto stream = co_await exchange.upgrade(head);
    if (stream) co_await echo_stream(**stream);
  });
  Caller caller(door.port);
  caller.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: bytes\r\nConnection: Upgrade\r\n\r\n");
  caller.read_until("\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return upgraded.load(); }));
  EXPECT_TRUE(door.server->close_connection(door.server->connections().front().id, 1008, ""));
  EXPECT_EQ(caller.read_to_end(), "");
  EXPECT_TRUE(caller.was_reset());
}

TEST(Server, DrainClosesIdleConnectionsAndFinishesRequestsUnderWay) {
  Held held;
  Door door(held.handle());
  Caller idle(door.port);
  Caller busy(door.port);
  busy.send(kGet);
  ASSERT_TRUE(eventually([&] { return held.waiting == 1 && door.server->connection_count() == 2; }));
  auto drained = door.drain(10s);
  EXPECT_EQ(idle.read_to_end(), "");
  held.go = true;
  const auto answer = busy.read_to_end();
  EXPECT_TRUE(has(answer, "Connection: close\r\n")) << answer;
  EXPECT_TRUE(has(answer, "hello"));
  EXPECT_TRUE(drained.get());
}

TEST(Server, DrainEndsAtItsDeadline) {
  Held held;
  Door door(held.handle());
  Caller busy(door.port);
  busy.send(kGet);
  ASSERT_TRUE(eventually([&] { return held.waiting == 1; }));
  EXPECT_FALSE(door.drain(30ms).get());
  door.server->close_all();
  busy.read_to_end();
  EXPECT_TRUE(door.ended("cancelled"));
}

TEST(Server, SurvivesAHandlerThatThrows) {
  Door door([](tunnel::HttpExchange&) -> asio::awaitable<void> {
    throw std::runtime_error("a bug");
    co_return;
  });
  Caller caller(door.port);
  caller.send(kGet);
  EXPECT_EQ(caller.read_to_end(), "");
  EXPECT_TRUE(door.ended("a bug"));
}

TEST(ServerTls, SpeaksTls13WithAes256AndHttp11AndATrustedCertificate) {
  Door door({.tls = true}, answer_hello);
  Caller caller(door.port);
  Caller::Tls how;
  how.alpn = "http/1.1";
  how.trust = door.certificate();
  ASSERT_TRUE(caller.start_tls(how)) << caller.tls_error();
  EXPECT_EQ(caller.tls_version(), "TLSv1.3");
  EXPECT_EQ(caller.cipher(), "TLS_AES_256_GCM_SHA384");
  EXPECT_EQ(caller.alpn(), "http/1.1");
  caller.send(kGet);
  EXPECT_TRUE(has(caller.read_answer(), "hello"));
  EXPECT_EQ(door.observer.count("setup_finished:tls"), 1);
}

TEST(ServerTls, RefusesOldVersionsUnlessAllowed) {
  Caller::Tls old;
  old.max_version = TLS1_2_VERSION;
  {
    Door door({.tls = true}, answer_hello);
    Caller caller(door.port);
    EXPECT_FALSE(caller.start_tls(old));
    EXPECT_TRUE(eventually([&] { return door.observer.count("request_rejected:tls_handshake") == 1; }));
  }
  Door door({.tls = true, .min_version = TlsOptions::MinVersion::tls1_2}, answer_hello);
  Caller caller(door.port);
  ASSERT_TRUE(caller.start_tls(old)) << caller.tls_error();
  EXPECT_TRUE(has(caller.cipher(), "ECDHE")) << caller.cipher();
  EXPECT_TRUE(has(caller.cipher(), "GCM")) << caller.cipher();
  caller.send(kGet);
  EXPECT_TRUE(has(caller.read_answer(), "hello"));
}

TEST(ServerTls, RefusesOtherProtocols) {
  Door door({.tls = true}, answer_hello);
  Caller caller(door.port);
  Caller::Tls how;
  how.alpn = "h2";
  EXPECT_FALSE(caller.start_tls(how));
}

TEST(ServerTls, KeepsConnectionsOverACertificateReload) {
  Door door({.tls = true}, answer_hello);
  Caller before(door.port);
  ASSERT_TRUE(before.start_tls());
  ASSERT_TRUE(write_self_signed(door.certificate(), door.folder / "key.pem"));
  auto tls = load_tls({door.certificate(), door.folder / "key.pem"});
  ASSERT_TRUE(tls) << tls.error().message;
  door.server->use_certificate(*tls);
  Caller after(door.port);
  ASSERT_TRUE(after.start_tls());
  EXPECT_NE(before.certificate_serial(), after.certificate_serial());
  before.send(kGet);
  EXPECT_TRUE(has(before.read_answer(), "hello"));
}

TEST(ServerTls, SurvivesGarbageAndHalfHandshakes) {
  Options options;
  options.handshake_timeout = 100ms;
  Door door({.options = options, .tls = true}, answer_hello);
  Caller garbage(door.port);
  garbage.send(std::string(5000, '\xA5'));
  garbage.read_to_end();
  Caller plain(door.port);
  plain.send(kGet);
  plain.read_to_end();
  Caller silent(door.port);
  EXPECT_EQ(silent.read_to_end(), "");
  EXPECT_TRUE(eventually([&] { return door.observer.count("request_rejected:tls_handshake") == 3; }));
  Caller good(door.port);
  ASSERT_TRUE(good.start_tls());
  good.send(kGet);
  EXPECT_TRUE(has(good.read_answer(), "hello"));
}

void write_encrypted_key(const std::filesystem::path& path) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"), EVP_PKEY_free);
  const std::unique_ptr<BIO, decltype(&BIO_free)> file(BIO_new_file(path.c_str(), "w"), BIO_free);
  const std::string passphrase = "secret";
  ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(file.get(), key.get(), EVP_aes_256_cbc(), passphrase.data(),
                                          static_cast<int>(passphrase.size()), nullptr, nullptr),
            1);
}

TEST(LoadTls, NamesTheFileAndTheCause) {
  TemporaryFolder folder;
  const auto certificate = folder / "certificate.pem";
  const auto key = folder / "key.pem";
  const auto other_key = folder / "other.pem";
  ASSERT_TRUE(write_self_signed(folder / "unused.pem", other_key));
  ASSERT_TRUE(write_self_signed(certificate, key));
  ASSERT_TRUE(load_tls({certificate, key}));
  std::ofstream(folder / "text.pem") << "this is not PEM\n";
  write_encrypted_key(folder / "encrypted.pem");
  struct Row {
    std::filesystem::path certificate;
    std::filesystem::path key;
    const char* names;
    const char* says;
  };
  const Row rows[] = {{folder / "missing.pem", key, "missing.pem", "No such file"},
                      {certificate, folder / "missing.key", "missing.key", "No such file"},
                      {folder / "text.pem", key, "text.pem", "no PEM certificate"},
                      {certificate, folder / "text.pem", "text.pem", "no PEM private key"},
                      {certificate, other_key, "other.pem", "does not belong"},
                      {certificate, folder / "encrypted.pem", "encrypted.pem", "without a passphrase"},
                      {certificate, folder / ".", "key file", "cannot be read"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.says);
    const auto loaded = load_tls({row.certificate, row.key});
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().kind, Error::Kind::bad_input);
    EXPECT_TRUE(has(loaded.error().message, row.names)) << loaded.error().message;
    EXPECT_TRUE(has(loaded.error().message, row.says)) << loaded.error().message;
  }
}

TEST(SelfSigned, ProtectsTheKey) {
  TemporaryFolder folder;
  ASSERT_TRUE(write_self_signed(folder / "certificate.pem", folder / "key.pem"));
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(folder / "key.pem").permissions(),
            perms::owner_read | perms::owner_write);
  const auto failed = write_self_signed(folder / "none/certificate.pem", folder / "none/key.pem");
  ASSERT_FALSE(failed);
  EXPECT_TRUE(has(failed.error().message, "none/key.pem")) << failed.error().message;
}

}  // namespace
}  // namespace edge
