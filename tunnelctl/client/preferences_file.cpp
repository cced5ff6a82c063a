#include "tunnelctl/client/preferences_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/file_descriptor.h"

namespace tunnelctl::client {
namespace {

constexpr std::string_view kBlanks = " \t";
/// Between two looks whether the lock is free.
constexpr std::chrono::milliseconds kLook{10};

tl::unexpected<Error> cannot(const std::filesystem::path& path, const char* what, int error,
                             Error::Kind kind = Error::Kind::unavailable) {
  return fail(kind, path.string() + ": " + what + ": " + std::strerror(error));
}

// ---- lines ----

/// With their ends.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

/// What stands behind "<name>:" at the beginning of a line, or nullopt for another line.
std::optional<std::string_view> behind(std::string_view line, std::string_view name) {
  if (!line.starts_with(name)) return std::nullopt;
  line.remove_prefix(name.size());
  line.remove_prefix(std::min(line.find_first_not_of(kBlanks), line.size()));
  if (!line.starts_with(':')) return std::nullopt;
  return line.substr(1);
}

bool is_blank_or_comment(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos || text[first] == '#';
}

/// "  # as long as the storm lasts" of a value and its comment.
std::string_view comment_of(std::string_view rest) {
  const bool quoted = rest.find_first_of("\"'") != std::string_view::npos;
  auto at = quoted ? std::string_view::npos : rest.find(" #");
  if (at == std::string_view::npos) return {};
  while (at > 0 && kBlanks.find(rest[at - 1]) != std::string_view::npos) --at;
  const auto comment = rest.substr(at);
  return comment.substr(0, comment.find_last_not_of("\r\n") + 1);
}

/// The lines of the section: its head, and those that belong to it.
struct Section {
  std::size_t head = 0;
  std::size_t end = 0;  // behind its last line
};

Result<std::optional<Section>> find_section(const std::vector<std::string>& lines) {
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto rest = behind(lines[i], kPreferences);
    if (!rest) continue;
    if (!is_blank_or_comment(*rest))
      return fail(Error::Kind::bad_input, "line " + std::to_string(i + 1) +
                                              ": this section is not written as lines of its own, so it can "
                                              "only be changed by hand");
    Section section{i, i + 1};
    for (std::size_t j = i + 1; j < lines.size(); ++j) {
      const bool indented = lines[j].starts_with(' ');
      if (!indented && !is_blank_or_comment(lines[j])) break;
      if (indented && !is_blank_or_comment(lines[j])) section.end = j + 1;
    }
    return section;
  }
  return std::optional<Section>();
}

/// The line of that key, or the section's end.
std::size_t find_key(const std::vector<std::string>& lines, const Section& section, std::string_view key) {
  for (std::size_t i = section.head + 1; i < section.end; ++i) {
    const std::string_view line = lines[i];
    if (behind(line.substr(std::min(line.find_first_not_of(' '), line.size())), key)) return i;
  }
  return section.end;
}

void set_in(std::vector<std::string>& lines, const Section& section, std::string_view key,
            std::string_view value) {
  const auto at = find_key(lines, section, key);
  if (at < section.end) {
    const std::string old = std::exchange(lines[at], {});
    const auto indent = old.find_first_not_of(' ');
    const auto rest = *behind(std::string_view(old).substr(indent), key);
    lines[at]
        .append(indent, ' ')
        .append(key)
        .append(": ")
        .append(value)
        .append(comment_of(rest))
        .append("\n");
    return;
  }
  std::size_t indent = 2;
  for (auto i = section.head + 1; i < section.end; ++i)
    if (!is_blank_or_comment(lines[i])) indent = lines[i].find_first_not_of(' ');
  std::string line(indent, ' ');
  line.append(key).append(": ").append(value).append("\n");
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(section.end), std::move(line));
}

void remove_from(std::vector<std::string>& lines, const Section& section, std::string_view key) {
  const auto at = find_key(lines, section, key);
  if (at == section.end) return;
  lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(at));
  // With its last line the section goes, unless somebody wrote comments there.
  const bool only_head = section.end - section.head == 2;
  if (only_head) lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(section.head));
}

// ---- the file ----

