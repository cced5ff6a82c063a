#include "tunnelctl/pack/pack.h"
#include "tunnelctl/promql/text.h"

namespace tunnelctl::pack {

Result<std::chrono::milliseconds> duration(std::string_view text) {
  if (text == "0") return std::chrono::milliseconds(0);
  const auto parsed = promql::parse_duration(text);
  if (!parsed)
    return fail(Error::Kind::bad_input,
                "\"" + std::string(text) + "\" is no duration; write it as in 90s, 5m or 1h30m");
  return std::chrono::duration_cast<std::chrono::milliseconds>(*parsed);
}

std::string duration_text(std::chrono::milliseconds value) {
  return value.count() == 0 ? "0s" : promql::print_duration(value);
}

}  // namespace tunnelctl::pack
