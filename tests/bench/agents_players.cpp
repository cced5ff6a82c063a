#include "agents_players.h"

#include <array>
#include <exception>
#include <stdexcept>
#include <utility>

#include <sys/socket.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "tunnelctl/client/backoff.h"

namespace bench::agents {
namespace {

using nlohmann::json;
using tunnelctl::client::Backoff;
using namespace std::chrono_literals;

Backoff::Options patience(unsigned attempts) {
  Backoff::Options options;
  options.max_attempts = attempts;
  return options;
}

double random_share() {
  static std::mt19937_64 engine{std::random_device{}()};
  return std::uniform_real_distribution<>(0, 1)(engine);
}

std::string hex(std::span<const unsigned char> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

std::string new_boot_id() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1)
    throw std::runtime_error("no randomness");
  return hex(bytes);
}

/// "ssh-ed25519 AAAA…", always the same for the same id. Nobody proves that it has the private key before a
/// session begins, and none does.
std::string host_key(const std::string& id) {
  std::string blob("\0\0\0\x0bssh-ed25519\0\0\0\x20", 19);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> key{};
  SHA256(reinterpret_cast<const unsigned char*>(id.data()), id.size(), key.data());
  blob.append(reinterpret_cast<const char*>(key.data()), key.size());
  std::string text(4 * ((blob.size() + 2) / 3) + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(blob.data()), static_cast<int>(blob.size()));
  text.resize(static_cast<std::size_t>(size));
  return "ssh-ed25519 " + text;
}

/// Until "\n"; what came behind it is dropped: nobody asked for it yet.
asio::awaitable<Result<std::string>> read_line(tunnel::ByteStream& stream) {
  std::string line;
  std::array<std::byte, 4096> buffer;
  while (line.find('\n') == std::string::npos) {
    const auto got = co_await stream.read(buffer);
    if (!got) co_return tl::unexpected(got.error());
    if (*got == 0) co_return fail(Error::Kind::unavailable, "the stream ended before its first line");
    line.append(reinterpret_cast<const char*>(buffer.data()), *got);
  }
  co_return line.substr(0, line.find('\n'));
}

}  // namespace

void rethrow(const std::exception_ptr& failure) {
  if (failure) std::rethrow_exception(failure);
}

