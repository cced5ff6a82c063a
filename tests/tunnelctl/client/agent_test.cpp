#include "tunnelctl/client/agent.h"

#include <deque>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/co_spawn.hpp>
#include <nlohmann/json.hpp>

#include "common/http_client.h"
#include "tests/support/memory_stream.h"
#include "tests/support/run_async.h"
#include "tunnelctl/client/agent_metrics.h"

namespace tunnelctl::client {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using support::MemoryStream;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kHostKey =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
const std::string kTicket = "00112233445566778899aabbccddeeff";

// ---- services
// --------------------------------------------------------------------------------------------------

TEST(AgentServices, AreNamesWithTargets) {
  struct Row {
    const char* text;
    const char* name;
    const char* target;
  };
  for (const auto& row :
       {Row{"ollama=127.0.0.1:11434", "ollama", "127.0.0.1:11434"}, Row{"a=h:1", "a", "h:1"},
        Row{"0-9=db.lan:65535", "0-9", "db.lan:65535"}, Row{"v6=[::1]:80", "v6", "[::1]:80"}}) {
    const auto service = parse_agent_service(row.text);
    ASSERT_TRUE(service) << row.text << ": " << service.error().message;
    EXPECT_EQ(service->name, row.name);
    EXPECT_EQ(service->target, row.target);
  }
}

TEST(AgentServices, ThatSshdCouldMisunderstandAreRefused) {
  for (const auto* text : {"",
                           "=",
                           "web",
                           "web=",
                           "web=127.0.0.1",
                           "web=127.0.0.1:",
                           "web=127.0.0.1:0",
                           "web=127.0.0.1:65536",
                           "web=127.0.0.1:080",
                           "web=127.0.0.1:8x",
                           "web=127.0.0.1:*",
                           "web=*:80",
                           "web=:80",
                           "Web=a:80",
                           "-web=a:80",
                           "we b=a:80",
                           "web=a b:80",
                           "web=a\"b:80",
                           "web=::1:80",
                           "web=[::1:80",
                           "web=[fe80::1%eth0]:80",
                           "web=a,b:80",
                           "web=-oProxyCommand:80",
                           "web=a:+80",
                           "web=[]:80"}) {
    const auto refused = parse_agent_service(text);
    EXPECT_FALSE(refused) << text;
    if (refused) continue;
    EXPECT_EQ(refused.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(refused.error().message, HasSubstr("ollama=127.0.0.1:11434")) << "shows how it is written";
  }
  EXPECT_FALSE(parse_agent_service(std::string(64, 'a') + "=h:1"));
  EXPECT_TRUE(parse_agent_service(std::string(63, 'a') + "=h:1"));
}

TEST(AgentServices, AreAFewAndNoneTwice) {
  EXPECT_FALSE(parse_agent_services({}));
  const auto twice = parse_agent_services({"a=h:1", "b=h:1", "a=h:2"});
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().message, HasSubstr("\"a\" is given twice"));
  std::vector<std::string> many;
  for (int i = 0; i < 100; ++i) many.push_back("s" + std::to_string(i) + "=h:1");
  EXPECT_TRUE(parse_agent_services(many));
  many.push_back("one-more=h:1");
  EXPECT_FALSE(parse_agent_services(many));
}

// ---- a tunneld of our own
// --------------------------------------------------------------------------------------

/// tunneld's side of one WebSocket.
struct Peer {
  std::string path;
  edge::ClientRequest request;
  std::unique_ptr<MemoryStream> stream;  // tunneld's end of the bytes
  std::deque<json> said{};               // by the agent, in messages
  std::function<void(std::string)> to_agent{};
  std::uint16_t ended_with = 0;  // by the agent
  tunnel::WebSocketStream::Ending ending{};

  void tell(const json& message) {
    ASSERT_TRUE(to_agent) << "the agent does not listen";
    to_agent(message.dump());
  }
  void close(std::uint16_t code, std::string reason = {}) {
    ending = {code, true, std::move(reason)};
    stream->close();
  }
  const std::string* field(std::string_view name) const {
    for (const auto& one : request.fields)
      if (one.name == name) return &one.value;
    return nullptr;
  }
};

class FakeSocket final : public tunnel::WebSocketStream {
 public:
  FakeSocket(std::shared_ptr<Peer> peer, std::unique_ptr<MemoryStream> stream)
      : peer_(std::move(peer)), stream_(std::move(stream)) {}
  ~FakeSocket() override { peer_->to_agent = nullptr; }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    return stream_->read(into);
  }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return stream_->write(bytes);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return stream_->shutdown_write(); }
  void close() noexcept override { stream_->close(); }
  asio::awaitable<void> close_with(std::uint16_t code, std::string_view) override {
    peer_->ended_with = code;
    peer_->ending = {code, false};
    stream_->close();
    co_return;
  }
  Ending ending() const override { return peer_->ending; }
  void on_control(std::function<void(std::string)> handler) override { peer_->to_agent = std::move(handler); }
  bool post_control(std::string_view text) override {
    peer_->said.push_back(json::parse(text));
    return true;
  }

 private:
  std::shared_ptr<Peer> peer_;
  std::unique_ptr<MemoryStream> stream_;
};

