#include "tunneld/ssh/successions.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/strict_json.h"
#include "tunnel/key_succession.h"

namespace tunneld::ssh {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxFileBytes = 256 * 1024;
/// An agent that has been away for so many changes of the key has to be told of it by hand.
constexpr std::size_t kMost = 32;
constexpr int kVersion = 1;

/// "type base64" of a public line.
std::string without_comment(const std::string& line) {
  return line.substr(0, line.find(' ', line.find(' ') + 1));
}

Result<void> write_key(const std::filesystem::path& path, const Identity& identity) {
  if (auto written = atomic_file::write(path, identity.private_text(), 0600); !written) return written;
  return atomic_file::write(path.string() + ".pub", identity.public_line() + "\n", 0644);
}

std::string text_of(const std::vector<Succession>& successions) {
  json list = json::array();
  for (const auto& one : successions)
    list.push_back({{"from", one.from}, {"to", one.to}, {"signature", one.signature}});
  return json{{"version", kVersion}, {"successions", std::move(list)}}.dump(1) + "\n";
}

}  // namespace

Result<std::vector<Succession>> read_successions(const std::filesystem::path& file) {
  const auto bad = [&file](const std::string& why) {
    return fail(Error::Kind::bad_input, file.string() + ": " + why);
  };
  std::vector<Succession> successions;
  const auto text = config::read_file(file, kMaxFileBytes);
  if (!text && text.error().kind == Error::Kind::not_found) return successions;
  if (!text) return fail(Error::Kind::bad_input, text.error().message);
  const auto parsed = parse_strict_json(*text, kMaxFileBytes, 4);
  if (!parsed) return bad(parsed.error().message);
  if (!parsed->is_object() || parsed->value("version", json()) != json(kVersion))
    return bad("must be an object of version 1");
  const auto list = parsed->find("successions");
  if (list == parsed->end() || !list->is_array()) return bad("needs a list, \"successions\"");
  for (const auto& entry : *list) {
    Succession one;
    const std::array<std::pair<const char*, std::string*>, 3> members{
        {{"from", &one.from}, {"to", &one.to}, {"signature", &one.signature}}};
    for (const auto& [name, into] : members) {
      const auto found = entry.is_object() ? entry.find(name) : entry.end();
      if (!entry.is_object() || found == entry.end() || !found->is_string())
        return bad("successions[" + std::to_string(successions.size()) + "] needs a text, \"" + name + "\"");
      *into = found->get<std::string>();
    }
    successions.push_back(std::move(one));
  }
  return successions;
}

Result<Identity> next_identity(const KeyFiles& files, const std::string& comment) {
  return Identity::load_or_create(files.next, comment);
}

Result<Succession> take_next_identity(const KeyFiles& files, const std::string& comment) {
  const auto old = Identity::load_or_create(files.identity, comment);
  if (!old) return tl::unexpected(old.error());
  const auto next = next_identity(files, comment);
  if (!next) return tl::unexpected(next.error());
  auto successions = read_successions(files.successions);
  if (!successions) return tl::unexpected(successions.error());

  Succession made{without_comment(old->public_line()), without_comment(next->public_line()), {}};
  const auto remove_next = [&files] {
    ::unlink(files.next.c_str());
    ::unlink((files.next.string() + ".pub").c_str());
  };
  if (made.from == made.to) {  // it was cut short the last time, just before its end
    remove_next();
    return fail(Error::Kind::bad_input, files.next.string() + ": was tunneld's key already; nothing to do");
  }
  auto signature = old->sign(tunnel::key_succession_message(made.from, made.to));
  if (!signature) return tl::unexpected(signature.error());
  made.signature = std::move(*signature);

  std::erase_if(*successions,
                [&made](const Succession& one) { return one.from == made.from && one.to == made.to; });
  successions->push_back(made);
  if (successions->size() > kMost) successions->erase(successions->begin());
  if (auto written = atomic_file::write(files.successions, text_of(*successions), 0600); !written)
    return tl::unexpected(written.error());
  if (auto written = write_key(files.previous, *old); !written) return tl::unexpected(written.error());
  if (auto written = write_key(files.identity, *next); !written) return tl::unexpected(written.error());
  remove_next();
  return made;
}

}  // namespace tunneld::ssh
