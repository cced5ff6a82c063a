#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"

/// The one HTTP client, for small documents such as a key set (RFC 7517).
namespace http {

struct ClientOptions {
  /// Certificates to trust (PEM) instead of the system's.
  std::optional<std::filesystem::path> ca_file{};
  /// Plain http reaches loopback only, because whoever can change the answer on its way can
  /// replace the keys in it. True lifts that, for networks that protect the path themselves.
  bool allow_plain = false;
  std::string user_agent = "tunneld";
};

struct Limits {
  /// For the whole exchange: look-up, connection, TLS, request and answer.
  std::chrono::milliseconds deadline{5000};
  std::size_t max_body_bytes = 256 * 1024;
};

struct Response {
  unsigned status = 0;  // 200 to 299
  std::string content_type;
  std::string body;
};

/// Opens a connection for each request. TLS is 1.2 or newer; chain and host name are always
/// verified. Redirects are not followed, nothing is retried, no proxy is used.
class Client {
 public:
  /// Loads the trusted certificates once. Fails, naming the file, when they cannot be read.
  static Result<Client> make(ClientOptions options);

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// "https://host[:port]/path[?query]". Runs on the caller's executor, which one thread must run;
  /// several requests may run at once, on different threads too. The client must outlive them.
  ///
  /// Errors name the URL (without its query) and the cause: bad_input (malformed URL, plain http to
  /// elsewhere, a redirect, an answer that is too large or no HTTP), timed_out, denied (certificate
  /// not trusted, status 401 and 403), not_found (host, status 404 and 410), cancelled, and
  /// unavailable for the rest.
  boost::asio::awaitable<Result<Response>> get(std::string url, Limits limits = {}) const;

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace http
