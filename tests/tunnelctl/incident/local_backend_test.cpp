#include "tunnelctl/incident/local_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tests/support/scripted_api.h"
#include "tests/tunnelctl/incident/temporary_folder.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnelctl::incident;
using support::ScriptedApi;
using support::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = Error::Kind;

const Time kStart(1'770'000'000'000ms);

Opening opening(const std::string& key = "breaker:api", Time at = kStart) {
  return {.dedup_key = key,
          .title = key + " is open",
          .severity = Severity::critical,
          .labels = {{"service", "api"}, {"tag", "a"}},
          .attachments = {{"https://grafana.example/d/x", "dashboard"}},
          .at = at,
          .summary = "why"};
}

class Local : public testing::Test {
 protected:
  std::unique_ptr<LocalBackend> backend(LocalOptions options = {}) {
    options.path = folder_ / "incidents.db";
    options.author = "ann";
    options.warn = [this](std::string_view text) { warnings_.emplace_back(text); };
    auto made = LocalBackend::make(std::move(options));
    if (!made) throw std::runtime_error(made.error().message);
    return std::move(*made);
  }
  std::unique_ptr<LocalBackend> with_grafana(const ScriptedApi& api,
                                             std::chrono::milliseconds left_alone = 0ms) {
    return backend({.grafana = tunnelctl::grafana::Connection{.url = api.url(), .timeout = 2s},
                    .left_alone = left_alone});
  }

  TemporaryFolder folder_;
  std::vector<std::string> warnings_;
};

std::vector<std::string> lines_of(const Incident& incident) {
  std::vector<std::string> lines;
  for (const auto& note : incident.notes) lines.push_back(note.kind + " " + note.author + ": " + note.body);
  return lines;
}

TEST_F(Local, KeepsAnIncidentFromItsOpeningToItsEnd) {
  auto local = backend();
  const auto opened = local->open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->made);
  EXPECT_EQ(opened->incident.id, "inc-1");
  ASSERT_TRUE(local->note("inc-1", {.at = kStart + 5s, .body = "looking", .author = "bob"}));
  ASSERT_TRUE(local->change("inc-1", {.title = "api is slow",
                                      .severity = Severity::warning,
                                      .add_labels = {{"service", "web"}, {"tag", "b"}},
                                      .at = kStart + 6s}));
  const auto resolved = backend()->resolve("1", {.at = kStart + 60s, .body = "went away"});
  ASSERT_TRUE(resolved) << resolved.error().message;
  EXPECT_EQ(resolved->status, Status::resolved);
  EXPECT_EQ(resolved->resolved, kStart + 60s);
  EXPECT_EQ(resolved->title, "api is slow");
  EXPECT_EQ(resolved->severity, Severity::warning);
  EXPECT_EQ(resolved->summary, "why");
  EXPECT_EQ(resolved->labels, (std::vector<Label>{{"service", "web"}, {"tag", "a"}, {"tag", "b"}}));
  EXPECT_EQ(resolved->attachments, opening().attachments);
  EXPECT_THAT(lines_of(*resolved), ElementsAre("opened ann: breaker:api is open", "note bob: looking",
                                               "title ann: api is slow", "severity ann: critical to warning",
                                               "note ann: went away", "resolved ann: resolved"));
}

TEST_F(Local, HasOneOpenIncidentOfAKey) {
  auto local = backend();
  ASSERT_TRUE(local->open(opening()));
  const auto again = local->open(opening("breaker:api", kStart + 1s));
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->made);
  EXPECT_EQ(again->incident.id, "inc-1");
  EXPECT_EQ(again->incident.opened, kStart);
  EXPECT_EQ(local->open(opening("breaker:web"))->incident.id, "inc-2");
  ASSERT_TRUE(local->resolve("inc-1", {.at = kStart + 2s}));
  const auto later = local->open(opening("breaker:api", kStart + 3s));
  EXPECT_TRUE(later->made);
  EXPECT_EQ(later->incident.id, "inc-3");
}

TEST_F(Local, MakesOneOfManyThatAreOpenedAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> made{0};
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      const auto opened = backend()->open(opening());
      if (!opened)
        ADD_FAILURE() << opened.error().message;
      else if (opened->made)
        ++made;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(backend()->list({})->incidents.size(), 1U);
}

TEST_F(Local, TakesANoteOfAKeyOnce) {
  auto local = backend();
  ASSERT_TRUE(local->open(opening()));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(local->note("inc-1", {.key = "enriched", .at = kStart + 1s, .body = "the reason"}));
    ASSERT_TRUE(local->note("inc-1", {.at = kStart + 2s, .body = "free"}));
  }
  EXPECT_EQ(local->read("inc-1")->notes.size(), 1U + 1U + 3U);
}

TEST_F(Local, ResolvesOnceHoweverOftenItIsAsked) {
  auto local = backend();
  ASSERT_TRUE(local->open(opening()));
  const auto first = local->resolve("inc-1", {.key = "end", .at = kStart + 9s, .body = "gone"});
  const auto second = local->resolve("inc-1", {.key = "end", .at = kStart + 99s, .body = "gone"});
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->resolved, kStart + 9s);
  EXPECT_EQ(second->notes.size(), first->notes.size());
}

