#include "common/http_exchange.h"

#include <openssl/x509_vfy.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <netinet/in.h>

namespace http {
namespace {

using Kind = Error::Kind;

/// Grafana and the proxies before it stay far below; past it somebody wants our memory.
constexpr std::size_t kMaxHeaderBytes = 64 * 1024;
/// Shorter than the idle limits of common servers and balancers (nginx 75 s, AWS 60 s), so that a
/// request rarely meets a connection that is about to be closed.
constexpr long kConnectionIdleSeconds = 45;

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

/// RFC 9110 section 5.6.2.
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool is_header_value(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F;
  });
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool is_loopback_address(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, &address, sizeof four);
    return (ntohl(four.sin_addr.s_addr) >> 24) == 127;
  }
  if (address.sa_family != AF_INET6) return false;
  sockaddr_in6 six{};
  std::memcpy(&six, &address, sizeof six);
  return IN6_IS_ADDR_LOOPBACK(&six.sin6_addr);
}

/// "5 s", "250 ms".
std::string duration(std::chrono::milliseconds time) {
  if (time.count() % 1000 == 0) return std::to_string(time.count() / 1000) + " s";
  return std::to_string(time.count()) + " ms";
}

}  // namespace

bool start_curl() {
  static const bool started = ::curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return started;
}

bool is_safe(const Request& request) {
  return request.safe_to_repeat.value_or(is_one_of(request.method, {"GET", "HEAD"}));
}

Exchange::Exchange() : easy_(::curl_easy_init()) {
  if (easy_ == nullptr) throw std::bad_alloc();
}

Exchange::~Exchange() {
  ::curl_easy_cleanup(easy_);
  ::curl_slist_free_all(headers_);
}

template <class Value>
bool Exchange::set(CURLoption option, Value value) const {
  return ::curl_easy_setopt(easy_, option, value) == CURLE_OK;
}

long Exchange::info(CURLINFO what) const {
  long value = 0;
  ::curl_easy_getinfo(easy_, what, &value);
  return value;
}

curl_off_t Exchange::time(CURLINFO what) const {
  curl_off_t value = 0;
  ::curl_easy_getinfo(easy_, what, &value);
  return value;
}

Result<void> Exchange::prepare(const Request& request, const ClientOptions& options,
                               std::chrono::milliseconds deadline) {
  request_ = &request;
  options_ = &options;
  deadline_ = deadline;
  safe_ = is_safe(request);
  body_sent_ = header_bytes_ = 0;
  response_ = {};
  head_done_ = head_too_large_ = body_too_large_ = plain_refused_ = tls_begun_ = false;
  piece_taken_ = had_enough_ = silent_ = false;
  last_byte_ = std::chrono::steady_clock::now();
  words_.fill('\0');

  auto url = parse_url(request.url);
  if (!url) return tl::unexpected(error(Kind::bad_input, url.error().message));
  url_ = std::move(*url);
  if (!is_token(request.method)) return tl::unexpected(error(Kind::bad_input, "the method is malformed"));
  if (!is_header_value(request.content_type))
    return tl::unexpected(error(Kind::bad_input, "the content type is malformed"));
  for (const Header& header : request.headers) {
    if (!is_token(header.name)) return tl::unexpected(error(Kind::bad_input, "a header's name is malformed"));
    if (!is_header_value(header.value)) {
      return tl::unexpected(error(Kind::bad_input, "the value of the header " + header.name +
                                                       " contains a line break or control character"));
    }
  }

  ::curl_easy_reset(easy_);
  const bool ready =
      set(CURLOPT_ERRORBUFFER, words_.data()) && set(CURLOPT_PRIVATE, static_cast<void*>(this)) &&
      set(CURLOPT_URL, request.url.c_str()) && set(CURLOPT_PATH_AS_IS, 1L) &&
      set(CURLOPT_PROTOCOLS_STR, "http,https") && set(CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1}) &&
      set(CURLOPT_USERAGENT, options.user_agent.c_str()) &&
      // Compressed pieces would come late.
      (request.streaming || set(CURLOPT_ACCEPT_ENCODING, "")) &&
      // Time limits without signals; and no waiting for a name server at the end.
      set(CURLOPT_NOSIGNAL, 1L) && set(CURLOPT_QUICK_EXIT, 1L) &&
      set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count())) &&
      set_time_limits() && set(CURLOPT_MAXAGE_CONN, kConnectionIdleSeconds) &&
      set(CURLOPT_TCP_KEEPALIVE, 1L) && set(CURLOPT_HEADERFUNCTION, &Exchange::take_header) &&
      set(CURLOPT_HEADERDATA, this) && set(CURLOPT_WRITEFUNCTION, &Exchange::take_body) &&
      set(CURLOPT_WRITEDATA, this) && set(CURLOPT_OPENSOCKETFUNCTION, &Exchange::open_socket) &&
      set(CURLOPT_OPENSOCKETDATA, this) && set_headers() && set_body() && set_tls() && set_proxy();
  if (!ready) return tl::unexpected(error(Kind::bug, "libcurl refused an option"));
  return {};
}

