#include "common/http_client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Endpoints = asio::ip::tcp::resolver::results_type;

constexpr auto kWait = asio::as_tuple(asio::use_awaitable);

struct Url {
  bool tls = true;
  std::string host;  // without brackets
  std::string port;
  std::string target;     // path and query
  std::string authority;  // as the Host field wants it
};

Result<Url> parse_url(std::string_view text) {
  const auto refuse = [](const char* what) { return fail(Error::Kind::bad_input, what); };
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  if (!visible) return refuse("the URL contains spaces or other characters that must be percent-encoded");
  Url url;
  if (text.starts_with("https://")) {
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    url.tls = false;
    text.remove_prefix(7);
  } else {
    return refuse("the URL must start with https:// or http://");
  }
  if (text.find('#') != std::string_view::npos) return refuse("the URL must not have a #fragment");
  const std::size_t end = std::min(text.find_first_of("/?"), text.size());
  const std::string_view authority = text.substr(0, end);
  const std::string_view rest = text.substr(end);
  url.target = rest.starts_with('/') ? std::string(rest) : "/" + std::string(rest);
  if (authority.find('@') != std::string_view::npos)
    return refuse("the URL must not contain a user or password");
  std::string_view host = authority;
  std::string_view port;
  if (host.starts_with('[')) {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos) return refuse("the URL's IPv6 address lacks its ]");
    port = host.substr(close + 1);
    host = host.substr(1, close - 1);
    error_code wrong;
    (void)asio::ip::make_address_v6(std::string(host), wrong);
    if (wrong) return refuse("the URL's IPv6 address is malformed");
  } else {
    const std::size_t colon = std::min(host.find(':'), host.size());
    port = host.substr(colon);
    host = host.substr(0, colon);
    const bool good = std::all_of(host.begin(), host.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
             c == '.' || c == '_';
    });
    if (host.empty() || host.size() > 253 || !good) return refuse("the URL's host name is malformed");
  }
  url.host = host;
  url.port = url.tls ? "443" : "80";
  url.authority = authority;
  if (!port.empty()) {
    port.remove_prefix(1);
    unsigned number = 0;
    const auto [last, wrong] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (wrong != std::errc() || last != port.data() + port.size() || number == 0 || number > 65535 ||
        authority[authority.size() - port.size() - 1] != ':') {
      return refuse("the URL's port is malformed; allowed: 1 to 65535");
    }
    url.port = port;
  }
  return url;
}

/// Queries and user parts can hold what a log must not.
std::string shown(std::string_view url) {
  std::string out(url.substr(0, std::min(url.find('?'), url.size())));
  const std::size_t start = out.find("://") == std::string::npos ? 0 : out.find("://") + 3;
  const std::size_t at = out.substr(0, out.find('/', start)).rfind('@');
  if (at != std::string::npos && at >= start) out.replace(start, at - start, "***");
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c <= 0x20 || c >= 0x7F; }, '?');
  constexpr std::size_t kShown = 256;
  if (out.size() > kShown) out = out.substr(0, kShown) + "...";
  return out;
}

struct Resolving {
  explicit Resolving(const asio::any_io_executor& executor) : resolver(executor), done(executor) {}
  asio::ip::tcp::resolver resolver;
  asio::steady_timer done;
  bool finished = false;
  error_code error;
  Endpoints found;
};

/// Asio looks names up with getaddrinfo on a thread and cannot stop it; so a look-up that takes too
/// long is left to finish into its own state.
asio::awaitable<Result<Endpoints>> resolve(std::string host, std::string port, Clock::time_point deadline) {
  auto state = std::make_shared<Resolving>(co_await asio::this_coro::executor);
  state->done.expires_at(deadline);
  state->resolver.async_resolve(host, port, [state](const error_code& error, Endpoints found) {
    state->finished = true;
    state->error = error;
    state->found = std::move(found);
    state->done.cancel();
  });
  const auto [waited] = co_await state->done.async_wait(kWait);
  if (!state->finished) {
    state->resolver.cancel();
    if (waited) co_return fail(Error::Kind::cancelled, "cancelled");
    co_return fail(Error::Kind::timed_out, "the name look-up of " + host + " took too long");
  }
  if (state->error) {
    const bool unknown = state->error == asio::error::host_not_found || state->error == asio::error::no_data;
    co_return fail(unknown ? Error::Kind::not_found : Error::Kind::unavailable,
                   "the name look-up of " + host + " failed: " + state->error.message());
  }
  co_return state->found;
}