TEST_F(Local, MayBeOpenedAgainUnlessAnotherOfItsKeyIs) {
  auto local = backend();
  ASSERT_TRUE(local->open(opening()));
  ASSERT_TRUE(local->change("inc-1", {.status = Status::resolved, .at = kStart + 5s}));
  EXPECT_EQ(local->read("inc-1")->resolved, kStart + 5s);
  const auto back = local->change("inc-1", {.status = Status::active, .at = kStart + 6s});
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->status, Status::active);
  EXPECT_FALSE(back->resolved);
  ASSERT_TRUE(local->resolve("inc-1", {.at = kStart + 7s}));
  ASSERT_TRUE(local->open(opening()));
  const auto refused = local->change("inc-1", {.title = "new", .status = Status::active, .at = kStart + 8s});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Kind::bad_input);
  EXPECT_THAT(refused.error().message, HasSubstr("inc-2 is open with the same key"));
  EXPECT_EQ(local->read("inc-1")->title, "breaker:api is open") << "all of a change or nothing";
}

TEST_F(Local, ListsTheNewestFirstAndOnlyWhatIsAskedFor) {
  auto local = backend();
  for (int i = 0; i < 5; ++i) {
    auto one = opening("key:" + std::to_string(i), kStart + i * 1s);
    one.drill = i == 3;
    one.labels = {{"n", std::to_string(i % 2)}};
    ASSERT_TRUE(local->open(one));
  }
  ASSERT_TRUE(local->resolve("inc-2", {.at = kStart + 9s}));
  const auto ids = [&](const Filter& filter) {
    std::vector<std::string> result;
    const auto listed = local->list(filter);
    for (const auto& incident : listed->incidents) result.push_back(incident.id);
    if (listed->more) result.emplace_back("more");
    return result;
  };
  EXPECT_THAT(ids({}), ElementsAre("inc-5", "inc-4", "inc-3", "inc-2", "inc-1"));
  EXPECT_THAT(ids({.limit = 2}), ElementsAre("inc-5", "inc-4", "more"));
  EXPECT_THAT(ids({.limit = 5}), testing::SizeIs(5));
  EXPECT_THAT(ids({.limit = 0}), testing::SizeIs(5));
  EXPECT_THAT(ids({.status = Status::resolved}), ElementsAre("inc-2"));
  EXPECT_THAT(ids({.status = Status::active, .drill = false}), ElementsAre("inc-5", "inc-3", "inc-1"));
  EXPECT_THAT(ids({.drill = true}), ElementsAre("inc-4"));
  EXPECT_THAT(ids({.dedup_key = "key:0"}), ElementsAre("inc-1"));
  EXPECT_THAT(ids({.labels = {{"n", "1"}}, .limit = 1}), ElementsAre("inc-4", "more"));
  EXPECT_THAT(ids({.labels = {{"n", "7"}}}), IsEmpty());
}

TEST_F(Local, SaysWhichIncidentThereIsNot) {
  auto local = backend();
  for (const char* wrong : {"", "abc", "inc-", "inc-0", "inc--1", "inc-1x", "99999999999999999999"}) {
    const auto read = local->read(wrong);
    ASSERT_FALSE(read) << wrong;
    EXPECT_EQ(read.error().kind, Kind::bad_input);
  }
  const auto note = Note{.at = kStart, .body = "x"};
  for (const auto& error : {local->read("inc-9").error(), local->note("inc-9", note).error(),
                            local->change("inc-9", {}).error(), local->resolve("inc-9", note).error()}) {
    EXPECT_EQ(error.kind, Kind::not_found);
    EXPECT_THAT(error.message, HasSubstr("no incident inc-9"));
  }
  EXPECT_EQ(local->open(opening("")).error().kind, Kind::bug);
}

