// What a peer may send to a yamux session, while its owner does anything. Input: the role, the owner's
// choices (a length and that many bytes, used in turn), then the peer's bytes.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <span>

#include "link/yamux.h"

namespace {

using namespace std::chrono_literals;

void require(bool holds) {
  if (!holds) std::abort();
}

class Choices {
 public:
  explicit Choices(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  unsigned next() { return bytes_.empty() ? 0 : bytes_[at_++ % bytes_.size()]; }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

/// Accepts, reads, writes, ends and resets as the choices say, and keeps books of its own.
class Owner final : public yamux::Listener, public yamux::Output {
 public:
  static constexpr std::size_t kMaxStreams = 5;
  Owner(yamux::Role role, Choices choices)
      : choices_(choices),
        session_(role,
                 {.max_peer_streams = kMaxStreams,
                  .max_own_streams = 2,
                  .max_window = 1024 * 1024,
                  .window_budget = 1024 * 1024,
                  .max_pending_controls = 1200},
                 *this, *this) {
    session_.set_round_trip(1s);
    open();
  }

  bool receive(std::span<const std::byte> bytes) {
    now_ += std::chrono::milliseconds(choices_.next());
    const auto fault = session_.receive(bytes, now_);
    require(session_.streams() <= kMaxStreams + 2 && session_.grown() <= 1024 * 1024);
    // A header's worth of answers may pass the bound before it is seen.
    require(controls_ <= 1200 + 200 + 12 * own_controls_);
    if (fault) {
      require(!fault->empty() && session_.receive(bytes, now_) == fault && !session_.open());
      return false;
    }
    const auto choice = choices_.next();
    if (choice % 4 == 0) open();
    if (choice % 5 == 0) flush();
    if (choice == 77) {
      session_.go_away(yamux::GoAway::normal);
      ++own_controls_;
    }
    return true;
  }

  bool on_open(yamux::StreamId stream) override {
    const auto choice = choices_.next();
    require(!unread_.contains(stream));
    if (choice % 8 == 0) return false;
    unread_[stream] = 0;
    if (choice % 8 == 1) write(stream);
    if (choice % 8 == 2) reset(stream);
    return true;
  }
  void on_data(yamux::StreamId stream, std::span<const std::byte> bytes) override {
    const auto found = unread_.find(stream);
    require(found != unread_.end() && !bytes.empty());
    for (const auto byte : bytes) sum_ += std::to_integer<unsigned>(byte);  // every byte may be read
    found->second += bytes.size();
    require(found->second <= session_.window(stream));
    act(stream);
  }
  void on_end(yamux::StreamId stream) override {
    require(unread_.contains(stream));
    if (session_.window(stream) == 0)
      unread_.erase(stream);
    else
      act(stream);
  }
  void on_reset(yamux::StreamId stream) override {
    require(unread_.erase(stream) == 1 && session_.window(stream) == 0);
    require(session_.writable(stream) == 0);
  }
  void on_writable(yamux::StreamId stream) override {
    require(session_.writable(stream) > 0);
    write(stream);
  }
  void on_pong(std::uint32_t) override {}
  void on_go_away(yamux::GoAway) override { require(session_.heard_go_away()); }

  void append(std::span<const std::byte> header, std::span<const std::byte> payload) override {
    require(header.size() == yamux::kHeaderBytes && payload.size() <= yamux::kMaxDataBytes);
    if (payload.empty()) controls_ += header.size();
  }

 private:
  void open() {
    if (const auto id = session_.open()) require(unread_.emplace(*id, 0).second);
    ++own_controls_;
  }
  void flush() {
    session_.flush();
    controls_ = own_controls_ = 0;
  }
  void write(yamux::StreamId stream) {
    static const std::array<std::byte, 200'000> bytes{};
    const auto may = session_.writable(stream);
    const auto size = choices_.next() * 780;
    require(session_.write(stream, std::span(bytes).first(size)) == std::min<std::size_t>(may, size));
  }
  void reset(yamux::StreamId stream) {
    session_.reset(stream);
    unread_.erase(stream);
    ++own_controls_;
  }
  void act(yamux::StreamId stream) {
    auto& unread = unread_[stream];
    const auto choice = choices_.next();
    ++own_controls_;
    if (choice % 16 < 8) {
      session_.consumed(stream, unread, now_);
      unread = 0;
    }
    if (choice % 16 == 8) write(stream);
    if (choice % 16 == 9) reset(stream);
    if (choice % 16 == 10) {
      session_.end(stream);
      if (session_.window(stream) == 0) unread_.erase(stream);
    }
  }

  Choices choices_;
  std::map<yamux::StreamId, std::size_t> unread_;
  std::size_t controls_ = 0;
  std::size_t own_controls_ = 0;  // that the owner may have sent of its own accord
  unsigned sum_ = 0;
  yamux::Clock::time_point now_{};
  yamux::Session session_;
};

}  // namespace

/// A session stays within its limits and tells its owner of nothing that cannot be.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3 || size < data[1] + std::size_t{3}) return 0;
  const Choices choices({data + 2, data[1]});
  const auto piece = data[2 + data[1]] % 64 + std::size_t{1};
  const auto bytes = std::as_bytes(std::span(data + 3 + data[1], size - 3 - data[1]));
  Owner owner(data[0] % 2 == 0 ? yamux::Role::server : yamux::Role::client, choices);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    const auto part = bytes.subspan(at, std::min(piece, bytes.size() - at));
    const auto buffer = std::make_unique<std::byte[]>(part.size());  // of its own: a step outside is seen
    std::copy(part.begin(), part.end(), buffer.get());
    if (!owner.receive({buffer.get(), part.size()})) break;
  }
  return 0;
}
