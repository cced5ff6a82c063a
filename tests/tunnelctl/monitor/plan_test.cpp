#include "tunnelctl/monitor/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunnelctl/monitor/diff.h"

namespace tunnelctl::monitor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Object dashboard(const std::string& uid, const std::string& title = "T") {
  return {.key = {Kind::dashboard, uid},
          .pack = "p",
          .title = title,
          .folder = "f",
          .content = {{"uid", uid}, {"title", title}}};
}
Seen seen(const Object& object, bool ours = true) {
  Seen result;
  result.content = object.content;
  result.title = object.title;
  result.folder = object.folder;
  result.ours = ours;
  return result;
}
Object group(const std::string& id, const std::vector<std::string>& uids) {
  Json rules = Json::array();
  for (const auto& uid : uids) rules.push_back({{"uid", uid}, {"title", uid}});
  return {.key = {Kind::rule_group, id}, .pack = "p", .title = id, .content = {{"rules", rules}}};
}

std::vector<std::string> lines(const Plan& plan) {
  std::vector<std::string> result;
  for (const auto& one : plan.changes)
    result.push_back(std::string(name(one.action)) + " " + one.wanted.key.id);
  return result;
}

Plan make(const std::vector<Object>& wanted, const Observed& observed, PlanOptions options = {}) {
  return plan(wanted, observed, {"p"}, options);
}

TEST(Plan, NothingToDoWhenTheServerHoldsWhatIsWanted) {
  Observed observed;
  observed.objects[{Kind::dashboard, "a"}] = seen(dashboard("a"));
  const auto result = make({dashboard("a")}, observed);
  EXPECT_TRUE(result.empty());
  EXPECT_EQ(result.unchanged, 1U);
  EXPECT_THAT(text(result, {}), HasSubstr("Nothing to do"));
}

TEST(Plan, CreatesUpdatesAndRemovesOnlyItsOwn) {
  Observed observed;
  observed.objects[{Kind::dashboard, "b"}] = seen(dashboard("b", "old"));
  observed.objects[{Kind::dashboard, "gone"}] = seen(dashboard("gone"));
  observed.objects[{Kind::dashboard, "somebody-s"}] = seen(dashboard("somebody-s"), false);
  EXPECT_THAT(lines(make({dashboard("a"), dashboard("b")}, observed)),
              ElementsAre("create a", "update b", "delete gone"));
  EXPECT_THAT(lines(make({dashboard("a"), dashboard("b")}, observed, {.prune = false})),
              ElementsAre("create a", "update b"));
}

TEST(Plan, ADashboardInAnotherFolderMovesBack) {
  Observed observed;
  observed.objects[{Kind::dashboard, "a"}] = seen(dashboard("a"));
  observed.objects[{Kind::dashboard, "a"}].folder = "elsewhere";
  const auto result = make({dashboard("a")}, observed);
  ASSERT_EQ(result.changes.size(), 1U);
  EXPECT_EQ(result.changes[0].differences[0].path, "/folderUid");
}

TEST(Plan, WhatBelongsToOthersIsAConflict) {
  struct Case {
    const char* what;
    Object wanted;
    std::function<void(Observed&)> world;
    const char* says;
  };
  const Object point{.key = {Kind::contact_point, "u"}, .pack = "p", .content = {{"name", "ops"}}};
  const Object folder{.key = {Kind::folder, "f"}, .pack = "p", .content = {{"uid", "f"}, {"title", "Mine"}}};
  const Case cases[] = {
      {"a dashboard without the mark", dashboard("a", "new"),
       [](Observed& o) {
         o.objects[{Kind::dashboard, "a"}] = seen(dashboard("a"), false);
       },
       "somebody else's"},
      {"one from files", dashboard("a", "new"),
       [](Observed& o) {
         o.objects[{Kind::dashboard, "a"}] = seen(dashboard("a"));
         o.objects[{Kind::dashboard, "a"}].provisioned = true;
       },
       "provenance file"},
      {"a folder of another title", folder,
       [&](Observed& o) {
         o.objects[{Kind::folder, "f"}] = seen(
             {.key = {Kind::folder, "f"}, .title = "Theirs", .content = {{"uid", "f"}, {"title", "Theirs"}}});
       },
       "is called \"Theirs\""},
      {"a contact point of that name", point, [](Observed& o) { o.contact_point_names["ops"] = true; },
       "would make one of both"},
      {"a rule uid in another group", group("f/g", {"r1"}), [](Observed& o) { o.rule_places["r1"] = "x/y"; },
       "stands in x/y"},
      {"strangers in the group", group("f/g", {"r1", "r2"}),
       [](Observed& o) {
         auto s = seen(group("f/g", {"r1"}));
         s.strangers = {"Theirs"};
         o.objects[{Kind::rule_group, "f/g"}] = s;
       },
       "would be deleted: Theirs"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    Observed observed;
    one.world(observed);
    const auto result = make({one.wanted}, observed);
    ASSERT_EQ(result.conflicts(), 1U);
    EXPECT_THAT(result.changes[0].conflict, HasSubstr(one.says));
    EXPECT_THAT(text(result, {}), HasSubstr("conflict: "));
  }
}

TEST(Plan, DestroyTakesEverythingOfOursInOppositeOrderAndLeavesASharedFolder) {
  Observed observed;
  const Object folder{
      .key = {Kind::folder, "f"}, .pack = "p", .title = "F", .content = {{"uid", "f"}, {"title", "F"}}};
  observed.objects[{Kind::folder, "f"}] = seen(folder);
  observed.objects[{Kind::rule_group, "f/g"}] = seen(group("f/g", {"r"}));
  observed.objects[{Kind::dashboard, "a"}] = seen(dashboard("a"));
  EXPECT_THAT(lines(make({folder}, observed, {.destroy = true})),
              ElementsAre("delete a", "delete f/g", "delete f"));
  observed.shared_folders.insert("f");
  const auto result = make({folder}, observed, {.destroy = true});
  EXPECT_THAT(lines(result), ElementsAre("delete a", "delete f/g"));
  EXPECT_THAT(result.notes, ElementsAre(HasSubstr("folder f")));
}

TEST(Plan, NamesThePermissionsThatAreMissingBeforeAnythingIsWritten) {
  Observed observed;
  observed.permissions = std::set<std::string>{"dashboards:read"};
  EXPECT_THAT(make({dashboard("a")}, observed).missing_permissions,
              ElementsAre(HasSubstr("dashboards:create or dashboards:write")));
  observed.permissions->insert("dashboards:write");
  EXPECT_THAT(make({dashboard("a")}, observed).missing_permissions, IsEmpty());
}

TEST(Plan, ASecretIsMissingOnlyWhileTheServerHasNone) {
  Object point{.key = {Kind::contact_point, "u"},
               .pack = "p",
               .content = {{"name", "n"}, {"settings", {{"url", kRedacted}}}}};
  point.missing = {"set X"};
  EXPECT_THAT(make({point}, {}).missing_secrets, ElementsAre("set X"));
  Observed observed;
  observed.objects[point.key] = seen(point);
  EXPECT_TRUE(make({point}, observed).empty());
}

TEST(Diff, ShowsWhereLongTextsPartAndNoControlCharacters) {
  Observed observed;
  const std::string common(300, 'a');
  observed.objects[{Kind::dashboard, "a"}] = seen(dashboard("a", common + "\x1b[31m"));
  const auto shown = text(make({dashboard("a", common + "end")}, observed), {});
  EXPECT_THAT(shown, HasSubstr("end\""));
  EXPECT_EQ(shown.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace tunnelctl::monitor
