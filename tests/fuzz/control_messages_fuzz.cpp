// Control messages as callers send them, and texts of ours within them.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tunnel/control_messages.h"

using namespace tunnel;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

/// A token that was taken was in the text; a refusal quotes nothing; whatever a text of ours holds, it stays
/// inside one line.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = parse_control_message(text);
  if (parsed) {
    require(size <= kMaxControlMessageBytes);
    require(!parsed->token.empty() && parsed->token.size() < size);
    const bool escaped = text.find('\\') != std::string_view::npos;
    require(escaped || text.find(parsed->token) != std::string_view::npos);
  } else {
    require(parsed.error().code == Code::bad_request && parsed.error().message.size() < 100);
  }
  for (const auto& made : {error_message(Code::bad_request, text), maintenance_message({}, text)}) {
    require(made.starts_with("{\"type\":\"") && made.ends_with("\"}"));
    require(made.find('\n') == std::string::npos);
    // Strict JSON with a type that callers may not send.
    require(!parse_control_message(made));
  }
  return 0;
}
