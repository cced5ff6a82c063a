#include "link/yamux.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace yamux {

namespace {

constexpr std::byte kVersion{0};
/// More gaps than that in the order of a peer's ids are not told from used ones: the oldest is forgotten.
constexpr std::size_t kMaxGaps = 256;
/// A window that lasts so long is too large.
constexpr std::chrono::seconds kSlow{1};
/// Consumed, and the peer not told: with half of a large window the path would be empty half of the time.
constexpr std::uint32_t worth_an_update(std::uint32_t window) {
  constexpr std::uint32_t kMegabyte = 1024 * 1024;
  return window <= kMegabyte ? window / 2 : std::max(kMegabyte / 2, window / 8);
}

template <class Number>
void put(std::byte* to, Number value) {
  for (std::size_t i = sizeof(Number); i-- > 0; value = static_cast<Number>(value >> 8))
    to[i] = static_cast<std::byte>(value & 0xFF);
}

std::uint32_t get(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (const auto byte : bytes) value = value << 8 | std::to_integer<std::uint32_t>(byte);
  return value;
}

}  // namespace

std::array<std::byte, kHeaderBytes> encode(const Header& header) {
  std::array<std::byte, kHeaderBytes> bytes;
  bytes[0] = kVersion;
  bytes[1] = static_cast<std::byte>(header.type);
  put(&bytes[2], header.flags);
  put(&bytes[4], header.stream);
  put(&bytes[8], header.length);
  return bytes;
}

Session::Session(Role role, const Options& options, Listener& listener, Output& output)
    : role_(role),
      options_(options),
      listener_(listener),
      output_(output),
      next_id_(role == Role::client ? 1 : 2),
      peer_next_id_(role == Role::client ? 2 : 1) {}

// Receiving ---------------------------------------------------------------------------------------

std::optional<std::string_view> Session::receive(std::span<const std::byte> bytes, Clock::time_point now) {
  now_ = now;
  while (!bytes.empty() && !fault_) {
    if (payload_left_ > 0) {
      take_payload(bytes);
      continue;
    }
    fault_ = take_header(bytes);
    if (!fault_ && owed_ > options_.max_pending_controls) fault_ = "the peer demands answers and takes none";
    if (fault_ && !broken_off_) go_away(GoAway::protocol_error);
  }
  return fault_;
}

Session::Fault Session::take_header(std::span<const std::byte>& bytes) {
  const auto size = std::min(bytes.size(), kHeaderBytes - header_bytes_);
  std::copy_n(bytes.begin(), size, header_.begin() + static_cast<std::ptrdiff_t>(header_bytes_));
  header_bytes_ += size;
  bytes = bytes.subspan(size);
  if (header_bytes_ < kHeaderBytes) return std::nullopt;

  header_bytes_ = 0;
  if (header_[0] != kVersion) return "unknown version";
  if (header_[1] > static_cast<std::byte>(Type::go_away)) return "unknown type of frame";
  const std::span all(header_);
  return take_frame({static_cast<Type>(header_[1]), static_cast<std::uint16_t>(get(all.subspan(2, 2))),
                     get(all.subspan(4, 4)), get(all.subspan(8, 4))});
}

Session::Fault Session::take_frame(const Header& header) {
  switch (header.type) {
    case Type::data:
    case Type::window_update: return take_stream_frame(header);
    case Type::ping: return take_ping(header);
    case Type::go_away: return take_go_away(header);
  }
  return "unknown type of frame";
}

Session::Fault Session::take_stream_frame(const Header& header) {
  if (header.stream == 0) return "a frame of a stream without a stream";
  if (header.flags & kSyn)
    if (const auto fault = take_opening(header.stream)) return fault;
  const auto found = streams_.find(header.stream);
  return found == streams_.end() ? take_unknown(header) : take_known(found, header);
}

