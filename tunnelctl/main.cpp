#include <csignal>
#include <exception>
#include <iostream>
#include <thread>

#include <unistd.h>

#include "common/allocator.h"
#include "tunnelctl/cli.h"
#include "tunnelctl/terminal/screen.h"

namespace {

/// Waits for Ctrl-C or SIGTERM in a thread of its own, as a handler may do next to nothing. The first asks
/// for an end that puts things back, the second is obeyed at once.
void watch_signals(std::stop_source stop) {
  sigset_t signals{};
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, stop]() mutable {
    int number = 0;
    sigwait(&signals, &number);
    stop.request_stop();
    sigwait(&signals, &number);
    tunnelctl::terminal::restore_screen();
    _exit(static_cast<int>(tunnelctl::ExitStatus::interrupted));
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    keep_freed_pages();
    std::signal(SIGPIPE, SIG_IGN);
    std::stop_source stop;
    watch_signals(stop);
    return static_cast<int>(tunnelctl::run(argc, argv, std::cout, std::cerr, stop.get_token()));
  } catch (const std::exception& error) {
    std::cerr << "tunnelctl: a bug: " << error.what() << '\n';
    return static_cast<int>(tunnelctl::ExitStatus::failure);
  }
}
