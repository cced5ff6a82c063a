#include "tunnelctl/client/kept_requests.h"

#include <sys/stat.h>

#include <fstream>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "tests/tunnelctl/client/temporary_folder.h"

namespace tunnelctl::client {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using std::chrono::system_clock;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const system_clock::time_point kStart{1'767'225'600'123ms};

tunnel::RequestHead head_of(const std::string& text) {
  auto head = tunnel::parse_request_head(text, {});
  if (!head) throw std::invalid_argument(std::string(head.error().reason));
  return std::move(*head);
}

KeptRequest request(const std::string& id, system_clock::time_point queued = kStart,
                    const std::string& body = "the body") {
  KeptRequest made;
  made.service = "web";
  made.request_id = id;
  made.peer_address = "127.0.0.1";
  made.queued = queued;
  made.body = body;
  made.head = head_to_keep(head_of("PUT /a?b=c HTTP/1.1\r\nHost: here:8080\r\nX-Tunnel-Priority: high\r\n"
                                   "Authorization: Bearer secret-token\r\nContent-Length: 8\r\n\r\n"),
                           body.size(), {});
  return made;
}

class KeptRequestsTest : public testing::Test {
 protected:
  KeptRequests::Options options() {
    KeptRequests::Options made;
    made.folder = folder();
    made.server = "wss://tunnel.example.org";
    made.now = [this] { return now; };
    return made;
  }
  fs::path folder() const { return place.path() / "kept"; }
  std::unique_ptr<KeptRequests> open() { return open(options()); }
  std::unique_ptr<KeptRequests> open(KeptRequests::Options with) {
    auto opened =
        KeptRequests::open(std::move(with), [this](std::string_view line) { told.emplace_back(line); });
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().message);
    return opened ? std::move(*opened) : nullptr;
  }
  std::string failure(KeptRequests::Options with) {
    const auto opened = KeptRequests::open(std::move(with), [](std::string_view) {});
    return opened ? "opened" : opened.error().message;
  }

  /// The files of requests that are loaded.
  std::vector<fs::path> files() const { return files_in(folder()); }
  std::vector<fs::path> quarantined() const { return files_in(folder() / "quarantine"); }
  static std::vector<fs::path> files_in(const fs::path& folder) {
    std::vector<fs::path> found;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none))
      if (entry.path().filename().string().find(".kept") != std::string::npos) found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }
  static std::string content(const fs::path& path) { return *config::read_file(path, 64 << 20); }
  static void put(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  }
  static std::vector<std::string> ids(const std::vector<KeptRequests::Entry>& entries) {
    std::vector<std::string> all;
    for (const auto& entry : entries) all.push_back(entry.request.request_id);
    return all;
  }

  TemporaryFolder place;
  system_clock::time_point now = kStart + 1s;
  std::vector<std::string> told;
};

// The value ---------------------------------------------------------------------------------------

TEST(KeptRequest, IsReadAsItWasWritten) {
  const auto one = request("corr-1");
  const auto text = to_text(one);
  const auto back = parse_kept_request(text);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_text(*back), text);
  EXPECT_EQ(back->service, "web");
  EXPECT_EQ(back->request_id, "corr-1");
  EXPECT_EQ(back->queued, kStart);
  EXPECT_EQ(back->head.method, "PUT");
  EXPECT_EQ(back->head.target, "/a?b=c");
  EXPECT_EQ(back->body, "the body");
}

TEST(KeptRequest, HasNoCredentialsAndNothingThatFramedItsBody) {
  const auto kept = head_to_keep(
      head_of(
          "PUT / HTTP/1.1\r\nHost: h\r\nauthorization: Basic x\r\nCookie: a=b\r\nProxy-Authorization: p\r\n"
          "X-API-Key: k\r\nX_Api_Key: k\r\nX-Session: s\r\nx_session: s\r\nX-Other: stays\r\n"
          "Expect: 100-continue\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"),
      4, {"x-session"});
  std::vector<std::string> names;
  for (const auto& field : kept.fields) names.push_back(field.name);
  EXPECT_THAT(names, ElementsAre("Host", "X-Other"));
  EXPECT_FALSE(kept.expects_continue);
  ASSERT_TRUE(std::holds_alternative<tunnel::SizedBody>(kept.body));
  EXPECT_EQ(std::get<tunnel::SizedBody>(kept.body).bytes, 4U);
}

