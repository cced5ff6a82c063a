#include "tunneld/access/revocations.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>

namespace tunneld::access {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
namespace fs = std::filesystem;
using WallTime = Revocations::WallTime;

constexpr WallTime kNow{1'800'000'000s};

tunnel::Principal principal(std::string token_id, WallTime issued_at = kNow - 1min) {
  tunnel::Principal who;
  who.issuer = "https://login.example";
  who.subject = "ann";
  who.token_id = std::move(token_id);
  who.issued_at = issued_at;
  return who;
}

Revocations::Entry token(std::string id) {
  Revocations::Entry entry;
  entry.token_id = std::move(id);
  return entry;
}

Revocations::Entry subject(std::string name, WallTime until) {
  Revocations::Entry entry;
  entry.issuer = "https://login.example";
  entry.subject = std::move(name);
  entry.issued_until = until;
  return entry;
}

class RevocationsFile : public testing::Test {
 protected:
  RevocationsFile() {
    std::string pattern = (fs::temp_directory_path() / "revocations-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~RevocationsFile() override { fs::remove_all(folder_); }

  fs::path file() const { return folder_ / "revoked.json"; }
  void write(const std::string& text) const { std::ofstream(file()) << text; }
  std::string content() const {
    std::ifstream in(file());
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::unique_ptr<Revocations> open(WallTime now = kNow) const {
    auto opened = Revocations::open(file(), now);
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(*opened);
  }
  fs::path folder_;
};

TEST_F(RevocationsFile, AreNoneBeforeTheFirst) {
  const auto revocations = open();
  EXPECT_FALSE(revocations->revoked(principal("t1")));
  EXPECT_THAT(revocations->list(), IsEmpty());
  EXPECT_FALSE(fs::exists(file()));
}

TEST_F(RevocationsFile, TakeOneTokenOfAPrincipal) {
  const auto revocations = open();
  const auto version = revocations->version();
  ASSERT_TRUE(revocations->add(token("t1"), kNow));
  EXPECT_NE(revocations->version(), version);
  EXPECT_TRUE(revocations->revoked(principal("t1")));
  EXPECT_FALSE(revocations->revoked(principal("t2")));
  EXPECT_FALSE(revocations->revoked(principal("")));
}

TEST_F(RevocationsFile, TakeAllTokensOfASubjectIssuedUntilAMoment) {
  const auto revocations = open();
  ASSERT_TRUE(revocations->add(subject("ann", kNow), kNow));
  EXPECT_TRUE(revocations->revoked(principal("t1", kNow - 1h)));
  EXPECT_TRUE(revocations->revoked(principal("t1", kNow)));
  EXPECT_FALSE(revocations->revoked(principal("t1", kNow + 1s)));
  EXPECT_TRUE(revocations->revoked(principal("", WallTime{})));  // cannot show when it was issued
  auto other = principal("t1");
  other.subject = "bob";
  EXPECT_FALSE(revocations->revoked(other));
  other = principal("t1");
  other.issuer = "https://other.example";
  EXPECT_FALSE(revocations->revoked(other));
}

TEST_F(RevocationsFile, MeanEverythingUntilNowUnlessTheySayOtherwise) {
  const auto revocations = open();
  ASSERT_TRUE(revocations->add(subject("ann", {}), kNow + 500ms));
  EXPECT_TRUE(revocations->revoked(principal("t1", kNow)));
  EXPECT_FALSE(revocations->revoked(principal("t1", kNow + 1s)));
}

TEST_F(RevocationsFile, SurviveARestart) {
  auto entry = token("t1");
  entry.reason = "stolen \"laptop\"";
  ASSERT_TRUE(open()->add(entry, kNow));
  ASSERT_TRUE(open()->add(subject("bob", kNow - 1s), kNow + 1s));
  const auto again = open();
  EXPECT_TRUE(again->revoked(principal("t1")));
  const auto list = again->list();
  ASSERT_THAT(list, SizeIs(2));
  EXPECT_EQ(list[0].token_id, "t1");
  EXPECT_EQ(list[0].reason, "stolen \"laptop\"");
  EXPECT_EQ(list[0].revoked_at, kNow);
  EXPECT_EQ(list[1].subject, "bob");
  EXPECT_EQ(list[1].issued_until, kNow - 1s);
  EXPECT_EQ(list[1].revoked_at, kNow + 1s);
}

TEST_F(RevocationsFile, AreKeptInAFileOfTheirOwner) {
  ASSERT_TRUE(open()->add(token("t1"), kNow));
  struct stat facts {};
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777U, 0600U);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);  // nothing temporary is left
}

TEST_F(RevocationsFile, ReadWhatAnotherWriterPut) {
  write(R"({"revoked": [{"jti": "t1", "revokedAt": 1799999000, "reason": "lost"},
                        {"iss": "https://login.example", "sub": "bob", "issuedUntil": 1799999999}]})");
  const auto revocations = open();
  EXPECT_TRUE(revocations->revoked(principal("t1")));
  EXPECT_THAT(revocations->list(), SizeIs(2));
  EXPECT_EQ(revocations->list()[1].revoked_at, kNow);  // not said: never older than it is known
  const auto version = revocations->version();
  write(R"({"revoked": []})");
  ASSERT_TRUE(revocations->reload(kNow));
  EXPECT_FALSE(revocations->revoked(principal("t1")));
  EXPECT_NE(revocations->version(), version);
}

TEST_F(RevocationsFile, KeepWhatAnotherWriterPutMeanwhile) {
  const auto ours = open();
  ASSERT_TRUE(ours->add(token("t1"), kNow));
  ASSERT_TRUE(open()->add(token("t2"), kNow));
  ASSERT_TRUE(ours->add(token("t3"), kNow));
  for (const auto* id : {"t1", "t2", "t3"}) EXPECT_TRUE(ours->revoked(principal(id))) << id;
  EXPECT_THAT(open()->list(), SizeIs(3));
}

TEST_F(RevocationsFile, WriteEverythingAgainWhenTheFileWentMissing) {
  const auto revocations = open();
  ASSERT_TRUE(revocations->add(token("t1"), kNow));
  fs::remove(file());
  ASSERT_TRUE(revocations->add(token("t2"), kNow));
  EXPECT_TRUE(open()->revoked(principal("t1")));
}

TEST_F(RevocationsFile, JoinThoseOfTheSameTokenOrSubject) {
  const auto revocations = open();
  auto lost = token("t1");
  lost.reason = "lost";
  ASSERT_TRUE(revocations->add(lost, kNow));
  ASSERT_TRUE(revocations->add(token("t1"), kNow + 5s));
  ASSERT_TRUE(revocations->add(subject("ann", kNow), kNow));
  ASSERT_TRUE(revocations->add(subject("ann", kNow - 1h), kNow));  // never forgives
  const auto list = revocations->list();
  ASSERT_THAT(list, SizeIs(2));
  EXPECT_EQ(list[0].reason, "lost");
  EXPECT_EQ(list[0].revoked_at, kNow + 5s);
  EXPECT_TRUE(revocations->revoked(principal("t9", kNow)));
}

TEST_F(RevocationsFile, AreDroppedWhenEveryTokenTheyMeanHasExpired) {
  {
    const auto revocations = open();
    ASSERT_TRUE(revocations->add(token("old"), kNow));
    ASSERT_TRUE(revocations->add(subject("ann", kNow + 12h), kNow));
  }
  EXPECT_THAT(open(kNow + 24h)->list(), SizeIs(2));
  const auto later = open(kNow + 24h + 6min);
  ASSERT_THAT(later->list(), SizeIs(1));
  EXPECT_EQ(later->list()[0].subject, "ann");
  ASSERT_TRUE(later->add(token("new"), kNow + 37h));
  EXPECT_EQ(content().find("old"), std::string::npos);
  EXPECT_EQ(content().find("ann"), std::string::npos);
}

TEST_F(RevocationsFile, ForgetInMemoryWhatHasExpiredWhenOneIsAdded) {
  const auto revocations = open();
  ASSERT_TRUE(revocations->add(token("old"), kNow));
  fs::remove(file());
  ASSERT_TRUE(revocations->add(token("new"), kNow + 48h));
  EXPECT_FALSE(revocations->revoked(principal("old")));
}

TEST_F(RevocationsFile, RefuseEntriesThatMeanNothing) {
  const auto revocations = open();
  struct Row {
    const char* story;
    Revocations::Entry entry;
  };
  auto both = token("t1");
  both.subject = "ann";
  auto issuer_too = token("t1");
  issuer_too.issuer = "i";
  auto until = token("t1");
  until.issued_until = kNow;
  auto no_issuer = subject("ann", kNow);
  no_issuer.issuer.clear();
  auto odd_issuer = subject("ann", kNow);
  odd_issuer.issuer = "i\n";
  auto long_issuer = subject("ann", kNow);
  long_issuer.issuer = std::string(1025, 'i');
  auto long_reason = token("t1");
  long_reason.reason = std::string(201, 'r');
  auto odd_reason = token("t1");
  odd_reason.reason = "caf\xc3\xa9";
  const Row rows[] = {
      {"nothing", {}},
      {"both", both},
      {"a token and an issuer", issuer_too},
      {"a token until", until},
      {"a subject of nobody", no_issuer},
      {"an issuer and nobody", subject("", kNow)},
      {"an issuer with a line end", odd_issuer},
      {"a long issuer", long_issuer},
      {"a long subject", subject(std::string(256, 's'), kNow)},
      {"a long token id", token(std::string(256, 't'))},
      {"a token id with a control character", token("t\x01")},
      {"a long reason", long_reason},
      {"a reason that is not ASCII", odd_reason},
      {"before time", subject("ann", WallTime(-1s))},
      {"after time", subject("ann", WallTime(9'000'000'001s))},
  };
  const auto version = revocations->version();
  for (const auto& row : rows) {
    const auto added = revocations->add(row.entry, kNow);
    ASSERT_FALSE(added) << row.story;
    EXPECT_EQ(added.error().kind, Error::Kind::bad_input) << row.story;
  }
  EXPECT_EQ(revocations->version(), version);
  EXPECT_FALSE(fs::exists(file()));
}

TEST_F(RevocationsFile, RefuseAFileThatTheyDoNotUnderstand) {
  struct Row {
    const char* text;
    const char* says;
  };
  const Row rows[] = {
      {"", "JSON"},
      {"[]", "\"revoked\""},
      {"{}", "\"revoked\""},
      {R"({"revoke": []})", "\"revoked\""},
      {R"({"revoked": {}})", "\"revoked\""},
      {R"({"revoked": [], "more": 1})", "\"revoked\""},
      {R"({"revoked": [], "revoked": []})", "twice"},
      {R"({"revoked": [1]})", "revoked[0] is no object"},
      {R"({"revoked": [{}]})", "revoked[0] needs a jti"},
      {R"({"revoked": [{"jti": "a"}, {"jti": 1}]})", "revoked[1] jti must be text"},
      {R"({"revoked": [{"jti": "a", "note": ""}]})", "none of ours"},
      {R"({"revoked": [{"jti": "a", "issuedUntil": 0}]})", "both a jti and issuedUntil"},
      {R"({"revoked": [{"jti": "a", "issuedUntil": 1}]})", "both a jti and"},
      {R"({"revoked": [{"iss": "i", "sub": "s"}]})", "needs issuedUntil"},
      {R"({"revoked": [{"iss": "i", "sub": "s", "issuedUntil": "1"}]})", "whole seconds"},
      {R"({"revoked": [{"iss": "i", "sub": "s", "issuedUntil": 1.5}]})", "whole seconds"},
      {R"({"revoked": [{"iss": "i", "sub": "s", "issuedUntil": -1}]})", "whole seconds"},
      {R"({"revoked": [{"iss": "i", "sub": "s", "issuedUntil": 9000000001}]})", "whole seconds"},
      {R"({"revoked": [{"iss": "i", "sub": "s", "issuedUntil": 18446744073709551615}]})", "whole seconds"},
      {R"({"revoked": [{"jti": "a", "revokedAt": null}]})", "revokedAt must be"},
      {R"({"revoked": [{"jti": "a", "reason": ["x"]}]})", "reason must be text"},
      {R"({"revoked": [{"jti": "a", "reason": {"x": {}}}]})", "nested"},
  };
  for (const auto& row : rows) {
    write(row.text);
    const auto opened = Revocations::open(file(), kNow);
    ASSERT_FALSE(opened) << row.text;
    EXPECT_EQ(opened.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(opened.error().message, HasSubstr(file().string())) << row.text;
    EXPECT_THAT(opened.error().message, HasSubstr(row.says)) << row.text;
  }
}

TEST_F(RevocationsFile, StayAsTheyWereWhenTheFileBecomesUnreadable) {
  const auto revocations = open();
  ASSERT_TRUE(revocations->add(token("t1"), kNow));
  const auto version = revocations->version();
  write("{");
  const auto reloaded = revocations->reload(kNow);
  ASSERT_FALSE(reloaded);
  EXPECT_EQ(reloaded.error().kind, Error::Kind::bad_input);
  EXPECT_FALSE(revocations->add(token("t2"), kNow));  // would wipe out what was meant there
  EXPECT_EQ(content(), "{");
  EXPECT_EQ(revocations->version(), version);
  EXPECT_TRUE(revocations->revoked(principal("t1")));
  EXPECT_FALSE(revocations->revoked(principal("t2")));
}

TEST_F(RevocationsFile, AreRefusedWhereNoFileCanStand) {
  fs::create_directory(file());
  const auto opened = Revocations::open(file(), kNow);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, Error::Kind::bad_input);
  EXPECT_THAT(opened.error().message, HasSubstr(file().string()));
}

TEST_F(RevocationsFile, ChangeNothingWhenTheyCannotBeWritten) {
  const auto revocations = *Revocations::open(folder_ / "gone" / "revoked.json", kNow);
  const auto version = revocations->version();
  const auto added = revocations->add(token("t1"), kNow);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().kind, Error::Kind::unavailable);
  EXPECT_THAT(added.error().message, HasSubstr("gone/revoked.json"));
  EXPECT_FALSE(revocations->revoked(principal("t1")));
  EXPECT_EQ(revocations->version(), version);
}

TEST_F(RevocationsFile, HoldAHundredThousandAndNoMore) {
  std::string text = R"({"revoked": [{"jti": "t0"})";
  for (int i = 1; i < 100'000; ++i) text += R"(,{"jti":"t)" + std::to_string(i) + "\"}";
  write(text + "]}");
  const auto revocations = open();
  EXPECT_TRUE(revocations->revoked(principal("t99999")));
  const auto added = revocations->add(token("one more"), kNow);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().kind, Error::Kind::unavailable);
  EXPECT_FALSE(revocations->revoked(principal("one more")));
  EXPECT_TRUE(revocations->add(token("t7"), kNow));  // known already
  write(text + R"(,{"jti": "one more"}]})");
  EXPECT_THAT(revocations->reload(kNow).error().message, HasSubstr("more than 100000"));
}

TEST_F(RevocationsFile, MayBeAskedWhileTheyChange) {
  const auto revocations = open();
  ASSERT_TRUE(revocations->add(token("always"), kNow));
  std::atomic<bool> done{false};
  std::atomic<int> missed{0};
  {
    std::vector<std::jthread> readers;
    for (int t = 0; t < 4; ++t)
      readers.emplace_back([&] {
        while (!done)
          if (!revocations->revoked(principal("always"))) ++missed;
      });
    for (int i = 0; i < 50; ++i) {
      ASSERT_TRUE(revocations->add(token("t" + std::to_string(i)), kNow));
      ASSERT_TRUE(revocations->reload(kNow));
    }
    done = true;
  }
  EXPECT_EQ(missed, 0);
  EXPECT_THAT(revocations->list(), SizeIs(51));
}

}  // namespace
}  // namespace tunneld::access
