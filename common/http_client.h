#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "common/http_retry.h"
#include "common/result.h"

/// The one HTTP client, for all that either program asks of others. libcurl inside.
namespace http {

/// All PEM.
struct TlsFiles {
  std::optional<std::filesystem::path> ca{};           // trusted instead of the system's certificates
  std::optional<std::filesystem::path> certificate{};  // shown to servers that ask, with its chain
  std::optional<std::filesystem::path> key{};          // without passphrase; unset: in `certificate`
  /// No verification at all: anybody on the way can read and change everything, tokens too.
  bool insecure = false;
  /// How the person calls the settings, for messages that say which one to change.
  std::string ca_setting = "the CA file";
  std::string certificate_setting = "the client certificate and key";
};

/// URLs of proxies ("http://[user:password@]host:port", https and socks5 too), empty for none.
struct Proxies {
  std::string for_https{};
  std::string for_http{};
  std::string none_for{};  // as NO_PROXY: names with all below them, addresses, networks, "*"

  /// HTTPS_PROXY, HTTP_PROXY, NO_PROXY; in small letters they come first, as everywhere.
  static Proxies from_environment();
};

struct ClientOptions {
  TlsFiles tls{};
  /// Plain http reaches loopback only, because whoever is on the way reads the tokens in it. True lifts
  /// that, for networks that protect the path themselves.
  bool allow_plain = false;
  std::string user_agent = "tunneld";
  /// Sent as X-Correlation-ID with every request, so that a server's log shows what one run did.
  /// Empty for none; see new_correlation_id().
  std::string correlation_id{};
  std::size_t max_in_flight = 8;                     // per call of send_all
  std::chrono::milliseconds connect_timeout{5'000};  // look-up, connection and TLS
  std::chrono::milliseconds deadline{30'000};        // one attempt, with all of its answer
  std::chrono::milliseconds total{120'000};          // all attempts and the pauses between them
  std::size_t max_body_bytes = 32 * 1024 * 1024;     // of an answer, uncompressed
  Retry retry{};
  std::optional<Proxies> proxies{};  // unset: those of the environment; never used for loopback
};

struct Header {
  std::string name;
  std::string value;
};

/// For an answer without an end that anybody knows: its body is handed over as it comes.
struct Streaming {
  /// Called in the thread of send() with each piece of a body whose status is below 300. False: enough,
  /// the answer counts as complete. Once a piece was taken the request is not sent again.
  /// Must not throw: libcurl stands between.
  std::function<bool(std::string_view piece)> take;
  /// Without a byte from the server for that long the request has timed out. Takes the place of the time
  /// limits for an attempt and for all of them.
  std::chrono::milliseconds longest_silence{60'000};
};

struct Request {
  std::string method = "GET";
  std::string url{};
  std::string body{};
  std::string content_type{};
  std::vector<Header> headers{};  // values are never shown
  /// The same request twice does what it does once. Unset: for GET and HEAD only.
  std::optional<bool> safe_to_repeat{};
  /// Answering is much work for the server: 503 and 504, which it says when it has too much of that, are not
  /// asked again.
  bool heavy = false;
  std::optional<std::chrono::milliseconds> deadline{};  // instead of the client's
  std::optional<std::size_t> max_body_bytes{};          // instead of the client's
  std::optional<Streaming> streaming{};                 // instead of Response::body
};

/// "GET https://host/path": for messages about an answer.
std::string shown(const Request& request);

/// Whatever the status: callers know what a 404 or a 302 means to them. Redirects are not followed.
struct Response {
  unsigned status = 0;
  std::vector<Header> headers{};
  std::string content_type{};
  std::string body{};
  unsigned attempts = 1;
  /// The body of an answer with status 300 or above is not all there (too large, or broken off): its
  /// status says more than that error would.
  bool body_cut = false;

  /// The first of that name, in any case of letters; nullptr if there is none.
  const std::string* header(std::string_view name) const;
};

/// Connections are kept and used again. TLS is 1.2 or newer, chain and host name are verified. HTTP/1.1.
///
/// Errors read "<method> <URL without query>: <cause>":
/// - bad_input: a malformed URL, plain http to elsewhere, an answer that is too large or no HTTP, a
///   client certificate that cannot be used
/// - not_found: unknown host; denied: a certificate not trusted, or a proxy's or server's demand for ours
/// - timed_out, cancelled, and unavailable for the rest (refused, reset, broken off)
/// Those that leave open whether the server acted on it (not for GET and HEAD) say "it may have taken
/// effect".
///
/// Threads: any number may call at once; each call runs in its caller's thread, on connections of its
/// own. The client must outlive the calls.
class Client {
 public:
  /// Called once for each request, in the thread of send_all, in the order of their ends. May send
  /// further requests by the same client.
  using Done = std::function<void(std::size_t index, Result<Response> answer)>;

  /// Reads the TLS files and proxy settings once and names the one that cannot be used (bad_input).
  static Result<Client> make(ClientOptions options);

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// A stop is noticed at once, in pauses too. request_stop() is nothing for a signal handler: call it
  /// from a thread in sigwait() or from an asio::signal_set.
  Result<Response> send(const Request& request, std::stop_token stop = {}) const;

  /// Starts them in their order, at most max_in_flight at a time; one that pauses before another
  /// attempt keeps its place, so that a server that is too busy gets no more load. Returns when all
  /// are done; after a stop those left are `cancelled`.
  void send_all(std::span<const Request> requests, const Done& done, std::stop_token stop = {}) const;

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// 32 random hexadecimal digits.
std::string new_correlation_id();

/// Of libcurl, e.g. "7.88.1".
std::string library_version();

}  // namespace http
