#include "tunnelctl/incident/watch.h"

#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/http_client.h"
#include "tests/support/loopback_server.h"
#include "tests/tunnelctl/incident/desk_story.h"
#include "tests/tunnelctl/incident/memory_backend.h"
#include "tests/tunnelctl/incident/temporary_folder.h"

using namespace tunnelctl::incident;
using namespace std::chrono_literals;
using support::at;
using support::breaker;
using support::event;
using testing::HasSubstr;

namespace {

WatchCore::Options core_options(const std::filesystem::path& folder) {
  WatchCore::Options options;
  options.state_dir = folder;
  options.desk.source = "edge-1:9090";
  options.backend = "memory, nowhere";
  options.backend_name = "memory";
  options.now = [] { return at(100); };
  return options;
}

std::unique_ptr<WatchCore> open(const WatchCore::Options& options) {
  auto core = WatchCore::open(options);
  EXPECT_TRUE(core) << core.error().message;
  return core ? std::move(*core) : nullptr;
}

Time real_now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

/// Until it holds; false after ten seconds.
bool soon(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(2ms);  // between two looks
  }
  return true;
}

/// A tunneld: its log of events, what it lists, and how it answers who follows.
class Tunneld {
 public:
  struct Kept {
    std::uint64_t id = 0;
    std::string time{}, kind{}, data{};
  };
  Tunneld() : server_([this](const auto& seen) { return answer(seen); }) {}

  void log(std::vector<Kept> events) {
    const std::lock_guard lock(mutex_);
    events_ = std::move(events);
  }
  void breakers(std::string list) {
    const std::lock_guard lock(mutex_);
    breakers_ = std::move(list);
  }
  /// Whether the stream is refused, as it is when too many read.
  void refuse_streams(bool yes) { refuses_ = yes; }
  Result<tunnelctl::daemon::Admin> admin(std::stop_token stop) const {
    auto url = server_.url();
    url.pop_back();
    return tunnelctl::daemon::Admin::make({.url = url, .token = Secret("t0ken")}, std::move(stop));
  }

 private:
  static std::string json(const Kept& one) {
    return "{\"id\":" + std::to_string(one.id) + R"(,"kind":")" + one.kind + R"(","time":")" + one.time +
           R"(","data":)" + one.data + "}";
  }
  support::LoopbackServer::Reply answer(const support::LoopbackServer::Seen& seen) {
    using Then = support::LoopbackServer::Then;
    const std::lock_guard lock(mutex_);
    const auto target = seen.head.substr(4, seen.head.find(' ', 4) - 4);
    if (target == "/readyz") return {support::http_answer(200, R"({"status":"ready"})")};
    if (target == "/api/tunnel/circuit-breakers")
      return {support::http_answer(200, "{\"breakers\":[" + breakers_ + "]}")};
    if (target == "/api/tunnel/agents") return {support::http_answer(200, R"({"agents":[]})")};
    const auto last = events_.empty() ? 0 : events_.back().id;
    const auto mark = seen.head.find("Last-Event-ID: ");
    if (mark == std::string::npos) {
      const auto after = std::stoull(target.substr(target.find('=') + 1));
      std::string some;
      for (const auto& one : events_)
        if (after > last || one.id > after) some += (some.empty() ? "" : ",") + json(one);
      return {support::http_answer(
          200, R"({"first":1,"last":)" + std::to_string(last) + R"(,"gap":false,"events":[)" + some + "]}")};
    }
    if (refuses_) return {support::http_answer(503, R"({"error":{"message":"too many streams"}})")};
    const auto after = std::stoull(seen.head.substr(mark + 15));
    std::string stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\n\n";
    bool any = false;
    for (const auto& one : events_)
      if (after > last || one.id > after) {
        stream += "data: " + json(one) + "\n\n";
        any = true;
      }
    return {stream, any ? Then::close : Then::hold};
  }

  std::mutex mutex_;
  std::vector<Kept> events_{};
  std::string breakers_{};
  std::atomic<bool> refuses_ = false;
  support::LoopbackServer server_;
};

