// room: tunnel
// Chunked bodies. The first byte says how long the pieces are in which the rest arrives.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "tunnel/http1.h"

using namespace tunnel;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

struct Outcome {
  enum { more, done, refused } end = more;
  std::string data;
  std::size_t used = 0;
  std::size_t trailers = 0;
};

Outcome run(std::span<const std::byte> body, std::size_t piece) {
  ChunkDecoder decoder;
  Outcome outcome;
  std::size_t fed = 0;
  while (fed < body.size()) {
    auto input = body.subspan(fed, std::min(piece, body.size() - fed));
    fed += input.size();
    for (;;) {
      const auto step = decoder.decode(input);
      if (!step) {
        outcome.end = Outcome::refused;
        return outcome;
      }
      require(step->consumed <= input.size() && step->data.size() <= step->consumed);
      outcome.data.append(reinterpret_cast<const char*>(step->data.data()), step->data.size());
      outcome.used += step->consumed;
      input = input.subspan(step->consumed);
      if (step->done) {
        outcome.end = Outcome::done;
        outcome.trailers = decoder.trailers().size();
        return outcome;
      }
      if (step->consumed == 0 || input.empty()) break;
    }
    require(input.empty());  // a decoder that wants more has taken all there was
  }
  return outcome;
}

}  // namespace

/// A body means the same however it is cut into pieces.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto body = std::as_bytes(std::span(data + 1, size - 1));
  const auto whole = run(body, std::max<std::size_t>(body.size(), 1));
  const auto split = run(body, data[0] % 16 + 1);
  require(whole.end == split.end);
  if (whole.end == Outcome::refused) return 0;
  require(whole.data == split.data && whole.used == split.used && whole.trailers == split.trailers);
  return 0;
}
