#include "tunnelctl/incident/desk.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunnelctl/incident/desk_story.h"

using namespace tunnelctl::incident;
using namespace std::chrono_literals;
using support::at;
using support::breaker;
using support::event;
using support::told;
using testing::HasSubstr;
using testing::Not;

namespace {

DeskOptions options() {
  DeskOptions made;
  made.source = "edge-1:9090";
  return made;
}

/// What the desk says to that event, at its own time.
std::vector<Intent> tell(Desk& desk, double second, const std::string& kind, tunnelctl::daemon::Json data) {
  return desk.event(event(second, kind, std::move(data)), at(second));
}

}  // namespace

TEST(Desk, ABreakerThatOpensIsAnIncidentAndItsClosingResolvesIt) {
  Desk desk(options());
  const auto opened = tell(desk, 0, "breaker.opened", breaker("b1"));
  ASSERT_EQ(told(opened), "open 1");
  EXPECT_EQ(opened[0].opening.dedup_key, "tunneld/edge-1:9090/breaker/home/api");
  EXPECT_EQ(opened[0].opening.title, "Circuit breaker open: api via home (edge-1:9090)");
  EXPECT_EQ(opened[0].opening.severity, Severity::critical);
  EXPECT_EQ(opened[0].opening.at, at(0));
  EXPECT_THAT(opened[0].opening.summary, HasSubstr("`p-b1`"));
  EXPECT_THAT(opened[0].opening.summary, HasSubstr("5 failures in a row, the last: `no route to host`"));
  EXPECT_EQ(opened[0].subject.kind, "breaker");
  EXPECT_THAT(opened[0].opening.labels, testing::Contains(Label{"instance", "edge-1"}));

  auto end = breaker("b1");
  end["openForMs"] = 61'000;
  end["refusedRequests"] = 17;
  const auto closed = tell(desk, 61, "breaker.closed", end);
  ASSERT_EQ(told(closed), "resolve 1");
  EXPECT_THAT(closed[0].note.body, HasSubstr("Calls of `api` (upstream `home`) pass again"));
  EXPECT_THAT(closed[0].note.body, HasSubstr("refused meanwhile: 17"));
  EXPECT_EQ(closed[0].note.kind, "resolved");
  EXPECT_EQ(desk.counts().open, 0u);
}

TEST(Desk, SeveralPrincipalsOfOneServiceAreOneIncidentThatEndsWithTheLastOfThem) {
  Desk desk(options());
  EXPECT_EQ(told(tell(desk, 0, "breaker.opened", breaker("b1"))), "open 1");
  const auto joined = tell(desk, 1, "breaker.opened", breaker("b2"));
  ASSERT_EQ(told(joined), "note 1");
  EXPECT_THAT(joined[0].note.body, HasSubstr("`p-b2` is refused too"));
  EXPECT_EQ(told(tell(desk, 2, "breaker.opened", breaker("b1"))), "") << "a probe that failed is no news";
  EXPECT_EQ(told(tell(desk, 3, "breaker.half_open", breaker("b1"))), "");
  EXPECT_EQ(told(tell(desk, 4, "breaker.closed", breaker("b1"))), "");
  EXPECT_EQ(told(tell(desk, 5, "breaker.closed", breaker("b2"))), "resolve 1");
  EXPECT_EQ(told(tell(desk, 6, "breaker.closed", breaker("b2"))), "");
}

TEST(Desk, OtherServicesAreOtherIncidents) {
  Desk desk(options());
  EXPECT_EQ(told(tell(desk, 0, "breaker.opened", breaker("b1", "api"))), "open 1");
  EXPECT_EQ(told(tell(desk, 0, "breaker.opened", breaker("b2", "web"))), "open 2");
  EXPECT_EQ(told(tell(desk, 1, "breaker.closed", breaker("b1", "api"))), "resolve 1");
  EXPECT_EQ(desk.counts().open, 1u);
}

TEST(Desk, AThousandPrincipalsAreAHandfulOfNotes) {
  Desk desk(options());
  std::size_t notes = 0;
  for (int n = 0; n < 1000; ++n)
    for (const auto& one : tell(desk, n, "breaker.opened", breaker("b" + std::to_string(n))))
      notes += one.kind == Intent::Kind::note ? 1 : 0;
  EXPECT_LE(notes, 12u);
  EXPECT_GE(notes, 5u);
}