Tunneld::Kept kept(std::uint64_t id, double second, const std::string& kind,
                   const tunnelctl::daemon::Json& data) {
  return {id, tunnelctl::times::text(at(second)), kind, data.dump()};
}

/// A watch of it that runs until it goes out of scope.
class Following {
 public:
  Following(WatchCore& core, Tunneld& tunneld, support::MemoryBackend& backend) {
    parts_.backend = &backend;
    parts_.now = real_now;
    parts_.admin = [&tunneld](std::stop_token stop) { return tunneld.admin(std::move(stop)); };
    how_.probe_every = 20ms;
    running_ = std::jthread([this, &core] { EXPECT_TRUE(watch(core, how_, parts_, stop_.get_token())); });
  }
  ~Following() { stop_.request_stop(); }

 private:
  WatchParts parts_{};
  WatchOptions how_{};
  std::stop_source stop_{};
  std::jthread running_{};
};

}  // namespace

TEST(WatchCore, ASecondWatchInTheSameFolderIsRefused) {
  support::TemporaryFolder folder;
  {
    const auto first = open(core_options(folder / "state"));
    const auto second = WatchCore::open(core_options(folder / "state"));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, Error::Kind::denied);
    EXPECT_THAT(second.error().message, HasSubstr("another tunnelctl incident watch"));
  }
  EXPECT_TRUE(WatchCore::open(core_options(folder / "state")));
}

TEST(WatchCore, AFolderOfAnotherWatchIsRefused) {
  support::TemporaryFolder folder;
  open(core_options(folder / "state"));
  auto other = core_options(folder / "state");
  other.desk.source = "edge-2:9090";
  EXPECT_THAT(WatchCore::open(other).error().message,
              HasSubstr("another source (edge-1:9090, not edge-2:9090)"));
  other = core_options(folder / "state");
  other.backend = "github, https://github.com/o/r";
  EXPECT_THAT(WatchCore::open(other).error().message, HasSubstr("another backend"));
}

TEST(WatchCore, EachEventIsTakenOnceOverRestarts) {
  support::TemporaryFolder folder;
  auto opened = event(1, "breaker.opened", breaker("b1"));
  opened.id = 7;
  {
    const auto core = open(core_options(folder / "state"));
    EXPECT_FALSE(core->cursor());
    ASSERT_TRUE(core->event(opened, false));
    ASSERT_TRUE(core->event(opened, false));
  }
  const auto core = open(core_options(folder / "state"));
  EXPECT_EQ(core->cursor(), 7u);
  ASSERT_TRUE(core->event(opened, false));
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_outbox_depth 1\n"));
  EXPECT_EQ(core->cursor_time(), opened.time);
  ASSERT_TRUE(core->anew()) << "the daemon's log began anew";
  EXPECT_FALSE(core->cursor());
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_outbox_depth 2\n"));
}

TEST(WatchCore, ThePastOfAnUnknownDaemonOpensOnlyWhatLasts) {
  support::TemporaryFolder folder;
  const auto core = open(core_options(folder / "state"));
  std::vector<tunnelctl::daemon::Event> events = {event(1, "breaker.opened", breaker("b1", "api")),
                                                  event(2, "breaker.closed", breaker("b1", "api")),
                                                  event(3, "breaker.opened", breaker("b2", "web"))};
  ASSERT_TRUE(core->history(events, 42));
  EXPECT_EQ(core->cursor(), 42u);
  const auto metrics = core->metrics();
  EXPECT_THAT(metrics, HasSubstr("tunnelctl_incident_outbox_depth 1\n"));
  EXPECT_THAT(metrics, HasSubstr("tunnelctl_incident_open 1\n"));
}

TEST(WatchCore, WhatCannotBeWrittenWasNotDecided) {
  support::TemporaryFolder folder;
  auto options = core_options(folder / "state");
  options.most_waiting = 1;
  const auto core = open(options);
  auto first = event(1, "breaker.opened", breaker("b1", "api"));
  auto second = event(2, "breaker.opened", breaker("b2", "web"));
  first.id = 1;
  second.id = 2;
  ASSERT_TRUE(core->event(first, false));
  EXPECT_FALSE(core->event(second, false));
  EXPECT_FALSE(core->healthy());
  EXPECT_EQ(core->cursor(), 1u);
  const std::stop_source never;
  const auto parcel = core->next(never.get_token());
  ASSERT_TRUE(parcel);
  core->delivered(*parcel, {.incident = "m-1"}, never.get_token());
  ASSERT_TRUE(core->event(second, false));
  EXPECT_TRUE(core->healthy());
  EXPECT_EQ(core->cursor(), 2u);
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_open 2\n"));
}