class AgentTest : public testing::Test {
 protected:
  AgentTest() {
    settings.id = "laptop";
    settings.services = {{"ollama", "127.0.0.1:11434"}, {"ssh", "127.0.0.1:22"}};
    settings.user = "ann";
    settings.host_key = kHostKey;
    settings.backoff.base = 1ms;
    settings.backoff.cap = 2ms;
    settings.backoff.first_spread = 0ms;
    settings.still_moving = 0ms;
    settings.token_check = 1ms;
    settings.goodbye = 100ms;
  }
  ~AgentTest() override {
    if (agent && !outcome) {
      agent->stop();
      EXPECT_TRUE(until([&] { return outcome.has_value(); })) << "the agent does not end";
    }
  }

  AgentWorld world() {
    AgentWorld made;
    made.connect = [this](const std::string& path, edge::ClientRequest request) {
      return connect(path, std::move(request));
    };
    made.shown = [](std::string_view path) { return "wss://tunnel.example" + std::string(path); };
    made.trust = [this] { return trust(); };
    made.token = [this]() -> Result<Secret> {
      ++token_reads;
      return Secret(token);
    };
    made.sshd =
        [this](std::function<void(std::string)> on_line) -> Result<std::unique_ptr<tunnel::ByteStream>> {
      if (!sshd_error.empty()) return fail(Error::Kind::unavailable, sshd_error);
      auto [ours, theirs] = support::memory_streams(io.get_executor());
      sshds.push_back(std::move(ours));
      sshd_lines = std::move(on_line);
      return std::unique_ptr<tunnel::ByteStream>(std::move(theirs));
    };
    made.tell = [this](logging::Level, std::string_view message, logging::Fields fields) {
      std::string line(message);
      for (const auto& field : fields)
        if (const auto* text = std::get_if<std::string_view>(&field.value()))
          line += " " + std::string(field.key()) + "=" + std::string(*text);
      told.push_back(line);
    };
    made.on_state = [this](const StateChange& change) { states.emplace_back(to_string(change.state)); };
    made.on_attempt = [this](const Attempt& attempt) { attempts.push_back(attempt); };
    return made;
  }

  asio::awaitable<AgentWorld::Connected> connect(std::string path, edge::ClientRequest request) {
    if (refuse) {
      if (auto refused = refuse(path)) co_return tl::unexpected(*refused);
    }
    auto [ours, theirs] = support::memory_streams(io.get_executor());
    auto peer = std::make_shared<Peer>();
    peer->path = std::move(path);
    peer->request = std::move(request);
    peer->stream = std::move(ours);
    peers.push_back(peer);
    co_return std::make_unique<FakeSocket>(peer, std::move(theirs));
  }

  asio::awaitable<tl::expected<void, Verdict>> trust() {
    if (distrust) co_return tl::unexpected(*distrust);
    co_return tl::expected<void, Verdict>();
  }

  void start() {
    agent = std::make_unique<Agent>(io, settings, world());
    asio::co_spawn(io, agent->run(), [this](const std::exception_ptr& error, AgentOutcome how) {
      EXPECT_FALSE(error);
      outcome = std::move(how);
    });
  }

  /// Runs what there is to run until `done`; ten seconds bound a broken test.
  bool until(const std::function<bool()>& done) {
    const auto give_up = std::chrono::steady_clock::now() + 10s;
    while (!done()) {
      io.restart();
      io.run_one_for(10ms);
      if (std::chrono::steady_clock::now() > give_up) return false;
    }
    return true;
  }

  /// The newest WebSocket at that path that tunneld has not looked at yet.
  std::shared_ptr<Peer> next_peer(std::string_view path) {
    EXPECT_TRUE(until([&] { return peers.size() > seen; })) << "nobody connects to " << path;
    if (peers.size() <= seen) return nullptr;
    EXPECT_EQ(peers[seen]->path, path);
    return peers[seen++];
  }

  /// The agent as far as being announced.
  std::shared_ptr<Peer> announced() {
    auto control = next_peer("/agent");
    EXPECT_TRUE(until([&] { return !control->said.empty(); }));
    control->said.clear();
    control->tell({{"type", "announced"},
                   {"agentId", "laptop"},
                   {"services", json::array()},
                   {"warnings", json::array()}});
    return control;
  }

