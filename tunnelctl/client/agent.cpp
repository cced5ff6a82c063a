#include "tunnelctl/client/agent.h"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include <openssl/rand.h>
#include <boost/asio/co_spawn.hpp>
#include <nlohmann/json.hpp>

#include "tunnelctl/client/agent_control.h"
#include "tunnelctl/client/agent_messages.h"
#include "tunnelctl/client/agent_sessions.h"

namespace tunnelctl::client {
namespace {

std::string new_boot_id() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1)
    throw std::runtime_error("no randomness");
  std::string text;
  for (const unsigned char byte : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

}  // namespace

Agent::Agent(asio::io_context& io, AgentSettings settings, AgentWorld world)
    : io_(io), settings_(std::move(settings)), world_(std::move(world)), boot_id_(new_boot_id()) {
  const auto say = [this](const nlohmann::json& message) {
    // One of them may lead nowhere without anybody knowing yet.
    for (const auto& control : controls_) control->say(message);
  };
  sessions_ = std::make_unique<AgentSessions>(io_, settings_, world_, counts_, say);
  for (unsigned slot = 0; slot < std::max(settings_.connections, 1U); ++slot)
    controls_.push_back(std::make_unique<AgentControl>(
        io_, slot, AgentControl::Agent{settings_, world_, counts_, boot_id_},
        AgentControl::Events{
            .announced = [this] { on_announced(); },
            .lost = [this](const Verdict& why) { on_lost(why); },
            .session_open = [this](std::string ticket) { sessions_->open(std::move(ticket), stopping_); },
            .network_changed = [this] { sessions_->look_at_addresses(); },
            .others_stand = [this] { return counts_.connections_now > 0; },
            .ever_announced = [this] { return ever_announced_; },
        }));
}

Agent::~Agent() = default;

asio::awaitable<AgentOutcome> Agent::run() {
  set_state(State::connecting, world_.shown("/agent"));
  // The others follow when tunneld has taken this one: what is wrong is told once.
  if (!stopping_) start(*controls_.front());
  while (holding_ > 0) co_await control_ended_.wait();
  stopping_ = true;  // whatever the reason: no new session from here on
  if (bug_) std::rethrow_exception(bug_);
  if (outcome_.end != AgentOutcome::End::stopped) set_state(State::error, outcome_.error.message);
  co_await sessions_->farewell();
  if (outcome_.end == AgentOutcome::End::stopped) set_state(State::disconnected, "stopped");
  co_return outcome_;
}

void Agent::start(AgentControl& control) {
  ++holding_;
  asio::co_spawn(io_, control.hold(), [this](std::exception_ptr bug, std::optional<AgentOutcome> outcome) {
    --holding_;
    if (bug) bug_ = bug;
    // Of several the first one says why; the others end for it.
    if (outcome && !stopping_) outcome_ = std::move(*outcome);
    stop();
    control_ended_.notify();
  });
}

void Agent::set_state(State state, const std::string& why) {
  if (!world_.on_state) return;
  StateChange change{.at = std::chrono::system_clock::now(), .state = state, .why = agent_word(why)};
  change.streams = sessions_->size();
  world_.on_state(change);
}

tunnel::WebSocketStream::Vitals Agent::vitals() const {
  for (const auto& control : controls_)
    if (control->stands()) return control->vitals();
  return {};
}

void Agent::stop() {
  if (std::exchange(stopping_, true)) return;
  for (const auto& control : controls_) control->stop();
}

void Agent::on_announced() {
  if (counts_.connections_now++ == 0) set_state(State::connected, world_.shown("/agent"));
  if (std::exchange(ever_announced_, true) || stopping_) return;
  for (std::size_t at = 1; at < controls_.size(); ++at) start(*controls_[at]);
}

void Agent::on_lost(const Verdict& why) {
  if (--counts_.connections_now == 0 && !stopping_) set_state(State::reconnecting, why.error.message);
  // Sessions may yet be resumed, and giving up would end them; and a connection that was not needed as long
  // as others stood has not failed in vain.
  if (sessions_->size() == 0 && controls_.size() == 1) return;
  for (const auto& control : controls_)
    control->hold_on_until(std::chrono::steady_clock::now() + links::LinkOptions().window);
}

}  // namespace tunnelctl::client