TEST(KeptRequest, IsOfHighPriorityAndMayBeSentTwice) {
  const std::pair<const char*, bool> rows[] = {
      {"GET / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\n\r\n", true},
      {"HEAD / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\n\r\n", true},
      {"OPTIONS / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\n\r\n", true},
      {"PUT / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\n\r\n", true},
      {"DELETE / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\n\r\n", true},
      {"POST / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\nIdempotency-Key: k\r\n\r\n", true},
      {"POST / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\n\r\n", false},
      {"PATCH / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: normal\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: low\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: urgent\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: h\r\nX-Tunnel-Priority: high\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
       false}};
  for (const auto& [head, kept] : rows) EXPECT_EQ(may_be_kept(head_of(head)), kept) << head;
}

TEST(KeptRequest, IsRefusedWhenItIsWrittenInAnyOtherWay) {
  const auto good = to_text(request("corr-1"));
  ASSERT_TRUE(parse_kept_request(good));
  const std::pair<std::string, std::string> changes[] = {
      {"tunnel-kept 1", "tunnel-kept 2"},
      {"queued 1767225600123", "queued -5"},
      {"queued 1767225600123", "queued 01767225600123"},
      {"queued 1767225600123", "queued 9999999999999999999"},
      {"queued 1767225600123", "queued "},
      {"service web", "service Web"},
      {"service web", "service ../web"},
      {"request corr-1", "request corr 1"},
      {"request corr-1", "request " + std::string(65, 'x')},
      {"peer 127.0.0.1", "peer nobody"},
      {"PUT /a", "POST /a"},
      {"PUT /a", "CONNECT /a"},
      {"Priority: high", "Priority: low"},
      {"Priority: high", "Priority:high"},
      {"Content-Length: 8", "Content-Length: 7"},
      {"Content-Length: 8", "Content-Length: 9"},
      {"Content-Length: 8", "Transfer-Encoding: chunked"},
      {"\r\n\r\n", "\r\nContent-Length: 8\r\n\r\n"},
      {"\r\n\r\n", "\n\n"}};
  for (const auto& [from, to] : changes) {
    auto text = good;
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    EXPECT_FALSE(parse_kept_request(text)) << from << " -> " << to;
  }
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(parse_kept_request(std::string_view(good).substr(0, size))) << size;
  EXPECT_FALSE(parse_kept_request(good + "x"));
}

TEST(Sealing, OpensOnlyWithItsKeyAndForWhatItWasSealed) {
  const auto key = Sealing::new_key(), other = Sealing::new_key();
  ASSERT_TRUE(key && other);
  const Sealing sealing(*key);
  for (const std::string text : {"", "x", "a longer text that is more than one block of AES"}) {
    const auto sealed = sealing.seal(text, "for this");
    ASSERT_TRUE(sealed);
    EXPECT_EQ(sealed->size(), text.size() + Sealing::kOverhead);
    EXPECT_EQ(*sealing.open(*sealed, "for this"), text);
    EXPECT_NE(*sealing.seal(text, "for this"), *sealed) << "a nonce of its own";
    EXPECT_EQ(sealing.open(*sealed, "for that").error().kind, Error::Kind::bad_input);
    EXPECT_EQ(Sealing(*other).open(*sealed, "for this").error().kind, Error::Kind::bad_input);
    for (std::size_t size = 0; size < sealed->size(); ++size)
      EXPECT_FALSE(sealing.open(std::string_view(*sealed).substr(0, size), "for this"));
  }
  EXPECT_EQ(sealing.name_of("x"), sealing.name_of("x"));
  EXPECT_NE(sealing.name_of("x"), sealing.name_of("y"));
  EXPECT_NE(sealing.name_of("x"), Sealing(*other).name_of("x"));
}

// From one run to the next ------------------------------------------------------------------------

TEST_F(KeptRequestsTest, AreThereInTheNextRunOldestFirstAndGoWhenAnswered) {
  {
    auto store = open();
    ASSERT_TRUE(store->keep(request("second", kStart)));
    ASSERT_TRUE(store->keep(request("first", kStart - 1s)));
    EXPECT_EQ(store->size(), 2U);
  }
  {
    auto store = open();
    const auto entries = store->restore();
    EXPECT_THAT(ids(entries), ElementsAre("first", "second"));
    EXPECT_EQ(to_text(entries[1].request), to_text(request("second", kStart)));
    store->answered(entries[0].id);
    EXPECT_EQ(files().size(), 1U);
  }
  EXPECT_THAT(ids(open()->restore()), ElementsAre("second")) << "what has no answer stays";
  EXPECT_TRUE(told.empty());
}

