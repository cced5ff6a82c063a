#include "tunnelctl/client/child_process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/file_descriptor.h"

namespace tunnelctl::client {
namespace {

constexpr std::size_t kMostOutput = 16 * 1024;

tl::unexpected<Error> failed(const std::string& what, int error) {
  return fail(Error::Kind::unavailable, what + ": " + std::strerror(error));
}

/// What the child needs, made before the fork: behind it only async-signal-safe functions may be called.
struct Prepared {
  char* const* arguments;
  char* const* environment;
  int null, in, out, err;
  int report;  // where errno goes when it fails
  pid_t parent;
  sigset_t no_signals;
};

/// To `target`, and in such a way that it survives the exec.
bool put(int from, int target) {
  if (from == target) return ::fcntl(from, F_SETFD, 0) == 0;
  return ::dup2(from, target) >= 0;
}

bool set_descriptors(const Prepared& prepared) {
  // Ours are all above 2: nothing that is still needed is overwritten.
  return put(prepared.in < 0 ? prepared.null : prepared.in, STDIN_FILENO) &&
         put(prepared.out < 0 ? prepared.null : prepared.out, STDOUT_FILENO) &&
         put(prepared.err < 0 ? prepared.null : prepared.err, STDERR_FILENO);
}

void reset_signals(const Prepared& prepared) {
  for (int number = 1; number < NSIG; ++number)
    if (number != SIGKILL && number != SIGSTOP) std::signal(number, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &prepared.no_signals, nullptr);
}

[[noreturn]] void become(const Prepared& prepared) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != prepared.parent) ::_exit(127);  // it died before that
  if (set_descriptors(prepared) && ::chdir("/") == 0) {
    reset_signals(prepared);
    // A library's descriptor without close-on-exec must not get there. Old kernels have no such call; ours
    // are all close-on-exec anyway.
    (void)::syscall(SYS_close_range, 3U, ~0U, static_cast<unsigned>(CLOSE_RANGE_CLOEXEC));
    ::execve(prepared.arguments[0], prepared.arguments, prepared.environment);
  }
  const int error = errno;
  (void)!::write(prepared.report, &error, sizeof error);
  ::_exit(127);
}

/// The child's errno, or 0 once it runs its program.
int read_report(int fd) {
  int error = 0;
  ssize_t got = 0;
  do got = ::read(fd, &error, sizeof error);
  while (got < 0 && errno == EINTR);
  return got == sizeof error ? error : 0;
}

void wait_for(pid_t pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string read_output(int fd) {
  std::string output;
  std::array<char, 4096> buffer;
  for (;;) {
    const auto got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return output;
    const auto room = kMostOutput - std::min(kMostOutput, output.size());
    output.append(buffer.data(), std::min(room, static_cast<std::size_t>(got)));
  }
}

}  // namespace

Result<pid_t> start_child(const ChildSetup& setup) {
  std::vector<char*> arguments;
  for (const auto& argument : setup.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::string path = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
  std::array<char*, 2> environment{path.data(), nullptr};

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(setup.arguments.front(), errno);
  const FileDescriptor report(ends[0]);
  const FileDescriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  Prepared prepared{arguments.data(), environment.data(), null.get(), setup.in, setup.out, setup.err,
                    ends[1],          ::getpid(),         {}};
  sigemptyset(&prepared.no_signals);
  const pid_t pid = null.get() < 0 ? -1 : ::fork();
  const int fork_error = errno;
  if (pid == 0) become(prepared);
  ::close(ends[1]);
  if (pid < 0) return failed(setup.arguments.front() + ": cannot start a process", fork_error);
  ::setpgid(pid, pid);  // here too: who kills the group must find it, whichever of us comes first
  if (const int error = read_report(report.get()); error != 0) {
    wait_for(pid);
    return failed(setup.arguments.front() + ": cannot be run", error);
  }
  return pid;
}

void end_group(pid_t leader) {
  ::kill(-leader, SIGKILL);
  // The leader, and its children where they became ours (as the first process of a container).
  while (::waitpid(-leader, nullptr, 0) > 0 || errno == EINTR) {
  }
}

Result<Finished> run_child(const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed(arguments.front(), errno);
  const FileDescriptor reading(ends[0]);
  const auto pid = start_child({.arguments = arguments, .out = ends[1], .err = ends[1]});
  ::close(ends[1]);
  if (!pid) return tl::unexpected(pid.error());
  Finished finished{.output = read_output(reading.get())};
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  finished.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return finished;
}

}  // namespace tunnelctl::client
