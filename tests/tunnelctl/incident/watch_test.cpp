#include "tunnelctl/incident/watch.h"

#include <condition_variable>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/http_client.h"
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
    ASSERT_TRUE(core->event(opened, false, false));
    ASSERT_TRUE(core->event(opened, false, false));
  }
  const auto core = open(core_options(folder / "state"));
  EXPECT_EQ(core->cursor(), 7u);
  ASSERT_TRUE(core->event(opened, false, false));
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_outbox_depth 1\n"));
  auto anew = event(2, "started", {{"version", "1"}});
  anew.id = 1;
  ASSERT_TRUE(core->event(anew, false, true)) << "the daemon's log began anew";
  EXPECT_EQ(core->cursor(), 1u);
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
  ASSERT_TRUE(core->event(first, false, false));
  EXPECT_FALSE(core->event(second, false, false));
  EXPECT_FALSE(core->healthy());
  EXPECT_EQ(core->cursor(), 1u);
  const std::stop_source never;
  const auto parcel = core->next(never.get_token());
  ASSERT_TRUE(parcel);
  core->delivered(*parcel, {.incident = "m-1"}, never.get_token());
  ASSERT_TRUE(core->event(second, false, false));
  EXPECT_TRUE(core->healthy());
  EXPECT_EQ(core->cursor(), 2u);
  EXPECT_THAT(core->metrics(), HasSubstr("tunnelctl_incident_open 2\n"));
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
  parts.enrich = [](const Subject& subject, std::stop_token) {
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

TEST(Watch, ResolvingDoesNotWaitForAContextThatHangs) {
  support::TemporaryFolder folder;
  support::MemoryBackend backend;
  const auto core = open(core_options(folder / "state"));
  WatchParts parts;
  parts.backend = &backend;
  parts.now = [] { return at(100); };
  parts.enrich = [](const Subject&, std::stop_token stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any().wait(lock, stop, [] { return false; });
    return Enrichment{.markdown = "too late"};
  };
  WatchOptions how;
  how.follow = false;
  std::stop_source stop;
  std::jthread running([&] { EXPECT_TRUE(watch(*core, how, parts, stop.get_token())); });
  ASSERT_TRUE(core->event(event(1, "breaker.opened", breaker("b1")), false, false));
  EXPECT_TRUE(soon([&] { return backend.incidents().size() == 1; }));
  ASSERT_TRUE(core->event(event(2, "breaker.closed", breaker("b1")), false, false));
  EXPECT_TRUE(soon([&] { return backend.incidents()[0].status == Status::resolved; }));
  stop.request_stop();
}
