#include "edge/server.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <map>
#include <mutex>
#include <random>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "edge/http_connection.h"
#include "edge/moved_websocket.h"
#include "edge/transport.h"
#include "tunnel/deadline_watch.h"

namespace edge {

using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
/// Of all servers of the process, so that an operator can name a connection by its number alone.
std::atomic<std::uint64_t> next_connection_id{1};

constexpr auto kAcceptRetry = std::chrono::milliseconds(50);  // after running out of file descriptors

Result<tcp::endpoint> parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  const auto bad = [&](const char* why) {
    return fail(Error::Kind::bad_input,
                "listen address \"" + text + "\": " + why + "; write 127.0.0.1:3001 or [::1]:3001");
  };
  if (colon == std::string::npos) return bad("has no port");
  auto host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  unsigned port = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data() + colon + 1, end, port);
  if (failed != std::errc() || stop != end || port > 65535) return bad("has no port from 0 to 65535");
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error) return bad("has no numeric address");
  return tcp::endpoint(address, static_cast<asio::ip::port_type>(port));
}

std::size_t descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
  return limit.rlim_cur;
}

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Impl> {
  struct Session : std::enable_shared_from_this<Session> {
    Session(std::shared_ptr<Impl> s, std::size_t t, std::shared_ptr<Transport> stream,
            const tcp::endpoint& peer)
        : server(std::move(s)),
          thread(t),
          transport(std::move(stream)),
          record(std::make_shared<ConnectionRecord>(next_connection_id++, to_text(peer), t)),
          connection(transport, context_for(peer.address().to_string())) {}
    ~Session() {
      leave_crowd();
      server->observer->socket_closed();
    }
    void leave_crowd() {
      if (!std::exchange(in_crowd, false)) return;
      --server->unauthenticated;
    }

    /// What the connection tells the server. The session outlives it; a WebSocket that does not end with
    /// it has been disowned by then.
    HttpConnection::Context context_for(std::string peer_address) {
      const bool behind_proxy =
          server->options.proxy_protocol && server->options.trusted_proxies.contains(peer_address);
      return {.options = server->options,
              .handler = *server->threads[thread].handler,
              .observer = *server->observer,
              .watch = *server->threads[thread].watch,
              .cancel =
                  [this] {
                    asio::post(*server->threads[thread].context, [session = shared_from_this()] {
                      session->cancel.emit(asio::cancellation_type::terminal);
                    });
                  },
              .record = record,
              .peer_address = std::move(peer_address),
              .behind_proxy = behind_proxy,
              .admit = server->admit_address,
              .on_authenticated =
                  [this](const std::string& peer) {
                    leave_crowd();
                    if (server->on_authenticated) server->on_authenticated(peer);
                  },
              .on_upgraded =
                  [this] {
                    if (server->on_upgraded) server->on_upgraded(info_of(*this));
                  },
              .on_large_message =
                  [this](std::uint64_t bytes) {
                    if (server->on_large_message) server->on_large_message(info_of(*this), bytes);
                  }};
    }

    std::shared_ptr<Impl> server;
    std::size_t thread;
    bool in_crowd = true;
    std::shared_ptr<Transport> transport;
    std::shared_ptr<ConnectionRecord> record;
    HttpConnection connection;
    asio::cancellation_signal cancel;
  };
  struct Thread {
    asio::io_context* context = nullptr;
    tunnel::HttpHandler* handler = nullptr;
    std::unique_ptr<tunnel::DeadlineWatch> watch;
    std::atomic<std::size_t> live{0};
    mutable std::mutex mutex;  // guards the map; changed on the thread itself only
    std::map<std::uint64_t, std::shared_ptr<Session>> sessions;
  };

  Options options;
  std::vector<Thread> threads;
  tunnel::Observer* observer;
  std::function<void(const ConnectionInfo&, std::string_view)> on_ended;
  std::function<bool(const std::string&)> admit_address;
  std::function<void(const std::string&)> on_authenticated;
  std::function<void(const ConnectionInfo&)> on_upgraded;
  std::function<void(const ConnectionInfo&, std::uint64_t)> on_large_message;
  mutable std::mutex tls_mutex;
  std::shared_ptr<SSL_CTX> tls;
  std::size_t descriptors = descriptor_limit();

  std::vector<tcp::acceptor> acceptors;
  std::vector<tcp::endpoint> endpoints;
  boost::system::error_code listen_error{};
  int spare_descriptor = -1;
  std::atomic<bool> accepting{false};
  std::atomic<std::size_t> unauthenticated{0};
  Clock::time_point crowded_since{};  // acceptors' thread only
  bool crowded = false;
  std::mt19937 random{std::random_device{}()};

  Impl(Options o, Parts parts)
      : options(std::move(o)),
        threads(parts.threads.size()),
        observer(parts.observer),
        on_ended(std::move(parts.on_ended)),
        admit_address(std::move(parts.admit)),
        on_authenticated(std::move(parts.on_authenticated)),
        on_upgraded(std::move(parts.on_upgraded)),
        on_large_message(std::move(parts.on_large_message)),
        tls(std::move(parts.tls)) {
    for (std::size_t i = 0; i < threads.size(); ++i) {
      threads[i].context = parts.threads[i];
      threads[i].handler = &parts.handler(i);
      threads[i].watch = std::make_unique<tunnel::DeadlineWatch>(parts.threads[i]->get_executor());
    }
    keep_spare();
  }
  ~Impl() {
    if (spare_descriptor >= 0) ::close(spare_descriptor);
  }

  asio::io_context& home() { return *threads.front().context; }

  Result<void> bind_all() {
    for (const auto& text : options.listen) {
      auto endpoint = parse_address(text);
      if (!endpoint) return tl::unexpected(std::move(endpoint.error()));
      tcp::acceptor acceptor(home());
      boost::system::error_code error;
      acceptor.open(endpoint->protocol(), error);
      if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
      if (!error && endpoint->address().is_v6()) acceptor.set_option(asio::ip::v6_only(true), error);
      if (!error) acceptor.bind(*endpoint, error);
      if (!error) acceptor.listen(4096, error);
      if (error) {
        listen_error = error;
        std::string remedy;
        if (error == asio::error::address_in_use)
          remedy = "; stop whoever listens there or choose another port";
        if (error == asio::error::access_denied)
          remedy = "; ports below 1024 need CAP_NET_BIND_SERVICE, or choose another port";
        if (error.value() == EADDRNOTAVAIL) remedy = "; this machine has no such address";
        return fail(Error::Kind::unavailable, "cannot listen on " + text + ": " + error.message() + remedy);
      }
      endpoints.push_back(acceptor.local_endpoint());
      acceptors.push_back(std::move(acceptor));
    }
    if (acceptors.empty()) return fail(Error::Kind::bad_input, "no listen address is configured");
    return {};
  }

  std::size_t emptiest_thread() const {
    std::size_t best = 0;
    for (std::size_t i = 1; i < threads.size(); ++i)
      if (threads[i].live < threads[best].live) best = i;
    return best;
  }

  std::size_t total_live() const {
    std::size_t total = 0;
    for (const auto& thread : threads) total += thread.live;
    return total;
  }

  /// One acceptor's life. Nothing here ends the loop but stop_accepting().
  static asio::awaitable<void> accept_all(std::shared_ptr<Impl> self, tcp::acceptor& acceptor) {
    asio::steady_timer pause(acceptor.get_executor());
    while (self->accepting) {
      co_await self->let_crowd_pass(pause);
      const auto thread = self->emptiest_thread();
      tcp::endpoint peer;
      auto [error, socket] = co_await acceptor.async_accept(*self->threads[thread].context, peer, kAwait);
      if (!self->accepting) break;
      if (error == asio::error::no_descriptors || error.value() == ENFILE ||
          error == asio::error::no_memory || error == asio::error::no_buffer_space) {
        self->shed(acceptor);
        pause.expires_after(kAcceptRetry);
        co_await pause.async_wait(kAwait);
        continue;
      }
      if (error) continue;  // ECONNABORTED and its like: that caller is gone
      self->keep_spare();
      if (const auto reason = self->reason_to_refuse(socket.native_handle()); !reason.empty()) {
        self->observer->socket_refused(reason);
        continue;
      }
      if (!self->admits(peer)) {
        self->observer->socket_refused("address");
        continue;
      }
      self->admit(std::move(socket), thread, peer);
    }
  }

  /// Takes a waiting caller off the backlog with the descriptor kept for it, so that it learns at once.
  void shed(tcp::acceptor& acceptor) {
    observer->socket_refused("fd_reserve");
    if (spare_descriptor < 0) return;
    ::close(spare_descriptor);
    const int shed = ::accept4(acceptor.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (shed >= 0) ::close(shed);
    spare_descriptor = -1;
    keep_spare();
  }

  /// Somebody else may have snatched the one that was given up: then the next success gets it back.
  void keep_spare() {
    if (spare_descriptor < 0) spare_descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  }

  /// Holds back while many have not authenticated, but never for longer than the patience in all.
  asio::awaitable<void> let_crowd_pass(asio::steady_timer& pause) {
    while (accepting && unauthenticated >= options.early_drop_from) {
      if (!std::exchange(crowded, true)) crowded_since = Clock::now();
      if (Clock::now() - crowded_since >= options.crowd_patience) co_return;
      pause.expires_after(std::chrono::milliseconds(2));
      co_await pause.async_wait(kAwait);
    }
    crowded = unauthenticated >= options.early_drop_from;
  }

  std::string_view reason_to_refuse(int descriptor) {
    if (total_live() >= options.max_connections) return "max_connections";
    // The lowest free descriptor is taken: its number tells how many are in use.
    if (descriptors != SIZE_MAX && static_cast<std::size_t>(descriptor) + options.fd_reserve >= descriptors)
      return "fd_reserve";
    const std::size_t crowd = unauthenticated;
    if (crowd >= options.max_unauthenticated) return "early_drop";
    if (crowd < options.early_drop_from) return {};
    // From 30 % at the threshold to certainty at the limit, as sshd does.
    const double part =
        static_cast<double>(crowd - options.early_drop_from) /
        static_cast<double>(std::max<std::size_t>(1, options.max_unauthenticated - options.early_drop_from));
    return std::uniform_real_distribution<>(0, 1)(random) < 0.3 + 0.7 * part ? "early_drop" : "";
  }

  bool admits(const tcp::endpoint& peer) const {
    if (!admit_address) return true;
    const auto address = peer.address().to_string();
    return options.trusted_proxies.contains(address) || admit_address(address);
  }

  void admit(tcp::socket socket, std::size_t thread, const tcp::endpoint& peer) {
    observer->socket_opened();
    ++threads[thread].live;
    ++unauthenticated;
    // From here on everything about this connection happens on its own thread.
    asio::post(*threads[thread].context,
               [self = shared_from_this(), thread, peer, connected = std::move(socket)]() mutable {
                 self->begin(std::move(connected), thread, peer);
               });
  }

  void begin(tcp::socket socket, std::size_t thread, const tcp::endpoint& peer) {
    std::shared_ptr<SSL_CTX> context;
    {
      const std::lock_guard lock(tls_mutex);
      context = tls;
    }
    auto transport = std::make_shared<Transport>(std::move(socket), std::move(context), options.write_stall);
    auto session = std::make_shared<Session>(shared_from_this(), thread, std::move(transport), peer);
    {
      const std::lock_guard lock(threads[thread].mutex);
      threads[thread].sessions.emplace(session->record->id(), session);
    }
    if (!accepting) session->connection.drain();
    auto& cancel = session->cancel;
    asio::co_spawn(*threads[thread].context, session->connection.run(),
                   asio::bind_cancellation_slot(
                       cancel.slot(), [session](const std::exception_ptr& thrown, const std::string& how) {
                         session->server->end(session, thrown, how);
                       }));
  }

  void end(const std::shared_ptr<Session>& session, const std::exception_ptr& thrown, std::string how) {
    if (thrown) {
      try {
        std::rethrow_exception(thrown);
      } catch (const boost::system::system_error& error) {
        how = error.code() == asio::error::operation_aborted ? "cancelled" : error.what();
      } catch (const std::exception& error) {
        how = error.what();
      }
      session->transport->abort();
    }
    if (on_ended) on_ended(info_of(*session), how);
    {
      const std::lock_guard lock(threads[session->thread].mutex);
      threads[session->thread].sessions.erase(session->record->id());
    }
    session->transport->close();
    --threads[session->thread].live;
  }

  static ConnectionInfo info_of(const Session& session) {
    auto info = session.record->snapshot();
    info.bytes_in = session.transport->bytes_in();
    info.bytes_out = session.transport->bytes_out();
    return info;
  }

  std::vector<std::shared_ptr<Session>> sessions_of(const Thread& thread) const {
    std::vector<std::shared_ptr<Session>> found;
    const std::lock_guard lock(thread.mutex);
    for (const auto& [id, session] : thread.sessions) found.push_back(session);
    return found;
  }

  void drain_thread(std::size_t index) {
    for (const auto& session : sessions_of(threads[index])) session->connection.drain();
  }

  std::shared_ptr<Session> find(std::uint64_t id) const {
    for (const auto& thread : threads) {
      const std::lock_guard lock(thread.mutex);
      if (const auto found = thread.sessions.find(id); found != thread.sessions.end()) return found->second;
    }
    return nullptr;
  }

  /// On the session's thread.
  static void close(const std::shared_ptr<Session>& session, std::uint16_t code, std::string reason) {
    if (auto websocket = session->connection.websocket()) {
      asio::co_spawn(session->transport->get_executor(),
                     say_goodbye(std::move(websocket), code, std::move(reason)),
                     [session](const std::exception_ptr&) {});
    } else if (const auto moved = session->connection.moved_websocket()) {
      moved->close_with(code, std::move(reason));
    } else if (session->record->is_upgraded()) {
      session->transport->abort();
    } else {
      session->connection.drain();
    }
  }

  static asio::awaitable<void> say_goodbye(std::shared_ptr<WebSocket> websocket, std::uint16_t code,
                                           std::string reason) {
    co_await websocket->close_with(code, reason);
  }
};

Server::Server(Options options, Parts parts)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(parts))) {}

