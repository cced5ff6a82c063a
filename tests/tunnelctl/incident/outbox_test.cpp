#include "tunnelctl/incident/outbox.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tunnelctl/incident/desk_story.h"
#include "tests/tunnelctl/incident/memory_backend.h"
#include "tests/tunnelctl/incident/temporary_folder.h"

using namespace tunnelctl::incident;
using namespace std::chrono_literals;
using support::at;
using support::breaker;
using support::event;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

class OutboxTest : public testing::Test {
 protected:
  Outbox open(std::size_t most = 10'000) {
    auto opened = Outbox::open(folder / "outbox.db", most);
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(*opened);
  }
  /// A breaker that opened and, if `closed`, closed again, committed.
  void story(Outbox& outbox, Desk& desk, bool closed, const char* service = "api") {
    auto intents = desk.event(event(0, "breaker.opened", breaker("b1", service)), at(0));
    if (closed) {
      auto end = desk.event(event(1, "breaker.closed", breaker("b1", service)), at(1));
      intents.insert(intents.end(), end.begin(), end.end());
    }
    const auto done = outbox.commit(desk.take_changes(), intents, at(1));
    ASSERT_TRUE(done) << done.error().message;
  }
  /// Delivers all that is due; what was done in words.
  std::vector<std::string> deliver_all(Outbox& outbox, Time now) {
    std::vector<std::string> done;
    for (;;) {
      const auto parcel = outbox.next(now);
      EXPECT_TRUE(parcel) << parcel.error().message;
      if (!parcel || !*parcel) return done;
      const auto delivery = deliver(backend, **parcel, now);
      done.push_back(std::string(name_of((*parcel)->kind)) + " " + std::string(name_of(delivery.what)));
      Result<void> marked;
      switch (delivery.what) {
        case Delivery::What::done:
          marked = outbox.delivered(**parcel, delivery.incident, delivery.url, now);
          break;
        case Delivery::What::refused: marked = outbox.give_up(**parcel, delivery.why, now); break;
        default:
          marked =
              outbox.try_again(**parcel, delivery.why, now + 1s, delivery.what == Delivery::What::parked);
      }
      EXPECT_TRUE(marked);
    }
  }

  support::TemporaryFolder folder;
  support::MemoryBackend backend;
};

}  // namespace

TEST_F(OutboxTest, WhatIsCommittedIsDeliveredInOrder) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, true);
  EXPECT_EQ(outbox.depth()->waiting, 2u);
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre("open done", "resolve done"));
  EXPECT_EQ(outbox.depth()->waiting, 0u);
  const auto incidents = backend.incidents();
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].status, Status::resolved);
  EXPECT_EQ(incidents[0].notes.size(), 1u);
}

TEST_F(OutboxTest, ADeadBackendDelaysAndNeitherLosesNorDoubles) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, true);
  backend.fail_next(Error::Kind::unavailable, false, 2);
  backend.fail_next(Error::Kind::timed_out, true);
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre("open again"));
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre())
      << "nothing comes before it, and not before its time";
  EXPECT_EQ(*outbox.next_due(at(2)), at(3));
  EXPECT_THAT(deliver_all(outbox, at(3)), ElementsAre("open again"));
  EXPECT_THAT(deliver_all(outbox, at(4)), ElementsAre("open again")) << "made, but the answer was lost";
  EXPECT_THAT(deliver_all(outbox, at(5)), ElementsAre("open done", "resolve done"));
  EXPECT_EQ(backend.incidents().size(), 1u);
}

