#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <openssl/ssl.h>

#include "endpoint.h"

namespace bench {

/// The TLS settings of all client connections of a process: certificates are verified (chain and
/// name), TLS 1.3, the last session ticket of the server is offered again.
class TlsClient {
 public:
  explicit TlsClient(const Credentials& credentials);
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  SSL* open(const std::string& host);

 private:
  static int remember(SSL* ssl, SSL_SESSION* session);
  SSL_CTX* context_;
  SSL_SESSION* last_ = nullptr;
};

/// A non-blocking TCP socket, with TLS on it if an SSL is given. Writing never refuses: what the kernel
/// does not take waits in `out_`, and TLS records collect there, so that many leave in one send.
class Socket {
 public:
  /// Owns both.
  Socket(int fd, SSL* ssl);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_; }
  bool tls() const { return ssl_ != nullptr; }

  enum class Progress { done, more };
  /// Drives connect and TLS handshake. Throws std::runtime_error when either fails.
  Progress handshake();

  /// To be called when the descriptor became readable, before read().
  void may_have_bytes() { may_have_bytes_ = true; }
  struct Read {
    enum class What { bytes, nothing, end } what;
    std::size_t count = 0;
  };
  Read read(std::span<std::byte> into);
  /// Takes and drops bytes without copying them out of the kernel (plain TCP only).
  Read discard(std::size_t at_most);

  /// Adds to what will be sent by the next flush().
  void queue(std::span<const std::byte> bytes);
  /// Where a caller may write `size` bytes itself (no TLS only), to be sent by the next flush().
  std::byte* queue_in_place(std::size_t size);
  /// Sends straight from `bytes` where possible.
  void send(std::span<const std::byte> bytes);
  void flush();
  std::size_t backlog() const { return out_.size() - sent_; }
  void shutdown_write();

 private:
  friend struct SocketBio;
  Read receive(void* into, std::size_t size, int flags);

  int fd_;
  SSL* ssl_;
  bool connected_ = false;
  bool may_have_bytes_ = true;
  std::vector<std::byte> out_;
  std::size_t sent_ = 0;
};

}  // namespace bench
