// room: common
#include <cstdint>
#include <cstdlib>
#include <string>

#include <nlohmann/json.hpp>

#include "common/config_file.h"
#include "tests/common/config_sample.h"

// Whatever a configuration file says: no crash, no hang, errors without control characters, and a
// file that is refused changes nothing.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  config_sample::Options options;
  config::Schema schema = config_sample::schema_of(options);
  const auto before = schema.effective();
  const auto loaded = schema.load({.file_name = "fuzz.yaml", .file_text = text});
  if (loaded) {
    (void)schema.effective().dump();
    if (options.max_channels < 1 || options.max_channels > 100) std::abort();
    return 0;
  }
  if (schema.effective() != before) std::abort();
  if (loaded.error().message.empty() || loaded.error().message.find('\0') != std::string::npos) std::abort();
  for (const char c : loaded.error().message) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') std::abort();
  }
  return 0;
}