  /// A session, its link on tunneld's side.
  std::shared_ptr<links::Link> open_session(Peer& control, const std::string& ticket = kTicket) {
    control.tell({{"type", "session.open"}, {"ticket", ticket}});
    session_peer = next_peer("/agent/session/" + ticket);
    auto link = support::run_async(
        io, links::Link::accept(io.get_executor(), std::move(session_peer->stream), links::LinkOptions()));
    EXPECT_TRUE(link) << link.error().message;
    if (!link) return nullptr;
    // A link that breaks before the server's welcome cannot be resumed; what comes behind it has it arrived.
    send(**link, "w");
    EXPECT_EQ(receive(*sshds.back(), 1), "w");
    return *link;
  }

  void send(tunnel::ByteStream& to, std::string_view text) {
    EXPECT_TRUE(support::run_async(io, to.write(support::bytes_of(text))));
  }
  std::string receive(tunnel::ByteStream& from, std::size_t bytes) {
    return support::run_async(io, support::read_exactly(from, bytes));
  }
  /// A read on tunneld's side that goes on until its link is over: somebody must read all the time.
  void keep_reading(const std::shared_ptr<links::Link>& link) {
    asio::co_spawn(io, support::read_all(*link), [link](const std::exception_ptr&, const std::string&) {});
  }

  bool was_told(std::string_view part) const {
    return std::any_of(told.begin(), told.end(),
                       [&](const std::string& line) { return line.find(part) != std::string::npos; });
  }
  AgentOutcome end() {
    EXPECT_TRUE(until([&] { return outcome.has_value(); })) << "the agent goes on";
    return outcome.value_or(AgentOutcome());
  }

  asio::io_context io;
  AgentSettings settings;
  std::vector<std::shared_ptr<Peer>> peers;
  std::size_t seen = 0;
  std::shared_ptr<Peer> session_peer;
  std::vector<std::unique_ptr<MemoryStream>> sshds;  // the far ends
  std::function<void(std::string)> sshd_lines;
  std::string sshd_error;
  std::string token = "token-1";
  std::size_t token_reads = 0;
  std::optional<Verdict> distrust;
  std::function<std::optional<edge::ConnectFailure>(const std::string&)> refuse;
  std::vector<std::string> told;
  std::vector<std::string> states;
  std::vector<Attempt> attempts;
  std::unique_ptr<Agent> agent;
  std::optional<AgentOutcome> outcome;
};

edge::ConnectFailure answered(unsigned status, std::string code = {}) {
  edge::ConnectFailure failure;
  failure.step = edge::ConnectStep::upgrade;
  failure.cause = "refused_by_server";
  failure.message = "wss://tunnel.example answered " + std::to_string(status);
  failure.status = status;
  failure.error_code = std::move(code);
  return failure;
}

edge::ConnectFailure unreachable() {
  edge::ConnectFailure failure;
  failure.step = edge::ConnectStep::tcp;
  failure.cause = "refused";
  failure.message = "tunnel.example: connection refused";
  return failure;
}

// ---- the control connection
// ------------------------------------------------------------------------------------

TEST_F(AgentTest, AnnouncesItsServicesAndItsHostKey) {
  start();
  const auto control = next_peer("/agent");
  EXPECT_THAT(control->request.subprotocols, ElementsAre("tunnel-agent.v1"));
  EXPECT_TRUE(control->request.control_messages);
  EXPECT_EQ(control->request.bearer.reveal(), "token-1");
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  auto announcement = control->said.front();
  EXPECT_THAT(announcement.at("bootId").get<std::string>(), testing::MatchesRegex("[0-9a-f]{32}"));
  announcement.erase("bootId");
  EXPECT_EQ(announcement, json::parse(R"({"type":"announce","agentId":"laptop","user":"ann",
    "hostKey":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
    "services":[{"name":"ollama","target":"127.0.0.1:11434"},{"name":"ssh","target":"127.0.0.1:22"}],"slot":0})"));
  EXPECT_FALSE(was_told("outcome=connected")) << "not before tunneld has them";
  control->tell({{"type", "announced"}, {"agentId", "laptop"}, {"warnings", {"ssh is configured here too"}}});
  EXPECT_TRUE(was_told("attempt endpoint=wss://tunnel.example/agent cause=first outcome=connected"));
  EXPECT_TRUE(was_told("announced agent=laptop services=ollama=127.0.0.1:11434, ssh=127.0.0.1:22"));
  EXPECT_TRUE(was_told("ssh is configured here too"));
}

