#include "tunnelctl/client/client_state_file.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/tunnelctl/client/files.h"
#include "tests/tunnelctl/client/temporary_folder.h"

namespace tunnelctl::client {
namespace {

using nlohmann::json;
using testing::IsEmpty;

class ClientStateFiles : public testing::Test {
 protected:
  json state(const std::string& kind = "connect", const std::string& started = "2026-01-01T00:00:00.000Z") {
    return {{"kind", kind},
            {"server", "wss://h"},
            {"state", "connected"},
            {"since", started},
            {"startedAt", started}};
  }
  std::vector<json> read() {
    auto states = read_client_states(folder);
    EXPECT_TRUE(states) << states.error().message;
    return states ? std::move(*states) : std::vector<json>();
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
  }
  void put(const std::string& name, const std::string& text) { std::ofstream(folder / name) << text; }

  const TemporaryFolder above;
  const std::filesystem::path folder = above.path() / "tunnelctl";
};

TEST_F(ClientStateFiles, AreReadWhileTheirProcessRunsAndGoWithIt) {
  EXPECT_THAT(read(), IsEmpty()) << "no folder";
  {
    auto file = ClientStateFile::create(folder, "connect");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_THAT(read(), IsEmpty()) << "nothing is said yet";
    ASSERT_TRUE((*file)->write(state()));
    EXPECT_EQ(mode_of(folder), 0700U);
    EXPECT_EQ(mode_of((*file)->path()), 0600U);
    auto changed = state();
    changed["state"] = "reconnecting";
    ASSERT_TRUE((*file)->write(changed));
    const auto states = read();
    ASSERT_EQ(states.size(), 1U);
    EXPECT_EQ(states[0]["state"], "reconnecting");
    EXPECT_EQ(states[0]["pid"], ::getpid());
    EXPECT_EQ(files(), 1U);
  }
  EXPECT_THAT(read(), IsEmpty());
  EXPECT_EQ(files(), 0U);
}

TEST_F(ClientStateFiles, OfAProcessThatIsGoneIsRemoved) {
  auto file = ClientStateFile::create(folder, "agent");
  ASSERT_TRUE(file);
  ASSERT_TRUE((*file)->write(state()));
  const auto start = std::to_string(*start_of_process(::getpid()));
  // The number is in use again, by a later process.
  put("connect-" + std::to_string(::getpid()) + "-" + start + "9.json", state().dump());
  put("connect-999999999-1.json", state().dump());
  put("connect-999999999-1.json.new", "{");
  put("notes.txt", "of somebody else");
  EXPECT_EQ(read().size(), 1U);
  EXPECT_EQ(files(), 2U) << "what is nobody's state is left alone";
}

TEST_F(ClientStateFiles, OfDeadProcessesAreClearedByWhoComesNext) {
  auto file = ClientStateFile::create(folder, "agent");
  ASSERT_TRUE(file);
  put("connect-999999999-1.json", "{}");
  EXPECT_TRUE(ClientStateFile::create(folder, "connect"));
  EXPECT_EQ(files(), 0U);
}

TEST_F(ClientStateFiles, ThatMakeNoSenseAreNotShown) {
  auto file = ClientStateFile::create(folder, "agent");
  ASSERT_TRUE(file);
  const auto name = (*file)->path().filename().string();
  for (const std::string text :
       {"", "{", "[]", "{}", R"({"kind":1})", R"({"kind":"connect","server":"x"})"}) {
    put(name, text);
    EXPECT_THAT(read(), IsEmpty()) << text;
  }
}

TEST_F(ClientStateFiles, AFolderOpenToOthersIsNotUsed) {
  std::filesystem::create_directory(folder);
  ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  const auto file = ClientStateFile::create(folder, "connect");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().kind, Error::Kind::denied);
  EXPECT_FALSE(read_client_states(folder));
}

TEST_F(ClientStateFiles, ALinkInTheFoldersPlaceIsNotFollowed) {
  std::filesystem::create_directory(above.path() / "elsewhere");
  std::filesystem::create_directory_symlink(above.path() / "elsewhere", folder);
  EXPECT_FALSE(ClientStateFile::create(folder, "connect"));
}

TEST_F(ClientStateFiles, NobodyIsWrittenThroughALink) {
  auto file = ClientStateFile::create(folder, "connect");
  ASSERT_TRUE(file);
  const auto victim = above.path() / "victim";
  std::ofstream(victim) << "precious";
  std::filesystem::create_symlink(victim, (*file)->path().string() + ".new");
  ASSERT_TRUE((*file)->write(state()));
  std::string text;
  std::ifstream(victim) >> text;
  EXPECT_EQ(text, "precious");
  EXPECT_EQ(read().size(), 1U);
}

TEST(ClientStateFolder, IsTheUsersOwn) {
  const TemporaryFolder ours;
  EXPECT_EQ(client_state_folder(ours.path()), ours.path() / "tunnelctl");
  EXPECT_EQ(client_state_folder("/nonexistent"), "/nonexistent/tunnelctl");
  const auto user = std::to_string(::geteuid());
  std::string others = "/proc/1";  // root's
  if (::geteuid() == 0 && ::chown(ours.path().c_str(), 12'345, 12'345) == 0) others = ours.path();
  for (const auto& wrong : {std::string(), std::string("relative"), others})
    EXPECT_THAT(client_state_folder(wrong).string(),
                testing::AnyOf("/run/user/" + user + "/tunnelctl", "/tmp/tunnelctl-" + user));
}

TEST(StartOfProcess, IsKnownWhileItRuns) {
  EXPECT_EQ(start_of_process(::getpid()), start_of_process(::getpid()));
  EXPECT_TRUE(start_of_process(1)) << "whoever runs as the first";
  EXPECT_FALSE(start_of_process(999'999'999));
  const auto child = ::fork();
  if (child == 0) ::_exit(0);
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(start_of_process(child)) << "nobody has waited for it, and yet it has ended";
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace tunnelctl::client
