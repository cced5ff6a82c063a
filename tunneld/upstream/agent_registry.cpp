#include "tunneld/upstream/agent_registry.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "common/log.h"
#include "common/utf8.h"
#include "tunneld/ssh/identity.h"
#include "tunneld/upstream/agent_announcement.h"
#include "tunneld/upstream/agent_enrolments.h"
#include "tunneld/upstream/agent_owners.h"

namespace tunneld::upstream {
namespace {

using tunnel::Code;
using tunnel::Refusal;
using tunnel::refuse;
using Clock = std::chrono::steady_clock;
using Control = AgentRegistry::Control;

constexpr std::uint16_t kSupersededCloseCode = 4409;
constexpr const char* kSupersededReason = R"({"code":"TUNNEL_004"})";
// Enrolments stay when their agents go: what one principal, and all of them, can make us keep.
constexpr std::size_t kEnrolmentsPerAgentPlace = 10;
constexpr std::size_t kMaxEnrolments = 100'000;
constexpr std::chrono::seconds kTryAgainAfter{60};
// An agent that starts anew more often than that, without ever having gone, may be superseded by its past.
constexpr std::size_t kBootsRemembered = 16;

Refusal no_place(const std::string& agent_id) {
  return {Code::too_many_connections,
          "agent " + agent_id + ": its owner holds as many connections as the tier allows"};
}

}  // namespace

struct AgentRegistry::Impl {
  Impl(Options options_in, AgentEnrolments enrolments_in)
      : options(std::move(options_in)), enrolments(std::move(enrolments_in)) {}

  struct Told;
  class Connection;

  Agent* agent(std::string_view principal_key, std::string_view agent_id) {
    const auto owner = owners.find(principal_key);
    if (owner == owners.end()) return nullptr;
    const auto found = owner->second.agents.find(agent_id);
    return found == owner->second.agents.end() ? nullptr : &found->second;
  }
  /// The agent of that connection, if it has not been superseded.
  Agent* connected(const std::string& principal_key, const std::string& agent_id, std::uint64_t serial) {
    Agent* const found = agent(principal_key, agent_id);
    return found != nullptr && found->has(serial) ? found : nullptr;
  }
  std::optional<Refusal> judge(const Agent& agent, bool enrolled, std::size_t enrolments_of_principal);
  tunnel::Served<void> enrol(const tunnel::Principal& principal, const Agent& agent);
  /// `agent` with the one connection that is new; the serial of that. 0: it has no place, and needs one.
  std::uint64_t connect(Agent agent, Told& told);
  /// Of the same boot.
  void join(Agent& there, Agent&& agent, Told& told);
  /// In place of an earlier boot.
  void supersede(Agent& there, Agent&& agent, Told& told);
  void disconnect(const std::string& principal_key, const std::string& agent_id, std::uint64_t serial);
  void tell(const Told& told) const;

  const Options options;
  const std::shared_ptr<AgentTickets> tickets = std::make_shared<AgentTickets>();
  mutable std::mutex
      enrolling;  // around judging an announcement and enrolling its agent; taken before `mutex`
  AgentEnrolments enrolments;
  mutable std::mutex mutex;  // for everything below
  std::map<std::string, Owner, std::less<>> owners;
  Absences absences{options.remembered};
  std::size_t agents = 0;
  std::uint64_t last_serial = 0;
  bool callbacks = true;  // until the registry is gone
};

/// What is said once the lock is given up.
struct AgentRegistry::Impl::Told {
  std::optional<AgentInfo> gone;
  std::string_view why_gone;
  std::optional<AgentInfo> come;
  std::vector<std::shared_ptr<Control>> superseded;
  std::uint64_t lost = 0;  // the start of an agent that is over
  std::shared_ptr<Control> joined;
  std::vector<std::string> still_wanted;  // tickets that the one who joined may not have heard of
  std::shared_ptr<void> place;            // given back
  bool callbacks = true;
};

namespace {

std::string session_open(const std::string& ticket) {
  return R"({"type":"session.open","ticket":")" + ticket + "\"}";
}

}  // namespace

