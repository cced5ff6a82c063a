#include "tunnelctl/client/sshd.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/io_context.hpp>

#include "tests/support/run_async.h"
#include "tests/tunnelctl/client/files.h"
#include "tests/tunnelctl/client/temporary_folder.h"
#include "tunnelctl/client/agent_state.h"
#include "tunnelctl/client/child_process.h"

namespace tunnelctl::client {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kKey =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

/// Waits for what another process does; the deadline only bounds a broken test.
bool eventually(const std::function<bool()>& done) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!done()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    ::poll(nullptr, 0, 2);
  }
  return true;
}

bool is_there(pid_t pid) {
  return ::kill(pid, 0) == 0;
}

/// Whether any process has that group. The kernel's answer to a signal counts those not yet reaped too.
bool group_is_there(pid_t group) {
  return ::kill(-group, 0) == 0;
}

// ---- what is written
// -------------------------------------------------------------------------------------------

TEST(SshdConfiguration, AllowsTcpToTheAnnouncedTargetsAndNothingElse) {
  EXPECT_EQ(sshd_configuration("/home/ann/.local/state/tunnelctl/agents/laptop", {"ann", false},
                               {"127.0.0.1:11434", "[::1]:22"}),
            R"(# Written by `tunnelctl agent` at each start.
HostKey "/home/ann/.local/state/tunnelctl/agents/laptop/host_key"
AuthorizedKeysFile "/home/ann/.local/state/tunnelctl/agents/laptop/authorized_keys"
StrictModes no
PidFile none
UsePAM no
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
LoginGraceTime 30
AllowTcpForwarding local
PermitOpen 127.0.0.1:11434 [::1]:22
PermitListen none
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTTY no
PermitTunnel no
PermitUserEnvironment no
PermitUserRC no
ForceCommand /bin/false
MaxSessions 0
KexAlgorithms curve25519-sha256
Ciphers aes256-gcm@openssh.com
Compression no
UseDNS no
ClientAliveInterval 30
ClientAliveCountMax 3
LogLevel INFO
)");
}

TEST(SshdConfiguration, OfRootLetsInRootAlone) {
  const auto text = sshd_configuration("/a", {"root", true}, {"a:1"});
  EXPECT_THAT(text, HasSubstr("PermitRootLogin prohibit-password\nAllowUsers root\n"));
}

TEST(SshdConfiguration, WithoutTargetsPermitsNone) {
  EXPECT_THAT(sshd_configuration("/a", {"ann", false}, {}), HasSubstr("PermitOpen none\n"));
}

TEST(SshdConfiguration, QuotesFoldersWithSpacesAndPercentSigns) {
  const auto text = sshd_configuration("/a b/100%", {"ann", false}, {"a:1"});
  EXPECT_THAT(text, HasSubstr("HostKey \"/a b/100%/host_key\"\n"));
  EXPECT_THAT(text, HasSubstr("AuthorizedKeysFile \"/a b/100%%/authorized_keys\"\n"));
}

TEST(AuthorizedKeys, RestrictEachKeyToTheTargets) {
  EXPECT_EQ(
      authorized_keys({"ssh-ed25519 AAAA", "ssh-ed25519 BBBB"}, {"127.0.0.1:80", "db:5432"}),
      "restrict,port-forwarding,permitopen=\"127.0.0.1:80\",permitopen=\"db:5432\" ssh-ed25519 AAAA tunneld\n"
      "restrict,port-forwarding,permitopen=\"127.0.0.1:80\",permitopen=\"db:5432\" ssh-ed25519 BBBB "
      "tunneld\n");
}

// ---- finding it, and who it lets in
// ----------------------------------------------------------------------------

TEST(FindSshd, NamedWronglyIsAMistakeOfTheCaller) {
  const auto found = find_sshd("/nowhere/sshd", "/usr/sbin");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, Error::Kind::bad_input);
  EXPECT_THAT(found.error().message, HasSubstr("/nowhere/sshd"));
  EXPECT_FALSE(find_sshd("/etc/passwd", "")) << "not executable";
  EXPECT_FALSE(find_sshd("/usr/bin", "")) << "a folder";
}

TEST(FindSshd, LooksInTheSearchPathToo) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "sshd") << "#!/bin/sh\n";
  ::chmod((folder.path() / "sshd").c_str(), 0755);
  const auto found = find_sshd({}, "relative:" + folder.path().string() + "::");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->is_absolute());
  EXPECT_EQ(found->filename(), "sshd");
}