Session::Fault Session::take_opening(StreamId stream) {
  if (is_ours(stream)) return "a stream opened with an id of the other side";
  if (was_opened(stream)) return "a stream opened with a used id";
  note_opened(stream);
  if (said_go_away_ || peer_streams_ >= options_.max_peer_streams) {
    owed_ += kHeaderBytes;
    send_reset(stream);
    return std::nullopt;
  }
  streams_[stream].announce = kAck;
  ++peer_streams_;
  unannounced_.push_back(stream);
  // Even if the acknowledgement should ride on data: the list of what is unannounced must not grow for ever.
  owed_ += kHeaderBytes;
  if (!listener_.on_open(stream)) reset(stream);
  return std::nullopt;
}

/// Late frames of a stream that is gone are no fault: the peer may not know yet.
Session::Fault Session::take_unknown(const Header& header) {
  if (!was_opened(header.stream) && !(header.flags & kRst))
    return "a frame of a stream that was never opened";
  if (header.type != Type::data || header.length == 0) return std::nullopt;
  const bool told = std::find(reset_.begin(), reset_.end(), header.stream) != reset_.end();
  if (!told && !(header.flags & kRst)) {
    owed_ += kHeaderBytes;
    send_reset(header.stream);
  }
  return discard(header.length);
}

Session::Fault Session::take_known(Streams::iterator found, const Header& header) {
  if (header.flags & kRst) {
    const auto fault = header.type == Type::data ? discard(header.length) : std::nullopt;
    if (fault) return fault;
    forget(found);
    listener_.on_reset(header.stream);
    return std::nullopt;
  }
  if ((header.flags & kFin) && found->second.peer_ended) return "a stream ended twice";
  return header.type == Type::data ? take_data(found, header) : take_window_update(found, header);
}

Session::Fault Session::take_data(Streams::iterator found, const Header& header) {
  auto& stream = found->second;
  if (header.length > 0 && stream.peer_ended) return "data behind the end of a stream";
  if (header.length > stream.may_receive) return "data beyond the window";
  if (header.length == 0) {
    if (header.flags & kFin) peer_ended(found);
    return std::nullopt;
  }
  stream.may_receive -= header.length;
  if (!stream.measuring) {
    stream.measuring = true;
    stream.measured = 0;
    stream.measured_from = now_;
  }
  payload_left_ = header.length;
  payload_stream_ = header.stream;
  payload_ends_ = (header.flags & kFin) != 0;
  return std::nullopt;
}

Session::Fault Session::take_window_update(Streams::iterator found, const Header& header) {
  auto& stream = found->second;
  if (header.length > std::numeric_limits<std::uint32_t>::max() - stream.may_send)
    return "a window too large";
  const bool was_shut = stream.may_send == 0;
  stream.may_send += header.length;
  const bool opened = was_shut && stream.may_send > 0 && !stream.we_ended;
  if (header.flags & kFin) peer_ended(found);
  if (opened) listener_.on_writable(header.stream);
  return std::nullopt;
}

void Session::take_payload(std::span<const std::byte>& bytes) {
  const auto piece = bytes.first(std::min<std::size_t>(bytes.size(), payload_left_));
  bytes = bytes.subspan(piece.size());
  payload_left_ -= static_cast<std::uint32_t>(piece.size());
  // It may have been reset since its header.
  if (payload_stream_ != 0 && streams_.contains(payload_stream_)) listener_.on_data(payload_stream_, piece);
  if (payload_left_ > 0 || !payload_ends_) return;
  payload_ends_ = false;
  const auto found = streams_.find(payload_stream_);
  if (found != streams_.end()) peer_ended(found);
}

Session::Fault Session::discard(std::uint32_t bytes) {
  if (bytes > std::max(options_.max_window, kInitialWindow)) return "data beyond any window";
  payload_left_ = bytes;
  payload_stream_ = 0;
  payload_ends_ = false;
  return std::nullopt;
}

void Session::peer_ended(Streams::iterator found) {
  const auto stream = found->first;
  found->second.peer_ended = true;
  if (found->second.we_ended) forget(found);
  listener_.on_end(stream);
}

