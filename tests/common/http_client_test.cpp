#include "common/http_client.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::ip::tcp;
using boost::system::error_code;

/// A key and a certificate signed by itself.
struct Identity {
  std::string certificate;
  std::string key;
};

Identity make_identity(const char* names, long valid_for_seconds) {
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

/// Accepts one connection on loopback, reads a request head, sends `answer`, and then either closes
/// or keeps the connection open until it goes away itself.
class Server {
 public:
  enum class Then { close, hold };

  explicit Server(std::string answer, Then then = Then::close, const Identity* identity = nullptr,
                  bool only_tls_1_1 = false)
      : acceptor_(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
    if (identity != nullptr) {
      tls_.emplace(asio::ssl::context::tls_server);
      tls_->use_certificate(asio::buffer(identity->certificate), asio::ssl::context::pem);
      tls_->use_private_key(asio::buffer(identity->key), asio::ssl::context::pem);
      if (only_tls_1_1) {
        SSL_CTX_set_min_proto_version(tls_->native_handle(), TLS1_1_VERSION);
        SSL_CTX_set_max_proto_version(tls_->native_handle(), TLS1_1_VERSION);
        SSL_CTX_set_cipher_list(tls_->native_handle(), "ALL:@SECLEVEL=0");
      }
    }
    thread_ = std::thread([this, answer = std::move(answer), then] { serve(answer, then); });
  }
  ~Server() {
    release_.set_value();
    // Wakes an accept that nobody came for; one that is over does not mind.
    error_code ignored;
    tcp::socket knock(io_);
    knock.connect(acceptor_.local_endpoint(), ignored);
    knock.close(ignored);
    thread_.join();
  }

  std::string at(const std::string& scheme, const std::string& host,
                 const std::string& target = "/keys") const {
    return scheme + "://" + host + ":" + std::to_string(acceptor_.local_endpoint().port()) + target;
  }
  /// The head that was received; after the exchange.
  std::string request() { return request_.get_future().get(); }

 private:
  void serve(const std::string& answer, Then then) {
    tcp::socket socket(io_);
    error_code error;
    acceptor_.accept(socket, error);
    if (tls_) {
      asio::ssl::stream<tcp::socket> stream(std::move(socket), *tls_);
      stream.handshake(asio::ssl::stream_base::server, error);
      if (!error) talk(stream, answer, then);
    } else {
      talk(socket, answer, then);
    }
  }
  template <class Stream>
  void talk(Stream& stream, const std::string& answer, Then then) {
    error_code error;
    std::string head;
    asio::read_until(stream, asio::dynamic_buffer(head), "\r\n\r\n", error);
    request_.set_value(head);
    asio::write(stream, asio::buffer(answer), error);
    if (then == Then::hold) release_.get_future().wait();
  }

  asio::io_context io_;
  tcp::acceptor acceptor_;
  std::optional<asio::ssl::context> tls_;
  std::promise<std::string> request_;
  std::promise<void> release_;
  std::thread thread_;
};

/// Written to a file of its own, gone afterwards.
class CaFile {
 public:
  explicit CaFile(const std::string& pem) {
    std::string name = (std::filesystem::temp_directory_path() / "ca-XXXXXX").string();
    const int file = ::mkstemp(name.data());
    path_ = name;
    std::ofstream(path_) << pem;
    ::close(file);
  }
  ~CaFile() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

Result<http::Response> get(const std::string& url, http::ClientOptions options = {},
                           http::Limits limits = {}) {
  auto client = http::Client::make(std::move(options));
  if (!client) return tl::unexpected(client.error());
  asio::io_context io;
  auto answer = asio::co_spawn(io, client->get(url, limits), asio::use_future);
  io.run();
  return answer.get();
}

std::string ok(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

TEST(HttpClient, GetsADocumentFromLoopback) {
  Server server(ok("{\"keys\":[]}"));
  const auto answer = get(server.at("http", "127.0.0.1", "/keys?v=1"));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 200U);
  EXPECT_EQ(answer->content_type, "application/json");
  EXPECT_EQ(answer->body, "{\"keys\":[]}");
  const std::string request = server.request();
  EXPECT_TRUE(request.starts_with("GET /keys?v=1 HTTP/1.1\r\n")) << request;
  EXPECT_NE(request.find("Host: " + server.at("", "127.0.0.1", "").substr(3) + "\r\n"), std::string::npos)
      << request;
}

TEST(HttpClient, UnderstandsEveryWayABodyEnds) {
  for (const char* answer :
       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nabcde", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde"}) {
    SCOPED_TRACE(answer);
    Server server(answer);
    const auto got = get(server.at("http", "127.0.0.1"));
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->body, "abcde");
  }
}