TEST(WatchCore, WhatCouldNotBeWrittenIsTriedByTheClockToo) {
  support::TemporaryFolder folder;
  auto options = core_options(folder / "state");
  options.most_waiting = 1;
  const auto core = open(options);
  ASSERT_TRUE(core->event(event(1, "breaker.opened", breaker("b1", "api")), false));
  EXPECT_FALSE(core->event(event(2, "breaker.opened", breaker("b2", "web")), false));
  core->tick();
  EXPECT_FALSE(core->healthy()) << "there is no room yet";
  const std::stop_source never;
  const auto parcel = core->next(never.get_token());
  ASSERT_TRUE(parcel);
  core->delivered(*parcel, {.incident = "m-1"}, never.get_token());
  EXPECT_TRUE(soon([&] {
    core->tick();
    return core->healthy().has_value();
  }));
}

TEST(WatchCore, WhileEventsAreNotReadTheClockOpensNothingThatTheyMayHaveEnded) {
  support::TemporaryFolder folder;
  auto now = at(0);
  auto options = core_options(folder / "state");
  options.now = [&now] { return now; };
  const tunnelctl::daemon::Json laptop = {{"agent", "laptop"}, {"principal", "p1"}};
  auto lost = event(0, "agent.lost", laptop), back = event(20, "agent.connected", laptop);
  lost.id = 1;
  back.id = 2;
  {
    const auto core = open(options);
    ASSERT_TRUE(core->event(lost, false));
  }
  now = at(3600);
  const auto core = open(options);
  core->blind("none was read yet");
  core->tick();
  core->reads(2);
  core->tick();
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_pending 1\n"));
  ASSERT_TRUE(core->event(back, false));
  core->tick();
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_pending 0\n"));
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_outbox_depth 0\n"));
}

TEST(WatchCore, AfterTheDaemonsGraceTheClockGoesOnWithoutEvents) {
  support::TemporaryFolder folder;
  auto now = at(0);
  auto options = core_options(folder / "state");
  options.desk.daemon_grace = 0ms;
  options.now = [&now] { return now; };
  const auto core = open(options);
  auto lost = event(0, "agent.lost", {{"agent", "laptop"}, {"principal", "p1"}});
  ASSERT_TRUE(core->event(lost, false));
  core->blind("connection refused");
  now = at(61);
  core->tick();
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_open 1\n"));
}

TEST(WatchCore, AContextThatCannotBeWrittenIsNotSoughtAgain) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  const auto options = core_options(folder / "state");
  const auto core = open(options);
  // The same file, by somebody who can keep it from being written.
  auto other = std::move(*Database::open(folder / "state" / "outbox.db", 0x54574F31, {""}));
  ASSERT_TRUE(
      other.run("CREATE TRIGGER full BEFORE UPDATE OF explained ON incidents BEGIN"
                " SELECT RAISE(FAIL, 'no space'); END"));
  std::atomic<int> sought = 0;
  WatchParts parts;
  parts.backend = &backend;
  parts.now = [] { return at(100); };
  parts.enrich = [&](const Subject&, bool, std::stop_token) {
    ++sought;
    return Enrichment{.markdown = "why"};
  };
  WatchOptions how;
  how.follow = false;
  std::stop_source stop;
  std::jthread running([&] { EXPECT_TRUE(watch(*core, how, parts, stop.get_token())); });
  ASSERT_TRUE(core->event(event(1, "breaker.opened", breaker("b1")), false));
  EXPECT_TRUE(soon([&] { return sought > 0; }));
  std::this_thread::sleep_for(50ms);  // in which it would be sought many times
  ASSERT_TRUE(other.run("DROP TRIGGER full"));
  EXPECT_TRUE(
      soon([&] { return backend.incidents().size() == 1 && backend.incidents()[0].notes.size() == 1; }));
  EXPECT_EQ(sought, 1);
  EXPECT_EQ(backend.incidents().at(0).notes.at(0).key,
            "context-" + std::to_string(at(1).time_since_epoch().count()));
  stop.request_stop();
}