TEST_F(KeptRequestsTest, LieOnDiskEncryptedAndForTheirOwnerAlone) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  const auto mode = [](const fs::path& path) {
    struct stat about {};
    EXPECT_EQ(::stat(path.c_str(), &about), 0) << path;
    return about.st_mode & 07777U;
  };
  EXPECT_EQ(mode(folder()), 0700U);
  EXPECT_EQ(mode(folder() / "key"), 0600U);
  ASSERT_EQ(files().size(), 1U);
  EXPECT_EQ(mode(files()[0]), 0600U);
  for (const auto* plain : {"the body", "/a?b=c", "here:8080", "web", "corr-1", "secret-token"})
    EXPECT_THAT(content(files()[0]), Not(HasSubstr(plain)));
}

TEST_F(KeptRequestsTest, UseOneKeyThatIsMadeOnce) {
  open();
  const auto key = content(folder() / "key");
  EXPECT_EQ(key.size(), Sealing::kKeyBytes);
  open();
  EXPECT_EQ(content(folder() / "key"), key);
}

TEST_F(KeptRequestsTest, OfThisRunAreNotSentByIt) {
  auto store = open();
  EXPECT_TRUE(store->restore().empty());
  ASSERT_TRUE(store->keep(request("corr-1")));
  EXPECT_EQ(store->size(), 1U);
  EXPECT_TRUE(store->restore().empty());
  EXPECT_EQ(files().size(), 1U);
}

TEST_F(KeptRequestsTest, AreDroppedAndToldWhenTheyAreTooOld) {
  {
    auto store = open();
    ASSERT_TRUE(store->keep(request("old", kStart)));
    ASSERT_TRUE(store->keep(request("young", kStart + 1s)));
  }
  now = kStart + 5min;
  auto store = open();
  EXPECT_THAT(ids(store->restore()), ElementsAre("young"));
  EXPECT_THAT(told, ElementsAre(HasSubstr("PUT web, request old was kept for 5 minutes, is dropped")));
  EXPECT_EQ(files().size(), 1U);
}

TEST_F(KeptRequestsTest, AreDroppedWhenTheClockWentBackSoFarThatTheirAgeIsUnknown) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  now = kStart - 4min;
  EXPECT_THAT(ids(open()->restore()), ElementsAre("corr-1"));
  now = kStart - 1h;
  EXPECT_TRUE(open()->restore().empty());
  EXPECT_EQ(told.size(), 1U);
}

TEST_F(KeptRequestsTest, AreNotTakenWhenTheyHaveWaitedForTooLong) {
  EXPECT_FALSE(open()->keep(request("corr-1", now - 5min)));
  EXPECT_TRUE(files().empty());
}

TEST_F(KeptRequestsTest, AreOneWhenTheyAreTheSameAndTwoWhenOnlyTheIdIs) {
  auto store = open();
  const auto post = [](const std::string& id, const std::string& key, const std::string& body) {
    auto made = request(id, kStart, body);
    made.head.method = "POST";
    made.head.fields.push_back({"Idempotency-Key", key});
    return made;
  };
  ASSERT_TRUE(store->keep(request("corr-1")));
  ASSERT_TRUE(store->keep(request("corr-1", kStart + 1ms)));
  EXPECT_EQ(store->size(), 1U);
  ASSERT_TRUE(store->keep(request("corr-1", kStart, "another body")));
  EXPECT_EQ(store->size(), 2U) << "callers give one id to all requests of an operation";
  ASSERT_TRUE(store->keep(request("corr-2")));
  EXPECT_EQ(store->size(), 3U);
  ASSERT_TRUE(store->keep(post("corr-3", "k", "pay")));
  ASSERT_TRUE(store->keep(post("corr-4", "k", "pay")));
  EXPECT_EQ(store->size(), 4U) << "the key says that it is the same";
  ASSERT_TRUE(store->keep(post("corr-3", "l", "pay")));
  EXPECT_EQ(store->size(), 5U);
  EXPECT_EQ(files().size(), 5U);
}

TEST_F(KeptRequestsTest, AreSentOnceThoughAFileWasCopied) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  fs::copy_file(files()[0], folder() / "copy.kept");
  auto store = open();
  EXPECT_THAT(ids(store->restore()), ElementsAre("corr-1"));
  EXPECT_THAT(told, ElementsAre(HasSubstr("kept twice")));
  EXPECT_EQ(files().size(), 1U);
}

// Limits ------------------------------------------------------------------------------------------

