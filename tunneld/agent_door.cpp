#include "tunneld/agent_door.h"

#include <array>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "common/strict_json.h"
#include "tunnel/control_messages.h"
#include "tunneld/tunnel_session.h"

namespace tunneld {

namespace asio = tunnel::asio;
using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;
using tunnel::Code;
using tunnel::Refusal;
using Json = nlohmann::ordered_json;

namespace {

constexpr std::size_t kMaxJsonDepth = 8;
/// An agent that takes nothing of what it is sent is none.
constexpr std::size_t kMaxWaiting = 1024;
constexpr auto kRetry = 10ms;
constexpr auto kAnnounceWithin = 10s;
constexpr std::uint16_t kSuperseded = 4409;

/// The close code for an announcement that is refused; 0: the connection goes on.
std::uint16_t close_code_for(Code code) {
  if (code == Code::bad_request) return 1008;
  if (code == Code::host_key_mismatch) return 4403;
  return tunnel::facts(code).close_code;
}

}  // namespace

/// The connection as the registry knows it: from any thread, and when it may be gone.
class AgentConnection::Control final : public upstream::AgentRegistry::Control {
 public:
  Control(asio::io_context& io, std::weak_ptr<AgentConnection> connection)
      : io_(io), connection_(std::move(connection)) {}
  void send(std::string json_text) override {
    asio::post(io_, [weak = connection_, text = std::move(json_text)] {
      if (const auto self = weak.lock()) self->post_control(text);
    });
  }
  void close(std::uint16_t code, std::string reason) override {
    asio::post(io_, [weak = connection_, code, reason = std::move(reason)] {
      const auto self = weak.lock();
      if (!self) return;
      if (code == kSuperseded) self->parts_.superseded(self->agent_id_, self->token()->principal_hash);
      self->end(code == kSuperseded ? "superseded" : "closed by the registry", {code, reason});
    });
  }

 private:
  asio::io_context& io_;
  std::weak_ptr<AgentConnection> connection_;
};

AgentConnection::AgentConnection(Parts parts, tunnel::WebSocketStream& socket, LiveStreams::Token token,
                                 std::string peer, std::string correlation_id,
                                 upstream::AgentRegistry::Terms terms)
    : LiveStreams::Life(parts.streams, parts.watch, std::move(token), this),
      parts_(std::move(parts)),
      socket_(socket),
      peer_(std::move(peer)),
      correlation_id_(std::move(correlation_id)),
      terms_(std::move(terms)),
      retry_timer_(parts_.io),
      announce_timer_(parts_.io),
      until_timer_(parts_.io),
      quiet_timer_(parts_.io),
      stop_(parts_.io, Clock::time_point::max()) {}

AgentConnection::~AgentConnection() {
  socket_.on_control({});
}

asio::awaitable<std::string> AgentConnection::run() {
  socket_.on_control([this](const std::string& text) { on_message(text); });
  announce_timer_.expires_after(kAnnounceWithin);
  announce_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (!error && self && !self->registration_)
      self->end("it did not announce itself", {1008, close_reason(Code::bad_request)});
  });
  set_until(expiry_of(token()->principal));
  begin();
  co_await (read_to_end() || stopped());
  // Nobody asks it for anything from here on.
  registration_.reset();
  socket_.on_control({});
  for (auto* timer : {&retry_timer_, &announce_timer_, &until_timer_, &quiet_timer_}) timer->cancel();
  if (!end_) {
    end_ = End{"the agent left", {}};
    co_return end_->why;
  }
  co_await socket_.close_with(end_->farewell.code, end_->farewell.reason);
  co_return end_->why;
}

asio::awaitable<void> AgentConnection::read_to_end() {
  std::array<std::byte, 512> bytes;
  const auto got = co_await socket_.read(bytes);
  if (!got || *got == 0) co_return;
  end("it sent bytes where messages were due", {1003, close_reason(Code::bad_request)});
}

asio::awaitable<void> AgentConnection::stopped() {
  if (!end_) co_await stop_.async_wait(asio::as_tuple(asio::use_awaitable));
}

