#include "tunneld/tracing/collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/tunneld/tracing/tracing_lab.h"

namespace {

using namespace tunneld::tracing;
using support::http_answer;
using support::LoopbackServer;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using tracing_lab::Folder;
using tracing_lab::partial_success;
using tracing_lab::protobuf_answer;
using tracing_lab::status_body;
using Kind = Error::Kind;
using Reply = LoopbackServer::Reply;
using Seen = LoopbackServer::Seen;
using Then = LoopbackServer::Then;

Options to(const std::string& endpoint) {
  Options options;
  options.endpoint = endpoint;
  return options;
}

Collector::Answer send_to(const LoopbackServer& server, std::uint64_t spans = 10) {
  const auto collector = Collector::make(to(server.url("/v1/traces")), "0.1.0");
  if (!collector) return {spans, collector.error().message};
  return collector->send("the spans", spans, {});
}

TEST(Collector, GetsAPostOfProtobufAtTheEndpoint) {
  LoopbackServer server(protobuf_answer(200));
  const auto answer = send_to(server);
  EXPECT_EQ(answer.rejected, 0U);
  EXPECT_EQ(answer.why, "");
  const auto seen = server.seen().at(0);
  EXPECT_THAT(seen.head, StartsWith("POST /v1/traces HTTP/1.1\r\n"));
  EXPECT_THAT(seen.head, HasSubstr("\r\nContent-Type: application/x-protobuf\r\n"));
  EXPECT_THAT(seen.head, HasSubstr("\r\nUser-Agent: tunneld/0.1.0\r\n"));
  EXPECT_THAT(seen.head, Not(HasSubstr("Expect:")));
  EXPECT_EQ(seen.body, "the spans");
}

TEST(Collector, GetsTheHeadersOfTheFileWithEveryRequest) {
  const Folder folder;
  LoopbackServer server(protobuf_answer(200));
  auto options = to(server.url("/v1/traces"));
  options.headers_file = folder.file("headers",
                                     "# for the collector\n\nAuthorization:  Bearer abc \r\n"
                                     "x-scope-orgid: one:two\n");
  const auto collector = Collector::make(options, "0.1.0");
  ASSERT_TRUE(collector) << collector.error().message;
  for (int number = 0; number < 2; ++number) EXPECT_EQ(collector->send("x", 1, {}).why, "");
  for (const auto& seen : server.seen()) {
    EXPECT_THAT(seen.head, HasSubstr("\r\nAuthorization: Bearer abc\r\n"));
    EXPECT_THAT(seen.head, HasSubstr("\r\nx-scope-orgid: one:two\r\n"));
  }
}

TEST(Collector, IsAskedAgainWhereOtlpSaysSo) {
  const Reply rows[] = {
      {protobuf_answer(429, "", "Retry-After: 0\r\n")},
      {protobuf_answer(502)},
      {protobuf_answer(503, "", "Retry-After: 0\r\n")},
      {protobuf_answer(504)},
      {"", Then::close},
      {"", Then::reset},
  };
  for (const Reply& row : rows) {
    SCOPED_TRACE(row.bytes);
    LoopbackServer server(
        [&row](const Seen& seen) { return seen.number == 0 ? row : Reply{protobuf_answer(200)}; });
    EXPECT_EQ(send_to(server).why, "");
    ASSERT_EQ(server.seen().size(), 2U);
    EXPECT_EQ(server.seen().at(1).body, "the spans");
  }
}

TEST(Collector, IsNotAskedAgainForAnythingElse) {
  for (const unsigned status : {301U, 307U, 308U, 400U, 401U, 403U, 404U, 408U, 413U, 415U, 500U, 501U}) {
    SCOPED_TRACE(status);
    LoopbackServer server(protobuf_answer(status, "", "Location: /elsewhere\r\n"));
    const auto answer = send_to(server);
    EXPECT_EQ(answer.rejected, 10U);
    EXPECT_THAT(answer.why, StartsWith("the collector answered " + std::to_string(status)));
    EXPECT_EQ(server.seen().size(), 1U) << "no repetition, no redirect";
  }
}

TEST(Collector, ThatAsksForMoreTimeThanThereIsIsNotWaitedFor) {
  LoopbackServer server(protobuf_answer(503, "", "Retry-After: 3600\r\n"));
  EXPECT_THAT(send_to(server).why, StartsWith("the collector answered 503"));
  EXPECT_EQ(server.seen().size(), 1U);
}

TEST(Collector, ExplainsARefusal) {
  struct Row {
    std::string reply;
    const char* why;
  };
  const Row rows[] = {
      {protobuf_answer(400, status_body("invalid trace id")), "the collector answered 400: invalid trace id"},
      {protobuf_answer(400, "<html>"), "the collector answered 400"},
      {http_answer(401, R"({"message":"who are you"})"),
       R"(the collector answered 401: {"message":"who are you"})"},
      {http_answer(404, "no\r\nsuch\tpage \x1B[31m"), "the collector answered 404: no  such page  [31m"},
  };
  for (const auto& row : rows) {
    LoopbackServer server(row.reply);
    EXPECT_EQ(send_to(server).why, row.why);
  }
}

TEST(Collector, MayTakeAPartOnly) {
  LoopbackServer some(protobuf_answer(200, partial_success(4, "too old")));
  auto answer = send_to(some);
  EXPECT_EQ(answer.rejected, 4U);
  EXPECT_EQ(answer.why, "the collector rejected 4 of 10 spans: too old");
  EXPECT_EQ(some.seen().size(), 1U) << "OTLP forbids to repeat it";

  LoopbackServer too_many(protobuf_answer(200, partial_success(99, "")));
  EXPECT_EQ(send_to(too_many).rejected, 10U) << "no more than were sent";

  LoopbackServer warning(protobuf_answer(200, partial_success(0, "old client")));
  answer = send_to(warning);
  EXPECT_EQ(answer.rejected, 0U);
  EXPECT_EQ(answer.why, "");
}

TEST(Collector, IsBelievedThatAllIsWell) {
  for (const auto& reply : {protobuf_answer(200), protobuf_answer(202), http_answer(200, "{}"),
                            http_answer(200, ""), std::string("HTTP/1.1 204 No Content\r\n\r\n")}) {
    LoopbackServer server(reply);
    EXPECT_EQ(send_to(server).why, "") << reply;
  }
}

TEST(Collector, IsNotBelievedWhenItsProtobufIsNone) {
  LoopbackServer server(protobuf_answer(200, "<html>"));
  const auto answer = send_to(server);
  EXPECT_EQ(answer.rejected, 10U);
  EXPECT_THAT(answer.why, HasSubstr("no protobuf message"));
}

TEST(Collector, ThatAnswersTooMuchOrNoHttpLosesTheSpans) {
  const Reply rows[] = {{protobuf_answer(200, std::string(100'000, 'x'))}, {"hello\r\n\r\n", Then::close}};
  for (const Reply& row : rows) {
    LoopbackServer server([&row](const Seen&) { return row; });
    const auto answer = send_to(server);
    EXPECT_EQ(answer.rejected, 10U);
    EXPECT_NE(answer.why, "");
    EXPECT_EQ(server.seen().size(), 1U);
  }
}

TEST(Collector, ThatHangsIsLeftWhenWeAreToldTo) {
  LoopbackServer server("", Then::hold);
  const auto collector = Collector::make(to(server.url("/v1/traces")), "0.1.0");
  ASSERT_TRUE(collector);
  std::stop_source stop;
  Collector::Answer answer;
  std::thread sending([&] { answer = collector->send("x", 3, stop.get_token()); });
  EXPECT_TRUE(server.wait_for_requests(1));
  stop.request_stop();
  sending.join();
  EXPECT_EQ(answer.rejected, 3U);
  EXPECT_THAT(answer.why, HasSubstr("cancelled"));
}

TEST(CollectorEndpoint, IsRefusedWhenItCannotBeOne) {
  struct Row {
    const char* endpoint;
    const char* why;
  };
  for (const Row& row : {
           Row{"127.0.0.1:4318", "tracing.endpoint: "},
           Row{"grpc://127.0.0.1:4317/v1/traces", "tracing.endpoint: "},
           Row{"http://", "tracing.endpoint: "},
           Row{"http://user:secret@127.0.0.1/v1/traces", "tracing.endpoint: "},
           Row{"http://127.0.0.1:99999/v1/traces", "tracing.endpoint: "},
           Row{"http://127.0.0.1/v1/traces#x", "tracing.endpoint: "},
           Row{"http://127.0.0.1:4318",
               "tracing.endpoint: has no path; OTLP over HTTP takes traces at /v1/traces"},
           Row{"http://127.0.0.1:4318/", "tracing.endpoint: has no path"},
           Row{"http://127.0.0.1:4318?a=/b", "tracing.endpoint: has no path"},
       }) {
    const auto collector = Collector::make(to(row.endpoint), "0.1.0");
    ASSERT_FALSE(collector) << row.endpoint;
    EXPECT_EQ(collector.error().kind, Kind::bad_input);
    EXPECT_THAT(collector.error().message, AllOf(StartsWith(row.why), Not(HasSubstr("secret"))));
  }
}

TEST(CollectorEndpoint, MayBePlainWhereNoSecretGoesOverTheWire) {
  const Folder folder;
  const auto secret = folder.file("headers", "Authorization: Bearer abc\n");
  const auto comments = folder.file("comments", "# none yet\n");
  struct Row {
    const char* endpoint;
    std::filesystem::path headers;
    bool good;
  };
  for (const Row& row : {
           Row{"http://collector.example:4318/v1/traces", "", true},
           Row{"http://collector.example:4318/v1/traces", comments, true},
           Row{"http://collector.example:4318/v1/traces", secret, false},
           Row{"http://192.0.2.1/v1/traces", secret, false},
           Row{"http://localhost:4318/v1/traces", secret, true},
           Row{"http://[::1]:4318/v1/traces", secret, true},
           Row{"https://collector.example/v1/traces", secret, true},
       }) {
    SCOPED_TRACE(testing::Message() << row.endpoint << " " << row.headers);
    auto options = to(row.endpoint);
    options.headers_file = row.headers;
    const auto collector = Collector::make(options, "0.1.0");
    EXPECT_EQ(collector.has_value(), row.good);
    if (!collector) {
      EXPECT_EQ(collector.error().kind, Kind::bad_input);
      EXPECT_THAT(collector.error().message, HasSubstr("use https"));
    }
  }
}

TEST(CollectorEndpoint, IsShownWithoutItsQuery) {
  const auto collector = Collector::make(to("http://127.0.0.1:4318/v1/traces?key=secret"), "0.1.0");
  ASSERT_TRUE(collector) << collector.error().message;
  EXPECT_THAT(collector->shown(), AllOf(HasSubstr("127.0.0.1:4318/v1/traces"), Not(HasSubstr("secret"))));
}

TEST(CollectorHeaders, AreRefusedByLineAndWithoutTheirValues) {
  const Folder folder;
  struct Row {
    const char* content;
    const char* why;
  };
  for (const Row& row : {
           Row{"Bearer hush", ":1: expected \"Name: value\""},
           Row{"A: b\n\nno colon hush", ":3: expected \"Name: value\""},
           Row{"# A\nX Y: hush", ":2: the header's name is malformed"},
           Row{": hush", ":1: the header's name is malformed"},
           Row{"N\xC3\xA4me: hush", ":1: the header's name is malformed"},
           Row{"A:", ":1: the header has no value"},
           Row{"A:  \t", ":1: the header has no value"},
           Row{"A: hu\x01sh", ":1: the header's value contains a control character"},
           Row{"A: hu\rsh", ":1: the header's value contains a control character"},
           Row{"Content-Type: hush", ":1: this header is set by tunneld itself"},
           Row{"content-LENGTH: 5", ":1: this header is set by tunneld itself"},
           Row{"Host: hush", ":1: this header is set by tunneld itself"},
           Row{"Transfer-Encoding: chunked", ":1: this header is set by tunneld itself"},
       }) {
    const auto path = folder.file("headers", row.content);
    const auto headers = read_headers(path);
    ASSERT_FALSE(headers) << row.content;
    EXPECT_EQ(headers.error().kind, Kind::bad_input);
    EXPECT_EQ(headers.error().message, path.string() + row.why);
  }
}

TEST(CollectorHeaders, AreReadOnlyFromAFileThatOthersCannotRead) {
  const Folder folder;
  for (const mode_t mode : {0600U, 0640U, 0400U}) {
    const auto headers = read_headers(folder.file("headers", "A: b\n", mode));
    ASSERT_TRUE(headers) << headers.error().message;
    EXPECT_EQ(headers->at(0).name, "A");
    EXPECT_EQ(headers->at(0).value, "b");
    std::filesystem::remove(folder.file("headers", "", 0600));
  }
  for (const mode_t mode : {0644U, 0660U, 0604U, 0777U}) {
    const auto headers = read_headers(folder.file("headers", "A: b\n", mode));
    ASSERT_FALSE(headers);
    EXPECT_EQ(headers.error().kind, Kind::denied);
    EXPECT_THAT(headers.error().message, HasSubstr("chmod 600"));
  }
  auto options = to("http://127.0.0.1:4318/v1/traces");
  options.headers_file = "/nowhere/headers";
  const auto collector = Collector::make(options, "0.1.0");
  ASSERT_FALSE(collector);
  EXPECT_EQ(collector.error().kind, Kind::not_found);
  EXPECT_THAT(collector.error().message, StartsWith("tracing.headers_file: /nowhere/headers: "));
  EXPECT_EQ(read_headers(folder.file("large", std::string(100'000, '#'))).error().kind, Kind::bad_input);
}

}  // namespace