void AgentRegistry::Impl::tell(const Told& told) const {
  for (const auto& control : told.superseded) control->close(kSupersededCloseCode, kSupersededReason);
  if (told.lost != 0) tickets->lose(told.lost);
  for (const auto& ticket : told.still_wanted) told.joined->send(session_open(ticket));
  if (!told.callbacks) return;
  if (told.gone && options.on_agent) options.on_agent(*told.gone, false, told.why_gone);
  if (!told.superseded.empty() && options.on_superseded) options.on_superseded();
  if (told.come && options.on_agent) options.on_agent(*told.come, true, "");
}

/// Whether there is room for it, and no newer start of it.
std::optional<Refusal> AgentRegistry::Impl::judge(const Agent& agent, bool enrolled,
                                                  std::size_t enrolments_of_principal) {
  const auto& id = agent.info.agent_id;
  const auto full = [](std::string what) {
    return Refusal{Code::rate_limited, std::move(what), kTryAgainAfter};
  };
  const std::lock_guard lock(mutex);
  const auto owner = owners.find(agent.info.principal_key);
  const Agent* const before = this->agent(agent.info.principal_key, id);
  if (before != nullptr) {
    const auto& boots = before->boots_before;
    if (std::find(boots.begin(), boots.end(), agent.info.boot_id) == boots.end()) return std::nullopt;
    return Refusal{Code::unavailable, "agent " + id + " has been started anew and is connected"};
  }
  if (!agent.place) return no_place(id);
  if (agents >= options.max_agents) return full("agent " + id + ": too many agents are connected");
  if (owner != owners.end() && owner->second.agents.size() >= options.max_agents_per_principal)
    return full("agent " + id + ": its principal has too many agents");
  if (enrolled) return std::nullopt;
  if (enrolments_of_principal >= options.max_agents_per_principal * kEnrolmentsPerAgentPlace)
    return full("agent " + id +
                ": its principal has enrolled too many agents; forget old ones: "
                "tunnelctl agents forget ID");
  return std::nullopt;
}

/// Binds the agent to its host key, or compares it with the one it is bound to. `enrolling` is held.
tunnel::Served<void> AgentRegistry::Impl::enrol(const tunnel::Principal& principal, const Agent& agent) {
  const auto& info = agent.info;
  const std::string* const known = enrolments.fingerprint(principal, info.agent_id);
  if (known != nullptr && *known != info.host_key_fingerprint)
    return refuse(
        Code::host_key_mismatch,
        "agent " + info.agent_id + " showed host key " + info.host_key_fingerprint +
            ", but it is enrolled with " + *known +
            "; was it set up anew? Its owner makes tunneld forget the old key: tunnelctl agents forget " +
            info.agent_id);
  if (auto refused = judge(agent, known != nullptr, enrolments.count(principal)))
    return tl::unexpected<Refusal>(std::move(*refused));
  if (known != nullptr) return {};
  if (enrolments.count() >= kMaxEnrolments)
    return refuse(Code::rate_limited,
                  "tunneld has room for no further agent: its list of enrolments is full");
  if (auto added = enrolments.add(principal, info.agent_id, info.host_key_fingerprint, info.since); !added) {
    logging::error("agents", "an agent cannot be enrolled",
                   {{"agent", info.agent_id}, {"why", added.error().message}});
    return refuse(Code::unavailable,
                  "agent " + info.agent_id + " cannot be enrolled now: tunneld could not write it down");
  }
  return {};
}

void AgentRegistry::Impl::join(Agent& there, Agent&& agent, Told& told) {
  auto& lines = there.lines;
  const auto slot = agent.lines.front().slot;
  const auto before =
      std::find_if(lines.begin(), lines.end(), [slot](const Line& l) { return l.slot == slot; });
  if (before != lines.end()) {
    told.superseded.push_back(std::move(before->control));
    lines.erase(before);
  }
  // Who waits has asked connections that may lead nowhere; the agent serves a ticket once.
  told.joined = agent.lines.front().control;
  told.still_wanted = tickets->of(there.start);
  told.place = std::move(agent.place);
  lines.push_back(std::move(agent.lines.front()));
  there.services = std::move(agent.services);
  there.info.services = std::move(agent.info.services);
  there.info.user = std::move(agent.info.user);
  there.max_services = agent.max_services;
}

