#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/common/config_sample.h"

// Every way to get a configuration wrong that we thought of, with the exact words of the answer.

#define WRITE_DURATION "; write a whole number with ms, s, m, h or d, such as 30s"
#define WRITE_SIZE "; write a number of bytes, or one with KiB, MiB or GiB, such as 64KiB"

namespace {

using config_sample::Options;
using config_sample::schema_of;

/// The message of a load that must fail, after a check that it changed nothing.
std::string refusal(config::Sources sources) {
  Options options;
  config::Schema schema = schema_of(options);
  sources.environment.emplace_back("APP_AUTH_ISSUER", "me");
  const nlohmann::ordered_json before = schema.effective();
  const auto loaded = schema.load(sources);
  EXPECT_EQ(schema.effective(), before) << "half a configuration was applied";
  EXPECT_TRUE(options.upstreams.empty());
  if (loaded) return "accepted";
  EXPECT_EQ(loaded.error().kind, Error::Kind::bad_input);
  return loaded.error().message;
}

TEST(BadConfig, InAFileIsNamedByFileLineAndKey) {
  struct Row {
    const char* text;
    const char* message;
  };
  const Row rows[] = {
      {"ssh:\n  max_channels: 1e3",
       "f.yaml:2: ssh.max_channels: \"1e3\" is not a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 10 channels",
       "f.yaml:2: ssh.max_channels: \"10 channels\" is not a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 0", "f.yaml:2: ssh.max_channels: \"0\" is out of range; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 101", "f.yaml:2: ssh.max_channels: \"101\" is out of range; allowed: 1 to 100"},
      {"ssh:\n  max_channels: -1", "f.yaml:2: ssh.max_channels: \"-1\" is out of range; allowed: 1 to 100"},
      {"ssh:\n  max_channels: +5",
       "f.yaml:2: ssh.max_channels: \"+5\" is not a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 010",
       "f.yaml:2: ssh.max_channels: \"010\" has a leading zero; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 0x10",
       "f.yaml:2: ssh.max_channels: \"0x10\" is not a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 5.0",
       "f.yaml:2: ssh.max_channels: \"5.0\" is not a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 99999999999999999999",
       "f.yaml:2: ssh.max_channels: \"99999999999999999999\" is out of range; allowed: 1 to 100"},
      {"ssh:\n  max_channels: \"\"",
       "f.yaml:2: ssh.max_channels: is empty; expected a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels:", "f.yaml:2: ssh.max_channels: is empty; expected integer (1 to 100)"},
      {"ssh:\n  max_channels: [1]", "f.yaml:2: ssh.max_channels: is a list; expected integer (1 to 100)"},
      {"ssh:\n  max_channels: {a: 1}",
       "f.yaml:2: ssh.max_channels: is a section; expected integer (1 to 100)"},
      {"ssh:\n  max_channels: \" 5\"",
       "f.yaml:2: ssh.max_channels: \" 5\" is not a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels: 1_000",
       "f.yaml:2: ssh.max_channels: \"1_000\" is not a whole number; allowed: 1 to 100"},
      {"ssh:\n  max_channels: ~", "f.yaml:2: ssh.max_channels: is empty; expected integer (1 to 100)"},
      {"ssh:\n  max_channels: -", "f.yaml:2: is not valid YAML: illegal block entry"},
      {"numbers: {offset: 9223372036854775808}",
       "f.yaml:1: numbers.offset: \"9223372036854775808\" is out of range"},
      {"numbers: {serial: -1}", "f.yaml:1: numbers.serial: \"-1\" is out of range; allowed: 0 or more"},
      {"numbers: {offset: --1}", "f.yaml:1: numbers.offset: \"--1\" is not a whole number"},
      {"ssh: {compression: yes}",
       "f.yaml:1: ssh.compression: \"yes\" is not a switch; allowed: true or false"},
      {"ssh: {compression: True}",
       "f.yaml:1: ssh.compression: \"True\" is not a switch; allowed: true or false"},
      {"ssh: {compression: 1}", "f.yaml:1: ssh.compression: \"1\" is not a switch; allowed: true or false"},
      {"ssh: {compression: \"\"}", "f.yaml:1: ssh.compression: is empty; allowed: true or false"},
      {"ws: {ping: 30}", "f.yaml:1: ws.ping: \"30\" has no unit" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: 30 s}",
       "f.yaml:1: ws.ping: \"30 s\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: 1.5s}",
       "f.yaml:1: ws.ping: \"1.5s\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: 1h30m}",
       "f.yaml:1: ws.ping: \"1h30m\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: 11m}", "f.yaml:1: ws.ping: \"11m\" is out of range; allowed: 1s to 10m"},
      {"ws: {ping: 999ms}", "f.yaml:1: ws.ping: \"999ms\" is out of range; allowed: 1s to 10m"},
      {"ws: {ping: -5s}",
       "f.yaml:1: ws.ping: \"-5s\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: 30sec}",
       "f.yaml:1: ws.ping: \"30sec\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: \"\"}", "f.yaml:1: ws.ping: is empty" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: s}", "f.yaml:1: ws.ping: \"s\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {ping: 99999999999d}", "f.yaml:1: ws.ping: \"99999999999d\" is out of range; allowed: 1s to 10m"},
      {"ws: {ping: 05s}",
       "f.yaml:1: ws.ping: \"05s\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"ws: {drain: 1500ms}",
       "f.yaml:1: ws.drain: \"1500ms\" is finer than this setting; use whole steps of 1s; allowed: 0s or "
       "more"},
      {"ws: {drain: 106752d}", "f.yaml:1: ws.drain: \"106752d\" is out of range; allowed: 0s or more"},
      {"ws: {max_frame: 1MB}",
       "f.yaml:1: ws.max_frame: \"1MB\" is not a size" WRITE_SIZE "; allowed: 1KiB to 10MiB"},
      {"ws: {max_frame: 64kib}",
       "f.yaml:1: ws.max_frame: \"64kib\" is not a size" WRITE_SIZE "; allowed: 1KiB to 10MiB"},
      {"ws: {max_frame: 1023}", "f.yaml:1: ws.max_frame: \"1023\" is out of range; allowed: 1KiB to 10MiB"},
      {"ws: {max_frame: 11MiB}", "f.yaml:1: ws.max_frame: \"11MiB\" is out of range; allowed: 1KiB to 10MiB"},
      {"ws: {max_frame: 99999999999GiB}",
       "f.yaml:1: ws.max_frame: \"99999999999GiB\" is out of range; allowed: 1KiB to 10MiB"},
      {"ws: {max_frame: \"\"}", "f.yaml:1: ws.max_frame: is empty" WRITE_SIZE "; allowed: 1KiB to 10MiB"},
      {"ws: {max_frame: -1KiB}",
       "f.yaml:1: ws.max_frame: \"-1KiB\" is not a size" WRITE_SIZE "; allowed: 1KiB to 10MiB"},
      {"ws: {max_frame: 1.5MiB}",
       "f.yaml:1: ws.max_frame: \"1.5MiB\" is not a size" WRITE_SIZE "; allowed: 1KiB to 10MiB"},
      {"log: {format: xml}", "f.yaml:1: log.format: \"xml\" is not a choice; allowed: auto, json, text"},
      {"log: {format: JSON}", "f.yaml:1: log.format: \"JSON\" is not a choice; allowed: auto, json, text"},
      {"log: {format: \"\"}", "f.yaml:1: log.format: is empty; allowed: auto, json, text"},
      {"log: {format: [json]}", "f.yaml:1: log.format: is a list; expected choice (auto, json, text)"},
      {"ws: {path: ws}", "f.yaml:1: ws.path: \"ws\" must start with /"},
      {"ws: {path: \"/a\\0b\"}", "f.yaml:1: ws.path: \"/a\\x00b\" contains a control character"},
      {"ws: {path: \"/a\\eb\"}", "f.yaml:1: ws.path: \"/a\\x1bb\" contains a control character"},
      {"ws:\n  path:", "f.yaml:2: ws.path: is empty; expected text"},
      {"auth: {shared_secret: \"hunter\\0two\"}",
       "f.yaml:1: auth.shared_secret: contains a control character"},
      {"tls: {certificate: \"a\\x01b\"}",
       "f.yaml:1: tls.certificate: \"a\\x01b\" contains a control character"},
      {"http: {origins: {a: b}}", "f.yaml:1: http.origins: is a section; expected list of texts"},
      {"http: {origins: [\"http://a\"]}", "f.yaml:1: http.origins: \"http://a\" must start with https://"},
      {"http:\n  origins:\n    - https://a\n    - {b: 1}",
       "f.yaml:4: http.origins: has an entry that is a section; expected text"},
      {"http: {origins: [\"\"]}", "f.yaml:1: http.origins: \"\" is an empty entry"},
      {"http:\n  origins:\n    - https://a\n    -",
       "f.yaml:4: http.origins: has an entry that is empty; expected text"},
      {"ssh: {max_chanels: 5}", "f.yaml:1: ssh.max_chanels: unknown key; did you mean ssh.max_channels?"},
      {"max_channels: 5", "f.yaml:1: max_channels: unknown key; did you mean ssh.max_channels?"},
      {"sshh: {max_channels: 5}", "f.yaml:1: sshh: unknown key; did you mean ssh?"},
      {"ssh.max_channels: 5",
       "f.yaml:1: ssh.max_channels: unknown key; write sections as nested maps, not with dots"},
      {"zebra: 1", "f.yaml:1: zebra: unknown key"},
      {"ssh:\n  max_channels: 5\n  max_channels: 6",
       "f.yaml:3: ssh.max_channels: is set twice, first in line 2"},
      {"ssh: {compression: true}\nlog: {format: json}\nssh: {max_channels: 5}",
       "f.yaml:3: ssh: is set twice, first in line 1"},
      {"ssh: 5", "f.yaml:1: ssh: is a single value; expected a section with keys"},
      {"ssh: [max_channels]", "f.yaml:1: ssh: is a list; expected a section with keys"},
      {"\"bad\\x1Bkey\": 1", "f.yaml:1: \"bad\\x1bkey\": unknown key"},
      {"\"\": 1", "f.yaml:1: \"\": unknown key"},
      {"<<: {ssh: 1}", "f.yaml:1: <<: unknown key"},
      {"? [a]\n: b", "f.yaml:1: a key must be plain text"},
      {"upstreams: {name: a}", "f.yaml:1: upstreams: is a section; expected list of sections"},
      {"upstreams: a", "f.yaml:1: upstreams: is a single value; expected list of sections"},
      {"upstreams: [a]", "f.yaml:1: upstreams[0]: is a single value; expected a section with keys"},
      {"upstreams:\n  - nane: a",
       "f.yaml:2: upstreams[0].nane: unknown key; did you mean name?\nf.yaml:2: upstreams[0].name: is "
       "required and not set; set it in the file\nf.yaml:2: upstreams[0].services: is required and not set; "
       "set it in the file"},
      {"upstreams:\n  - address: x\n    services: [{name: s, port: 1}]",
       "f.yaml:2: upstreams[0].name: is required and not set; set it in the file"},
      {"upstreams:\n  - {name: a, services: []}",
       "f.yaml:2: upstreams[0].services: is an empty list; at least one item is required"},
      {"upstreams:\n  - {name: a, services: [{name: s, port: 70000}]}",
       "f.yaml:2: upstreams[0].services[0].port: \"70000\" is out of range; allowed: 1 to 65535"},
      {"upstreams:\n  - {name: a, services: [{name: s, port: 1}]}\n  - {name: a, services: [{name: s, port: "
       "1}]}",
       "f.yaml:3: upstreams[1].name: is the same as in line 2; each item needs its own"},
      {"upstreams:\n  - {name: a, services: [{name: s, port: 1}, {name: s, port: 2}]}",
       "f.yaml:2: upstreams[0].services[1].name: is the same as in line 2; each item needs its own"},
      {"upstreams:\n  - {name: a, services: [{name: s, port: 1}, {name: t, port: 1}, {name: u, port: 1}, "
       "{name: v, port: 1}]}",
       "f.yaml:2: upstreams[0].services: has 4 items; allowed: 3 or less"},
      {"upstreams:\n  - name: a\n    limits: {connect_timeout: 5}\n    services: [{name: s, port: 1}]",
       "f.yaml:3: upstreams[0].limits.connect_timeout: \"5\" has no unit" WRITE_DURATION
       "; allowed: 1s to 1m"},
      {"upstreams: [{name: a, services: [{name: s, port: 1, prot: 2}]}]",
       "f.yaml:1: upstreams[0].services[0].prot: unknown key; did you mean port?"},
      {"upstreams:\n  -", "f.yaml:2: upstreams[0]: is empty; expected a section with keys"},
      {"- a\n- b", "f.yaml:1: the file must be a map of keys, such as \"log:\""},
      {"just text", "f.yaml:1: the file must be a map of keys, such as \"log:\""},
      {"a: &x 1", "f.yaml:1: anchors (&name) are not supported; write the value out"},
      {"ssh: *x", "f.yaml:1: is not valid YAML: the referenced anchor is not defined"},
      {"ssh: !!map {max_channels: 5}", "f.yaml:1: tags (!name) are not supported"},
      {"ssh: {max_channels: 5", "f.yaml:1: is not valid YAML: end of map flow not found"},
      {"ssh:\n\tmax_channels: 5", "f.yaml:2: is indented with a tab; use spaces"},
      {"---\nssh:\n---\nws:", "f.yaml:3: a second document starts here; allowed: one"},
      {"a: b: c", "f.yaml:1: is not valid YAML: illegal map value"},
      {"ssh: \"open", "f.yaml:1: is not valid YAML: illegal EOF in scalar"},
      {"\xff", "f.yaml:1: is not UTF-8 text"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    EXPECT_EQ(refusal({.file_name = "f.yaml", .file_text = row.text}), row.message);
  }
}

