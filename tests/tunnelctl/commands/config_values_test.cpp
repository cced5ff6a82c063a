#include "tunnelctl/commands/config_values.h"

#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/tunnelctl/client/temporary_folder.h"
#include "tests/tunnelctl/commands/call.h"

namespace tunnelctl {
namespace {

/// A configuration file of a test's own, and commands that go by it.
class ConfigValues : public testing::Test {
 protected:
  support::Ended config(std::vector<std::string> arguments, Environment environment = {}) {
    arguments.insert(arguments.begin(), "config");
    environment.emplace_back("TUNNELCTL_CONFIG", file_.string());
    return support::call(std::move(arguments), std::move(environment));
  }
  std::string text() const {
    std::ifstream in(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(std::string_view text) {
    std::ofstream(file_, std::ios::binary) << text;
    ::chmod(file_.c_str(), 0600);
  }

  client::TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_.path() / "config.yaml";
};

TEST_F(ConfigValues, AreWrittenReadAndTakenBack) {
  EXPECT_EQ(config({"set", "queue", "200"}).out, "queue: 100 -> 200\n");
  EXPECT_EQ(text(), "client:\n  queue: 200\n");
  EXPECT_EQ(config({"get", "queue"}).out, "200\n");
  EXPECT_EQ(config({"set", "queue", "200"}).err, "queue is 200 already\n");
  EXPECT_EQ(config({"reset"}).out, "queue: 200 -> 100\n");
  EXPECT_EQ(text(), "");
  EXPECT_EQ(config({"reset"}).status, ExitStatus::ok);
}

TEST_F(ConfigValues, AreListedWithWhereTheyComeFrom) {
  write("client:\n  profile: unstable\n  queue: 20\n");
  const auto ended = config({"list", "--json"}, {{"TUNNEL_RETRY", "3"}});
  ASSERT_EQ(ended.status, ExitStatus::ok) << ended.err;
  const auto json = nlohmann::json::parse(ended.out);
  EXPECT_EQ(json["profile"], "unstable");
  EXPECT_EQ(json["exists"], true);
  std::map<std::string, std::string> sources;
  for (const auto& one : json["settings"]) sources[one["key"]] = one["source"];
  EXPECT_EQ(sources, (std::map<std::string, std::string>{{"profile", "file"},
                                                         {"retry", "environment"},
                                                         {"base_delay", "profile"},
                                                         {"request_timeout", "profile"},
                                                         {"queue", "file"},
                                                         {"compression", "profile"},
                                                         {"log_level", "profile"}}));
  const auto table = config({"list", "--profile", "stable"}).out;
  EXPECT_NE(table.find(file_.string() + ":3"), std::string::npos) << table;
  EXPECT_NE(table.find("--profile"), std::string::npos) << table;
  EXPECT_EQ(config({"get"}).out,
            "profile=unstable\nretry=15\nbase_delay=1s\nrequest_timeout=60s\nqueue=20\ncompression=off\n"
            "log_level=debug\n");
}

TEST_F(ConfigValues, WrongOnesChangeNothing) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"set", "queue", "9"},
                                                    {"set", "queues", "9"},
                                                    {"get", "x"},
                                                    {"reset", "x"}}) {
    const auto ended = config(arguments);
    EXPECT_EQ(ended.status, ExitStatus::bad_input) << ended.err;
    EXPECT_FALSE(std::filesystem::exists(file_));
  }
}

TEST_F(ConfigValues, AFileThatSaysMoreThanItSeemsIsLeftAlone) {
  for (const auto* const written :
       {"\"client\":\n  queue: 20\n", "client: {queue: 20}\n", "client:\n  \"queue\": 20\n"}) {
    write(written);
    const auto ended = config({"set", "queue", "30"});
    EXPECT_EQ(ended.status, ExitStatus::bad_input) << ended.err;
    EXPECT_NE(ended.err.find("by hand"), std::string::npos) << ended.err;
    EXPECT_EQ(text(), written);
  }
}

TEST_F(ConfigValues, TheFileOfTheOthersCountsForThemToo) {
  write("current: here\nclient:\n  queue: 20\ncontexts:\n  - name: here\n");
  EXPECT_EQ(config({"set", "retry", "forever"}).status, ExitStatus::ok);
  const auto contexts = nlohmann::json::parse(config({"contexts", "-o", "json"}).out);
  EXPECT_EQ(contexts[0]["name"], "here");
  const auto parsed = parse_configuration(file_, text());
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->client, (client::Values{{"queue", "20"}, {"retry", "forever"}}));
}

TEST_F(ConfigValues, OthersThatMayWriteTheFileStopOnlyWhoGoesByIt) {
  write("client:\n  queue: 20\n");
  ::chmod(file_.c_str(), 0666);
  EXPECT_NE(config({"list"}).err.find("chmod 600"), std::string::npos);
  EXPECT_EQ(config({"contexts"}).status, ExitStatus::ok);
}

}  // namespace
}  // namespace tunnelctl
