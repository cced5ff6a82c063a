#include "tunnelctl/client/agent_pins.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include <openssl/evp.h>
#include <nlohmann/json.hpp>

#include "common/atomic_file.h"
#include "common/config_file.h"
#include "common/strict_json.h"
#include "tunnel/key_succession.h"
#include "tunnelctl/client/agent_state.h"

namespace tunnelctl::client {
namespace {

using nlohmann::json;

constexpr std::size_t kMostKeys = 8;
constexpr std::size_t kMostSuccessions = 64;
constexpr std::size_t kLargestAnswer = 64 * 1024;
constexpr std::size_t kLargestPins = 1024 * 1024;
constexpr std::size_t kEd25519Point = 32;

/// A list of fingerprints, for people.
template <class Names>
std::string told(const Names& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::set<std::string> fingerprints(const std::vector<std::string>& keys) {
  std::set<std::string> all;
  for (const auto& key : keys) all.insert(key_fingerprint(key));
  return all;
}

tl::unexpected<Error> no_keys(const std::string& why) {
  return fail(Error::Kind::bad_input, why);
}

Result<TunnelKeys::Succession> parse_succession(const json& entry) {
  const auto text = [&entry](const char* name) -> std::string {
    const auto found = entry.is_object() ? entry.find(name) : entry.end();
    return entry.is_object() && found != entry.end() && found->is_string() ? found->get<std::string>() : "";
  };
  const auto from = parse_public_key(text("from"));
  const auto to = parse_public_key(text("to"));
  const auto signature = decoded_base64(text("signature"));
  if (!from || !to || !signature)
    return no_keys("has a succession without \"from\", \"to\" and \"signature\"");
  return TunnelKeys::Succession{*from, *to, *signature};
}

/// Whether the older key says so itself.
bool is_signed(const TunnelKeys::Succession& one) {
  if (!one.from.starts_with("ssh-ed25519 ")) return false;
  const auto blob = decoded_base64(std::string_view(one.from).substr(one.from.find(' ') + 1));
  if (!blob || blob->size() < kEd25519Point) return false;
  const auto* point = reinterpret_cast<const unsigned char*>(blob->data()) + blob->size() - kEd25519Point;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, point, kEd25519Point), &EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const auto message = tunnel::key_succession_message(one.from, one.to);
  return key && context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(one.signature.data()),
                          one.signature.size(), reinterpret_cast<const unsigned char*>(message.data()),
                          message.size()) == 1;
}

/// The file, taken apart.
struct KnownServers {
  std::string others;             // the lines of other servers, and comments
  std::vector<std::string> keys;  // of this one
};

/// A line that is none would pin nothing, and whatever key came next would be taken for the first.
Result<KnownServers> parse_known(const std::filesystem::path& file, std::string_view text,
                                 std::string_view origin) {
  KnownServers known;
  for (unsigned number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto space = line.find(' ');
    const bool plain = line.empty() || line.front() == '#';
    const auto key = plain || space == std::string_view::npos ? Result<std::string>(tl::unexpected(Error{}))
                                                              : parse_public_key(line.substr(space + 1));
    if (!plain && !key)
      return fail(
          Error::Kind::bad_input,
          file.string() + ":" + std::to_string(number) +
              ": is damaged: each line has a server's address and its SSH key; put the line right, or "
              "delete the file if it is to be learnt anew (tunneld ssh-key shows the key)");
    if (!plain && line.substr(0, space) == origin)
      known.keys.push_back(*key);
    else
      known.others.append(line).append("\n");
  }
  return known;
}

Error changed_key(const std::filesystem::path& file, std::string_view origin, const std::string& shown,
                  const std::vector<std::string>& pinned, const std::vector<std::string>& named) {
  const std::string begins =
      "TUNNEL_015: " + std::string(origin) + " shows the SSH key " + shown + ", and not ";
  if (!named.empty())
    return {Error::Kind::denied,
            begins + "the one that --server-key names (" + told(named) +
                "); ask its operator for the fingerprint (tunneld ssh-key | ssh-keygen -lf -)"};
  return {Error::Kind::denied,
          begins + "the one that this agent knows by " + file.string() + " (" + told(fingerprints(pinned)) +
              "); if its operator confirms the new one, start the agent with --server-key " + shown};
}

}  // namespace

