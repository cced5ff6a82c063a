#include "tunnelctl/patterns/masking.h"

#include <gtest/gtest.h>

#include <chrono>

#include "common/utf8.h"

namespace {

using namespace tunnelctl::patterns;

std::string masked(std::string_view line, std::size_t most = 8192) {
  std::string out;
  mask(line, most, out);
  return out;
}

struct Row {
  std::string_view line, expected;
};

TEST(Masking, ReplacesWhatDiffersFromLineToLineByItsKind) {
  const Row rows[] = {
      {"took 12 of 1,024 in 1.5s", "took <num> of <num> in <num>"},
      {"-5 +3 a-5 (-1.5e-3)", "<num> +<num> a-<num> (<num>)"},
      {"12ms 4KiB 45% 1h2m3.5s 10Mbps 2nd", "<num> <num> <num> <num> <num> 2nd"},
      {"worker-7 pid=12 [34] #5 x/6/y", "worker-<num> pid=<num> [<num>] #<num> x/<num>/y"},
      {"eth0 sha256 v1.2 ipv4 ext4", "eth0 sha256 v1.<num> ipv4 ext4"},
      {"9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999"
       "9",
       "<num>"},
      {"id 550e8400-e29b-41d4-a716-446655440000,", "id <uuid>,"},
      {"550e8400-e29b-41d4-a716-44665544000 x", "<hex>-e29b-<num>-a716-<num> x"},
      {"from 192.0.2.7:8080 to 192.0.2.0/24, 192.0.2.1.", "from <ip> to <ip>, <ip>."},
      {"1.2.3.4.5 256.1.1.1 1.2.3", "<num> <num> <num>"},
      {"[2001:db8::1]:443 2001:db8:0:0:0:0:0:1 ::1 fe80::1%eth0", "<ip> <ip> <ip> <ip>"},
      {"std::string a::b 1:2 face:b00c", "std::string a::b <num>:<num> face:b00c"},
      {"52:54:00:12:34:56 52-54-00-12-34-56", "<mac> <mac>"},
      {"commit 3f9a2bc4d5e6f708 0x1F deadbeef face", "commit <hex> <hex> deadbeef face"},
      {"mail bob.smith+x1@mail.example.org!", "mail <email>!"},
      {"user@1000.service git@host @example.org", "user@<num>.service git@host @example.org"},
      {"key 01HK3V9QZ7Y8X6W5T4R3S2P1N0 short1", "key <id> short1"},
      {"/api/users/12/orders/550e8400-e29b-41d4-a716-446655440000", "/api/users/<num>/orders/<uuid>"},
      {"GET /search?q=a&p=2 really?", "GET /search?<*> really?"},
      {"db.internal:5432", "db.internal:<num>"},
  };
  for (const auto& row : rows) EXPECT_EQ(masked(row.line), row.expected) << row.line;
}

TEST(Masking, KnowsTimesAsProgramsWriteThem) {
  for (const std::string_view time :
       {"2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05+02:00", "2026-01-02 03:04:05,678",
        "2026/01/02 03:04:05", "2026-01-02", "03:04:05", "03:04:05.678", "02/Jan/2026:03:04:05 +0000",
        "Jan  2 03:04:05", "Jan 12 03:04:05", "Mon Jan  2 15:04:05 2006", "Mon, 02 Jan 2006 15:04:05 GMT",
        "2026-01-02 03:04:05 UTC", "02.01.2026 03:04:05", "2026-01-02 03:04:05 +0000"})
    EXPECT_EQ(masked("at " + std::string(time) + " x"), "at <time> x") << time;
  EXPECT_EQ(masked("2026-13-02 99:99:99 Mayor 12 Jan"),
            "<num>-<num>-<num> <num>:<num>:<num> Mayor <num> Jan");
}

TEST(Masking, HidesWhatIsQuotedAndKeepsWhatIsNot) {
  const Row rows[] = {
      {R"(unknown service "db one")", R"(unknown service "<*>")"},
      {R"(user 'bob' and `x y`)", R"(user '<*>' and `<*>`)"},
      {R"(don't can't it's)", R"(don't can't it's)"},
      {R"(say "a \"b\" c" end)", R"(say "<*>" end)"},
      {R"(open "never closed 12)", R"(open "never closed <num>)"},
      {R"({"a":"b","n":12})", R"({"a":"<*>","n":<num>})"},
      {R"("GET /users/12 HTTP/1.1" 404 153 "-" "curl/8")",
       R"("GET /users/<num> HTTP/1.1" 404 <num> "<*>" "<*>")"},
      {R"(HTTP/2.0 503 x status=404 code: 500 "status":200 size=404 port 404)",
       R"(HTTP/2.0 503 x status=404 code: 500 "status":200 size=<num> port <num>)"},
      {R"(E0102 03:04:05.000006   12 a.go:7] "It failed" err="why")",
       R"(E<time> <num> a.go:<num>] "It failed" err="<*>")"},
      {"\tat com.example.A.b(A.java:12) ~[a.jar:1]", "at <frame>"},
      {"  at home (12)", "at home (<num>)"},
  };
  for (const auto& row : rows) EXPECT_EQ(masked(row.line), row.expected) << row.line;
}

TEST(Masking, MakesOneLineOfValidText) {
  using namespace std::string_view_literals;
  const Row rows[] = {
      {"  a \t b\r\n"sv, "a b"sv},
      {"\0\0 \x01"sv, ""sv},
      {"a\0b"sv, "a b"sv},
      {"\x1b[31mERROR\x1b[0m x"sv, "ERROR x"sv},
      {"\xC3\xA9t\xC3\xA9 12"sv, "\xC3\xA9t\xC3\xA9 <num>"sv},
      {"\xFF\xC3 x"sv, "\xEF\xBF\xBD\xEF\xBF\xBD x"sv},
  };
  for (const auto& row : rows) EXPECT_EQ(masked(row.line), row.expected);
}

TEST(Masking, IsBoundedInSizeAndTimeForHostileLines) {
  std::vector<std::string> pieces = {
      "\"", "'",     "\\\"",  "a?", "a@", "a@b.", "1,",  "1:",  "::", "1.", "eyJ", "\xFF",
      "a:", "\x1b[", "Jan 1", "0x", "1-", " \"a", "' '", "?a=", "[",  "<",  "f:"};
  // A quadratic step would take minutes for these; the limit on the test's own time would tell.
  for (const auto& piece : pieces) {
    std::string line;
    while (line.size() < 1'000'000) line += piece;
    std::string out;
    mask(line, line.size(), out);
    EXPECT_TRUE(utf8::valid(out)) << piece;
    EXPECT_LE(out.size(), 5 * line.size()) << piece;
    mask(line, 100, out);
    EXPECT_LE(out.size(), 100 + 3 * line.size()) << piece;
  }
}

}  // namespace
