#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include <unistd.h>

namespace support {

/// A key and a certificate signed by itself, PEM.
struct Identity {
  std::string certificate;
  std::string key;
};

/// `names` as OpenSSL writes them: "IP:127.0.0.1,DNS:localhost".
inline Identity make_identity(const char* names, long valid_for_seconds = 3600) {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
  X509_gmtime_adj(X509_getm_notAfter(certificate), valid_for_seconds);
  X509_set_pubkey(certificate, key);
  const unsigned char name[] = "test";
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, name, -1, -1, 0);
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  X509_sign(certificate, key, EVP_sha256());
  const auto text = [](const std::function<void(BIO*)>& write) {
    BIO* memory = BIO_new(BIO_s_mem());
    write(memory);
    std::string out(BIO_pending(memory) > 0 ? static_cast<std::size_t>(BIO_pending(memory)) : 0U, '\0');
    BIO_read(memory, out.data(), static_cast<int>(out.size()));
    BIO_free(memory);
    return out;
  };
  Identity made;
  made.certificate = text([&](BIO* out) { PEM_write_bio_X509(out, certificate); });
  made.key =
      text([&](BIO* out) { PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr); });
  X509_free(certificate);
  EVP_PKEY_free(key);
  return made;
}

/// A text in a file of its own, gone afterwards.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    std::string name = (std::filesystem::temp_directory_path() / "test-XXXXXX").string();
    const int file = ::mkstemp(name.data());
    path_ = name;
    std::ofstream(path_) << text;
    ::close(file);
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace support
