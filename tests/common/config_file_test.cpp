#include "common/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/common/config_sample.h"

namespace {

using namespace std::chrono_literals;
using config_sample::Format;
using config_sample::Options;
using config_sample::schema_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A folder of the test's own, gone afterwards.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "config-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

constexpr const char* kEverything = R"(# a comment
ssh:
  max_channels: 20
  compression: true
numbers: {offset: -9223372036854775807, serial: 9223372036854775807}
ws:
  ping: 1500ms
  drain: 1m
  max_frame: 64KiB
  path: /tunnel
log:
  format: text
auth:
  issuer: https://id.example/
  shared_secret: "multi word"
tls: {certificate: /etc/cert.pem, known_hosts: ""}
http:
  origins: [https://a.example, "https://b.example"]
upstreams:
  - name: home
    address: 192.0.2.7:22
    limits: {connect_timeout: 7s}
    labels: [x, y]
    services:
      - {name: web, port: 80}
      - {name: api, port: 8080}
  - name: office
    services:
      - {name: web, port: 81}
)";

TEST(Config, ReadsEveryKindOfValueFromAFile) {
  Options options;
  options.known_hosts = "/from/the/defaults";
  config::Schema schema = schema_of(options);
  const auto loaded = schema.load({.file_name = "f.yaml", .file_text = kEverything});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_THAT(*loaded, IsEmpty());
  EXPECT_EQ(options.max_channels, 20);
  EXPECT_TRUE(options.compression);
  EXPECT_EQ(options.offset, -9223372036854775807);
  EXPECT_EQ(options.serial, 9223372036854775807U);
  EXPECT_EQ(options.ping, 1500ms);
  EXPECT_EQ(options.drain, 60s);
  EXPECT_EQ(options.max_frame, 65536U);
  EXPECT_EQ(options.path, "/tunnel");
  EXPECT_EQ(options.format, Format::text);
  EXPECT_EQ(options.shared_secret.reveal(), "multi word");
  EXPECT_EQ(options.certificate, "/etc/cert.pem");
  EXPECT_EQ(options.known_hosts, std::nullopt);
  EXPECT_THAT(options.origins, ElementsAre("https://a.example", "https://b.example"));
  ASSERT_EQ(options.upstreams.size(), 2U);
  EXPECT_EQ(options.upstreams[0].address, "192.0.2.7:22");
  EXPECT_EQ(options.upstreams[0].connect_timeout, 7s);
  EXPECT_THAT(options.upstreams[0].labels, ElementsAre("x", "y"));
  ASSERT_EQ(options.upstreams[0].services.size(), 2U);
  EXPECT_EQ(options.upstreams[0].services[1].name, "api");
  EXPECT_EQ(options.upstreams[0].services[1].port, 8080);
  EXPECT_EQ(options.upstreams[1].connect_timeout, 5s) << "an item keeps its defaults";
}

TEST(Config, LetsTheEnvironmentWinOverTheFileAndOverridesOverBoth) {
  Options options;
  config::Schema schema = schema_of(options);
  const auto loaded =
      schema.load({.file_name = "f.yaml",
                   .file_text = "auth: {issuer: file}\nssh: {max_channels: 2}\nws: {path: /file}",
                   .environment = {{"APP_AUTH_ISSUER", "environment"},
                                   {"APP_SSH_MAX_CHANNELS", "3"},
                                   {"APP_HTTP_ORIGINS", "https://a, https://b"},
                                   {"OTHER_THING", "ignored"},
                                   {"APP_CONFIG", "read by others"}},
                   .overrides = {"ssh.max_channels=9", "ssh.max_channels=4", "ws.drain=2m"}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(options.issuer, "environment");
  EXPECT_EQ(options.max_channels, 4) << "the last override wins";
  EXPECT_EQ(options.path, "/file");
  EXPECT_EQ(options.drain, 2min);
  EXPECT_THAT(options.origins, ElementsAre("https://a", "https://b"));
  const auto effective = schema.effective();
  EXPECT_EQ(effective["auth.issuer"]["from"], "environment APP_AUTH_ISSUER");
  EXPECT_EQ(effective["ssh.max_channels"]["from"], "--set");
  EXPECT_EQ(effective["ws.path"]["from"], "f.yaml:3");
  EXPECT_EQ(effective["ws.ping"]["from"], "default");
}

TEST(Config, AcceptsAnEmptyFileAndSectionsWithoutKeys) {
  for (const char* text :
       {"", "\n", "# nothing\n", "---\n", "---\n...\n", "ssh:\nws:\n", "\xEF\xBB\xBFssh:\n"}) {
    SCOPED_TRACE(text);
    Options options;
    config::Schema schema = schema_of(options);
    const auto loaded =
        schema.load({.file_name = "f.yaml", .file_text = text, .environment = {{"APP_AUTH_ISSUER", "me"}}});
    EXPECT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(options.max_channels, 10);
  }
}

TEST(Config, EmptiesAListWhenToldTo) {
  Options options;
  options.origins = {"https://default"};
  options.upstreams.resize(2);
  config::Schema schema = schema_of(options);
  ASSERT_TRUE(schema.load({.file_name = "f",
                           .file_text = "upstreams: []",
                           .environment = {{"APP_AUTH_ISSUER", "me"}, {"APP_HTTP_ORIGINS", ""}}}));
  EXPECT_THAT(options.origins, IsEmpty());
  EXPECT_THAT(options.upstreams, IsEmpty());
}

TEST(Config, TakesOldNamesAndWarns) {
  Options options;
  config::Schema schema = schema_of(options);
  const auto loaded = schema.load({.environment = {{"APP_AUTH_ISSUER", "me"},
                                                   {"PING_INTERVAL", "2500"},
                                                   {"APP_SSH_MAX_CHANNELS", "7"},
                                                   {"MAX_CHANNELS", "8"}}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(options.ping, 2500ms) << "the old name counted in milliseconds";
  EXPECT_EQ(options.max_channels, 7) << "the present name wins";
  EXPECT_THAT(*loaded,
              ElementsAre("environment MAX_CHANNELS: ignored, because APP_SSH_MAX_CHANNELS or another "
                          "of its names is set",
                          "environment PING_INTERVAL: is an old name; use APP_WS_PING"));
}

TEST(Config, IgnoresWhatKubernetesPutsIntoThePod) {
  Options options;
  config::Schema schema = schema_of(options);
  const auto loaded = schema.load({.environment = {{"APP_AUTH_ISSUER", "me"},
                                                   {"APP_PORT", "tcp://10.0.0.1:80"},
                                                   {"APP_PORT_80_TCP_ADDR", "10.0.0.1"},
                                                   {"APP_SERVICE_HOST", "10.0.0.1"},
                                                   {"APP_SERVICE_PORT_HTTP", "80"}}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->size(), 4U);
  EXPECT_EQ(schema.load({.environment = {{"APP_AUTH_ISSUER", "me"}, {"APP_PORT", "80"}}}).error().message,
            "environment APP_PORT: unknown variable");
}

TEST(Config, ReadsASecretFromTheFileThatTheEnvironmentNames) {
  const Folder folder;
  struct Row {
    const char* content;
    const char* secret;  // null: an error
  };
  const Row rows[] = {{"hunter2", "hunter2"},   {"hunter2\n", "hunter2"}, {"hunter2\r\n", "hunter2"},
                      {" spaced ", " spaced "}, {"two\n\n", "two\n"},     {"", nullptr},
                      {"\n", nullptr}};
  for (const Row& row : rows) {
    SCOPED_TRACE(testing::PrintToString(row.content));
    Options options;
    config::Schema schema = schema_of(options);
    const auto path = folder.write("key", row.content);
    const auto loaded = schema.load(
        {.environment = {{"APP_AUTH_ISSUER", "me"}, {"APP_AUTH_SHARED_SECRET_FILE", path.string()}}});
    ASSERT_EQ(loaded.has_value(), row.secret != nullptr);
    if (row.secret != nullptr) {
      EXPECT_EQ(options.shared_secret.reveal(), row.secret);
    } else {
      EXPECT_EQ(loaded.error().message,
                "environment APP_AUTH_SHARED_SECRET_FILE: " + path.string() + ": is empty");
    }
  }
  Options options;
  config::Schema schema = schema_of(options);
  EXPECT_EQ(schema
                .load({.environment = {{"APP_AUTH_ISSUER", "me"},
                                       {"APP_AUTH_SHARED_SECRET", "a"},
                                       {"APP_AUTH_SHARED_SECRET_FILE", "/b"}}})
                .error()
                .message,
            "environment APP_AUTH_SHARED_SECRET_FILE: APP_AUTH_SHARED_SECRET is set too; set one of them");
}

TEST(Config, ShowsWhatIsInForceWithoutSecrets) {
  Options options;
  config::Schema schema = schema_of(options);
  ASSERT_TRUE(schema.load({.file_name = "f.yaml",
                           .file_text = "auth: {issuer: me, shared_secret: hunter2}\n"
                                        "upstreams:\n"
                                        "  - name: a\n"
                                        "    password: hunter2\n"
                                        "    services: [{name: s, port: 1}]\n"}));
  const auto effective = schema.effective();
  EXPECT_EQ(effective.dump().find("hunter2"), std::string::npos);
  EXPECT_EQ(effective["auth.shared_secret"],
            (nlohmann::ordered_json{{"value", "***"}, {"from", "f.yaml:1"}}));
  EXPECT_EQ(effective["upstreams"][0]["password"],
            (nlohmann::ordered_json{{"value", "***"}, {"from", "f.yaml:4"}}));
  EXPECT_EQ(effective["upstreams"][0]["services"][0]["port"],
            (nlohmann::ordered_json{{"value", 1}, {"from", "f.yaml:5"}}));
  EXPECT_EQ(effective["ws.ping"], (nlohmann::ordered_json{{"value", "30s"}, {"from", "default"}}));
  EXPECT_EQ(effective["ws.max_frame"]["value"], "1MiB");
}

TEST(Config, TellsApartWhatAReloadChangesNowAndAfterARestart) {
  Options before_options, after_options, same_options;
  config::Schema before = schema_of(before_options);
  config::Schema after = schema_of(after_options);
  config::Schema same = schema_of(same_options);
  const std::string upstream = "upstreams: [{name: a, services: [{name: s, port: ";
  const config::Sources old{.file_name = "f",
                            .file_text = "auth: {issuer: me, shared_secret: one}\n" + upstream + "1}]}]"};
  ASSERT_TRUE(before.load(old));
  ASSERT_TRUE(same.load(old));
  ASSERT_TRUE(after.load({.file_name = "f",
                          .file_text = "auth: {issuer: me, shared_secret: two}\nws: {ping: 5s}\n"
                                       "ssh: {max_channels: 3}\n" +
                                       upstream + "2}]}]"}));
  EXPECT_THAT(diff(before, after).hot, ElementsAre("ws.ping", "upstreams"));
  EXPECT_THAT(diff(before, after).cold, ElementsAre("ssh.max_channels", "auth.shared_secret"));
  EXPECT_THAT(diff(before, same).hot, IsEmpty());
  EXPECT_THAT(diff(before, same).cold, IsEmpty());
}

TEST(Config, WritesItsOwnReference) {
  Options options;
  options.shared_secret = Secret("default-secret");
  const std::string page = schema_of(options).reference();
  for (const char* line : {
           "| `ssh.max_channels` | integer | `10` | 1 to 100 | restart | `APP_SSH_MAX_CHANNELS`, old: "
           "`MAX_CHANNELS`, old: `SSH_CHANNELS` | Channels per session. | `20` |\n",
           "| `ws.ping` | duration | `30s` | 1s to 10m | hot | `APP_WS_PING`, old: `PING_INTERVAL` | Time "
           "between pings. | `30s` |\n",
           "| `auth.issuer` | text | required | – | restart | `APP_AUTH_ISSUER` | Who signs tokens. | "
           "`https://id.example/` |\n",
           "| `auth.shared_secret` | secret | – | – | restart | `APP_AUTH_SHARED_SECRET`, "
           "`APP_AUTH_SHARED_SECRET_FILE` | Key of HS256 \\| 32 bytes or more. | – |\n",
           "### Each item of `upstreams[].services`\n\n`name` differs between items.\n",
           "| `upstreams[].services[].port` | integer | required | 1 to 65535 | hot | – | Its port. | – |\n",
       }) {
    EXPECT_THAT(page, HasSubstr(line));
  }
  EXPECT_EQ(page.find("default-secret"), std::string::npos);
}

TEST(Config, RefusesASchemaThatContradictsItself) {
  int number = 0;
  for (const char* key : {"a.b", "a.b.c", "a", "a_b", "", ".x", "x.", "x..y", "Upper", "sp ace"}) {
    SCOPED_TRACE(key);
    config::Schema schema("APP");
    schema.add("a.b", &number, {});
    EXPECT_THROW(schema.add(key, &number, {}), std::logic_error);
  }
}

TEST(Config, ReadsFilesAndSaysWhyItCannot) {
  const Folder folder;
  EXPECT_EQ(config::read_file(folder.write("good", "a: 1\n")).value(), "a: 1\n");
  EXPECT_EQ(config::read_file(folder.write("empty", "")).value(), "");
  const auto largest = folder.write("largest", std::string(1024 * 1024, '#'));
  EXPECT_EQ(config::read_file(largest).value().size(), 1024U * 1024U);

  const auto missing = config::read_file(folder.path() / "missing");
  EXPECT_EQ(missing.error().kind, Error::Kind::not_found);
  EXPECT_EQ(missing.error().message,
            (folder.path() / "missing").string() + ": cannot be read: No such file or directory");
  EXPECT_EQ(config::read_file(folder.path()).error().message,
            folder.path().string() + ": cannot be read: Is a directory");
  EXPECT_EQ(config::read_file("/dev/zero").error().message, "/dev/zero: cannot be read: Invalid argument");
  const auto large = folder.write("large", std::string(1024 * 1024 + 1, '#'));
  EXPECT_EQ(config::read_file(large).error().message, large.string() + ": is larger than 1MiB");
}

TEST(Config, SeesTheEnvironmentOfTheProcess) {
  ASSERT_EQ(::setenv("CONFIG_FILE_TEST", "a=b", 1), 0);
  EXPECT_THAT(config::process_environment(), testing::Contains(testing::Pair("CONFIG_FILE_TEST", "a=b")));
  ::unsetenv("CONFIG_FILE_TEST");
}

TEST(ConfigValues, AreWrittenTheShortestWayThatReadsBackTheSame) {
  for (const char* text : {"0s", "1ms", "1500ms", "1s", "90s", "1m", "1h", "36h", "1d", "106751d"}) {
    const auto value = config::parse_duration(text, {}, 1ms);
    ASSERT_TRUE(value) << text << ": " << value.error();
    EXPECT_EQ(config::write_duration(*value), text);
  }
  for (const char* text : {"0", "1", "1023", "1KiB", "1025", "1536KiB", "1MiB", "7GiB", "8589934591GiB"}) {
    const auto value = config::parse_bytes(text, {});
    ASSERT_TRUE(value) << text << ": " << value.error();
    EXPECT_EQ(config::write_bytes(*value), text);
  }
}

TEST(ConfigValues, SuggestOnlyWhatCouldBeATypo) {
  const std::vector<std::string> known{"log.level", "log.format", "ssh.max_channels"};
  struct Row {
    std::string word;
    const char* nearest;
  };
  const Row rows[] = {{"log.levle", "log.level"},
                      {"log.lvel", "log.level"},
                      {"log.formats", "log.format"},
                      {"lgo.format", "log.format"},
                      {"ssh_max_chanels", "ssh.max_channels"},
                      {"banana", ""},
                      {"", ""},
                      {std::string(5000, 'l'), ""}};
  for (const Row& row : rows) EXPECT_EQ(config::nearest(row.word, known), row.nearest) << row.word;
}

TEST(ConfigValues, AreQuotedSafelyForATerminal) {
  EXPECT_EQ(config::quote("plain"), "\"plain\"");
  EXPECT_EQ(config::quote("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(config::quote("\x1b[31m\xff\n"), "\"\\x1b[31m\\xff\\x0a\"");
  EXPECT_EQ(config::quote("grün"), "\"grün\"");
  EXPECT_EQ(config::quote(std::string(100, 'x')), "\"" + std::string(64, 'x') + "...\"");
}

}  // namespace