Session::Fault Session::take_ping(const Header& header) {
  if (header.stream != 0) return "a ping of a stream";
  if (header.flags & kSyn) {
    owed_ += kHeaderBytes;
    send({Type::ping, kAck, 0, header.length});
  } else {
    listener_.on_pong(header.length);
  }
  return std::nullopt;
}

Session::Fault Session::take_go_away(const Header& header) {
  if (header.stream != 0) return "a go-away of a stream";
  if (header.length > static_cast<std::uint32_t>(GoAway::internal_error))
    return "a go-away of unknown reason";
  heard_go_away_ = true;
  const auto reason = static_cast<GoAway>(header.length);
  listener_.on_go_away(reason);
  broken_off_ = reason != GoAway::normal;
  if (reason == GoAway::protocol_error) return "the peer ended the session: protocol error";
  if (reason == GoAway::internal_error) return "the peer ended the session: internal error";
  return std::nullopt;
}

// Ids ---------------------------------------------------------------------------------------------

bool Session::was_opened(StreamId stream) const {
  if (is_ours(stream)) return stream < next_id_;
  if (stream >= peer_next_id_) return false;
  const auto gap =
      std::find_if(gaps_.begin(), gaps_.end(), [&](const Gap& one) { return stream <= one.last; });
  return gap == gaps_.end() || stream < gap->first;
}

void Session::note_opened(StreamId stream) {
  if (stream >= peer_next_id_) {
    if (stream > peer_next_id_) gaps_.push_back({static_cast<StreamId>(peer_next_id_), stream - 2});
    if (gaps_.size() > kMaxGaps) gaps_.erase(gaps_.begin());
    peer_next_id_ = std::uint64_t{stream} + 2;
    return;
  }
  const auto gap =
      std::find_if(gaps_.begin(), gaps_.end(), [&](const Gap& one) { return stream <= one.last; });
  const auto [first, last] = *gap;
  if (stream == first && stream == last) {
    gaps_.erase(gap);
  } else if (stream == first) {
    gap->first = stream + 2;
  } else if (stream == last) {
    gap->last = stream - 2;
  } else {
    gap->first = stream + 2;
    gaps_.insert(gap, {first, stream - 2});
    if (gaps_.size() > kMaxGaps) gaps_.erase(gaps_.begin());
  }
}

// Sending -----------------------------------------------------------------------------------------

std::optional<StreamId> Session::open() {
  if (fault_ || said_go_away_ || heard_go_away_) return std::nullopt;
  if (streams_.size() - peer_streams_ >= options_.max_own_streams) return std::nullopt;
  if (next_id_ > std::numeric_limits<StreamId>::max()) return std::nullopt;
  const auto id = static_cast<StreamId>(next_id_);
  next_id_ += 2;
  auto& stream = streams_[id];
  stream.ours = true;
  stream.announce = kSyn;
  unannounced_.push_back(id);
  return id;
}

std::size_t Session::writable(StreamId stream) const {
  const auto found = streams_.find(stream);
  return found == streams_.end() || found->second.we_ended ? 0 : found->second.may_send;
}

std::size_t Session::write(StreamId stream, std::span<const std::byte> bytes) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || found->second.we_ended) return 0;
  auto& to = found->second;
  std::size_t sent = 0;
  while (sent < bytes.size() && to.may_send > 0) {
    const auto size =
        static_cast<std::uint32_t>(std::min({bytes.size() - sent, kMaxDataBytes, std::size_t{to.may_send}}));
    send({Type::data, take_announce(to), stream, size}, bytes.subspan(sent, size));
    to.may_send -= size;
    sent += size;
  }
  return sent;
}

void Session::end(StreamId stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || found->second.we_ended) return;
  auto& ending = found->second;
  ending.we_ended = true;
  send_control(ending,
               {Type::window_update, static_cast<std::uint16_t>(take_announce(ending) | kFin), stream, 0});
  if (ending.peer_ended) forget(found);
}

