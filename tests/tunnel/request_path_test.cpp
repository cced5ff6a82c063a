#include "tunnel/request_path.h"

#include <gtest/gtest.h>

namespace {

using namespace tunnel;

/// "service target", "-> location", "not ours" or the refusal's code.
std::string told(const Served<Route>& route) {
  if (!route) return std::string(facts(route.error().code).name);
  if (const auto* target = std::get_if<ServiceTarget>(&*route)) return target->service + " " + target->target;
  if (const auto* slash = std::get_if<AddSlash>(&*route)) return "-> " + slash->location;
  return "not ours";
}

TEST(RequestPath, NamesTheServiceAndKeepsTheRestAsItCame) {
  const struct {
    const char* target;
    const char* told;
  } rows[] = {
      {"/t/web/", "web /"},
      {"/t/web/a/b?c=d&e=%2e%2e/..\\", "web /a/b?c=d&e=%2e%2e/..\\"},  // the query is the service's
      {"/t/web/?", "web /?"},
      {"/t/web//a", "web //a"},
      {"/t/0-a/x", "0-a /x"},
      {"/t/web/@scope%2Fname", "web /@scope%2Fname"},
      {"/t/web/100%25", "web /100%25"},
      {"/t/web/caf%C3%A9%20x", "web /caf%C3%A9%20x"},
      {"/t/web/...", "web /..."},
      {"/t/web/.hidden/a..b/..c/d.", "web /.hidden/a..b/..c/d."},
      {"/t/web/a;b=.", "web /a;b=."},
      {"/t/web", "-> /t/web/"},
      {"/t/web?a=/b", "-> /t/web/?a=/b"},
      {"/t", "not ours"},
      {"/", "not ours"},
      {"/ws/web", "not ours"},
      {"/T/web/", "not ours"},
      {"/t/", "TUNNEL_017"},
      {"/t//x", "TUNNEL_017"},
      {"/t/-web/", "TUNNEL_017"},
      {"/t/Web/", "TUNNEL_017"},
      {"/t/w_b/", "TUNNEL_017"},
      {"/t/w%65b/", "TUNNEL_017"},
      {"/t/../x", "TUNNEL_017"},
      {"/t/web.x/", "TUNNEL_017"},
  };
  for (const auto& row : rows) EXPECT_EQ(told(route_http(row.target)), row.told) << row.target;
  EXPECT_EQ(told(route_http("/t/" + std::string(63, 'a') + "/")), std::string(63, 'a') + " /");
  EXPECT_EQ(told(route_http("/t/" + std::string(64, 'a') + "/")), "TUNNEL_017");
}

TEST(RequestPath, RefusesPathsThatServersReadDifferently) {
  for (const char* rest :
       {// dot segments, plain and after one decoding
        ".", "..", "../", "a/../b", "a/..", "./a", "a/./b", "%2e", "%2E%2e/", "a/.%2e/b", "a/%2e./b",
        "a%2f..%2fb", "..%2f", "%2e%2e%2f", "a/..;/b", "..;x=y/", "%2e%2e;/", "..%3b/",
        // backslashes and control characters
        "a\\b", "..\\", "%5c", "a%5C..%5Cb", "%00", "a%0d%0aX: y", "%0a", "%1f", "%7f", "a%09b",
        // what a second decoding would turn into one of them
        "%252e%252e/", "%252f", "%255c", "%2500", "%250a", "a%252Fb", "%25252e", "%25%32%65", "%2525",
        // overlong UTF-8, "/" and "." in disguise
        "%c0%ae%c0%ae/", "%c0%af", "%c1%9c", "%e0%80%af", "%E0%80%AE", "%f0%80%80%af", "%f8%80", "%ff",
        // broken escapes
        "%", "%2", "a%zz", "%u002e", "%%32e", "%2 e",
        // bytes that must be encoded
        "a b", "a\tb", "a\r\nb", "\x7f", "caf\xc3\xa9", "a#b"}) {
    EXPECT_EQ(told(route_http(std::string("/t/web/") + rest)), "TUNNEL_010") << rest;
  }
  EXPECT_EQ(told(route_http(std::string("/t/web/a\0b", 10))), "TUNNEL_010");
  EXPECT_EQ(told(route_http("/t/web/?a b")), "TUNNEL_010") << "no space in the query either";
  EXPECT_EQ(told(route_http("/t/web?\r\nX: y")), "TUNNEL_010") << "nor in what a redirect repeats";
}

TEST(RequestPath, HasALongestTarget) {
  const std::string longest = "/t/web/" + std::string(8192 - 7, 'a');
  EXPECT_TRUE(route_http(longest));
  const auto longer = route_http(longest + "a");
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().http_status, 414u);
}

TEST(RequestPath, NamesTheServiceOfAWebSocket) {
  const struct {
    const char* target;
    const char* told;
  } rows[] = {
      {"/ws/db", "db "},        {"/ws/db?x=y", "db "},   {"/ws/db/", "not ours"},
      {"/ws/db/x", "not ours"}, {"/ws", "not ours"},     {"/wss/db", "not ours"},
      {"/ws/", "TUNNEL_017"},   {"/ws/D", "TUNNEL_017"}, {"/ws/d%62", "TUNNEL_017"},
  };
  for (const auto& row : rows) EXPECT_EQ(told(route_websocket(row.target)), row.told) << row.target;
}

}  // namespace