bool Exchange::set_time_limits() {
  if (!request_->streaming)
    return set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max(deadline_.count(), std::int64_t{1})));
  // Its own measure of slowness is an average, which a heartbeat of a few bytes does not satisfy.
  return set(CURLOPT_NOPROGRESS, 0L) && set(CURLOPT_XFERINFOFUNCTION, &Exchange::watch_silence) &&
         set(CURLOPT_XFERINFODATA, this);
}

bool Exchange::set_headers() {
  ::curl_slist_free_all(std::exchange(headers_, nullptr));
  bool good = true;
  const auto add = [&](const std::string& line) {
    curl_slist* longer = ::curl_slist_append(headers_, line.c_str());
    if (longer == nullptr)
      good = false;
    else
      headers_ = longer;
  };
  // libcurl's way to say "empty" is a semicolon; "Name:" would take the header away.
  const auto line = [](const std::string& name, const std::string& value) {
    return value.empty() ? name + ";" : name + ": " + value;
  };
  for (const Header& header : request_->headers) add(line(header.name, header.value));
  if (!options_->correlation_id.empty()) add(line("X-Correlation-ID", options_->correlation_id));
  add(request_->content_type.empty() ? "Content-Type:" : "Content-Type: " + request_->content_type);
  // Servers that do not know it cost a second for each large body.
  add("Expect:");
  // Ours are for the server, not for the proxy.
  return good && set(CURLOPT_HTTPHEADER, headers_) &&
         set(CURLOPT_HEADEROPT, static_cast<long>(CURLHEADER_SEPARATE)) &&
         set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
}

/// libcurl repeats any request by itself when a kept connection turns out to be dead. For those that
/// must not be repeated it cannot: their body cannot be read twice, and without a body they get a
/// fresh connection.
bool Exchange::set_body() {
  const Request& request = *request_;
  if (request.body.empty() && !safe_ && !set(CURLOPT_FRESH_CONNECT, 1L)) return false;
  if (request.method == "HEAD") return set(CURLOPT_NOBODY, 1L);
  const bool named = request.method == "GET" || set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  if (request.body.empty() && !is_one_of(request.method, {"POST", "PUT", "PATCH"})) return named;
  return named && set(CURLOPT_POST, 1L) && set(CURLOPT_CUSTOMREQUEST, request.method.c_str()) &&
         set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size())) &&
         set(CURLOPT_READFUNCTION, &Exchange::give_body) && set(CURLOPT_READDATA, this) &&
         set(CURLOPT_SEEKFUNCTION, &Exchange::rewind_body) && set(CURLOPT_SEEKDATA, this);
}

bool Exchange::set_tls() {
  const TlsFiles& files = options_->tls;
  bool good = set(CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2}) &&
              set(CURLOPT_SSL_VERIFYPEER, files.insecure ? 0L : 1L) &&
              set(CURLOPT_SSL_VERIFYHOST, files.insecure ? 0L : 2L);
  good = good && set(CURLOPT_SSL_CTX_FUNCTION, &Exchange::begin_tls) && set(CURLOPT_SSL_CTX_DATA, this);
  // Those of the system stand in a folder too.
  if (files.ca)
    good = good && set(CURLOPT_CAINFO, files.ca->c_str()) &&
           set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  if (files.certificate) {
    const auto& key = files.key ? *files.key : *files.certificate;
    good = good && set(CURLOPT_SSLCERT, files.certificate->c_str()) && set(CURLOPT_SSLKEY, key.c_str());
  }
  return good;
}