TEST(Desk, TwentyFlapsInFiveMinutesAreOneIncident) {
  Desk desk(options());
  std::set<std::int64_t> episodes;
  std::size_t opens = 0, reopens = 0, resolves = 0, flapping = 0, intents = 0;
  const auto count = [&](const std::vector<Intent>& all) {
    for (const auto& one : all) {
      ++intents;
      episodes.insert(one.episode);
      opens += one.kind == Intent::Kind::open ? 1 : 0;
      reopens += one.kind == Intent::Kind::reopen ? 1 : 0;
      resolves += one.kind == Intent::Kind::resolve ? 1 : 0;
      flapping += one.note.body.starts_with("Flapping:") ? 1 : 0;
    }
  };
  for (int flap = 0; flap < 20; ++flap) {
    count(tell(desk, flap * 15, "breaker.opened", breaker("b1")));
    count(tell(desk, flap * 15 + 7, "breaker.closed", breaker("b1")));
  }
  EXPECT_EQ(opens, 1u);
  EXPECT_EQ(episodes.size(), 1u);
  EXPECT_EQ(reopens, 2u) << "from the third opening on it just stays open";
  EXPECT_EQ(resolves, 2u);
  EXPECT_EQ(flapping, 1u);
  EXPECT_LE(intents, 10u);
  EXPECT_EQ(desk.counts().flapping, 1u);

  const double last = 19 * 15 + 7;
  EXPECT_EQ(told(desk.tick(at(last + 599))), "");
  const auto end = desk.tick(at(last + 600));
  ASSERT_EQ(told(end), "resolve 1");
  EXPECT_THAT(end[0].note.body, HasSubstr("20 times"));
  EXPECT_THAT(end[0].note.body, HasSubstr("It flapped"));
  EXPECT_EQ(desk.counts().flapping, 0u);
}

TEST(Desk, WhereNothingCanBeReopenedTheSecondIncidentIsTheLast) {
  auto without = options();
  without.reopens = false;
  Desk desk(without);
  std::size_t opens = 0;
  for (int flap = 0; flap < 20; ++flap) {
    for (const auto& one : tell(desk, flap * 15, "breaker.opened", breaker("b1"))) {
      EXPECT_NE(one.kind, Intent::Kind::reopen);
      opens += one.kind == Intent::Kind::open ? 1 : 0;
    }
    tell(desk, flap * 15 + 7, "breaker.closed", breaker("b1"));
  }
  EXPECT_EQ(opens, 2u);
}

TEST(Desk, ASecondTimeSoonReopensAndMuchLaterOpensAnew) {
  Desk desk(options());
  tell(desk, 0, "breaker.opened", breaker("b1"));
  tell(desk, 10, "breaker.closed", breaker("b1"));
  const auto again = tell(desk, 100, "breaker.opened", breaker("b1"));
  ASSERT_EQ(told(again), "reopen 1, note 1");
  EXPECT_THAT(again[1].note.body, HasSubstr("Again: "));
  EXPECT_EQ(told(tell(desk, 110, "breaker.closed", breaker("b1"))), "resolve 1") << "twice is no flapping";
  EXPECT_EQ(told(tell(desk, 711, "breaker.opened", breaker("b1"))), "open 2");
}

TEST(Desk, QuietHoldsTheResolvingBack) {
  auto careful = options();
  careful.quiet = 30s;
  Desk desk(careful);
  tell(desk, 0, "breaker.opened", breaker("b1"));
  EXPECT_EQ(told(tell(desk, 10, "breaker.closed", breaker("b1"))), "");
  EXPECT_EQ(told(desk.tick(at(39))), "");
  EXPECT_EQ(told(desk.tick(at(40))), "resolve 1");
}

TEST(Desk, AnUpstreamIsLostAndBack) {
  Desk desk(options());
  const auto lost = tell(desk, 0, "upstream.lost", {{"upstream", "home"}, {"why", "timed out"}});
  ASSERT_EQ(told(lost), "open 1");
  EXPECT_THAT(lost[0].opening.summary, HasSubstr("`timed out`"));
  EXPECT_EQ(told(tell(desk, 5, "upstream.back", {{"upstream", "home"}, {"awayMs", 5000}})), "resolve 1");
}

