#include "common/http_tls_files.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace http {
namespace {

int no_passphrase(char*, int, int, void*) {
  return 0;
}

std::string reason() {
  const unsigned long code = ::ERR_peek_last_error();
  ::ERR_clear_error();
  if (const char* text = ::ERR_reason_error_string(code)) return text;
  return "unreadable";
}

}  // namespace

Result<void> check(const TlsFiles& files) {
  const auto refuse = [](const std::filesystem::path& file, const std::string& what) -> Result<void> {
    return fail(Error::Kind::bad_input, file.string() + ": cannot be used as " + what + ": " + reason());
  };
  const std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> context(::SSL_CTX_new(::TLS_client_method()),
                                                                    &::SSL_CTX_free);
  if (!context) return fail(Error::Kind::bug, "OpenSSL makes no context");
  ::ERR_clear_error();
  ::SSL_CTX_set_default_passwd_cb(context.get(), &no_passphrase);
  if (files.ca && ::SSL_CTX_load_verify_file(context.get(), files.ca->c_str()) != 1)
    return refuse(*files.ca, "trusted certificates (PEM)");
  if (files.key && !files.certificate) {
    return fail(Error::Kind::bad_input,
                files.key->string() + ": a key without its certificate; set " + files.certificate_setting);
  }
  if (!files.certificate) return {};
  if (::SSL_CTX_use_certificate_chain_file(context.get(), files.certificate->c_str()) != 1)
    return refuse(*files.certificate, "client certificate (PEM)");
  const auto& key = files.key ? *files.key : *files.certificate;
  if (::SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      ::SSL_CTX_check_private_key(context.get()) != 1) {
    return refuse(key, "the client certificate's key (PEM without passphrase)");
  }
  return {};
}

}  // namespace http
