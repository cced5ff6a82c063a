#include "tunneld/agent_door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tunneld/session_lab.h"
#include "tunneld/ssh/identity.h"

namespace tunneld {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using support::memory_streams;
using support::MemoryWebSocket;

std::string host_key() {
  const auto key = *ssh::Identity::load_or_create(
      std::filesystem::path(testing::TempDir()) / ("host-key-" + std::to_string(::getpid())), "host");
  const auto& line = key.public_line();
  return line.substr(0, line.find(' ', line.find(' ') + 1));
}

/// An agent's end of a control connection.
struct Agent {
  Agent(tests::SessionLab& in, upstream::AgentRegistry& registry, const std::string& subject,
        std::chrono::seconds lifetime = 1h, std::size_t max_services = 5, bool has_place = true)
      : lab(in) {
    auto [near, far] = memory_streams(lab.io.get_executor());
    peer = std::move(far);
    socket = std::make_unique<MemoryWebSocket>(std::move(near), state);
    connection = std::make_shared<AgentConnection>(
        AgentConnection::Parts{lab.io, *lab.streams, lab.watch, *lab.admission, lab.observer, registry,
                               [this](const std::string& agent, const std::string&) { superseded = agent; }},
        *socket, lab.caller(subject, lifetime).token, "192.0.2.1:5000", "corr",
        upstream::AgentRegistry::Terms{max_services, has_place ? std::make_shared<int>() : nullptr});
    boost::asio::co_spawn(lab.io, connection->run(), [this](std::exception_ptr failure, std::string how) {
      EXPECT_FALSE(failure);
      ended = std::move(how);
    });
    EXPECT_TRUE(lab.run_until([this] { return static_cast<bool>(state->on_control); }));
  }
  ~Agent() {
    peer->close();
    lab.run_until([this] { return ended.has_value(); });
    connection.reset();
  }
  void tell(const std::string& text) const { state->on_control(text); }
  void announce(const std::string& boot = std::string(32, '1'), const std::string& key = host_key(),
                unsigned slot = 0) const {
    tell(json{{"type", "announce"},
              {"agentId", "office"},
              {"bootId", boot},
              {"user", "tunnel"},
              {"hostKey", key},
              {"slot", slot},
              {"services", {{{"name", "web"}, {"target", "127.0.0.1:80"}}}}}
             .dump());
  }
  json last() const { return state->posted.empty() ? json() : json::parse(state->posted.back()); }
  bool closes_with(std::uint16_t code) {
    return lab.run_until([this] { return ended.has_value(); }) && state->close_code == code;
  }

