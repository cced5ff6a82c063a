#pragma once

#include <filesystem>
#include <memory>

#include <openssl/ssl.h>

#include "common/result.h"

namespace edge {

struct TlsOptions {
  std::filesystem::path certificate_file;  // PEM: the certificate, then its chain
  std::filesystem::path key_file;          // PEM, not encrypted
  /// Below 1.3 only for callers that cannot do better; then ECDHE with AEAD ciphers alone.
  enum class MinVersion { tls1_2, tls1_3 };
  MinVersion min_version = MinVersion::tls1_3;
};

/// A server context from those files: TLS 1.3 (AES-256-GCM first, X25519), ALPN http/1.1, no
/// renegotiation, compression, early data or session tickets (so there is no ticket key to rotate; a
/// full handshake costs well under a millisecond and no further round trip).
/// Fails with bad_input naming the file and the cause. Load it again to reload: connections keep the
/// context they began with.
Result<std::shared_ptr<SSL_CTX>> load_tls(const TlsOptions& options);

}  // namespace edge