TEST_F(OutboxTest, AKillAtAnyStepLeavesOneIncidentWithEachNoteOnce) {
  // The steps of one delivery: take it, call, mark it. Killed after `kill` of them, counted over all.
  for (int kill = 0; kill < 12; ++kill) {
    SCOPED_TRACE(kill);
    support::TemporaryFolder place;
    support::MemoryBackend service;
    int steps = 0;
    bool finished = false;
    for (int run = 0; run < 2; ++run) {
      auto outbox = std::move(*Outbox::open(place / "outbox.db"));
      if (run == 0) {
        Desk desk({});
        auto intents = desk.event(event(0, "breaker.opened", breaker("b1")), at(0));
        auto more = desk.event(event(1, "breaker.opened", breaker("b2")), at(1));
        intents.insert(intents.end(), more.begin(), more.end());
        for (const char* id : {"b1", "b2"}) {
          auto end = desk.event(event(2, "breaker.closed", breaker(id)), at(2));
          intents.insert(intents.end(), end.begin(), end.end());
        }
        ASSERT_TRUE(outbox.commit(desk.take_changes(), intents, at(2)));
      }
      const auto killed = [&] { return run == 0 && steps++ == kill; };
      for (;;) {
        if (killed()) break;
        const auto parcel = outbox.next(at(10));
        ASSERT_TRUE(parcel);
        if (!*parcel) {
          finished = true;
          break;
        }
        const auto delivery = deliver(service, **parcel, at(10));
        if (killed()) break;
        ASSERT_TRUE(outbox.delivered(**parcel, delivery.incident, delivery.url, at(10)));
      }
    }
    EXPECT_TRUE(finished);
    const auto incidents = service.incidents();
    ASSERT_EQ(incidents.size(), 1u);
    EXPECT_EQ(incidents[0].status, Status::resolved);
    EXPECT_EQ(incidents[0].notes.size(), 2u);
  }
}

TEST_F(OutboxTest, OneIncidentThatIsStuckDoesNotHoldTheOthers) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, true, "api");
  story(outbox, desk, true, "web");
  backend.fail_next(Error::Kind::denied);
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre("open parked", "open done", "resolve done"));
  EXPECT_EQ(outbox.depth()->parked, 1u);
  EXPECT_EQ(*outbox.depth()->oldest, at(1));
  ASSERT_TRUE(outbox.hurry());
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre("open done", "resolve done"));
  EXPECT_EQ(outbox.depth()->parked, 0u);
}

TEST_F(OutboxTest, ANoteThatIsRefusedDoesNotKeepTheIncidentOpen) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, false);
  deliver_all(outbox, at(1));
  auto intents = desk.event(event(2, "breaker.opened", breaker("b2")), at(2));
  for (const char* id : {"b1", "b2"}) {
    auto end = desk.event(event(3, "breaker.closed", breaker(id)), at(3));
    intents.insert(intents.end(), end.begin(), end.end());
  }
  ASSERT_TRUE(outbox.commit(desk.take_changes(), intents, at(3)));
  backend.fail_next(Error::Kind::bad_input);
  EXPECT_THAT(deliver_all(outbox, at(4)), ElementsAre("note refused", "resolve done"));
  EXPECT_EQ(outbox.depth()->given_up, 1u);
}

TEST_F(OutboxTest, WhereReopeningIsNotPossibleAnotherOneIsOpened) {
  backend.reopens = false;
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, true);
  deliver_all(outbox, at(2));
  ASSERT_TRUE(outbox.commit(desk.take_changes(), desk.event(event(5, "breaker.opened", breaker("b1")), at(5)),
                            at(5)));
  EXPECT_THAT(deliver_all(outbox, at(5)), ElementsAre("reopen done", "note done"));
  const auto incidents = backend.incidents();
  ASSERT_EQ(incidents.size(), 2u);
  EXPECT_EQ(incidents[1].status, Status::active);
  EXPECT_EQ(incidents[1].notes.size(), 1u) << "the note went to the one that is open";
}

TEST_F(OutboxTest, TheSameIncidentIsReopenedWhereThatIsPossible) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, true);
  deliver_all(outbox, at(2));
  ASSERT_TRUE(outbox.commit(desk.take_changes(), desk.event(event(5, "breaker.opened", breaker("b1")), at(5)),
                            at(5)));
  EXPECT_EQ(outbox.depth()->active, 1u);
  deliver_all(outbox, at(5));
  const auto incidents = backend.incidents();
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].status, Status::active);
}