TEST_F(KeptRequestsTest, AreFiftyAtMostWithThoseOfEarlierRuns) {
  {
    auto store = open();
    for (int n = 0; n < 30; ++n) ASSERT_TRUE(store->keep(request("early-" + std::to_string(n))));
  }
  auto store = open();
  const auto entries = store->restore();
  EXPECT_EQ(entries.size(), 30U);
  for (int n = 0; n < 20; ++n) ASSERT_TRUE(store->keep(request("late-" + std::to_string(n))));
  const auto refused = store->keep(request("one-more"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::unavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("50 kept requests already"));
  EXPECT_TRUE(store->keep(request("late-3"))) << "one that is there takes no place";
  store->answered(entries[0].id);
  EXPECT_TRUE(store->keep(request("one-more")));
  EXPECT_EQ(files().size(), 50U);
}

TEST_F(KeptRequestsTest, TakeFourMebibytesAtMost) {
  auto store = open();
  const std::string mebibyte(1024 * 1024, 'x');
  for (int n = 0; n < 3; ++n)
    ASSERT_TRUE(store->keep(request("corr-" + std::to_string(n), kStart, mebibyte)));
  const auto refused = store->keep(request("corr-3", kStart, mebibyte));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("does not fit"));
  EXPECT_TRUE(store->keep(request("small")));
  EXPECT_LE(store->bytes(), 4U * 1024 * 1024);
  EXPECT_EQ(store->room(), 4U * 1024 * 1024 - store->bytes());
  store.reset();
  EXPECT_EQ(open()->restore().size(), 4U);
}

TEST_F(KeptRequestsTest, OfAFolderThatHoldsMoreThanThatThePlentyIsPutAside) {
  {
    auto many = options();
    many.max_requests = 60;
    auto store = open(many);
    for (int n = 0; n < 60; ++n) ASSERT_TRUE(store->keep(request("corr-" + std::to_string(n))));
  }
  EXPECT_EQ(open()->restore().size(), 50U);
  EXPECT_EQ(quarantined().size(), 10U);
  EXPECT_EQ(told.size(), 10U);
}

// A world that fails ------------------------------------------------------------------------------

TEST_F(KeptRequestsTest, AreNotPromisedWhenTheDiskDoesNotTakeThem) {
  auto with = options();
  unsigned writes = 0;
  with.write = [&](const fs::path& path, std::string_view text) -> Result<void> {
    if (++writes == 2) return fail(Error::Kind::unavailable, path.string() + ": no space left on device");
    if (writes != 3) return atomic_file::write(path, text, 0600);
    (void)atomic_file::write(path, text, 0600);
    return fail(Error::Kind::unavailable, "written, but its folder cannot be flushed to disk");
  };
  auto store = open(with);
  EXPECT_TRUE(store->keep(request("one")));
  const auto full = store->keep(request("two"));
  ASSERT_FALSE(full);
  EXPECT_THAT(full.error().message, HasSubstr("no space left"));
  EXPECT_FALSE(store->keep(request("three"))) << "who is told no must not find it sent";
  EXPECT_TRUE(store->keep(request("four")));
  EXPECT_EQ(store->size(), 2U);
  store.reset();
  EXPECT_EQ(open()->restore().size(), 2U);
}

TEST_F(KeptRequestsTest, AreFoundDamagedWhicheverByteHasChanged) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  const auto path = files()[0];
  const auto good = content(path);
  for (std::size_t at = 0; at < good.size(); ++at) {
    auto bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    put(path, bad);
    told.clear();
    ASSERT_TRUE(open()->restore().empty()) << "byte " << at;
    ASSERT_EQ(told.size(), 1U) << "byte " << at;
    EXPECT_THAT(told[0], HasSubstr(path.string()));
    EXPECT_FALSE(fs::exists(path));
    EXPECT_LE(quarantined().size(), 50U);
  }
  told.clear();
  EXPECT_TRUE(open()->restore().empty()) << "never loaded again";
  EXPECT_TRUE(told.empty());
  put(path, good);
  EXPECT_EQ(open()->restore().size(), 1U) << "the file itself was a good one";
}

TEST_F(KeptRequestsTest, AreFoundDamagedWhereverTheyAreCutOff) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  const auto path = files()[0];
  const auto good = content(path);
  for (std::size_t size = 0; size < good.size(); size += 7) {
    put(path, good.substr(0, size));
    ASSERT_TRUE(open()->restore().empty()) << size;
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_THAT(told.back(), HasSubstr("quarantine"));
}

