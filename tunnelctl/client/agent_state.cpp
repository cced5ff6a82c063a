#include "tunnelctl/client/agent_state.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include <openssl/evp.h>

#include "common/sha256.h"

namespace tunnelctl::client {
namespace {

constexpr std::size_t kLongestKey = 8 * 1024;          // an RSA key of 16,384 bits has 3 KiB
constexpr std::size_t kEd25519Blob = 4 + 11 + 4 + 32;  // type and key, each behind its length

constexpr const char* kElsewhere = "; name another folder for the agent's keys with --state-dir";

bool is_base64(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
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

tl::unexpected<Error> not_ours(const std::filesystem::path& folder, const std::string& why) {
  return fail(Error::Kind::denied, folder.string() + ": " + why);
}

}  // namespace

std::optional<std::string> decoded_base64(std::string_view text) {
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
  if (error) return not_ours(folder.parent_path(), "cannot be made: " + error.message() + kElsewhere);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return not_ours(folder, std::string("cannot be made: ") + std::strerror(errno) + kElsewhere);
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0)
    return not_ours(folder, std::string("cannot be read: ") + std::strerror(errno) + kElsewhere);
  if (!S_ISDIR(status.st_mode)) return not_ours(folder, std::string("is no folder") + kElsewhere);
  if (status.st_uid != ::geteuid())
    return not_ours(folder, std::string("belongs to another user") + kElsewhere);
  if ((status.st_mode & 077) != 0)
    return not_ours(folder, "is open to others, but holds keys; run: chmod 700 " + folder.string());
  if (::access(folder.c_str(), R_OK | W_OK | X_OK) != 0)
    return not_ours(folder, std::string("cannot be written: ") + std::strerror(errno) + kElsewhere);
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
  const auto blob = decoded_base64(text);
  if (!blob || !is_known_type(type) || type_in(*blob) != type) return none();
  if (type == "ssh-ed25519" && blob->size() != kEd25519Blob) return none();
  return std::string(type).append(" ").append(text);
}

std::string key_fingerprint(std::string_view public_key) {
  const auto blob =
      decoded_base64(public_key.substr(std::min(public_key.find(' '), public_key.size() - 1) + 1));
  if (!blob) return "(no key)";
  const auto digest = sha256(*blob);
  unsigned char text[64];
  const int length = EVP_EncodeBlock(text, digest.data(), static_cast<int>(digest.size()));
  std::string shown(reinterpret_cast<const char*>(text), static_cast<std::size_t>(length));
  while (shown.ends_with('=')) shown.pop_back();
  return "SHA256:" + shown;
}

}  // namespace tunnelctl::client
