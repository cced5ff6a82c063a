// LogQL as a stranger writes it.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tunnelctl/logql/parser.h"

using namespace tunnelctl::logql;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto query = parse(text);
  if (!query) {
    require(query.error().message.find("parse error: ") != std::string::npos);
    return 0;
  }
  if (query->kind == LogQuery::Kind::log) require(query->selectors.size() == 1);
  for (const auto& selector : query->selectors) {
    require(text[selector.span.begin] == '{' && text[selector.span.end - 1] == '}');
    require(selector.range.has_value() == (query->kind == LogQuery::Kind::metric));
  }
  for (const auto& use : query->labels_used) require(use.span.end <= text.size());
  return 0;
}
