#include "socket.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {
namespace {

std::string tls_error(const char* what) {
  char text[256] = "no detail";
  if (const auto code = ::ERR_get_error()) ::ERR_error_string_n(code, text, sizeof text);
  ::ERR_clear_error();
  return std::string(what) + ": " + text;
}

std::string system_error(const char* what, int error) {
  return std::string(what) + ": " + std::strerror(error);
}

// Reads of 128 KiB: eight records a system call; more brings nothing on loopback.
constexpr std::size_t kTlsReadAhead = 128 * 1024;

}  // namespace

/// OpenSSL's own socket BIO writes each 16 KiB record by itself. This one collects records.
struct SocketBio {
  static int write(BIO* bio, const char* data, int size) {
    auto* socket = static_cast<Socket*>(::BIO_get_data(bio));
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    socket->out_.insert(socket->out_.end(), bytes, bytes + size);
    return size;
  }
  static int read(BIO* bio, char* into, int size) {
    auto* socket = static_cast<Socket*>(::BIO_get_data(bio));
    ::BIO_clear_retry_flags(bio);
    const auto got = socket->receive(into, static_cast<std::size_t>(size), 0);
    if (got.what == Socket::Read::What::bytes) return static_cast<int>(got.count);
    if (got.what == Socket::Read::What::end) return 0;
    ::BIO_set_retry_read(bio);
    return -1;
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
  static int create(BIO* bio) {
    ::BIO_set_init(bio, 1);
    return 1;
  }
  static const BIO_METHOD* method() {
    static BIO_METHOD* made = [] {
      BIO_METHOD* fresh = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bench socket");
      ::BIO_meth_set_write(fresh, write);
      ::BIO_meth_set_read(fresh, read);
      ::BIO_meth_set_ctrl(fresh, control);
      ::BIO_meth_set_create(fresh, create);
      return fresh;
    }();
    return made;
  }
};

TlsClient::TlsClient(const Credentials& credentials) : context_(::SSL_CTX_new(::TLS_client_method())) {
  if (!context_) throw std::runtime_error(tls_error("TLS context"));
  ::SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
  ::SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  ::SSL_CTX_set_mode(context_, SSL_MODE_RELEASE_BUFFERS);
  ::SSL_CTX_set_read_ahead(context_, 1);
  ::SSL_CTX_set_default_read_buffer_len(context_, kTlsReadAhead);
  const bool trusted = credentials.ca_file.empty()
                           ? ::SSL_CTX_set_default_verify_paths(context_) == 1
                           : ::SSL_CTX_load_verify_file(context_, credentials.ca_file.c_str()) == 1;
  if (!trusted) throw std::runtime_error(tls_error(("CA file " + credentials.ca_file).c_str()));
  if (credentials.resume) {
    ::SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    ::SSL_CTX_set_ex_data(context_, 0, this);
    ::SSL_CTX_sess_set_new_cb(context_, remember);
  }
}

TlsClient::~TlsClient() {
  ::SSL_SESSION_free(last_);
  ::SSL_CTX_free(context_);
}

int TlsClient::remember(SSL* ssl, SSL_SESSION* session) {
  auto* self = static_cast<TlsClient*>(::SSL_CTX_get_ex_data(::SSL_get_SSL_CTX(ssl), 0));
  ::SSL_SESSION_free(self->last_);
  self->last_ = session;
  return 1;  // we keep the reference
}

SSL* TlsClient::open(const std::string& host) {
  SSL* ssl = ::SSL_new(context_);
  if (!ssl) throw std::runtime_error(tls_error("SSL_new"));
  ::SSL_set_connect_state(ssl);
  ::SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (host == "localhost") {
    ::SSL_set1_host(ssl, host.c_str());
    // What SSL_set_tlsext_host_name expands to, without its old-style cast.
    std::string name = host;
    ::SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data());
  } else {
    ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl), host.c_str());
  }
  // A ticket of TLS 1.3 is good for several connections as long as the server allows it, and ours do.
  if (last_ && ::SSL_SESSION_is_resumable(last_)) ::SSL_set_session(ssl, last_);
  return ssl;
}

