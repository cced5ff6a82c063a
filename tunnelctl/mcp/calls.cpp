#include "tunnelctl/mcp/calls.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace tunnelctl::mcp {

Calls::Calls(Options options) : options_(options) {
  for (std::size_t i = 0; i < options_.at_once; ++i) threads_.emplace_back([this] { work(); });
  threads_.emplace_back([this] { keep_time(); });
}

Calls::~Calls() {
  finish(std::chrono::milliseconds(0));
}

Calls::Taken Calls::start(const std::string& key, Work work, Report report) {
  const std::lock_guard lock(mutex_);
  if (open_.contains(key)) return Taken::known;
  if (ending_ || waiting_.size() >= options_.waiting) return Taken::full;
  auto call = std::make_shared<Call>();
  call->key = key;
  call->work = std::move(work);
  call->report = std::move(report);
  call->deadline = Clock::now() + options_.deadline;
  open_.emplace(key, call);
  waiting_.push_back(std::move(call));
  changed_.notify_all();
  return Taken::yes;
}

std::shared_ptr<Calls::Call> Calls::taken_out(const std::string& key, const Call* only) {
  const auto found = open_.find(key);
  // The key may be another call's by now.
  if (found == open_.end() || (only != nullptr && found->second.get() != only)) return nullptr;
  auto call = std::move(found->second);
  open_.erase(found);
  std::erase(waiting_, call);
  changed_.notify_all();
  return call;
}

void Calls::cancel(const std::string& key) {
  std::unique_lock lock(mutex_);
  const auto call = taken_out(key, nullptr);
  lock.unlock();
  if (!call) return;
  call->stop.request_stop();
  call->report(Ended::cancelled, {});
}

void Calls::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ending_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const auto call = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Outcome outcome;
    try {
      outcome = call->work(call->stop.get_token());
    } catch (const std::exception& error) {
      outcome = {.text = std::string("a bug: ") + error.what(), .failed = true};
    }
    lock.lock();
    if (!taken_out(call->key, call.get())) continue;  // cancelled or late: nobody listens
    lock.unlock();
    call->report(Ended::done, std::move(outcome));
    lock.lock();
  }
}

void Calls::keep_time() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (open_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto next = std::min_element(open_.begin(), open_.end(), [](const auto& one, const auto& other) {
                        return one.second->deadline < other.second->deadline;
                      })->second;
    if (Clock::now() < next->deadline) {
      changed_.wait_until(lock, next->deadline);
      continue;
    }
    const auto call = taken_out(next->key, next.get());
    lock.unlock();
    call->stop.request_stop();
    call->report(Ended::late, {});
    lock.lock();
  }
}

void Calls::stop() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  while (!open_.empty()) {
    const auto call = taken_out(open_.begin()->first, nullptr);
    lock.unlock();
    call->stop.request_stop();
    call->report(Ended::stopped, {});
    lock.lock();
  }
  changed_.notify_all();
}

void Calls::finish(std::chrono::milliseconds patience) {
  if (threads_.empty()) return;
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [&] { return open_.empty(); });
  }
  stop();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace tunnelctl::mcp
