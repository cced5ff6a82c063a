#include "tunnelctl/client/kept_requests.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/secret_file.h"
#include "common/sha256.h"
#include "tunnelctl/client/agent_state.h"

namespace tunnelctl::client {
namespace {

namespace fs = std::filesystem;
using std::chrono::system_clock;

constexpr std::string_view kFileKind = "tunnel-kept-file 1 ";
constexpr std::string_view kEnding = ".kept";
constexpr std::size_t kIdDigits = 32;
/// Files of the folder that are looked at: whoever fills it with others must not make us read for ever.
constexpr std::size_t kMostFiles = 10'000;

using Failure = KeptRequests::Failure;

std::string because(int error) {
  return std::string(": ") + std::strerror(error);
}

/// Locked, or why not.
tl::expected<int, Failure> lock(const fs::path& folder) {
  const auto path = (folder / "lock").string();
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return tl::unexpected(Failure{false, path + ": cannot be opened" + because(errno)});
  if (::flock(file, LOCK_EX | LOCK_NB) == 0) return file;
  const int error = errno;
  ::close(file);
  if (error != EWOULDBLOCK)
    return tl::unexpected(Failure{false, path + ": cannot be locked" + because(error)});
  return tl::unexpected(Failure{true, "--persist: another tunnelctl connect keeps its requests in " +
                                          folder.string() +
                                          "; end it, or name another folder with --state-dir"});
}

/// atomic_file's, of a run that was killed: nobody was told that what they hold is kept.
void remove_unfinished(const fs::path& folder) {
  constexpr std::size_t kRandom = 7;  // ".XXXXXX"
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const auto name = at->path().filename().string();
    if (name.size() <= kRandom) continue;
    const auto of = std::string_view(name).substr(0, name.size() - kRandom);
    if (name[of.size()] == '.' && (of.ends_with(kEnding) || of == "key")) ::unlink(at->path().c_str());
  }
}

/// The folder's key; made if nobody has kept anything there yet.
tl::expected<Secret, Failure> key_in(const fs::path& folder) {
  const auto path = (folder / "key").string();
  auto key = read_secret_file(path, Sealing::kKeyBytes);
  if (key && key->reveal().size() == Sealing::kKeyBytes) return std::move(*key);
  if (key || key.error().kind != Error::Kind::not_found)
    return tl::unexpected(
        Failure{false, (key ? path + ": is no key of tunnelctl" : key.error().message) +
                           "; without it what is kept there cannot be read: put the right one "
                           "back, or remove it to begin anew"});
  auto made = Sealing::new_key();
  if (!made) return tl::unexpected(Failure{false, made.error().message});
  if (const auto written = create_secret_file(path, *made); !written)
    return tl::unexpected(Failure{false, written.error().message});
  return std::move(*made);
}

bool is_id(std::string_view text) {
  return text.size() == kIdDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<void> write_private(const fs::path& path, std::string_view content) {
  return atomic_file::write(path, content, 0600);
}

/// Parts of one text, so that no two lists of parts give the same.
std::string joined(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const auto part : parts) text.append(std::to_string(part.size())).append(":").append(part);
  return text;
}

}  // namespace

KeptRequests::KeptRequests(Options options, Tell tell, int lock, Secret key)
    : options_(std::move(options)), tell_(std::move(tell)), lock_(lock), sealing_(std::move(key)) {}

tl::expected<std::unique_ptr<KeptRequests>, Failure> KeptRequests::open(Options options, Tell tell) {
  if (!options.write) options.write = write_private;
  if (const auto made = make_private_folder(options.folder); !made)
    return tl::unexpected(Failure{false, made.error().message});
  const auto locked = lock(options.folder);
  if (!locked) return tl::unexpected(locked.error());
  remove_unfinished(options.folder);
  auto key = key_in(options.folder);
  if (!key) {
    ::close(*locked);
    return tl::unexpected(key.error());
  }
  return std::unique_ptr<KeptRequests>(
      new KeptRequests(std::move(options), std::move(tell), *locked, std::move(*key)));
}

