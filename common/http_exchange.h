#pragma once

#include <curl/curl.h>

#include <array>
#include <chrono>
#include <memory>
#include <string>

#include "common/http_client.h"
#include "common/http_url.h"

/// Inside of the HTTP client: one attempt at one request, in libcurl's terms. Only http_client.cpp
/// includes this.
namespace http {

/// How an attempt ended.
struct Outcome {
  Result<Response> answer;
  Repeat repeat = Repeat::never;
};

/// Loads libcurl's globals once. False when that fails.
bool start_curl();

class Exchange {
 public:
  Exchange();
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  CURL* handle() const { return easy_; }

  /// Sets the next attempt up; what `request` and `options` (with proxies) hold must outlive it.
  Result<void> prepare(const Request& request, const ClientOptions& options,
                       std::chrono::milliseconds deadline);
  /// What has become of it. The handle is with no multi handle any more.
  Outcome finish(CURLcode code);
  Error cancelled() const;
  /// Of the attempt under way or just finished; then the server may have acted on it.
  bool nothing_sent() const;

 private:
  static std::size_t take_header(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t take_body(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t give_body(char* data, std::size_t size, std::size_t count, void* self);
  static int rewind_body(void* self, curl_off_t offset, int origin);
  static int watch_silence(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
  static CURLcode begin_tls(CURL* handle, void* context, void* self);
  static curl_socket_t open_socket(void* self, curlsocktype purpose, curl_sockaddr* address);

  bool set_headers();
  bool set_body();
  bool set_time_limits();
  bool set_tls();
  bool set_proxy();
  template <class Value>
  bool set(CURLoption option, Value value) const;
  long info(CURLINFO what) const;
  curl_off_t time(CURLINFO what) const;

  Outcome failed(CURLcode code) const;
  Outcome timed_out() const;
  Outcome not_trusted() const;
  Outcome not_connected() const;
  Outcome tls_failed(Repeat repeat) const;
  Error error(Error::Kind kind, std::string cause) const;
  std::string host_and_port() const;
  std::size_t max_body_bytes() const;
  std::string told() const;

  CURL* easy_;
  curl_slist* headers_ = nullptr;
  std::array<char, CURL_ERROR_SIZE> words_{};  // libcurl's own
  const Request* request_ = nullptr;
  const ClientOptions* options_ = nullptr;
  Url url_;
  std::chrono::milliseconds deadline_{};
  bool safe_ = false;
  bool through_proxy_ = false;  // unless none_for says otherwise, which only libcurl knows

  std::size_t body_sent_ = 0;
  Response response_;
  std::size_t header_bytes_ = 0;
  bool head_done_ = false;
  bool head_too_large_ = false;
  bool body_too_large_ = false;
  bool piece_taken_ = false;  // of a streamed body
  bool had_enough_ = false;
  bool silent_ = false;
  std::chrono::steady_clock::time_point last_byte_{};
  bool plain_refused_ = false;
  bool tls_begun_ = false;
};

bool is_safe(const Request& request);

}  // namespace http