/// Where the symbolic links lead; the path itself where nothing is there yet.
std::filesystem::path target_of(const std::filesystem::path& path) {
  std::error_code error;
  auto target = std::filesystem::weakly_canonical(std::filesystem::absolute(path), error);
  return error ? path : target;
}

Result<void> make_folder(const std::filesystem::path& folder) {
  if (folder.empty() || std::filesystem::exists(folder)) return {};
  if (auto above = make_folder(folder.parent_path()); !above) return above;
  if (::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return cannot(folder, "cannot be created", errno);
}

/// Holds the lock for as long as the descriptor is open. The file stays: removing it would let two in.
Result<void> lock(int fd, const std::filesystem::path& path, std::chrono::milliseconds patience) {
  const auto give_up = std::chrono::steady_clock::now() + patience;
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return cannot(path, "cannot be locked", errno);
    if (std::chrono::steady_clock::now() >= give_up)
      return fail(Error::Kind::timed_out,
                  path.string() + ": somebody else is changing the configuration file; try again");
    std::this_thread::sleep_for(kLook);
  }
  return {};
}

}  // namespace

Result<std::string> with_preference(std::string_view text, std::string_view key,
                                    std::optional<std::string_view> value) {
  auto lines = lines_of(text);
  if (!lines.empty() && !lines.back().ends_with('\n')) lines.back() += '\n';
  const auto section = find_section(lines);
  if (!section) return tl::unexpected(section.error());
  if (*section && value) set_in(lines, **section, key, *value);
  if (*section && !value) remove_from(lines, **section, key);
  if (!*section && !value) return std::string(text);
  if (!*section) {
    if (!lines.empty()) lines.emplace_back("\n");
    lines.emplace_back(std::string(kPreferences) + ":\n");
    lines.emplace_back(std::string("  ").append(key).append(": ").append(*value).append("\n"));
  }
  std::string result;
  for (const auto& line : lines) result += line;
  return result;
}

Result<std::string> read_own_file(const std::filesystem::path& path) {
  // Non-blocking: a FIFO in the file's place must not hang us.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0)
    return cannot(path, "cannot be opened", errno,
                  errno == ENOENT ? Error::Kind::not_found : Error::Kind::denied);
  struct stat facts {};
  if (::fstat(file.get(), &facts) != 0) return cannot(path, "cannot be read", errno, Error::Kind::denied);
  if (!S_ISREG(facts.st_mode)) return fail(Error::Kind::bad_input, path.string() + ": is not a regular file");
  if (facts.st_uid != ::geteuid() && facts.st_uid != 0)
    return fail(Error::Kind::denied, path.string() + ": belongs to another user (uid " +
                                         std::to_string(facts.st_uid) +
                                         "), who could say what this program does; make it your own");
  if ((facts.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(facts.st_mode & 07777));
    return fail(Error::Kind::denied, path.string() + ": others may write it (mode " + mode +
                                         ") and so say what this program does; run: chmod 600 " +
                                         path.string());
  }
  std::string text(config::kMaxFile + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const auto got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return cannot(path, "cannot be read", errno, Error::Kind::denied);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > config::kMaxFile)
    return fail(Error::Kind::bad_input,
                path.string() + ": is larger than " + std::to_string(config::kMaxFile) + " bytes");
  text.resize(size);
  return text;
}

Result<void> change_own_file(const std::filesystem::path& path,
                             const std::function<Result<std::string>(const std::string& text)>& change,
                             std::chrono::milliseconds patience) {
  const auto target = target_of(path);
  if (auto made = make_folder(target.parent_path()); !made) return made;
  const auto lock_path = target.parent_path() / ("." + target.filename().string() + ".lock");
  const FileDescriptor held(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (held.get() < 0) return cannot(lock_path, "cannot be opened to lock the configuration file", errno);
  if (auto locked = lock(held.get(), lock_path, patience); !locked) return locked;
  auto text = read_own_file(target);
  if (!text && text.error().kind != Error::Kind::not_found) return tl::unexpected(text.error());
  const auto old = text ? std::move(*text) : std::string();
  auto changed = change(old);
  if (!changed) return tl::unexpected(changed.error());
  if (*changed == old) return {};
  return atomic_file::write(target, *changed, 0600);
}

}  // namespace tunnelctl::client
