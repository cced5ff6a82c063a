#include "tunneld/ssh/identity.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "common/atomic_file.h"

namespace tunneld::ssh {
namespace {

constexpr const char* kBegin = "-----BEGIN OPENSSH PRIVATE KEY-----";
constexpr const char* kEnd = "-----END OPENSSH PRIVATE KEY-----";
constexpr std::string_view kMagic{"openssh-key-v1\0", 15};
constexpr std::size_t kMaxFileBytes = 16 * 1024;

std::string base64(const std::string& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

/// Empty when `text` is not base64.
std::string from_base64(std::string text) {
  std::erase_if(text, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
  if (text.empty() || text.size() % 4 != 0) return {};
  std::string bytes(text.size() / 4 * 3, '\0');
  int length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (length < 0) return {};
  std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes.resize(static_cast<std::size_t>(length) - padding);
  return bytes;
}

void put_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((value >> shift) & 0xff);
}

void put_string(std::string& out, std::string_view value) {
  put_u32(out, static_cast<std::uint32_t>(value.size()));
  out += value;
}

/// Reads length-prefixed strings off the front of SSH wire data.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}
  bool u32(std::uint32_t& value) {
    if (rest_.size() < 4) return false;
    value = 0;
    for (int i = 0; i < 4; ++i)
      value = value << 8 | static_cast<unsigned char>(rest_[static_cast<std::size_t>(i)]);
    rest_.remove_prefix(4);
    return true;
  }
  bool string(std::string_view& value) {
    std::uint32_t size = 0;
    if (!u32(size) || rest_.size() < size) return false;
    value = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }

 private:
  std::string_view rest_;
};

std::string system_message(int error) {
  return std::generic_category().message(error);
}

/// An openssh-key-v1 file (OpenSSH PROTOCOL.key) with one unencrypted Ed25519 key.
Result<std::string> generate(const std::string& comment) {
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"),
                                                          &EVP_PKEY_free);
  std::array<unsigned char, 32> seed{};
  std::array<unsigned char, 32> point{};
  std::size_t seed_size = seed.size();
  std::size_t point_size = point.size();
  std::array<unsigned char, 4> check{};
  if (!key || EVP_PKEY_get_raw_private_key(key.get(), seed.data(), &seed_size) != 1 ||
      EVP_PKEY_get_raw_public_key(key.get(), point.data(), &point_size) != 1 ||
      RAND_bytes(check.data(), check.size()) != 1)
    return fail(Error::Kind::bug, "OpenSSL could not make an Ed25519 key");

  std::string_view public_point(reinterpret_cast<const char*>(point.data()), point.size());
  std::string blob;
  put_string(blob, "ssh-ed25519");
  put_string(blob, public_point);

  std::string secret;
  std::string_view repeated(reinterpret_cast<const char*>(check.data()), check.size());
  secret += repeated;
  secret += repeated;
  put_string(secret, "ssh-ed25519");
  put_string(secret, public_point);
  std::string pair(reinterpret_cast<const char*>(seed.data()), seed.size());
  pair += public_point;
  put_string(secret, pair);
  put_string(secret, comment);
  for (char pad = 1; secret.size() % 8 != 0; ++pad) secret += pad;

  std::string file(kMagic);
  put_string(file, "none");
  put_string(file, "none");
  put_string(file, "");
  put_u32(file, 1);
  put_string(file, blob);
  put_string(file, secret);

  std::string encoded = base64(file);
  std::string text = std::string(kBegin) + "\n";
  for (std::size_t at = 0; at < encoded.size(); at += 70) text += encoded.substr(at, 70) + "\n";
  return text + kEnd + "\n";
}

}  // namespace

std::string fingerprint_of(const std::string& key_blob) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(key_blob.data()), key_blob.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  std::string text = base64(digest);
  while (text.ends_with('=')) text.pop_back();
  return "SHA256:" + text;
}

Result<std::string> public_key_blob(std::string_view line) {
  constexpr std::string_view kType = "ssh-ed25519";
  constexpr std::size_t kKeyBytes = 32;
  const auto bad = fail(Error::Kind::bad_input, "must be ssh-ed25519, a space and the key in base64");
  if (!line.starts_with(kType) || line.size() == kType.size() || line[kType.size()] != ' ') return bad;
  line.remove_prefix(kType.size() + 1);
  const std::string text(line.substr(0, line.find(' ')));
  std::string blob = from_base64(text);
  Cursor cursor(blob);
  std::string_view type, key;
  if (!cursor.string(type) || type != kType || !cursor.string(key) || key.size() != kKeyBytes) return bad;
  // Written in another way, or with something behind it, it would not be the key that its owner sees.
  if (blob.size() != 4 + kType.size() + 4 + kKeyBytes || base64(blob) != text) return bad;
  return blob;
}