/// Runs `story` in a process of its own as that user; true when it says so.
bool as_user(const char* name, const std::function<bool()>& story) {
  const auto* entry = ::getpwnam(name);
  if (entry == nullptr) return false;
  const uid_t uid = entry->pw_uid;
  const gid_t gid = entry->pw_gid;
  const pid_t pid = ::fork();
  if (pid == 0) {
    const bool ready = ::setgid(gid) == 0 && ::setuid(uid) == 0;
    ::_exit(ready && story() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(LoginOfThisProcess, IsItsUser) {
  const auto login = login_of_this_process();
  ASSERT_TRUE(login) << login.error().message;
  EXPECT_EQ(login->user, ::getpwuid(::geteuid())->pw_name);
  EXPECT_EQ(login->root, ::geteuid() == 0);
}

TEST(LoginOfThisProcess, WithoutAnEntryInPasswdIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody who is not there";
  const pid_t pid = ::fork();
  if (pid == 0) {
    const bool ready = ::setuid(987654) == 0;
    const auto login = login_of_this_process();
    const bool good = ready && !login && login.error().kind == Error::Kind::denied &&
                      login.error().message.find("ordinary user") != std::string::npos;
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(LoginOfThisProcess, NobodyIsLockedWhereSystemdAnswersForIt) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become nobody";
  // With nss-systemd the shadow entry of nobody begins with "!" for whoever cannot read the file.
  const bool with_systemd = text_of("/etc/nsswitch.conf").find("systemd") != std::string::npos;
  EXPECT_EQ(as_user("nobody", [] { return !login_of_this_process(); }), with_systemd);
  EXPECT_TRUE(as_user("www-data", [] { return login_of_this_process().has_value(); }))
      << "a nologin shell is fine";
}

// ---- the real one
// ----------------------------------------------------------------------------------------------

class RealSshd : public testing::Test {
 protected:
  void SetUp() override {
    const auto found = find_sshd({}, "");
    if (!found) GTEST_SKIP() << found.error().message;
    const auto login = login_of_this_process();
    ASSERT_TRUE(login) << login.error().message;
    setup = {*found, folder.path() / "state", *login, {"127.0.0.1:80"}};
  }

  std::unique_ptr<SshdSession> spawn(const Sshd& sshd) {
    auto session =
        sshd.spawn(context.get_executor(), [this](std::string line) { lines.push_back(std::move(line)); });
    EXPECT_TRUE(session) << session.error().message;
    return session ? std::move(*session) : nullptr;
  }

  std::string read(SshdSession& session) {
    struct Story {
      asio::awaitable<Result<std::string>> operator()(SshdSession& from) const {
        std::array<std::byte, 4096> buffer;
        const auto got = co_await from.read(buffer);
        if (!got) co_return tl::unexpected(got.error());
        co_return std::string(reinterpret_cast<const char*>(buffer.data()), *got);
      }
    };
    const auto got = support::run_async(context, Story{}(session));
    return got ? *got : "failed: " + got.error().message;
  }

  TemporaryFolder folder;
  Sshd::Setup setup;
  asio::io_context context;
  std::vector<std::string> lines;
};

TEST_F(RealSshd, GetsAHostKeyOnceThatItsOwnerAloneCanRead) {
  const auto first = Sshd::prepare(setup);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_THAT(first->host_key(), StartsWith("ssh-ed25519 AAAA"));
  EXPECT_TRUE(parse_public_key(first->host_key()));
  EXPECT_EQ(mode_of(setup.folder), 0700U);
  EXPECT_EQ(mode_of(setup.folder / "host_key"), 0600U);
  const auto second = Sshd::prepare(setup);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->host_key(), first->host_key());
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(setup.folder)) ++files;
  EXPECT_EQ(files, 1U) << "nothing temporary is left";
}

TEST_F(RealSshd, RefusesAHostKeyThatIsNoneOrOpenToOthers) {
  ASSERT_TRUE(Sshd::prepare(setup));
  ::chmod((setup.folder / "host_key").c_str(), 0644);
  auto refused = Sshd::prepare(setup);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("chmod 600"));
  ::chmod((setup.folder / "host_key").c_str(), 0600);
  std::ofstream(setup.folder / "host_key") << "rubbish\n";
  refused = Sshd::prepare(setup);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr((setup.folder / "host_key").string()));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("\n")));
}