TEST(Desk, AnAgentThatComesBackWithinItsGraceIsNoIncident) {
  Desk desk(options());
  const tunnelctl::daemon::Json laptop = {{"agent", "laptop"}, {"principal", "p1"}};
  tell(desk, 0, "agent.connected", laptop);
  EXPECT_EQ(told(tell(desk, 10, "agent.lost", laptop)), "");
  EXPECT_EQ(desk.counts().pending, 1u);
  EXPECT_EQ(told(tell(desk, 69, "agent.connected", laptop)), "");
  EXPECT_EQ(told(desk.tick(at(200))), "");

  tell(desk, 300, "agent.lost", laptop);
  EXPECT_EQ(told(desk.tick(at(359))), "");
  const auto lost = desk.tick(at(360));
  ASSERT_EQ(told(lost), "open 1");
  EXPECT_EQ(lost[0].opening.at, at(300)) << "since when, not since when we know";
  EXPECT_EQ(told(tell(desk, 400, "agent.connected", laptop)), "resolve 1");
}

TEST(Desk, ACrowdOfLostAgentsIsOneIncidentMore) {
  Desk desk(options());
  for (int n = 0; n < 100; ++n)
    tell(desk, 0, "agent.lost", {{"agent", "a" + std::to_string(n)}, {"principal", "p"}});
  const auto lost = desk.tick(at(60));
  std::size_t opens = 0;
  for (const auto& one : lost) opens += one.kind == Intent::Kind::open ? 1 : 0;
  EXPECT_EQ(opens, 6u) << "five of their own, and one for all the others";
  std::size_t resolves = 0;
  for (int n = 0; n < 100; ++n)
    for (const auto& one :
         tell(desk, 70, "agent.connected", {{"agent", "a" + std::to_string(n)}, {"principal", "p"}}))
      resolves += one.kind == Intent::Kind::resolve ? 1 : 0;
  EXPECT_EQ(resolves, 6u);
}

TEST(Desk, OverloadCountsOnlyWhenItLasts) {
  Desk desk(options());
  const auto level = [](const char* name) {
    return tunnelctl::daemon::Json{{"what", "connections"}, {"level", name}, {"fill", 0.9}};
  };
  tell(desk, 0, "overload", level("pause"));
  EXPECT_EQ(told(tell(desk, 20, "overload", level("throttle"))), "");
  tell(desk, 30, "overload", level("drop_low"));
  EXPECT_EQ(told(desk.tick(at(60))), "open 1");
  EXPECT_EQ(told(tell(desk, 70, "overload", level("open"))), "resolve 1");
}

TEST(Desk, TheAuditLogFailsAndRecovers) {
  Desk desk(options());
  EXPECT_EQ(told(tell(desk, 0, "audit.failing", {{"why", "no space left"}})), "open 1");
  EXPECT_EQ(told(tell(desk, 9, "audit.recovered", tunnelctl::daemon::Json::object())), "resolve 1");
}

TEST(Desk, ADaemonThatIsAwayForItsGraceIsAnIncidentUntilItIsBackAndSettled) {
  Desk desk(options());
  EXPECT_EQ(told(desk.daemon(false, "connection refused", at(0))), "");
  EXPECT_EQ(told(desk.daemon(false, "connection refused", at(14))), "");
  const auto away = desk.daemon(false, "connection refused", at(15));
  ASSERT_EQ(told(away), "open 1");
  EXPECT_EQ(away[0].opening.at, at(0));
  EXPECT_THAT(away[0].opening.summary, HasSubstr("`connection refused`"));
  EXPECT_EQ(told(desk.daemon(false, "connection refused", at(20))), "");
  EXPECT_EQ(told(desk.daemon(true, "", at(30))), "");
  EXPECT_EQ(told(desk.daemon(true, "", at(31))), "");
  EXPECT_EQ(told(desk.daemon(true, "", at(32))), "resolve 1");

  EXPECT_EQ(told(desk.daemon(false, "503", at(40))), "");
  EXPECT_EQ(told(desk.daemon(true, "", at(50))), "") << "a restart in good time";
}

