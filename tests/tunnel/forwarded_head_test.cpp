#include "tunnel/forwarded_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace tunnel;
using testing::HasSubstr;
using testing::Not;

class ForwardedHead : public testing::Test {
 protected:
  std::string sent(const std::string& fields, Credential credential = Credential::authorization,
                   const char* method = "GET") {
    const auto text =
        std::string(method) + " /t/web/x HTTP/1.1\r\nHost: tunnel.example\r\n" + fields + "\r\n";
    const auto head = parse_request_head(text, {}).value();
    return head_for_service(head, {&service, "/x", credential, "192.0.2.7", "https", "corr-1", head.body});
  }
  Service service{"web", "lab", "10.0.0.5", 8080, {"*"}};
};

TEST_F(ForwardedHead, TellsTheServiceWhoAsksAndHow) {
  EXPECT_EQ(sent("Accept: */*\r\n"),
            "GET /x HTTP/1.1\r\n"
            "Host: 10.0.0.5:8080\r\n"
            "Accept: */*\r\n"
            "X-Forwarded-For: 192.0.2.7\r\n"
            "X-Forwarded-Proto: https\r\n"
            "X-Forwarded-Host: tunnel.example\r\n"
            "X-Correlation-ID: corr-1\r\n\r\n");
  service.target_port = 80;
  EXPECT_THAT(sent(""), HasSubstr("Host: 10.0.0.5\r\n"));
  service.target_host = "::1";
  EXPECT_THAT(sent(""), HasSubstr("Host: [::1]\r\n"));
}

TEST_F(ForwardedHead, DropsWhatIsNotTheServices) {
  for (const char* field :
       {"Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: x", "Proxy-Authorization: x",
        "TE: gzip", "Upgrade: websocket", "X-Tunnel-Timeout: 5", "x-tunnel-priority: high",
        "Idempotency-Key: k", "Authorization: Bearer t", "X-Correlation-ID: theirs", "X-Forwarded-Proto: ftp",
        "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4",
        "HTTP2-Settings: x",
        // some servers read "_" as "-"
        "X_Forwarded_For: 1.2.3.4", "X_Forwarded-Proto: ftp", "X_Tunnel_Timeout: 5", "Content_Length: 5",
        "Transfer_Encoding: chunked", "X_Real_IP: 1.2.3.4", "Authorization_: x", "Host_: x"}) {
    const auto text = sent(std::string(field) + "\r\n");
    const std::string_view line(field);
    const bool dropped = line != "Authorization_: x" && line != "Host_: x";  // names of their own
    EXPECT_EQ(text.find(line) == std::string::npos, dropped) << field << "\n" << text;
  }
}

TEST_F(ForwardedHead, PassesWhatIsTheServices) {
  for (const char* field : {"Cookie: a=b", "traceparent: 00-1-2-01", "tracestate: x", "X_custom: y",
                            "Origin: https://a", "Trailer: X-Sum", "Range: bytes=0-1", "X-Forwarded: other",
                            "Sec-WebSocket-Protocol: chat, bearer.theirs"})
    EXPECT_THAT(sent(std::string(field) + "\r\n"), HasSubstr(std::string("\r\n") + field + "\r\n"));
}

