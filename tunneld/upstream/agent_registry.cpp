#include "tunneld/upstream/agent_registry.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include <openssl/rand.h>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/log.h"
#include "common/utf8.h"
#include "tunnel/wakeup.h"
#include "tunneld/ssh/identity.h"
#include "tunneld/upstream/agent_announcement.h"
#include "tunneld/upstream/agent_enrolments.h"

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
constexpr std::size_t kMaxReasonBytes = 200;

Refusal not_connected(const std::string& agent_id) {
  return {Code::no_agent, "agent " + agent_id + " is not connected"};
}

std::string random_ticket() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) return {};
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) text.append({kHex[byte >> 4], kHex[byte & 15]});
  return text;
}

using SessionCount = std::shared_ptr<std::atomic<std::size_t>>;

/// A transport that counts among its agent's sessions while it is there.
class CountedStream final : public tunnel::ByteStream {
 public:
  CountedStream(std::unique_ptr<tunnel::ByteStream> stream, SessionCount count)
      : stream_(std::move(stream)), count_(std::move(count)) {
    count_->fetch_add(1, std::memory_order_relaxed);
  }
  ~CountedStream() override { count_->fetch_sub(1, std::memory_order_relaxed); }

  asio::awaitable<Result<std::size_t>> read(std::span<std::byte> into) override {
    return stream_->read(into);
  }
  bool readable() const noexcept override { return stream_->readable(); }
  asio::awaitable<Result<void>> write(std::span<const std::byte> bytes) override {
    return stream_->write(bytes);
  }
  asio::awaitable<Result<void>> write_both(std::span<const std::byte> head,
                                           std::span<const std::byte> body) override {
    return stream_->write_both(head, body);
  }
  asio::awaitable<Result<void>> shutdown_write() override { return stream_->shutdown_write(); }
  void close() noexcept override { stream_->close(); }

 private:
  const std::unique_ptr<tunnel::ByteStream> stream_;
  const SessionCount count_;
};

/// One who waits for a transport. Touched on its home's thread only; others hold it weakly.
struct Wait {
  tunnel::Wakeup wakeup;
  std::unique_ptr<tunnel::ByteStream> stream;
  std::optional<Refusal> refusal;
  bool abandoned = false;

  bool done() const { return stream || refusal; }
  void finish(std::unique_ptr<tunnel::ByteStream> got, std::optional<Refusal> why) {
    if (done() || abandoned) return;
    stream = std::move(got);
    refusal = std::move(why);
    wakeup.notify();
  }
};

void refuse_later(asio::io_context& home, std::weak_ptr<Wait> wait, Refusal why) {
  asio::post(home, [wait = std::move(wait), why = std::move(why)]() mutable {
    if (const auto late = wait.lock()) late->finish(nullptr, std::move(why));
  });
}

/// The way of a transport to who waits for it, as Claim::deliver.
class Delivery {
 public:
  Delivery(asio::io_context& home, std::weak_ptr<Wait> wait, SessionCount count, Refusal otherwise)
      : home_(home), wait_(std::move(wait)), count_(std::move(count)), otherwise_(std::move(otherwise)) {}
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;
  ~Delivery() {
    if (!delivered_) refuse_later(home_, std::move(wait_), std::move(otherwise_));
  }

  void deliver(std::unique_ptr<tunnel::ByteStream> stream) {
    if (std::exchange(delivered_, true)) return;
    if (const auto wait = wait_.lock())
      wait->finish(std::make_unique<CountedStream>(std::move(stream), count_), std::nullopt);
  }

 private:
  asio::io_context& home_;
  std::weak_ptr<Wait> wait_;
  SessionCount count_;
  Refusal otherwise_;
  bool delivered_ = false;
};

/// A connected agent.
struct Agent {
  AgentInfo info;  // without sessions
  std::vector<std::shared_ptr<const tunnel::Service>> services;
  std::shared_ptr<Control> control;
  std::uint64_t serial = 0;  // of the connection
  std::uint64_t rank = 0;    // of the agent among its principal's: the serial of its first connection
  std::size_t max_services = 0;
  SessionCount sessions = std::make_shared<std::atomic<std::size_t>>(0);
  std::vector<std::string> boots_before;

