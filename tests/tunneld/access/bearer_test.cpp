#include "tunneld/access/bearer.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace tunneld::access {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;
using Source = BearerToken::Source;

tl::expected<BearerToken, Rejection> found(const Fields& fields, const std::string& target = "/t/web/") {
  BearerFinder finder;
  for (const auto& [name, value] : fields) finder.see(name, value);
  return finder.token(target);
}

TEST(BearerFinder, FindsTheTokenWhereItBelongs) {
  const struct {
    const char* what;
    Fields fields;
    Source source;
  } rows[] = {
      {"header", {{"Authorization", "Bearer a.b.c"}}, Source::authorization},
      {"any case", {{"aUTHORIZATION", "bEARER a.b.c"}}, Source::authorization},
      {"several spaces in one run", {{"Authorization", "Bearer   a.b.c"}}, Source::authorization},
      {"white space around the value", {{"Authorization", " \tBearer a.b.c \t"}}, Source::authorization},
      {"subprotocol", {{"Sec-WebSocket-Protocol", "bearer.a.b.c"}}, Source::subprotocol},
      {"subprotocol in a list", {{"Sec-WebSocket-Protocol", "tunnel.v1, bearer.a.b.c"}}, Source::subprotocol},
      {"list over two fields",
       {{"Sec-WebSocket-Protocol", "tunnel.v1"}, {"sec-websocket-protocol", "x ,bearer.a.b.c\t"}},
       Source::subprotocol},
      {"both alike",
       {{"Authorization", "Bearer a.b.c"}, {"Sec-WebSocket-Protocol", "bearer.a.b.c"}},
       Source::authorization},
      {"another scheme beside the subprotocol",
       {{"Authorization", "Basic eDp5"}, {"Sec-WebSocket-Protocol", "bearer.a.b.c"}},
       Source::subprotocol},
      {"Proxy-Authorization ignored",
       {{"Proxy-Authorization", "Bearer x.y.z"}, {"Authorization", "Bearer a.b.c"}},
       Source::authorization},
  };
  for (const auto& row : rows) {
    const auto token = found(row.fields);
    ASSERT_TRUE(token) << row.what;
    EXPECT_EQ(token->token, "a.b.c") << row.what;
    EXPECT_EQ(token->source, row.source) << row.what;
  }
}