std::vector<fs::path> KeptRequests::look() const {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(options_.folder, error), end;
       !error && at != end && found.size() < kMostFiles; at.increment(error))
    if (at->path().extension() == kEnding) found.push_back(at->path());
  if (error) tell_(options_.folder.string() + ": cannot be read: " + error.message());
  std::sort(found.begin(), found.end());
  return found;
}

Result<KeptRequests::Entry> KeptRequests::read(const fs::path& path, std::size_t& bytes) const {
  std::error_code error;
  if (!fs::is_regular_file(fs::symlink_status(path, error)))
    return fail(Error::Kind::bad_input, "is not a regular file");
  const auto content = config::read_file(path, options_.max_bytes);
  if (!content) return tl::unexpected(content.error());
  bytes = content->size();
  const auto line = std::string_view(*content).substr(0, kFileKind.size() + kIdDigits + 1);
  if (!line.starts_with(kFileKind) || !line.ends_with('\n'))
    return fail(Error::Kind::bad_input, "is no request that was kept");
  Entry entry;
  entry.id = line.substr(kFileKind.size(), kIdDigits);
  if (!is_id(entry.id)) return fail(Error::Kind::bad_input, "is no request that was kept");
  const auto text =
      sealing_.open(std::string_view(*content).substr(line.size()), joined({line, options_.server}));
  if (!text) return tl::unexpected(text.error());
  auto request = parse_kept_request(*text);
  if (!request) return tl::unexpected(request.error());
  entry.request = std::move(*request);
  return entry;
}

std::vector<KeptRequests::Entry> KeptRequests::restore() {
  std::vector<Entry> entries;
  for (const auto& path : look()) {
    std::size_t bytes = 0;
    auto entry = read(path, bytes);
    if (!entry) {
      put_aside(path, entry.error().message);
    } else if (too_old(entry->request)) {
      files_[entry->id] = {path, bytes};
      drop(*entry);
    } else if (const auto there = files_.find(entry->id); there != files_.end()) {
      if (there->second.path == path) continue;  // of this run
      tell_(name_of(entry->request) + " is kept twice, and is sent once");
      remove(path);
    } else if (files_.size() == options_.max_requests || this->bytes() + bytes > options_.max_bytes) {
      put_aside(path, "is more than this program keeps");
    } else {
      files_[entry->id] = {path, bytes};
      entries.push_back(std::move(*entry));
    }
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& one, const Entry& other) {
    return one.request.queued < other.request.queued;
  });
  return entries;
}

Result<void> KeptRequests::keep(const KeptRequest& request) {
  if (too_old(request)) return fail(Error::Kind::unavailable, "it has waited for too long already");
  const auto text = to_text(request);
  // What could not be read again must not be promised. The fields may have grown by a space each.
  if (const auto readable = parse_kept_request(text); !readable)
    return fail(Error::Kind::unavailable, "the request cannot be written down");
  const auto id = id_of(request);
  std::string content(kFileKind);
  content.append(id).append("\n");
  const auto sealed = sealing_.seal(text, joined({content, options_.server}));
  if (!sealed) return tl::unexpected(sealed.error());
  content += *sealed;
  const auto there = files_.find(id);
  const auto others = files_.size() - (there == files_.end() ? 0 : 1);
  const auto other_bytes = bytes() - (there == files_.end() ? 0 : there->second.bytes);
  if (others >= options_.max_requests)
    return fail(Error::Kind::unavailable,
                "there are " + std::to_string(options_.max_requests) + " kept requests already");
  if (other_bytes + content.size() > options_.max_bytes)
    return fail(Error::Kind::unavailable,
                "it does not fit into the " + std::to_string(options_.max_bytes) + " bytes of kept requests");
  const auto path =
      there == files_.end() ? options_.folder / (id + std::string(kEnding)) : there->second.path;
  if (auto written = options_.write(path, content); !written) {
    // It may be there all the same, but that nobody could promise.
    if (there == files_.end()) ::unlink(path.c_str());
    return written;
  }
  files_[id] = {path, content.size()};
  return {};
}