TEST_F(AgentTest, SaysGoodbyeWhenItIsStopped) {
  start();
  const auto control = announced();
  agent->stop();
  EXPECT_EQ(end().end, AgentOutcome::End::stopped);
  EXPECT_EQ(control->ended_with, 1000);
}

TEST_F(AgentTest, ComesBackWhenTheConnectionBreaks) {
  start();
  auto control = announced();
  const auto boot = peers.front()->said;
  control->close(1006);
  control = next_peer("/agent");
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  control->tell({{"type", "announced"}});
  EXPECT_TRUE(was_told("disconnected reason=broken"));
  EXPECT_TRUE(was_told("cause=broken outcome=connected"));
  EXPECT_EQ(agent->counts().connections, 2U);
}

TEST_F(AgentTest, ComesBackWhenTheServerSaid) {
  start();
  announced()->close(1013, R"({"code":"TUNNEL_006","retryAfterMs":40})");
  announced();
  ASSERT_TRUE(until([&] { return attempts.size() == 2; }));
  EXPECT_GE(attempts[1].delay, 40ms);
  EXPECT_EQ(attempts[1].cause, "overloaded");
  EXPECT_TRUE(was_told("close code 1013, TUNNEL_006"));
}

TEST_F(AgentTest, TellsItsStateToWhoShowsIt) {
  start();
  auto control = announced();
  control->close(1006);
  control = announced();
  ASSERT_TRUE(until([&] { return states.size() >= 4; }));
  agent->stop();
  EXPECT_EQ(end().end, AgentOutcome::End::stopped);
  EXPECT_THAT(states,
              testing::ElementsAre("connecting", "connected", "reconnecting", "connected", "disconnected"));
}

TEST_F(AgentTest, KeepsItsBootIdWhileItRuns) {
  start();
  auto control = next_peer("/agent");
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  const auto first = control->said.front().at("bootId");
  control->tell({{"type", "announced"}});
  control->close(1012);
  control = next_peer("/agent");
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  EXPECT_EQ(control->said.front().at("bootId"), first);
}

TEST_F(AgentTest, GivesWayToANewerOneOfItsName) {
  start();
  announced()->close(4409);
  const auto how = end();
  EXPECT_EQ(how.end, AgentOutcome::End::superseded);
  EXPECT_THAT(how.error.message, HasSubstr("another agent with the id laptop runs"));
}

TEST_F(AgentTest, StopsWhenTunneldKnowsAnotherHostKey) {
  start();
  const auto control = next_peer("/agent");
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  control->tell({{"type", "error"}, {"error", {{"code", "TUNNEL_015"}, {"message", "another host key"}}}});
  control->close(4403);
  const auto how = end();
  EXPECT_EQ(how.end, AgentOutcome::End::refused);
  EXPECT_EQ(how.error.kind, Error::Kind::denied);
  EXPECT_THAT(how.error.message, HasSubstr("TUNNEL_015"));
  EXPECT_THAT(how.error.message, HasSubstr("--id"));
  EXPECT_THAT(how.error.message, Not(HasSubstr("\n")));
}

TEST_F(AgentTest, StopsWhenTunneldShowsAnotherKeyThanBefore) {
  distrust = Verdict{
      .then = Then::stop, .reason = "TUNNEL_015", .error = {Error::Kind::denied, "TUNNEL_015: another"}};
  start();
  const auto how = end();
  EXPECT_EQ(how.end, AgentOutcome::End::refused);
  EXPECT_THAT(how.error.message, HasSubstr("TUNNEL_015"));
  EXPECT_THAT(peers, IsEmpty()) << "no token was sent";
}

TEST_F(AgentTest, StopsForARefusedToken) {
  refuse = [](const std::string&) { return answered(401, "TUNNEL_002"); };
  start();
  const auto how = end();
  EXPECT_EQ(how.end, AgentOutcome::End::refused);
  EXPECT_EQ(how.error.kind, Error::Kind::denied);
  EXPECT_EQ(token_reads, 1U);
}

TEST_F(AgentTest, ReadsItsTokenOnceMoreWhenItHasExpired) {
  refuse = [](const std::string&) { return answered(401, "TUNNEL_003"); };
  start();
  EXPECT_EQ(end().end, AgentOutcome::End::refused);
  EXPECT_EQ(token_reads, 2U);
}

TEST_F(AgentTest, GoesOnWithANewerTokenAfterTheOldOneEnded) {
  start();
  const auto control = announced();
  token = "token-2";
  control->close(4401);
  EXPECT_EQ(announced()->request.bearer.reveal(), "token-2");
}

