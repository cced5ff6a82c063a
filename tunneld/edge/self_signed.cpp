#include "tunneld/edge/self_signed.h"

#include <cerrno>
#include <memory>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "common/openssl_handles.h"

namespace tunneld::edge {

namespace {

using Bio = openssl::BioHandle;
using Certificate = openssl::CertificateHandle;
using Extension = openssl::ExtensionHandle;
using Key = openssl::PkeyHandle;

tl::unexpected<Error> cannot_write(const std::filesystem::path& path, int number) {
  return fail(Error::Kind::unavailable,
              "cannot write " + path.string() + ": " + std::generic_category().message(number));
}

Result<void> write_atomically(const std::filesystem::path& path, BIO* contents, mode_t mode) {
  char* text = nullptr;
  const auto size = static_cast<std::size_t>(BIO_get_mem_data(contents, &text));
  auto temporary = path;
  temporary += ".new." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  if (file < 0) return cannot_write(path, errno);
  std::size_t written = 0;
  int failed = ::fchmod(file, mode) == 0 ? 0 : errno;
  while (failed == 0 && written < size) {
    const auto took = ::write(file, text + written, size - written);
    if (took >= 0)
      written += static_cast<std::size_t>(took);
    else if (errno != EINTR)
      failed = errno;
  }
  if (failed == 0 && ::fsync(file) != 0) failed = errno;
  ::close(file);
  if (failed == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) failed = errno;
  if (failed != 0) {
    ::unlink(temporary.c_str());
    return cannot_write(path, failed);
  }
  return {};
}

bool add_extension(X509* certificate, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool fill(X509* certificate, EVP_PKEY* key) {
  std::uint64_t serial = 0;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) != 1) return false;
  constexpr long kHour = 3600;
  constexpr long kDay = 24 * kHour;
  auto* name = X509_get_subject_name(certificate);
  const auto* common_name = reinterpret_cast<const unsigned char*>("localhost");
  return X509_set_version(certificate, X509_VERSION_3) == 1 &&
         ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1U) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), -kHour) != nullptr &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), 397 * kDay - kHour) != nullptr &&
         X509_set_pubkey(certificate, key) == 1 &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0) == 1 &&
         X509_set_issuer_name(certificate, name) == 1 &&
         // CA:TRUE so that a client may trust exactly this certificate as its own root.
         add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
         add_extension(certificate, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
         add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
         add_extension(certificate, NID_subject_key_identifier, "hash") &&
         add_extension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1") &&
         X509_sign(certificate, key, EVP_sha256()) > 0;
}

}  // namespace

Result<void> write_self_signed(const std::filesystem::path& certificate_file,
                               const std::filesystem::path& key_file) {
  const Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"));
  const Certificate certificate(X509_new());
  const Bio key_text(BIO_new(BIO_s_mem()));
  const Bio certificate_text(BIO_new(BIO_s_mem()));
  const bool made =
      key && certificate && key_text && certificate_text && fill(certificate.get(), key.get()) &&
      PEM_write_bio_PKCS8PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1 &&
      PEM_write_bio_X509(certificate_text.get(), certificate.get()) == 1;
  ERR_clear_error();
  if (!made) return fail(Error::Kind::bug, "OpenSSL cannot make a self-signed certificate");
  if (auto written = write_atomically(key_file, key_text.get(), 0600); !written) return written;
  return write_atomically(certificate_file, certificate_text.get(), 0644);
}

}  // namespace tunneld::edge