  void take(const Announcement& announcement) {
    info.user = announcement.user;
    info.services.clear();
    services.clear();
    for (const auto& each : announcement.services) {
      info.services.push_back(each.name);
      // Only its principal finds it, so whoever finds it may use it.
      services.push_back(std::make_shared<const tunnel::Service>(
          tunnel::Service{each.name, "agent:" + info.agent_id, each.host, each.port, {"*"}}));
    }
  }
  AgentInfo look() const {
    AgentInfo now = info;
    now.sessions = sessions->load(std::memory_order_relaxed);
    return now;
  }
};

/// A principal with agents.
struct Owner {
  std::map<std::string, Agent, std::less<>> agents;
  /// Of two agents with a service of the same name the one that was there first serves it.
  std::map<std::string, std::shared_ptr<const tunnel::Service>, std::less<>> services;

  void index() {
    std::vector<const Agent*> oldest_first;
    for (const auto& [id, agent] : agents) oldest_first.push_back(&agent);
    std::sort(oldest_first.begin(), oldest_first.end(),
              [](const Agent* a, const Agent* b) { return a->rank < b->rank; });
    services.clear();
    for (const Agent* agent : oldest_first)
      for (const auto& service : agent->services) services.emplace(service->name, service);
  }
};

/// A transport that was asked for and has not come yet.
struct Opening {
  std::string principal_key;
  std::string agent_id;
  std::uint64_t serial = 0;  // of the connection that was asked
  SessionCount sessions;
  asio::io_context* home = nullptr;
  std::weak_ptr<Wait> wait;
  Clock::time_point expires;
};

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
    return found != nullptr && found->serial == serial ? found : nullptr;
  }
  std::optional<Refusal> judge(const Agent& agent, bool enrolled, std::size_t enrolments_of_principal);
  tunnel::Served<void> enrol(const tunnel::Principal& principal, const Agent& agent);
  /// The serial of its connection.
  std::uint64_t connect(Agent agent, Told& told);
  void disconnect(const std::string& principal_key, const std::string& agent_id, std::uint64_t serial);
  std::vector<Opening> take_openings(std::uint64_t serial);
  std::optional<Opening> take_opening(std::string_view principal_key, std::string_view ticket);
  void tell(const Told& told) const;

  const Options options;
  std::mutex enrolling;  // around judging an announcement and enrolling its agent; taken before `mutex`
  AgentEnrolments enrolments;
  mutable std::mutex mutex;  // for everything below
  std::map<std::string, Owner, std::less<>> owners;
  std::map<std::string, Opening, std::less<>> openings;  // by ticket
  std::size_t agents = 0;
  std::uint64_t last_serial = 0;
  bool callbacks = true;  // until the registry is gone
};

/// What is said once the lock is given up.
struct AgentRegistry::Impl::Told {
  std::optional<AgentInfo> gone;
  std::string_view why_gone;
  std::optional<AgentInfo> come;
  std::shared_ptr<Control> superseded;
  std::vector<Opening> lost;
  bool callbacks = true;
};

void AgentRegistry::Impl::tell(const Told& told) const {
  if (told.superseded) told.superseded->close(kSupersededCloseCode, kSupersededReason);
  for (const auto& opening : told.lost)
    refuse_later(*opening.home, opening.wait, not_connected(opening.agent_id));
  if (!told.callbacks) return;
  if (told.gone && options.on_agent) options.on_agent(*told.gone, false, told.why_gone);
  if (told.superseded && options.on_superseded) options.on_superseded();
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
  if (agents >= options.max_agents) return full("agent " + id + ": too many agents are connected");
  if (owner != owners.end() && owner->second.agents.size() >= options.max_agents_per_principal)
    return full("agent " + id + ": its principal has too many agents");
  if (enrolled) return std::nullopt;
  if (enrolments_of_principal >= options.max_agents_per_principal * kEnrolmentsPerAgentPlace)
    return full("agent " + id + ": its principal has enrolled too many agents; take old ones out of " +
                options.enrolments.string());
  return std::nullopt;
}

