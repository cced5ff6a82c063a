// Frames of the resume layer as a peer may send them. Input: one byte for the pieces in which the rest
// arrives, then the frames.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/utf8.h"
#include "link/link_frames.h"

using namespace links;
using Event = FrameDecoder::Event;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

struct Seen {
  std::vector<std::string> frames;  // as they would be sent again, DATA with its bytes
  bool failed = false;
  std::string error;
  std::size_t ended = 0;  // how much input the complete frames and events took
  bool operator==(const Seen&) const = default;
};

template <class Bytes>
std::string text(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string again(const FrameDecoder& decoder) {
  switch (decoder.type()) {
    case FrameType::challenge: return text(encode(decoder.challenge()));
    case FrameType::hello: return text(encode(decoder.hello()));
    case FrameType::welcome: return text(encode(decoder.welcome()));
    case FrameType::ack: return text(encode(decoder.ack()));
    case FrameType::gone: {
      const auto why = decoder.gone();
      require(utf8::valid(why) && why.size() <= kMaxReasonBytes);
      require(
          std::none_of(why.begin(), why.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
      return encode_gone(why);
    }
    case FrameType::data: break;
  }
  std::abort();
}

/// Decodes pieces, each in an allocation of its own, so that a step outside is seen. `piece` 0: as many bytes
/// as the decoder says it misses.
Seen run(std::span<const std::byte> bytes, std::size_t piece) {
  FrameDecoder decoder;
  Seen seen;
  for (std::size_t at = 0; at < bytes.size();) {
    require(decoder.missing() > 0 && decoder.missing() <= kMaxDataBytes);
    const auto part = bytes.subspan(at, std::min(piece == 0 ? decoder.missing() : piece, bytes.size() - at));
    const auto buffer = std::make_unique<std::byte[]>(part.size());
    std::copy(part.begin(), part.end(), buffer.get());
    auto* to = buffer.get();
    std::span<const std::byte> input(buffer.get(), part.size());
    while (!input.empty()) {
      const auto step = decoder.decode(input, to);
      require(step.consumed > 0 && step.consumed <= input.size() && step.payload <= step.consumed);
      require(step.event != Event::none || step.consumed == input.size());
      if (step.payload > 0) seen.frames.back().append(reinterpret_cast<const char*>(to), step.payload);
      to += step.payload;
      input = input.subspan(step.consumed);
      if (step.event == Event::none) continue;
      seen.ended = at + part.size() - input.size();
      require(piece != 0 || input.empty());
      if (step.event == Event::failed) {
        seen.failed = true;
        seen.error = decoder.error();
        require(!seen.error.empty());
        return seen;
      }
      if (step.event == Event::data) {
        require(decoder.data().bytes <= kMaxDataBytes);
        seen.frames.push_back(text(encode(decoder.data())));
      } else {
        seen.frames.push_back(again(decoder));
      }
    }
    at += part.size();
  }
  return seen;
}

}  // namespace

/// Frames mean the same however they are cut, and the same again when what was understood is sent.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  const auto whole = run(bytes, std::max<std::size_t>(bytes.size(), 1));
  require(whole == run(bytes, data[0] % 64 + std::size_t{1}));
  require(whole == run(bytes, 0));
  std::string sent;
  for (const auto& frame : whole.frames) sent += frame;
  const auto back = run(std::as_bytes(std::span(sent)), data[0] % 7 + std::size_t{1});
  require(!back.failed && back.frames == whole.frames);
  return 0;
}