TEST(Desk, AStartWithoutAStopBeforeIsACrash) {
  Desk desk(options());
  const tunnelctl::daemon::Json version = {{"version", "0.1.0"}}, reason = {{"reason", "SIGTERM"}};
  EXPECT_EQ(told(tell(desk, 0, "started", version)), "") << "nobody knows what was before";
  tell(desk, 10, "stopped", reason);
  EXPECT_EQ(told(tell(desk, 12, "started", version)), "");
  const auto crash = tell(desk, 20, "started", version);
  ASSERT_EQ(told(crash), "open 1, note 1");
  EXPECT_EQ(crash[0].opening.title, "tunneld crashed (edge-1:9090)");
  EXPECT_EQ(told(desk.tick(at(22))), "resolve 1");
}

TEST(Desk, ACrashDuringAnOutageIsANoteOfIt) {
  Desk desk(options());
  tell(desk, 0, "started", {{"version", "0.1.0"}});
  desk.daemon(false, "connection refused", at(10));
  EXPECT_EQ(told(desk.daemon(false, "connection refused", at(25))), "open 1");
  desk.daemon(true, "", at(30));
  const auto started = tell(desk, 31, "started", {{"version", "0.1.0"}});
  ASSERT_EQ(told(started), "note 1, note 1");
  EXPECT_THAT(started[0].note.body, HasSubstr("without stopping in good order"));
  EXPECT_EQ(told(desk.tick(at(33))), "resolve 1");
}

TEST(Desk, AShortOutageThatWasACrashIsTheCrashAlone) {
  Desk desk(options());
  tell(desk, 0, "started", {{"version", "0.1.0"}});
  desk.daemon(false, "connection refused", at(10));
  const auto crash = tell(desk, 12, "started", {{"version", "0.1.0"}});
  ASSERT_EQ(told(crash), "open 1, note 1");
  EXPECT_EQ(crash[0].opening.title, "tunneld crashed (edge-1:9090)");
  desk.daemon(true, "", at(13));
  EXPECT_EQ(told(desk.tick(at(15))), "resolve 1");
}

TEST(Desk, ARestartEndsWhatTheDaemonToldAboutItself) {
  Desk desk(options());
  tell(desk, 0, "breaker.opened", breaker("b1"));
  tell(desk, 0, "upstream.lost", {{"upstream", "home"}, {"why", "x"}});
  tell(desk, 5, "stopped", {{"reason", "SIGTERM"}});
  EXPECT_EQ(told(tell(desk, 6, "started", {{"version", "1"}})), "resolve 1, resolve 2");
}

TEST(Desk, AnAgentThatDoesNotComeBackAfterACrashIsLost) {
  Desk desk(options());
  tell(desk, 0, "started", {{"version", "1"}});
  tell(desk, 1, "agent.connected", {{"agent", "a"}, {"principal", "p"}});
  tell(desk, 1, "agent.connected", {{"agent", "b"}, {"principal", "p"}});
  tell(desk, 10, "started", {{"version", "1"}});
  tell(desk, 12, "agent.connected", {{"agent", "b"}, {"principal", "p"}});
  const auto lost = desk.tick(at(70));
  ASSERT_EQ(lost.back().kind, Intent::Kind::open);
  EXPECT_EQ(lost.back().opening.title, "Agent lost: a (edge-1:9090)");
}

TEST(Desk, AfterAGapNobodyClaimsACrash) {
  Desk desk(options());
  tell(desk, 0, "started", {{"version", "1"}});
  desk.gap();
  EXPECT_EQ(told(tell(desk, 9, "started", {{"version", "1"}})), "");
}

TEST(Desk, ABreakerWhoseClosingWasMissedIsFoundOutByTheList) {
  Desk desk(options());
  tell(desk, 0, "breaker.opened", breaker("b1"));
  tell(desk, 0, "breaker.opened", breaker("b2"));
  EXPECT_EQ(told(desk.breakers({"b1", "b2"}, at(60), at(60))), "");
  EXPECT_EQ(told(desk.breakers({"b2"}, at(20), at(20))), "") << "the list may be behind the stream";
  EXPECT_EQ(told(desk.breakers({"b2"}, at(60), at(60))), "");
  EXPECT_EQ(told(desk.breakers({}, at(61), at(61))), "resolve 1");
}