TEST_F(AgentTest, GivesUpAfterSomeAttemptsThatFail) {
  settings.backoff.max_attempts = 3;
  refuse = [](const std::string&) { return unreachable(); };
  start();
  const auto how = end();
  EXPECT_EQ(how.end, AgentOutcome::End::gave_up);
  EXPECT_THAT(how.error.message, HasSubstr("connection refused"));
  EXPECT_THAT(how.error.message, testing::StartsWith("TUNNEL_019: gave up after 3 attempts"));
  EXPECT_THAT(states, testing::ElementsAre("connecting", "error"));
  EXPECT_EQ(agent->counts().attempts, 3U);
  EXPECT_EQ(
      std::count_if(told.begin(), told.end(), [](const auto& line) { return line.starts_with("attempt "); }),
      3);
}

TEST_F(AgentTest, APersonLearnsAtOnceWhatWaitingWouldNotMend) {
  refuse = [](const std::string&) {
    auto failure = unreachable();
    failure.cause = "certificate_untrusted";
    return failure;
  };
  start();
  EXPECT_EQ(end().end, AgentOutcome::End::refused);
  EXPECT_EQ(agent->counts().attempts, 1U);
}

TEST_F(AgentTest, UnattendedItTriesThatAgainToo) {
  settings.unattended = true;
  refuse = [this](const std::string&) -> std::optional<edge::ConnectFailure> {
    if (agent->counts().attempts >= 3) return std::nullopt;
    auto failure = unreachable();
    failure.cause = "certificate_untrusted";
    return failure;
  };
  start();
  EXPECT_NE(announced(), nullptr);
}

TEST_F(AgentTest, DoesNotWaitForEverToBeAnnounced) {
  settings.announce_timeout = 5ms;
  settings.backoff.max_attempts = 2;
  start();
  const auto how = end();
  EXPECT_EQ(how.end, AgentOutcome::End::gave_up);
  EXPECT_THAT(how.error.message, HasSubstr("did not take the announcement"));
}

TEST_F(AgentTest, TellsWhyItsAnnouncementWasRefused) {
  start();
  const auto control = next_peer("/agent");
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  control->tell({{"type", "error"}, {"error", {{"code", "TUNNEL_010"}, {"message", "too many services"}}}});
  control->close(1008);
  const auto how = end();
  EXPECT_EQ(how.end, AgentOutcome::End::refused);
  EXPECT_THAT(how.error.message, HasSubstr("too many services"));
}

TEST_F(AgentTest, TriesAgainWhereThereIsNoPlaceForItYet) {
  start();
  auto control = next_peer("/agent");
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  control->tell({{"type", "error"}, {"error", {{"code", "TUNNEL_012"}, {"message", "no place"}}}});
  control->ending = {4429, true, R"({"code":"TUNNEL_012","retryAfterMs":1})"};
  control->stream->close();
  EXPECT_NE(announced(), nullptr);
}

TEST_F(AgentTest, SendsANewerTokenBeforeTheOldOneEnds) {
  start();
  const auto control = announced();
  control->tell({{"type", "auth.expiring"}, {"expiresAt", "2030-01-01T00:00:00Z"}});
  EXPECT_THAT(control->said, IsEmpty()) << "there is none yet";
  token = "token-2";
  ASSERT_TRUE(until([&] { return !control->said.empty(); })) << "it looks again";
  EXPECT_EQ(control->said.front(), json::parse(R"({"type":"auth.refresh","token":"token-2"})"));
}

TEST_F(AgentTest, SurvivesMessagesThatMakeNoSense) {
  start();
  const auto control = announced();
  for (const auto* text : {"", "{", "[]", "1", R"({"type":1})", R"({"type":"unheard-of"})",
                           R"({"type":"error"})", R"({"type":"error","error":1})",
                           R"({"type":"session.open"})", R"({"type":"session.open","ticket":"../../x"})",
                           R"({"type":"announced","warnings":[1]})", R"({"type":"a","type":"b"})"})
    control->to_agent(text);
  EXPECT_TRUE(sshds.empty());
  EXPECT_NE(open_session(*control), nullptr);
}

TEST_F(AgentTest, EndsAControlConnectionThatCarriesBytes) {
  start();
  const auto control = announced();
  send(*control->stream, "bytes");
  ASSERT_TRUE(until([&] { return control->ended_with != 0; }));
  EXPECT_EQ(control->ended_with, 1003);
  EXPECT_NE(announced(), nullptr);
}

// ---- several control connections
// --------------------------------------------------------------------------------

class AgentWithTwo : public AgentTest {
 protected:
  AgentWithTwo() { settings.connections = 2; }
  /// Both connections, announced.
  std::pair<std::shared_ptr<Peer>, std::shared_ptr<Peer>> both() {
    start();
    auto first = announced();
    auto second = announced();
    return {first, second};
  }
  json announcement_of(Peer& control) {
    EXPECT_TRUE(until([&] { return !control.said.empty(); }));
    return control.said.empty() ? json() : control.said.front();
  }
};

