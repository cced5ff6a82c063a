#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/ssh_lab.h"
#include "tunneld/ssh/identity.h"
#include "tunneld/upstream/agent_registry.h"

namespace tunneld::upstream {

/// Keeps what it is told.
class KeptControl : public AgentRegistry::Control {
 public:
  void send(std::string json_text) override {
    const std::lock_guard lock(mutex_);
    sent_.push_back(std::move(json_text));
  }
  void close(std::uint16_t code, std::string reason) override {
    const std::lock_guard lock(mutex_);
    closed_.emplace_back(code, std::move(reason));
  }
  std::vector<std::string> sent() const {
    const std::lock_guard lock(mutex_);
    return sent_;
  }
  std::vector<std::pair<std::uint16_t, std::string>> closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  /// Of the last session.open.
  std::string ticket() const { return nlohmann::json::parse(sent().back()).at("ticket"); }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> sent_;
  std::vector<std::pair<std::uint16_t, std::string>> closed_;
};

inline tunnel::Principal principal_named(const std::string& subject) {
  tunnel::Principal principal;
  principal.issuer = "test";
  principal.subject = subject;
  return principal;
}

inline std::string boot(char digit) {
  return std::string(32, digit);
}

}  // namespace tunneld::upstream
