#pragma once

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

namespace tunneld::test {

/// A blocking client on loopback, plain or TLS, that sends exactly the bytes it is given. Every wait
/// ends after 10 s, so a hanging server fails a test instead of stopping it.
class Caller {
 public:
  struct Tls {
    int max_version = 0;          // 0: the library's newest
    std::string alpn;             // e.g. "http/1.1"; empty offers none
    std::filesystem::path trust;  // verify the server by this certificate; empty: do not
  };
  explicit Caller(std::uint16_t port);
  ~Caller();
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  /// False when the handshake fails; tls_error() then says why.
  bool start_tls() { return start_tls(Tls()); }
  bool start_tls(const Tls& how);
  const std::string& tls_error() const { return tls_error_; }
  std::string tls_version() const;
  std::string cipher() const;
  std::string alpn() const;
  /// The server certificate's serial number, to tell certificates apart.
  std::string certificate_serial() const;

  bool send(std::string_view bytes);
  /// What arrived up to and including `end`; shorter when the connection ended first.
  std::string read_until(std::string_view end);
  std::string read_exactly(std::size_t bytes);
  /// Everything up to the end of the connection.
  std::string read_to_end();
  /// Head and body of one answer with Content-Length (or none).
  std::string read_answer();
  /// True when the peer ended with a reset rather than a close (known after a read ended).
  bool was_reset() const { return reset_; }
  void end_sending();
  void reset();
  int descriptor() const { return socket_; }

 private:
  bool fill();
  int socket_ = -1;
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_{nullptr, SSL_CTX_free};
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_{nullptr, SSL_free};
  std::string buffer_;
  std::string tls_error_;
  bool reset_ = false;
};

inline Caller::Caller(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval limit{10, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const int on = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("cannot connect to port " + std::to_string(port));
}

inline Caller::~Caller() {
  if (ssl_) SSL_shutdown(ssl_.get());
  ::close(socket_);
}

inline bool Caller::start_tls(const Tls& how) {
  ::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to the socket without MSG_NOSIGNAL
  context_.reset(SSL_CTX_new(TLS_client_method()));
  if (how.max_version != 0) SSL_CTX_set_max_proto_version(context_.get(), how.max_version);
  if (!how.trust.empty()) {
    SSL_CTX_load_verify_file(context_.get(), how.trust.c_str());
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
  }
  ssl_.reset(SSL_new(context_.get()));
  if (!how.trust.empty()) SSL_set1_host(ssl_.get(), "localhost");
  if (!how.alpn.empty()) {
    const std::string list = static_cast<char>(how.alpn.size()) + how.alpn;
    SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(list.data()),
                        static_cast<unsigned>(list.size()));
  }
  SSL_set_fd(ssl_.get(), socket_);
  ERR_clear_error();
  if (SSL_connect(ssl_.get()) == 1) return true;
  const auto* reason = ERR_reason_error_string(ERR_get_error());
  tls_error_ = reason != nullptr ? reason : "connection ended";
  ERR_clear_error();
  ssl_.reset();
  return false;
}

inline std::string Caller::tls_version() const {
  return SSL_get_version(ssl_.get());
}
inline std::string Caller::cipher() const {
  return SSL_get_cipher_name(ssl_.get());
}

inline std::string Caller::alpn() const {
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &chosen, &size);
  return {reinterpret_cast<const char*>(chosen), size};
}

inline std::string Caller::certificate_serial() const {
  std::unique_ptr<X509, void (*)(X509*)> certificate(SSL_get1_peer_certificate(ssl_.get()), X509_free);
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate.get());
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(serial)),
          static_cast<std::size_t>(ASN1_STRING_length(serial))};
}

inline bool Caller::send(std::string_view bytes) {
  while (!bytes.empty()) {
    std::size_t sent = 0;
    if (ssl_) {
      ERR_clear_error();
      if (SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent) != 1) return false;
    } else {
      const auto took = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (took < 0) return false;
      sent = static_cast<std::size_t>(took);
    }
    bytes.remove_prefix(sent);
  }
  return true;
}

inline bool Caller::fill() {
  std::string piece(64 * 1024, '\0');
  std::size_t got = 0;
  if (ssl_) {
    ERR_clear_error();
    errno = 0;
    if (SSL_read_ex(ssl_.get(), piece.data(), piece.size(), &got) != 1) {
      reset_ = errno == ECONNRESET;
      return false;
    }
  } else {
    const auto received = ::recv(socket_, piece.data(), piece.size(), 0);
    if (received <= 0) {
      reset_ = received < 0 && errno == ECONNRESET;
      return false;
    }
    got = static_cast<std::size_t>(received);
  }
  buffer_.append(piece, 0, got);
  return true;
}

inline std::string Caller::read_until(std::string_view end) {
  std::size_t found = 0;
  while ((found = buffer_.find(end)) == std::string::npos)
    if (!fill()) return std::exchange(buffer_, {});
  auto text = buffer_.substr(0, found + end.size());
  buffer_.erase(0, found + end.size());
  return text;
}

inline std::string Caller::read_exactly(std::size_t bytes) {
  while (buffer_.size() < bytes)
    if (!fill()) return std::exchange(buffer_, {});
  auto text = buffer_.substr(0, bytes);
  buffer_.erase(0, bytes);
  return text;
}

inline std::string Caller::read_to_end() {
  while (fill()) {
  }
  return std::exchange(buffer_, {});
}

inline std::string Caller::read_answer() {
  auto head = read_until("\r\n\r\n");
  const auto at = head.find("Content-Length: ");
  if (at == std::string::npos) return head;
  std::size_t size = 0;
  std::from_chars(head.data() + at + 16, head.data() + head.size(), size);
  return head + read_exactly(size);
}

inline void Caller::end_sending() {
  if (ssl_)
    SSL_shutdown(ssl_.get());
  else
    ::shutdown(socket_, SHUT_WR);
}

inline void Caller::reset() {
  const linger now{1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ssl_.reset();
  ::close(socket_);
  socket_ = -1;
}

}  // namespace tunneld::test
