#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace yamux {

/// yamux, version 0, without I/O: many streams, each with its own window, over one reliable stream of bytes.
/// https://github.com/hashicorp/yamux/blob/master/spec.md
///
/// The engine keeps the books: which streams there are, what each side may still send, what is owed to the
/// peer. Bytes it does not keep: payload goes from receive()'s input to the listener, and from the writer to
/// the output, so that the hot path neither allocates nor copies here.
///
/// Threads: one. Nothing here calls back from a destructor.

using StreamId = std::uint32_t;
using Clock = std::chrono::steady_clock;

inline constexpr std::size_t kHeaderBytes = 12;
inline constexpr std::uint32_t kInitialWindow = 256 * 1024;
/// Data frames of ours are no longer: a peer's stream never waits long for another's frame.
inline constexpr std::size_t kMaxDataBytes = 64 * 1024;

enum class Type : std::uint8_t { data = 0, window_update = 1, ping = 2, go_away = 3 };
enum Flag : std::uint16_t { kSyn = 1, kAck = 2, kFin = 4, kRst = 8 };
enum class GoAway : std::uint32_t { normal = 0, protocol_error = 1, internal_error = 2 };

struct Header {
  Type type = Type::data;
  std::uint16_t flags = 0;
  StreamId stream = 0;
  std::uint32_t length = 0;  // of data its bytes, of a window update the growth, of a ping its value
};
std::array<std::byte, kHeaderBytes> encode(const Header& header);

/// Who made the connection: a client's streams have odd numbers.
enum class Role { client, server };

struct Options {
  /// The peer's, open at a time; the next one is reset.
  std::size_t max_peer_streams = 1024;
  /// Ours, open at a time: as many as a peer of the same kind takes.
  std::size_t max_own_streams = 1024;
  /// That a stream's receive window may grow to: 400 MiB/s over 40 ms are 16 MiB under way, and an update of
  /// a large window is sent for an eighth of it.
  std::uint32_t max_window = 32 * 1024 * 1024;
  /// Of all streams' windows together, above the initial ones. A stream takes half of what is left at most,
  /// so that those which stall with large windows leave something to the next.
  std::size_t window_budget = 64 * 1024 * 1024;
  /// Bytes of control frames that the peer made us send since the last flush(): one that pings and never
  /// reads is cut. 1,024 streams that open and end at once need 36 KiB.
  std::size_t max_pending_controls = 64 * 1024;
};

/// What a session tells its owner. Called within receive() only; may call any function of the session but
/// receive().
class Listener {
 public:
  virtual ~Listener() = default;
  /// The peer opened a stream. False refuses it with a reset.
  virtual bool on_open(StreamId stream) = 0;
  /// Bytes of a stream, never none, within its window. The owner says consumed() when they have been used.
  virtual void on_data(StreamId stream, std::span<const std::byte> bytes) = 0;
  /// The peer ended its direction. If ours had ended too, the stream is forgotten.
  virtual void on_end(StreamId stream) = 0;
  /// The peer broke it off; the stream is forgotten.
  virtual void on_reset(StreamId stream) = 0;
  /// writable() was 0 and is not any more.
  virtual void on_writable(StreamId stream) = 0;
  virtual void on_pong(std::uint32_t value) = 0;
  /// The peer takes no more streams.
  virtual void on_go_away(GoAway reason) = 0;
};

/// Where frames go: appended in order, never refused. The session calls it within any of its functions.
class Output {
 public:
  virtual ~Output() = default;
  virtual void append(std::span<const std::byte> header, std::span<const std::byte> payload) = 0;
};

/// Functions that name a stream do nothing when there is none of that id (any more).
class Session {
 public:
  Session(Role role, const Options& options, Listener& listener, Output& output);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Bytes as they come, in whatever pieces. What is wrong with them, in words; nothing more is understood
  /// then, and the peer has been told (go away) unless it was the one to end the session. `now` and the
  /// path's round trip decide about windows.
  std::optional<std::string_view> receive(std::span<const std::byte> bytes, Clock::time_point now);

  /// Opens a stream; its data may follow at once. The opening travels with its first frame, or with flush().
  /// Nothing after the peer's go-away or ours, at the limit, or when ids have run out.
  std::optional<StreamId> open();

  /// Bytes that write() would take now.
  std::size_t writable(StreamId stream) const;
  /// Sends up to that many, in frames of at most kMaxDataBytes; returns how many were sent.
  std::size_t write(StreamId stream, std::span<const std::byte> bytes);
  /// Ends our direction.
  void end(StreamId stream);
  /// Breaks the stream off: both directions, at once. Nothing more is told of it.
  void reset(StreamId stream);
  /// The owner used that many of the bytes it was given: the peer may send as many more.
  void consumed(StreamId stream, std::size_t bytes, Clock::time_point now);

