#include "tunneld/access/local_issuer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/tunneld/access/token_forge.h"
#include "tunneld/access/secret_file.h"
#include "tunneld/access/token_verifier.h"

namespace tunneld::access {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
namespace fs = std::filesystem;

const std::chrono::system_clock::time_point kWall{1'800'000'000s};

/// A folder of its own for each test, removed afterwards.
class SecretFiles : public testing::Test {
 protected:
  SecretFiles() {
    std::string pattern = (fs::temp_directory_path() / "access-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~SecretFiles() override { fs::remove_all(folder_); }

  std::string path(const std::string& name = "issuer.pem") const { return (folder_ / name).string(); }
  std::string write(const std::string& content, unsigned mode = 0600) const {
    std::ofstream(path()) << content;
    ::chmod(path().c_str(), mode);
    return path();
  }
  static unsigned mode(const std::string& file) {
    struct stat facts {};
    ::stat(file.c_str(), &facts);
    return facts.st_mode & 07777;
  }
  static std::string content(const std::string& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  fs::path folder_;
};
using LocalIssuerFile = SecretFiles;

std::string pem(EVP_PKEY* key, const char* passphrase = nullptr) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PKCS8PrivateKey(
      bio, key, passphrase != nullptr ? EVP_aes_256_cbc() : nullptr, passphrase,
      passphrase != nullptr ? static_cast<int>(std::string_view(passphrase).size()) : 0, nullptr, nullptr);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

std::unique_ptr<TokenVerifier> verifier_for(const LocalIssuer& issuer) {
  auto keys = JwkSet::parse(issuer.jwks());
  EXPECT_TRUE(keys) << keys.error().message;
  return *TokenVerifier::create(*validated({}), std::make_shared<const JwkSet>(std::move(*keys)));
}

TEST(LocalIssuer, MakesTokensOurVerifierAccepts) {
  const auto issuer = LocalIssuer::generate();
  ASSERT_TRUE(issuer);
  const auto token = issuer->sign(
      {.subject = "alice", .tier = "premium", .scopes = {"a", "b:c"}, .lifetime = 90min}, {}, kWall + 700ms);
  ASSERT_TRUE(token) << token.error().message;
  const auto verdict = verifier_for(*issuer)->verify(token->reveal(), kWall + 1s, {});
  ASSERT_TRUE(verdict) << label(verdict.error().reason);
  const tunnel::Principal& who = verdict->principal();
  EXPECT_EQ(who.issuer, "tunneld");
  EXPECT_EQ(who.subject, "alice");
  EXPECT_EQ(who.tier, tunnel::Tier::premium);
  EXPECT_EQ(who.scopes, (std::vector<std::string>{"a", "b:c"}));
  EXPECT_EQ(who.expires_at, kWall + 90min);
  EXPECT_EQ(who.token_id.size(), 22u);
  EXPECT_EQ(verdict->token->key_id, issuer->kid());
  const auto other = issuer->sign({.subject = "alice", .scopes = {}}, {}, kWall);
  EXPECT_NE(verifier_for(*issuer)->verify(other->reveal(), kWall, {})->principal().token_id, who.token_id);
}

TEST(LocalIssuer, PutsTierAndScopesIntoTheConfiguredClaims) {
  const auto issuer = LocalIssuer::generate();
  const auto token =
      issuer->sign({.subject = "alice", .tier = "enterprise", .scopes = {"x"}},
                   {.issuer = "i", .audience = "a", .tier_claim = "plan", .scope_claim = "scp"}, kWall);
  Options options;
  options.issuer = "i";
  options.audience = "a";
  options.tier_claim = "plan";
  options.scope_claim = "scp";
  auto checks =
      *TokenVerifier::create(options, std::make_shared<const JwkSet>(*JwkSet::parse(issuer->jwks())));
  const auto verdict = checks->verify(token->reveal(), kWall, {});
  ASSERT_TRUE(verdict) << label(verdict.error().reason);
  EXPECT_EQ(verdict->principal().tier, tunnel::Tier::enterprise);
  EXPECT_TRUE(verdict->principal().has_scope("x"));
}

TEST(LocalIssuer, RefusesToSignWhatItsVerifierWouldRefuse) {
  const auto issuer = LocalIssuer::generate();
  const struct {
    TokenRequest request;
    const char* why;
  } rows[] = {
      {{.subject = "", .scopes = {}}, "subject"},
      {{.subject = std::string(256, 's'), .scopes = {}}, "subject"},
      {{.subject = "a\nb", .scopes = {}}, "subject"},
      {{.subject = "\xc3\xa4", .scopes = {}}, "subject"},
      {{.subject = "a", .tier = "gold", .scopes = {}}, "tier"},
      {{.subject = "a", .tier = "", .scopes = {}}, "tier"},
      {{.subject = "a", .scopes = {"x y"}}, "scope"},
      {{.subject = "a", .scopes = {""}}, "scope"},
      {{.subject = "a", .scopes = {}, .lifetime = 0s}, "lifetime"},
      {{.subject = "a", .scopes = {}, .lifetime = -5s}, "lifetime"},
      {{.subject = "a", .scopes = {}, .lifetime = 24h + 1s}, "lifetime"},
  };
  for (const auto& row : rows) {
    const auto token = issuer->sign(row.request, {}, kWall);
    ASSERT_FALSE(token) << row.why;
    EXPECT_EQ(token.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(token.error().message, HasSubstr(row.why));
  }
  const auto longest =
      issuer->sign({.subject = std::string(255, 's'), .scopes = {}, .lifetime = 24h}, {}, kWall);
  ASSERT_TRUE(longest);
  EXPECT_TRUE(verifier_for(*issuer)->verify(longest->reveal(), kWall, {}));
}

TEST(LocalIssuer, NamesItsKeyByTheThumbprintOfRfc8037) {
  // RFC 8037 appendix A.1 and A.3: this key has this thumbprint.
  const std::string seed = *base64url_decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
  EVP_PKEY* key = EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(seed.data()), seed.size());
  std::string pattern = (fs::temp_directory_path() / "access-XXXXXX").string();
  const int fd = ::mkstemp(pattern.data());
  ::close(fd);
  std::ofstream(pattern) << pem(key);
  EVP_PKEY_free(key);
  const auto issuer = LocalIssuer::load(pattern);
  fs::remove(pattern);
  ASSERT_TRUE(issuer) << issuer.error().message;
  EXPECT_EQ(issuer->kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
  EXPECT_THAT(issuer->jwks(), HasSubstr("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
}

TEST_F(LocalIssuerFile, KeepsTheKeyAcrossRestarts) {
  const auto first = LocalIssuer::load_or_create(path());
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(mode(path()), 0600u);
  EXPECT_THAT(content(path()), testing::StartsWith("-----BEGIN PRIVATE KEY-----")) << "PKCS#8";
  EXPECT_EQ(files(), 1u) << "no temporary file is left";
  const auto second = LocalIssuer::load_or_create(path());
  ASSERT_TRUE(second);
  EXPECT_EQ(second->kid(), first->kid());
  const auto token = first->sign({.subject = "alice", .scopes = {}}, {}, kWall);
  EXPECT_TRUE(verifier_for(*second)->verify(token->reveal(), kWall, {}));
}

TEST_F(LocalIssuerFile, NeverReplacesAKey) {
  const auto first = LocalIssuer::generate();
  ASSERT_TRUE(first->save(path()));
  const std::string before = content(path());
  const auto again = LocalIssuer::generate()->save(path());
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr(path()));
  EXPECT_EQ(content(path()), before);
  EXPECT_EQ(files(), 1u);
}

TEST_F(LocalIssuerFile, GivesTwoProcessesThatStartAtOnceTheSameKey) {
  std::vector<std::string> kids(8);
  std::vector<std::thread> threads;
  for (auto& kid : kids)
    threads.emplace_back([this, &kid] {
      if (const auto issuer = LocalIssuer::load_or_create(path())) kid = issuer->kid();
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(kids.front().size(), 43u);
  EXPECT_THAT(kids, testing::Each(kids.front()));
  EXPECT_EQ(files(), 1u);
}

TEST_F(LocalIssuerFile, RefusesFilesOthersMayRead) {
  ASSERT_TRUE(LocalIssuer::generate()->save(path()));
  for (const unsigned allowed : {0600u, 0400u, 0640u, 0440u}) {
    ::chmod(path().c_str(), allowed);
    EXPECT_TRUE(LocalIssuer::load(path())) << std::oct << allowed;
  }
  for (const unsigned refused : {0644u, 0660u, 0604u, 0641u, 0650u, 0700u, 04600u, 0666u}) {
    ::chmod(path().c_str(), refused);
    const auto issuer = LocalIssuer::load_or_create(path());
    ASSERT_FALSE(issuer) << std::oct << refused;
    EXPECT_EQ(issuer.error().kind, Error::Kind::denied);
    EXPECT_THAT(issuer.error().message,
                testing::AllOf(HasSubstr(path()), HasSubstr("wider than 0640"), HasSubstr("chmod 600")));
  }
}

TEST_F(LocalIssuerFile, RefusesWhatIsNotAnEd25519KeyAndLeavesItAlone) {
  const auto rsa = forge::rsa_key(2048);
  const auto ed448 = forge::ed_key("ED448");
  const auto ed = forge::ed_key();
  const std::string good = pem(ed.get());
  const struct {
    const char* what;
    std::string content;
    const char* why;
  } rows[] = {
      {"empty", "", "no unencrypted private key"},
      {"text", "hello\n", "no unencrypted private key"},
      {"cut short", good.substr(0, good.size() / 2), "no unencrypted private key"},
      {"encrypted", pem(ed.get(), "secret"), "no unencrypted private key"},
      {"RSA", pem(rsa.get()), "not an Ed25519 key"},
      {"Ed448", pem(ed448.get()), "not an Ed25519 key"},
      {"huge", std::string(20'000, '\n') + good, "larger than"},
  };
  for (const auto& row : rows) {
    write(row.content);
    const auto issuer = LocalIssuer::load_or_create(path());
    ASSERT_FALSE(issuer) << row.what;
    EXPECT_EQ(issuer.error().kind, Error::Kind::bad_input) << row.what;
    EXPECT_THAT(issuer.error().message, testing::AllOf(HasSubstr(path()), HasSubstr(row.why))) << row.what;
    EXPECT_EQ(content(path()), row.content) << row.what;
  }
}

TEST_F(LocalIssuerFile, SaysWhatIsInTheWay) {
  const auto absent = LocalIssuer::load(path());
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().kind, Error::Kind::not_found);
  EXPECT_THAT(absent.error().message, HasSubstr(path()));

  const auto nowhere = LocalIssuer::load_or_create(path("missing/issuer.pem"));
  ASSERT_FALSE(nowhere);
  EXPECT_THAT(nowhere.error().message, HasSubstr("missing/issuer.pem"));

  fs::create_directory(path("folder"));
  EXPECT_FALSE(LocalIssuer::load_or_create(path("folder")));

  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  const auto fifo = LocalIssuer::load(path("fifo"));
  ASSERT_FALSE(fifo) << "and it did not hang";
  EXPECT_THAT(fifo.error().message, HasSubstr("not a regular file"));
}

TEST_F(LocalIssuerFile, FollowsTheLinksOfASecretVolume) {
  ASSERT_TRUE(LocalIssuer::generate()->save(path("target.pem")));
  fs::create_symlink(path("target.pem"), path());
  EXPECT_TRUE(LocalIssuer::load(path()));
  ::chmod(path("target.pem").c_str(), 0644);
  EXPECT_FALSE(LocalIssuer::load(path())) << "the target's mode counts";
}

using SharedSecretFile = SecretFiles;
TEST_F(SharedSecretFile, IsReadWithoutItsLineEnd) {
  const std::string secret(32, 'k');
  for (const char* end : {"", "\n", "\r\n"}) {
    write(secret + end);
    const auto read = read_shared_secret(path());
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->reveal(), secret);
  }
  write(std::string(31, 'k') + "\n");
  const auto small = read_shared_secret(path());
  ASSERT_FALSE(small);
  EXPECT_THAT(small.error().message, testing::AllOf(HasSubstr(path()), HasSubstr("32 bytes")));
  EXPECT_THAT(small.error().message, testing::Not(HasSubstr("kkk")));
  write(secret, 0644);
  EXPECT_FALSE(read_shared_secret(path()));
}

}  // namespace
}  // namespace tunneld::access
