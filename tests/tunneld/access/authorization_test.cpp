#include "tunneld/access/authorization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunneld/access/options.h"

namespace tunneld::access {
namespace {

using testing::HasSubstr;

tunnel::Principal who(std::string subject, tunnel::Tier tier = tunnel::Tier::free,
                      std::vector<std::string> scopes = {}, std::string issuer = "idp") {
  tunnel::Principal made;
  made.issuer = std::move(issuer);
  made.subject = std::move(subject);
  made.tier = tier;
  made.scopes = std::move(scopes);
  return made;
}

bool allows(const std::vector<std::string>& entries, const tunnel::Principal& principal) {
  const auto list = AllowList::parse(entries, "idp");
  EXPECT_TRUE(list) << list.error().message;
  return list && may_use(principal, &*list);
}

TEST(AllowList, AdmitsWhomAnyEntryNames) {
  const struct {
    std::vector<std::string> entries;
    tunnel::Principal principal;
    bool allowed;
  } rows[] = {
      {{}, who("ann"), false},
      {{"*"}, who("ann"), true},
      {{"sub:ann"}, who("ann"), true},
      {{"sub:ann"}, who("Ann"), false},
      {{"sub:ann"}, who("ann2"), false},
      {{"sub:ann"}, who("an"), false},
      {{"sub:bob", "sub:ann"}, who("ann"), true},
      {{"sub:ann@example.com"}, who("ann@example.com"), true},
      {{"sub:auth0|12:3"}, who("auth0|12:3"), true},
      {{"tier:premium"}, who("ann", tunnel::Tier::premium), true},
      {{"tier:premium"}, who("ann", tunnel::Tier::free), false},
      {{"tier:premium"}, who("ann", tunnel::Tier::enterprise), false},  // exactly that tier
      {{"tier:premium", "tier:enterprise"}, who("ann", tunnel::Tier::enterprise), true},
      {{"scope:db:read"}, who("ann", tunnel::Tier::free, {"db:read"}), true},
      {{"scope:db:read"}, who("ann", tunnel::Tier::free, {"web", "db:read"}), true},
      {{"scope:db:read"}, who("ann", tunnel::Tier::free, {"db", "read", "db:read:all", "DB:READ"}), false},
      {{"scope:ann"}, who("ann"), false},
      {{"sub:premium", "scope:free"}, who("ann", tunnel::Tier::premium), false},
  };
  for (const auto& row : rows)
    EXPECT_EQ(allows(row.entries, row.principal), row.allowed)
        << testing::PrintToString(row.entries) << " " << row.principal.subject;
}

TEST(AllowList, KnowsSubjectsOfItsIssuerOnly) {
  for (const char* entry : {"*", "sub:ann", "tier:free", "scope:s"})
    EXPECT_FALSE(allows({entry}, who("ann", tunnel::Tier::free, {"s"}, "another"))) << entry;
}

TEST(AllowList, AnswersForAnUnknownServiceAsForADeniedOne) {
  EXPECT_FALSE(may_use(who("ann", tunnel::Tier::enterprise, {"tunnel:admin"}), nullptr));
  EXPECT_FALSE(may_use(who("ann"), nullptr));
  // Not even one whose issuer is as empty as a default list's.
  EXPECT_FALSE(may_use(who("", tunnel::Tier::free, {}, ""), nullptr));
}

TEST(AllowList, RefusesEntriesThatWouldNeverMatch) {
  const struct {
    std::string entry;
    const char* why;
  } rows[] = {
      {"", "use \"*\""},
      {"ann", "use \"*\""},
      {"**", "use \"*\""},
      {" *", "use \"*\""},
      {"user:ann", "use \"*\""},
      {"Sub:ann", "use \"*\""},
      {"sub:", "1 to 255 bytes"},
      {"sub:*", "write \"*\""},
      {"sub:" + std::string(256, 's'), "1 to 255 bytes"},
      {"sub:a\nb", "printable ASCII"},
      {"sub:\xc3\xa4", "printable ASCII"},
      {"sub:ann@idp", "leave out the issuer"},
      {"sub:ann@https://id.example.com/", "leave out the issuer"},
      {"tier:", "free, premium or enterprise"},
      {"tier:gold", "free, premium or enterprise"},
      {"tier:Premium", "free, premium or enterprise"},
      {"tier:premium ", "free, premium or enterprise"},
      {"scope:", "printable ASCII"},
      {"scope:a b", "printable ASCII"},
  };
  for (const auto& row : rows) {
    const auto list = AllowList::parse({"*", row.entry}, "idp");
    ASSERT_FALSE(list) << row.entry;
    EXPECT_EQ(list.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(list.error().message, testing::AllOf(HasSubstr(row.entry.substr(0, 80)), HasSubstr(row.why)));
    EXPECT_LT(list.error().message.size(), 250u);
  }
  EXPECT_FALSE(AllowList::parse(std::vector<std::string>(AllowList::kMaxEntries + 1, "*"), "idp"));
}

TEST(AuthOptions, AreCompleteInLocalModeAndNamedWhereMissing) {
  const auto local = validated({});
  ASSERT_TRUE(local);
  EXPECT_EQ(local->issuer, "tunneld");
  EXPECT_EQ(local->audience, "tunneld");

  const auto base = [] {
    Options made;
    made.mode = AuthMode::jwks;
    made.issuer = "i";
    made.audience = "a";
    made.jwks_url = "https://id.example.com/jwks";
    return made;
  };
  EXPECT_TRUE(validated(base()));
  const struct {
    void (*change)(Options&);
    const char* why;
  } rows[] = {
      {[](Options& o) { o.issuer.clear(); }, "auth.issuer is required"},
      {[](Options& o) { o.audience.clear(); }, "auth.audience is required"},
      {[](Options& o) { o.issuer = std::string("i\0j", 3); }, "control characters"},
      {[](Options& o) { o.issuer = std::string(513, 'i'); }, "512 bytes"},
      {[](Options& o) { o.jwks_url.clear(); }, "exactly one of"},
      {[](Options& o) { o.jwks_file = "keys.json"; }, "exactly one of"},
      {[](Options& o) { o.jwks_url = "http://id.example.com/jwks"; }, "https://"},
      {[](Options& o) { o.jwks_url = "https://"; }, "https://"},
      {[](Options& o) { o.jwks_url = "https://:443/"; }, "https://"},
      {[](Options& o) { o.jwks_url = "https://u:p@id.example.com/"; }, "user name"},
      {[](Options& o) { o.jwks_url = "https://id.example.com/#x"; }, "fragment"},
      {[](Options& o) { o.jwks_url = "https://id.example.com/ x"; }, "https://"},
      {[](Options& o) { o.shared_secret_file = "s"; }, "cannot be combined"},
      {[](Options& o) { o.mode = AuthMode::shared_secret; }, "needs auth.shared_secret_file"},
      {[](Options& o) {
         o.mode = AuthMode::shared_secret;
         o.shared_secret_file = "s";
       },
       "excludes auth.jwks_file"},
      {[](Options& o) { o.mode = AuthMode::local; }, "need auth.mode=jwks"},
      {[](Options& o) {
         o = Options{};
         o.shared_secret_file = "s";
       },
       "needs auth.mode=shared_secret"},
      {[](Options& o) { o.tier_claim.clear(); }, "auth.tier_claim"},
      {[](Options& o) { o.scope_claim.clear(); }, "auth.scope_claim"},
      {[](Options& o) { o.leeway = std::chrono::seconds{-1}; }, "auth.leeway"},
      {[](Options& o) { o.leeway = std::chrono::seconds{301}; }, "auth.leeway"},
      {[](Options& o) { o.max_lifetime = std::chrono::hours{25}; }, "auth.max_lifetime"},
      {[](Options& o) { o.cache_entries = 0; }, "auth.cache_entries"},
      {[](Options& o) { o.cache_ttl = std::chrono::seconds{61}; }, "auth.cache_ttl"},
  };
  for (const auto& row : rows) {
    Options changed = base();
    row.change(changed);
    const auto result = validated(changed);
    ASSERT_FALSE(result) << row.why;
    EXPECT_THAT(result.error().message, HasSubstr(row.why));
  }
}

}  // namespace
}  // namespace tunneld::access
