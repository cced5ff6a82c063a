#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>

#include "tests/support/tls_identity.h"

namespace support {

namespace asio = boost::asio;

/// An HTTP server on loopback that answers with whatever bytes a test wants, right or wrong. A thread
/// for each connection; connections are kept unless a reply says otherwise.
class LoopbackServer {
 public:
  struct Seen {
    std::string head;  // with its empty line
    std::string body;
    std::size_t number = 0;      // of all requests, from 0
    std::size_t connection = 0;  // that brought it, from 0
  };
  /// After its bytes: keeps the connection, ends it, resets it, or holds it until the server goes.
  enum class Then { keep, close, reset, hold };
  struct Reply {
    std::string bytes;
    Then then = Then::keep;
  };
  /// Called by any connection's thread.
  using Handler = std::function<Reply(const Seen&)>;
  struct Tls {
    const Identity* identity = nullptr;
    const Identity* client = nullptr;  // demanded of callers
    bool only_tls_1_1 = false;
    bool after_connect = false;  // plays a proxy with this server behind it
  };

  explicit LoopbackServer(Handler handler) : LoopbackServer(std::move(handler), Tls{}) {}
  LoopbackServer(Handler handler, Tls tls)
      : handler_(std::move(handler)), setup_(tls), acceptor_(io_, {asio::ip::address_v4::loopback(), 0}) {
    if (setup_.identity != nullptr) prepare_tls();
    port_ = acceptor_.local_endpoint().port();
    accepting_ = std::thread([this] { accept(); });
  }
  explicit LoopbackServer(std::string always, Then then = Then::keep)
      : LoopbackServer([always = std::move(always), then](const Seen&) {
          return Reply{always, then};
        }) {}
  ~LoopbackServer() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      ::shutdown(acceptor_.native_handle(), SHUT_RDWR);
      for (const auto& [number, handle] : open_) ::shutdown(handle, SHUT_RDWR);
    }
    changed_.notify_all();
    accepting_.join();
    for (auto& thread : threads_) thread.join();
  }
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  std::string url(const std::string& target = "/", const std::string& host = "127.0.0.1") const {
    return (setup_.identity ? "https://" : "http://") + host + ":" + std::to_string(port_) + target;
  }
  unsigned short port() const { return port_; }

  std::vector<Seen> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  std::size_t connections() const {
    const std::lock_guard lock(mutex_);
    return connections_;
  }
  /// The most requests that were being answered at one time.
  std::size_t most_at_once() const {
    const std::lock_guard lock(mutex_);
    return most_at_once_;
  }
  /// Until `count` requests have come; false after ten seconds.
  bool wait_for_requests(std::size_t count) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return seen_.size() >= count; });
  }

 private:
  using Socket = asio::ip::tcp::socket;
  using error_code = boost::system::error_code;

  void prepare_tls() {
    tls_.emplace(asio::ssl::context::tls_server);
    tls_->use_certificate(asio::buffer(setup_.identity->certificate), asio::ssl::context::pem);
    tls_->use_private_key(asio::buffer(setup_.identity->key), asio::ssl::context::pem);
    if (setup_.client != nullptr) {
      tls_->add_certificate_authority(asio::buffer(setup_.client->certificate));
      tls_->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
    }
    if (setup_.only_tls_1_1) {
      SSL_CTX_set_min_proto_version(tls_->native_handle(), TLS1_1_VERSION);
      SSL_CTX_set_max_proto_version(tls_->native_handle(), TLS1_1_VERSION);
      SSL_CTX_set_cipher_list(tls_->native_handle(), "ALL:@SECLEVEL=0");
    }
  }

  void accept() {
    for (;;) {
      Socket socket(io_);
      error_code error;
      acceptor_.accept(socket, error);
      const std::lock_guard lock(mutex_);
      if (ending_) return;
      if (error) continue;
      const std::size_t number = connections_++;
      open_[number] = socket.native_handle();
      threads_.emplace_back([this, number, mine = std::move(socket)]() mutable {
        serve(mine, number);
        const std::lock_guard closing(mutex_);
        open_.erase(number);
        error_code ignored;
        mine.close(ignored);
      });
    }
  }

  void serve(Socket& socket, std::size_t number) {
    if (!tls_) return talk(socket, socket, number);
    error_code error;
    if (setup_.after_connect) {
      if (!receive(socket, number)) return;
      asio::write(socket, asio::buffer(std::string("HTTP/1.1 200 Connected\r\nX-Proxy: yes\r\n\r\n")), error);
    }
    asio::ssl::stream<Socket&> stream(socket, *tls_);
    stream.handshake(asio::ssl::stream_base::server, error);
    if (!error) talk(stream, socket, number);
  }

  template <class Stream>
  void talk(Stream& stream, Socket& socket, std::size_t number) {
    while (const auto request = receive(stream, number)) {
      const Reply reply = handler_(*request);
      error_code error;
      {
        const std::lock_guard lock(mutex_);
        --at_once_;
      }
      asio::write(stream, asio::buffer(reply.bytes), error);
      if (reply.then == Then::hold) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ending_; });
      }
      if (reply.then == Then::reset) socket.set_option(asio::socket_base::linger(true, 0), error);
      if (error || reply.then != Then::keep) return;
    }
  }

  template <class Stream>
  std::optional<Seen> receive(Stream& stream, std::size_t number) {
    Seen request;
    request.connection = number;
    std::string& buffer = buffers(number);
    error_code error;
    const std::size_t end = asio::read_until(stream, asio::dynamic_buffer(buffer), "\r\n\r\n", error);
    if (error) return std::nullopt;
    request.head = buffer.substr(0, end);
    buffer.erase(0, end);
    const std::size_t length = request.head.find("Content-Length: ");
    if (length != std::string::npos) {
      const std::size_t bytes = std::strtoul(request.head.c_str() + length + 16, nullptr, 10);
      if (read_bodies && buffer.size() < bytes)
        asio::read(stream, asio::dynamic_buffer(buffer), asio::transfer_exactly(bytes - buffer.size()),
                   error);
      request.body = buffer.substr(0, bytes);
      buffer.erase(0, request.body.size());
    }
    const std::lock_guard lock(mutex_);
    request.number = seen_.size();
    seen_.push_back(request);
    most_at_once_ = std::max(most_at_once_, ++at_once_);
    changed_.notify_all();
    return request;
  }

  std::string& buffers(std::size_t number) {
    const std::lock_guard lock(mutex_);
    return buffers_[number];
  }

 public:
  /// False: replies come before a request's body is read. Set before the first request.
  bool read_bodies = true;

 private:
  const Handler handler_;
  const Tls setup_;
  asio::io_context io_;
  asio::ip::tcp::acceptor acceptor_;
  std::optional<asio::ssl::context> tls_;
  unsigned short port_ = 0;
  std::thread accepting_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
  std::map<std::size_t, int> open_;
  std::map<std::size_t, std::string> buffers_;
  std::vector<Seen> seen_;
  std::size_t connections_ = 0;
  std::size_t at_once_ = 0;
  std::size_t most_at_once_ = 0;
};

/// "HTTP/1.1 200 OK" with JSON; `headers` are whole lines.
inline std::string http_answer(unsigned status, const std::string& body, const std::string& headers = "") {
  return "HTTP/1.1 " + std::to_string(status) + " Because\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace support