Error failed(const char* step, const error_code& error) {
  if (error == beast::error::timeout) return {Error::Kind::timed_out, std::string(step) + " took too long"};
  if (error == asio::error::operation_aborted) return {Error::Kind::cancelled, "cancelled"};
  return {Error::Kind::unavailable, std::string(step) + " failed: " + error.message()};
}

/// Each address gets a fair part of the time left, so that a dead first one does not use it up.
asio::awaitable<Result<void>> connect(beast::tcp_stream& stream, Endpoints endpoints,
                                      Clock::time_point deadline) {
  auto left = static_cast<int>(endpoints.size());
  Error last{Error::Kind::unavailable, "no address"};
  for (const auto& entry : endpoints) {
    stream.expires_after((deadline - Clock::now()) / left--);
    const auto [error] = co_await stream.async_connect(entry.endpoint(), kWait);
    if (!error) {
      stream.expires_at(deadline);
      co_return Result<void>();
    }
    const std::string step = "connecting to " + entry.endpoint().address().to_string() + " port " +
                             std::to_string(entry.endpoint().port());
    last = failed(step.c_str(), error);
    if (last.kind == Error::Kind::cancelled) break;
    stream.close();
  }
  co_return tl::unexpected(last);
}

template <class Stream>
asio::awaitable<Result<Response>> exchange(Stream& stream, Url url, std::string user_agent,
                                           std::size_t max_body) {
  beast::http::request<beast::http::empty_body> request(beast::http::verb::get, url.target, 11);
  request.set(beast::http::field::host, url.authority);
  request.set(beast::http::field::user_agent, user_agent);
  request.set(beast::http::field::accept, "*/*");
  request.set(beast::http::field::connection, "close");
  if (const auto [error, sent] = co_await beast::http::async_write(stream, request, kWait); error) {
    co_return tl::unexpected(failed("sending the request", error));
  }
  beast::flat_buffer buffer;
  beast::http::response_parser<beast::http::string_body> parser;
  parser.header_limit(16 * 1024);
  parser.body_limit(max_body);
  const auto [error, got] = co_await beast::http::async_read(stream, buffer, parser, kWait);
  // Before the body's error: a status explains more, and an error page may well be large.
  if (parser.is_header_done()) {
    const unsigned status = parser.get().result_int();
    const std::string told = "status " + std::to_string(status);
    if (status >= 300 && status < 400) {
      co_return fail(Error::Kind::bad_input, told + ": redirects are not followed; use the final URL");
    }
    if (status == 401 || status == 403) co_return fail(Error::Kind::denied, told);
    if (status == 404 || status == 410) co_return fail(Error::Kind::not_found, told);
    if (status < 200 || status >= 300) co_return fail(Error::Kind::unavailable, told);
  }
  if (error == beast::http::error::body_limit) {
    co_return fail(Error::Kind::bad_input,
                   "the answer is larger than " + std::to_string(max_body) + " bytes");
  }
  if (error && error.category() == beast::http::make_error_code(beast::http::error::bad_version).category() &&
      error != beast::http::error::end_of_stream && error != beast::http::error::partial_message) {
    co_return fail(Error::Kind::bad_input, "the answer is not valid HTTP: " + error.message());
  }
  if (error) co_return tl::unexpected(failed("reading the answer", error));
  Response response;
  response.status = parser.get().result_int();
  response.content_type = parser.get()[beast::http::field::content_type];
  response.body = std::move(parser.get().body());
  co_return response;
}

}  // namespace

struct Client::Impl {
  ClientOptions options;
  // OpenSSL counts references on it and locks inside, so making streams from it is thread-safe.
  asio::ssl::context tls{asio::ssl::context::tls_client};

