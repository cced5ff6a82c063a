// Any text as a JSONPath on any JSON, and as the paths of a patch: no crash, and what is found is where it is
// said to be.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tunnelctl/grafana/json_patch.h"
#include "tunnelctl/grafana/json_path.h"

using tunnelctl::grafana::Json;
using tunnelctl::grafana::JsonPath;

// The path, a zero byte, the document.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4096) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto end = input.find('\0');
  const std::string path(input.substr(0, end));
  const auto text = end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  Json document = Json::parse(text, nullptr, false);
  if (document.is_discarded())
    document =
        Json::parse(R"({"title": "t", "panels": [{"id": 1, "targets": [{"expr": "up"}]}, {"id": 4}]})");
  // Several ".." multiply: nobody waits for that, and it is no crash.
  std::size_t descents = 0;
  for (std::size_t at = path.find(".."); at != std::string::npos; at = path.find("..", at + 2)) ++descents;
  if (descents > 2) return 0;
  if (const auto parsed = JsonPath::parse(path)) {
    for (const auto& match : parsed->select(document)) {
      if (tunnelctl::grafana::at(document, match.location) != match.value) std::abort();
      const auto again = JsonPath::parse(tunnelctl::grafana::written(match.location));
      if (!again || again->select(document).size() != 1) std::abort();
    }
    if (parsed->definite() && parsed->select(document).size() > 1) std::abort();
    (void)parsed->why_nothing(document);
  }
  for (const char* op : {"replace", "add"})
    (void)tunnelctl::grafana::patch(document, {{.op = op, .path = path, .value = Json(1)}});
  (void)tunnelctl::grafana::patch(document, {{.op = "remove", .path = path, .value = {}},
                                             {.op = "remove", .path = "$.panels[0]", .value = {}},
                                             {.op = "add", .path = path, .value = Json(2)}});
  return 0;
}