TEST_F(AgentWithTwo, OpensTheSecondWhenTheFirstIsTaken) {
  start();
  const auto first = next_peer("/agent");
  const auto one = announcement_of(*first);
  EXPECT_EQ(one.at("slot"), 0);
  EXPECT_EQ(peers.size(), 1U) << "what is wrong is told once";
  first->tell({{"type", "announced"}});
  const auto second = next_peer("/agent");
  const auto two = announcement_of(*second);
  EXPECT_EQ(two.at("slot"), 1);
  EXPECT_EQ(two.at("bootId"), one.at("bootId"));
  EXPECT_EQ(agent->counts().connections_now, 1U);
  second->tell({{"type", "announced"}});
  EXPECT_EQ(agent->counts().connections_now, 2U);
  EXPECT_EQ(agent->counts().reconnects, 0U);
}

TEST_F(AgentWithTwo, ServesATicketOnceThatComesByBoth) {
  const auto [first, second] = both();
  const auto link = open_session(*first);
  second->tell({{"type", "session.open"}, {"ticket", kTicket}});
  const auto other = open_session(*second, "ffeeddccbbaa99887766554433221100");
  EXPECT_NE(other, nullptr);
  EXPECT_EQ(sshds.size(), 2U) << "one of each ticket";
  EXPECT_EQ(agent->counts().sessions_failed, 0U);
}

TEST_F(AgentWithTwo, OneThatIsLostComesBackBesideTheOther) {
  const auto [first, second] = both();
  const auto link = open_session(*first);
  first->close(1006);
  const auto again = next_peer("/agent");
  EXPECT_EQ(announcement_of(*again).at("slot"), 0);
  again->tell({{"type", "announced"}});
  EXPECT_EQ(second->ended_with, 0);
  EXPECT_EQ(agent->counts().reconnects, 1U);
  send(*sshds[0], "alive");
  EXPECT_EQ(receive(*link, 5), "alive");
}

TEST_F(AgentWithTwo, OneThatCannotComeBackDoesNotEndTheOther) {
  settings.backoff.max_attempts = 2;
  const auto [first, second] = both();
  refuse = [](const std::string& path) -> std::optional<edge::ConnectFailure> {
    return path == "/agent" ? std::optional(unreachable()) : std::nullopt;
  };
  first->close(1006);
  ASSERT_TRUE(until([&] { return agent->counts().attempts > 6; })) << "it goes on trying";
  EXPECT_FALSE(outcome);
  EXPECT_NE(open_session(*second), nullptr);
}

TEST_F(AgentWithTwo, GivesWayWithBothToANewerOneOfItsName) {
  const auto [first, second] = both();
  second->close(4409);
  EXPECT_EQ(end().end, AgentOutcome::End::superseded);
  EXPECT_EQ(first->ended_with, 1000) << "it says goodbye";
}

TEST_F(AgentWithTwo, EachHasATokenOfItsOwnToRenew) {
  const auto [first, second] = both();
  first->close(4401);
  second->close(4401);
  token = "token-2";
  EXPECT_EQ(announced()->request.bearer.reveal(), "token-2");
  EXPECT_EQ(announced()->request.bearer.reveal(), "token-2");
  EXPECT_FALSE(outcome);
}

// ---- sessions
// --------------------------------------------------------------------------------------------------

TEST_F(AgentTest, ServesATicketOnce) {
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  control->tell({{"type", "session.open"}, {"ticket", kTicket}});
  EXPECT_EQ(sshds.size(), 1U);
  EXPECT_THAT(control->said, IsEmpty());
}

TEST_F(AgentTest, BridgesASessionToAnSshdOfItsOwn) {
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  ASSERT_NE(link, nullptr);
  EXPECT_EQ(session_peer->request.bearer.reveal(), "token-1");
  ASSERT_EQ(sshds.size(), 1U);
  send(*sshds[0], "SSH-2.0-OpenSSH\r\n");
  EXPECT_EQ(receive(*link, 17), "SSH-2.0-OpenSSH\r\n");
  send(*link, "SSH-2.0-libssh2\r\n");
  EXPECT_EQ(receive(*sshds[0], 17), "SSH-2.0-libssh2\r\n");
  EXPECT_EQ(agent->counts().sessions_now, 1U);

  link->close();
  EXPECT_EQ(receive(*sshds[0], 1), "") << "sshd is ended with it";
  ASSERT_TRUE(until([&] { return agent->counts().sessions_now == 0; }));
  EXPECT_TRUE(was_told("session closed session=00112233"));
  EXPECT_FALSE(was_told(kTicket)) << "the ticket is a secret";
}