TEST_F(Local, IsWholeOrNotThereWhenItsProcessIsKilled) {
  for (int step = 0; step < 20; ++step) {
    const pid_t child = ::fork();
    if (child == 0) {
      // Killed at some moment of this.
      auto local = LocalBackend::make({.path = folder_ / "incidents.db"});
      for (;;) {
        const auto opened = (*local)->open(opening());
        (void)(*local)->note(opened->incident.id, {.key = "k", .at = kStart, .body = "x"});
        (void)(*local)->resolve(opened->incident.id, {.key = "r", .at = kStart, .body = "y"});
      }
    }
    ::usleep(static_cast<useconds_t>(3'000 + step * 997));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
  }
  auto local = backend();
  const auto all = local->list({.limit = 0});
  ASSERT_TRUE(all) << all.error().message;
  std::size_t active = 0;
  for (const auto& incident : all->incidents) {
    active += incident.status == Status::active ? 1 : 0;
    const auto whole = local->read(incident.id);
    ASSERT_FALSE(whole->notes.empty());
    EXPECT_EQ(whole->notes.front().kind, "opened");
    EXPECT_LE(whole->notes.size(), 4U);
    if (incident.status == Status::resolved) {
      EXPECT_EQ(whole->notes.size(), 4U);
    }
  }
  EXPECT_LE(active, 1U);
}

TEST_F(Local, DrawsTheTimeOfAnIncidentInGrafana) {
  std::vector<Json> bodies;
  const auto keep = [&](const ScriptedApi::Asked& asked) {
    bodies.push_back(Json::parse(asked.body));
    return ScriptedApi::Says{200, R"({"id":42,"message":"Annotation added"})"};
  };
  const ScriptedApi api({{"/api/annotations", keep}, {"/api/annotations/42", keep}});
  auto local = with_grafana(api);
  ASSERT_TRUE(local->open(opening()));
  ASSERT_TRUE(local->open(opening()));
  ASSERT_TRUE(local->resolve("inc-1", {.at = kStart + 60s}));
  ASSERT_TRUE(local->resolve("inc-1", {.at = kStart + 61s}));
  EXPECT_THAT(api.lines(), ElementsAre("POST /api/annotations", "PATCH /api/annotations/42"));
  ASSERT_EQ(bodies.size(), 2U);
  EXPECT_EQ(bodies[0]["time"], 1'770'000'000'000);
  EXPECT_EQ(bodies[0]["tags"][0], "incident");
  EXPECT_EQ(bodies[0]["tags"][1], "severity:critical");
  EXPECT_EQ(bodies[1], (Json{{"timeEnd", 1'770'000'060'000}}));
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(Local, IsKeptWhenGrafanaFailsAndDrawnOnceLater) {
  int status = 503;
  std::string found = "[]";
  const ScriptedApi api({{"/api/annotations",
                          [&](const ScriptedApi::Asked& asked) {
                            if (asked.method == "GET") return ScriptedApi::Says{200, found};
                            return ScriptedApi::Says{static_cast<unsigned>(status), R"({"message":"no"})"};
                          }},
                         {"/api/annotations/9", [](const ScriptedApi::Asked&) {
                            return ScriptedApi::Says{200, R"({"message":"Annotation patched"})"};
                          }}});
  auto local = with_grafana(api);
  const auto opened = local->open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_THAT(warnings_[0], HasSubstr("inc-1 is kept, but Grafana has no annotation of it: POST"));
  EXPECT_THAT(warnings_[0], HasSubstr("503"));
  // The first attempt had been served, only its answer was lost: it is found by its tag.
  found = R"([{"id":9}])";
  ASSERT_TRUE(local->resolve("inc-1", {.at = kStart + 60s}));
  EXPECT_EQ(warnings_.size(), 1U);
  EXPECT_THAT(api.lines().back(), "PATCH /api/annotations/9");
}

TEST_F(Local, LeavesAGrafanaThatFailedAloneForAWhile) {
  const ScriptedApi api({{"/api/annotations", [](const ScriptedApi::Asked&) {
                            return ScriptedApi::Says{503, R"({"message":"no"})"};
                          }}});
  auto local = with_grafana(api, 1h);
  ASSERT_TRUE(local->open(opening()));
  const auto asked = api.lines().size();
  ASSERT_TRUE(local->resolve("inc-1", {.at = kStart + 60s}));
  ASSERT_TRUE(local->open(opening("other")));
  EXPECT_EQ(api.lines().size(), asked);
  EXPECT_EQ(warnings_.size(), 1U);
}

TEST_F(Local, DrawsAnEndThatCouldNotBeDrawnWithTheNextIncident) {
  unsigned status = 200;
  std::vector<std::string> ends;
  const ScriptedApi api({{"/api/annotations",
                          [](const ScriptedApi::Asked&) {
                            return ScriptedApi::Says{200, R"({"id":42,"message":"Annotation added"})"};
                          }},
                         {"/api/annotations/42", [&](const ScriptedApi::Asked& asked) {
                            ends.push_back(asked.body);
                            return ScriptedApi::Says{status, R"({"message":"x"})"};
                          }}});
  auto local = with_grafana(api);
  ASSERT_TRUE(local->open(opening()));
  status = 400;
  ASSERT_TRUE(local->resolve("inc-1", {.at = kStart + 60s}));
  ASSERT_EQ(warnings_.size(), 1U);
  status = 200;
  ASSERT_TRUE(local->open(opening("other", kStart + 2h)));
  ASSERT_TRUE(local->open(opening("third", kStart + 3h)));
  EXPECT_THAT(ends, ElementsAre(HasSubstr("1770000060000"), HasSubstr("1770000060000")));
  EXPECT_EQ(warnings_.size(), 1U);
}

TEST_F(Local, DoesNotWaitLongForAGrafanaThatIsSilent) {
  const support::LoopbackServer silent("", support::LoopbackServer::Then::hold);
  auto local = backend({.grafana = tunnelctl::grafana::Connection{.url = silent.url("")}, .patience = 100ms});
  const auto begin = std::chrono::steady_clock::now();
  const auto opened = local->open(opening());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s) << "one attempt alone would take 30 s";
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_THAT(warnings_[0], HasSubstr("no answer within 100 ms"));
}

}  // namespace