void Session::reset(StreamId stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  // What the peer has not heard of needs no end.
  if (found->second.announce != kSyn) {
    if (!found->second.ours) owed_ += kHeaderBytes;
    send_reset(stream);
  } else if (const auto at = std::find(unannounced_.rbegin(), unannounced_.rend(), stream);
             at != unannounced_.rend()) {
    unannounced_.erase(std::next(at).base());
  }
  forget(found);
}

void Session::consumed(StreamId stream, std::size_t bytes, Clock::time_point now) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || found->second.peer_ended) return;
  auto& from = found->second;
  const auto used = static_cast<std::uint32_t>(
      std::min<std::size_t>(bytes, from.window - from.may_receive - from.unreturned));
  from.unreturned += used;
  from.measured += used;
  const bool slow =
      from.measuring && now - from.measured_from >= std::max<Clock::duration>(kSlow, 16 * round_trip_);
  std::uint32_t growth = 0;
  if (from.measuring && from.measured >= from.window) {
    if (may_grow(from, now)) growth = from.window;
    from.measuring = false;
  }
  if (growth == 0 && from.unreturned < worth_an_update(from.window)) return;
  if (slow) shrink(from);
  if (growth == 0 && from.unreturned == 0) return;
  grown_ += growth;
  from.window += growth;
  const auto update = from.unreturned + growth;
  from.may_receive += update;
  from.unreturned = 0;
  send_control(from, {Type::window_update, take_announce(from), stream, update});
}

/// By doubling: what a window of that size lets through in a round trip is used up as fast as it comes, so
/// the path would carry more.
bool Session::may_grow(const Stream& stream, Clock::time_point now) const {
  return round_trip_ > Clock::duration::zero() && now - stream.measured_from <= 2 * round_trip_ &&
         stream.window <= options_.max_window / 2 && stream.window <= (options_.window_budget - grown_) / 2;
}

/// By half, as far as it has been used and the peer not told: what it was told it may send.
void Session::shrink(Stream& stream) {
  const auto most =
      stream.window > kInitialWindow ? std::min(stream.window / 2, stream.window - kInitialWindow) : 0;
  const auto back = std::min(stream.unreturned, most);
  stream.window -= back;
  stream.unreturned -= back;
  grown_ -= back;
}

void Session::ping(std::uint32_t value) {
  send({Type::ping, kSyn, 0, value});
}

void Session::go_away(GoAway reason) {
  said_go_away_ = true;
  send({Type::go_away, 0, 0, static_cast<std::uint32_t>(reason)});
}

void Session::flush() {
  owed_ = 0;
  for (const auto id : unannounced_) {
    const auto found = streams_.find(id);
    if (found == streams_.end() || found->second.announce == 0) continue;
    send({Type::window_update, take_announce(found->second), id, 0});
  }
  unannounced_.clear();
}

std::uint32_t Session::window(StreamId stream) const {
  const auto found = streams_.find(stream);
  return found == streams_.end() ? 0 : found->second.window;
}

void Session::send(const Header& header, std::span<const std::byte> payload) {
  output_.append(encode(header), payload);
}

/// Of a stream of the peer's it is on the peer's account: it makes as many as it likes.
void Session::send_control(const Stream& stream, const Header& header) {
  if (!stream.ours) owed_ += kHeaderBytes;
  send(header);
}

void Session::send_reset(StreamId stream) {
  reset_[next_reset_++ % reset_.size()] = stream;
  send({Type::window_update, kRst, stream, 0});
}

std::uint16_t Session::take_announce(Stream& stream) {
  return std::exchange(stream.announce, std::uint16_t{0});
}

void Session::forget(Streams::iterator found) {
  grown_ -= found->second.window - kInitialWindow;
  if (!found->second.ours) --peer_streams_;
  streams_.erase(found);
}

}  // namespace yamux