TEST(Desk, ChangedSettingsAreToldToWhatIsOpen) {
  Desk desk(options());
  tell(desk, 0, "breaker.opened", breaker("b1"));
  const auto changed = tell(desk, 1, "config.changed", {{"keys", {"breaker.reset"}}, {"by", "ops"}});
  ASSERT_EQ(told(changed), "note 1");
  EXPECT_THAT(changed[0].note.body, HasSubstr("`breaker.reset` by `ops`"));
}

TEST(Desk, WhereANotePagesChangedSettingsAreNoNote) {
  auto quiet = options();
  quiet.tells_settings = false;
  Desk desk(quiet);
  tell(desk, 0, "breaker.opened", breaker("b1"));
  EXPECT_EQ(told(tell(desk, 1, "config.changed", {{"keys", {"breaker.reset"}}, {"by", "ops"}})), "");
}

TEST(Desk, ALongNameIsTheSameProblemAfterARestart) {
  std::string name;
  for (int n = 0; n < 150; ++n) name += "\xC3\xA9";
  for (const char* begin : {"", "x"}) {  // one of them would be cut inside a character
    Desk before(options());
    tell(before, 0, "upstream.lost", {{"upstream", begin + name}, {"why", "x"}});
    std::map<std::string, std::string> file;
    for (const auto& [record, value] : before.take_changes())
      if (value) file[record] = *value;
    auto after = Desk::restore(options(), file);
    ASSERT_TRUE(after);
    EXPECT_EQ(told(tell(*after, 1, "upstream.back", {{"upstream", begin + name}})), "resolve 1");
  }
}

TEST(Desk, HourOldEventsAreJudgedByTheirOwnTimes) {
  Desk desk(options());
  const auto now = at(3600);
  const tunnelctl::daemon::Json laptop = {{"agent", "laptop"}, {"principal", "p1"}};
  EXPECT_EQ(told(desk.event(event(0, "agent.lost", laptop), now)), "");
  const auto back = desk.event(event(90, "agent.connected", laptop), now);
  EXPECT_EQ(told(back), "open 1, resolve 1") << "it was away for longer than its grace";
  EXPECT_EQ(told(desk.event(event(100, "agent.lost", laptop), now)), "");
  EXPECT_EQ(told(desk.event(event(120, "agent.connected", laptop), now)), "");
}

TEST(Desk, WhileEventsAreNotReadYetTheClockDecidesNothingOfThem) {
  Desk desk(options());
  const tunnelctl::daemon::Json laptop = {{"agent", "laptop"}, {"principal", "p1"}};
  desk.behind(true);
  EXPECT_EQ(told(desk.event(event(0, "agent.lost", laptop), at(3600))), "");
  EXPECT_EQ(told(desk.tick(at(3600))), "");
  EXPECT_EQ(told(desk.daemon(true, "", at(3601))), "");
  EXPECT_EQ(told(desk.event(event(30, "agent.connected", laptop), at(3602))), "") << "it was soon back";
  EXPECT_EQ(told(desk.event(event(40, "agent.lost", laptop), at(3602))), "");
  EXPECT_EQ(told(desk.tick(at(3602))), "");
  desk.behind(false);
  EXPECT_EQ(told(desk.tick(at(3603))), "open 1");
}

TEST(Desk, ADaemonThatIsAwayIsSeenAlsoWhileEventsAreNotRead) {
  Desk desk(options());
  desk.behind(true);
  desk.daemon(false, "connection refused", at(0));
  EXPECT_EQ(told(desk.daemon(false, "connection refused", at(15))), "open 1");
  desk.daemon(true, "", at(20));
  EXPECT_EQ(told(desk.tick(at(22))), "resolve 1");
}