TEST_F(AgentTest, EndsASessionWhoseSshdEnds) {
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  send(*sshds[0], "last words");
  asio::co_spawn(io, sshds[0]->shutdown_write(), [](const std::exception_ptr&, const Result<void>&) {});
  EXPECT_EQ(receive(*link, 100), "last words");
  EXPECT_EQ(link->state(), links::Link::State::over);
  ASSERT_TRUE(until([&] { return agent->counts().sessions_now == 0; }));
  EXPECT_EQ(agent->counts().bytes_out, 10U);
}

TEST_F(AgentTest, ResumesASessionWhoseConnectionWasCut) {
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  send(*link, "before ");
  EXPECT_EQ(receive(*sshds[0], 7), "before ");
  link->detach("cut by the test");
  const auto again = next_peer("/agent/session");
  ASSERT_NE(again->field("Tunnel-Session"), nullptr);
  EXPECT_EQ(*again->field("Tunnel-Session"), links::to_hex(link->id()));
  const auto accepted = support::run_async(io, link->accept_again(std::move(again->stream)));
  ASSERT_TRUE(accepted) << accepted.error().message;
  send(*link, "after");
  EXPECT_EQ(receive(*sshds[0], 5), "after");
  send(*sshds[0], "answer");
  EXPECT_EQ(receive(*link, 6), "answer");
  EXPECT_EQ(sshds.size(), 1U) << "the same sshd";
  EXPECT_EQ(agent->counts().resumes, 1U);
}

TEST_F(AgentTest, KeepsTryingToResumeWhileTheWindowLasts) {
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  int failures = 0;
  refuse = [&](const std::string& path) -> std::optional<edge::ConnectFailure> {
    if (path == "/agent/session" && failures < 1) {
      ++failures;
      return unreachable();
    }
    return std::nullopt;
  };
  link->detach("cut by the test");
  const auto again = next_peer("/agent/session");
  ASSERT_TRUE(support::run_async(io, link->accept_again(std::move(again->stream))));
  send(*sshds[0], "still here");
  EXPECT_EQ(receive(*link, 10), "still here");
  EXPECT_EQ(failures, 1);
}

TEST_F(AgentTest, GivesASessionUpThatTunneldDoesNotKnow) {
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  refuse = [](const std::string& path) -> std::optional<edge::ConnectFailure> {
    if (path == "/agent/session") return answered(404, "TUNNEL_010");
    return std::nullopt;
  };
  link->detach("cut by the test");
  EXPECT_EQ(receive(*sshds[0], 1), "") << "its sshd is ended";
  ASSERT_TRUE(until([&] { return agent->counts().sessions_now == 0; }));
  EXPECT_NE(open_session(*control, "ffeeddccbbaa99887766554433221100"), nullptr) << "others are served";
}

TEST_F(AgentTest, SessionsLiveOnWhileTheControlConnectionIsLost) {
  start();
  auto control = announced();
  const auto link = open_session(*control);
  control->close(1006);
  control = announced();
  send(*sshds[0], "alive");
  EXPECT_EQ(receive(*link, 5), "alive");
  EXPECT_EQ(agent->counts().sessions_now, 1U);
}

TEST_F(AgentTest, SaysThatItHasNoSshdForASession) {
  sshd_error = "sshd: cannot be started: Resource temporarily unavailable";
  start();
  const auto control = announced();
  control->tell({{"type", "session.open"}, {"ticket", kTicket}});
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  EXPECT_EQ(control->said.front().at("type"), "session.failed");
  EXPECT_EQ(control->said.front().at("ticket"), kTicket);
  EXPECT_THAT(control->said.front().at("reason").get<std::string>(), HasSubstr("Resource temporarily"));
  EXPECT_EQ(agent->counts().sessions_failed, 1U);
}

TEST_F(AgentTest, SaysThatItCannotConnectForASession) {
  start();
  const auto control = announced();
  refuse = [](const std::string&) { return unreachable(); };
  control->tell({{"type", "session.open"}, {"ticket", kTicket}});
  ASSERT_TRUE(until([&] { return !control->said.empty(); }));
  EXPECT_EQ(control->said.front().at("type"), "session.failed");
  EXPECT_EQ(receive(*sshds[0], 1), "") << "the sshd that was ready is ended";
}

TEST_F(AgentTest, ServesNoMoreSessionsThanItMay) {
  settings.max_sessions = 1;
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  control->tell({{"type", "session.open"}, {"ticket", "ffeeddccbbaa99887766554433221100"}});
  ASSERT_EQ(control->said.size(), 1U);
  EXPECT_EQ(control->said.front().at("type"), "session.failed");
  EXPECT_EQ(sshds.size(), 1U);
}