  asio::awaitable<Result<Response>> get(Url url, Limits limits);
  asio::awaitable<Result<void>> shake_hands(asio::ssl::stream<beast::tcp_stream>& stream, Url url);
};

asio::awaitable<Result<void>> Client::Impl::shake_hands(asio::ssl::stream<beast::tcp_stream>& stream,
                                                        Url url) {
  SSL* ssl = stream.native_handle();
  error_code not_an_address;
  (void)asio::ip::make_address(url.host, not_an_address);
  // RFC 6066 section 3: server names are no addresses; those are matched against iPAddress entries.
  // SSL_set_tlsext_host_name is this call in a macro with a C cast.
  const bool prepared =
      not_an_address
          ? SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, url.host.data()) == 1 &&
                SSL_set1_host(ssl, url.host.c_str()) == 1
          : X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), url.host.c_str()) == 1;
  if (!prepared) co_return fail(Error::Kind::bug, "OpenSSL refused the host name");
  const auto [error] = co_await stream.async_handshake(asio::ssl::stream_base::client, kWait);
  if (!error) co_return Result<void>();
  if (const long verdict = SSL_get_verify_result(ssl); verdict != X509_V_OK) {
    co_return fail(Error::Kind::denied,
                   std::string("TLS verification failed: ") + X509_verify_cert_error_string(verdict));
  }
  co_return tl::unexpected(failed("the TLS handshake", error));
}

asio::awaitable<Result<Response>> Client::Impl::get(Url url, Limits limits) {
  const auto deadline = Clock::now() + limits.deadline;
  auto endpoints = co_await resolve(url.host, url.port, deadline);
  if (!endpoints) co_return tl::unexpected(endpoints.error());
  if (!url.tls && !options.allow_plain) {
    for (const auto& entry : *endpoints) {
      if (!entry.endpoint().address().is_loopback()) {
        co_return fail(Error::Kind::bad_input, "plain http is allowed to loopback only; use https");
      }
    }
  }
  const auto executor = co_await asio::this_coro::executor;
  if (!url.tls) {
    beast::tcp_stream stream(executor);
    const auto connected = co_await connect(stream, *endpoints, deadline);
    if (!connected) co_return tl::unexpected(connected.error());
    co_return co_await exchange(stream, url, options.user_agent, limits.max_body_bytes);
  }
  asio::ssl::stream<beast::tcp_stream> stream(beast::tcp_stream(executor), tls);
  const auto connected = co_await connect(stream.next_layer(), *endpoints, deadline);
  if (!connected) co_return tl::unexpected(connected.error());
  const auto trusted = co_await shake_hands(stream, url);
  if (!trusted) co_return tl::unexpected(trusted.error());
  co_return co_await exchange(stream, url, options.user_agent, limits.max_body_bytes);
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::make(ClientOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  error_code error;
  if (SSL_CTX_set_min_proto_version(impl->tls.native_handle(), TLS1_2_VERSION) != 1) {
    return fail(Error::Kind::bug, "this OpenSSL has no TLS 1.2");
  }
  impl->tls.set_verify_mode(asio::ssl::verify_peer, error);
  if (error) return fail(Error::Kind::bug, "TLS verification cannot be switched on: " + error.message());
  if (impl->options.ca_file) {
    impl->tls.load_verify_file(impl->options.ca_file->string(), error);
    if (error) {
      return fail(Error::Kind::bad_input,
                  impl->options.ca_file->string() +
                      ": cannot be used as trusted certificates (PEM): " + error.message());
    }
  } else {
    impl->tls.set_default_verify_paths(error);
    if (error) return fail(Error::Kind::unavailable, "the system's trusted certificates: " + error.message());
  }
  return Client(std::move(impl));
}

asio::awaitable<Result<Response>> Client::get(std::string url, Limits limits) const {
  auto parsed = parse_url(url);
  if (!parsed) co_return fail(parsed.error().kind, "GET " + shown(url) + ": " + parsed.error().message);
  auto answer = co_await impl_->get(std::move(*parsed), limits);
  if (!answer) co_return fail(answer.error().kind, "GET " + shown(url) + ": " + answer.error().message);
  co_return answer;
}

}  // namespace http
