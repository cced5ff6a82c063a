#include "tunnelctl/client/agent_state.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include <openssl/evp.h>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/sha256.h"
#include "common/strict_json.h"

namespace tunnelctl::client {
namespace {

constexpr std::size_t kLongestKey = 8 * 1024;          // an RSA key of 16,384 bits has 3 KiB
constexpr std::size_t kEd25519Blob = 4 + 11 + 4 + 32;  // type and key, each behind its length
constexpr std::size_t kMostKeys = 8;
constexpr std::size_t kLargestAnswer = 64 * 1024;
constexpr std::size_t kLargestPins = 1024 * 1024;

bool is_base64(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

/// Nullopt for anything but whole, padded base64.
std::optional<std::string> from_base64(std::string_view text) {
  const auto padding = text.size() - std::min(text.size(), text.find_last_not_of('=') + 1);
  const auto body = text.substr(0, text.size() - padding);
  if (body.empty() || text.size() % 4 != 0 || padding > 2 ||
      !std::all_of(body.begin(), body.end(), is_base64))
    return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(size) - padding);
  return bytes;
}

/// The type that stands first in a key's blob (RFC 4253, section 6.6).
std::string_view type_in(std::string_view blob) {
  if (blob.size() < 4) return {};
  std::size_t size = 0;
  for (int i = 0; i < 4; ++i)
    size = size << 8U | static_cast<unsigned char>(blob[static_cast<std::size_t>(i)]);
  return size <= blob.size() - 4 ? blob.substr(4, size) : std::string_view();
}

bool is_known_type(std::string_view type) {
  constexpr std::string_view kTypes[] = {"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
                                         "ecdsa-sha2-nistp521", "ssh-rsa"};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

std::string told(const std::vector<std::string>& keys) {
  std::string text;
  for (const auto& key : keys) text += (text.empty() ? "" : ", ") + key_fingerprint(key);
  return text;
}

tl::unexpected<Error> not_ours(const std::filesystem::path& folder, const std::string& why) {
  return fail(Error::Kind::denied, folder.string() + ": " + why);
}

/// The keys pinned for `origin` in the text of a known_servers file.
std::vector<std::string> pinned_in(std::string_view text, std::string_view origin) {
  std::vector<std::string> keys;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.starts_with(origin) || line.substr(origin.size(), 1) != " ") continue;
    if (auto key = parse_public_key(line.substr(origin.size() + 1))) keys.push_back(std::move(*key));
  }
  return keys;
}

Error changed_key(const std::filesystem::path& file, std::string_view origin, const std::string& shown,
                  const std::vector<std::string>& pinned) {
  return Error{
      Error::Kind::denied,
      "TUNNEL_015: " + std::string(origin) + " shows the SSH key " + key_fingerprint(shown) +
          ", and not the one that this agent saw first (" + told(pinned) +
          "); if its operator confirms the new one (tunneld ssh-key), take the lines of this server out of " +
          file.string() + " and start the agent again"};
}

}  // namespace

bool is_agent_id(std::string_view text) {
  return !text.empty() && text.size() <= 63 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

Result<std::filesystem::path> agent_folder(const std::filesystem::path& xdg_state_home,
                                           const std::filesystem::path& home, std::string_view id) {
  std::filesystem::path state;
  if (xdg_state_home.is_absolute())  // others are to be ignored, says the XDG specification
    state = xdg_state_home;
  else if (home.is_absolute())
    state = home / ".local" / "state";
  else
    return fail(Error::Kind::not_found,
                "there is no place for the agent's keys: set HOME or XDG_STATE_HOME to an absolute path, or "
                "name a folder with --state-dir");
  return state / "tunnelctl" / "agents" / id;
}

Result<void> make_private_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder.parent_path(), error);
  if (error) return not_ours(folder.parent_path(), "cannot be made: " + error.message());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return not_ours(folder, std::string("cannot be made: ") + std::strerror(errno));
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0)
    return not_ours(folder, std::string("cannot be read: ") + std::strerror(errno));
  if (!S_ISDIR(status.st_mode)) return not_ours(folder, "is no folder");
  if (status.st_uid != ::geteuid()) return not_ours(folder, "belongs to another user");
  if ((status.st_mode & 077) != 0)
    return not_ours(folder, "is open to others, but holds keys; run: chmod 700 " + folder.string());
  return {};
}

Result<std::string> parse_public_key(std::string_view line) {
  const auto none = [] { return fail(Error::Kind::bad_input, "is no SSH public key"); };
  if (line.size() > kLongestKey) return none();
  const auto space = line.find(' ');
  if (space == std::string_view::npos) return none();
  const auto type = line.substr(0, space);
  const auto rest = line.substr(space + 1);
  const auto text = rest.substr(0, rest.find(' '));
  const auto blob = from_base64(text);
  if (!blob || !is_known_type(type) || type_in(*blob) != type) return none();
  if (type == "ssh-ed25519" && blob->size() != kEd25519Blob) return none();
  return std::string(type).append(" ").append(text);
}

std::string key_fingerprint(std::string_view public_key) {
  const auto blob = from_base64(public_key.substr(std::min(public_key.find(' '), public_key.size() - 1) + 1));
  if (!blob) return "(no key)";
  const auto digest = sha256(*blob);
  unsigned char text[64];
  const int length = EVP_EncodeBlock(text, digest.data(), static_cast<int>(digest.size()));
  std::string shown(reinterpret_cast<const char*>(text), static_cast<std::size_t>(length));
  while (shown.ends_with('=')) shown.pop_back();
  return "SHA256:" + shown;
}

Result<std::vector<std::string>> parse_tunnel_keys(std::string_view body) {
  const auto json = parse_strict_json(body, kLargestAnswer);
  const auto none = [](const char* why) { return fail(Error::Kind::bad_input, why); };
  if (!json) return tl::unexpected(json.error());
  const auto list = json->is_object() ? json->find("keys") : json->end();
  if (!json->is_object() || list == json->end() || !list->is_array() || list->empty() ||
      list->size() > kMostKeys)
    return none("has no \"keys\", one to eight of them");
  std::vector<std::string> keys;
  for (const auto& entry : *list) {
    const auto text = entry.is_object() ? entry.find("publicKey") : entry.end();
    if (!entry.is_object() || text == entry.end() || !text->is_string())
      return none("has a key without \"publicKey\"");
    auto key = parse_public_key(text->get_ref<const std::string&>());
    if (!key) return none("has a \"publicKey\" that is no SSH public key");
    keys.push_back(std::move(*key));
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

Result<void> pin_tunnel_keys(const std::filesystem::path& folder, std::string_view origin,
                             const std::vector<std::string>& keys) {
  const auto file = folder / "known_servers";
  auto text = config::read_file(file, kLargestPins);
  // A file that cannot be read is not one that is not there: nothing would be pinned any more.
  if (!text && text.error().kind != Error::Kind::not_found) return tl::unexpected(text.error());
  std::string known = text ? std::move(*text) : std::string();
  const auto pinned = pinned_in(known, origin);
  if (!pinned.empty()) {
    for (const auto& key : keys)
      if (std::find(pinned.begin(), pinned.end(), key) == pinned.end())
        return tl::unexpected(changed_key(file, origin, key, pinned));
    return {};
  }
  if (!known.empty() && !known.ends_with('\n')) known += '\n';
  for (const auto& key : keys) known.append(origin).append(" ").append(key).append("\n");
  return atomic_file::write(file, known, 0600);
}

}  // namespace tunnelctl::client