  tests::SessionLab& lab;
  std::shared_ptr<MemoryWebSocket::State> state = std::make_shared<MemoryWebSocket::State>();
  std::unique_ptr<support::MemoryStream> peer;
  std::unique_ptr<MemoryWebSocket> socket;
  std::shared_ptr<AgentConnection> connection;
  std::optional<std::string> ended;
  std::string superseded;
};

struct AgentDoor : tests::SessionLab {
  std::unique_ptr<upstream::AgentRegistry> registry =
      *upstream::AgentRegistry::make({.enrolments = directory / "agents.json"});
};

TEST_F(AgentDoor, AnAnnouncedServiceIsTheirs) {
  Agent agent(*this, *registry, "ann");
  agent.announce();
  EXPECT_EQ(agent.last()["type"], "announced");
  EXPECT_EQ(agent.last()["agentId"], "office");
  EXPECT_EQ(agent.last()["services"], json::parse(R"([{"name":"web"}])"));
  EXPECT_NE(registry->find(caller("ann").principal(), "web"), nullptr);
  EXPECT_EQ(registry->find(caller("ben").principal(), "web"), nullptr);
  agent.peer->close();
  ASSERT_TRUE(run_until([&] { return agent.ended.has_value(); }));
  EXPECT_EQ(registry->find(caller("ann").principal(), "web"), nullptr);
}

TEST_F(AgentDoor, NonsenseIsToldAndClosed) {
  for (const auto* text : {"", "nonsense", "[]", "{}", R"({"type":1})", R"({"type":"announce"})",
                           R"({"type":"announce","agentId":"NO"})"}) {
    SCOPED_TRACE(text);
    Agent agent(*this, *registry, "ann");
    agent.tell(text);
    EXPECT_EQ(agent.last()["error"]["code"], "TUNNEL_010");
    EXPECT_TRUE(agent.closes_with(1008)) << agent.state->close_code;
  }
}

TEST_F(AgentDoor, AnUnknownTypeIsAnErrorAndNoMore) {
  Agent agent(*this, *registry, "ann");
  agent.announce();
  agent.tell(R"({"type":"what"})");
  EXPECT_EQ(agent.last()["error"]["code"], "TUNNEL_010");
  EXPECT_FALSE(agent.ended);
}

TEST_F(AgentDoor, AnotherHostKeyIsRefusedWith4403) {
  {
    Agent first(*this, *registry, "ann");
    first.announce();
    EXPECT_EQ(first.last()["type"], "announced");
  }
  const auto other = *ssh::Identity::load_or_create(directory / "other-key", "other");
  const auto& line = other.public_line();
  Agent second(*this, *registry, "ann");
  second.announce(std::string(32, '2'), line.substr(0, line.find(' ', line.find(' ') + 1)));
  EXPECT_EQ(second.last()["error"]["code"], "TUNNEL_015");
  EXPECT_TRUE(second.closes_with(4403)) << second.state->close_code;
}

TEST_F(AgentDoor, ANewerBootTakesTheOldOnesPlace) {
  Agent first(*this, *registry, "ann");
  first.announce();
  Agent second(*this, *registry, "ann");
  second.announce(std::string(32, '2'));
  EXPECT_EQ(second.last()["type"], "announced");
  EXPECT_TRUE(first.closes_with(4409)) << first.state->close_code;
  EXPECT_EQ(first.superseded, "office");
  EXPECT_EQ(registry->agents().size(), 1U);
}

TEST_F(AgentDoor, AFurtherConnectionOfTheSameBootStandsBesideTheFirst) {
  Agent first(*this, *registry, "ann");
  first.announce();
  Agent second(*this, *registry, "ann", 1h, 5, false);
  second.announce(std::string(32, '1'), host_key(), 1);
  EXPECT_EQ(second.last()["type"], "announced");
  EXPECT_FALSE(first.ended);
  ASSERT_EQ(registry->agents().size(), 1U);
  EXPECT_EQ(registry->agents()[0].connections, 2U);
  first.peer->close();
  ASSERT_TRUE(run_until([&] { return first.ended.has_value(); }));
  EXPECT_NE(registry->find(caller("ann").principal(), "web"), nullptr) << "the other is there";
}

TEST_F(AgentDoor, AnAgentThatFindsNoPlaceIsToldToComeLater) {
  Agent agent(*this, *registry, "ann", 1h, 5, false);
  agent.announce();
  EXPECT_EQ(agent.last()["error"]["code"], "TUNNEL_012");
  EXPECT_TRUE(agent.closes_with(4429)) << agent.state->close_code;
  EXPECT_EQ(registry->agents().size(), 0U);
}

TEST_F(AgentDoor, ItsTokensEndIsItsOwn) {
  Agent agent(*this, *registry, "ann", 1s);
  agent.announce();
  EXPECT_TRUE(agent.closes_with(4401)) << agent.state->close_code;
  EXPECT_EQ(registry->agents().size(), 0U);
}

TEST_F(AgentDoor, AFreshTokenProlongsIt) {
  Agent agent(*this, *registry, "ann", 2s);
  agent.announce();
  agent.tell(R"({"type":"auth.refresh","token":")" + token_text("ann", 3600s) + "\"}");
  EXPECT_EQ(agent.last()["type"], "auth.ok");
  agent.tell(R"({"type":"auth.refresh","token":")" + token_text("ben", 3600s) + "\"}");
  EXPECT_EQ(agent.last()["error"]["code"], "TUNNEL_011");
  EXPECT_FALSE(agent.ended);
}

TEST_F(AgentDoor, BytesAreNotWhatItIsFor) {
  Agent agent(*this, *registry, "ann");
  ASSERT_TRUE(support::run_async(io, agent.peer->write(support::bytes_of("x"))));
  EXPECT_TRUE(agent.closes_with(1003)) << agent.state->close_code;
}

TEST_F(AgentDoor, ADrainTellsAndClosesIt) {
  Agent agent(*this, *registry, "ann");
  agent.announce();
  streams->drain(std::chrono::system_clock::now() + 30s, "sigterm", 10ms);
  EXPECT_EQ(agent.last()["type"], "maintenance");
  EXPECT_TRUE(agent.closes_with(1012)) << agent.state->close_code;
}

}  // namespace
}  // namespace tunneld