Result<TunnelKeys> parse_tunnel_keys(std::string_view body) {
  const auto json = parse_strict_json(body, kLargestAnswer);
  if (!json) return tl::unexpected(json.error());
  const auto list = json->is_object() ? json->find("keys") : json->end();
  if (!json->is_object() || list == json->end() || !list->is_array() || list->empty() ||
      list->size() > kMostKeys)
    return no_keys("has no \"keys\", one to eight of them");
  TunnelKeys shown;
  auto& keys = shown.keys;
  for (const auto& entry : *list) {
    const auto text = entry.is_object() ? entry.find("publicKey") : entry.end();
    if (!entry.is_object() || text == entry.end() || !text->is_string())
      return no_keys("has a key without \"publicKey\"");
    auto key = parse_public_key(text->get_ref<const std::string&>());
    if (!key) return no_keys("has a \"publicKey\" that is no SSH public key");
    keys.push_back(std::move(*key));
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());

  const auto successions = json->find("successions");
  if (successions == json->end()) return shown;
  if (!successions->is_array() || successions->size() > kMostSuccessions)
    return no_keys("has \"successions\" that are no list of at most 64");
  for (const auto& entry : *successions) {
    auto one = parse_succession(entry);
    if (!one) return tl::unexpected(one.error());
    shown.successions.push_back(std::move(*one));
  }
  return shown;
}

bool is_fingerprint(std::string_view text) {
  constexpr std::string_view kBegins = "SHA256:";
  constexpr std::size_t kDigest = 43;
  if (!text.starts_with(kBegins) || text.size() != kBegins.size() + kDigest) return false;
  return decoded_base64(std::string(text.substr(kBegins.size())) + "=").has_value();
}

Result<Pinned> pin_tunnel_keys(const std::filesystem::path& folder, std::string_view origin,
                               const TunnelKeys& shown, const std::vector<std::string>& named) {
  const auto file = folder / "known_servers";
  const auto text = config::read_file(file, kLargestPins);
  // A file that cannot be read is not one that is not there: nothing would be pinned any more.
  if (!text && text.error().kind != Error::Kind::not_found) return tl::unexpected(text.error());
  auto known = parse_known(file, text ? *text : std::string(), origin);
  if (!known) return tl::unexpected(known.error());
  auto& pinned = known->keys;

  std::set<std::string> good = fingerprints(pinned);
  if (!named.empty())
    good = {named.begin(), named.end()};
  else if (pinned.empty())
    good = fingerprints(shown.keys);
  for (const auto& one : shown.successions)
    if (good.contains(key_fingerprint(one.from)) && is_signed(one)) good.insert(key_fingerprint(one.to));
  for (const auto& key : shown.keys)
    if (!good.contains(key_fingerprint(key)))
      return tl::unexpected(changed_key(file, origin, key_fingerprint(key), pinned, named));

  const auto is_pinned = [&pinned](const std::string& key) {
    return std::find(pinned.begin(), pinned.end(), key) != pinned.end();
  };
  Pinned done;
  if (std::all_of(shown.keys.begin(), shown.keys.end(), is_pinned)) return done;
  done.now = told(fingerprints(shown.keys));
  done.before = told(fingerprints(pinned));
  done.how = pinned.empty() ? Pinned::How::first : named.empty() ? Pinned::How::followed : Pinned::How::named;
  auto keys = shown.keys;
  // Others behind the same name may show the older one for a while.
  if (named.empty())
    for (const auto& key : pinned)
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  for (const auto& key : keys) known->others.append(origin).append(" ").append(key).append("\n");
  if (auto written = atomic_file::write(file, known->others, 0600); !written)
    return tl::unexpected(written.error());
  return done;
}

}  // namespace tunnelctl::client
