#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
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

/// An append-only numbered sequence with a bounded log on disk (`events.jsonl` and `events.old.jsonl`, half
/// of `max_bytes` each, JSON lines, 0640), so that a reader that was away finds what it missed, after a
/// restart too. Thread-safe. append() hands over to a thread of our own; readers see an event once it is on
/// disk (or, with a broken disk, once that failed: then it lives in memory only, `healthy` turns false, and
/// the newest `in_memory` ones are written when the disk works again, which is tried every second).
///
/// Numbers that were only in memory when the process ended are given again after the restart: a reader sees
/// that as an `after` above `last`, or as a gap.
class EventLog {
 public:
  struct Options {
    std::filesystem::path directory;  // made when missing (0750)
    std::size_t max_bytes = 16 * 1024 * 1024;
    std::size_t in_memory = 4096;  // newest events held for readers that keep up
    std::string instance_id;
  };
  /// Goes on behind the last number found. Lines that are damaged (a power cut) are passed over. A full disk
  /// is no failure. Fails with denied, bad_input or unavailable, naming the file.
  static Result<std::unique_ptr<EventLog>> open(const Options& options);
  ~EventLog();

  /// Any thread; never waits for the disk. `kind` is a fixed word of small letters, digits, dots, dashes and
  /// underscores; other characters become underscores, so that it is safe as the `event:` of an event stream.
  /// `data` is an object, at most 16 KiB as text, else left out. With 16,384 events still unwritten new ones
  /// are dropped; their numbers show that.
  void append(std::string_view kind, const nlohmann::ordered_json& data);

  struct Page {
    std::vector<Event> events;
    std::uint64_t first = 0;  // oldest id that is still there; 0: none at all
    std::uint64_t last = 0;   // newest id
    /// The reader missed something: the numbers behind `after` (which was not 0) or within this page are not
    /// without holes. Also set when `after` is above `last`: that number is of a log that was deleted, and
    /// these events are read from the beginning.
    bool gap = false;
  };
  /// Those with an id above `after`, oldest first, at most `limit`. Any thread. Reads the disk, about a
  /// millisecond, when they are older than what memory holds. An event stream is a loop: after(n), send,
  /// until the page is empty; then wait for `notify`.
  Page after(std::uint64_t after, std::size_t limit) const;
  /// `notify` is called from the log's thread when there are new events (once for several that came together)
  /// until the handle is destroyed; it must not block. Subscribe first, then read with `after`: nothing is
  /// missed then. Destroying the handle waits for a call that is under way (not from within that call), so no
  /// lock may be held that `notify` takes. The handle may outlive the log.
  std::shared_ptr<void> subscribe(std::function<void()> notify);
  bool healthy() const;

 private:
  EventLog();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tunneld::events
