#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tunnel/dialer.h"
#include "tunneld/upstream/agent_registry.h"

/// What AgentRegistry keeps of agents and their owners, under its lock.
namespace tunneld::upstream {

/// One of an agent's control connections.
struct Line {
  unsigned slot = 0;
  std::uint64_t serial = 0;
  std::string peer;
  std::shared_ptr<AgentRegistry::Control> control;
};

/// A connected agent.
struct Agent {
  AgentInfo info;  // without connections and sessions
  std::vector<std::shared_ptr<const tunnel::Service>> services;
  std::vector<Line> lines;  // at least one; the oldest first
  std::uint64_t start = 0;  // the serial of the first connection of this boot
  std::uint64_t rank = 0;   // of the agent among its principal's: the serial of its first connection
  std::size_t max_services = 0;
  std::shared_ptr<void> place;
  AgentTickets::SessionCount sessions = std::make_shared<std::atomic<std::size_t>>(0);
  std::vector<std::string> boots_before;

  bool has(std::uint64_t serial) const {
    return std::any_of(lines.begin(), lines.end(), [serial](const Line& l) { return l.serial == serial; });
  }
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
    now.peer = lines.front().peer;
    now.connections = lines.size();
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

/// Services of agents that went not long ago.
class Absences {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Absences(std::chrono::milliseconds remembered) : remembered_(remembered) {}

  void note(const std::string& principal_key, const Agent& left, Clock::time_point now) {
    if (remembered_ <= remembered_.zero()) return;
    for (const auto& service : left.services) {
      by_name_.insert_or_assign(Name{principal_key, service->name}, Absence{service, now + remembered_});
      in_order_.emplace_back(now + remembered_, Name{principal_key, service->name});
    }
    forget(now);
  }
  std::shared_ptr<const tunnel::Service> find(const std::string& principal_key, std::string_view name,
                                              Clock::time_point now) const {
    const auto found = by_name_.find(Name{principal_key, std::string(name)});
    return found == by_name_.end() || found->second.until <= now ? nullptr : found->second.service;
  }

 private:
  using Name = std::pair<std::string, std::string>;  // principal, service
  struct Absence {
    std::shared_ptr<const tunnel::Service> service;
    Clock::time_point until;
  };
  /// Agents that come and go make us keep no more than that.
  static constexpr std::size_t kMost = 100'000;

  void forget(Clock::time_point now) {
    while (!in_order_.empty() && (in_order_.front().first <= now || in_order_.size() > kMost)) {
      const auto found = by_name_.find(in_order_.front().second);
      if (found != by_name_.end() && found->second.until <= in_order_.front().first) by_name_.erase(found);
      in_order_.pop_front();
    }
  }

  const std::chrono::milliseconds remembered_;
  std::map<Name, Absence> by_name_;
  std::deque<std::pair<Clock::time_point, Name>> in_order_;
};

}  // namespace tunneld::upstream