void AgentRegistry::Impl::supersede(Agent& there, Agent&& agent, Told& told) {
  told.gone = there.look();
  told.why_gone = "superseded";
  for (auto& line : there.lines) told.superseded.push_back(std::move(line.control));
  told.lost = there.start;
  agent.rank = there.rank;
  if (!agent.place) agent.place = std::move(there.place);
  agent.sessions = std::move(there.sessions);
  agent.boots_before = std::move(there.boots_before);
  agent.boots_before.push_back(there.info.boot_id);
  if (agent.boots_before.size() > kBootsRemembered) agent.boots_before.erase(agent.boots_before.begin());
  told.place = std::move(there.place);
  told.come = agent.look();
  there = std::move(agent);
}

std::uint64_t AgentRegistry::Impl::connect(Agent agent, Told& told) {
  const std::lock_guard lock(mutex);
  const auto serial = ++last_serial;
  agent.start = agent.rank = agent.lines.front().serial = serial;
  told.callbacks = callbacks;
  const std::string id = agent.info.agent_id;
  const std::string key = agent.info.principal_key;
  if (Agent* const there = this->agent(key, id); there == nullptr) {
    if (!agent.place) return 0;
    ++agents;
    told.come = agent.look();
    owners[key].agents.emplace(id, std::move(agent));
  } else if (there->info.boot_id == agent.info.boot_id) {
    join(*there, std::move(agent), told);
  } else {
    supersede(*there, std::move(agent), told);
  }
  owners.find(key)->second.index();
  return serial;
}

void AgentRegistry::Impl::disconnect(const std::string& principal_key, const std::string& agent_id,
                                     std::uint64_t serial) {
  Told told;
  {
    const std::lock_guard lock(mutex);
    Agent* const leaving = connected(principal_key, agent_id, serial);
    if (leaving == nullptr) return;  // told when it was superseded
    if (leaving->lines.size() > 1) {
      std::erase_if(leaving->lines, [serial](const Line& line) { return line.serial == serial; });
      return;
    }
    told.gone = leaving->look();
    told.why_gone = "disconnected";
    told.lost = leaving->start;
    told.place = std::move(leaving->place);
    told.callbacks = callbacks;
    absences.note(principal_key, *leaving, Clock::now());
    const auto owner = owners.find(principal_key);
    owner->second.agents.erase(agent_id);
    --agents;
    if (owner->second.agents.empty())
      owners.erase(owner);
    else
      owner->second.index();
  }
  tell(told);
}

/// One of an agent's control connections, as its door holds it.
class AgentRegistry::Impl::Connection final : public Registration {
 public:
  Connection(std::shared_ptr<Impl> impl, const AgentInfo& info, std::uint64_t serial)
      : impl_(std::move(impl)),
        principal_key_(info.principal_key),
        agent_id_(info.agent_id),
        boot_id_(info.boot_id),
        fingerprint_(info.host_key_fingerprint),
        serial_(serial) {}
  ~Connection() override { impl_->disconnect(principal_key_, agent_id_, serial_); }

  tunnel::Served<void> update(Announcement announcement) override;
  std::vector<std::string> warnings() const override;

 private:
  const std::shared_ptr<Impl> impl_;
  const std::string principal_key_, agent_id_, boot_id_, fingerprint_;
  const std::uint64_t serial_;
};

namespace {

/// The fingerprint of its host key, if everything it says is acceptable.
tunnel::Served<std::string> examine(const Announcement& announcement, std::size_t max_services) {
  if (const auto fault = fault_of(announcement); !fault.empty())
    return refuse(Code::bad_request, "announce: " + fault);
  if (announcement.services.size() > max_services)
    return refuse(Code::bad_request, "announce: services must be at most " + std::to_string(max_services) +
                                         " for this token's tier; announce fewer, or ask for a larger tier");
  const auto blob = ssh::public_key_blob(announcement.host_key);
  if (!blob) return refuse(Code::bad_request, "announce: hostKey " + blob.error().message);
  return ssh::fingerprint_of(*blob);
}

}  // namespace

