#include "tunneld/upstream/ssh_dialer.h"

#include <algorithm>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "tunneld/upstream/agent_registry.h"
#include "tunneld/upstream/ssh_waiting.h"

namespace tunneld::upstream {
namespace {

using tunnel::Code;
using tunnel::QueueExit;
using tunnel::Refusal;
using tunnel::refuse;
using Clock = std::chrono::steady_clock;
using StreamResult = tunnel::Served<std::unique_ptr<tunnel::ByteStream>>;

constexpr auto kSweepEvery = std::chrono::seconds(5);
// A connect serves whoever waits when it finishes, so it has its own deadline.
constexpr auto kConnectWithin = std::chrono::seconds(30);
// sshd drops connections at random when many knock at once (MaxStartups): worth another knock.
constexpr int kDroppedRetries = 3;
// Between two tries to reach an upstream that is away.
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{1000};

std::minstd_rand& random_numbers() {
  thread_local std::minstd_rand random(std::random_device{}());
  return random;
}

/// 30 % more or less, so that those who lost the same upstream do not all come back at once.
std::chrono::milliseconds jittered(std::chrono::milliseconds pause) {
  return pause * std::uniform_int_distribution(70, 130)(random_numbers()) / 100;
}

bool dropped(const Refusal& why) {
  return why.code == Code::ssh_error && why.message.find("closed the connection") != std::string::npos;
}

bool lost_connection(const Refusal& why) {
  return why.code == Code::ssh_error && why.message.find("connection lost") != std::string::npos;
}

/// Whether the upstream may be restarting, as against refusing us for good.
bool may_come_back(const Refusal& why) {
  return why.code == Code::unreachable || why.code == Code::timed_out || why.code == Code::no_agent ||
         dropped(why);
}

}  // namespace

SshDialer::SshDialer(asio::io_context& io, const Options& options, Identities identities,
                     tunnel::QueueLedger& ledger, tunnel::Observer& observer, AgentRegistry* agents)
    : io_(io),
      options_(options),
      identities_(std::move(identities)),
      ledger_(ledger),
      observer_(observer),
      agents_(agents),
      sweep_timer_(io) {
  for (const auto& upstream : options_.upstreams)
    upstreams_.emplace(upstream.endpoint.name, std::make_shared<Upstream>(io, upstream));
  arm_sweep();
}

SshDialer::~SshDialer() {
  close();
  for (auto& [key, group] : groups_) group->dialer = nullptr;
}

SshDialer::Upstream* SshDialer::upstream_of(const tunnel::OpenRequest& request) {
  const std::string& name = request.service.upstream;
  const bool agent = name.starts_with(kAgents);
  if (!identities_.contains(agent ? kAgents : name) || (agent && agents_ == nullptr)) return nullptr;
  auto key = agent ? tunnel::channel_group(request.principal, name) : name;
  if (const auto found = upstreams_.find(key); found != upstreams_.end()) return found->second.get();
  if (!agent) return nullptr;
  DialledUpstream dialled;
  dialled.endpoint.name = name;
  auto upstream = std::make_shared<Upstream>(io_, std::move(dialled));
  upstream->agent_id = name.substr(std::string_view(kAgents).size());
  upstream->principal_key = request.principal.key();
  return upstreams_.emplace(std::move(key), std::move(upstream)).first->second.get();
}

std::shared_ptr<SshDialer::Group> SshDialer::group_of(const tunnel::OpenRequest& request,
                                                      Upstream& upstream) {
  auto key = tunnel::channel_group(request.principal, request.service.upstream);
  auto found = groups_.find(key);
  if (found == groups_.end()) {
    auto group = std::make_shared<Group>();
    group->dialer = this;
    group->key = key;
    group->principal = request.principal.key();
    group->upstream = &upstream;
    group->identity = identities_.at(upstream.agent_id.empty() ? request.service.upstream : kAgents);
    found = groups_.emplace(std::move(key), std::move(group)).first;
  }
  return found->second;
}

asio::awaitable<StreamResult> SshDialer::open(const tunnel::OpenRequest& request) {
  const auto& service = request.service;
  for (int died = 0;;) {
    // Looked for each time: one of an agent may have been forgotten meanwhile.
    Upstream* const upstream = closed_ ? nullptr : upstream_of(request);
    if (upstream == nullptr)
      co_return refuse(Code::unavailable, "upstream " + service.upstream + " is not there");
    const auto group = group_of(request, *upstream);
    std::erase_if(group->sessions, [](const auto& held) { return !held->session->alive(); });

    // Who comes now must not overtake those who wait.
    auto promise = group->queue.empty() ? group->pick() : Promise{};
    if (!promise) {
      auto turn = co_await wait_turn(group, request);
      if (!turn) co_return tl::unexpected<Refusal>(std::move(turn.error()));
      Waiter& waiter = **turn;
      if (waiter.stream) {
        if (request.report != nullptr) request.report->reused = true;
        co_return std::move(waiter.stream);
      }
      promise = std::move(waiter.promise);
    }

    // If this coroutine is cancelled before it takes the place up, somebody else may have it.
    const ServeOnExit serve_next{*group};
    const auto session = promise.redeem();
    auto stream = co_await session->open_channel(service.target_host, service.target_port, request.deadline);
    if (stream) co_return stream;
    // A session that died under the open says nothing about the service: try another. An upstream under
    // which they all die is another matter.
    const bool session_died = stream.error().code == Code::ssh_error && !session->alive();
    if (!session_died || ++died > kDroppedRetries || Clock::now() >= request.deadline)
      co_return tl::unexpected<Refusal>(std::move(stream.error()));
  }
}

// ---- waiting ----

asio::awaitable<tunnel::Served<std::shared_ptr<SshDialer::Waiter>>> SshDialer::wait_turn(
    std::shared_ptr<Group> group, const tunnel::OpenRequest& request) {
  const std::string upstream = "upstream " + request.service.upstream;
  if (Clock::now() >= request.deadline)
    co_return refuse(Code::timed_out, upstream + ": no free channel in time");
  auto waiter = std::make_shared<Waiter>(io_);
  auto evict = [this, weak = std::weak_ptr<Waiter>(waiter)] {
    asio::post(io_, [weak] {
      const auto late = weak.lock();
      if (late && late->queued) late->group->fail(*late, evicted(), QueueExit::evicted);
    });
  };
  auto place = ledger_.enter({.principal = group->principal,
                              .capacity = request.queue_capacity,
                              .priority = request.priority,
                              .bytes = request.held_bytes,
                              .evict = std::move(evict)});
  if (!place) {
    place.error().message.insert(0, upstream + ": ");
    co_return tl::unexpected<Refusal>(std::move(place.error()));
  }
  waiter->ledger = std::move(*place);
  waiter->group = group.get();
  waiter->entered = Clock::now();
  waiter->deadline = request.deadline;
  waiter->reuse_key = request.reuse_key;
  waiter->place = group->queue.push(request.priority, waiter);
  waiter->queued = true;
  ++waiting_;
  const Standing standing(group, waiter);

  want_session(group);
  make_room_for(*group);
  if (waiter->queued) arm(*waiter);
  bool woken = true;
  while (!waiter->served() && woken) woken = co_await waiter->wakeup.wait();
  if (request.report != nullptr) request.report->queued += Clock::now() - waiter->entered;
  if (waiter->refusal) co_return tl::unexpected<Refusal>(std::move(*waiter->refusal));
  if (!waiter->served())
    co_return refuse(Code::unavailable, upstream + ": cancelled while waiting for a channel");
  co_return waiter;
}

/// Where no further session may be opened, a channel that is kept for reuse may be in the way.
void SshDialer::make_room_for(Group& group) {
  if (!close_one_ || group.nothing_idle || group.queue.empty()) return;
  const auto alive = group.alive();
  if (alive == 0) return;
  const bool may_open = alive + group.connecting < options_.max_sessions || group.connecting > 0;
  if (may_open && places_wanted_.empty() && !group.upstream->away) return;
  group.nothing_idle = !close_one_(group.key);
}

tunnel::Dialer::Offer SshDialer::offer(std::string_view group_key, std::string_view reuse_key,
                                       std::unique_ptr<tunnel::ByteStream>& stream) {
  if (waiting_ == 0) return Offer::unwanted;
  const auto found = groups_.find(group_key);
  if (found == groups_.end()) return Offer::unwanted;
  Group& group = *found->second;
  while (!group.queue.empty()) {
    if ((*group.queue.next())->reuse_key != reuse_key) return Offer::place_wanted;
    const auto waiter = group.take_next();
    if (!waiter) continue;
    waiter->stream = std::move(stream);
    waiter->wakeup.notify();
    return Offer::taken;
  }
  return Offer::unwanted;
}

void SshDialer::on_place_wanted(std::function<bool(std::string_view group)> close_one) {
  close_one_ = std::move(close_one);
}

void SshDialer::arm(Waiter& waiter) {
  auto at = waiter.deadline;
  const Group& group = *waiter.group;
  if (group.upstream->away && group.alive() == 0) at = std::min(at, waiter.entered + options_.upstream_wait);
  waiter.timer.expires_at(at);
  waiter.timer.async_wait(
      [this, weak = std::weak_ptr<Waiter>(*waiter.place.at)](boost::system::error_code ec) {
        const auto late = weak.lock();
        if (!ec && late && late->queued) timer_fired(*late);
      });
}

void SshDialer::timer_fired(Waiter& waiter) {
  Group& group = *waiter.group;
  const auto now = Clock::now();
  const Upstream& upstream = *group.upstream;
  if (now >= waiter.deadline) {
    const Refusal late{Code::timed_out,
                       "upstream " + upstream.configured.endpoint.name + ": no free channel in time"};
    group.fail(waiter, late, QueueExit::expired);
  } else if (upstream.away && group.alive() == 0 && now >= waiter.entered + options_.upstream_wait) {
    group.fail(waiter, upstream.last_failure, QueueExit::failed);
  } else {
    arm(waiter);
  }
}

// ---- connecting ----

/// One connect under way will have room for max_channels of those who wait.
bool SshDialer::wants_session(const Group& group) const {
  return !closed_ && group.queue.size() > group.connecting * options_.ssh.max_channels &&
         group.alive() + group.connecting < options_.max_sessions;
}

void SshDialer::want_session(const std::shared_ptr<Group>& group) {
  if (group->in_turns || !wants_session(*group)) return;
  group->in_turns = true;
  group->upstream->turns.push(group->principal, tunnel::Priority::normal, group);
  start_handshakes(*group->upstream);
}

void SshDialer::start_handshakes(Upstream& upstream) {
  // Paced: a thundering herd at sshd would be dropped at random. And one that is away is asked once for all.
  const auto allowed = [&] { return upstream.pausing ? 0 : upstream.away ? 1 : options_.max_handshakes; };
  while (!closed_ && upstream.handshakes < allowed() && !upstream.turns.empty()) {
    const auto group = upstream.turns.take();
    group->in_turns = false;
    if (!wants_session(*group)) continue;
    start_connect(group);
    want_session(group);
  }
  // Nobody waits for it: who comes next is not to be told of an old failure.
  if (upstream.handshakes == 0 && !upstream.pausing) upstream.away = false;
}

void SshDialer::start_connect(const std::shared_ptr<Group>& group) {
  ++group->connecting;
  ++group->upstream->handshakes;
  auto connect = std::make_shared<Connect>();
  connects_.push_back(connect);
  auto ended = [this, group, connect](std::exception_ptr error, ConnectResult result) {
    connect_ended(group, *connect, error, std::move(result));
  };
  asio::co_spawn(io_, run_connect(group, connect),
                 asio::bind_cancellation_slot(connect->signal.slot(), std::move(ended)));
}

asio::awaitable<SshDialer::ConnectResult> SshDialer::run_connect(std::shared_ptr<Group> group,
                                                                 std::shared_ptr<Connect> connect) {
  if (places_wanted_.empty() && room_for_session()) {
    connect->has_place = true;
    ++places_promised_;
  } else {
    const auto place = places_wanted_.push(group->principal, tunnel::Priority::normal, connect);
    make_room_for(*group);
    while (!connect->has_place) {
      const bool woken = co_await connect->turn.wait();
      if (woken || connect->has_place) continue;
      places_wanted_.remove(place);
      co_return refuse(Code::unavailable, "cancelled while waiting for room for a session");
    }
    connect->pointless = group->queue.empty();
    if (connect->pointless) co_return refuse(Code::unavailable, "nobody waits any more");
  }
  const auto deadline = Clock::now() + kConnectWithin;
  const Upstream& upstream = *group->upstream;
  const DialledUpstream& to = upstream.configured;
  for (int attempt = 0;; ++attempt) {
    ConnectResult session;
    if (upstream.agent_id.empty())
      session = co_await ssh::Session::connect(io_, to.endpoint, *group->identity, to.host_keys, options_.ssh,
                                               observer_, deadline);
    else
      session = co_await connect_agent(upstream, *group->identity, deadline);
    if (session || closed_ || attempt >= kDroppedRetries || !dropped(session.error())) co_return session;
    asio::steady_timer pause(io_, std::chrono::milliseconds(50 + random_numbers()() % 200) * (attempt + 1));
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

asio::awaitable<SshDialer::ConnectResult> SshDialer::connect_agent(const Upstream& upstream,
                                                                   const ssh::Identity& identity,
                                                                   Clock::time_point deadline) {
  auto far = co_await agents_->open_session(io_, upstream.principal_key, upstream.agent_id, deadline);
  if (!far) {
    const bool late = far.error().code == Code::timed_out;
    observer_.ssh_error("connect", late ? "timeout" : "no_agent");
    co_return tl::unexpected<Refusal>(std::move(far.error()));
  }
  const ssh::Endpoint endpoint{upstream.configured.endpoint.name, {}, std::move(far->user)};
  const ssh::HostKeyPolicy host_keys{{std::move(far->host_key_fingerprint)}, {}, false};
  ssh::Options patient = options_.ssh;
  const auto misses =
      options_.agent_silence / std::max(patient.keepalive_reply, std::chrono::milliseconds(1));
  patient.keepalive_misses = std::max(patient.keepalive_misses, static_cast<unsigned>(misses));
  auto session = co_await ssh::Session::connect_over(io_, std::move(far->stream), endpoint, identity,
                                                     host_keys, patient, observer_, deadline);
  // The agent went away under it: as if it had not been there.
  if (!session && lost_connection(session.error())) session.error().code = Code::no_agent;
  co_return session;
}

void SshDialer::connect_ended(const std::shared_ptr<Group>& group, Connect& connect, std::exception_ptr error,
                              ConnectResult result) {
  std::erase_if(connects_, [&connect](const auto& other) { return other.get() == &connect; });
  --group->connecting;
  --group->upstream->handshakes;
  if (connect.has_place) --places_promised_;
  if (error) result = refuse(Code::ssh_error, "connecting was cut short");
  if (closed_) {
    if (result) (*result)->close();
    return;
  }
  if (result)
    connected(group, std::move(*result));
  else if (!connect.pointless)
    connect_failed(*group, result.error());
  want_session(group);
  start_handshakes(*group->upstream);
  give_places();
}

void SshDialer::connected(const std::shared_ptr<Group>& group, std::shared_ptr<ssh::Session> session) {
  session->on_channel_free([weak = std::weak_ptr<Group>(group)] {
    const auto locked = weak.lock();
    if (locked && locked->dialer != nullptr) locked->dialer->place_freed(locked);
  });
  auto held = std::make_shared<Held>();
  held->session = std::move(session);
  group->sessions.push_back(std::move(held));
  Upstream& upstream = *group->upstream;
  upstream.away = upstream.pausing = false;
  upstream.retry.cancel();
  group->serve();
  tell(upstream, false, "");
}

void SshDialer::connect_failed(Group& group, const Refusal& why) {
  Upstream& upstream = *group.upstream;
  if (options_.upstream_wait.count() > 0 && may_come_back(why)) {
    upstream.last_failure = why;
    if (!upstream.last_failure.retry_after) upstream.last_failure.retry_after = std::chrono::seconds(1);
    went_away(upstream);
  } else {
    upstream.away = upstream.pausing = false;
    upstream.retry.cancel();
    for (const auto& waiter : group.everyone()) group.fail(*waiter, why, QueueExit::failed);
  }
  tell(upstream, true, why.message);
}

void SshDialer::went_away(Upstream& upstream) {
  const bool was_away = std::exchange(upstream.away, true);
  if (!upstream.pausing) {
    upstream.pause = was_away ? std::min(upstream.pause * 2, kLongestPause) : kFirstPause;
    upstream.pausing = true;
    upstream.retry.expires_after(jittered(upstream.pause));
    upstream.retry.async_wait([this, weak = upstream.weak_from_this()](boost::system::error_code ec) {
      const auto there = weak.lock();
      if (ec || !there || closed_ || !there->pausing) return;
      there->pausing = false;
      start_handshakes(*there);
    });
  }
  if (was_away) return;
  for (auto& [key, group] : groups_) {
    if (group->upstream != &upstream) continue;
    for (const auto& waiter : group->everyone()) arm(*waiter);
  }
}

void SshDialer::tell(Upstream& upstream, bool lost, std::string_view why) {
  using Known = Upstream::Known;
  const auto before = std::exchange(upstream.known, lost ? Known::lost : Known::good);
  const bool changed = lost ? before != Known::lost : before == Known::lost;
  if (changed && options_.on_upstream && upstream.agent_id.empty())
    options_.on_upstream(upstream.configured.endpoint.name, lost, why);
}

// ---- places ----

/// A channel was closed, or a session died. Comes from the depths of that session, which must not be closed
/// from there: who waits is looked after in the next turn of the loop.
void SshDialer::place_freed(const std::shared_ptr<Group>& group) {
  if (closed_ || group->settling || (group->queue.empty() && places_wanted_.empty())) return;
  group->settling = true;
  asio::post(io_, [this, group] {
    group->settling = false;
    if (!closed_) settle(group);
  });
}

void SshDialer::settle(const std::shared_ptr<Group>& group) {
  // A session without channels goes to the principal whose turn it is, before its own may fill it again.
  give_places();
  group->serve();
  if (group->queue.empty()) return;
  want_session(group);
  if (group->upstream->away && group->alive() == 0)
    for (const auto& waiter : group->everyone()) arm(*waiter);
}

bool SshDialer::room_for_session() {
  std::size_t total = places_promised_;
  for (const auto& [key, group] : groups_) total += group->alive();
  return total < options_.max_sessions_total || evict_idle();
}

void SshDialer::give_places() {
  while (!closed_ && !places_wanted_.empty() && room_for_session()) {
    const auto connect = places_wanted_.take();
    connect->has_place = true;
    ++places_promised_;
    connect->turn.notify();
  }
}

bool SshDialer::evict_idle() {
  for (auto& [key, group] : groups_) {
    for (auto at = group->sessions.begin(); at != group->sessions.end(); ++at) {
      const auto held = *at;
      if (!held->session->alive() || held->promised > 0 || held->session->used_channels() > 0) continue;
      group->sessions.erase(at);
      held->session->on_channel_free(nullptr);  // nothing to be told of one we close ourselves
      held->session->close();
      return true;
    }
  }
  return false;
}

void SshDialer::arm_sweep() {
  sweep_timer_.expires_after(kSweepEvery);
  sweep_timer_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    sweep();
    arm_sweep();
  });
}

void SshDialer::sweep() {
  const auto idle_before = Clock::now() - options_.session_idle;
  for (auto at = groups_.begin(); at != groups_.end();) {
    Group& group = *at->second;
    std::erase_if(group.sessions, [&](const auto& held) {
      auto& session = *held->session;
      if (!session.alive()) return true;
      if (held->promised > 0 || session.used_channels() > 0 || session.idle_since() > idle_before)
        return false;
      session.on_channel_free(nullptr);
      session.close();
      return true;
    });
    const bool unused = group.sessions.empty() && group.connecting == 0 && group.queue.empty();
    at = unused ? groups_.erase(at) : std::next(at);
  }
  forget_unused_agents();
  give_places();
}

void SshDialer::forget_unused_agents() {
  std::set<const Upstream*> used;
  for (const auto& [key, group] : groups_) used.insert(group->upstream);
  std::erase_if(upstreams_, [&used](const auto& entry) {
    const auto& upstream = entry.second;
    return !upstream->agent_id.empty() && upstream->idle() && !used.contains(upstream.get());
  });
}

SshDialer::Counts SshDialer::counts() const {
  Counts counts;
  counts.waiting = waiting_;
  counts.agents =
      static_cast<std::size_t>(std::count_if(upstreams_.begin(), upstreams_.end(), [](const auto& entry) {
        return !entry.second->agent_id.empty();
      }));
  for (const auto& [key, group] : groups_) {
    for (const auto& held : group->sessions) {
      if (!held->session->alive()) continue;
      ++counts.sessions;
      counts.channels += held->session->used_channels();
    }
  }
  return counts;
}

void SshDialer::close() {
  if (closed_) return;
  closed_ = true;
  sweep_timer_.cancel();
  for (auto& [name, upstream] : upstreams_) upstream->retry.cancel();
  for (auto& connect : connects_) connect->signal.emit(asio::cancellation_type::terminal);
  const Refusal closing{Code::unavailable, "tunneld is closing"};
  for (auto& [key, group] : groups_) {
    for (auto& held : group->sessions) held->session->close();
    group->sessions.clear();
    for (const auto& waiter : group->everyone()) group->fail(*waiter, closing, QueueExit::failed);
  }
}

}  // namespace tunneld::upstream