TEST_F(ForwardedHead, PutsOurTraceparentInPlaceOfEveryOneTheCallerSent) {
  const auto sent_with = [&](Tracestate tracestate, std::string_view ours) {
    const auto head = parse_request_head(
                          "GET /t/web/x HTTP/1.1\r\nHost: tunnel.example\r\nTraceparent: theirs\r\n"
                          "traceparent: theirs\r\nTraceState: vendor=1\r\ntracestate: other=2\r\n\r\n",
                          {})
                          .value();
    return head_for_service(head, {&service, "/x", Credential::none, "192.0.2.7", "https", "corr-1",
                                   head.body, ours, tracestate});
  };
  const auto continued = sent_with(Tracestate::keep, "00-ours-01");
  EXPECT_THAT(continued, HasSubstr("\r\ntraceparent: 00-ours-01\r\n"));
  EXPECT_THAT(continued, Not(HasSubstr("theirs")));
  EXPECT_THAT(continued, HasSubstr("TraceState: vendor=1\r\ntracestate: other=2\r\n"));

  const auto begun = sent_with(Tracestate::drop, "00-ours-01");
  EXPECT_THAT(begun, HasSubstr("\r\ntraceparent: 00-ours-01\r\n"));
  EXPECT_THAT(begun, AllOf(Not(HasSubstr("vendor=1")), Not(HasSubstr("other=2"))))
      << "it belongs to a trace that ends here";

  const auto untouched = sent_with(Tracestate::drop, "");
  EXPECT_THAT(untouched, HasSubstr("Traceparent: theirs\r\ntraceparent: theirs\r\nTraceState: vendor=1\r\n"));
}

TEST_F(ForwardedHead, SendsOurTraceparentEvenIfTheCallerCallsItHopByHop) {
  const auto head = parse_request_head(
                        "GET /t/web/x HTTP/1.1\r\nHost: tunnel.example\r\nConnection: traceparent\r\n"
                        "traceparent: theirs\r\n\r\n",
                        {})
                        .value();
  const auto text = head_for_service(
      head, {&service, "/x", Credential::none, "192.0.2.7", "https", "corr-1", head.body, "00-ours-01"});
  EXPECT_THAT(text, HasSubstr("\r\ntraceparent: 00-ours-01\r\n"));
  EXPECT_THAT(text, Not(HasSubstr("theirs")));
}

TEST_F(ForwardedHead, KeepsTheServicesOwnAuthorization) {
  EXPECT_THAT(sent("Authorization: Basic x\r\n", Credential::subprotocol),
              HasSubstr("Authorization: Basic x\r\n"));
  EXPECT_THAT(sent("Authorization: Basic x\r\n", Credential::none), HasSubstr("Authorization: Basic x\r\n"));
}

TEST_F(ForwardedHead, TakesTheTokenOutOfTheSubprotocols) {
  const auto text =
      sent("Sec-WebSocket-Protocol: chat, bearer.aaa.bbb.ccc , ticket.1,v2\r\n", Credential::subprotocol);
  EXPECT_THAT(text, HasSubstr("Sec-WebSocket-Protocol: chat, v2\r\n"));
  EXPECT_THAT(sent("Sec-WebSocket-Protocol: bearer.x\r\n", Credential::subprotocol),
              Not(HasSubstr("Sec-WebSocket-Protocol")));
}

TEST_F(ForwardedHead, DropsWhatConnectionNamesButNotWhatWeSay) {
  const auto text = sent(
      "Connection: close, X-Hop, X-Forwarded-For\r\nX-Hop: 1\r\nX-End: 2\r\nX-Forwarded-For: 1.1.1.1\r\n");
  EXPECT_THAT(text, Not(HasSubstr("X-Hop")));
  EXPECT_THAT(text, HasSubstr("X-End: 2"));
  EXPECT_THAT(text, HasSubstr("192.0.2.7\r\n"));
}

TEST_F(ForwardedHead, AppendsThePeerToXForwardedFor) {
  EXPECT_THAT(sent("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n"),
              HasSubstr("X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.7\r\n"));
}

TEST_F(ForwardedHead, KeepsUpgradesButH2c) {
  EXPECT_THAT(sent("Connection: upgrade\r\nUpgrade: websocket\r\n"),
              HasSubstr("Upgrade: websocket\r\nConnection: Upgrade\r\n"));
  for (const char* protocol : {"h2c", "H2C", "websocket, h2c", "h2c-14"})
    EXPECT_THAT(sent(std::string("Connection: upgrade\r\nUpgrade: ") + protocol + "\r\n"),
                Not(HasSubstr("Upgrade")));
}

