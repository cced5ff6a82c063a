#include "tunnelctl/client/opening.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunnelctl/client/listeners.h"
#include "tunnelctl/client/server.h"

namespace tunnelctl::client {
namespace {

using testing::HasSubstr;
using tunnel::Code;

TEST(OpeningLine, NamesTheServiceAndAPriorityThatIsNotTheUsualOne) {
  EXPECT_EQ(opening_line("db", tunnel::Priority::normal), "{\"service\":\"db\"}\n");
  EXPECT_EQ(opening_line("db", tunnel::Priority::high), "{\"priority\":\"high\",\"service\":\"db\"}\n");
  EXPECT_EQ(opening_line("a\"\n", tunnel::Priority::normal), "{\"service\":\"a\\\"\\n\"}\n");
}

TEST(OpeningAnswer, LeavesTheServicesBytesAlone) {
  const std::string bytes = "{\"ok\":true}\nSSH-2.0-x\n";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    OpeningAnswer answer;
    std::string rest;
    for (const auto& piece : {bytes.substr(0, cut), bytes.substr(cut)})
      rest += answer.complete() ? piece : piece.substr(answer.feed(piece));
    EXPECT_TRUE(answer.complete() && answer.result()) << cut;
    EXPECT_EQ(rest, "SSH-2.0-x\n") << cut;
  }
}

TEST(OpeningAnswer, ARefusalKeepsTheServersCode) {
  OpeningAnswer answer;
  answer.feed("{\"error\":{\"code\":\"TUNNEL_017\",\"message\":\"no service db\",\"retryAfter\":3}}");
  EXPECT_FALSE(answer.complete());
  answer.end();
  const auto result = answer.result();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::service_denied);
  EXPECT_EQ(result.error().message, "no service db");
  EXPECT_EQ(result.error().retry_after, std::chrono::seconds(3));
  EXPECT_EQ(
      told(result.error()),
      "no service db (TUNNEL_017); check the service's name, and ask its owner for access if the name is "
      "right");
}

TEST(OpeningAnswer, WhatIsNoAnswerIsRefused) {
  for (const char* line :
       {"", "{}", "{\"ok\":false}", "{\"ok\":1}", "{\"error\":{}}", "{\"error\":{\"code\":\"X\"}}",
        "{\"ok\":true,\"ok\":true}", "SSH-2.0-OpenSSH", "{\"error\":\"TUNNEL_017\"}", "\xff"}) {
    OpeningAnswer answer;
    answer.feed(std::string(line) + "\n");
    ASSERT_TRUE(answer.complete()) << line;
    ASSERT_FALSE(answer.result()) << line;
    EXPECT_EQ(answer.result().error().code, Code::websocket_error) << line;
  }
}

TEST(OpeningAnswer, ALineWithoutEndIsNotGatheredForEver) {
  OpeningAnswer answer;
  const std::string piece(4096, 'a');
  std::size_t fed = 0;
  while (!answer.complete() && fed < 1024 * 1024) fed += answer.feed(piece);
  EXPECT_LE(fed, OpeningAnswer::kLongest + piece.size());
  EXPECT_FALSE(answer.result());
}

TEST(Codes, AreKnownByTheirNames) {
  EXPECT_EQ(code_named("TUNNEL_001"), Code::unreachable);
  EXPECT_EQ(code_named("TUNNEL_018"), Code::no_agent);
  for (const char* name : {"", "TUNNEL_000", "TUNNEL_019", "tunnel_001", "TUNNEL_0010"})
    EXPECT_FALSE(code_named(name)) << name;
}

TEST(Forwards, AreOnLoopbackUnlessAnAddressIsNamed) {
  const struct {
    const char* text;
    const char* shown;
  } rows[] = {{"8022:ssh", "127.0.0.1:8022 -> ssh"},
              {"0:db-1", "127.0.0.1:0 -> db-1"},
              {"0.0.0.0:80:web", "0.0.0.0:80 -> web"},
              {"[::1]:8022:ssh", "[::1]:8022 -> ssh"},
              {"localhost:8022:ssh", "127.0.0.1:8022 -> ssh"}};
  for (const auto& row : rows) {
    const auto forward = parse_forward(row.text);
    ASSERT_TRUE(forward) << row.text << ": " << forward.error().message;
    EXPECT_EQ(to_text(*forward), row.shown);
  }
}

TEST(Forwards, ThatMakeNoSenseAreRefusedWithWhatTheyShouldRead) {
  for (const char* text :
       {"", "ssh", "8022", "8022:", ":ssh", "65536:ssh", "-1:ssh", "80x:ssh", "8022:SSH", "8022:-ssh",
        "host:8022:ssh", "::1:8022:ssh", "[127.0.0.1]:8022:ssh", "1.2.3:80:web", "8022:a_b", "8022 :ssh"}) {
    const auto forward = parse_forward(text);
    ASSERT_FALSE(forward) << text;
    EXPECT_THAT(forward.error().message, HasSubstr("port:service")) << text;
  }
  EXPECT_FALSE(parse_forward("80:" + std::string(64, 'a')));
  EXPECT_TRUE(parse_forward("80:" + std::string(63, 'a')));
}

TEST(ServerUrl, TakesWhatPeopleWrite) {
  const struct {
    const char* text;
    const char* url;
  } rows[] = {{"wss://h", "wss://h"},
              {"https://h:8443/", "wss://h:8443"},
              {"h", "wss://h"},
              {"ws://127.0.0.1:3001", "ws://127.0.0.1:3001"},
              {" http://localhost ", "ws://localhost"},
              {"[::1]:3001", "wss://[::1]:3001"},
              {"https://h/tunnel/", "wss://h/tunnel"}};
  for (const auto& row : rows) {
    const auto url = server_url(row.text);
    ASSERT_TRUE(url) << row.text << ": " << url.error().message;
    EXPECT_EQ(*url, row.url);
  }
  for (const char* text :
       {"", "  ", "ftp://h", "wss://", "wss://u:p@h", "wss://h?x=1", "wss://h:99999", "wss://a b"})
    EXPECT_FALSE(server_url(text)) << text;
  EXPECT_EQ(server_url("wss://user:secret@h").error().message.find("secret"), std::string::npos);
}

}  // namespace
}  // namespace tunnelctl::client
