#include "tunnelctl/commands/csv.h"

#include "tunnelctl/terminal/table.h"

namespace tunnelctl {

std::string csv_field(std::string_view text, const Session& session) {
  const std::string seen = session.out_is_terminal ? terminal::harmless(text) : std::string(text);
  if (seen.find_first_of(",\"\r\n") == std::string::npos) return seen;
  std::string result = "\"";
  for (const char c : seen) {
    if (c == '"') result += '"';
    result += c;
  }
  return result + "\"";
}

}  // namespace tunnelctl