TEST_F(RealSshd, RefusesAFolderItCannotQuote) {
  setup.folder = folder.path() / "with\"quote";
  EXPECT_FALSE(Sshd::prepare(setup));
}

TEST_F(RealSshd, TakesWhatWeWriteAlsoInFoldersWithSpaces) {
  setup.folder = folder.path() / "a b 100%";
  setup.targets = {"127.0.0.1:80", "[::1]:443", "db.example:5432"};
  const auto sshd = Sshd::prepare(setup);
  ASSERT_TRUE(sshd) << sshd.error().message;
  const auto taken = sshd->authorize({kKey});
  EXPECT_TRUE(taken) << taken.error().message;
  EXPECT_EQ(mode_of(setup.folder / "authorized_keys"), 0600U);
  EXPECT_EQ(mode_of(setup.folder / "sshd_config"), 0600U);
}

TEST_F(RealSshd, SaysItselfWhatItDoesNotTake) {
  setup.targets = {"127.0.0.1:not-a-port"};
  const auto sshd = Sshd::prepare(setup);
  ASSERT_TRUE(sshd);
  const auto refused = sshd->authorize({kKey});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("sshd_config"));
  EXPECT_THAT(refused.error().message, HasSubstr("PermitOpen")) << refused.error().message;
}

TEST_F(RealSshd, SpeaksOnTheSocketPairAndDiesWithClose) {
  const auto sshd = Sshd::prepare(setup);
  ASSERT_TRUE(sshd) << sshd.error().message;
  ASSERT_TRUE(sshd->authorize({kKey}));
  auto session = spawn(*sshd);
  ASSERT_NE(session, nullptr);
  EXPECT_THAT(read(*session), StartsWith("SSH-2.0-OpenSSH"));
  const pid_t pid = session->pid();
  EXPECT_TRUE(is_there(pid));
  EXPECT_EQ(::getpgid(pid), pid) << "a group of its own";
  session->close();
  EXPECT_FALSE(is_there(pid)) << "dead and reaped";
  EXPECT_TRUE(eventually([&] { return !group_is_there(pid); })) << "its children too";
  session->close();  // once more does nothing
}

TEST_F(RealSshd, EndsByItselfWhenTheFarSideHangsUp) {
  const auto sshd = Sshd::prepare(setup);
  ASSERT_TRUE(sshd && sshd->authorize({kKey}));
  auto session = spawn(*sshd);
  ASSERT_NE(session, nullptr);
  EXPECT_THAT(read(*session), StartsWith("SSH-2.0-"));
  struct HangUp {
    asio::awaitable<Result<void>> operator()(SshdSession& on) const {
      co_return co_await on.shutdown_write();
    }
  };
  ASSERT_TRUE(support::run_async(context, HangUp{}(*session)));
  std::string more = read(*session);
  while (!more.empty() && !more.starts_with("failed")) more = read(*session);  // its key exchange
  SUCCEED();
}

TEST_F(RealSshd, TellsWhatItSaysAsHarmlessLines) {
  const auto sshd = Sshd::prepare(setup);
  ASSERT_TRUE(sshd && sshd->authorize({kKey}));
  auto session = spawn(*sshd);
  ASSERT_NE(session, nullptr);
  EXPECT_THAT(read(*session), StartsWith("SSH-2.0-"));
  struct Write {
    asio::awaitable<Result<void>> operator()(SshdSession& on) const {
      static constexpr std::string_view kRubbish = "\x1b[31mno ssh\r\n\r\n\r\n";
      co_return co_await on.write(std::as_bytes(std::span(kRubbish)));
    }
  };
  ASSERT_TRUE(support::run_async(context, Write{}(*session)));
  std::string more = read(*session);
  while (!more.empty() && !more.starts_with("failed")) more = read(*session);
  session->close();
  ASSERT_FALSE(lines.empty());
  for (const auto& line : lines)
    for (const char c : line) EXPECT_GE(static_cast<unsigned char>(c), 0x20) << line;
}

TEST_F(RealSshd, CancelledReadsSaySo) {
  const auto sshd = Sshd::prepare(setup);
  ASSERT_TRUE(sshd && sshd->authorize({kKey}));
  auto session = spawn(*sshd);
  ASSERT_NE(session, nullptr);
  EXPECT_THAT(read(*session), StartsWith("SSH-2.0-"));
  asio::post(context, [&] { session->close(); });
  std::string more = read(*session);
  while (!more.starts_with("failed") && !more.empty()) more = read(*session);
  EXPECT_THAT(more, HasSubstr("cancelled"));
}

