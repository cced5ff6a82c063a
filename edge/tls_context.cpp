#include "edge/tls_context.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "common/openssl_handles.h"

namespace edge {

namespace {

using Bio = openssl::BioHandle;
using Certificate = openssl::CertificateHandle;
using Key = openssl::PkeyHandle;

Result<std::string> read_file(const char* what, const std::filesystem::path& path) {
  if (path.empty()) return fail(Error::Kind::bad_input, std::string("no ") + what + " file is configured");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    const auto why = errno != 0 ? std::generic_category().message(errno) : "it is empty or not a file";
    return fail(Error::Kind::bad_input,
                std::string(what) + " file " + path.string() + ": cannot be read: " + why);
  }
  return text.str();
}

Result<void> use_certificates(SSL_CTX* context, const std::filesystem::path& path) {
  auto text = read_file("certificate", path);
  if (!text) return tl::unexpected(std::move(text.error()));
  const Bio bio(BIO_new_mem_buf(text->data(), static_cast<int>(text->size())));
  bool first = true;
  for (;;) {
    const Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (!certificate) break;
    const bool taken = first ? SSL_CTX_use_certificate(context, certificate.get()) == 1
                             : SSL_CTX_add1_chain_cert(context, certificate.get()) == 1;
    if (!taken)
      return fail(Error::Kind::bad_input, "certificate file " + path.string() + ": OpenSSL refuses it: " +
                                              ERR_reason_error_string(ERR_get_error()));
    first = false;
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (first || !at_end)
    return fail(Error::Kind::bad_input,
                "certificate file " + path.string() + ": " +
                    (first ? "holds no PEM certificate" : "a later PEM block is broken"));
  return {};
}

int no_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return 0;
}

Result<void> use_key(SSL_CTX* context, const TlsOptions& options) {
  const auto& path = options.key_file;
  auto text = read_file("key", path);
  if (!text) return tl::unexpected(std::move(text.error()));
  const Bio bio(BIO_new_mem_buf(text->data(), static_cast<int>(text->size())));
  bool encrypted = false;
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, &encrypted));
  OPENSSL_cleanse(text->data(), text->size());
  ERR_clear_error();
  const auto refuse = [&](const std::string& why) {
    return fail(Error::Kind::bad_input, "key file " + path.string() + ": " + why);
  };
  if (encrypted) return refuse("it is encrypted; store it without a passphrase, readable by the daemon only");
  if (!key) return refuse("holds no PEM private key");
  if (X509_check_private_key(SSL_CTX_get0_certificate(context), key.get()) != 1) {
    ERR_clear_error();
    return refuse("does not belong to the certificate in " + options.certificate_file.string());
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    ERR_clear_error();
    return refuse("OpenSSL does not accept this kind of key");
  }
  return {};
}

int select_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                    const unsigned char* offered, unsigned offered_size, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* found = nullptr;
  const int outcome =
      SSL_select_next_proto(&found, chosen_size, kOurs, sizeof kOurs - 1, offered, offered_size);
  *chosen = found;
  // RFC 7301 3.2: a caller that speaks none of ours is told by an alert (cross-protocol attacks).
  return outcome == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

Result<std::shared_ptr<SSL_CTX>> load_tls(const TlsOptions& options) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (!context) return fail(Error::Kind::bug, "OpenSSL cannot make a TLS context");
  auto* raw = context.get();
  const int min = options.min_version == TlsOptions::MinVersion::tls1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
  char groups[] = "X25519:P-256";  // not const: OpenSSL's macro casts it away
  const bool set =
      SSL_CTX_set_min_proto_version(raw, min) == 1 &&
      SSL_CTX_set_ciphersuites(
          raw, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
      SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
      SSL_CTX_set1_groups_list(raw, groups) == 1;
  if (!set) return fail(Error::Kind::bug, "OpenSSL lacks a cipher or group that tunneld needs");
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  // One recv() serves several records; the buffer exists only while a record is incomplete.
  SSL_CTX_set_read_ahead(raw, 1);
  SSL_CTX_set_default_read_buffer_len(raw, 128 * 1024 + 1024);
  SSL_CTX_set_alpn_select_cb(raw, select_protocol, nullptr);
  ERR_clear_error();
  if (auto used = use_certificates(raw, options.certificate_file); !used)
    return tl::unexpected(std::move(used.error()));
  if (auto used = use_key(raw, options); !used) return tl::unexpected(std::move(used.error()));
  return context;
}

}  // namespace edge
