#include "tunnelctl/commands/status_clients.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/tunnelctl/client/temporary_folder.h"
#include "tests/tunnelctl/commands/call.h"
#include "tunnelctl/client/client_state_file.h"

namespace {

using namespace tunnelctl;
using nlohmann::json;
using support::call;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

json state(const std::string& name = "connected") {
  return {{"kind", "connect"},
          {"server", "wss://h"},
          {"serves", {"127.0.0.1:8022 -> ssh", "127.0.0.1:5432 -> db"}},
          {"startedAt", "2026-01-01T00:00:00.000Z"},
          {"state", name},
          {"since", "2026-01-01T00:00:01.000Z"},
          {"why", "wss://h"},
          {"pid", 4711},
          {"attempts", 3},
          {"reconnects", 1},
          {"sessionId", "0f3a"},
          {"streams", 2},
          {"queued", 4},
          {"queueCapacity", 100},
          {"bytes", {{"in", 1'572'864}, {"out", 512}}},
          {"quality",
           {{"p50Ms", 12},
            {"p95Ms", 30},
            {"jitterMs", 2},
            {"missedPongRatio", 0.05},
            {"retransmitRatio", 0.001},
            {"band", "excellent"}}},
          {"events", json::array({{{"time", "t1"}, {"what", "one"}},
                                  {{"time", "t2"}, {"what", "two"}},
                                  {{"time", "t3"}, {"what", "three"}},
                                  {{"time", "t4"}, {"what", "four"}}})}};
}

class StatusClients : public testing::Test {
 protected:
  std::unique_ptr<client::ClientStateFile> running(const json& what) {
    auto file = client::ClientStateFile::create(above.path() / "tunnelctl", "connect");
    EXPECT_TRUE(file && (*file)->write(what));
    return file ? std::move(*file) : nullptr;
  }
  support::Ended status(std::vector<std::string> arguments, Environment environment = {}) {
    environment.emplace_back("XDG_RUNTIME_DIR", above.path().string());
    arguments.insert(arguments.begin(), "status");
    return call(std::move(arguments), std::move(environment));
  }
  const client::TemporaryFolder above;
};

TEST(StatusClientLines, TellAllThatAPersonAsks) {
  EXPECT_THAT(
      client_lines({state()}, false),
      ElementsAre("connect to wss://h (pid 4711): connected since 2026-01-01T00:00:01.000Z",
                  "  serves      127.0.0.1:8022 -> ssh; 127.0.0.1:5432 -> db", "  session     0f3a",
                  "  attempts    3, reconnects 1", "  streams     2; 4 of 100 waiting; 1.5 MiB in, 512 B out",
                  "  quality     excellent: round trip p50 12 ms, p95 30 ms, jitter 2 ms; sent again "
                  "0.1 %; pongs missed 5 %",
                  "  events      t2 two", "              t3 three", "              t4 four"));
}

TEST(StatusClientLines, SayWhyOneIsNotConnected) {
  auto away = state("reconnecting");
  away["why"] = "the connection broke";
  EXPECT_THAT(client_lines({away}, false).front(),
              HasSubstr("reconnecting since 2026-01-01T00:00:01.000Z: the connection broke"));
}

TEST(StatusClientLines, TakeWhateverAFileHolds) {
  const auto whole = state();
  for (const auto& [name, value] : whole.items()) {
    auto changed = whole;
    changed[name] = json::array({1, nullptr, "x\x1b[31m"});
    for (const auto& line : client_lines({changed}, false)) EXPECT_EQ(line.find('\x1b'), std::string::npos);
    changed.erase(name);
    EXPECT_THAT(client_lines({changed}, false), Not(IsEmpty())) << name;
  }
}

TEST(StatusClientChanges, AreStatesAndAttemptsAndWhoCameAndWent) {
  auto busy = state();
  busy["bytes"]["in"] = 99;
  busy["quality"]["p50Ms"] = 99;
  EXPECT_THAT(client_changes({state()}, {busy}), IsEmpty());
  EXPECT_THAT(
      client_changes({}, {state()}),
      ElementsAre("2026-01-01T00:00:01.000Z connect to wss://h (pid 4711): connected: wss://h; attempts "
                  "3, reconnects 1"));
  auto again = state();
  again["attempts"] = 4;
  EXPECT_THAT(client_changes({state()}, {again}), ElementsAre(HasSubstr("attempts 4")));
  EXPECT_THAT(client_changes({state()}, {}), ElementsAre("connect to wss://h (pid 4711): ended"));
}

TEST_F(StatusClients, NobodyRunsIsAFailureForScripts) {
  const auto told = status({"--clients"});
  EXPECT_EQ(told.status, ExitStatus::failure);
  EXPECT_EQ(told.out, "");
  EXPECT_THAT(told.err, HasSubstr("no connect and no agent"));
}

TEST_F(StatusClients, AllConnectedIsFine) {
  const auto one = running(state());
  const auto told = status({"--clients"});
  EXPECT_EQ(told.status, ExitStatus::ok);
  EXPECT_THAT(told.out, HasSubstr("connect to wss://h (pid "));
}

TEST_F(StatusClients, OneThatIsNotConnectedIsNot) {
  const auto one = running(state("reconnecting"));
  const auto told = status({"--clients", "--output", "json"});
  EXPECT_EQ(told.status, ExitStatus::failure);
  EXPECT_EQ(json::parse(told.out)["clients"][0]["state"], "reconnecting");
}

TEST_F(StatusClients, DoNotStandInForATunneldThatWasNamed) {
  const auto one = running(state());
  const auto named = status({"--admin-url", "http://127.0.0.1:1"});
  EXPECT_EQ(named.status, ExitStatus::unavailable) << "that one was asked for";
  EXPECT_EQ(named.out, "");
}

TEST_F(StatusClients, AFolderOfSomebodyElseIsSaid) {
  std::filesystem::create_directory(above.path() / "tunnelctl");
  std::filesystem::permissions(above.path() / "tunnelctl", std::filesystem::perms(0777));
  EXPECT_EQ(status({"--clients"}).status, ExitStatus::denied);
}

}  // namespace
