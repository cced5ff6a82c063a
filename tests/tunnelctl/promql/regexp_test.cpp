#include "tunnelctl/promql/regexp.h"

#include <gmock/gmock.h>

using namespace tunnelctl::promql;

TEST(Regexp, KnowsWhatMatchesTheEmptyText) {
  for (const char* pattern : {"", "a*", "a?b*", "^$", "(a|)", "|a", "(?:a|b){0}", "x{0,2}", R"(\B)",
                              "(a*)(b|c*)", "(?i)", R"(\Q\E)", "(?P<n>a*)"}) {
    const auto found = parse_regexp(pattern);
    ASSERT_TRUE(found) << pattern << " " << found.error().message;
    EXPECT_TRUE(found->matches_empty) << pattern;
  }
  for (const char* pattern :
       {"a", "a+", ".", "[a]", "(a|b)", "a*b", R"(\b)", "x{1,2}", R"(\d)", R"(\Q*\E)", ".+", "(a*)(b|c)"}) {
    const auto found = parse_regexp(pattern);
    ASSERT_TRUE(found) << pattern << " " << found.error().message;
    EXPECT_FALSE(found->matches_empty) << pattern;
  }
}

TEST(Regexp, TellsLiteralsFromPatterns) {
  EXPECT_TRUE(parse_regexp("tunnel-1:8080/x")->literal);
  EXPECT_FALSE(parse_regexp("tunnel.1")->literal);
  EXPECT_FALSE(parse_regexp("a|b")->literal);
}

TEST(Regexp, NamesItsCaptures) {
  EXPECT_THAT(parse_regexp(R"((?P<ip>\S+) (?<user>\w+) (x))")->capture_names,
              testing::ElementsAre("ip", "user"));
}

TEST(Regexp, RefusesInGosWords) {
  struct Case {
    const char* pattern;
    const char* message;
  };
  const Case cases[] = {
      {"(", "missing closing ): `(`"},
      {"a)", "unexpected ): `a)`"},
      {"*a", "missing argument to repetition operator: `*`"},
      {"(|*)", "missing argument to repetition operator: `*`"},
      {R"(\Q\E*)", "missing argument to repetition operator: `*`"},
      {"a**", "invalid nested repetition operator: `**`"},
      {"a*?+", "invalid nested repetition operator: `*?+`"},
      {"a{1001}", "invalid repeat count: `{1001}`"},
      {"a{2,1}", "invalid repeat count: `{2,1}`"},
      {"(a{1000}){2}", "invalid repeat count: `{2}`"},
      {"a{99999999999999999999}", "invalid repeat count: `{99999999999999999999}`"},
      {"[a", "missing closing ]: `[a`"},
      {"[b-a]", "invalid character class range: `b-a`"},
      {"[[:foo:]]", "invalid character class range: `[:foo:]`"},
      {R"(\pX)", R"(invalid character class range: `\pX`)"},
      {R"(\p{greek}x)", R"(invalid character class range: `\p{greek}`)"},
      {R"(\q)", R"(invalid escape sequence: `\q`)"},
      {R"(\8)", R"(invalid escape sequence: `\8`)"},
      {R"([a-\d])", R"(invalid escape sequence: `\d`)"},
      {"x\\", "trailing backslash at end of expression: ``"},
      {"(?=a)", "invalid or unsupported Perl syntax: `(?=`"},
      {"(?<!a)", "invalid named capture: `(?<!a)`"},
      {"(?P<n>a)(?P<n>b)", "duplicate capture name: `(?P<n>`"},
  };
  for (const auto& [pattern, message] : cases) {
    const auto found = parse_regexp(pattern);
    ASSERT_FALSE(found) << pattern;
    EXPECT_EQ(found.error().message, std::string("error parsing regexp: ") + message) << pattern;
  }
}

TEST(Regexp, EscapesWhatWouldBeAPattern) {
  EXPECT_EQ(escape_regexp("a.b*(c)[d]{e}|f^g$h+i?\\"), R"(a\.b\*\(c\)\[d\]\{e\}\|f\^g\$h\+i\?\\)");
  EXPECT_TRUE(parse_regexp(escape_regexp("(*[")));
}

TEST(Regexp, SurvivesDeepGroups) {
  EXPECT_FALSE(parse_regexp(std::string(100'000, '(')));
  EXPECT_TRUE(parse_regexp(std::string(900, '(') + std::string(900, ')')));
}