Socket::Socket(int fd, SSL* ssl) : fd_(fd), ssl_(ssl) {
  if (!ssl_) return;
  BIO* bio = ::BIO_new(SocketBio::method());
  ::BIO_set_data(bio, this);
  ::SSL_set_bio(ssl_, bio, bio);
}

Socket::~Socket() {
  if (ssl_) ::SSL_free(ssl_);
  ::close(fd_);
}

Socket::Progress Socket::handshake() {
  if (!connected_) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) throw std::runtime_error(system_error("connect", error));
    connected_ = true;
  }
  if (!ssl_ || ::SSL_is_init_finished(ssl_)) return Progress::done;
  const int result = ::SSL_do_handshake(ssl_);
  flush();
  if (result == 1) return Progress::done;
  if (::SSL_get_error(ssl_, result) == SSL_ERROR_WANT_READ) return Progress::more;
  throw std::runtime_error(tls_error("TLS handshake"));
}

Socket::Read Socket::receive(void* into, std::size_t size, int flags) {
  if (!may_have_bytes_) return {Read::What::nothing};
  const ssize_t got = ::recv(fd_, into, size, flags);
  if (got > 0) {
    // A short read emptied the socket: spares the call that would only say EAGAIN.
    may_have_bytes_ = static_cast<std::size_t>(got) == size;
    return {Read::What::bytes, static_cast<std::size_t>(got)};
  }
  if (got == 0) return {Read::What::end};
  if (errno == EAGAIN || errno == EINTR) {
    may_have_bytes_ = errno == EINTR;
    return {Read::What::nothing};
  }
  if (errno == ECONNRESET) return {Read::What::end};
  throw std::runtime_error(system_error("recv", errno));
}

Socket::Read Socket::read(std::span<std::byte> into) {
  if (!ssl_) return receive(into.data(), into.size(), 0);
  std::size_t filled = 0;
  // SSL_read hands out one record at a time; gathering them makes the layers above run less often.
  while (filled < into.size()) {
    const int got = ::SSL_read(ssl_, into.data() + filled, static_cast<int>(into.size() - filled));
    if (got > 0) {
      filled += static_cast<std::size_t>(got);
      continue;
    }
    const int error = ::SSL_get_error(ssl_, got);
    if (error == SSL_ERROR_WANT_READ) break;
    ::ERR_clear_error();
    if (filled > 0) break;  // the next call says it again
    return {Read::What::end};
  }
  if (filled == 0) return {Read::What::nothing};
  return {Read::What::bytes, filled};
}

Socket::Read Socket::discard(std::size_t at_most) {
  return receive(nullptr, at_most, MSG_TRUNC);
}

void Socket::queue(std::span<const std::byte> bytes) {
  if (!ssl_) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return;
  }
  const int wrote = ::SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
  if (wrote != static_cast<int>(bytes.size())) throw std::runtime_error(tls_error("SSL_write"));
}

std::byte* Socket::queue_in_place(std::size_t size) {
  out_.resize(out_.size() + size);
  return out_.data() + out_.size() - size;
}

void Socket::send(std::span<const std::byte> bytes) {
  if (!ssl_ && out_.empty()) {
    const ssize_t took = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (took < 0 && errno != EAGAIN && errno != EINTR) throw std::runtime_error(system_error("send", errno));
    if (took > 0) bytes = bytes.subspan(static_cast<std::size_t>(took));
    if (!bytes.empty()) queue(bytes);
    return;
  }
  queue(bytes);
  flush();
}

void Socket::flush() {
  while (sent_ < out_.size()) {
    const ssize_t took = ::send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (took < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      throw std::runtime_error(system_error("send", errno));
    }
    sent_ += static_cast<std::size_t>(took);
  }
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
  }
}

void Socket::shutdown_write() {
  if (ssl_) {
    ::SSL_shutdown(ssl_);
    flush();
  }
  ::shutdown(fd_, SHUT_WR);
}

}  // namespace bench
