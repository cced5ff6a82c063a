// Values given while a program runs, and single keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/config_file.h"

namespace config {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

enum class Mode { slow, fast };

struct Item {
  std::string name;
};

struct Options {
  bool on = false;
  int count = 3;
  std::size_t size = 1024;
  std::chrono::milliseconds wait{500};
  Mode mode = Mode::slow;
  std::string word;
  std::vector<std::string> names;
  std::filesystem::path path;
  Secret secret;
  std::vector<Item> items;
};

void bind_item(Schema& schema, Item& item) {
  schema.add("name", &item.name, {.help = "A name.", .example = "x"});
}

struct Program {
  Program() {
    schema.add("a.on", &options.on, {.help = "h", .example = "true", .hot = true});
    schema.add("a.count", &options.count, {.help = "h", .example = "3", .range = {1, 10}, .hot = true});
    schema.add_bytes("a.size", &options.size, {.help = "h", .example = "1KiB", .hot = true});
    schema.add("a.wait", &options.wait, {.help = "h", .example = "1s", .range = {1ms, 1min}, .hot = true});
    schema.add_enum("a.mode", &options.mode, {{"slow", Mode::slow}, {"fast", Mode::fast}},
                    {.help = "h", .example = "slow", .hot = true});
    schema.add("a.word", &options.word,
               {.help = "h", .example = "w", .hot = true, .check = [](std::string_view text) -> std::string {
                  return text.empty() ? "is empty" : "";
                }});
    schema.add("a.names", &options.names, {.help = "h", .example = "x, y", .hot = true});
    schema.add("a.path", &options.path, {.help = "h", .example = "/x"});
    schema.add("a.secret", &options.secret, {.help = "h", .example = "s"});
    schema.add_list<Item>("items", &options.items, bind_item, {.help = "h"});
  }
  Options options;
  Schema schema{"PROGRAM"};
};

Sources with(std::vector<Change> changes) {
  Sources sources;
  sources.file_name = "f.yaml";
  sources.file_text = "a:\n  count: 4\n  names: [one, two]\n";
  sources.overrides = {"a.count=5"};
  sources.changes = std::move(changes);
  return sources;
}

TEST(ConfigChanges, WinOverEverySourceAndSayWhereTheyAreFrom) {
  Program program;
  ASSERT_TRUE(program.schema.load(with({{"a.count", {"6"}}, {"a.names", {"a,b", "c"}}})));
  EXPECT_EQ(program.options.count, 6);
  EXPECT_THAT(program.options.names, testing::ElementsAre("a,b", "c")) << "an entry may hold a comma";
  EXPECT_EQ(program.schema.effective()["a.count"]["from"], "admin");
  EXPECT_EQ(program.schema.effective()["a.wait"]["from"], "default");
}

TEST(ConfigChanges, AnEmptyListIsAList) {
  Program program;
  ASSERT_TRUE(program.schema.load(with({{"a.names", {}}})));
  EXPECT_TRUE(program.options.names.empty());
}

TEST(ConfigChanges, AreJudgedLikeEveryOtherSource) {
  struct Row {
    Change change;
    const char* message;
  };
  const Row rows[] = {
      {{"a.count", {"11"}}, "a.count: \"11\" is out of range"},
      {{"a.cuont", {"1"}}, "a.cuont: unknown key; did you mean a.count?"},
      {{"a.wait", {"30"}}, "a.wait: "},
      {{"a.mode", {"medium"}}, "allowed: slow, fast"},
      {{"a.count", {"1", "2"}}, "a.count: is a list"},
      {{"a.count", {}}, "a.count: is a list"},
      {{"a.secret", {"hush"}}, "a.secret: cannot be changed here"},
      {{"items", {"x"}}, "items: cannot be changed here"},
      {{"a.names", {""}}, "a.names: \"\" is an empty entry"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.change.key);
    Program program;
    const auto loaded = program.schema.load(with({{"a.on", {"true"}}, row.change}));
    ASSERT_FALSE(loaded);
    EXPECT_THAT(loaded.error().message, HasSubstr(row.message));
    EXPECT_THAT(loaded.error().message, testing::Not(HasSubstr("hush")));
    EXPECT_FALSE(program.options.on) << "half of it was applied";
  }
}

TEST(ConfigFacts, AreThoseOfTheKey) {
  const Program program;
  EXPECT_FALSE(program.schema.facts("a.nothing"));
  EXPECT_TRUE(program.schema.facts("a.on")->hot);
  EXPECT_FALSE(program.schema.facts("a.path")->hot);
  EXPECT_TRUE(program.schema.facts("a.secret")->secret);
  EXPECT_TRUE(program.schema.facts("items")->list);
  EXPECT_EQ(program.schema.keys().size(), 10U);
}

TEST(ConfigTexts, AreWhatASourceWouldHaveWritten) {
  const Program program;
  const auto texts = [&](const char* key, const char* json) {
    return program.schema.texts_of(key, nlohmann::json::parse(json));
  };
  EXPECT_THAT(*texts("a.count", "7"), testing::ElementsAre("7"));
  EXPECT_THAT(*texts("a.count", "-7"), testing::ElementsAre("-7"));
  EXPECT_THAT(*texts("a.on", "true"), testing::ElementsAre("true"));
  EXPECT_THAT(*texts("a.wait", "\"2s\""), testing::ElementsAre("2s"));
  EXPECT_THAT(*texts("a.names", R"(["x","y,z"])"), testing::ElementsAre("x", "y,z"));
  EXPECT_TRUE(texts("a.names", "[]")->empty());
}

TEST(ConfigTexts, OfOtherKindsSayWhatIsExpected) {
  const Program program;
  const auto why = [&](const char* key, const char* json) {
    const auto texts = program.schema.texts_of(key, nlohmann::json::parse(json));
    return texts ? std::string("accepted") : texts.error();
  };
  EXPECT_EQ(why("a.count", "[1]"), "is a list; expected integer (1 to 10)");
  EXPECT_EQ(why("a.count", "1.5"), "is not a whole number; expected integer (1 to 10)");
  EXPECT_EQ(why("a.wait", "{}"), "is an object; expected duration (1ms to 1m)");
  EXPECT_EQ(why("a.wait", "null"), "is nothing; expected duration (1ms to 1m)");
  EXPECT_EQ(why("a.names", "[1]"), "has an entry that is no text");
  EXPECT_NE(why("items", "[]"), "accepted");
  EXPECT_NE(why("a.none", "1"), "accepted");
}

TEST(ConfigTake, CarriesOneKeyFromAnotherSchema) {
  Program from;
  ASSERT_TRUE(from.schema.load(with({{"a.on", {"true"}},
                                     {"a.size", {"2MiB"}},
                                     {"a.wait", {"7ms"}},
                                     {"a.mode", {"fast"}},
                                     {"a.word", {"w"}},
                                     {"a.names", {"n"}}})));
  Program to;
  for (const auto* key : {"a.on", "a.count", "a.size", "a.wait", "a.mode", "a.word", "a.names"})
    to.schema.take(from.schema, key);
  EXPECT_TRUE(to.options.on);
  EXPECT_EQ(to.options.count, 5);
  EXPECT_EQ(to.options.size, 2U * 1024 * 1024);
  EXPECT_EQ(to.options.wait, 7ms);
  EXPECT_EQ(to.options.mode, Mode::fast);
  EXPECT_EQ(to.options.word, "w");
  EXPECT_THAT(to.options.names, testing::ElementsAre("n"));
  // Back to a default that no source could have named.
  to.schema.take(Program().schema, "a.word");
  EXPECT_EQ(to.options.word, "");
  EXPECT_THROW(to.schema.take(from.schema, "items"), std::logic_error);
  EXPECT_THROW(to.schema.take(from.schema, "a.none"), std::logic_error);
}

}  // namespace
}  // namespace config
