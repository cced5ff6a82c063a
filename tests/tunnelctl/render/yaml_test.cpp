#include "tunnelctl/render/yaml.h"

#include <gtest/gtest.h>

#include "tests/tunnelctl/render/lab.h"

namespace tunnelctl::render {
namespace {

TEST(Yaml, IsWrittenForPeople) {
  const Json value{
      {"rules", Json::array({{{"expr", "a\n  / b"}, {"alert", "X"}, {"labels", Json::object()}}})},
      {"name", "one"},
      {"alpha", Json::array({1, "two", Json::array({3, Json::array()})})},
      {"interval", "30s"}};
  EXPECT_EQ(yaml(value),
            "name: one\n"
            "interval: 30s\n"
            "alpha:\n"
            "  - 1\n"
            "  - two\n"
            "  - - 3\n"
            "    - []\n"
            "rules:\n"
            "  - alert: X\n"
            "    expr: |-\n"
            "      a\n"
            "        / b\n"
            "    labels: {}\n");
}

TEST(Yaml, QuotesWhatAParserWouldTakeForSomethingElse) {
  const struct {
    const char* text;
    const char* yaml;
  } rows[] = {
      {"plain text, with signs!", "plain text, with signs!\n"},
      {"1h30m", "1h30m\n"},
      {"$NAME", "$NAME\n"},
      {"", "''\n"},
      {"yes", "'yes'\n"},  // true in YAML 1.1
      {"N", "'N'\n"},      // false
      {"Null", "'Null'\n"},
      {"12", "'12'\n"},
      {"1:30", "'1:30'\n"},  // ninety, in YAML 1.1
      {"1e3", "'1e3'\n"},
      {"2030-01-01", "'2030-01-01'\n"},
      {".inf", "'.inf'\n"},
      {"~", "'~'\n"},
      {"=", "'='\n"},
      {"<<", "'<<'\n"},
      {"a: b", "'a: b'\n"},
      {"ends:", "'ends:'\n"},
      {"a #b", "'a #b'\n"},
      {"- a", "'- a'\n"},
      {"it's {x}", "it's {x}\n"},
      {"{{ $x }}'s", "'{{ $x }}''s'\n"},
      {" a", "' a'\n"},
      {"a ", "'a '\n"},
      {"tab\tand \"quote\"", "\"tab\\tand \\\"quote\\\"\"\n"},
      {"bell\a", "\"bell\\x07\"\n"},
      {"line\xE2\x80\xA8separator", "\"line\\u2028separator\"\n"},
  };
  for (const auto& row : rows) EXPECT_EQ(yaml(row.text), row.yaml);
}

TEST(Yaml, WritesNumbersThatOldParsersKnowAsNumbers) {
  EXPECT_EQ(yaml(0.05), "0.05\n");
  EXPECT_EQ(yaml(1e-7), "1.0e-07\n");
  EXPECT_EQ(yaml(-3), "-3\n");
  EXPECT_EQ(yaml(true), "true\n");
  EXPECT_EQ(yaml(nullptr), "null\n");
}

TEST(Yaml, IsReadBackAsItWas) {
  const char* texts[] = {"",          "one",          "two\nlines", "two\nlines\n", "\nfirst is empty",
                         "end\n\n\n", "  deep\nless", "\ttab\nx",   "a\n\n  b\n",   "\n",
                         "\n\n",      "x\r\ny",       "x\n ",       "\u00FC\u2028", "# no comment\n---\nx",
                         "'",         "\\n",          "null",       "0x10",         "a\n...\nb",
                         "|",         "%YAML",        "&a",         "*a",           "!tag"};
  Json all = Json::array();
  for (const char* text : texts) all.push_back(text);
  const Json value{
      {"list", all}, {"in", {{"list of lists", Json::array({all, Json::array({all})})}}}, {"1", "one"}};
  Json map = Json::object();
  for (const char* text : texts)
    if (*text != '\0') map[std::string("k") + text] = text;
  EXPECT_EQ(lab::parsed(yaml(value)), value);
  EXPECT_EQ(lab::parsed(yaml(map)), map);
}

TEST(Yaml, PutsAFilesCommentAboveItsDocuments) {
  EXPECT_EQ(yaml_file("Two lines,\n\nand one between.", {Json{{"a", 1}}, Json{{"a", 2}}}),
            "# Two lines,\n#\n# and one between.\na: 1\n---\na: 2\n");
}

}  // namespace
}  // namespace tunnelctl::render