TEST_F(RealSshd, LeavesNoDescriptorsBehind) {
  const auto sshd = Sshd::prepare(setup);
  ASSERT_TRUE(sshd && sshd->authorize({kKey}));
  const auto open = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator());
  };
  auto first = spawn(*sshd);  // what the context itself opens
  first->close();
  first.reset();
  context.poll();
  const auto before = open();
  for (int i = 0; i < 3; ++i) {
    auto session = spawn(*sshd);
    session->close();
    context.restart();
    context.poll();
  }
  EXPECT_EQ(open(), before);
}

// ---- children
// --------------------------------------------------------------------------------------------------

TEST(ChildProcess, GetsNothingOfOurs) {
  ::setenv("AGENT_TEST_SECRET", "shown", 1);
  const int leak = ::open("/dev/null", O_RDONLY);  // not close-on-exec, on purpose
  const auto environment = run_child({"/usr/bin/env"});
  const auto descriptors = run_child({"/bin/ls", "/proc/self/fd"});
  const auto folder = run_child({"/bin/pwd"});
  ::close(leak);
  ASSERT_TRUE(environment && descriptors && folder);
  EXPECT_THAT(environment->output, StartsWith("PATH="));
  EXPECT_EQ(std::count(environment->output.begin(), environment->output.end(), '\n'), 1);
  EXPECT_EQ(descriptors->output, "0\n1\n2\n3\n") << "3 is the folder it reads";
  EXPECT_EQ(folder->output, "/\n");
}

TEST(ChildProcess, HasTheSignalsOfANewProgram) {
  // tunnelctl blocks SIGTERM in all its threads and ignores SIGPIPE; a child that kept that could not be
  // ended.
  sigset_t term{}, before{};
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, &before);
  const auto previous = std::signal(SIGPIPE, SIG_IGN);
  const auto status = run_child({"/bin/grep", "-E", "SigBlk|SigIgn", "/proc/self/status"});
  std::signal(SIGPIPE, previous);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST(ChildProcess, ThatCannotBeRunIsTold) {
  const auto missing = run_child({"/nowhere/program"});
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("/nowhere/program"));
  EXPECT_THAT(missing.error().message, HasSubstr("No such file"));
}

TEST(ChildProcess, TellsItsStatus) {
  const auto failed = run_child({"/bin/sh", "-c", "echo out; echo err >&2; exit 7"});
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->status, 7);
  EXPECT_EQ(failed->output, "out\nerr\n");
}

TEST(ChildProcess, DiesWithItsWholeGroup) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  // A child of the child that would live on for a minute, and says that it is there.
  const auto pid = start_child({.arguments = {"/bin/sh", "-c", "sleep 60 & echo $!; wait"}, .out = ends[1]});
  ::close(ends[1]);
  ASSERT_TRUE(pid) << pid.error().message;
  std::array<char, 32> text{};
  ASSERT_GT(::read(ends[0], text.data(), text.size() - 1), 0);
  const pid_t grandchild = std::stoi(text.data());
  EXPECT_TRUE(is_there(grandchild));
  end_group(*pid);
  EXPECT_FALSE(is_there(*pid));
  // The pipe ends with its last holder: proof that it is dead, whoever reaps it.
  EXPECT_EQ(::read(ends[0], text.data(), text.size()), 0);
  ::close(ends[0]);
}

TEST(ChildProcess, DiesWithTheProcessThatStartedIt) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    const auto pid = start_child({.arguments = {"/bin/sleep", "60"}, .out = ends[1]});
    ::_exit(pid ? 0 : 1);
  }
  ::close(ends[1]);
  int status = 0;
  ::waitpid(parent, &status, 0);
  ASSERT_EQ(WEXITSTATUS(status), 0);
  char byte = 0;
  pollfd end{ends[0], POLLIN, 0};
  ASSERT_EQ(::poll(&end, 1, 10'000), 1) << "sleep still holds the pipe";
  EXPECT_EQ(::read(ends[0], &byte, 1), 0);
  ::close(ends[0]);
}

}  // namespace
}  // namespace tunnelctl::client