TEST(HttpClient, ReportsAnswersThatAreNotTheDocument) {
  struct Row {
    std::string answer;
    Error::Kind kind;
    const char* cause;
  };
  using Kind = Error::Kind;
  const Row rows[] = {
      {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Kind::bad_input,
       "status 302: redirects are not followed; use the final URL"},
      {"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", Kind::denied, "status 401"},
      {"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", Kind::not_found, "status 404"},
      {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Kind::unavailable, "status 503"},
      {"HTTP/1.1 500 Oops\r\nContent-Length: 999999\r\n\r\n", Kind::unavailable, "status 500"},
      {ok(std::string(101, 'x')), Kind::bad_input, "the answer is larger than 100 bytes"},
      {"HTTP/1.1 200 OK\r\n\r\n" + std::string(200, 'x'), Kind::bad_input,
       "the answer is larger than 100 bytes"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + std::string(255, 'x'), Kind::bad_input,
       "the answer is larger than 100 bytes"},
      {"HTTP/1.1 200 OK\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n", Kind::bad_input,
       "the answer is not valid HTTP: header limit exceeded"},
      {"SSH-2.0-OpenSSH_9.2\r\n", Kind::bad_input, "the answer is not valid HTTP: bad version"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", Kind::unavailable,
       "reading the answer failed: partial message"},
      {"", Kind::unavailable, "reading the answer failed: end of stream"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.answer.substr(0, 80));
    Server server(row.answer);
    const std::string url = server.at("http", "127.0.0.1");
    const auto got = get(url + "?token=hidden", {}, {.max_body_bytes = 100});
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().message, "GET " + url + ": " + row.cause);
    EXPECT_EQ(got.error().kind, row.kind);
  }
}

TEST(HttpClient, GivesUpAtTheDeadline) {
  for (const char* answer : {"", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"}) {
    Server server(answer, Server::Then::hold);
    const auto got = get(server.at("http", "127.0.0.1"), {}, {.deadline = 50ms});
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, Error::Kind::timed_out);
    EXPECT_EQ(got.error().message,
              "GET " + server.at("http", "127.0.0.1") + ": reading the answer took too long");
  }
}