TEST_F(OutboxTest, WhatFailsAgainDoesNotOvertakeItsEarlierEnd) {
  auto options = DeskOptions{};
  options.reopens = false;  // so that the second time is an incident of its own, with the same key
  auto outbox = open();
  Desk desk(options);
  story(outbox, desk, true);
  const auto opened = *outbox.next(at(2));
  ASSERT_TRUE(opened && outbox.delivered(*opened, deliver(backend, *opened, at(2)).incident, "", at(2)));
  backend.fail_next(Error::Kind::unavailable);
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre("resolve again"));
  ASSERT_TRUE(outbox.commit(desk.take_changes(),
                            desk.event(event(2.5, "breaker.opened", breaker("b1")), at(2.5)), at(2.5)));
  EXPECT_THAT(deliver_all(outbox, at(2.5)), ElementsAre()) << "it would be merged into what is open still";
  EXPECT_THAT(deliver_all(outbox, at(3)), ElementsAre("resolve done", "open done", "note done"));
  const auto incidents = backend.incidents();
  ASSERT_EQ(incidents.size(), 2u);
  EXPECT_EQ(incidents[0].status, Status::resolved);
  EXPECT_EQ(incidents[1].status, Status::active);
}

TEST_F(OutboxTest, WhatIsNotShownYetIsToldLater) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, false);
  deliver_all(outbox, at(1));
  ASSERT_TRUE(*outbox.explain(Outbox::Unexplained{.episode = 1},
                              Note{.key = "context", .at = at(2), .body = "why"}, at(2)));
  ASSERT_TRUE(outbox.commit(desk.take_changes(), desk.event(event(3, "breaker.closed", breaker("b1")), at(3)),
                            at(3)));
  backend.fail_next(Error::Kind::not_found, false, 2);
  EXPECT_THAT(deliver_all(outbox, at(4)), ElementsAre("note again"));
  EXPECT_THAT(deliver_all(outbox, at(303)), ElementsAre("note parked")) << "later a person must look";
  EXPECT_THAT(deliver_all(outbox, at(304)), ElementsAre("note done", "resolve done"));
}