bool Exchange::set_proxy() {
  const Proxies& proxies = *options_->proxies;
  const std::string& proxy = url_.tls ? proxies.for_https : proxies.for_http;
  const bool plain_to_loopback_only = !url_.tls && !options_->allow_plain;
  through_proxy_ = !proxy.empty() && !is_loopback(url_.host) && !plain_to_loopback_only;
  // Empty, not unset: unset makes libcurl read the environment itself.
  return set(CURLOPT_PROXY, through_proxy_ ? proxy.c_str() : "") &&
         set(CURLOPT_NOPROXY, proxies.none_for.c_str());
}

std::size_t Exchange::take_header(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  const std::size_t bytes = size * count;
  exchange.last_byte_ = std::chrono::steady_clock::now();
  exchange.header_bytes_ += bytes;
  if (exchange.header_bytes_ > kMaxHeaderBytes) {
    exchange.head_too_large_ = true;
    return 0;
  }
  const std::string_view line = trimmed({data, bytes});
  if (exchange.head_done_) return bytes;  // trailers
  Response& response = exchange.response_;
  if (line.starts_with("HTTP/")) {
    // Anew: the ones before were interim answers.
    response.headers.clear();
    response.status = static_cast<unsigned>(exchange.info(CURLINFO_RESPONSE_CODE));
  } else if (line.empty()) {
    exchange.head_done_ = response.status >= 200;
  } else if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
    response.headers.push_back(
        {std::string(trimmed(line.substr(0, colon))), std::string(trimmed(line.substr(colon + 1)))});
  }
  return bytes;
}

std::size_t Exchange::take_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  if (exchange.request_->streaming && exchange.response_.status < 300) {
    exchange.last_byte_ = std::chrono::steady_clock::now();
    exchange.piece_taken_ = true;
    exchange.had_enough_ = !exchange.request_->streaming->take({data, size * count});
    return exchange.had_enough_ ? 0 : size * count;
  }
  std::string& body = exchange.response_.body;
  const std::size_t room = exchange.max_body_bytes() - body.size();
  const std::size_t bytes = size * count;
  body.append(data, std::min(bytes, room));
  exchange.body_too_large_ = bytes > room;
  return exchange.body_too_large_ ? 0 : bytes;
}

/// libcurl calls it whenever it is called itself.
int Exchange::watch_silence(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& exchange = *static_cast<Exchange*>(self);
  const auto silence = std::chrono::steady_clock::now() - exchange.last_byte_;
  exchange.silent_ = silence > exchange.request_->streaming->longest_silence;
  return exchange.silent_ ? 1 : 0;
}

std::size_t Exchange::give_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  const std::string& body = exchange.request_->body;
  const std::size_t bytes = std::min(size * count, body.size() - exchange.body_sent_);
  std::memcpy(data, body.data() + exchange.body_sent_, bytes);
  exchange.body_sent_ += bytes;
  return bytes;
}

