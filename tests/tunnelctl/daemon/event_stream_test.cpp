#include "tunnelctl/daemon/event_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/loopback_server.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnelctl::daemon;
using support::LoopbackServer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = Error::Kind;
using Then = LoopbackServer::Then;

std::string told(const Message& one) {
  return one.id + "|" + one.event + "|" + one.data;
}

/// All messages of a stream that arrives in pieces of that size.
std::vector<std::string> messages(std::string_view bytes, std::size_t piece = 1) {
  EventStream stream;
  std::vector<std::string> result;
  for (std::size_t at = 0; at < bytes.size(); at += piece)
    stream.feed(bytes.substr(at, piece), [&](const Message& one) {
      result.push_back(told(one));
      return true;
    });
  return result;
}

TEST(EventStream, CutsMessagesAsTheStandardSays) {
  struct Row {
    const char* bytes;
    std::vector<std::string> expected;
  };
  const Row rows[] = {
      {"id: 7\nevent: breaker.opened\ndata: {}\n\n", {"7|breaker.opened|{}"}},
      {"data: a\n\ndata:b\n\ndata:  c\n\n", {"|message|a", "|message|b", "|message| c"}},
      {"data: a\r\ndata: b\r\n\r\n", {"|message|a\nb"}},
      {"data: a\r\rdata: b\r\r", {"|message|a", "|message|b"}},
      {"\xEF\xBB\xBF"
       "data: a\n\n",
       {"|message|a"}},
      {": keep-alive\n\n: again\ndata: a\n\n", {"|message|a"}},
      {"event: lost\n\ndata: a\n\n", {"|message|a"}},                     // nothing without data
      {"data\n\n", {"|message|"}},                                        // but empty data is data
      {"id: 3\ndata: a\n\ndata: b\n\n", {"3|message|a", "3|message|b"}},  // the id stays
      {"id: 3\ndata: a\n\nid\ndata: b\n\n", {"3|message|a", "|message|b"}},
      {"unknown: x\ndata: a\nanother\n\n", {"|message|a"}},
      {"data: a\n\ndata: not complete\n", {"|message|a"}},
  };
  for (const auto& row : rows)
    for (const std::size_t piece : {1U, 2U, 3U, 1000U}) {
      SCOPED_TRACE(testing::Message() << row.bytes << " in pieces of " << piece);
      EXPECT_EQ(messages(row.bytes, piece), row.expected);
    }
}

TEST(EventStream, KnowsHowLongTheServerWantsReadersToWait) {
  EventStream stream;
  const auto ignore = [](const Message&) { return true; };
  EXPECT_FALSE(stream.retry());
  for (const char* line : {"retry: x\n", "retry: -1\n", "retry:\n", "retry: 99999999999999999999\n"}) {
    stream.feed(line, ignore);
    EXPECT_FALSE(stream.retry()) << line;
  }
  stream.feed("retry: 2500\n", ignore);
  EXPECT_EQ(stream.retry(), 2500ms);
}

TEST(EventStream, StopsWhenTheReaderHasEnough) {
  EventStream stream;
  int count = 0;
  EXPECT_FALSE(stream.feed("data: a\n\ndata: b\n\n", [&](const Message&) { return ++count < 1; }));
  EXPECT_EQ(count, 1);
}

