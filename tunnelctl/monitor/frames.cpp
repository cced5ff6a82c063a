#include "tunnelctl/monitor/frames.h"

#include <algorithm>

namespace tunnelctl::monitor {
namespace {

/// The object or list at that place; null when there is none.
const Json& at(const Json& holder, const char* key) {
  static const Json none;
  if (!holder.is_object()) return none;
  const auto found = holder.find(key);
  return found == holder.end() ? none : *found;
}

bool is_time(const Json& field) {
  const Json& type = at(field, "type");
  return type.is_string() && type.get_ref<const std::string&>() == "time";
}

bool has_infinity(const Json& entities, std::size_t field) {
  if (!entities.is_array() || field >= entities.size()) return false;
  return at(entities[field], "Inf").is_array() || at(entities[field], "NegInf").is_array();
}

}  // namespace

FrameCount count_frames(const Json& frames) {
  FrameCount result;
  if (!frames.is_array()) return result;
  for (const Json& frame : frames) {
    const Json& notices = at(at(at(frame, "schema"), "meta"), "notices");
    if (notices.is_array())
      for (const Json& notice : notices)
        if (const Json& text = at(notice, "text"); text.is_string())
          result.notices += (result.notices.empty() ? "" : "; ") + text.get<std::string>();
    const Json& fields = at(at(frame, "schema"), "fields");
    const Json& values = at(at(frame, "data"), "values");
    const Json& entities = at(at(frame, "data"), "entities");
    if (!values.is_array()) continue;
    bool rows = false;
    bool data = false;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!values[i].is_array() || values[i].empty()) continue;
      rows = true;
      if (fields.is_array() && i < fields.size() && is_time(fields[i])) continue;
      data = data || has_infinity(entities, i) ||
             std::any_of(values[i].begin(), values[i].end(), [](const Json& one) { return !one.is_null(); });
    }
    result.frames += rows ? 1 : 0;
    result.with_data += data ? 1 : 0;
  }
  return result;
}

}  // namespace tunnelctl::monitor
