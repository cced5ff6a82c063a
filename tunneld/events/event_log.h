#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/result.h"

namespace tunneld::events {

/// One thing that happened to the daemon which somebody may have to act on. `id` grows by one with each,
/// over restarts too.
struct Event {
  std::uint64_t id = 0;
  std::string kind;  // "breaker.opened", "upstream.lost", ...; docs/events.md lists them
  std::string json;  // the whole event as one line of JSON: {"id","kind","time","instanceId","data":{...}}
};

/// An append-only numbered sequence with a bounded log on disk (two files of half `max_bytes` each, JSON
/// lines, 0640), so that a reader that was away finds what it missed, after a restart too. Thread-safe.
/// append() hands over to a thread of our own; readers see an event once it is written (or, with a broken
/// disk, once that failed: then it lives in memory only and `healthy` turns false).
class EventLog {
 public:
  struct Options {
    std::filesystem::path directory;
    std::size_t max_bytes = 16 * 1024 * 1024;
    std::size_t in_memory = 4096;  // newest events held for readers that keep up
    std::string instance_id;
  };
  static Result<std::unique_ptr<EventLog>> open(const Options& options);
  ~EventLog();

  void append(std::string_view kind, const nlohmann::ordered_json& data);

  struct Page {
    std::vector<Event> events;
    std::uint64_t first = 0;  // oldest id that is still there; 0: none at all
    std::uint64_t last = 0;   // newest id
    /// Events between `after` and the first one here are gone: the reader was away for too long.
    bool gap = false;
  };
  /// Those with an id above `after`, oldest first, at most `limit`. Reads the disk when they are older
  /// than what memory holds.
  Page after(std::uint64_t after, std::size_t limit) const;
  /// `notify` is called from the log's thread after every append until the handle is destroyed.
  std::shared_ptr<void> subscribe(std::function<void()> notify);
  bool healthy() const;

 private:
  EventLog();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::events