  void ping(std::uint32_t value);
  /// The peer's new streams are reset from here on; those that are open go on.
  void go_away(GoAway reason);

  /// Sends what waited for a frame to ride on: openings, and their acknowledgements. To be called before each
  /// batch is given to the network.
  void flush();

  /// As measured by pings; windows grow while a whole one is used up within two of them, and shrink when one
  /// lasts for long. Zero, not known: none grows. It must be the path's own: what waits in a window makes
  /// pings slower, and windows that grew for that reason would grow without end.
  void set_round_trip(Clock::duration round_trip) { round_trip_ = round_trip; }

  std::size_t streams() const { return streams_.size(); }
  bool said_go_away() const { return said_go_away_; }
  bool heard_go_away() const { return heard_go_away_; }
  /// What the peer may have under way on that stream at most; 0 when there is none of that id.
  std::uint32_t window(StreamId stream) const;
  /// What windows have grown by, of the budget.
  std::size_t grown() const { return grown_; }

 private:
  struct Stream {
    std::uint32_t may_send = kInitialWindow;
    // may_receive, unreturned and what the owner has not consumed make up the window.
    std::uint32_t window = kInitialWindow;
    std::uint32_t may_receive = kInitialWindow;
    std::uint32_t unreturned = 0;  // consumed, and the peer not told
    // How long a whole window's consumption takes, from the arrival of its first byte.
    std::size_t measured = 0;
    Clock::time_point measured_from{};
    bool measuring = false;
    bool ours = false;
    bool we_ended = false;
    bool peer_ended = false;
    std::uint16_t announce = 0;  // kSyn or kAck, not sent yet
  };
  using Streams = std::unordered_map<StreamId, Stream>;
  /// Ids that the peer has passed over: its streams may be opened slightly out of order.
  struct Gap {
    StreamId first;
    StreamId last;
  };
  using Fault = std::optional<std::string_view>;

  Fault take_header(std::span<const std::byte>& bytes);
  Fault take_frame(const Header& header);
  Fault take_stream_frame(const Header& header);
  Fault take_known(Streams::iterator found, const Header& header);
  Fault take_data(Streams::iterator found, const Header& header);
  Fault take_window_update(Streams::iterator found, const Header& header);
  Fault take_unknown(const Header& header);
  Fault take_ping(const Header& header);
  Fault take_go_away(const Header& header);
  Fault take_opening(StreamId stream);
  void take_payload(std::span<const std::byte>& bytes);
  Fault discard(std::uint32_t bytes);
  void peer_ended(Streams::iterator found);

  bool is_ours(StreamId stream) const { return (stream & 1) == (role_ == Role::client ? 1U : 0U); }
  bool was_opened(StreamId stream) const;
  void note_opened(StreamId stream);

  void send(const Header& header, std::span<const std::byte> payload = {});
  void send_control(const Stream& stream, const Header& header);
  void send_reset(StreamId stream);
  static std::uint16_t take_announce(Stream& stream);
  bool may_grow(const Stream& stream, Clock::time_point now) const;
  void shrink(Stream& stream);
  void forget(Streams::iterator found);

  const Role role_;
  const Options options_;
  Listener& listener_;
  Output& output_;
  Streams streams_;
  std::size_t peer_streams_ = 0;
  std::size_t grown_ = 0;
  Clock::duration round_trip_{};
  Clock::time_point now_{};

  // 64 bits wide: they pass the last id.
  std::uint64_t next_id_;
  std::uint64_t peer_next_id_;
  std::vector<Gap> gaps_;  // below peer_next_id_, ascending
  std::vector<StreamId> unannounced_;
  /// Streams that we reset not long ago, whose data may still be under way.
  std::array<StreamId, 32> reset_{};
  std::size_t next_reset_ = 0;
  std::size_t owed_ = 0;  // of max_pending_controls

  std::array<std::byte, kHeaderBytes> header_{};
  std::size_t header_bytes_ = 0;
  std::uint32_t payload_left_ = 0;
  StreamId payload_stream_ = 0;  // 0: nobody's, to be thrown away
  bool payload_ends_ = false;

  bool said_go_away_ = false;
  bool heard_go_away_ = false;
  bool broken_off_ = false;  // by the peer's go-away
  Fault fault_;
};

}  // namespace yamux