Server::~Server() {
  impl_->accepting = false;
  impl_->acceptors.clear();
  for (auto& thread : impl_->threads) {
    thread.sessions.clear();  // they hold this and would keep it alive
    // Coroutines that are still waiting keep `impl_` until their context goes, and its timers with it.
    thread.watch.reset();
  }
}

boost::system::error_code Server::listen_error() const {
  return impl_->listen_error;
}

Result<void> Server::start() {
  if (auto bound = impl_->bind_all(); !bound) {
    impl_->acceptors.clear();
    impl_->endpoints.clear();
    return bound;
  }
  impl_->accepting = true;
  for (auto& acceptor : impl_->acceptors)
    asio::co_spawn(impl_->home(), Impl::accept_all(impl_, acceptor),
                   [self = impl_](const std::exception_ptr& thrown) {
                     if (thrown && self->accepting)
                       std::rethrow_exception(thrown);  // a bug: the context's runner reports it
                   });
  return {};
}

std::vector<tcp::endpoint> Server::local_endpoints() const {
  return impl_->endpoints;
}

void Server::use_certificate(std::shared_ptr<SSL_CTX> tls) {
  const std::lock_guard lock(impl_->tls_mutex);
  impl_->tls = std::move(tls);
}

std::vector<ConnectionInfo> Server::connections() const {
  std::vector<ConnectionInfo> infos;
  for (const auto& thread : impl_->threads)
    for (const auto& session : impl_->sessions_of(thread)) infos.push_back(Impl::info_of(*session));
  return infos;
}