TEST_F(OutboxTest, WhatIsNotFoundIsGivenUpAfterADayOrForTheNextOne) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, true);
  const auto opened = *outbox.next(at(2));
  ASSERT_TRUE(opened && outbox.delivered(*opened, "gone", "", at(2)));
  EXPECT_THAT(deliver_all(outbox, at(302)), ElementsAre("resolve parked"));
  EXPECT_THAT(deliver_all(outbox, at(86'400)), ElementsAre("resolve parked"));
  EXPECT_THAT(deliver_all(outbox, at(86'402)), ElementsAre("resolve refused"));

  story(outbox, desk, true, "web");
  const auto other = *outbox.next(at(2));
  ASSERT_TRUE(other && outbox.delivered(*other, "gone too", "", at(2)));
  const auto resolve = *outbox.next(at(2));
  ASSERT_TRUE(resolve && outbox.try_again(*resolve, {Error::Kind::not_found, "x"}, at(500), true));
  EXPECT_THAT(deliver_all(outbox, at(3)), ElementsAre());
  ASSERT_TRUE(outbox.commit(desk.take_changes(),
                            desk.event(event(4, "breaker.opened", breaker("b1", "web")), at(4)), at(4)));
  EXPECT_THAT(deliver_all(outbox, at(4)), ElementsAre("resolve refused", "reopen done", "note done"))
      << "nothing that cannot be ended keeps the next from being opened";
  ASSERT_FALSE(backend.incidents().empty());
  EXPECT_EQ(backend.incidents().back().status, Status::active);
}

TEST_F(OutboxTest, ANotesBackendIsToldWhatItIsOf) {
  struct Forgetful : support::MemoryBackend {
    void knows(const std::string& id, const Opening& opening) override {
      known.push_back(id + " " + opening.title);
    }
    std::vector<std::string> known{};
  } service;
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, false);
  const auto opened = *outbox.next(at(2));
  ASSERT_TRUE(opened && outbox.delivered(*opened, deliver(service, *opened, at(2)).incident, "", at(2)));
  ASSERT_TRUE(*outbox.explain(Outbox::Unexplained{.episode = 1},
                              Note{.key = "context", .at = at(2), .body = "why"}, at(2)));
  const auto noted = *outbox.next(at(2));
  ASSERT_TRUE(noted);
  EXPECT_EQ(deliver(service, *noted, at(2)).what, Delivery::What::done);
  EXPECT_THAT(service.known, ElementsAre("m-1 Circuit breaker open: api via home (tunneld)"));
}

TEST_F(OutboxTest, AClockThatWasSetBackDelaysNothing) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, false);
  backend.fail_next(Error::Kind::unavailable);
  deliver_all(outbox, at(3600));
  EXPECT_EQ(*outbox.next_due(at(3600)), at(3601));
  EXPECT_EQ(*outbox.next_due(at(2)), Time());
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre("open done"));
}

TEST_F(OutboxTest, WhatBeganLongAgoIsExplainedWhenItWasDecidedOnNow) {
  auto outbox = open();
  Desk desk({});
  ASSERT_TRUE(
      outbox.commit({}, desk.event(event(0, "breaker.opened", breaker("b1")), at(90'000)), at(90'000)));
  const auto wanted = outbox.unexplained(std::nullopt);
  ASSERT_TRUE(wanted && *wanted);
  EXPECT_EQ((*wanted)->subject.at, at(0));
  EXPECT_EQ((*wanted)->made, at(90'000));
}

TEST_F(OutboxTest, AnIncidentIsExplainedOnceAndNotAfterItsEnd) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, false, "api");
  const auto wanted = outbox.unexplained(std::nullopt);
  ASSERT_TRUE(wanted && *wanted);
  EXPECT_EQ((*wanted)->subject.kind, "breaker");
  EXPECT_EQ((*wanted)->subject.facts["failures"], 5);
  const Note context{.key = "context", .at = at(2), .body = "why"};
  EXPECT_TRUE(*outbox.explain(**wanted, context, at(2)));
  EXPECT_FALSE(*outbox.explain(**wanted, context, at(2)));
  EXPECT_FALSE(outbox.unexplained(std::nullopt)->has_value());
  EXPECT_THAT(deliver_all(outbox, at(2)), ElementsAre("open done", "note done"));

  story(outbox, desk, false, "web");
  const auto second = outbox.unexplained(std::nullopt);
  ASSERT_TRUE(second && *second);
  ASSERT_TRUE(outbox.commit(desk.take_changes(),
                            desk.event(event(3, "breaker.closed", breaker("b1", "web")), at(3)), at(3)));
  EXPECT_FALSE(*outbox.explain(**second, context, at(4))) << "a note might open it again";
  EXPECT_FALSE(outbox.unexplained(std::nullopt)->has_value());
}

TEST_F(OutboxTest, WhatLastsIsLookedAtOnceMore) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, false, "api");
  const auto first = outbox.unexplained(at(-1));
  ASSERT_TRUE(first && *first);
  EXPECT_FALSE((*first)->again);
  EXPECT_TRUE(*outbox.explain(**first, Note{.key = "context", .at = at(2), .body = "nothing yet"}, at(2)));
  EXPECT_FALSE(outbox.unexplained((*first)->made - std::chrono::milliseconds(1))->has_value()) << "too early";
  const auto again = outbox.unexplained((*first)->made);
  ASSERT_TRUE(again && *again);
  EXPECT_TRUE((*again)->again);
  EXPECT_TRUE(*outbox.explain(**again, Note{.key = "context-again", .at = at(120), .body = "much"}, at(120)));
  EXPECT_FALSE(outbox.unexplained(at(9'999))->has_value()) << "twice is enough";
  EXPECT_THAT(deliver_all(outbox, at(121)), ElementsAre("open done", "note done", "note done"));
}

TEST_F(OutboxTest, WhatHasNothingToSayIsNotLookedAtAgain) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, false, "api");
  const auto first = outbox.unexplained(std::nullopt);
  ASSERT_TRUE(first && *first);
  EXPECT_FALSE(*outbox.explain(**first, std::nullopt, at(2)));
  EXPECT_FALSE(outbox.unexplained(at(9'999))->has_value());
}

TEST_F(OutboxTest, AFullOutboxTakesNothingMoreAndForgetsNothing) {
  auto outbox = open(2);
  Desk desk({});
  story(outbox, desk, true);
  auto intents = desk.event(event(5, "breaker.opened", breaker("b1")), at(5));
  const auto refused = outbox.commit({{"cursor", "7"}}, intents, at(5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::unavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("2 calls wait"));
  EXPECT_FALSE(outbox.records()->contains("cursor")) << "all or nothing";
  EXPECT_TRUE(outbox.commit({{"cursor", "7"}}, {}, at(5)));
  EXPECT_FALSE(outbox.writable(at(5)));
  deliver_all(outbox, at(5));
  EXPECT_TRUE(outbox.writable(at(5)));
  EXPECT_TRUE(outbox.commit({}, intents, at(5)));
}

TEST_F(OutboxTest, WhatTheDeskKnewIsThereAfterwards) {
  {
    auto outbox = open();
    Desk desk({});
    story(outbox, desk, false);
    ASSERT_TRUE(outbox.commit({{"cursor", "42"}}, {}, at(1)));
    ASSERT_TRUE(outbox.commit({{"cursor", "43"}, {"gone", std::nullopt}}, {}, at(1)));
  }
  auto outbox = open();
  const auto records = outbox.records();
  ASSERT_TRUE(records);
  EXPECT_EQ(records->at("cursor"), "43");
  auto desk = Desk::restore({}, *records);
  ASSERT_TRUE(desk) << desk.error().message;
  EXPECT_EQ(desk->counts().open, 1u);
}

TEST_F(OutboxTest, OldDeliveriesAreForgottenAndNothingElse) {
  auto outbox = open();
  Desk desk({});
  story(outbox, desk, true, "api");
  deliver_all(outbox, at(2));
  story(outbox, desk, false, "web");
  deliver_all(outbox, at(2));
  story(outbox, desk, true, "new");
  ASSERT_TRUE(outbox.prune(at(100)));
  EXPECT_EQ(outbox.depth()->waiting, 2u);
  EXPECT_EQ(outbox.depth()->active, 1u);
  EXPECT_THAT(deliver_all(outbox, at(101)), ElementsAre("open done", "resolve done"));
  ASSERT_TRUE(outbox.commit(desk.take_changes(),
                            desk.event(event(3, "breaker.closed", breaker("b1", "web")), at(102)), at(102)));
  EXPECT_THAT(deliver_all(outbox, at(102)), ElementsAre("resolve done")) << "its id was kept";
}

TEST(OutboxPause, DoublesToHalfAMinuteAndIsSpread) {
  EXPECT_EQ(pause_after(1, 0.5), 1s);
  EXPECT_EQ(pause_after(2, 0.5), 2s);
  EXPECT_EQ(pause_after(5, 0.5), 16s);
  EXPECT_EQ(pause_after(6, 0.5), 30s);
  EXPECT_EQ(pause_after(1'000'000, 0.5), 30s);
  EXPECT_EQ(pause_after(1, 0), 700ms);
  EXPECT_LT(pause_after(1'000, 0.999), 39s);
}

TEST(OutboxTexts, ComeBackAsTheyWere) {
  Opening opening{.dedup_key = "k", .title = "t", .severity = Severity::warning, .drill = true};
  opening.labels = {{"a", "b"}};
  opening.attachments = {{"https://x", "x"}};
  opening.at = at(7);
  opening.summary = "s\n`x`";
  const auto read = opening_of(text_of(opening));
  ASSERT_TRUE(read);
  EXPECT_EQ(text_of(*read), text_of(opening));
  EXPECT_EQ(read->attachments, opening.attachments);
  for (const char* text : {"", "{}", "[]", "null", R"({"key":7})"}) {
    EXPECT_FALSE(opening_of(text));
    EXPECT_FALSE(note_of(text));
    EXPECT_FALSE(subject_of(text));
  }
}
