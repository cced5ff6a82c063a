#include "tunnelctl/client/client_state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "common/config_file.h"
#include "common/file_descriptor.h"
#include "common/strict_json.h"
#include "tunnelctl/client/agent_state.h"

namespace tunnelctl::client {
namespace {

using nlohmann::json;

constexpr std::size_t kLargest = 256 * 1024;
/// Of a folder that somebody fills: more is not looked at.
constexpr std::size_t kMostFiles = 1'000;

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Owner {
  pid_t pid = 0;
  std::uint64_t start = 0;
  bool alive() const { return start_of_process(pid) == start; }
};

/// By the file's name, "connect-4711-123456.json", also of one that was being written when its process died.
std::optional<Owner> owner_of(const std::filesystem::path& path) {
  auto name = path.filename().string();
  for (const std::string_view end : {".new", ".json"})
    if (name.ends_with(end)) name.resize(name.size() - end.size());
  const auto second = name.rfind('-');
  const auto first = second == std::string::npos || second == 0 ? second : name.rfind('-', second - 1);
  if (first == std::string::npos || second == 0) return std::nullopt;
  const std::string_view view(name);
  const auto pid = number_in<pid_t>(view.substr(first + 1, second - first - 1));
  const auto start = number_in<std::uint64_t>(view.substr(second + 1));
  if (!pid || *pid <= 0 || !start) return std::nullopt;
  return Owner{*pid, *start};
}

/// Files of processes that are there; the others' are removed.
std::vector<std::filesystem::path> living(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  std::size_t seen = 0;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (++seen > kMostFiles) break;
    const auto owner = owner_of(at->path());
    if (!owner) continue;
    if (owner->alive()) {
      if (at->path().extension() == ".json") found.push_back(at->path());
    } else {
      ::unlink(at->path().c_str());
    }
  }
  return found;
}

bool has_text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string();
}

/// What every reader may rely on; a newer program may say more.
bool is_state(const json& value) {
  return value.is_object() && has_text(value, "kind") && has_text(value, "server") &&
         has_text(value, "state") && has_text(value, "since") && has_text(value, "startedAt");
}

tl::unexpected<Error> failed(const std::filesystem::path& path, const char* step) {
  return fail(Error::Kind::unavailable,
              path.string() + ": " + step + ": " + std::generic_category().message(errno));
}

}  // namespace

std::filesystem::path client_state_folder(const std::filesystem::path& xdg_runtime_dir) {
  struct stat status {};
  const bool others = ::stat(xdg_runtime_dir.c_str(), &status) == 0 && status.st_uid != ::geteuid();
  // Relative ones are to be ignored, says the XDG specification.
  if (xdg_runtime_dir.is_absolute() && !others) return xdg_runtime_dir / "tunnelctl";
  const auto user = std::to_string(::geteuid());
  const auto usual = std::filesystem::path("/run/user") / user;
  std::error_code error;
  if (std::filesystem::is_directory(usual, error)) return usual / "tunnelctl";
  return std::filesystem::path("/tmp") / ("tunnelctl-" + user);
}

std::optional<std::uint64_t> start_of_process(pid_t pid) {
  const FileDescriptor file(::open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return std::nullopt;
  std::string text(4096, '\0');
  const auto got = ::read(file.get(), text.data(), text.size());
  if (got <= 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(got));
  // "pid (name) state ...": the name may hold spaces and parentheses. The start is field 22 (proc(5)), the
  // state field 3.
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const auto rest = std::string_view(text).substr(name_end + 1);
  constexpr unsigned kSpacesBefore = 20;
  std::size_t at = 0;
  for (unsigned i = 0; i < kSpacesBefore; ++i) {
    at = rest.find(' ', at);
    if (at == std::string_view::npos) return std::nullopt;
    ++at;
  }
  // A zombie has ended, whatever its parent does.
  if (rest.size() > 1 && (rest[1] == 'Z' || rest[1] == 'X')) return std::nullopt;
  return number_in<std::uint64_t>(rest.substr(at, rest.find(' ', at) - at));
}

Result<std::unique_ptr<ClientStateFile>> ClientStateFile::create(std::filesystem::path folder,
                                                                 std::string_view kind) {
  if (auto made = make_private_folder(folder); !made) return tl::unexpected(made.error());
  const auto start = start_of_process(::getpid());
  if (!start) return fail(Error::Kind::unavailable, "/proc/self/stat cannot be read");
  (void)living(folder);
  auto name = std::string(kind) + "-" + std::to_string(::getpid()) + "-" + std::to_string(*start) + ".json";
  return std::unique_ptr<ClientStateFile>(new ClientStateFile(std::move(folder) / name));
}

ClientStateFile::~ClientStateFile() {
  ::unlink(path_.c_str());
}

Result<void> ClientStateFile::write(json state) {
  state["pid"] = ::getpid();
  const auto text = state.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  const auto fresh = path_.string() + ".new";
  ::unlink(fresh.c_str());
  const FileDescriptor file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.get() < 0) return failed(path_, "cannot create a file beside it");
  if (!write_all(file.get(), text)) return failed(path_, "cannot write");
  if (::rename(fresh.c_str(), path_.c_str()) != 0) return failed(path_, "cannot put the new file in place");
  return {};
}

Result<std::vector<json>> read_client_states(const std::filesystem::path& folder) {
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0) return std::vector<json>();
  if (auto ours = make_private_folder(folder); !ours) return tl::unexpected(ours.error());
  std::vector<json> states;
  for (const auto& path : living(folder)) {
    // One that ends right now takes its file along.
    const auto text = config::read_file(path, kLargest);
    auto state = text ? parse_strict_json(*text, kLargest) : tl::unexpected(text.error());
    if (state && is_state(*state)) states.push_back(std::move(*state));
  }
  std::stable_sort(states.begin(), states.end(), [](const json& a, const json& b) {
    return a["startedAt"].get_ref<const std::string&>() < b["startedAt"].get_ref<const std::string&>();
  });
  return states;
}

}  // namespace tunnelctl::client