int Exchange::rewind_body(void* self, curl_off_t offset, int origin) {
  auto& exchange = *static_cast<Exchange*>(self);
  if (!exchange.safe_ || offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_FAIL;
  exchange.body_sent_ = 0;
  return CURL_SEEKFUNC_OK;
}

/// Where libcurl is about to connect to, after its look-up: a name that points elsewhere at the second
/// look cannot get around the rule.
curl_socket_t Exchange::open_socket(void* self, curlsocktype, curl_sockaddr* address) {
  auto& exchange = *static_cast<Exchange*>(self);
  const bool anywhere = exchange.url_.tls || exchange.options_->allow_plain;
  if (!anywhere && !is_loopback_address(address->addr)) {
    exchange.plain_refused_ = true;
    return CURL_SOCKET_BAD;
  }
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/// libcurl's clock does not tell a connection that is open from one whose handshake is done.
CURLcode Exchange::begin_tls(CURL*, void*, void* self) {
  static_cast<Exchange*>(self)->tls_begun_ = true;
  return CURLE_OK;
}

bool Exchange::nothing_sent() const {
  return info(CURLINFO_REQUEST_SIZE) == 0;
}

std::string Exchange::host_and_port() const {
  return url_.host + " port " + std::to_string(url_.port);
}

std::size_t Exchange::max_body_bytes() const {
  return request_->max_body_bytes.value_or(options_->max_body_bytes);
}

std::string Exchange::told() const {
  return std::string(trimmed(words_.data()));
}

Error Exchange::error(Error::Kind kind, std::string cause) const {
  return {kind, shown(*request_) + ": " + std::move(cause)};
}

Error Exchange::cancelled() const {
  return error(Kind::cancelled, "cancelled");
}

Outcome Exchange::finish(CURLcode code) {
  if (code == CURLE_OK && !head_done_) {
    // libcurl takes the end of the connection for the end of the header.
    return {tl::unexpected(error(Kind::unavailable, "the answer broke off: its header has no end")),
            Repeat::if_safe};
  }
  if (code == CURLE_OK || had_enough_ || (head_done_ && response_.status >= 300)) {
    response_.body_cut = code != CURLE_OK && !had_enough_;
    if (const std::string* type = response_.header("Content-Type")) response_.content_type = *type;
    const Repeat repeat = repeat_for(response_.status, request_->heavy);
    return {std::move(response_), repeat};
  }
  Outcome outcome = failed(code);
  // Whoever took the first pieces would get them once more.
  if (piece_taken_) outcome.repeat = Repeat::never;
  return outcome;
}

Outcome Exchange::failed(CURLcode code) const {
  const auto end = [&](Kind kind, std::string cause, Repeat repeat = Repeat::never) {
    return Outcome{tl::unexpected(error(kind, std::move(cause))), repeat};
  };
  if (silent_)
    return end(Kind::timed_out,
               "the server was silent for longer than " + duration(request_->streaming->longest_silence),
               nothing_sent() ? Repeat::always : Repeat::if_safe);
  if (plain_refused_) return end(Kind::bad_input, "plain http is allowed to loopback only; use https");
  if (body_too_large_)
    return end(Kind::bad_input, "the answer is larger than " + std::to_string(max_body_bytes()) + " bytes");
  // What libcurl says of a single line over its own limit.
  const bool huge_line = code == CURLE_OUT_OF_MEMORY;
  if (head_too_large_ || (huge_line && !nothing_sent() && !head_done_)) {
    return end(Kind::bad_input,
               "the answer's header is larger than " + std::to_string(kMaxHeaderBytes) + " bytes");
  }
  const Repeat broken = nothing_sent() ? Repeat::always : Repeat::if_safe;
  const std::string words = told().empty() ? ::curl_easy_strerror(code) : told();
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return end(Kind::not_found, "the host " + url_.host + " is unknown to the name server, or it is away");
    case CURLE_COULDNT_RESOLVE_PROXY:
      return end(Kind::not_found, "the proxy of the environment is unknown: " + words);
    case CURLE_COULDNT_CONNECT: return not_connected();
    case CURLE_OPERATION_TIMEDOUT: return timed_out();
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR: return not_trusted();
    case CURLE_SSL_CONNECT_ERROR: return tls_failed(nothing_sent() ? Repeat::always : Repeat::if_safe);
    case CURLE_SSL_CERTPROBLEM:
      return end(Kind::bad_input, options_->tls.certificate_setting + " cannot be used: " + words);
    case CURLE_SSL_CACERT_BADFILE:
      return end(Kind::bad_input, "the trusted certificates cannot be read: " + words +
                                      "; install ca-certificates or set " + options_->tls.ca_setting);
    case CURLE_UNSUPPORTED_PROTOCOL:  // no status line
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING: return end(Kind::bad_input, "the answer is not valid HTTP: " + words);
    case CURLE_GOT_NOTHING:
      return end(Kind::unavailable, "the server closed the connection without an answer", broken);
    case CURLE_PARTIAL_FILE: return end(Kind::unavailable, "the answer broke off: " + words, broken);
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND:
      return end(Kind::unavailable, "the connection broke while the request was sent", Repeat::if_safe);
    case CURLE_RECV_ERROR: break;
    default: return end(Kind::unavailable, words, Repeat::never);
  }
  if (const long status = info(CURLINFO_HTTP_CONNECTCODE); through_proxy_ && status >= 300) {
    const std::string answer = "the proxy answered with status " + std::to_string(status);
    if (status == 407)
      return end(Kind::denied,
                 answer + ": put its user and password into HTTPS_PROXY, http://user:password@host:port");
    return end(Kind::unavailable, answer, status >= 500 ? Repeat::always : Repeat::never);
  }
  if (words.find("chunk") != std::string::npos)
    return end(Kind::bad_input, "the answer is not valid HTTP: " + words);
  if (words.find("alert") != std::string::npos) return tls_failed(Repeat::never);
  return end(Kind::unavailable, "the answer broke off: " + words, broken);
}

Outcome Exchange::not_connected() const {
  // "Failed to connect to <host> port <port> after 0 ms: ...": the only place that says whether libcurl
  // went to the proxy.
  const std::string words = told();
  constexpr std::string_view kStart = "Failed to connect to ";
  std::string peer;
  if (words.starts_with(kStart)) peer = words.substr(kStart.size(), words.find(" after ") - kStart.size());
  const long number = info(CURLINFO_OS_ERRNO);
  const std::string why = number != 0 ? std::string(std::strerror(static_cast<int>(number))) : words;
  if (peer.empty()) peer = host_and_port();
  if (through_proxy_ && peer != host_and_port()) peer = "the proxy " + peer;
  return {tl::unexpected(error(Kind::unavailable, "connecting to " + peer + " failed: " + why)),
          Repeat::always};
}

Outcome Exchange::timed_out() const {
  const auto end = [&](std::string cause, Repeat repeat) {
    return Outcome{tl::unexpected(error(Kind::timed_out, std::move(cause))), repeat};
  };
  if (!nothing_sent()) {
    const char* what = head_done_ ? "the answer took longer than " : "no answer came within ";
    return end(what + duration(deadline_), Repeat::never);
  }
  const std::string limit = " took longer than " + duration(std::min(options_->connect_timeout, deadline_));
  if (time(CURLINFO_NAMELOOKUP_TIME_T) == 0)
    return end("the name look-up of " + url_.host + limit, Repeat::always);
  if (!tls_begun_)
    return end((through_proxy_ ? "connecting to the proxy" : "connecting to " + host_and_port()) + limit,
               Repeat::always);
  return end("the TLS handshake" + limit, Repeat::always);
}

Outcome Exchange::not_trusted() const {
  const long verdict = info(CURLINFO_SSL_VERIFYRESULT);
  std::string cause;
  switch (verdict) {
    case X509_V_OK:
    case X509_V_ERR_UNSPECIFIED:  // libcurl's own: the chain is good, so it was the name
      cause = "the certificate is for another name than " + url_.host +
              "; use the name in it, or have it issued for this one";
      break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      cause = std::string(::X509_verify_cert_error_string(verdict)) +
              "; renew it on the server, and check the clock here";
      break;
    default:
      cause = std::string(::X509_verify_cert_error_string(verdict)) +
              "; if this is the right server, put the certificate of its issuer into " +
              options_->tls.ca_setting;
  }
  return {tl::unexpected(error(Kind::denied, "TLS verification failed: " + cause)), Repeat::never};
}

Outcome Exchange::tls_failed(Repeat repeat) const {
  const std::string words = told();
  const auto says = [&](const char* what) { return words.find(what) != std::string::npos; };
  if (says("certificate required") || says("alert bad certificate") || says("alert unknown ca") ||
      (says("alert handshake failure") && options_->tls.certificate)) {
    return {tl::unexpected(
                error(Kind::denied, "the server does not accept our TLS certificate, or wants one; set " +
                                        options_->tls.certificate_setting + " (" + words + ")")),
            Repeat::never};
  }
  const bool line_broke = says("SYSCALL") || says("reset") || says("unexpected eof");
  return {tl::unexpected(error(Kind::unavailable, "the TLS handshake failed: " + words)),
          line_broke ? repeat : Repeat::never};
}

}  // namespace http
