#include "tunneld/access/local_issuer.h"

#include <array>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <nlohmann/json.hpp>

#include "common/openssl_handles.h"
#include "tunneld/access/base64url.h"
#include "tunneld/access/claims.h"
#include "tunneld/access/digest.h"
#include "tunneld/access/secret_file.h"

namespace tunneld::access {

using namespace openssl;
namespace {

using nlohmann::json;

/// A PKCS#8 Ed25519 key is under 200 bytes; leave room for comments before it.
constexpr std::size_t kMaxKeyFileBytes = 16 * 1024;

tl::unexpected<Error> bad(std::string message) {
  ERR_clear_error();
  return fail(Error::Kind::bad_input, std::move(message));
}

std::string_view bytes_of(const unsigned char* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Without it OpenSSL would ask for the passphrase on the terminal and hang a daemon's start.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

Result<void> check(const TokenRequest& request) {
  if (!valid_subject(request.subject)) return bad("the subject must be 1 to 255 bytes of printable ASCII");
  if (!tier_named(request.tier)) return bad("the tier must be free, premium or enterprise");
  for (const auto& scope : request.scopes)
    if (!valid_scope(scope)) return bad("a scope must be printable ASCII without space, quote or backslash");
  if (request.lifetime < std::chrono::seconds{1} || request.lifetime > std::chrono::hours{24})
    return bad("the lifetime must be 1 second to 24 hours");
  return {};
}

}  // namespace

Result<LocalIssuer> LocalIssuer::from_key(std::shared_ptr<evp_pkey_st> key) {
  std::array<unsigned char, 32> raw;
  std::size_t size = raw.size();
  if (EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519) return bad("is not an Ed25519 key");
  if (EVP_PKEY_get_raw_public_key(key.get(), raw.data(), &size) != 1)
    return bad("has no readable public key");
  std::string x = base64url_encode(bytes_of(raw.data(), size));
  // RFC 7638 section 3: the required members in lexical order, without white space.
  const Sha256 thumbprint = sha256(R"({"crv":"Ed25519","kty":"OKP","x":")" + x + R"("})");
  return LocalIssuer(std::move(key), std::move(x),
                     base64url_encode(bytes_of(thumbprint.data(), thumbprint.size())));
}

Result<LocalIssuer> LocalIssuer::generate() {
  std::shared_ptr<EVP_PKEY> key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), EVP_PKEY_free);
  if (!key) return fail(Error::Kind::bug, "OpenSSL cannot make an Ed25519 key");
  return from_key(std::move(key));
}

Result<LocalIssuer> LocalIssuer::load(const std::string& path) {
  auto pem = read_secret_file(path, kMaxKeyFileBytes);
  if (!pem) return tl::unexpected(pem.error());
  const std::string_view text = pem->reveal();
  const BioHandle bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::shared_ptr<EVP_PKEY> key(
      bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr) : nullptr, EVP_PKEY_free);
  const std::string remedy =
      "; restore it from a backup, or remove it to have a new one made (tokens in use become invalid)";
  if (!key) return bad(path + ": holds no unencrypted private key in PEM" + remedy);
  auto issuer = from_key(std::move(key));
  if (!issuer) return bad(path + ": " + issuer.error().message + remedy);
  return issuer;
}

Result<LocalIssuer> LocalIssuer::load_or_create(const std::string& path) {
  auto loaded = load(path);
  if (loaded || loaded.error().kind != Error::Kind::not_found) return loaded;
  auto made = generate();
  if (!made) return made;
  if (auto saved = made->save(path); !saved) {
    // Another process may have been quicker: then its key is the one.
    auto theirs = load(path);
    if (theirs || theirs.error().kind != Error::Kind::not_found) return theirs;
    return tl::unexpected(saved.error());
  }
  return made;
}

Result<void> LocalIssuer::save(const std::string& path) const {
  const BioHandle bio(BIO_new(BIO_s_secmem()));
  if (!bio ||
      PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1)
    return fail(Error::Kind::bug, "OpenSSL cannot write the issuer's key");
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return create_secret_file(path, Secret(std::string(data, static_cast<std::size_t>(size))));
}

Result<Secret> LocalIssuer::sign(const TokenRequest& request, const Names& names,
                                 std::chrono::system_clock::time_point now) const {
  if (auto checked = check(request); !checked) return tl::unexpected(checked.error());
  std::array<unsigned char, 16> id;
  if (RAND_bytes(id.data(), static_cast<int>(id.size())) != 1)
    return fail(Error::Kind::bug, "OpenSSL's random generator failed");
  const std::int64_t begins = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count();
  std::string scope;
  for (const auto& one : request.scopes) scope.append(scope.empty() ? "" : " ").append(one);

  const json header{{"alg", "EdDSA"}, {"typ", "JWT"}, {"kid", kid_}};
  json payload{{"iss", names.issuer},
               {"sub", request.subject},
               {"aud", names.audience},
               {"iat", begins},
               {"nbf", begins},
               {"exp", begins + request.lifetime.count()},
               {"jti", base64url_encode(bytes_of(id.data(), id.size()))}};
  payload[names.tier_claim] = request.tier;
  if (!scope.empty()) payload[names.scope_claim] = scope;
  std::string token = base64url_encode(header.dump()) + '.' + base64url_encode(payload.dump());

  std::array<unsigned char, 64> signature;
  std::size_t size = signature.size();
  const DigestContext context(EVP_MD_CTX_new());
  if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) != 1 ||
      EVP_DigestSign(context.get(), signature.data(), &size, as_bytes(token), token.size()) != 1)
    return fail(Error::Kind::bug, "OpenSSL cannot sign with the issuer's key");
  token += '.' + base64url_encode(bytes_of(signature.data(), size));
  return Secret(std::move(token));
}

std::string LocalIssuer::jwks() const {
  const json key{{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", x_},
                 {"kid", kid_},  {"alg", "EdDSA"},   {"use", "sig"}};
  return json{{"keys", json::array({key})}}.dump();
}

}  // namespace tunneld::access