Result<std::string> Identity::sign(std::string_view message) const {
  constexpr std::size_t kSeedBytes = 32;
  const auto none = [this] {
    return fail(Error::Kind::bad_input,
                "the SSH key " + fingerprint_ + " is no Ed25519 key, which could sign");
  };
  auto begin = private_text_.find(kBegin);
  const auto end = private_text_.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) return none();
  begin += std::strlen(kBegin);
  const std::string bytes = from_base64(private_text_.substr(begin, end - begin));
  if (!bytes.starts_with(kMagic)) return none();
  Cursor cursor(std::string_view(bytes).substr(kMagic.size()));
  std::string_view skipped, secret, type, pair;
  std::uint32_t number = 0;
  const bool whole = cursor.string(skipped) && cursor.string(skipped) && cursor.string(skipped) &&
                     cursor.u32(number) && cursor.string(skipped) && cursor.string(secret);
  Cursor inside(secret);
  if (!whole || !inside.u32(number) || !inside.u32(number) || !inside.string(type) || type != "ssh-ed25519" ||
      !inside.string(skipped) || !inside.string(pair) || pair.size() < kSeedBytes)
    return none();
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                   reinterpret_cast<const unsigned char*>(pair.data()), kSeedBytes),
      &EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  std::string signature(64, '\0');
  std::size_t size = signature.size();
  if (!key || !context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                     reinterpret_cast<const unsigned char*>(message.data()), message.size()) != 1)
    return fail(Error::Kind::bug, "OpenSSL could not sign with the SSH key " + fingerprint_);
  return base64(signature);
}

Result<Identity> Identity::load(const std::filesystem::path& path) {
  auto bad = [&](const std::string& what) {
    return fail(Error::Kind::bad_input, path.string() + ": " + what);
  };
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return bad("cannot read the SSH key: " + system_message(errno));
  if (!S_ISREG(status.st_mode)) return bad("is not a file");
  if ((status.st_mode & 077) != 0)
    return bad("others can read this private key: run chmod 600 " + path.string());
  std::ifstream file(path, std::ios::binary);
  if (!file) return bad("cannot read the SSH key: " + system_message(errno));
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));

  auto begin = text.find(kBegin);
  auto end = text.find(kEnd);
  if (text.size() > kMaxFileBytes || begin == std::string::npos || end == std::string::npos || end < begin)
    return bad("is not an OpenSSH private key; convert it with: ssh-keygen -p -N '' -f " + path.string());
  begin += std::strlen(kBegin);
  std::string bytes = from_base64(text.substr(begin, end - begin));
  if (!bytes.starts_with(kMagic)) return bad("is a damaged OpenSSH private key");

  Cursor cursor(std::string_view(bytes).substr(kMagic.size()));
  std::string_view cipher, kdf, kdf_options, blob, type, secret;
  std::uint32_t count = 0;
  if (!cursor.string(cipher) || !cursor.string(kdf) || !cursor.string(kdf_options) || !cursor.u32(count) ||
      count != 1 || !cursor.string(blob) || !Cursor(blob).string(type) || !cursor.string(secret))
    return bad("is a damaged OpenSSH private key");
  if (cipher != "none")
    return bad("has a passphrase; tunneld cannot ask for one: remove it with ssh-keygen -p -N '' -f " +
               path.string());

  // An Ed25519 key's comment stands last of what would be encrypted: two check numbers, then strings.
  std::string_view comment, skipped;
  Cursor inside(secret);
  if (type != "ssh-ed25519" || !inside.u32(count) || !inside.u32(count) || !inside.string(skipped) ||
      !inside.string(skipped) || !inside.string(skipped) || !inside.string(comment) || comment.empty() ||
      comment.find_first_of("\r\n") != std::string_view::npos)
    comment = "tunneld";

  Identity identity;
  identity.private_text_ = std::move(text);
  identity.public_line_ = std::string(type) + " " + base64(std::string(blob)) + " " + std::string(comment);
  identity.fingerprint_ = fingerprint_of(std::string(blob));
  return identity;
}

Result<Identity> Identity::load_or_create(const std::filesystem::path& path, const std::string& comment) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    auto text = generate(comment);
    if (!text) return tl::unexpected(text.error());
    if (auto written = atomic_file::write(path, *text, 0600); !written)
      return tl::unexpected(written.error());
    auto made = load(path);
    if (!made) return made;
    if (auto written = atomic_file::write(path.string() + ".pub", made->public_line() + "\n", 0644); !written)
      return tl::unexpected(written.error());
    return made;
  }
  return load(path);
}

}  // namespace tunneld::ssh
