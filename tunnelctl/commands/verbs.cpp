#include "tunnelctl/commands/verbs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <iterator>

#include "common/config_file.h"
#include "tunnelctl/grafana/folders.h"
#include "tunnelctl/grafana/json_text.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

constexpr std::size_t kMostInput = 64 * 1024 * 1024;  // Grafana itself takes dashboards of 16 MB

}  // namespace

ExitStatus refuse(Session& session, ExitStatus status, std::string_view why) {
  session.err << "tunnelctl: " << terminal::harmless(why) << '\n';
  return status;
}

std::optional<ExitStatus> unless_confirmed(Session& session, bool yes, const std::string& what) {
  if (yes) return std::nullopt;
  if (!session.err_is_terminal || ::isatty(STDIN_FILENO) == 0)
    return refuse(session, ExitStatus::usage,
                  what + ": say --yes, since nobody can be asked here; nothing was changed");
  session.err << terminal::harmless(what) << "? [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "Y" || answer == "yes") return std::nullopt;
  return refuse(session, ExitStatus::failure, "nothing was changed");
}

std::string name_of_input(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

Result<Json> read_json(const std::string& path, Session& session) {
  if (path == "-") {
    const std::string text{std::istreambuf_iterator<char>(*session.in), std::istreambuf_iterator<char>()};
    return grafana::parse_json(text, name_of_input(path));
  }
  const auto text = config::read_file(path, kMostInput);
  // Not found is no file of ours: the argument is wrong.
  if (!text) return fail(Error::Kind::bad_input, text.error().message);
  return grafana::parse_json(*text, path);
}

Result<void> write_file(const std::filesystem::path& path, std::string_view text) {
  const auto failed = [&](const std::string& what) {
    return fail(Error::Kind::bad_input, path.string() + ": " + what + ": " + std::strerror(errno));
  };
  std::string temporary = path.string() + ".XXXXXX";
  const int file = ::mkstemp(temporary.data());
  if (file < 0) return failed("cannot be written");
  // mkstemp makes files for their owner alone; this one is as any other.
  const auto mask = ::umask(0);
  ::umask(mask);
  ::fchmod(file, 0666 & ~mask);
  bool done = true;
  while (!text.empty() && done) {
    const auto count = ::write(file, text.data(), text.size());
    done = count > 0;
    if (done) text.remove_prefix(static_cast<std::size_t>(count));
  }
  done = ::close(file) == 0 && done && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (done) return {};
  const auto error = failed("cannot be written");
  ::unlink(temporary.c_str());
  return error;
}

std::string pretty(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<void> folder_exists(grafana::Server& server, const std::string& uid) {
  if (uid.empty() || uid == "general") return {};
  const auto folder = grafana::read_folder(server, uid);
  if (!folder) return tl::unexpected(folder.error());
  return {};
}

void say_shown(const Session& session, std::size_t shown, bool more, const char* noun) {
  const auto count = std::to_string(shown) + " " + noun + (shown == 1 ? "" : "s");
  session.say(more ? "shown " + count + ", more exist (--limit 0 shows all)" : count);
}

void add_limit(CLI::App& verb, std::size_t& limit) {
  verb.add_option("--limit", limit, "how many to show at most; 0: all")
      ->type_name("NUMBER")
      ->capture_default_str();
}

}  // namespace tunnelctl
