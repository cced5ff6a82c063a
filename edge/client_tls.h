#pragma once

#include <chrono>
#include <string>

#include "common/http_client.h"
#include "common/result.h"
#include "edge/transport.h"

namespace edge {

/// What a server showed to say who it is. Names as in RFC 2253; empty before the handshake.
struct ServerCertificate {
  std::string subject;
  std::string issuer;
  std::chrono::system_clock::time_point begins{};
  std::chrono::system_clock::time_point ends{};
};

/// TLS towards `host`, a name or an address: 1.2 or newer, ALPN http/1.1, SNI for names, chain and name
/// verified by the CA file or the system's certificates (OpenSSL's SSL_CERT_FILE counts), unless
/// `files.insecure`. Reads the files each time. Fails with bad_input naming the file and the cause.
Result<SslHandle> client_tls(const http::TlsFiles& files, const std::string& host);

/// Of a handshake of client_tls(), also of one that was refused for it.
const ServerCertificate& certificate_of(const SSL* ssl);

/// What is wrong with the certificate, for programs: certificate_untrusted, certificate_name,
/// certificate_time, or tls_failed when it is not to blame. `verdict` is SSL_get_verify_result()'s.
const char* cause_of(long verdict);

}  // namespace edge
