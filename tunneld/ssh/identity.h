#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "common/result.h"

namespace tunneld::ssh {

/// The SSH key pair with which tunneld logs in. Held as the text of an OpenSSH private key file,
/// which both libssh2 and the ssh command read.
class Identity {
 public:
  /// Reads an unencrypted private key file in OpenSSH format. Fails with bad_input naming the file
  /// and the cause: missing, readable by others, passphrase, not a key.
  static Result<Identity> load(const std::filesystem::path& path);

  /// The same, but makes an Ed25519 pair first when there is no such file: `path` 0600 and
  /// `path`.pub 0644, each written to a temporary name, synced and renamed.
  static Result<Identity> load_or_create(const std::filesystem::path& path, const std::string& comment);

  /// "ssh-ed25519 AAAA… comment": the line for authorized_keys.
  const std::string& public_line() const { return public_line_; }
  /// "SHA256:…" of the public key, as ssh-keygen -l prints it.
  const std::string& fingerprint() const { return fingerprint_; }
  /// Ed25519's signature of `message` (RFC 8032), in base64. bad_input for a key of another type.
  Result<std::string> sign(std::string_view message) const;
  /// The private key file's text. A secret.
  const std::string& private_text() const { return private_text_; }

 private:
  std::string private_text_;
  std::string public_line_;
  std::string fingerprint_;
};

/// "SHA256:" and the unpadded base64 of the digest of a public key blob (RFC 4253 §6.6).
std::string fingerprint_of(const std::string& key_blob);

/// The key blob in "ssh-ed25519 AAAA… comment", the only type taken; bad_input for anything else.
Result<std::string> public_key_blob(std::string_view line);

}  // namespace tunneld::ssh
