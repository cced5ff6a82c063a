#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <boost/asio/io_context.hpp>

#include "link/link.h"

namespace links {

/// The links of a server, for clients that come back: possibly on another thread than their link lives on.
/// Thread-safe.
class LinkTable {
 public:
  struct Found {
    boost::asio::io_context* home;  // whose thread the link lives on
    std::weak_ptr<Link> link;       // to be touched there only
  };
  /// The agent at a link's other end, and which of its starts, if that is known; a caller's link has none.
  struct Agent {
    std::string id;
    std::string boot_id;
  };
  /// As long as it lives the link can be found. The table outlives it.
  class Place {
   public:
    Place() = default;
    Place(LinkTable& table, const SessionId& id);
    Place(Place&& other) noexcept;
    Place& operator=(Place&& other) noexcept;
    ~Place();

   private:
    LinkTable* table_ = nullptr;
    SessionId id_{};
  };

  Place enter(const std::shared_ptr<Link>& link, boost::asio::io_context& home, std::string principal_key,
              Agent agent = {});
  /// Nullopt alike when there is none of that id and when it is somebody else's.
  std::optional<Found> find(const SessionId& id, std::string_view principal_key) const;
  /// That start of the principal's agent is connected now: links of earlier ones, to which nobody will come
  /// back, are closed, each on its own thread, whether or not their connections seem to live.
  void end_earlier(std::string_view principal_key, const Agent& agent) const;
  std::size_t size() const;

 private:
  struct Entry {
    Found found;
    std::string principal_key;
    Agent agent;
  };
  struct Hash {
    std::size_t operator()(const SessionId& id) const;
  };
  void leave(const SessionId& id);

  mutable std::mutex mutex_;
  std::unordered_map<SessionId, Entry, Hash> entries_;
};

}  // namespace links