TEST(Watch, AnotherLogOfEventsIsReadAsOneOfWhichNothingIsKnown) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  Tunneld tunneld;
  const auto core = open(core_options(folder / "state"));
  tunneld.log(
      {kept(1, 1, "started", {{"version", "1"}}), kept(2, 2, "breaker.opened", breaker("b1", "api"))});
  {
    const Following watch(*core, tunneld, backend);
    ASSERT_TRUE(soon([&] { return backend.incidents().size() == 1; }));
  }
  struct Row {
    const char* story;
    std::vector<Tunneld::Kept> log;
  };
  const Row rows[] = {{"it is shorter", {kept(1, 10, "breaker.opened", breaker("b8", "old"))}},
                      {"it is past the place that was reached",
                       {kept(1, 20, "breaker.opened", breaker("b8", "old")),
                        kept(2, 21, "breaker.closed", breaker("b8", "old")),
                        kept(3, 22, "breaker.opened", breaker("b9", "web")),
                        kept(4, 23, "breaker.closed", breaker("b9", "web")),
                        kept(5, 24, "breaker.opened", breaker("b7", "db"))}}};
  std::size_t incidents = 1;
  for (const auto& row : rows) {
    SCOPED_TRACE(row.story);
    tunneld.log(row.log);
    const Following watch(*core, tunneld, backend);
    ++incidents;
    EXPECT_TRUE(soon([&] {
      return core->cursor() == row.log.back().id && backend.incidents().size() == incidents;
    })) << "only what lasts, and of it once: "
        << backend.incidents().size();
    EXPECT_TRUE(soon([&] {
      const auto all = backend.incidents();
      return all[incidents - 2].status == Status::resolved && all[incidents - 1].status == Status::active;
    })) << "what the log before told is over";
  }
}

TEST(Watch, AfterMissingEventsItLooksHowItIsNow) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  Tunneld tunneld;
  const auto core = open(core_options(folder / "state"));
  tunneld.log({kept(1, 1, "breaker.opened", breaker("b1", "api"))});
  {
    const Following watch(*core, tunneld, backend);
    ASSERT_TRUE(soon([&] { return backend.incidents().size() == 1; }));
  }
  tunneld.log(
      {kept(1, 1, "breaker.opened", breaker("b1", "api")), kept(7, 7, "config.changed", {{"keys", {"x"}}})});
  tunneld.breakers(R"({"id":"b2","state":"open","upstream":"home","service":"web","principal":"p"})");
  const Following watch(*core, tunneld, backend);
  EXPECT_TRUE(soon([&] {
    const auto all = backend.incidents();
    return all.size() == 2 && all[0].status == Status::resolved && all[1].status == Status::active;
  }));
  EXPECT_FALSE(core->wants_survey());
}

TEST(Watch, AWatchThatCannotReadEventsOfAReadyDaemonSaysSo) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  Tunneld tunneld;
  tunneld.refuse_streams(true);
  auto options = core_options(folder / "state");
  options.desk.daemon_grace = 50ms;
  options.least_blind = 50ms;
  options.now = real_now;
  const auto core = open(options);
  const Following watch(*core, tunneld, backend);
  EXPECT_TRUE(soon([&] { return backend.incidents().size() == 1; }));
  EXPECT_THAT(backend.incidents().at(0).summary, HasSubstr("its events cannot be read"));
  EXPECT_TRUE(soon([&] { return !core->ready(); }));
  tunneld.refuse_streams(false);
  EXPECT_TRUE(soon([&] { return backend.incidents()[0].status == Status::resolved; }));
  EXPECT_TRUE(core->ready());
}