std::size_t Server::connection_count() const {
  return impl_->total_live();
}

bool Server::close_connection(std::uint64_t id, std::uint16_t code, std::string reason) {
  auto session = impl_->find(id);
  if (!session) return false;
  auto& context = *impl_->threads[session->thread].context;
  asio::post(context, [session = std::move(session), code, reason = std::move(reason)]() mutable {
    Impl::close(session, code, std::move(reason));
  });
  return true;
}

void Server::stop_accepting() {
  if (!impl_->accepting.exchange(false)) return;
  asio::post(impl_->home(), [self = impl_] {
    boost::system::error_code ignored;
    for (auto& acceptor : self->acceptors) acceptor.close(ignored);
  });
}

asio::awaitable<bool> Server::drain(Clock::time_point deadline) {
  stop_accepting();
  for (std::size_t i = 0; i < impl_->threads.size(); ++i)
    asio::post(*impl_->threads[i].context, [self = impl_, i] { self->drain_thread(i); });
  asio::steady_timer pause(co_await asio::this_coro::executor);
  while (impl_->total_live() > 0) {
    if (Clock::now() >= deadline) co_return false;
    pause.expires_after(std::chrono::milliseconds(5));
    co_await pause.async_wait(kAwait);
  }
  co_return true;
}

void Server::close_all() {
  stop_accepting();
  for (std::size_t i = 0; i < impl_->threads.size(); ++i)
    asio::post(*impl_->threads[i].context, [self = impl_, i] {
      for (const auto& session : self->sessions_of(self->threads[i])) {
        session->transport->abort();
        session->cancel.emit(asio::cancellation_type::terminal);
      }
    });
}

}  // namespace edge
