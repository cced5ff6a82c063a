#include "edge/client_proxy.h"

#include <algorithm>
#include <array>

#include <arpa/inet.h>

#include <openssl/crypto.h>

#include "common/http_access.h"
#include "tunnel/client_address.h"
#include "tunnel/http1.h"

namespace edge {

namespace {

using Passed = tl::expected<void, ProxyRefusal>;

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

std::optional<std::string> percent_decode(std::string_view text) {
  const auto digit = [](char c) {
    const auto at = std::string_view("0123456789abcdef").find(lower({&c, 1}));
    return at == std::string_view::npos ? -1 : static_cast<int>(at);
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size() || digit(text[i + 1]) < 0 || digit(text[i + 2]) < 0) return std::nullopt;
    out.push_back(static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])));
    i += 2;
  }
  return out;
}

std::string authority(const std::string& host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool has_port(std::string_view place) {
  const auto colon = place.rfind(':');
  return colon != std::string_view::npos && (place.front() != '[' || place[colon - 1] == ']');
}

/// Whether an entry of NO_PROXY covers the host: a network, an address, or a name with all below it.
bool covers(std::string_view entry, const std::string& host) {
  if (entry == "*") return true;
  if (entry.size() > 2 && entry.front() == '[' && entry.back() == ']')
    entry = entry.substr(1, entry.size() - 2);
  if (const auto network = tunnel::TrustedProxies::parse({std::string(entry)}))
    return network->contains(host);
  if (entry.starts_with("*.")) entry.remove_prefix(1);
  while (!entry.empty() && entry.front() == '.') entry.remove_prefix(1);
  while (!entry.empty() && entry.back() == '.') entry.remove_suffix(1);
  if (entry.empty()) return false;
  const auto name = lower(entry);
  auto ours = lower(host);
  while (!ours.empty() && ours.back() == '.') ours.pop_back();
  return ours == name || ours.ends_with("." + name);
}

bool is_exempt(std::string_view list, const std::string& host) {
  while (!list.empty()) {
    const auto end = std::min(list.find_first_of(", \t"), list.size());
    if (end > 0 && covers(list.substr(0, end), host)) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

ProxyRefusal broken(const Proxy& proxy, const Error& error) {
  const char* cause = error.kind == Error::Kind::timed_out   ? "timed_out"
                      : error.kind == Error::Kind::cancelled ? "cancelled"
                                                             : "proxy_refused";
  return {cause, "proxy " + proxy.shown() + ": " + error.message};
}

/// The talk with a proxy before anything else is said on the connection.
class Talk {
 public:
  Talk(Transport& transport, const Proxy& proxy, Transport::Clock::time_point deadline)
      : transport_(transport), proxy_(proxy), deadline_(deadline) {}

  asio::awaitable<Passed> connect(http::Url target);
  asio::awaitable<Passed> socks(http::Url target);

 private:
  using Taken = tl::expected<std::string, ProxyRefusal>;
  asio::awaitable<Taken> take(std::size_t bytes);
  asio::awaitable<Taken> take_head();
  asio::awaitable<Passed> say(std::string bytes);
  asio::awaitable<Passed> log_in();
  tl::unexpected<ProxyRefusal> refuse(const char* cause, const std::string& why, unsigned status = 0) const {
    return tl::unexpected(ProxyRefusal{cause, "proxy " + proxy_.shown() + ": " + why, status});
  }

  Transport& transport_;
  const Proxy& proxy_;
  Transport::Clock::time_point deadline_;
};

asio::awaitable<Talk::Taken> Talk::take(std::size_t bytes) {
  std::string got(bytes, '\0');
  const auto taken = co_await transport_.read_ahead_of_tls(std::as_writable_bytes(std::span(got)), deadline_);
  if (!taken) co_return tl::unexpected(broken(proxy_, taken.error()));
  if (*taken < bytes) co_return refuse("proxy_refused", "it closed the connection");
  co_return got;
}

/// A byte at a time: what follows the head belongs to the server.
asio::awaitable<Talk::Taken> Talk::take_head() {
  std::string head;
  std::size_t scanned = 0;
  for (;;) {
    auto byte = co_await take(1);
    if (!byte) co_return byte;
    head += *byte;
    const auto end = tunnel::find_head_end(std::as_bytes(std::span(head)), scanned);
    if (end) co_return head;
    const std::string_view http("HTTP/");
    if (head.substr(0, http.size()) != http.substr(0, head.size()))
      co_return refuse("proxy_refused", "it speaks no HTTP");
    if (head.size() > tunnel::HeadLimits{}.max_total_bytes)
      co_return refuse("proxy_refused", "its answer is too long");
  }
}

asio::awaitable<Passed> Talk::say(std::string bytes) {
  const auto sent = co_await transport_.write_ahead_of_tls(std::as_bytes(std::span(bytes)));
  OPENSSL_cleanse(bytes.data(), bytes.size());
  if (!sent) co_return tl::unexpected(broken(proxy_, sent.error()));
  co_return Passed{};
}

asio::awaitable<Passed> Talk::connect(http::Url target) {
  const auto place = authority(target.host, target.port);
  std::string request = "CONNECT " + place + " HTTP/1.1\r\nHost: " + place + "\r\n";
  if (proxy_.authenticates)
    request += "Proxy-Authorization: " + http::basic_authorization(proxy_.user, proxy_.password) + "\r\n";
  request += "\r\n";
  if (auto said = co_await say(std::move(request)); !said) co_return said;
  const auto text = co_await take_head();
  if (!text) co_return tl::unexpected(text.error());
  const auto head = tunnel::parse_response_head(*text, "CONNECT", tunnel::HeadLimits{});
  if (!head) co_return refuse("proxy_refused", "its answer is broken: " + std::string(head.error().reason));
  if (head->status >= 200 && head->status < 300) co_return Passed{};
  const auto seen = "HTTP " + std::to_string(head->status) + " " + http::one_line(head->reason, 80);
  if (head->status == 407)
    co_return refuse("proxy_authentication",
                     proxy_.authenticates ? "it does not take this user and password (" + seen + ")"
                                          : "it wants a user and password (" + seen + ")",
                     407);
  co_return refuse("proxy_refused", "it does not connect to " + place + ": " + seen, head->status);
}

const char* socks_reply(unsigned char code) {
  constexpr std::array kTexts = {
      "succeeded",           "general failure",       "not allowed by its rules",
      "network unreachable", "host unreachable",      "connection refused",
      "TTL expired",         "command not supported", "address type not supported"};
  return code < kTexts.size() ? kTexts[code] : "unknown failure";
}

asio::awaitable<Passed> Talk::log_in() {
  const auto password = proxy_.password.reveal();
  if (proxy_.user.empty() || proxy_.user.size() > 255 || password.empty() || password.size() > 255)
    co_return refuse("proxy_authentication", "SOCKS5 needs a user and a password of 1 to 255 bytes");
  std::string request("\x01", 1);
  request.push_back(static_cast<char>(proxy_.user.size()));
  request.append(proxy_.user).push_back(static_cast<char>(password.size()));
  request.append(password);
  if (auto said = co_await say(std::move(request)); !said) co_return said;
  const auto answer = co_await take(2);
  if (!answer) co_return tl::unexpected(answer.error());
  if ((*answer)[1] != 0) co_return refuse("proxy_authentication", "it does not take this user and password");
  co_return Passed{};
}

/// The place as SOCKS5 writes it: type, address or name, port.
std::string socks_address(const http::Url& target) {
  std::string out;
  std::array<char, 16> bytes{};
  if (::inet_pton(AF_INET, target.host.c_str(), bytes.data()) == 1) {
    out.append("\x01").append(bytes.data(), 4);
  } else if (::inet_pton(AF_INET6, target.host.c_str(), bytes.data()) == 1) {
    out.append("\x04").append(bytes.data(), 16);
  } else {
    out.append("\x03").push_back(static_cast<char>(target.host.size()));  // at most 253, by parse_url()
    out.append(target.host);
  }
  out.push_back(static_cast<char>(target.port >> 8U));
  out.push_back(static_cast<char>(target.port & 0xFFU));
  return out;
}

asio::awaitable<Passed> Talk::socks(http::Url target) {
  const std::string greeting =
      proxy_.authenticates ? std::string("\x05\x02\x00\x02", 4) : std::string("\x05\x01\x00", 3);
  if (auto said = co_await say(greeting); !said) co_return said;
  const auto method = co_await take(2);
  if (!method) co_return tl::unexpected(method.error());
  if ((*method)[0] != 5) co_return refuse("proxy_refused", "it speaks no SOCKS5");
  if ((*method)[1] == 2 && proxy_.authenticates) {
    if (auto in = co_await log_in(); !in) co_return in;
  } else if ((*method)[1] != 0) {
    co_return refuse("proxy_authentication", "it wants another way of logging in");
  }
  if (auto said = co_await say(std::string("\x05\x01\x00", 3) + socks_address(target)); !said) co_return said;
  const auto reply = co_await take(4);
  if (!reply) co_return tl::unexpected(reply.error());
  if ((*reply)[0] != 5) co_return refuse("proxy_refused", "its answer is broken");
  if ((*reply)[1] != 0)
    co_return refuse("proxy_refused", "it does not connect to " + authority(target.host, target.port) + ": " +
                                          socks_reply(static_cast<unsigned char>((*reply)[1])));
  std::size_t left = 2;  // the port; before it the address it connects from
  if ((*reply)[3] == 1) {
    left += 4;
  } else if ((*reply)[3] == 4) {
    left += 16;
  } else {
    const auto length = co_await take(1);
    if (!length) co_return tl::unexpected(length.error());
    left += static_cast<unsigned char>((*length)[0]);
  }
  const auto rest = co_await take(left);
  if (!rest) co_return tl::unexpected(rest.error());
  co_return Passed{};
}

}  // namespace

std::string Proxy::shown() const {
  return (kind == Kind::http ? "http://" : "socks5://") + authority(host, port);
}

Result<Proxy> parse_proxy(std::string_view url) {
  const auto refuse = [](const char* what) {
    return fail(Error::Kind::bad_input, std::string(what) +
                                            "; expected http://[user:password@]host:port or "
                                            "socks5://[user:password@]host:port");
  };
  Proxy proxy;
  const auto mark = url.find("://");
  const auto scheme = mark == std::string_view::npos ? "http" : lower(url.substr(0, mark));
  if (mark != std::string_view::npos) url.remove_prefix(mark + 3);
  if (scheme == "socks5" || scheme == "socks5h")
    proxy.kind = Proxy::Kind::socks5;
  else if (scheme == "https")
    return refuse("the proxy's URL begins with https://, which is not supported for WebSockets");
  else if (scheme != "http")
    return refuse("the proxy's URL has an unknown scheme");
  url = url.substr(0, url.find_first_of("/?#"));
  if (const auto at = url.rfind('@'); at != std::string_view::npos) {
    const auto given = url.substr(0, at);
    const auto colon = std::min(given.find(':'), given.size());
    auto user = percent_decode(given.substr(0, colon));
    auto password = percent_decode(given.substr(std::min(colon + 1, given.size())));
    if (!user || !password) return refuse("the proxy's user or password is not percent-encoded");
    proxy.authenticates = true;
    proxy.user = std::move(*user);
    proxy.password = Secret(std::move(*password));
    url.remove_prefix(at + 1);
  }
  if (url.empty()) return refuse("the proxy's URL has no host");
  const auto place = http::parse_url("http://" + std::string(url) + (has_port(url) ? "" : ":1080"));
  if (!place) return refuse("the proxy's URL has a malformed host or port");
  proxy.host = place->host;
  proxy.port = place->port;
  return proxy;
}

Result<std::optional<Proxy>> choose_proxy(const http::Proxies& proxies, const http::Url& target) {
  const auto& url = target.tls ? proxies.for_https : proxies.for_http;
  if (url.empty() || http::is_loopback(target.host) || is_exempt(proxies.none_for, target.host))
    return std::optional<Proxy>();
  auto proxy = parse_proxy(url);
  if (!proxy) return tl::unexpected(std::move(proxy.error()));
  return std::optional<Proxy>(std::move(*proxy));
}

asio::awaitable<Passed> pass_proxy(Transport& transport, const Proxy& proxy, const http::Url& target,
                                   Transport::Clock::time_point deadline) {
  Talk talk(transport, proxy, deadline);
  // Not `?:`: g++ 12 destroys the temporaries of a co_await in there twice.
  if (proxy.kind == Proxy::Kind::http) co_return co_await talk.connect(target);
  co_return co_await talk.socks(target);
}

}  // namespace edge