TEST(Watch, AnAlertBecomesAnIncidentWithItsContextAndIsResolved) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  backend.fail_next(Error::Kind::unavailable);
  auto options = core_options(folder / "state");
  options.now = real_now;
  const auto core = open(options);
  WatchOptions how;
  how.follow = false;
  how.receiver = ReceiverOptions{.listen = "127.0.0.1:0"};
  std::promise<unsigned short> port;
  WatchParts parts;
  parts.backend = &backend;
  parts.now = real_now;
  parts.enrich = [](const Subject& subject, bool, std::stop_token) {
    return Enrichment{.markdown = "about " + subject.title};
  };
  parts.started = [&](unsigned short number) { port.set_value(number); };
  std::stop_source stop;
  std::jthread running([&] { EXPECT_TRUE(watch(*core, how, parts, stop.get_token())); });

  const auto client = http::Client::make({});
  http::Request request;
  request.method = "POST";
  request.url = "http://127.0.0.1:" + std::to_string(port.get_future().get()) + "/alertmanager";
  const auto post = [&](const char* status) {
    request.body = std::string(R"({"status":")") + status + R"(","groupKey":"g","alerts":[{"status":")" +
                   status + R"(","fingerprint":"f","labels":{"alertname":"A"}}]})";
    const auto answer = client->send(request);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200u) << answer->body;
  };
  post("firing");
  EXPECT_TRUE(
      soon([&] { return backend.incidents().size() == 1 && backend.incidents()[0].notes.size() == 1; }));
  EXPECT_EQ(backend.incidents().at(0).notes.at(0).body, "about A");
  post("resolved");
  EXPECT_TRUE(soon([&] { return backend.incidents()[0].status == Status::resolved; }));
  EXPECT_EQ(backend.incidents()[0].notes.size(), 2u);
  EXPECT_THAT(
      core->metrics(),
      HasSubstr("tunnelctl_incident_deliveries_total{backend=\"memory\",call=\"open\",result=\"again\"} 1"));
  stop.request_stop();
}

TEST(Watch, TheContextOfWhatLastsIsToldOnceMore) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  std::atomic<int> second = 1;
  auto options = core_options(folder / "state");
  options.now = [&] { return at(second); };
  const auto core = open(options);
  WatchParts parts;
  parts.backend = &backend;
  parts.now = options.now;
  parts.enrich = [](const Subject&, bool again, std::stop_token) {
    return Enrichment{.markdown = again ? "four scrapes later" : "no sample yet"};
  };
  WatchOptions how;
  how.follow = false;
  how.look_again_after = 2min;
  std::stop_source stop;
  std::jthread running([&] { EXPECT_TRUE(watch(*core, how, parts, stop.get_token())); });
  ASSERT_TRUE(core->event(event(1, "breaker.opened", breaker("b1")), false));
  const auto notes = [&] {
    const auto incidents = backend.incidents();
    return incidents.empty() ? std::vector<Note>() : incidents[0].notes;
  };
  ASSERT_TRUE(soon([&] { return notes().size() == 1; }));
  EXPECT_EQ(notes()[0].body, "no sample yet");
  second = 121;
  ASSERT_TRUE(soon([&] { return notes().size() == 2; }));
  EXPECT_EQ(notes()[1].body, "four scrapes later");
  EXPECT_NE(notes()[0].key, notes()[1].key);
  stop.request_stop();
}

TEST(Watch, ResolvingDoesNotWaitForAContextThatHangs) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  const auto core = open(core_options(folder / "state"));
  WatchParts parts;
  parts.backend = &backend;
  parts.now = [] { return at(100); };
  parts.enrich = [](const Subject&, bool, std::stop_token stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any().wait(lock, stop, [] { return false; });
    return Enrichment{.markdown = "too late"};
  };
  WatchOptions how;
  how.follow = false;
  std::stop_source stop;
  std::jthread running([&] { EXPECT_TRUE(watch(*core, how, parts, stop.get_token())); });
  ASSERT_TRUE(core->event(event(1, "breaker.opened", breaker("b1")), false));
  EXPECT_TRUE(soon([&] { return backend.incidents().size() == 1; }));
  ASSERT_TRUE(core->event(event(2, "breaker.closed", breaker("b1")), false));
  EXPECT_TRUE(soon([&] { return backend.incidents()[0].status == Status::resolved; }));
  stop.request_stop();
}