tunnel::Served<void> AgentRegistry::Impl::Connection::update(Announcement announcement) {
  std::size_t max_services = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    const Agent* const agent = impl_->connected(principal_key_, agent_id_, serial_);
    if (agent == nullptr) return refuse(Code::unavailable, "agent " + agent_id_ + " was superseded");
    max_services = agent->max_services;
  }
  const auto fingerprint = examine(announcement, max_services);
  if (!fingerprint) return tl::unexpected<Refusal>(fingerprint.error());
  if (announcement.agent_id != agent_id_ || announcement.boot_id != boot_id_)
    return refuse(Code::bad_request, "announce: agentId and bootId must stay as they are");
  if (*fingerprint != fingerprint_)
    return refuse(Code::host_key_mismatch, "agent " + agent_id_ + " announced another host key");
  const std::lock_guard lock(impl_->mutex);
  Agent* const agent = impl_->connected(principal_key_, agent_id_, serial_);
  if (agent == nullptr) return refuse(Code::unavailable, "agent " + agent_id_ + " was superseded");
  agent->take(announcement);
  impl_->owners.find(principal_key_)->second.index();
  return {};
}

std::vector<std::string> AgentRegistry::Impl::Connection::warnings() const {
  std::vector<std::string> warnings;
  const std::lock_guard lock(impl_->mutex);
  const Agent* const agent = impl_->connected(principal_key_, agent_id_, serial_);
  if (agent == nullptr) return warnings;
  const auto& served = impl_->owners.find(principal_key_)->second.services;
  for (const auto& service : agent->services) {
    const auto& upstream = served.find(service->name)->second->upstream;
    if (upstream == service->upstream) continue;
    warnings.push_back("service " + service->name + " is announced by " + upstream +
                       " too, which was there first and serves it");
  }
  return warnings;
}

AgentRegistry::AgentRegistry(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

AgentRegistry::~AgentRegistry() {
  const std::lock_guard lock(impl_->mutex);
  impl_->callbacks = false;
}

Result<std::unique_ptr<AgentRegistry>> AgentRegistry::make(Options options) {
  auto enrolments = AgentEnrolments::read(options.enrolments);
  if (!enrolments) return tl::unexpected(enrolments.error());
  return std::unique_ptr<AgentRegistry>(
      new AgentRegistry(std::make_shared<Impl>(std::move(options), std::move(*enrolments))));
}

tunnel::Served<std::unique_ptr<AgentRegistry::Registration>> AgentRegistry::announce(
    const tunnel::Principal& principal, std::string peer, Announcement announcement,
    std::shared_ptr<Control> control, Terms terms) {
  auto fingerprint = examine(announcement, terms.max_services);
  if (!fingerprint) return tl::unexpected<Refusal>(std::move(fingerprint.error()));
  const auto key = principal.key();
  if (!utf8::valid(key)) return refuse(Code::bad_request, "announce: the token's subject is not UTF-8");

  Agent agent;
  agent.info.agent_id = announcement.agent_id;
  agent.info.boot_id = announcement.boot_id;
  agent.info.principal_hash = tunnel::principal_hash(key);
  agent.info.principal_key = key;
  agent.info.host_key_fingerprint = std::move(*fingerprint);
  agent.info.since = std::chrono::system_clock::now();
  agent.max_services = terms.max_services;
  agent.place = std::move(terms.place);
  agent.lines.push_back({announcement.slot, 0, std::move(peer), std::move(control)});
  agent.take(announcement);

  Impl::Told told;
  std::unique_ptr<Registration> registration;
  {
    const std::lock_guard lock(impl_->enrolling);
    if (auto enrolled = impl_->enrol(principal, agent); !enrolled)
      return tl::unexpected<Refusal>(std::move(enrolled.error()));
    const AgentInfo info = agent.info;
    const auto serial = impl_->connect(std::move(agent), told);
    if (serial == 0) return tl::unexpected<Refusal>(no_place(info.agent_id));
    registration = std::make_unique<Impl::Connection>(impl_, info, serial);
  }
  impl_->tell(told);
  return registration;
}

std::shared_ptr<const tunnel::Service> AgentRegistry::find(const tunnel::Principal& principal,
                                                           std::string_view name) const {
  const auto key = principal.key();
  const std::lock_guard lock(impl_->mutex);
  if (const auto owner = impl_->owners.find(key); owner != impl_->owners.end()) {
    const auto found = owner->second.services.find(name);
    if (found != owner->second.services.end()) return found->second;
  }
  return impl_->absences.find(key, name, Clock::now());
}

std::vector<AgentInfo> AgentRegistry::agents(std::string_view principal_key) const {
  std::vector<AgentInfo> all;
  const std::lock_guard lock(impl_->mutex);
  const auto& owners = impl_->owners;
  const bool everybody = principal_key.empty();
  for (auto at = everybody ? owners.begin() : owners.find(principal_key); at != owners.end(); ++at) {
    for (const auto& [id, agent] : at->second.agents) all.push_back(agent.look());
    if (!everybody) break;
  }
  return all;
}

bool AgentRegistry::has_agents(std::string_view principal_key) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->owners.find(principal_key) != impl_->owners.end();
}

