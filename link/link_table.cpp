#include "link/link_table.h"

#include <cstring>
#include <utility>

#include <boost/asio/post.hpp>

namespace links {

LinkTable::Place::Place(LinkTable& table, const SessionId& id) : table_(&table), id_(id) {}

LinkTable::Place::Place(Place&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)), id_(other.id_) {}

LinkTable::Place& LinkTable::Place::operator=(Place&& other) noexcept {
  if (this == &other) return *this;
  if (table_ != nullptr) table_->leave(id_);
  table_ = std::exchange(other.table_, nullptr);
  id_ = other.id_;
  return *this;
}

LinkTable::Place::~Place() {
  if (table_ != nullptr) table_->leave(id_);
}

LinkTable::Place LinkTable::enter(const std::shared_ptr<Link>& link, boost::asio::io_context& home,
                                  std::string principal_key, Agent agent) {
  const std::lock_guard lock(mutex_);
  entries_.insert_or_assign(link->id(), Entry{{&home, link}, std::move(principal_key), std::move(agent)});
  return {*this, link->id()};
}

std::optional<LinkTable::Found> LinkTable::find(const SessionId& id, std::string_view principal_key) const {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(id);
  if (entry == entries_.end() || entry->second.principal_key != principal_key) return std::nullopt;
  return entry->second.found;
}

void LinkTable::end_earlier(std::string_view principal_key, const Agent& agent) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, entry] : entries_) {
    const auto& known = entry.agent;
    if (known.id.empty() || known.boot_id.empty() || entry.principal_key != principal_key) continue;
    if (known.id != agent.id || known.boot_id == agent.boot_id) continue;
    boost::asio::post(*entry.found.home, [weak = entry.found.link] {
      if (const auto link = weak.lock()) link->close();
    });
  }
}

std::size_t LinkTable::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

/// Only ids that this server drew are stored, so their own bits are as good as a hash.
std::size_t LinkTable::Hash::operator()(const SessionId& id) const {
  std::size_t hash = 0;
  std::memcpy(&hash, id.data(), sizeof hash);
  return hash;
}

void LinkTable::leave(const SessionId& id) {
  const std::lock_guard lock(mutex_);
  entries_.erase(id);
}

}  // namespace links
