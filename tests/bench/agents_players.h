#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "common/result.h"
#include "edge/websocket_client.h"
#include "link/link.h"
#include "link/mux.h"
#include "tunnel/byte_stream.h"
#include "tunnel/http_exchange.h"
#include "tunnel/wakeup.h"

namespace bench::agents {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

/// Whose connections a player's are, and which services its streams go to.
struct Member {
  std::string token;
  std::vector<std::string> services;
};

struct Settings {
  std::string server;  // wss://127.0.0.1:3001
  std::filesystem::path ca_file;
  /// One: what fails stays down. More: with the pauses that tunnelctl makes.
  unsigned attempts = 1;
  std::chrono::seconds timeout{60};
};

/// One that connects to tunneld, stays, and can be cut off. Threads: `io`'s one. Made with std::make_shared.
class Player : public std::enable_shared_from_this<Player> {
 public:
  Player(asio::io_context& io, const Settings& settings, const Member& member);
  virtual ~Player() = default;
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  /// Connects, or comes back after a cut. Empty when it is up, else why it is not.
  asio::awaitable<std::string> come();
  /// Its connection breaks by RST, at once.
  void cut();
  /// In good order.
  virtual asio::awaitable<void> leave() = 0;
  virtual bool up() const = 0;
  /// How often it had to try for come() so far.
  std::uint64_t tries() const { return tries_; }

 protected:
  using Socket = std::unique_ptr<tunnel::WebSocketStream>;
  virtual asio::awaitable<std::string> try_once() = 0;
  /// The connection is to be given up.
  virtual void drop() = 0;
  edge::ClientRequest request_for(const char* subprotocol) const;
  asio::awaitable<Result<Socket>> connect(const char* path, const edge::ClientRequest& request);

  asio::io_context& io_;
  const Settings& settings_;
  const Member& member_;

 private:
  /// Before the next try there is a pause: it was up before.
  bool was_up_ = false;
  int descriptor_ = -1;  // of the newest connection
  std::uint64_t tries_ = 0;
};

/// What an agent shows of itself on /agent. It has no sshd: asked for a session, it says so.
class Agent final : public Player {
 public:
  Agent(asio::io_context& io, const Settings& settings, const Member& member, std::string id);
  asio::awaitable<void> leave() override;
  bool up() const override { return announced_; }
  std::uint64_t sessions_refused() const { return sessions_refused_; }

 private:
  using Shared = std::shared_ptr<tunnel::WebSocketStream>;
  asio::awaitable<std::string> try_once() override;
  void drop() override;
  static asio::awaitable<void> watch(std::shared_ptr<Agent> self, Shared socket);
  void on_message(const std::string& text);
  std::string announcement() const;

  const std::string id_;
  const std::string boot_id_;
  Shared socket_;
  bool announced_ = false;
  std::string fault_;
  std::uint64_t sessions_refused_ = 0;
  tunnel::Wakeup changed_;
};

/// What `tunnelctl connect` does on /ws: a link that is resumed, and streams on it.
class Caller final : public Player {
 public:
  using Player::Player;
  ~Caller() override;
  asio::awaitable<void> leave() override;
  bool up() const override { return link_ && link_->state() == links::Link::State::attached; }
  /// Forgets its link, of which the server learns nothing while it is cut.
  void abandon();
  /// A stream to that service, granted.
  asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> open(std::string service);
  std::uint64_t resumes() const { return link_ ? link_->resumes() : 0; }

 private:
  asio::awaitable<std::string> try_once() override;
  void drop() override;
  asio::awaitable<std::string> begin(Socket socket);
  static asio::awaitable<void> run(std::shared_ptr<links::Link> link, std::shared_ptr<links::Mux> mux);

  std::shared_ptr<links::Link> link_;
  std::shared_ptr<links::Mux> mux_;
  std::unique_ptr<tunnel::ByteStream> control_;
};

/// Waits; nobody can wake it.
asio::awaitable<void> rest(std::chrono::milliseconds time);
/// Ends when all have; they run side by side.
asio::awaitable<void> all(asio::io_context& io, std::vector<asio::awaitable<void>> stories);
/// For co_spawn: a failure is a bug, and ends the program.
void rethrow(const std::exception_ptr& failure);

}  // namespace bench::agents