TEST(BearerFinder, RefusesAnythingElse) {
  const struct {
    const char* what;
    Fields fields;
    Reason reason;
  } rows[] = {
      {"nothing", {}, Reason::missing},
      {"another scheme", {{"Authorization", "Basic eDp5"}}, Reason::missing},
      {"a scheme that begins alike", {{"Authorization", "BearerX a.b.c"}}, Reason::missing},
      {"no scheme", {{"Authorization", "a.b.c"}}, Reason::missing},
      {"empty header", {{"Authorization", ""}}, Reason::missing},
      {"only Proxy-Authorization", {{"Proxy-Authorization", "Bearer a.b.c"}}, Reason::missing},
      {"a cookie", {{"Cookie", "token=a.b.c"}}, Reason::missing},
      {"other subprotocols", {{"Sec-WebSocket-Protocol", "tunnel.v1, binary"}}, Reason::missing},
      {"subprotocol in another case", {{"Sec-WebSocket-Protocol", "Bearer.a.b.c"}}, Reason::missing},
      {"scheme alone", {{"Authorization", "Bearer"}}, Reason::malformed},
      {"scheme and spaces", {{"Authorization", "Bearer    "}}, Reason::malformed},
      {"tab for the space", {{"Authorization", "Bearer\ta.b.c"}}, Reason::malformed},
      {"space and tab", {{"Authorization", "Bearer \ta.b.c"}}, Reason::malformed},
      {"two tokens", {{"Authorization", "Bearer a.b.c d.e.f"}}, Reason::malformed},
      {"a list", {{"Authorization", "Bearer a.b.c, Bearer d.e.f"}}, Reason::malformed},
      {"quoted", {{"Authorization", "Bearer \"a.b.c\""}}, Reason::malformed},
      {"padding", {{"Authorization", "Bearer a.b.c="}}, Reason::malformed},
      {"NUL", {{"Authorization", std::string("Bearer a.b\0.c", 13)}}, Reason::malformed},
      {"UTF-8", {{"Authorization", "Bearer \xc3\xa4.b.c"}}, Reason::malformed},
      {"empty subprotocol token", {{"Sec-WebSocket-Protocol", "bearer."}}, Reason::malformed},
      {"bad characters in the subprotocol", {{"Sec-WebSocket-Protocol", "bearer.a b"}}, Reason::malformed},
      {"broken header though the subprotocol is good",
       {{"Authorization", "Bearer"}, {"Sec-WebSocket-Protocol", "bearer.a.b.c"}},
       Reason::malformed},
      {"two headers",
       {{"Authorization", "Bearer a.b.c"}, {"Authorization", "Bearer d.e.f"}},
       Reason::conflict},
      {"two headers alike",
       {{"Authorization", "Bearer a.b.c"}, {"authorization", "Bearer a.b.c"}},
       Reason::conflict},
      {"two headers, one of another scheme",
       {{"Authorization", "Basic eDp5"}, {"Authorization", "Bearer a.b.c"}},
       Reason::conflict},
      {"two subprotocol tokens",
       {{"Sec-WebSocket-Protocol", "bearer.a.b.c, bearer.d.e.f"}},
       Reason::conflict},
      {"two over two fields",
       {{"Sec-WebSocket-Protocol", "bearer.a.b.c"}, {"Sec-WebSocket-Protocol", "bearer.a.b.c"}},
       Reason::conflict},
      {"both places, different",
       {{"Authorization", "Bearer a.b.c"}, {"Sec-WebSocket-Protocol", "bearer.d.e.f"}},
       Reason::conflict},
  };
  for (const auto& row : rows) {
    const auto token = found(row.fields);
    ASSERT_FALSE(token) << row.what;
    EXPECT_EQ(label(token.error().reason), label(row.reason)) << row.what;
    EXPECT_EQ(caller_text(token.error()), "The access token is missing or invalid.") << row.what;
  }
}

TEST(BearerFinder, RefusesTokensInTheQueryString) {
  const Fields none;
  const Fields header = {{"Authorization", "Bearer a.b.c"}};
  for (const char* target : {"/ws?token=eyJhbGci.eyJpc3Mi.c2ln", "/ws?access_token=eyJhbGci.eyJpc3Mi.c2ln",
                             "/ws?x=1&token=eyJhbGci.eyJpc3Mi.c2ln", "/ws?x;token=eyJhbGci.eyJpc3Mi.c2ln&y",
                             "/ws?TOKEN=eyJhbGci.eyJpc3Mi.c2ln", "/ws?%74oken=eyJhbGci.eyJpc3Mi.c2ln",
                             "/ws?token=eyJhbGci%2EeyJpc3Mi%2ec2ln", "/ws?token=eyJhbGci.eyJpc3Mi.",
                             "/ws?token=opaque&token=eyJhbGci.eyJpc3Mi.c2ln"})
    for (const auto& fields : {none, header}) {
      const auto token = found(fields, target);
      ASSERT_FALSE(token) << target;
      EXPECT_EQ(token.error().reason, Reason::query) << target;
    }
  for (const char* target : {"/ws?token=opaque", "/ws?access_token=", "/ws?token"})
    EXPECT_EQ(found(none, target).error().reason, Reason::query) << target;
}

TEST(BearerFinder, LeavesAServicesOwnParametersAlone) {
  const Fields header = {{"Authorization", "Bearer a.b.c"}};
  for (const char* target :
       {"/t/jupyter/lab?token=0123456789abcdef", "/t/web/?csrf_token=eyJhbGci.eyJpc3Mi.c2ln",
        "/t/web/?tokens=a.b.c", "/t/web/token=eyJhbGci.eyJpc3Mi.c2ln", "/t/web/?q=token=1",
        "/t/web/?&&;=&%zz=%", "/t/web/?"})
    EXPECT_TRUE(found(header, target)) << target;
  EXPECT_EQ(found({}, "/t/web/?csrf_token=1").error().reason, Reason::missing);
}

}  // namespace
}  // namespace tunneld::access
