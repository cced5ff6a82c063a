#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/incident/backend.h"

namespace support {

/// A backend in memory that keeps Backend's promises, answers what a test tells it to, and can lose an answer
/// after it acted. Any thread.
class MemoryBackend : public tunnelctl::incident::Backend {
 public:
  using Incident = tunnelctl::incident::Incident;
  using Note = tunnelctl::incident::Note;
  using Status = tunnelctl::incident::Status;

  /// For each of the next calls: an error instead of the answer, before it acts or after it.
  struct Failure {
    Error why{};
    bool acted = false;
  };
  void fail_next(Error::Kind kind, bool acted = false, std::size_t times = 1) {
    const std::lock_guard lock(mutex_);
    for (; times > 0; --times) failures_.push_back({{kind, "as the test wants"}, acted});
  }
  bool reopens = true;

  std::vector<Incident> incidents() const {
    const std::lock_guard lock(mutex_);
    return incidents_;
  }
  std::size_t calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

  std::string name() const override { return "memory"; }
  std::string place() const override { return "memory"; }

  Result<tunnelctl::incident::Opened> open(const tunnelctl::incident::Opening& opening) override {
    const std::lock_guard lock(mutex_);
    const auto failure = next();
    if (failure && !failure->acted) return tl::unexpected(failure->why);
    for (const auto& one : incidents_)
      if (one.dedup_key == opening.dedup_key && one.status == Status::active)
        return failure ? Result<tunnelctl::incident::Opened>(tl::unexpected(failure->why))
                       : tunnelctl::incident::Opened{one, false};
    Incident made;
    made.id = "m-" + std::to_string(incidents_.size() + 1);
    made.backend = "memory";
    made.dedup_key = opening.dedup_key;
    made.title = opening.title;
    made.severity = opening.severity;
    made.opened = opening.at;
    made.summary = opening.summary;
    incidents_.push_back(made);
    if (failure) return tl::unexpected(failure->why);
    return tunnelctl::incident::Opened{made, true};
  }
  Result<tunnelctl::incident::Listed> list(const tunnelctl::incident::Filter&) override {
    return tunnelctl::incident::Listed{incidents(), false};
  }
  Result<Incident> read(const std::string& id) override {
    const std::lock_guard lock(mutex_);
    auto* one = find(id);
    if (one == nullptr) return fail(Error::Kind::not_found, id);
    return *one;
  }
  Result<void> note(const std::string& id, const Note& note) override {
    const std::lock_guard lock(mutex_);
    const auto failure = next();
    if (failure && !failure->acted) return tl::unexpected(failure->why);
    auto* one = find(id);
    if (one == nullptr) return fail(Error::Kind::not_found, id);
    add(*one, note);
    if (failure) return tl::unexpected(failure->why);
    return {};
  }
  Result<Incident> change(const std::string& id, const tunnelctl::incident::Changes& changes) override {
    const std::lock_guard lock(mutex_);
    const auto failure = next();
    if (failure && !failure->acted) return tl::unexpected(failure->why);
    if (!reopens) return fail(Error::Kind::bug, "no such thing");
    auto* one = find(id);
    if (one == nullptr) return fail(Error::Kind::not_found, id);
    if (changes.status) one->status = *changes.status;
    if (failure) return tl::unexpected(failure->why);
    return *one;
  }
  Result<Incident> resolve(const std::string& id, const Note& note) override {
    const std::lock_guard lock(mutex_);
    const auto failure = next();
    if (failure && !failure->acted) return tl::unexpected(failure->why);
    auto* one = find(id);
    if (one == nullptr) return fail(Error::Kind::not_found, id);
    if (one->status == Status::active) {
      one->status = Status::resolved;
      add(*one, note);
    }
    if (failure) return tl::unexpected(failure->why);
    return *one;
  }

 private:
  std::optional<Failure> next() {
    ++calls_;
    if (failures_.empty()) return std::nullopt;
    auto failure = failures_.front();
    failures_.pop_front();
    return failure;
  }
  Incident* find(const std::string& id) {
    for (auto& one : incidents_)
      if (one.id == id) return &one;
    return nullptr;
  }
  static void add(Incident& one, const Note& note) {
    for (const auto& other : one.notes)
      if (!note.key.empty() && other.key == note.key) return;
    one.notes.push_back(note);
  }

  mutable std::mutex mutex_;
  std::vector<Incident> incidents_{};
  std::deque<Failure> failures_{};
  std::size_t calls_ = 0;
};

}  // namespace support