TEST(HttpClient, SaysWhoRefusedTheConnection) {
  asio::io_context io;
  tcp::acceptor taken(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const std::string port = std::to_string(taken.local_endpoint().port());
  taken.close();
  const auto got = get("http://127.0.0.1:" + port + "/");
  EXPECT_EQ(got.error().kind, Error::Kind::unavailable);
  EXPECT_EQ(got.error().message, "GET http://127.0.0.1:" + port + "/: connecting to 127.0.0.1 port " + port +
                                     " failed: Connection refused");
}

TEST(HttpClient, SendsNothingInTheClearBeyondLoopback) {
  const auto got = get("http://192.0.2.1/keys");
  EXPECT_EQ(got.error().kind, Error::Kind::bad_input);
  EXPECT_EQ(got.error().message,
            "GET http://192.0.2.1/keys: plain http is allowed to loopback only; use https");
}

TEST(HttpClient, RefusesUrlsItCannotMean) {
  struct Row {
    const char* url;
    const char* message;
  };
  const Row rows[] = {
      {"", "GET : the URL must start with https:// or http://"},
      {"ftp://a/", "GET ftp://a/: the URL must start with https:// or http://"},
      {"https://", "GET https://: the URL's host name is malformed"},
      {"https://a b/",
       "GET https://a?b/: the URL contains spaces or other characters that must be percent-encoded"},
      {"https://a/\r\nX: y",
       "GET https://a/??X:?y: the URL contains spaces or other characters that must be percent-encoded"},
      {"https://a:0/", "GET https://a:0/: the URL's port is malformed; allowed: 1 to 65535"},
      {"https://a:65536/", "GET https://a:65536/: the URL's port is malformed; allowed: 1 to 65535"},
      {"https://a:/", "GET https://a:/: the URL's port is malformed; allowed: 1 to 65535"},
      {"https://a:1:2/", "GET https://a:1:2/: the URL's port is malformed; allowed: 1 to 65535"},
      {"https://[::1/", "GET https://[::1/: the URL's IPv6 address lacks its ]"},
      {"https://[::1]x1/", "GET https://[::1]x1/: the URL's port is malformed; allowed: 1 to 65535"},
      {"https://[zz]/", "GET https://[zz]/: the URL's IPv6 address is malformed"},
      {"https://a/#b", "GET https://a/#b: the URL must not have a #fragment"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.url);
    const auto got = get(row.url);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, Error::Kind::bad_input);
    EXPECT_EQ(got.error().message, row.message);
  }
  EXPECT_EQ(get("https://user:pass@a/b@c?d").error().message,
            "GET https://***@a/b@c: the URL must not contain a user or password");
}

TEST(HttpClient, TrustsTheCertificatesItIsGiven) {
  const Identity identity = make_identity("IP:127.0.0.1,DNS:localhost", 3600);
  const CaFile ca(identity.certificate);
  for (const char* host : {"127.0.0.1", "localhost"}) {
    SCOPED_TRACE(host);
    Server server(ok("keys"), Server::Then::close, &identity);
    const auto got = get(server.at("https", host), {.ca_file = ca.path()});
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->body, "keys");
  }
}

TEST(HttpClient, SaysWhyACertificateIsNotTrusted) {
  const Identity good = make_identity("IP:127.0.0.1", 3600);
  const Identity other = make_identity("IP:127.0.0.2,DNS:other.example", 3600);
  const Identity expired = make_identity("IP:127.0.0.1", -3600);
  struct Row {
    const Identity& identity;
    bool known;
    const char* host;
    const char* cause;
  };
  const Row rows[] = {
      {good, false, "127.0.0.1", "TLS verification failed: self-signed certificate"},
      {other, true, "127.0.0.1", "TLS verification failed: IP address mismatch"},
      {other, true, "localhost", "TLS verification failed: hostname mismatch"},
      {expired, true, "127.0.0.1", "TLS verification failed: certificate has expired"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.cause);
    const CaFile ca(row.identity.certificate);
    Server server(ok("keys"), Server::Then::close, &row.identity);
    http::ClientOptions options;
    if (row.known) options.ca_file = ca.path();
    const auto got = get(server.at("https", row.host), options);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, Error::Kind::denied);
    EXPECT_EQ(got.error().message, "GET " + server.at("https", row.host) + ": " + row.cause);
  }
}

TEST(HttpClient, RefusesTlsOlderThanOnePointTwo) {
  const Identity identity = make_identity("IP:127.0.0.1", 3600);
  const CaFile ca(identity.certificate);
  Server server(ok("keys"), Server::Then::close, &identity, true);
  const auto got = get(server.at("https", "127.0.0.1"), {.ca_file = ca.path()});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, Error::Kind::unavailable);
  EXPECT_NE(got.error().message.find("the TLS handshake failed: "), std::string::npos) << got.error().message;
}

TEST(HttpClient, NamesACertificateFileThatItCannotUse) {
  const CaFile empty("not a certificate");
  const auto client = http::Client::make({.ca_file = empty.path()});
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, Error::Kind::bad_input);
  EXPECT_TRUE(client.error().message.starts_with(empty.path().string() +
                                                 ": cannot be used as trusted certificates (PEM): "))
      << client.error().message;
}

}  // namespace