TEST(Desk, HowLongTheDaemonWasAwayWhileNobodyLookedIsNotKnown) {
  Desk before(options());
  before.daemon(false, "connection refused", at(0));
  std::map<std::string, std::string> file;
  for (const auto& [name, value] : before.take_changes())
    if (value) file[name] = *value;
  ASSERT_TRUE(file.contains("case/tunneld/edge-1:9090/daemon"));
  auto after = Desk::restore(options(), file);
  ASSERT_TRUE(after);
  EXPECT_EQ(told(after->tick(at(60))), "");
  EXPECT_FALSE(after->take_changes().at("case/tunneld/edge-1:9090/daemon"));
  EXPECT_EQ(told(after->daemon(false, "connection refused", at(60))), "");
  EXPECT_EQ(told(after->daemon(false, "connection refused", at(75))), "open 1") << "its grace begins anew";
}

TEST(Desk, AfterAGapTheListsSayWhatWasMissed) {
  Desk desk(options());
  const auto agent = [](const char* id) {
    return tunnelctl::daemon::Json{{"agent", id}, {"principal", "p"}};
  };
  tell(desk, 0, "breaker.opened", breaker("b1", "api"));                 // 1
  tell(desk, 0, "upstream.lost", {{"upstream", "home"}, {"why", "x"}});  // 2
  tell(desk, 0, "agent.lost", agent("back"));
  tell(desk, 0, "agent.connected", agent("gone"));
  tell(desk, 0, "agent.connected", agent("here"));
  ASSERT_EQ(told(desk.tick(at(60))), "open 3");
  desk.gap();
  Desk::Survey found;
  found.breakers = {{.id = "b2",
                     .state = "open",
                     .upstream = "home",
                     .service = "web",
                     .principal = "p",
                     .failures = 5,
                     .opened_at = tunnelctl::times::text(at(70)),
                     .last_errors = {"refused"}},
                    {.id = "b1", .state = "closed", .upstream = "home", .service = "api"}};
  found.agents = {{.id = "back", .principal = "p"}, {.id = "here", .principal = "p"}};
  const auto all = desk.survey(found, at(80));
  ASSERT_EQ(told(all), "open 4, resolve 1, resolve 3, note 2");
  EXPECT_EQ(all[0].opening.title, "Circuit breaker open: web via home (edge-1:9090)");
  EXPECT_EQ(all[0].opening.at, at(70));
  EXPECT_THAT(all[3].note.body, HasSubstr("missing"));
  const auto lost = desk.tick(at(140));
  ASSERT_EQ(told(lost), "open 5");
  EXPECT_EQ(lost[0].opening.title, "Agent lost: gone (edge-1:9090)");
  EXPECT_EQ(told(tell(desk, 141, "breaker.closed", breaker("b2", "web"))), "resolve 4");
}

TEST(Desk, OfHistoryOnlyWhatLastsIsTold) {
  Desk desk(options());
  const std::vector<tunnelctl::daemon::Event> past = {
      event(0, "started", {{"version", "1"}}),          event(1, "breaker.opened", breaker("b1", "api")),
      event(2, "breaker.opened", breaker("b2", "web")), event(3, "breaker.closed", breaker("b1", "api")),
      event(4, "breaker.opened", breaker("b3", "old")), event(5, "breaker.closed", breaker("b3", "old")),
      event(6, "breaker.opened", breaker("b3", "old"))};
  EXPECT_EQ(told(desk.history(past, at(3600))), "open 2, open 3, note 3");
  EXPECT_EQ(told(tell(desk, 3601, "breaker.opened", breaker("b1", "api"))), "open 4")
      << "nobody was told of the first, so that there is nothing to reopen";
}

TEST(Desk, HistoryLeavesWhatIsToldAlready) {
  Desk desk(options());
  desk.daemon(false, "connection refused", at(3000));
  EXPECT_EQ(told(desk.daemon(false, "connection refused", at(3015))), "open 1");
  desk.daemon(true, "", at(3599));
  const std::vector<tunnelctl::daemon::Event> past = {event(0, "started", {{"version", "1"}}),
                                                      event(1, "started", {{"version", "1"}}),
                                                      event(2, "breaker.opened", breaker("b1", "api"))};
  EXPECT_EQ(told(desk.history(past, at(3600))), "open 2");
  EXPECT_EQ(told(desk.tick(at(3601))), "resolve 1");
}

