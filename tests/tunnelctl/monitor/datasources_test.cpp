#include "tunnelctl/monitor/datasources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace tunnelctl;
using monitor::choose_datasources;
using monitor::FoundDatasource;
using testing::AllOf;
using testing::HasSubstr;
using Overrides = std::map<std::string, std::string>;

const FoundDatasource kMain{.uid = "m1", .name = "Main", .type = "prometheus", .is_default = true};
const FoundDatasource kOther{.uid = "o2", .name = "Other", .type = "prometheus"};
const FoundDatasource kThird{.uid = "t3", .name = "m1 too", .type = "prometheus"};
const FoundDatasource kLogs{.uid = "l1", .name = "Logs", .type = "loki"};

pack::Pack metrics_and_logs() {
  pack::Pack pack;
  pack.manifest = "packs/x/pack.yaml";
  pack.datasources = {{.place = {"packs/x/pack.yaml", 11, 5}, .variable = "datasource", .type = "prometheus"},
                      {.variable = "loki", .type = "loki", .optional = true}};
  return pack;
}

TEST(ChooseDatasources, TakesTheDefaultOfATypeElseTheOnlyOne) {
  struct Case {
    std::vector<FoundDatasource> found;
    Overrides overrides;
    Overrides expected;  // variable -> uid
  };
  const Case cases[] = {
      {{kOther, kMain, kLogs}, {}, {{"datasource", "m1"}, {"loki", "l1"}}},
      {{kOther, kLogs}, {}, {{"datasource", "o2"}, {"loki", "l1"}}},
      {{kMain}, {}, {{"datasource", "m1"}}},  // an optional one may be missing
      {{kMain, kOther}, {{"datasource", "o2"}}, {{"datasource", "o2"}}},
      {{kMain, kOther}, {{"datasource", "Other"}}, {{"datasource", "o2"}}},
      {{kThird, kMain}, {{"datasource", "m1"}}, {{"datasource", "m1"}}},
      {{kMain, kLogs}, {{"loki", ""}}, {{"datasource", "m1"}}},  // turned off
      {{kMain}, {{"another_packs_variable", "x"}}, {{"datasource", "m1"}}},
  };
  for (const auto& one : cases) {
    const auto chosen = choose_datasources(metrics_and_logs(), one.found, one.overrides);
    ASSERT_TRUE(chosen) << chosen.error().message;
    Overrides uids;
    for (const auto& [variable, source] : *chosen) uids[variable] = source.uid;
    EXPECT_EQ(uids, one.expected);
  }
}

TEST(ChooseDatasources, TakesWhatTheManifestNames) {
  auto pack = metrics_and_logs();
  pack.datasources[0].name = "Other";
  pack.datasources[1].uid = "gone";  // optional: left out
  const auto chosen = choose_datasources(pack, {kMain, kOther, kLogs}, {});
  ASSERT_TRUE(chosen) << chosen.error().message;
  EXPECT_EQ(chosen->size(), 1U);
  EXPECT_EQ(chosen->at("datasource").name, "Other");
}

TEST(ChooseDatasources, SaysWhichThereAreAndWhatToSet) {
  struct Case {
    std::vector<FoundDatasource> found;
    Overrides overrides;
    Error::Kind kind;
    std::vector<const char*> says;
  };
  using Kind = Error::Kind;
  const Case cases[] = {
      {{kOther, kThird},
       {},
       Kind::bad_input,
       {"datasource: several", "Other (uid o2), m1 too (uid t3)", "--datasource datasource=UID",
        "packs/x/pack.yaml:11"}},
      {{kLogs}, {}, Kind::not_found, {"datasource: there is no data source", "none of type prometheus"}},
      {{kMain},
       {{"datasource", "nix"}},
       Kind::not_found,
       {"--datasource datasource=nix names no data source", "Main (uid m1)"}},
      {{kMain, kLogs},
       {{"datasource", "l1"}},
       Kind::bad_input,
       {"is of type loki, and prometheus is needed"}},
      {{kMain}, {{"datasource", ""}}, Kind::not_found, {"names no data source"}},
      {{kMain}, {{"loki", "nix"}}, Kind::not_found, {"--datasource loki=nix"}},  // asked for by name
  };
  for (const auto& one : cases) {
    const auto chosen = choose_datasources(metrics_and_logs(), one.found, one.overrides);
    ASSERT_FALSE(chosen) << one.says.front();
    EXPECT_EQ(chosen.error().kind, one.kind);
    for (const char* text : one.says) EXPECT_THAT(chosen.error().message, HasSubstr(text));
  }
}

TEST(ChooseDatasources, TellsAllProblemsAtOnce) {
  auto pack = metrics_and_logs();
  pack.datasources[0].uid = "gone";
  const auto chosen = choose_datasources(pack, {kMain}, {{"loki", "nix"}});
  ASSERT_FALSE(chosen);
  EXPECT_THAT(chosen.error().message,
              AllOf(HasSubstr("pack.yaml:11:5 names gone"), HasSubstr("\ndata source variable loki: ")));
}

}  // namespace