TEST_F(KeptRequestsTest, ThatCannotBeReadDoNotStandInTheWayOfOthers) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  put(folder() / "0.kept", "nonsense");
  put(folder() / "z.kept", std::string(5 * 1024 * 1024, 'x'));
  put(folder() / "readme.txt", "of somebody else");
  fs::create_directory(folder() / "folder.kept");
  fs::create_symlink(files()[0], folder() / "link.kept");
  EXPECT_THAT(ids(open()->restore()), ElementsAre("corr-1"));
  EXPECT_EQ(told.size(), 4U);
  EXPECT_EQ(files().size(), 1U);
  EXPECT_TRUE(fs::exists(folder() / "readme.txt"));
}

TEST_F(KeptRequestsTest, OfAnotherKeyArePutAside) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  fs::remove(folder() / "key");
  EXPECT_TRUE(open()->restore().empty());
  EXPECT_EQ(quarantined().size(), 1U);
}

TEST_F(KeptRequestsTest, OfAnotherServerArePutAside) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  auto other = options();
  other.server = "wss://other.example.org";
  EXPECT_TRUE(open(other)->restore().empty());
  EXPECT_EQ(quarantined().size(), 1U);
}

TEST_F(KeptRequestsTest, AreNotTouchedWhileTheKeyIsNoKey) {
  ASSERT_TRUE(open()->keep(request("corr-1")));
  const auto key = content(folder() / "key");
  put(folder() / "key", "short");
  EXPECT_THAT(failure(options()), HasSubstr("is no key of tunnelctl"));
  put(folder() / "key", key + "x");
  EXPECT_THAT(failure(options()), HasSubstr("larger than 64 bytes"));
  put(folder() / "key", key);
  fs::permissions(folder() / "key", fs::perms(0644));
  EXPECT_THAT(failure(options()), HasSubstr("chmod 600"));
  fs::permissions(folder() / "key", fs::perms(0600));
  EXPECT_EQ(open()->restore().size(), 1U);
}

TEST_F(KeptRequestsTest, AreRefusedToASecondRun) {
  auto first = open();
  const auto second = KeptRequests::open(options(), [](std::string_view) {});
  ASSERT_FALSE(second);
  EXPECT_TRUE(second.error().in_use);
  EXPECT_THAT(second.error().message, HasSubstr("another tunnelctl connect keeps its requests in"));
  EXPECT_THAT(second.error().message, HasSubstr("--state-dir"));
  first.reset();
  EXPECT_TRUE(open());
}

TEST_F(KeptRequestsTest, LeaveNothingOfAWriteThatWasKilled) {
  open();
  put(folder() / "0123456789abcdef0123456789abcdef.kept.aB3dEf", "half");
  put(folder() / "key.aB3dEf", "half");
  EXPECT_TRUE(open()->restore().empty());
  EXPECT_TRUE(told.empty());
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder())) names.insert(entry.path().filename());
  EXPECT_THAT(names, ElementsAre("key", "lock"));
}

TEST_F(KeptRequestsTest, WantAFolderThatIsTheirOwn) {
  fs::create_directory(folder());
  fs::permissions(folder(), fs::perms(0755));
  EXPECT_THAT(failure(options()), HasSubstr("chmod 700"));
}

TEST(KeptFolder, IsTheServersOwn) {
  const auto name = [](std::string_view server) {
    return kept_folder("", "/state", "/home/ann", server)->string();
  };
  EXPECT_THAT(name("wss://tunnel.example.org"),
              testing::MatchesRegex("/state/tunnelctl/connect/tunnel\\.example\\.org-[0-9a-f]{8}"));
  EXPECT_NE(name("wss://h:1"), name("wss://h_1"));
  EXPECT_NE(name("wss://h"), name("ws://h"));
  EXPECT_THAT(name("wss://[::1]:1/../.."), Not(HasSubstr("/..")));
  EXPECT_LT(name("wss://" + std::string(1000, 'h')).size(), 200U);
  const std::string server = "wss://h";
  EXPECT_THAT(kept_folder("", "relative", "/home/ann", server)->string(),
              testing::StartsWith("/home/ann/.local/state/tunnelctl/connect/h-"));
  EXPECT_THAT(kept_folder("/elsewhere", "/state", "/home/ann", server)->string(),
              testing::StartsWith("/elsewhere/h-"));
  EXPECT_THAT(kept_folder("", "", "", server).error().message, HasSubstr("--state-dir"));
}

}  // namespace
}  // namespace tunnelctl::client
