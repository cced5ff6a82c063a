// WebSocket frames as a peer may send them. Input: one byte for the pieces in which the rest arrives, one
// for the limits, then the frames.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/utf8.h"
#include "edge/websocket_frames.h"

using namespace edge;
using Event = FrameDecoder::Event;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

struct Message {
  std::string payload;
  bool text = false;
  bool operator==(const Message&) const = default;
};
struct Happened {
  Event event = Event::none;
  std::size_t after = 0;  // bytes of input
  std::string control;
  std::uint16_t close_code = 0;
  bool operator==(const Happened&) const = default;
};
struct Outcome {
  std::vector<Happened> events;
  std::vector<Message> messages;
  std::size_t unfinished = 0;  // payload of a message whose end did not come
  bool within_frame = false;
  bool failed = false;
  FrameError error;
};

void check_event(const FrameDecoder& decoder, Event event) {
  if (event == Event::failed) {
    static const std::set<std::string_view> reasons{"protocol", "oversize", "utf8", "fragments"};
    const auto [code, reason] = decoder.error();
    require(reasons.contains(reason));
    require(code == (reason == "protocol" ? 1002 : reason == "utf8" ? 1007 : 1009));
    return;
  }
  require(!decoder.within_frame());
  if (event == Event::message_end) return;
  require(decoder.control().size() <= 125);
  if (event != Event::close) return;
  const auto control = decoder.control();
  require(control.size() != 1);
  if (control.empty()) return require(decoder.close_code() == 1005);
  require(decoder.close_code() >= 1000 && decoder.close_code() <= 4999);
  require(decoder.close_code() != 1005 && decoder.close_code() != 1006 && decoder.close_code() != 1015);
  require(utf8::valid(control.substr(2)));
}

/// Decodes pieces of that size. Each is an allocation of its own, so that a step outside is seen. The
/// payload goes to the front of the piece it came in, as the WebSocket does it, or to another place.
enum class Target { in_place, elsewhere };
Outcome run(std::span<const std::byte> bytes, std::size_t piece, const FrameLimits& limits, Target target) {
  FrameDecoder decoder(limits);
  Outcome outcome;
  Message message;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    const auto part = bytes.subspan(at, std::min(piece, bytes.size() - at));
    const auto buffer = std::make_unique<std::byte[]>(part.size());
    const auto other = std::make_unique<std::byte[]>(target == Target::elsewhere ? part.size() : 0);
    std::copy(part.begin(), part.end(), buffer.get());
    std::byte* to = target == Target::in_place ? buffer.get() : other.get();
    std::span<const std::byte> input(buffer.get(), part.size());
    while (!input.empty()) {
      const auto step = decoder.decode(input, to);
      require(step.consumed > 0 && step.consumed <= input.size() && step.payload <= step.consumed);
      require(step.event != Event::none || step.consumed == input.size());
      message.payload.append(reinterpret_cast<const char*>(to), step.payload);
      message.text = decoder.is_text();
      require(message.payload.size() <= limits.max_message_bytes);
      to += step.payload;
      input = input.subspan(step.consumed);
      if (step.event == Event::none) continue;
      check_event(decoder, step.event);
      if (step.event == Event::failed) {
        outcome.failed = true;
        outcome.error = decoder.error();
        return outcome;
      }
      const auto control = step.event == Event::message_end ? std::string_view() : decoder.control();
      outcome.events.push_back({step.event, at + part.size() - input.size(), std::string(control),
                                step.event == Event::close ? decoder.close_code() : std::uint16_t{0}});
      if (step.event != Event::message_end) continue;
      require(decoder.message_was_empty() == message.payload.empty());
      if (message.text) require(utf8::valid(message.payload));
      outcome.messages.push_back(std::move(message));
      message = {};
    }
  }
  outcome.unfinished = message.payload.size();
  outcome.within_frame = decoder.within_frame();
  return outcome;
}

void require_same(const Outcome& one, const Outcome& other) {
  require(one.events == other.events && one.messages == other.messages);
  require(one.failed == other.failed && one.error.close_code == other.error.close_code);
  require(one.error.reason == other.error.reason);
  require(one.unfinished == other.unfinished && one.within_frame == other.within_frame);
}

/// What was understood, sent back masked as a client would: it must be understood the same.
void check_round_trip(const Outcome& seen, const FrameLimits& limits) {
  const std::uint8_t key[] = {0xA7, 0x00, 0x3C, 0xFF};
  std::vector<std::byte> bytes;
  std::vector<std::size_t> ends;
  const auto put = [&](Opcode opcode, std::string_view payload) {
    auto header = frame_header(opcode, true, payload.size());
    header.bytes[1] |= std::byte{0x80};
    bytes.insert(bytes.end(), header.span().begin(), header.span().end());
    for (const auto byte : key) bytes.push_back(static_cast<std::byte>(byte));
    for (std::size_t i = 0; i < payload.size(); ++i)
      bytes.push_back(static_cast<std::byte>(static_cast<std::uint8_t>(payload[i]) ^ key[i % 4]));
    ends.push_back(bytes.size());
  };
  auto message = seen.messages.begin();
  for (const auto& happened : seen.events) {
    switch (happened.event) {
      case Event::ping: put(Opcode::ping, happened.control); break;
      case Event::pong: put(Opcode::pong, happened.control); break;
      case Event::close: put(Opcode::close, happened.control); break;
      default: put(message->text ? Opcode::text : Opcode::binary, message->payload); ++message;
    }
  }
  const auto again = run(bytes, std::max<std::size_t>(bytes.size(), 1), limits, Target::in_place);
  require(!again.failed && again.messages == seen.messages && again.events.size() == seen.events.size());
  for (std::size_t i = 0; i < ends.size(); ++i) {
    auto expected = seen.events[i];
    expected.after = ends[i];
    require(again.events[i] == expected);
  }
}

}  // namespace

/// Frames mean the same however they are cut and wherever the payload goes, and stay within the limits.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const FrameLimits limits{data[1] < 0x80 ? 1024U * 1024U : data[1] & 0x3FU, (data[1] & 0x0FU) + 1U};
  const auto bytes = std::as_bytes(std::span(data + 2, size - 2));
  const auto whole = run(bytes, std::max<std::size_t>(bytes.size(), 1), limits, Target::elsewhere);
  require_same(whole, run(bytes, data[0] % 64 + std::size_t{1}, limits, Target::in_place));
  check_round_trip(whole, limits);
  return 0;
}