void AgentConnection::end(std::string why, Farewell farewell) {
  if (end_) return;
  end_ = End{std::move(why), std::move(farewell)};
  stop_.cancel();
}

void AgentConnection::stop(How how, std::string why) {
  end(std::move(why), farewell_after(how));
}

void AgentConnection::stop_when_quiet(std::chrono::milliseconds quiet, How how, std::string why) {
  // The agent goes on to another instance; what it serves here travels by itself.
  quiet_timer_.expires_after(quiet);
  quiet_timer_.async_wait([weak = weak_from_this(), how, why](boost::system::error_code error) {
    const auto self = weak.lock();
    if (!error && self) self->stop(how, why);
  });
}

void AgentConnection::set_until(Clock::time_point until) {
  until_timer_.expires_at(until);
  until_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self) return;
    if (Clock::now() >= self->until_timer_.expiry()) self->stop(How::expired, "the token expired");
  });
}

// What it is told -----------------------------------------------------------------------------------

bool AgentConnection::post_control(std::string_view message) {
  if (end_) return false;
  if (waiting_.size() >= kMaxWaiting) {
    end("it takes no messages", {1013, close_reason(Code::queue_full, true)});
    return false;
  }
  waiting_.emplace_back(message);
  flush();
  return true;
}

/// The WebSocket takes a few at a time and does not say when it takes more.
void AgentConnection::flush() {
  while (!waiting_.empty() && socket_.post_control(waiting_.front())) waiting_.pop_front();
  if (waiting_.empty() || end_) return;
  retry_timer_.expires_after(kRetry);
  retry_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (!error && self && !self->end_) self->flush();
  });
}

void AgentConnection::refuse(const Refusal& why) {
  parts_.observer.error_answered(why.code);
  post_control(error_control_message(why, correlation_id_));
}

// What it says --------------------------------------------------------------------------------------

void AgentConnection::on_message(const std::string& text) {
  if (end_) return;
  const auto json = parse_strict_json(text, tunnel::kMaxControlMessageBytes, kMaxJsonDepth);
  if (!json || !json->is_object() || !json->contains("type") || !json->at("type").is_string()) {
    refuse({Code::bad_request, "a control message is one JSON object with a \"type\""});
    return end("it sent nonsense", {1008, close_reason(Code::bad_request)});
  }
  const auto type = json->at("type").get<std::string>();
  if (type == "announce") return announce(text);
  if (type == "session.failed") return session_failed(*json);
  renew(text);  // or tells that it is of no type we know
}

void AgentConnection::announce(const std::string& text) {
  const auto refuse_it = [this](const Refusal& why) {
    refuse(why);
    end("its announcement was refused: " + why.message, {close_code_for(why.code), close_reason(why.code)});
  };
  auto announcement = upstream::parse_announcement(text);
  if (!announcement) return refuse_it(announcement.error());
  Json services = Json::array();
  for (const auto& service : announcement->services) services.push_back({{"name", service.name}});
  agent_id_ = announcement->agent_id;
  if (registration_) {
    if (auto updated = registration_->update(std::move(*announcement)); !updated)
      return refuse_it(updated.error());
  } else {
    auto registered =
        parts_.agents.announce(token()->principal, peer_, std::move(*announcement),
                               std::make_shared<Control>(parts_.io, weak_from_this()), std::move(terms_));
    if (!registered) return refuse_it(registered.error());
    registration_ = std::move(*registered);
  }
  const Json announced{{"type", "announced"},
                       {"agentId", agent_id_},
                       {"services", std::move(services)},
                       {"warnings", registration_->warnings()}};
  post_control(announced.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void AgentConnection::session_failed(const nlohmann::json& message) {
  const auto text_of = [&message](const char* name) {
    const auto found = message.find(name);
    return found != message.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  parts_.agents.session_failed(token()->principal_key, text_of("ticket"), text_of("reason"));
}

void AgentConnection::renew(const std::string& text) {
  auto renewed = renewed_token(parts_.admission, token()->principal, text, peer_);
  if (!renewed) return refuse(renewed.error());
  refresh(std::move(*renewed));
  post_control(tunnel::auth_ok_message(token()->principal.expires_at));
}

}  // namespace tunneld