TEST(EventStream, AMessageWithoutEndIsGivenUp) {
  EventStream stream;
  const auto ignore = [](const Message&) { return true; };
  const std::string piece = "data: " + std::string(100'000, 'x') + "\n";
  bool goes_on = true;
  for (int i = 0; i < 20 && goes_on; ++i) goes_on = stream.feed(piece, ignore);
  EXPECT_FALSE(goes_on);
  EXPECT_TRUE(stream.oversized());
}

TEST(Follow, PausesDoubleFromTheServersWishToHalfAMinute) {
  EXPECT_EQ(pause_before(1, 2s), 2s);
  EXPECT_EQ(pause_before(2, 2s), 4s);
  EXPECT_EQ(pause_before(4, 2s), 16s);
  EXPECT_EQ(pause_before(5, 2s), 30s);
  EXPECT_EQ(pause_before(4'000'000, 2s), 30s);
  EXPECT_EQ(pause_before(1, 1h), 30s);
  EXPECT_EQ(pause_before(1, 0ms), 1ms);
}

std::string event(int id) {
  return "id: " + std::to_string(id) + "\nevent: upstream.lost\ndata: {\"id\":" + std::to_string(id) +
         ",\"kind\":\"upstream.lost\",\"time\":\"2026-01-02T03:04:05Z\",\"data\":{}}\n\n";
}

constexpr const char* kHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

Admin admin_of(const LoopbackServer& server) {
  auto url = server.url();
  url.pop_back();
  auto admin = Admin::make({.url = url, .token = Secret("t0ken")});
  if (!admin) throw std::runtime_error(admin.error().message);
  return std::move(*admin);
}

/// Follows until `enough` events came, without ever waiting; what happened, in its order.
std::pair<Result<void>, std::vector<std::string>> followed(const LoopbackServer& server, std::uint64_t after,
                                                           std::size_t enough, int most_waits = 10) {
  std::vector<std::string> log;
  std::size_t events = 0;
  const auto take = [&](const Event& one) {
    log.push_back("event " + std::to_string(one.id));
    return ++events < enough;
  };
  const auto lost = [&](const Error& why, std::chrono::milliseconds pause) {
    log.push_back(
        "lost: " +
        why.message.substr(why.message.rfind(": ") == std::string::npos ? 0 : why.message.rfind(": ") + 2) +
        ", " + std::to_string(pause.count()) + " ms");
  };
  const auto gap = [&](std::uint64_t missing, std::uint64_t came) {
    log.push_back("gap " + std::to_string(missing) + " to " + std::to_string(came));
  };
  const auto anew = [&] { log.push_back("anew"); };
  const auto wait = [&](std::chrono::milliseconds) { return --most_waits > 0; };
  const auto admin = admin_of(server);
  auto done =
      follow(admin, {.after = after, .take = take, .lost = lost, .gap = gap, .anew = anew, .wait = wait});
  return {std::move(done), std::move(log)};
}

std::string last_event_id(const LoopbackServer::Seen& seen) {
  const auto at = seen.head.find("Last-Event-ID: ");
  return at == std::string::npos ? "" : seen.head.substr(at + 15, seen.head.find('\r', at) - at - 15);
}

TEST(Follow, GoesOnBehindTheLastEventAfterTheConnectionWasLost) {
  LoopbackServer server([](const LoopbackServer::Seen& seen) -> LoopbackServer::Reply {
    if (seen.number == 0) return {kHead + event(5) + event(6), Then::close};
    return {kHead + event(7), Then::hold};
  });
  const auto [done, log] = followed(server, 4, 3);
  EXPECT_TRUE(done);
  EXPECT_THAT(log,
              ElementsAre("event 5", "event 6", "lost: the daemon ended the stream, 1000 ms", "event 7"));
  const auto seen = server.seen();
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(last_event_id(seen[0]), "4");
  EXPECT_EQ(last_event_id(seen[1]), "6");
  EXPECT_THAT(seen[1].head, HasSubstr("Accept: text/event-stream\r\n"));
  EXPECT_THAT(seen[1].head, HasSubstr("Authorization: Bearer t0ken\r\n"));
}

TEST(Follow, SaysWhichEventsAreGone) {
  LoopbackServer server(kHead + event(9) + event(12), Then::hold);
  const auto [done, log] = followed(server, 4, 2);
  EXPECT_TRUE(done);
  EXPECT_THAT(log, ElementsAre("gap 5 to 9", "event 9", "gap 10 to 12", "event 12"));
}

TEST(Follow, ABeginningThatIsGoneIsNoGapForWhoWantsAll) {
  LoopbackServer server(kHead + event(9), Then::hold);
  EXPECT_THAT(followed(server, 0, 1).second, ElementsAre("event 9"));
}

TEST(Follow, EveryEventIsTakenOnce) {
  LoopbackServer server(kHead + event(5) + event(5) + event(4) + event(6), Then::hold);
  EXPECT_THAT(followed(server, 4, 2).second, ElementsAre("event 5", "event 6"));
}

TEST(Follow, ALogThatBeganAnewIsReadFromItsBeginning) {
  // Nobody knows an event 40 there: all of them are new to this reader.
  LoopbackServer server(kHead + event(1) + event(2), Then::hold);
  EXPECT_THAT(followed(server, 40, 2).second, ElementsAre("anew", "event 1", "event 2"));
}

TEST(Follow, WordOfAGapIsNoEvent) {
  LoopbackServer server(kHead + event(1) + "event: gap\ndata: {\"first\":3,\"last\":9}\n\n" + event(3),
                        Then::hold);
  EXPECT_THAT(followed(server, 0, 2).second, ElementsAre("event 1", "gap 2 to 3", "event 3"));
}

TEST(Follow, WaitsLongerEachTimeWhileNothingComes) {
  LoopbackServer server([](const LoopbackServer::Seen& seen) -> LoopbackServer::Reply {
    if (seen.number == 0) return {std::string(kHead) + "retry: 2000\n\n", Then::close};
    return {support::http_answer(503, R"({"error":{"code":"TUNNEL_004","message":"draining"}})"), Then::keep};
  });
  const auto [done, log] = followed(server, 0, 1, 4);
  EXPECT_TRUE(done);
  EXPECT_THAT(log, ElementsAre("lost: the daemon ended the stream, 2000 ms", "lost: draining, 4000 ms",
                               "lost: draining, 8000 ms", "lost: draining, 16000 ms"));
}

TEST(Follow, WhoLooksBeforeEachConnectionMayDelayItAndEndIt) {
  LoopbackServer server(kHead + event(5), Then::close);
  const auto admin = admin_of(server);
  std::vector<std::string> log;
  int connections = 0;
  Follow how;
  how.after = 4;
  how.begin = [&]() -> Result<bool> {
    log.push_back("begin");
    if (++connections == 1) return fail(Kind::unavailable, "not yet");
    return connections < 3;
  };
  how.take = [&](const Event& one) {
    log.push_back("event " + std::to_string(one.id));
    return true;
  };
  how.lost = [&](const Error& why, std::chrono::milliseconds) { log.push_back("lost: " + why.message); };
  how.gap = [](std::uint64_t, std::uint64_t) {};
  how.anew = [] {};
  how.wait = [](std::chrono::milliseconds) { return true; };
  EXPECT_TRUE(follow(admin, how));
  EXPECT_THAT(log, ElementsAre("begin", "lost: not yet", "begin", "event 5",
                               "lost: the daemon ended the stream", "begin"));
}

TEST(Follow, EndsWhenTheDaemonRefusesForGood) {
  for (const unsigned status : {401U, 403U, 404U}) {
    LoopbackServer server(support::http_answer(status, R"({"error":{"code":"TUNNEL_011","message":"no"}})"));
    const auto [done, log] = followed(server, 0, 1);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().kind, status == 404 ? Kind::not_found : Kind::denied);
    EXPECT_THAT(log, IsEmpty());
  }
}

TEST(Follow, AnswersThatAreNoEventsAreNotTakenForSome) {
  LoopbackServer server([](const LoopbackServer::Seen& seen) -> LoopbackServer::Reply {
    if (seen.number == 0) return {support::http_answer(200, "{}"), Then::keep};
    return {std::string(kHead) + "data: nonsense\n\ndata: [1]\n\ndata: {}\n\n" + event(1), Then::hold};
  });
  const auto [done, log] = followed(server, 0, 1);
  EXPECT_TRUE(done);
  EXPECT_THAT(log, ElementsAre("lost: the answer is no stream of events, 1000 ms", "event 1"));
}

}  // namespace