/// Binds the agent to its host key, or compares it with the one it is bound to. `enrolling` is held.
tunnel::Served<void> AgentRegistry::Impl::enrol(const tunnel::Principal& principal, const Agent& agent) {
  const auto& info = agent.info;
  const std::string* const known = enrolments.fingerprint(principal, info.agent_id);
  if (known != nullptr && *known != info.host_key_fingerprint)
    return refuse(Code::host_key_mismatch,
                  "agent " + info.agent_id + " showed host key " + info.host_key_fingerprint +
                      ", but it is enrolled with " + *known +
                      "; was it set up anew? Give it its old keys back or another id");
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

/// In place of an earlier connection of the same agent, if there is one.
std::uint64_t AgentRegistry::Impl::connect(Agent agent, Told& told) {
  const std::lock_guard lock(mutex);
  agent.serial = agent.rank = ++last_serial;
  auto& owner = owners[agent.info.principal_key];
  if (const auto before = owner.agents.find(agent.info.agent_id); before != owner.agents.end()) {
    Agent& old = before->second;
    told.gone = old.look();
    told.why_gone = "superseded";
    told.superseded = std::move(old.control);
    told.lost = take_openings(old.serial);
    agent.rank = old.rank;
    agent.sessions = std::move(old.sessions);
    agent.boots_before = std::move(old.boots_before);
    if (old.info.boot_id != agent.info.boot_id) agent.boots_before.push_back(old.info.boot_id);
    if (agent.boots_before.size() > kBootsRemembered) agent.boots_before.erase(agent.boots_before.begin());
    owner.agents.erase(before);
  } else {
    ++agents;
  }
  told.come = agent.look();
  told.callbacks = callbacks;
  const std::string id = agent.info.agent_id;
  owner.agents.emplace(id, std::move(agent));
  owner.index();
  return last_serial;
}

void AgentRegistry::Impl::disconnect(const std::string& principal_key, const std::string& agent_id,
                                     std::uint64_t serial) {
  Told told;
  {
    const std::lock_guard lock(mutex);
    const Agent* const leaving = connected(principal_key, agent_id, serial);
    if (leaving == nullptr) return;  // told when it was superseded
    told.gone = leaving->look();
    told.why_gone = "disconnected";
    told.lost = take_openings(serial);
    told.callbacks = callbacks;
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

std::vector<Opening> AgentRegistry::Impl::take_openings(std::uint64_t serial) {
  std::vector<Opening> taken;
  for (auto at = openings.begin(); at != openings.end();) {
    if (at->second.serial != serial) {
      ++at;
      continue;
    }
    taken.push_back(std::move(at->second));
    at = openings.erase(at);
  }
  return taken;
}

/// The principal's own opening of that ticket, which holds no more.
std::optional<Opening> AgentRegistry::Impl::take_opening(std::string_view principal_key,
                                                         std::string_view ticket) {
  const std::lock_guard lock(mutex);
  const auto found = openings.find(ticket);
  if (found == openings.end() || found->second.principal_key != principal_key) return std::nullopt;
  Opening opening = std::move(found->second);
  openings.erase(found);
  if (Clock::now() >= opening.expires) return std::nullopt;  // who waits has a timer
  return opening;
}

/// An agent's place in the registry.
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
    return refuse(Code::bad_request,
                  "announce: services must be at most " + std::to_string(max_services) + " for this token");
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
    std::shared_ptr<Control> control, std::size_t max_services) {
  auto fingerprint = examine(announcement, max_services);
  if (!fingerprint) return tl::unexpected<Refusal>(std::move(fingerprint.error()));
  const auto key = principal.key();
  if (!utf8::valid(key)) return refuse(Code::bad_request, "announce: the token's subject is not UTF-8");

  Agent agent;
  agent.info.agent_id = announcement.agent_id;
  agent.info.boot_id = announcement.boot_id;
  agent.info.principal_hash = tunnel::principal_hash(key);
  agent.info.principal_key = key;
  agent.info.peer = std::move(peer);
  agent.info.host_key_fingerprint = std::move(*fingerprint);
  agent.info.since = std::chrono::system_clock::now();
  agent.max_services = max_services;
  agent.control = std::move(control);
  agent.take(announcement);

  Impl::Told told;
  std::unique_ptr<Registration> registration;
  {
    const std::lock_guard lock(impl_->enrolling);
    if (auto enrolled = impl_->enrol(principal, agent); !enrolled)
      return tl::unexpected<Refusal>(std::move(enrolled.error()));
    const AgentInfo info = agent.info;
    const auto serial = impl_->connect(std::move(agent), told);
    registration = std::make_unique<Impl::Connection>(impl_, info, serial);
  }
  impl_->tell(told);
  return registration;
}

std::shared_ptr<const tunnel::Service> AgentRegistry::find(const tunnel::Principal& principal,
                                                           std::string_view name) const {
  const auto key = principal.key();
  const std::lock_guard lock(impl_->mutex);
  const auto owner = impl_->owners.find(key);
  if (owner == impl_->owners.end()) return nullptr;
  const auto found = owner->second.services.find(name);
  return found == owner->second.services.end() ? nullptr : found->second;
}

std::vector<AgentInfo> AgentRegistry::agents(std::string_view principal_key) const {
  std::vector<AgentInfo> all;
  const std::lock_guard lock(impl_->mutex);
  for (const auto& [key, owner] : impl_->owners) {
    if (!principal_key.empty() && key != principal_key) continue;
    for (const auto& [id, agent] : owner.agents) all.push_back(agent.look());
  }
  return all;
}

// ---- SSH transports ----

asio::awaitable<tunnel::Served<AgentRegistry::Far>> AgentRegistry::open_session(asio::io_context& home,
                                                                                std::string principal_key,
                                                                                std::string agent_id,
                                                                                Clock::time_point deadline) {
  /// Nothing of it is left behind, however the wait ends.
  struct Asked {
    std::shared_ptr<Impl> impl;
    std::string ticket = random_ticket();
    std::shared_ptr<Wait> wait = std::make_shared<Wait>();
    explicit Asked(std::shared_ptr<Impl> impl_in) : impl(std::move(impl_in)) {}
    Asked(const Asked&) = delete;
    Asked& operator=(const Asked&) = delete;
    ~Asked() {
      wait->abandoned = true;
      wait->stream.reset();
      const std::lock_guard lock(impl->mutex);
      impl->openings.erase(ticket);
    }
  };
  const Asked asked(impl_);
  if (asked.ticket.empty()) co_return refuse(Code::unavailable, "no random bytes are to be had");
  if (Clock::now() >= deadline) co_return refuse(Code::timed_out, "agent " + agent_id + ": no time left");
  const auto expires = std::min(deadline, Clock::now() + impl_->options.ticket_lifetime);
  Far far;
  std::shared_ptr<Control> control;
  {
    const std::lock_guard lock(impl_->mutex);
    const Agent* const agent = impl_->agent(principal_key, agent_id);
    if (agent != nullptr) {
      control = agent->control;
      far.user = agent->info.user;
      far.host_key_fingerprint = agent->info.host_key_fingerprint;
      impl_->openings.emplace(asked.ticket, Opening{principal_key, agent_id, agent->serial, agent->sessions,
                                                    &home, asked.wait, expires});
    }
  }
  if (!control) co_return tl::unexpected<Refusal>(not_connected(agent_id));
  control->send(R"({"type":"session.open","ticket":")" + asked.ticket + "\"}");

  asio::steady_timer timer(home, expires);
  timer.async_wait([weak = std::weak_ptr<Wait>(asked.wait), agent_id](boost::system::error_code ec) {
    const auto late = weak.lock();
    if (!ec && late)
      late->finish(nullptr, Refusal{Code::timed_out, "agent " + agent_id + " opened no session in time"});
  });
  while (!asked.wait->done()) {
    const bool woken = co_await asked.wait->wakeup.wait();
    if (!woken && !asked.wait->done())
      co_return refuse(Code::unavailable, "agent " + agent_id + ": cancelled while waiting for a session");
  }
  if (asked.wait->refusal) co_return tl::unexpected<Refusal>(std::move(*asked.wait->refusal));
  far.stream = std::move(asked.wait->stream);
  co_return far;
}

std::optional<AgentRegistry::Claim> AgentRegistry::redeem(std::string_view principal_key,
                                                          std::string_view ticket) {
  auto opening = impl_->take_opening(principal_key, ticket);
  if (!opening) return std::nullopt;
  // It may well come about the next time.
  Refusal otherwise{Code::no_agent, "agent " + opening->agent_id + ": its session broke off as it began"};
  auto delivery = std::make_shared<Delivery>(*opening->home, std::move(opening->wait),
                                             std::move(opening->sessions), std::move(otherwise));
  return Claim{
      opening->home, std::move(opening->agent_id),
      [delivery](std::unique_ptr<tunnel::ByteStream> stream) { delivery->deliver(std::move(stream)); }};
}

void AgentRegistry::session_failed(std::string_view principal_key, std::string_view ticket,
                                   std::string_view reason) {
  auto opening = impl_->take_opening(principal_key, ticket);
  if (!opening) return;
  std::string message = "agent " + opening->agent_id + " cannot open a session: ";
  message += reason.substr(0, kMaxReasonBytes);
  refuse_later(*opening->home, std::move(opening->wait), Refusal{Code::unavailable, std::move(message)});
}

}  // namespace tunneld::upstream