TEST_F(AgentTest, TellsWhatAnSshdSays) {
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  sshd_lines("User ann not allowed because account is locked");
  EXPECT_TRUE(was_told("sshd session=00112233 line=User ann not allowed because account is locked"));
}

TEST_F(AgentTest, LetsAMovingSessionGoOnForAWhileWhenItIsStopped) {
  settings.still_moving = 10s;
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  agent->stop();
  send(*sshds[0], "the rest");
  EXPECT_EQ(receive(*link, 8), "the rest");
  EXPECT_FALSE(outcome);
  EXPECT_EQ(control->ended_with, 1000);
  link->close();
  EXPECT_EQ(end().end, AgentOutcome::End::stopped);
}

TEST_F(AgentTest, EndsSessionsThatTakeTooLongWhenItIsStopped) {
  settings.still_moving = 10s;
  settings.farewell = 20ms;
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  keep_reading(link);
  agent->stop();
  EXPECT_EQ(end().end, AgentOutcome::End::stopped);
  EXPECT_EQ(agent->counts().sessions_now, 0U);
  EXPECT_EQ(receive(*sshds[0], 1), "");
}

TEST_F(AgentTest, EndsASessionInTheMiddleOfItsResumption) {
  settings.farewell = 20ms;
  settings.still_moving = 10s;
  start();
  const auto control = announced();
  const auto link = open_session(*control);
  link->detach("cut by the test");
  (void)next_peer("/agent/session");  // which nobody answers
  agent->stop();
  EXPECT_EQ(end().end, AgentOutcome::End::stopped);
  EXPECT_EQ(agent->counts().sessions_now, 0U);
}

// ---- metrics
// ---------------------------------------------------------------------------------------------------

TEST(AgentMetricsText, IsWhatPrometheusReads) {
  AgentCounts counts;
  counts.connections_now = 2;
  counts.attempts = 7;
  counts.connections = 4;
  counts.reconnects = 2;
  counts.sessions = 5;
  counts.sessions_failed = 1;
  counts.bytes_in = 10;
  const auto text = metrics_text(counts, 1500ms);
  for (const auto* line :
       {"# TYPE tunnel_agent_uptime_seconds gauge\ntunnel_agent_uptime_seconds 1.500\n",
        "\ntunnel_agent_connected 1\n", "\ntunnel_agent_connections 2\n",
        "\ntunnel_agent_reconnects_total 2\n", "\ntunnel_agent_sessions_total{result=\"opened\"} 5\n",
        "\ntunnel_agent_sessions_total{result=\"failed\"} 1\n",
        "\ntunnel_agent_session_bytes_total{direction=\"in\"} 10\n"})
    EXPECT_THAT(text, HasSubstr(line));
  EXPECT_TRUE(text.ends_with('\n'));
}

TEST(AgentMetricsDoor, AnswersMetricsAndNothingElse) {
  AgentCounts counts;
  counts.sessions = 42;
  std::unique_ptr<AgentMetrics> metrics;
  asio::io_context io(1);
  auto started = AgentMetrics::start(io, "127.0.0.1:0", [&] { return counts; });
  ASSERT_TRUE(started) << started.error().message;
  metrics = std::move(*started);
  std::thread running([&] { io.run(); });
  const auto client = http::Client::make({});
  const auto ask = [&](const std::string& path, const std::string& method = "GET") {
    return client->send(
        {.method = method, .url = "http://127.0.0.1:" + std::to_string(metrics->port()) + path});
  };
  const auto answer = ask("/metrics");
  const auto head = ask("/metrics", "HEAD");
  const auto other = ask("/");
  const auto post = ask("/metrics", "POST");
  io.stop();
  running.join();
  metrics->stop();
  ASSERT_TRUE(answer && head && other && post);
  EXPECT_EQ(answer->status, 200U);
  EXPECT_EQ(answer->content_type, "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(answer->body, HasSubstr("{result=\"opened\"} 42\n"));
  EXPECT_EQ(head->status, 200U);
  EXPECT_EQ(other->status, 404U);
  EXPECT_EQ(post->status, 404U);
}

TEST(AgentMetricsDoor, IsForThisMachineOnly) {
  asio::io_context io;
  for (const auto* listen : {"0.0.0.0:0", "192.0.2.1:80", "9464", "", ":9464", "example.org:80"}) {
    const auto refused = AgentMetrics::start(io, listen, [] { return AgentCounts(); });
    EXPECT_FALSE(refused) << listen;
  }
  const auto started = AgentMetrics::start(io, "127.0.0.1:0", [] { return AgentCounts(); });
  ASSERT_TRUE(started) << started.error().message;
  EXPECT_NE((*started)->port(), 0);
}

}  // namespace
}  // namespace tunnelctl::client