TEST_F(ForwardedHead, SaysTeAndExpectOnlyWhereTheyMeanSomething) {
  EXPECT_THAT(sent("TE: trailers, deflate\r\n"), HasSubstr("TE: trailers\r\nConnection: TE\r\n"));
  EXPECT_THAT(sent("Expect: 100-continue\r\nContent-Length: 5\r\n", Credential::none, "POST"),
              HasSubstr("Expect: 100-continue\r\n"));
  EXPECT_THAT(sent("Expect: 100-continue\r\n"), Not(HasSubstr("Expect")));
}

TEST_F(ForwardedHead, FramesTheBodyOnce) {
  EXPECT_THAT(sent("Content-Length: 5\r\n", Credential::none, "POST"),
              HasSubstr("\r\nContent-Length: 5\r\n\r\n"));
  EXPECT_THAT(sent("Transfer-Encoding: Chunked\r\n", Credential::none, "POST"),
              HasSubstr("\r\nTransfer-Encoding: chunked\r\n\r\n"));
  EXPECT_THAT(sent("", Credential::none, "POST"), HasSubstr("\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_THAT(sent("", Credential::none, "DELETE"), Not(HasSubstr("Content-Length")));
}

TEST_F(ForwardedHead, FiltersTheAnswerTheSameWay) {
  const auto answer =
      parse_response_head(
          "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nKeep-Alive: x\r\nX-Hop: 1\r\nServer: theirs\r\n"
          "Set-Cookie: a\r\nSet-Cookie: b\r\nX-Tunnel-Secret: 1\r\nAlt-Svc: h3\r\nUpgrade: h2c\r\n"
          "X-Correlation-ID: theirs\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\n",
          "GET", {})
          .value();
  const auto text = serialize(head_for_caller(answer, "GET", 1, "corr-1"));
  EXPECT_EQ(text,
            "HTTP/1.1 200 OK\r\nServer: theirs\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            "X-Correlation-ID: corr-1\r\nContent-Length: 2\r\n\r\n");
}

TEST_F(ForwardedHead, KnowsWhatMayBeSentTwice) {
  const auto asks = [](const std::string& method, const std::string& fields) {
    return repeatable(
        parse_request_head(method + " / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n", {}).value());
  };
  for (const char* method : {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
    EXPECT_TRUE(asks(method, "")) << method;
  for (const char* method : {"POST", "PATCH"}) {
    EXPECT_FALSE(asks(method, "")) << method;
    EXPECT_TRUE(asks(method, "Idempotency-Key: 1\r\n")) << method;
  }
}

TEST(PriorityOf, IsOneOfTheNamesExactlyOrNormal) {
  const auto of = [](const std::string& fields) {
    const auto head = parse_request_head("GET / HTTP/1.1\r\nHost: t\r\n" + fields + "\r\n", {}).value();
    return priority_of(head);
  };
  EXPECT_EQ(of("").value(), Priority::normal);
  EXPECT_EQ(of("X-Tunnel-Priority: high\r\n").value(), Priority::high);
  EXPECT_EQ(of("x-tunnel-priority: normal\r\n").value(), Priority::normal);
  EXPECT_EQ(of("X-TUNNEL-PRIORITY:low\r\n").value(), Priority::low);
  for (const char* wrong : {"X-Tunnel-Priority:", "X-Tunnel-Priority: High", "X-Tunnel-Priority: 1",
                            "X-Tunnel-Priority: high, low", "X-Tunnel-Priority: urgent",
                            "X-Tunnel-Priority: low\r\nX-Tunnel-Priority: low",
                            "X-Tunnel-Priority: high\r\nx-tunnel-priority: no"}) {
    const auto refused = of(std::string(wrong) + "\r\n");
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().code, Code::bad_request);
    EXPECT_THAT(refused.error().message, HasSubstr("X-Tunnel-Priority"));
  }
}

}  // namespace
