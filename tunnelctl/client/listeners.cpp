#include "tunnelctl/client/listeners.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/http_access.h"
#include "tunnelctl/client/local_streams.h"
#include "tunnelctl/client/two_way.h"

namespace tunnelctl::client {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

/// How long a connection waits for the tunnel to be back, as requests do by default.
constexpr std::chrono::seconds kOpenWithin{30};
/// The same news is told that often at most: a program that connects in a loop must not fill the screen.
constexpr std::chrono::seconds kSameNews{5};
/// After accept() failed for lack of descriptors or memory.
constexpr std::chrono::milliseconds kBreath{100};

std::string text_of(const tcp::endpoint& endpoint) {
  const auto address = endpoint.address();
  return (address.is_v6() ? "[" + address.to_string() + "]" : address.to_string()) + ":" +
         std::to_string(endpoint.port());
}

std::optional<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

tl::expected<std::unique_ptr<tcp::acceptor>, Listeners::Failure> listen(asio::io_context& io,
                                                                        const Forward& forward) {
  auto acceptor = std::make_unique<tcp::acceptor>(io);
  error_code error;
  const auto step = [&](auto&& call) {
    if (!error) call();
  };
  acceptor->open(forward.local.protocol(), error);
  step([&] { acceptor->set_option(tcp::acceptor::reuse_address(true), error); });
  if (forward.local.address().is_v6()) step([&] { acceptor->set_option(asio::ip::v6_only(true), error); });
  step([&] { acceptor->bind(forward.local, error); });
  step([&] { acceptor->listen(asio::socket_base::max_listen_connections, error); });
  if (!error) return acceptor;
  const bool in_use = error == asio::error::address_in_use;
  return tl::unexpected(
      Listeners::Failure{in_use, "-L " + to_text(forward) + ": " + text_of(forward.local) +
                                     (in_use ? " is in use by another program; choose another port, or end it"
                                             : " cannot be listened on: " + error.message())});
}

}  // namespace

bool is_service_name(std::string_view name) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !name.empty() && name.size() <= 63 && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), good);
}

Result<Forward> parse_forward(std::string_view text, std::string_view option) {
  const auto wrong = [&](const char* what) {
    return fail(Error::Kind::bad_input, std::string(option) + " " + http::one_line(text, 200) + ": " + what +
                                            "; it must read [address:]port:service, e.g. 8022:ssh");
  };
  const auto last = text.rfind(':');
  if (last == std::string_view::npos) return wrong("there is no service");
  Forward forward;
  forward.service = text.substr(last + 1);
  if (!is_service_name(forward.service)) return wrong("that is no name of a service");
  auto rest = text.substr(0, last);
  const auto colon = rest.rfind(':');
  std::string host = "127.0.0.1";
  if (colon != std::string_view::npos) host = rest.substr(0, colon);
  if (colon != std::string_view::npos) rest.remove_prefix(colon + 1);
  const auto port = port_of(rest);
  if (!port) return wrong("the port must be a number from 0 to 65535");
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error || address.is_v6() != brackets)
    return wrong("what stands before the port must be an address of this machine, IPv6 in brackets");
  forward.local = {address, *port};
  return forward;
}

std::string to_text(const Forward& forward) {
  return text_of(forward.local) + " -> " + forward.service;
}

struct Listeners::Connection {
  Connection(tcp::socket socket, const Forward& forward_in) : local(std::move(socket)), forward(forward_in) {}
  TcpStream local;
  const Forward& forward;
  tunnel::ByteStream* service = nullptr;  // while there is one
};

Listeners::Listeners(asio::io_context& io, Tunnel& tunnel) : io_(io), tunnel_(tunnel) {}
Listeners::~Listeners() = default;

tl::expected<void, Listeners::Failure> Listeners::bind(const std::vector<Forward>& forwards) {
  std::vector<std::unique_ptr<tcp::acceptor>> acceptors;
  for (const auto& forward : forwards) {
    auto acceptor = listen(io_, forward);
    if (!acceptor) return tl::unexpected(std::move(acceptor.error()));
    acceptors.push_back(std::move(*acceptor));
  }
  forwards_ = forwards;
  acceptors_ = std::move(acceptors);
  for (std::size_t i = 0; i < forwards_.size(); ++i) forwards_[i].local = acceptors_[i]->local_endpoint();
  return {};
}

void Listeners::start(std::function<void(std::string_view line)> on_failed) {
  on_failed_ = std::move(on_failed);
  for (std::size_t i = 0; i < acceptors_.size(); ++i)
    asio::co_spawn(io_, accept(i), [](const std::exception_ptr&) {});
}

void Listeners::stop_accepting() {
  for (auto& acceptor : acceptors_) {
    error_code ignored;
    acceptor->close(ignored);
  }
}

void Listeners::abort() {
  // A closed stream ends its coroutine, which takes it off the list later, not here.
  for (const auto& connection : connections_) {
    connection->local.reset();
    if (connection->service != nullptr) connection->service->close();
  }
}

asio::awaitable<void> Listeners::accept(std::size_t index) {
  auto& acceptor = *acceptors_[index];
  while (acceptor.is_open()) {
    tcp::socket socket(io_);
    const auto [error] = co_await acceptor.async_accept(socket, asio::as_tuple(asio::use_awaitable));
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
    if (error) {
      asio::steady_timer timer(io_, kBreath);
      co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
      continue;
    }
    auto connection = std::make_shared<Connection>(std::move(socket), forwards_[index]);
    connections_.push_back(connection);
    asio::co_spawn(io_, serve(connection),
                   [this, connection](const std::exception_ptr&) { std::erase(connections_, connection); });
  }
}

asio::awaitable<void> Listeners::serve(std::shared_ptr<Connection> connection) {
  const auto& forward = connection->forward;
  auto stream = co_await tunnel_.open(forward.service, tunnel::Priority::normal,
                                      std::chrono::steady_clock::now() + kOpenWithin);
  if (!stream) {
    connection->local.reset();
    tell(forward, told(stream.error()));
    co_return;
  }
  auto& service = **stream;
  connection->service = &service;
  const auto end = co_await copy_both_ways(connection->local, service, Until::both_ended);
  connection->service = nullptr;
  if (end.clean || !end.service_broke || end.error.kind == Error::Kind::cancelled) co_return;
  tell(forward, end.error.message);
}

void Listeners::tell(const Forward& forward, const std::string& why) {
  const auto line = to_text(forward) + ": " + why;
  const auto now = std::chrono::steady_clock::now();
  if (line == last_told_ && now - last_told_at_ < kSameNews) return;
  last_told_ = line;
  last_told_at_ = now;
  if (on_failed_) on_failed_(line);
}

}  // namespace tunnelctl::client