std::string KeptRequests::id_of(const KeptRequest& request) const {
  // Callers may give several requests of one operation the same id, so it is not enough to tell them apart.
  const auto* key = request.head.find("idempotency-key");
  return sealing_.name_of(
      joined({request.service, request.head.method, request.head.target, key != nullptr ? "key" : "request",
              key != nullptr ? *key : request.request_id, request.body}));
}

std::string KeptRequests::name_of(const KeptRequest& request) {
  return request.head.method + " " + request.service + ", request " + request.request_id;
}

system_clock::time_point KeptRequests::kept_until(const KeptRequest& request) const {
  return request.queued + options_.ttl;
}

system_clock::duration KeptRequests::time_left(const KeptRequest& request) const {
  return kept_until(request) - options_.now();
}

bool KeptRequests::too_old(const KeptRequest& request) const {
  const auto now = options_.now();
  return now >= kept_until(request) || request.queued > now + options_.ttl;
}

void KeptRequests::answered(const std::string& id) {
  const auto found = files_.find(id);
  if (found == files_.end()) return;
  remove(found->second.path);
  files_.erase(found);
}

void KeptRequests::drop(const Entry& entry) {
  const auto minutes = std::chrono::duration_cast<std::chrono::minutes>(options_.ttl);
  tell_(name_of(entry.request) + " was kept for " + std::to_string(minutes.count()) +
        " minutes, is dropped and was not answered");
  answered(entry.id);
}

std::size_t KeptRequests::bytes() const {
  std::size_t sum = 0;
  for (const auto& [id, file] : files_) sum += file.bytes;
  return sum;
}

void KeptRequests::remove(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    tell_(path.string() + ": cannot be removed, and will be sent again" + because(errno));
}

void KeptRequests::put_aside(const fs::path& path, const std::string& why) {
  const auto folder = options_.folder / "quarantine";
  const auto told = path.string() + ": " + why;
  if (const auto made = make_private_folder(folder); !made)
    return tell_(told + "; it cannot be put aside: " + made.error().message);
  std::error_code error;
  std::vector<std::pair<fs::file_time_type, fs::path>> there;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    there.emplace_back(fs::last_write_time(at->path(), gone), at->path());
  }
  std::sort(there.begin(), there.end());
  for (std::size_t n = 0; n + options_.max_quarantined <= there.size(); ++n)
    ::unlink(there[n].second.c_str());
  auto to = folder / path.filename();
  for (unsigned n = 1; fs::exists(fs::symlink_status(to, error)); ++n)
    to = folder / (path.filename().string() + "." + std::to_string(n));
  if (::rename(path.c_str(), to.c_str()) != 0)
    return tell_(told + "; it cannot be put aside" + because(errno));
  tell_(told + "; it was put aside as " + to.string() + " and is not sent");
}

Result<fs::path> kept_folder(const fs::path& state_dir, const fs::path& xdg_state_home, const fs::path& home,
                             std::string_view server) {
  fs::path base;
  if (!state_dir.empty())
    base = fs::absolute(state_dir);
  else if (xdg_state_home.is_absolute())  // others are to be ignored, says the XDG specification
    base = xdg_state_home / "tunnelctl" / "connect";
  else if (home.is_absolute())
    base = home / ".local" / "state" / "tunnelctl" / "connect";
  else
    return fail(
        Error::Kind::not_found,
        "--persist: there is no place for requests: set HOME or XDG_STATE_HOME to an absolute path, or "
        "name a folder with --state-dir");
  constexpr std::size_t kLongest = 100;
  constexpr std::size_t kDigits = 8;
  const auto scheme = server.find("://");
  std::string name(server.substr(scheme == std::string_view::npos ? 0 : scheme + 3));
  if (name.size() > kLongest) name.resize(kLongest);
  for (auto& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
    if (!plain) c = '_';
  }
  return base / (name + "-" + to_hex(sha256(server)).substr(0, kDigits));
}

}  // namespace tunnelctl::client
