#include "common/json_text.h"

bool nests_too_deeply(std::string_view json) {
  std::size_t level = 0;
  for (std::size_t at = 0; at < json.size(); ++at) {
    switch (json[at]) {
      case '[':
      case '{':
        if (++level > kMostJsonLevels) return true;
        break;
      case ']':
      case '}':
        if (level > 0) --level;
        break;
      case '"':
        for (++at; at < json.size() && json[at] != '"'; ++at)
          if (json[at] == '\\') ++at;
        break;
      default: break;
    }
  }
  return false;
}