std::size_t AgentRegistry::count() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->agents;
}

// ---- enrolments ----

Refusal AgentRegistry::not_enrolled(const std::string& agent_id) {
  const auto name = valid_agent_id(agent_id) ? agent_id : "of that name";
  return {Code::bad_request, "no agent " + name + " is enrolled", std::nullopt, 404};
}

tunnel::Served<void> AgentRegistry::forget(const tunnel::Principal& principal, const std::string& agent_id,
                                           std::string_view by) {
  const auto key = principal.key();
  std::string fingerprint;
  {
    const std::lock_guard enrolling(impl_->enrolling);
    const std::string* const known = impl_->enrolments.fingerprint(principal, agent_id);
    if (known == nullptr) return tl::unexpected(not_enrolled(agent_id));
    fingerprint = *known;
    {
      const std::lock_guard lock(impl_->mutex);
      if (impl_->agent(key, agent_id) != nullptr)
        return tl::unexpected(
            Refusal{Code::bad_request,
                    "agent " + agent_id +
                        " is connected with the key that is to be forgotten; stop it first (one "
                        "that is cut off counts as connected for up to a minute)",
                    std::nullopt, 409});
    }
    if (auto removed = impl_->enrolments.remove(principal, agent_id); !removed) {
      logging::error("agents", "an enrolment cannot be forgotten",
                     {{"agent", agent_id}, {"why", removed.error().message}});
      return refuse(Code::unavailable, "agent " + agent_id + ": tunneld could not write that down");
    }
  }
  if (impl_->options.on_forgotten)
    impl_->options.on_forgotten(agent_id, tunnel::principal_hash(key), fingerprint, by);
  return {};
}

std::optional<tunnel::Principal> AgentRegistry::enrolled_by(std::string_view principal_hash,
                                                            const std::string& agent_id) const {
  const std::lock_guard enrolling(impl_->enrolling);
  return impl_->enrolments.owner(principal_hash, agent_id);
}

// ---- SSH transports ----

asio::awaitable<tunnel::Served<AgentRegistry::Far>> AgentRegistry::open_session(asio::io_context& home,
                                                                                std::string principal_key,
                                                                                std::string agent_id,
                                                                                Clock::time_point deadline) {
  if (Clock::now() >= deadline) co_return refuse(Code::timed_out, "agent " + agent_id + ": no time left");
  const auto expires = std::min(deadline, Clock::now() + impl_->options.ticket_lifetime);
  Far far;
  std::vector<std::shared_ptr<Control>> controls;
  std::optional<AgentTickets::Ticket> ticket;
  {
    // Together, so that an agent which goes now takes the ticket along.
    const std::lock_guard lock(impl_->mutex);
    const Agent* const agent = impl_->agent(principal_key, agent_id);
    if (agent == nullptr) co_return tl::unexpected<Refusal>(agent_not_connected(agent_id));
    for (const auto& line : agent->lines) controls.push_back(line.control);
    far.user = agent->info.user;
    far.host_key_fingerprint = agent->info.host_key_fingerprint;
    ticket.emplace(impl_->tickets, home,
                   AgentTickets::Agent{principal_key, agent_id, agent->start, agent->sessions}, expires);
  }
  if (ticket->text().empty()) co_return refuse(Code::unavailable, "no random bytes are to be had");
  for (const auto& control : controls) control->send(session_open(ticket->text()));
  controls.clear();
  auto stream = co_await ticket->wait();
  if (!stream) co_return tl::unexpected<Refusal>(std::move(stream.error()));
  far.stream = std::move(*stream);
  co_return far;
}

std::optional<AgentRegistry::Claim> AgentRegistry::redeem(std::string_view principal_key,
                                                          std::string_view ticket) {
  return impl_->tickets->redeem(principal_key, ticket);
}

void AgentRegistry::session_failed(std::string_view principal_key, std::string_view ticket,
                                   std::string_view reason) {
  impl_->tickets->fail(principal_key, ticket, reason);
}

}  // namespace tunneld::upstream