TEST(Desk, WhatIsKeptInAFileGoesOnWhereItWas) {
  Desk before(options());
  std::map<std::string, std::string> file;
  const auto save = [&file](Desk& desk) {
    for (const auto& [name, value] : desk.take_changes()) {
      if (value)
        file[name] = *value;
      else
        file.erase(name);
    }
  };
  tell(before, 0, "started", {{"version", "1"}});
  tell(before, 0, "agent.connected", {{"agent", "a"}, {"principal", "p"}});
  tell(before, 0, "breaker.opened", breaker("b1"));
  tell(before, 1, "breaker.closed", breaker("b1"));
  save(before);
  tell(before, 2, "breaker.opened", breaker("b1"));
  tell(before, 3, "agent.lost", {{"agent", "a"}, {"principal", "p"}});
  save(before);
  EXPECT_TRUE(before.take_changes().empty());

  auto after = Desk::restore(options(), file);
  ASSERT_TRUE(after) << after.error().message;
  EXPECT_EQ(told(tell(*after, 10, "breaker.closed", breaker("b1"))),
            told(tell(before, 10, "breaker.closed", breaker("b1"))));
  const auto crash = tell(*after, 63, "started", {{"version", "1"}});
  EXPECT_EQ(told(crash), told(tell(before, 63, "started", {{"version", "1"}})));
  EXPECT_EQ(crash.front().opening.title, "Agent lost: a (edge-1:9090)");
  const auto again = tell(*after, 70, "breaker.opened", breaker("b1"));
  EXPECT_EQ(told(again), "resolve 3, reopen 1, note 1, note 1") << "the crash is over, and the third time";
  EXPECT_EQ(again[3].note.body.substr(0, 9), "Flapping:");
}

TEST(Desk, RecordsThatCannotBeReadAreRefused) {
  for (const char* text : {"", "{", "[]", "{}", R"({"key":"x"})", "null"}) {
    SCOPED_TRACE(text);
    EXPECT_FALSE(Desk::restore(options(), {{"case/x", text}}));
    EXPECT_FALSE(Desk::restore(options(), {{"daemon", text}}));
  }
}

TEST(Desk, NoteKeysAreNeverGivenTwice) {
  Desk desk(options());
  std::set<std::string> keys;
  std::size_t notes = 0;
  for (int n = 0; n < 20; ++n)
    for (const auto& one : tell(desk, 0, "breaker.opened", breaker("b" + std::to_string(n))))
      if (one.kind == Intent::Kind::note) {
        ++notes;
        keys.insert(one.note.key);
      }
  EXPECT_EQ(keys.size(), notes);
}

TEST(Desk, SecretsAndMarkupOfOthersStayOut) {
  Desk desk(options());
  auto data = breaker("b1");
  data["lastErrors"] = {
      "password=hunter2secret `rm` \x1b[31m\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz"};
  const auto opened = tell(desk, 0, "breaker.opened", data);
  const auto& summary = opened[0].opening.summary;
  EXPECT_THAT(summary, Not(HasSubstr("hunter2secret")));
  EXPECT_THAT(summary, Not(HasSubstr("abcdefghijklmnop")));
  EXPECT_THAT(summary, Not(HasSubstr("\x1b")));
}

TEST(Desk, EventsOfAnyShapeAreTakenCalmly) {
  Desk desk(options());
  for (const char* kind :
       {"breaker.opened", "breaker.closed", "upstream.lost", "upstream.back", "agent.lost", "agent.connected",
        "overload", "audit.failing", "stopped", "started", "config.changed", "some.later.kind", ""})
    for (const char* data : {"null", "{}", "[]", "7", R"({"breaker":7,"upstream":[],"agent":{},"keys":"x"})"})
      tell(desk, 0, kind, tunnelctl::daemon::Json::parse(data));
}

TEST(Desk, ProblemsBeyondTheBoundAreCountedInsteadOfKept) {
  auto few = options();
  few.max_cases = 3;
  Desk desk(few);
  for (int n = 0; n < 5; ++n)
    tell(desk, 0, "breaker.opened", breaker("b" + std::to_string(n), "s" + std::to_string(n)));
  EXPECT_EQ(desk.counts().open, 3u);
  EXPECT_EQ(desk.untold(), 2u);
}