asio::awaitable<void> rest(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

asio::awaitable<void> all(asio::io_context& io, std::vector<asio::awaitable<void>> stories) {
  struct Left {
    std::size_t count = 0;
    tunnel::Wakeup changed;
  };
  const auto left = std::make_shared<Left>();
  left->count = stories.size();
  const auto ended = [left](const std::exception_ptr& failure) {
    --left->count;
    left->changed.notify();
    rethrow(failure);
  };
  for (auto& story : stories) asio::co_spawn(io, std::move(story), ended);
  while (left->count > 0) co_await left->changed.wait();
}

// Any --------------------------------------------------------------------------------------------------

Player::Player(asio::io_context& io, const Settings& settings, const Member& member)
    : io_(io), settings_(settings), member_(member) {}

asio::awaitable<std::string> Player::come() {
  const auto self = shared_from_this();
  Backoff backoff(patience(settings_.attempts), was_up_ ? Backoff::First::spread : Backoff::First::at_once);
  std::string fault;
  for (;;) {
    const auto turn = backoff.next(Clock::now(), random_share());
    if (!turn) co_return fault;
    if (settings_.attempts > 1) co_await rest(turn->delay);
    backoff.begin(Clock::now());
    ++tries_;
    fault = co_await try_once();
    if (!fault.empty()) continue;
    was_up_ = true;
    co_return fault;
  }
}

void Player::cut() {
  if (descriptor_ >= 0) {
    const linger at_once{1, 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  descriptor_ = -1;
  drop();
}

edge::ClientRequest Player::request_for(const char* subprotocol) const {
  edge::ClientRequest request;
  request.bearer = Secret(member_.token);
  request.subprotocols.emplace_back(subprotocol);
  return request;
}

asio::awaitable<Result<Player::Socket>> Player::connect(const char* path,
                                                        const edge::ClientRequest& request) {
  edge::ClientTarget target;
  target.url = settings_.server + path;
  if (!settings_.ca_file.empty()) target.tls.ca = settings_.ca_file;
  target.proxies = http::Proxies{};
  target.timeout = settings_.timeout;
  target.allow_plain = true;
  edge::ConnectReport report;
  const edge::Options options;
  auto socket = co_await edge::connect_websocket(io_, target, request, options, &report);
  if (!socket) {
    const auto& why = socket.error();
    std::string told = why.cause;
    if (why.status != 0) told += " " + std::to_string(why.status);
    if (!why.error_code.empty()) told += " " + why.error_code;
    co_return fail(Error::Kind::unavailable, std::move(told));
  }
  descriptor_ = report.socket;
  co_return std::move(*socket);
}

// An agent ---------------------------------------------------------------------------------------------

Agent::Agent(asio::io_context& io, const Settings& settings, const Member& member, std::string id)
    : Player(io, settings, member), id_(std::move(id)), boot_id_(new_boot_id()) {}

std::string Agent::announcement() const {
  json services = json::array();
  services.push_back({{"name", "of-" + id_}, {"target", "127.0.0.1:9"}});
  return json{{"type", "announce"}, {"agentId", id_},           {"bootId", boot_id_},
              {"user", "nobody"},   {"hostKey", host_key(id_)}, {"services", std::move(services)}}
      .dump();
}

asio::awaitable<std::string> Agent::try_once() {
  auto request = request_for("tunnel-agent.v1");
  request.control_messages = true;
  auto socket = co_await connect("/agent", request);
  if (!socket) co_return socket.error().message;
  const auto self = std::static_pointer_cast<Agent>(shared_from_this());
  socket_ = std::move(*socket);
  announced_ = false;
  fault_.clear();
  socket_->on_control([this](const std::string& text) { on_message(text); });
  if (!socket_->post_control(announcement())) co_return "the announcement was not taken";
  asio::co_spawn(io_, watch(self, socket_), rethrow);
  asio::steady_timer timer(io_, settings_.timeout);
  timer.async_wait([self](boost::system::error_code error) {
    if (error) return;
    self->fault_ = "no announced";
    self->changed_.notify();
  });
  while (!announced_ && fault_.empty()) co_await changed_.wait();
  timer.cancel();
  co_return fault_;
}

asio::awaitable<void> Agent::watch(std::shared_ptr<Agent> self, Shared socket) {
  std::array<std::byte, 512> bytes;
  const auto got = co_await socket->read(bytes);
  socket->on_control({});
  if (self->socket_ != socket) co_return;
  const auto code = socket->ending().code;
  self->socket_.reset();
  self->announced_ = false;
  if (self->fault_.empty()) self->fault_ = "closed " + std::to_string(code);
  self->changed_.notify();
  if (got && *got > 0) throw std::runtime_error("an agent was sent bytes");
}

void Agent::on_message(const std::string& text) {
  const auto message = json::parse(text);
  const auto type = message.value("type", "");
  if (type == "announced") {
    announced_ = true;
    changed_.notify();
  } else if (type == "error") {
    fault_ = message.at("error").value("code", "error");
    changed_.notify();
  } else if (type == "session.open" && socket_) {
    ++sessions_refused_;
    const json failed{{"type", "session.failed"},
                      {"ticket", message.value("ticket", "")},
                      {"reason", "this agent is played and has no sshd"}};
    socket_->post_control(failed.dump());
  }
}

void Agent::drop() {
  announced_ = false;
  const auto socket = std::exchange(socket_, nullptr);
  if (socket) socket->close();
}

asio::awaitable<void> Agent::leave() {
  announced_ = false;
  const auto socket = std::exchange(socket_, nullptr);
  if (socket) co_await socket->close_with(1000, "");
}

// Who connects -----------------------------------------------------------------------------------------

Caller::~Caller() {
  abandon();
}

asio::awaitable<std::string> Caller::try_once() {
  auto request = request_for("tunnel.v1");
  const bool again = link_ && link_->state() == links::Link::State::detached;
  if (again) request.fields.push_back({"Tunnel-Session", links::to_hex(link_->id())});
  auto socket = co_await connect("/ws", request);
  if (!socket) co_return socket.error().message;
  if (!again) co_return co_await begin(std::move(*socket));
  const auto link = link_;
  const auto done = co_await link->resume(std::move(*socket));
  co_return done ? std::string() : "not resumed: " + done.error().message;
}

asio::awaitable<std::string> Caller::begin(Socket socket) {
  abandon();
  auto link = co_await links::Link::connect(io_.get_executor(), std::move(socket), {});
  if (!link) co_return link.error().message;
  link_ = std::move(*link);
  mux_ = std::make_shared<links::Mux>(io_.get_executor(), *link_, links::Mux::Options{});
  auto control = mux_->open();
  if (!control) co_return control.error().message;
  control_ = std::move(*control);
  asio::co_spawn(io_, run(link_, mux_), rethrow);
  const auto hello = co_await read_line(*control_);
  if (!hello) co_return hello.error().message;
  co_return hello->find("\"hello\"") == std::string::npos ? "no hello" : std::string();
}

asio::awaitable<void> Caller::run(std::shared_ptr<links::Link> link, std::shared_ptr<links::Mux> mux) {
  const auto ended = co_await mux->run();
  (void)ended;  // whoever has streams on it learns it there
  link->close();
}

asio::awaitable<Result<std::unique_ptr<tunnel::ByteStream>>> Caller::open(std::string service) {
  if (!mux_) co_return fail(Error::Kind::unavailable, "no link");
  auto stream = mux_->open();
  if (!stream) co_return tl::unexpected(stream.error());
  const std::string line = json{{"service", service}}.dump() + "\n";
  const auto sent = co_await (*stream)->write(std::as_bytes(std::span(line)));
  if (!sent) co_return tl::unexpected(sent.error());
  const auto answer = co_await read_line(**stream);
  if (!answer) co_return tl::unexpected(answer.error());
  const auto parsed = json::parse(*answer);
  if (parsed.contains("ok")) co_return std::move(*stream);
  co_return fail(Error::Kind::denied, parsed.at("error").value("code", "an error without a code"));
}

void Caller::drop() {
  const auto link = link_;
  if (link) link->detach("cut");
}

void Caller::abandon() {
  control_.reset();
  if (mux_) mux_->close();
  if (link_) link_->close();
  mux_.reset();
  link_.reset();
}

asio::awaitable<void> Caller::leave() {
  abandon();
  co_return;
}

}  // namespace bench::agents