TEST(BadConfig, InTheEnvironmentIsNamedByVariable) {
  struct Row {
    const char* name;
    const char* value;
    const char* message;
  };
  const Row rows[] = {
      {"APP_SSH_MAX_CHANNELS", "ten",
       "environment APP_SSH_MAX_CHANNELS: \"ten\" is not a whole number; allowed: 1 to 100"},
      {"APP_SSH_MAX_CHANNELS", "",
       "environment APP_SSH_MAX_CHANNELS: is empty; expected a whole number; allowed: 1 to 100"},
      {"APP_SSH_MAX_CHANELS", "5",
       "environment APP_SSH_MAX_CHANELS: unknown variable; did you mean APP_SSH_MAX_CHANNELS?"},
      {"APP_UPSTREAMS", "a",
       "environment APP_UPSTREAMS: upstreams is a list of sections; it can be set only in the file"},
      {"APP_ZEBRA", "1", "environment APP_ZEBRA: unknown variable"},
      {"APP_HTTP_ORIGINS", "https://a,", "environment APP_HTTP_ORIGINS: \"\" is an empty entry"},
      {"APP_HTTP_ORIGINS", "https://a,,https://b", "environment APP_HTTP_ORIGINS: \"\" is an empty entry"},
      {"PING_INTERVAL", "30x",
       "environment PING_INTERVAL: \"30x\" is not a duration" WRITE_DURATION "; allowed: 1s to 10m"},
      {"APP_WS_PATH_FILE", "/x", "environment APP_WS_PATH_FILE: ws.path is not secret; set APP_WS_PATH"},
      {"APP_AUTH_SHARED_SECRET_FILE", "/nonexistent/key",
       "environment APP_AUTH_SHARED_SECRET_FILE: /nonexistent/key: cannot be read: No such file or "
       "directory"},
      {"APP_AUTH_SHARED_SECRET_FILE", "/",
       "environment APP_AUTH_SHARED_SECRET_FILE: /: cannot be read: Is a directory"},
      {"APP_", "1", "environment APP_: unknown variable"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(refusal({.environment = {{row.name, row.value}}}), row.message);
  }
}

TEST(BadConfig, InAnOverrideIsNamedByItsKey) {
  struct Row {
    const char* setting;
    const char* message;
  };
  const Row rows[] = {
      {"ssh.max_channels=1000", "--set ssh.max_channels: \"1000\" is out of range; allowed: 1 to 100"},
      {"ssh.max_channels", "--set \"ssh.max_channels\": is not key=value"},
      {"=5", "--set \"=5\": is not key=value"},
      {"ssh.max_chanels=5", "--set ssh.max_chanels: unknown key; did you mean ssh.max_channels?"},
      {"ssh=5", "--set ssh: unknown key"},
      {"a\x1b"
       "b=5",
       "--set \"a\\x1bb\": unknown key"},
      {"upstreams=a", "--set upstreams: is a list of sections; it can be set only in the file"},
      {"auth.shared_secret=hunter2",
       "--set auth.shared_secret: is secret, and a command line is visible to every user; set "
       "APP_AUTH_SHARED_SECRET_FILE"},
      {"ws.ping=", "--set ws.ping: is empty" WRITE_DURATION "; allowed: 1s to 10m"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.setting);
    EXPECT_EQ(refusal({.overrides = {row.setting}}), row.message);
  }
}

TEST(BadConfig, IsReportedAllAtOnceWhateverTheSource) {
  EXPECT_EQ(refusal({.file_name = "f.yaml",
                     .file_text = "ssh:\n  max_channels: 0\n  comprission: true\nzebra: 1\n",
                     .environment = {{"APP_WS_PING", "1"}},
                     .overrides = {"log.format=xml"}}),
            "f.yaml:2: ssh.max_channels: \"0\" is out of range; allowed: 1 to 100\n"
            "f.yaml:3: ssh.comprission: unknown key; did you mean ssh.compression?\n"
            "f.yaml:4: zebra: unknown key\n"
            "environment APP_WS_PING: \"1\" has no unit" WRITE_DURATION
            "; allowed: 1s to 10m\n"
            "--set log.format: \"xml\" is not a choice; allowed: auto, json, text");
}

TEST(BadConfig, IsStillReportedWhenAStrongerSourceSetsTheKeyRight) {
  EXPECT_EQ(refusal({.file_name = "f.yaml",
                     .file_text = "ssh: {max_channels: 0}",
                     .environment = {{"APP_SSH_MAX_CHANNELS", "5"}}}),
            "f.yaml:1: ssh.max_channels: \"0\" is out of range; allowed: 1 to 100");
}

TEST(BadConfig, StopsPrintingAfterFiftyErrors) {
  std::string text;
  for (int i = 0; i < 80; ++i) text += "zebra" + std::to_string(i) + ": 1\n";
  const std::string message = refusal({.file_name = "f.yaml", .file_text = text});
  EXPECT_TRUE(message.ends_with("f.yaml:50: zebra49: unknown key\nand 30 more errors")) << message;
}

TEST(BadConfig, NamesWhatIsMissingAndWhereToSetIt) {
  Options options;
  config::Schema schema = schema_of(options);
  EXPECT_EQ(schema.load({.file_name = "f.yaml"}).error().message,
            "f.yaml: auth.issuer: is required and not set; set it in the file or as APP_AUTH_ISSUER");
  EXPECT_EQ(schema.load({}).error().message,
            "configuration: auth.issuer: is required and not set; set it in the file or as APP_AUTH_ISSUER");
}

TEST(BadConfig, ThatIsNoYamlIsNotAlsoBlamedForWhatIsMissing) {
  Options options;
  config::Schema schema = schema_of(options);
  EXPECT_EQ(schema.load({.file_name = "f.yaml", .file_text = "ssh: \"\\\n\\\xC3\xA4\""}).error().message,
            "f.yaml:2: is not valid YAML: unknown escape character: ?");
}

TEST(BadConfig, KeepsControlBytesOutOfItsWordsWhateverTheirNumber) {
  // Found by fuzzing: cut and escaped, a name of some lengths looked as long as it was at first.
  for (std::size_t count = 0; count < 600; ++count) {
    const std::string key = "zebra" + std::string(count, '\r') + "x";
    const std::string message = refusal({.file_name = "f.yaml", .file_text = "\"" + key + "\": 1"});
    EXPECT_EQ(message.find('\r'), std::string::npos) << count;
    EXPECT_EQ(refusal({.overrides = {key + "=1"}}).find('\r'), std::string::npos) << count;
  }
}

TEST(BadConfig, NeverQuotesASecret) {
  const std::string file =
      refusal({.file_name = "f.yaml",
               .file_text = "auth: {shared_secret: \"hunter2\\0\", shared_secrt: hunter2}\n"
                            "upstreams: [{name: a, password: \"hunter2\\0\"}]"});
  const std::string environment = refusal(
      {.environment = {{"APP_AUTH_SHARED_SECRET", "hunter2\x01"}, {"APP_AUTH_SHARED_SECRT", "hunter2"}}});
  const std::string override_ = refusal({.overrides = {"auth.shared_secret=hunter2", "auth.secret=hunter2"}});
  for (const std::string& message : {file, environment, override_}) {
    EXPECT_EQ(message.find("hunter2"), std::string::npos) << message;
  }
  EXPECT_EQ(environment,
            "environment APP_AUTH_SHARED_SECRET: contains a control character\n"
            "environment APP_AUTH_SHARED_SECRT: unknown variable; did you mean APP_AUTH_SHARED_SECRET?");
}

// What a hostile file may cost.

TEST(HostileConfig, IsRefusedBeforeItGrows) {
  std::string laughs = "a0: &a0 [x]\n";
  for (int i = 1; i < 20; ++i) {
    const std::string last = std::to_string(i - 1);
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + last + ", *a" + last + "]\n";
  }
  std::string many = "http:\n  origins:\n";
  for (int i = 0; i < 150'000; ++i) many += "  - a\n";
  std::string deep_map;
  for (int i = 0; i < 400; ++i) deep_map += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  struct Row {
    const char* name;
    std::string text;
    const char* message;
  };
  const Row rows[] = {
      {"aliases", laughs, "f.yaml:1: anchors (&name) are not supported; write the value out"},
      {"values", many, "f.yaml:99998: has more than 100000 values"},
      {"depth", std::string(17, '[') + std::string(17, ']'), "f.yaml:1: nested deeper than 16 levels"},
      {"brackets", std::string(500'000, '['), "f.yaml:1: a key must be plain text"},
      {"braces", std::string(500'000, '{'), "f.yaml:1: a key must be plain text"},
      {"maps in maps", deep_map, "f.yaml:17: nested deeper than 16 levels"},
      {"size", std::string(1024 * 1024 + 1, '#'), "f.yaml:1: is larger than 1 MiB"},
      {"UTF-16",
       std::string("\xff\xfe"
                   "a\0:\0",
                   6),
       "f.yaml:1: is not UTF-8 text"},
      {"UTF-32", std::string("a\0\0\0", 4), "f.yaml:1: contains a control character"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(refusal({.file_name = "f.yaml", .file_text = row.text}), row.message);
  }
}

}  // namespace
