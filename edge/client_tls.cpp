#include "edge/client_tls.h"

#include <ctime>

#include <arpa/inet.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "common/http_access.h"
#include "common/http_tls_files.h"
#include "common/openssl_handles.h"

namespace edge {

namespace {

void free_certificate(void*, void* certificate, CRYPTO_EX_DATA*, int, long, void*) {
  delete static_cast<ServerCertificate*>(certificate);
}

/// Where an SSL keeps the ServerCertificate that goes with it.
int certificate_slot() {
  static const int slot = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, free_certificate);
  return slot;
}

std::string text_of(const X509_NAME* name) {
  const openssl::BioHandle out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return http::one_line({text, size > 0 ? static_cast<std::size_t>(size) : 0U}, 200);
}

std::chrono::system_clock::time_point time_of(const ASN1_TIME* when) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(when, &parts) != 1) return {};
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

/// Looks on while OpenSSL verifies: a certificate that it refuses is not kept anywhere else.
int remember(int good, X509_STORE_CTX* store) {
  const auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  const auto* leaf = X509_STORE_CTX_get0_cert(store);
  if (ssl == nullptr || leaf == nullptr) return good;
  auto& seen = *static_cast<ServerCertificate*>(SSL_get_ex_data(ssl, certificate_slot()));
  if (!seen.subject.empty()) return good;
  seen = {text_of(X509_get_subject_name(leaf)), text_of(X509_get_issuer_name(leaf)),
          time_of(X509_get0_notBefore(leaf)), time_of(X509_get0_notAfter(leaf))};
  return good;
}

int no_passphrase(char*, int, int, void*) {
  return 0;
}

bool load(SSL_CTX* context, const http::TlsFiles& files) {
  SSL_CTX_set_default_passwd_cb(context, no_passphrase);
  const bool trusts = files.ca ? SSL_CTX_load_verify_file(context, files.ca->c_str()) == 1
                               : SSL_CTX_set_default_verify_paths(context) == 1;
  if (!trusts || !files.certificate) return trusts;
  const auto& key = files.key ? *files.key : *files.certificate;
  return SSL_CTX_use_certificate_chain_file(context, files.certificate->c_str()) == 1 &&
         SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) == 1;
}

bool is_address(const std::string& host) {
  std::array<unsigned char, 16> ignored{};
  return ::inet_pton(AF_INET, host.c_str(), ignored.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), ignored.data()) == 1;
}

bool expect(SSL* ssl, const std::string& host) {
  if (is_address(host)) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  // As SSL_set_tlsext_host_name(), whose cast is an old one.
  return SSL_set1_host(ssl, host.c_str()) == 1 &&
         SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                  const_cast<char*>(host.c_str())) == 1;
}

}  // namespace

Result<SslHandle> client_tls(const http::TlsFiles& files, const std::string& host) {
  if (auto good = http::check(files); !good) return tl::unexpected(std::move(good.error()));
  const std::unique_ptr<SSL_CTX, openssl::Release<SSL_CTX_free>> context(SSL_CTX_new(TLS_client_method()));
  if (!context) return fail(Error::Kind::bug, "OpenSSL makes no TLS context");
  auto* raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  // As the server's: one recv() serves several records.
  SSL_CTX_set_read_ahead(raw, 1);
  SSL_CTX_set_default_read_buffer_len(raw, 128 * 1024 + 1024);
  SSL_CTX_set_verify(raw, files.insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, remember);
  ERR_clear_error();
  if (!load(raw, files))
    return fail(Error::Kind::bad_input,
                "OpenSSL cannot use the TLS files: they changed while they were read");

  SslHandle ssl(SSL_new(raw));
  if (!ssl) return fail(Error::Kind::bug, "OpenSSL makes no TLS connection");
  auto certificate = std::make_unique<ServerCertificate>();
  if (SSL_set_ex_data(ssl.get(), certificate_slot(), certificate.get()) != 1)
    return fail(Error::Kind::bug, "OpenSSL has no memory");
  (void)certificate.release();
  static constexpr unsigned char kHttp[] = "\x08http/1.1";
  SSL_set_alpn_protos(ssl.get(), kHttp, sizeof kHttp - 1);
  SSL_set_connect_state(ssl.get());
  if (!expect(ssl.get(), host)) {
    ERR_clear_error();
    return fail(Error::Kind::bad_input, "the host's name cannot be verified: " + host);
  }
  ERR_clear_error();
  return ssl;
}

const ServerCertificate& certificate_of(const SSL* ssl) {
  return *static_cast<const ServerCertificate*>(SSL_get_ex_data(ssl, certificate_slot()));
}

const char* cause_of(long verdict) {
  switch (verdict) {
    case X509_V_OK: return "tls_failed";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return "certificate_name";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: return "certificate_time";
    default: return "certificate_untrusted";
  }
}

}  // namespace edge
