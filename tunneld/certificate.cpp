#include "tunneld/certificate.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "edge/self_signed.h"

namespace tunneld {

Result<std::chrono::seconds> certificate_time_left(const std::filesystem::path& file) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new_file(file.c_str(), "r"), &BIO_free);
  std::unique_ptr<X509, decltype(&X509_free)> certificate(
      bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr, &X509_free);
  ERR_clear_error();
  if (!certificate) return fail(Error::Kind::bad_input, file.string() + ": no PEM certificate could be read");
  int days = 0;
  int seconds = 0;
  if (ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate.get())) != 1)
    return fail(Error::Kind::bad_input, file.string() + ": the certificate's end cannot be read");
  return std::chrono::hours(24) * days + std::chrono::seconds(seconds);
}

Result<edge::TlsOptions> tls_files(edge::TlsOptions configured, const std::filesystem::path& state_dir) {
  if (!configured.certificate_file.empty()) return configured;
  configured.certificate_file = state_dir / "tls.crt";
  configured.key_file = state_dir / "tls.key";
  const auto left = certificate_time_left(configured.certificate_file);
  const bool has_key = std::filesystem::exists(configured.key_file);
  if (left && has_key && *left > std::chrono::hours(24 * 30)) return configured;
  if (auto made = edge::write_self_signed(configured.certificate_file, configured.key_file); !made)
    return tl::unexpected(made.error());
  return configured;
}

}  // namespace tunneld
