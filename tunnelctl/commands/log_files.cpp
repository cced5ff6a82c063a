#include "tunnelctl/commands/log_files.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iostream>
#include <utility>

#include "tunnelctl/commands/session.h"
#include "tunnelctl/commands/verbs.h"

namespace tunnelctl {
namespace {

constexpr std::size_t kBlock = 64 * 1024;
/// How soon a stop is seen while nothing comes.
constexpr int kLookMilliseconds = 100;

/// A file, standard input, or what stands in for it.
class Input {
 public:
  Input(const std::string& path, const Session& session) : session_(session) {
    if (path != "-")
      file_ = own_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    else if (session.in == &std::cin)
      file_ = STDIN_FILENO;
    else
      stream_ = session.in;
  }
  ~Input() {
    if (own_ >= 0) ::close(own_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  bool open() const { return file_ >= 0 || stream_ != nullptr; }

  /// How many bytes it put there; 0 at the end, and below 0 when it cannot be read or a stop came.
  ssize_t read(std::string& block) {
    if (stream_ != nullptr) {
      stream_->read(block.data(), static_cast<std::streamsize>(block.size()));
      return session_.stop.stop_requested() || stream_->bad() ? -1 : static_cast<ssize_t>(stream_->gcount());
    }
    for (;;) {
      pollfd watched{file_, POLLIN, 0};
      const int ready = ::poll(&watched, 1, kLookMilliseconds);
      if (session_.stop.stop_requested()) return -1;
      if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
      const auto count = ::read(file_, block.data(), block.size());
      if (count >= 0 || (errno != EINTR && errno != EAGAIN)) return count;
    }
  }

 private:
  const Session& session_;
  std::istream* stream_ = nullptr;
  int file_ = -1;
  int own_ = -1;
};

/// The program that makes text of what begins so; nullptr: it is no file of a kind that logs are packed into.
const char* unpacker(std::string_view begin) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 4> kKinds = {{
      {"\x1f\x8b", "zcat"},
      {"\x28\xb5\x2f\xfd", "zstdcat"},
      {"\xfd\x37zXZ", "xzcat"},
      {"BZh", "bzcat"},
  }};
  for (const auto& [magic, program] : kKinds)
    if (begin.starts_with(magic)) return program;
  return nullptr;
}

}  // namespace

Result<void> read_log(const std::string& path, std::size_t longest, const Session& session,
                      const std::function<void(std::string_view)>& take) {
  const auto name = name_of_input(path);
  Input input(path, session);
  if (!input.open())
    return fail(Error::Kind::bad_input, name + ": cannot be read; is it a file that you may open?");
  std::string block(kBlock, '\0'), line;
  const auto end_line = [&] {
    if (line.ends_with('\r')) line.pop_back();
    take(line);
    line.clear();
  };
  const auto grow = [&](std::string_view part) {
    line += part.substr(0, longest - std::min(longest, line.size()));
  };
  bool first = true, open = false;  // a line without its end yet
  for (;; first = false) {
    const auto count = input.read(block);
    if (session.stop.stop_requested()) return fail(Error::Kind::cancelled, "interrupted");
    if (count < 0)
      return fail(Error::Kind::bad_input, name + (first ? ": cannot be read; is it a file that you may open?"
                                                        : ": cannot be read to its end"));
    if (count == 0) break;
    std::string_view rest(block.data(), static_cast<std::size_t>(count));
    if (const char* program = first ? unpacker(rest) : nullptr; program != nullptr)
      return fail(Error::Kind::bad_input, name + ": is compressed; give it unpacked: " + program +
                                              (path == "-" ? " < FILE" : " " + path) +
                                              " | tunnelctl logs patterns -");
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      grow(rest.substr(0, end));
      end_line();
      open = false;
      rest.remove_prefix(end + 1);
    }
    if (rest.empty()) continue;
    grow(rest);
    open = true;
  }
  if (open) end_line();
  return {};
}

}  // namespace tunnelctl
